//! Values become YAML text, byte for byte as kustomize prints them.
//!
//! kustomize prints through sigs.k8s.io/yaml, that is go-yaml version 2: block style, two spaces, sequences not
//! indented under their key, keys in "natural" order, quotes only where the text would read back as something else, lines
//! folded at the first space beyond column 80.
//! postBuild substitution works on this text, so its quoting decides what a substituted value becomes.

use super::natural::in_natural_order;
use super::number;
use super::scalar::{Dialect, Resolved, resolve};
use serde_json::{Map, Value};

/// One document without a `---`.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => mapping(&mut out, members, 0, true),
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0, true),
        other => {
            inline(&mut out, other, 0);
            end_line(&mut out);
        }
    }
    out
}

/// Members one below the other; `started` when the cursor already stands where the first key goes.
fn mapping(out: &mut String, members: &Map<String, Value>, indent: usize, started: bool) {
    for (position, key) in in_natural_order(members.keys().collect()).into_iter().enumerate() {
        if position > 0 || !started {
            pad(out, indent);
        }
        let value = members.get(key).unwrap_or(&Value::Null);
        if is_simple_key(key) {
            scalar_text(out, key, indent, true);
            out.push(':');
            member_value(out, value, indent);
        } else {
            // Keys of more than 128 bytes or several lines take the long form.
            out.push_str("? ");
            scalar_text(out, key, indent, false);
            end_line(out);
            pad(out, indent);
            out.push(':');
            item_value(out, value, indent);
        }
    }
}

fn member_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            mapping(out, members, indent + 2, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            sequence(out, items, indent, false);
        }
        other => {
            out.push(' ');
            inline(out, other, indent);
            end_line(out);
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize, started: bool) {
    for (position, item) in items.iter().enumerate() {
        if position > 0 || !started {
            pad(out, indent);
        }
        out.push('-');
        item_value(out, item, indent);
    }
}

/// What stands after `-` or the `:` of a long key: collections begin on the same line.
fn item_value(out: &mut String, value: &Value, indent: usize) {
    out.push(' ');
    match value {
        Value::Object(members) if !members.is_empty() => mapping(out, members, indent + 2, true),
        Value::Array(items) if !items.is_empty() => sequence(out, items, indent + 2, true),
        other => {
            inline(out, other, indent);
            end_line(out);
        }
    }
}

fn inline(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => out.push_str(&number::general(float)),
            _ => out.push_str(&number.to_string()),
        },
        Value::String(text) => scalar_text(out, text, indent, false),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn end_line(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// A text as go-yaml version 3 writes it in the place of a value: quotes only where it would read back as something
/// else, lines never folded, several lines as a block. Its lines are indented by `indent`, and that is `step` more than
/// what is around them; without `indent` there is no place for a block.
pub fn value_text(text: &str, indent: Option<usize>, step: usize) -> String {
    // A tab keeps version 3 from plain and single quotes, and not from a block.
    let tab = text.contains('\t');
    let shape = Shape::of(&text.replace('\t', "x"));
    let plain = matches!(resolve(text, Dialect::Kustomize), Resolved::Str)
        && matches!(resolve(text, Dialect::Kubernetes), Resolved::Str)
        && !is_base_60(text);
    let mut out = String::new();
    let mut fold = Fold::new(&out, None);
    match indent.filter(|_| shape.block) {
        Some(indent) if text.contains('\n') => literal(&mut out, text, indent, step),
        _ if text.contains('\n') => double_quoted(&mut out, text, &mut fold),
        _ if plain && shape.plain && !tab && (indent.is_some() || !text.contains([',', '[', ']', '{', '}', '?'])) => {
            out.push_str(text);
        }
        _ if plain && shape.single && !tab => single_quoted(&mut out, text, &mut fold),
        _ => double_quoted(&mut out, text, &mut fold),
    }
    out
}

fn is_simple_key(key: &str) -> bool {
    key.len() <= 128 && !key.contains(is_break)
}

fn scalar_text(out: &mut String, text: &str, indent: usize, simple_key: bool) {
    let shape = Shape::of(text);
    let plain = matches!(resolve(text, Dialect::Kubernetes), Resolved::Str)
        && super::timestamp::parse(text).is_none()
        && !is_base_60(text);
    let mut fold = Fold::new(out, (!simple_key).then_some(indent + 2));
    if text.contains('\n') {
        if shape.block && !simple_key { literal(out, text, indent + 2, 2) } else { double_quoted(out, text, &mut fold) }
    } else if plain && shape.plain {
        plain_text(out, text, &mut fold);
    } else if plain && shape.single {
        single_quoted(out, text, &mut fold);
    } else {
        double_quoted(out, text, &mut fold);
    }
}

/// Where lines break.
struct Fold {
    /// The column of the next character, in characters.
    column: usize,
    /// How far the next line is indented; none where nothing may be folded.
    indent: Option<usize>,
    /// Whether the last character was a space: only the first of several may become a break.
    after_space: bool,
}

const WIDTH: usize = 80;

impl Fold {
    fn new(out: &str, indent: Option<usize>) -> Fold {
        let line = out.rsplit('\n').next().unwrap_or_default();
        Fold { column: line.chars().count(), indent, after_space: false }
    }

    /// Writes a character that is not folded.
    fn push(&mut self, out: &mut String, letter: char) {
        out.push(letter);
        self.column = if letter == '\n' { 0 } else { self.column + 1 };
        self.after_space = letter == ' ';
    }

    /// Writes text that holds no break.
    fn push_all(&mut self, out: &mut String, text: &str) {
        text.chars().for_each(|letter| self.push(out, letter));
    }

    /// Puts a line break in the place of a space, if one is due; true if so.
    fn breaks(&mut self, out: &mut String) -> bool {
        let Some(indent) = self.indent.filter(|_| !self.after_space && self.column > WIDTH) else { return false };
        out.push('\n');
        pad(out, indent);
        self.column = indent;
        self.after_space = true;
        true
    }
}

fn plain_text(out: &mut String, text: &str, fold: &mut Fold) {
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter != ' ' || rest.peek() == Some(&' ') || !fold.breaks(out) {
            fold.push(out, letter);
        }
    }
}

