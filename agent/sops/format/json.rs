//! JSON in the order of the file. Source: `stores/json/store.go`, over Go's `encoding/json`.
//!
//! A parser of its own: the order of members decides the MAC, and a number's last digit must not be lost.

use serde_json::{Number, Value};

use super::Format;
use crate::error::Error;
use crate::tree::{Document, Leaf, Node};

/// How deep values may nest.
const DEEPEST: usize = 100;

pub(super) fn read(text: &str) -> Result<Document, Error> {
    let mut parser = Parser { rest: text, depth: 0 };
    let wrong = |parser: &Parser<'_>, why: &str| {
        let line = text[..text.len() - parser.rest.len()].matches('\n').count() + 1;
        Error::format(Format::Json, format!("line {line}: {why}"))
    };
    let root = parser.value().map_err(|why| wrong(&parser, why))?;
    if !parser.rest.trim_start_matches(SPACE).is_empty() {
        return Err(wrong(&parser, "something follows the object"));
    }
    match root {
        Node::Map(members) => Ok(Document::new(members)),
        _ => Err(wrong(&parser, "it is no object")),
    }
}

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches(SPACE);
        self.rest.chars().next()
    }

    fn take(&mut self, letter: char) -> bool {
        let found = self.next() == Some(letter);
        if found {
            self.rest = &self.rest[letter.len_utf8()..];
        }
        found
    }

    fn value(&mut self) -> Result<Node, &'static str> {
        for (word, leaf) in [("null", Leaf::Null), ("true", Leaf::Bool(true)), ("false", Leaf::Bool(false))] {
            if self.next().is_some()
                && let Some(rest) = self.rest.strip_prefix(word)
            {
                self.rest = rest;
                return Ok(Node::Leaf(leaf));
            }
        }
        match self.next().ok_or("it ends in the middle")? {
            '"' => Ok(Node::Leaf(Leaf::Text(self.text()?))),
            '{' | '[' if self.depth >= DEEPEST => Err("values are nested too deep"),
            '{' => self.nested(Self::members).map(Node::Map),
            '[' => self.nested(Self::items).map(Node::List),
            '-' | '0'..='9' => self.number().map(Node::Leaf),
            _ => Err("a value was expected"),
        }
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, &'static str>) -> Result<T, &'static str> {
        self.rest = &self.rest[1..];
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn members(&mut self) -> Result<Vec<(String, Node)>, &'static str> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        if self.take('}') {
            return Ok(members);
        }
        loop {
            if self.next() != Some('"') {
                return Err("a name was expected");
            }
            let name = self.text()?;
            if !names.insert(name.clone()) {
                return Err("a name stands twice in one object");
            }
            if !self.take(':') {
                return Err("a colon was expected");
            }
            let value = self.value()?;
            members.push((name, value));
            if self.take('}') {
                return Ok(members);
            }
            if !self.take(',') {
                return Err("a comma was expected");
            }
        }
    }

    fn items(&mut self) -> Result<Vec<Node>, &'static str> {
        let mut items = Vec::new();
        if self.take(']') {
            return Ok(items);
        }
        loop {
            items.push(self.value()?);
            if self.take(']') {
                return Ok(items);
            }
            if !self.take(',') {
                return Err("a comma was expected");
            }
        }
    }

    /// Go's `json.Number`: an integer of 64 bits, or else a float.
    fn number(&mut self) -> Result<Leaf, &'static str> {
        let length =
            self.rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        let (text, rest) = self.rest.split_at(length);
        // Rust's own grammar is wider than JSON's: `01`, `1.` and `.5` are not numbers there.
        let digits = text.strip_prefix('-').unwrap_or(text);
        let leading = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        let bare = |at: usize| !digits.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        let odd = leading || bare(0) || digits.find('.').is_some_and(|dot| bare(dot + 1));
        if odd {
            return Err("that is no number");
        }
        self.rest = rest;
        match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(int), _) if !text.contains(['.', 'e', 'E']) => Ok(Leaf::Int(int)),
            (_, Ok(float)) if float.is_finite() => Ok(Leaf::Float(float)),
            _ => Err("that is no number"),
        }
    }

    fn text(&mut self) -> Result<String, &'static str> {
        const OPEN: &str = "a text has no end";
        self.rest = self.rest.get(1..).ok_or(OPEN)?;
        let mut text = String::new();
        loop {
            let end = self.rest.find(['"', '\\']).ok_or(OPEN)?;
            let (plain, rest) = self.rest.split_at(end);
            if plain.chars().any(|letter| letter < ' ') {
                return Err("a text has a control character in it");
            }
            text.push_str(plain);
            let mut letters = rest.chars();
            if letters.next() == Some('"') {
                self.rest = letters.as_str();
                return Ok(text);
            }
            let escaped = letters.next().ok_or(OPEN)?;
            self.rest = letters.as_str();
            text.push(match escaped {
                '"' | '\\' | '/' => escaped,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => self.unicode()?,
                _ => return Err("a text has an unknown escape"),
            });
        }
    }

    fn unicode(&mut self) -> Result<char, &'static str> {
        const ODD: &str = "a text has an escape that is no character";
        let high = self.four_digits().ok_or(ODD)?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).ok_or(ODD);
        }
        self.rest = self.rest.strip_prefix("\\u").ok_or(ODD)?;
        let low = self.four_digits().filter(|low| (0xdc00..0xe000).contains(low)).ok_or(ODD)?;
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(ODD)
    }

    fn four_digits(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }
}

/// As SOPS writes it: a tab a level, a line feed at the end.
pub(super) fn write(root: &Node) -> String {
    let mut out = String::new();
    node(&mut out, root, 0);
    out.push('\n');
    out
}

fn node(out: &mut String, of: &Node, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n('\t', depth));
    };
    let is_comment = |node: &Node| matches!(node, Node::Leaf(Leaf::Comment(_)));
    match of {
        Node::Leaf(value) => leaf(out, value),
        Node::List(items) => {
            out.push('[');
            let mut any = false;
            for item in items.iter().filter(|item| !is_comment(item)) {
                out.push_str(if any { "," } else { "" });
                line(out, depth + 1);
                node(out, item, depth + 1);
                any = true;
            }
            if any {
                line(out, depth);
            }
            out.push(']');
        }
        Node::Map(members) => {
            out.push('{');
            let mut any = false;
            for (name, member) in members.iter().filter(|(_, member)| !is_comment(member)) {
                out.push_str(if any { "," } else { "" });
                line(out, depth + 1);
                text(out, name);
                out.push_str(": ");
                node(out, member, depth + 1);
                any = true;
            }
            if any {
                line(out, depth);
            }
            out.push('}');
        }
    }
}

fn leaf(out: &mut String, value: &Leaf) {
    match value {
        Leaf::Null | Leaf::Comment(_) => out.push_str("null"),
        Leaf::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Leaf::Int(value) => out.push_str(&value.to_string()),
        Leaf::Float(value) => out.push_str(&float(*value)),
        Leaf::Time(value) | Leaf::Text(value) => text(out, value),
        Leaf::Bytes(value) => text(out, &encoded(value)),
    }
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Go's `json.Marshal` of a float: an exponent only for what is very large or very small.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        // Rust writes 1e21 and 1e-7, Go 1e+21 and 1e-7.
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
    }
    value.to_string()
}

/// Go's escapes, those for HTML with them.
fn text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

/// The metadata of an object.
pub(crate) fn node_of(value: Value) -> Node {
    match value {
        Value::Null => Node::Leaf(Leaf::Null),
        Value::Bool(value) => Node::Leaf(Leaf::Bool(value)),
        Value::Number(number) => Node::Leaf(match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Leaf::Int(int),
            (None, Some(float)) => Leaf::Float(float),
            (None, None) => Leaf::Null,
        }),
        Value::String(text) => Node::Leaf(Leaf::Text(text)),
        Value::Array(items) => Node::List(items.into_iter().map(node_of).collect()),
        Value::Object(members) => Node::Map(members.into_iter().map(|(name, value)| (name, node_of(value))).collect()),
    }
}

/// A decrypted value of an object, as Flux brings it through JSON: a float without a fraction is an integer.
pub(crate) fn value_of(leaf: &Leaf) -> Value {
    match leaf {
        Leaf::Null | Leaf::Comment(_) => Value::Null,
        Leaf::Bool(value) => Value::Bool(*value),
        Leaf::Int(value) => Value::from(*value),
        Leaf::Float(value) => match float(*value).parse::<i64>() {
            Ok(int) => Value::from(int),
            Err(_) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        },
        Leaf::Time(text) | Leaf::Text(text) => Value::String(text.clone()),
        Leaf::Bytes(bytes) => Value::String(encoded(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        let text = "{\n\t\"b\": 1,\n\t\"a\": {\n\t\t\"t\": \"\\u003ca\\u003e \\\"x\\\" \\u00e9\",\n\t\t\"f\": [\n\t\t\t1.5,\n\t\t\t-0.1,\n\t\t\t1e+21\n\t\t]\n\t},\n\t\"e\": {},\n\t\"n\": null\n}\n";
        let document = read(text).unwrap();
        assert_eq!(write(&document.root), text.replace("\\u00e9", "é"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            "{}x",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\n\"}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!("{}{}", "{\"a\":".repeat(200), "}".repeat(200));
        assert!(read(&deep).is_err());
    }
}