/// Which notations can carry a text: libyaml's `analyze_scalar`.
struct Shape {
    plain: bool,
    single: bool,
    block: bool,
}

impl Shape {
    fn of(text: &str) -> Shape {
        let mut shape = Shape { plain: true, single: true, block: !text.is_empty() };
        shape.plain = !text.starts_with("---") && !text.starts_with("...");
        let (mut before_blank, mut after_space, mut after_break) = (true, false, false);
        let mut rest = text.chars().peekable();
        let mut first = true;
        while let Some(letter) = rest.next() {
            let blank_follows = rest.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            let last = rest.peek().is_none();
            let indicator = if first {
                match letter {
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                        true
                    }
                    '?' | ':' | '-' => blank_follows,
                    _ => false,
                }
            } else {
                (letter == ':' && blank_follows) || (letter == '#' && before_blank)
            };
            shape.plain &= !indicator;
            if !is_printable(letter) {
                (shape.plain, shape.single, shape.block) = (false, false, false);
            }
            if letter == ' ' {
                shape.plain &= !first && !last;
                shape.block &= !last;
                if after_break {
                    (shape.plain, shape.single) = (false, false);
                }
                (after_space, after_break) = (true, false);
            } else if is_break(letter) {
                shape.plain = false;
                if after_space {
                    (shape.single, shape.block) = (false, false);
                }
                (after_space, after_break) = (false, true);
            } else {
                (after_space, after_break) = (false, false);
            }
            before_blank = matches!(letter, ' ' | '\t' | '\0') || is_break(letter);
            first = false;
        }
        shape
    }
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Tabs are not: go-yaml puts a text with one into double quotes.
fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && letter != '\u{feff}'
}

/// `1:20` was 80 in YAML 1.1.
fn is_base_60(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut groups = rest.split(':');
    let Some(head) = groups.next() else {
        return false;
    };
    if !head.starts_with(|c: char| c.is_ascii_digit()) || !head.chars().all(|c| c.is_ascii_digit() || c == '_') {
        return false;
    }
    let groups: Vec<&str> = groups.collect();
    let Some((tail, middle)) = groups.split_last() else {
        return false;
    };
    let sixty = |group: &str| match group.as_bytes() {
        [digit] => digit.is_ascii_digit(),
        [ten, digit] => matches!(ten, b'0'..=b'5') && digit.is_ascii_digit(),
        _ => false,
    };
    let (tail, fraction) = tail.split_once('.').map_or((*tail, ""), |(tail, fraction)| (tail, fraction));
    middle.iter().all(|group| sixty(group)) && sixty(tail) && fraction.chars().all(|c| c.is_ascii_digit() || c == '_')
}

fn literal(out: &mut String, text: &str, indent: usize, step: usize) {
    out.push('|');
    if text.starts_with([' ', '\n', '\u{2028}', '\u{2029}']) {
        out.push_str(&step.to_string());
    }
    let mut tail = text.chars().rev();
    match (tail.next().is_some_and(is_break), tail.next()) {
        (false, _) => out.push('-'),
        (true, None) => out.push('+'),
        (true, Some(letter)) if is_break(letter) => out.push('+'),
        _ => {}
    }
    out.push('\n');
    let mut at_start = true;
    for letter in text.chars() {
        if is_break(letter) {
            out.push(letter);
            at_start = true;
        } else {
            if at_start {
                pad(out, indent);
            }
            out.push(letter);
            at_start = false;
        }
    }
}

fn single_quoted(out: &mut String, text: &str, fold: &mut Fold) {
    let indent = fold.indent.unwrap_or(0);
    fold.push(out, '\'');
    let mut after_break = false;
    let mut rest = text.chars().peekable();
    let mut first = true;
    while let Some(letter) = rest.next() {
        let inner = !first && rest.peek().is_some_and(|next| *next != ' ');
        first = false;
        if letter == ' ' && inner && fold.breaks(out) {
            continue;
        }
        if after_break && !is_break(letter) {
            pad(out, indent);
        }
        after_break = is_break(letter);
        if letter == '\'' {
            fold.push(out, '\'');
        }
        fold.push(out, letter);
    }
    fold.push(out, '\'');
}

fn double_quoted(out: &mut String, text: &str, fold: &mut Fold) {
    fold.push(out, '"');
    let mut rest = text.chars().peekable();
    let mut first = true;
    while let Some(letter) = rest.next() {
        let inner = !first && rest.peek().is_some();
        first = false;
        if letter == ' ' && inner && fold.breaks(out) {
            // The next space would be lost at the start of a line.
            if rest.peek() == Some(&' ') {
                out.push('\\');
                fold.column += 1;
            }
            continue;
        }
        if is_printable(letter) && !is_break(letter) && letter != '"' && letter != '\\' {
            fold.push(out, letter);
        } else {
            fold.push_all(out, &escaped(letter));
        }
    }
    fold.push(out, '"');
}

fn escaped(letter: char) -> String {
    let short = match letter {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        other => {
            let code = u32::from(other);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}
