//! Label selectors: `app=web,tier in (a, b),!legacy`.
//!
//! The grammar is Kubernetes' (`k8s.io/apimachinery/pkg/labels`, of which kyaml carries a copy).

use crate::yaml::Map;

/// Requirements that must all hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
}

impl LabelSelector {
    /// Reads a selector; the empty one matches everything.
    pub(crate) fn parse(text: &str) -> Result<LabelSelector, String> {
        let tokens = tokens(text)?;
        let mut reader = Reader { tokens: &tokens, text };
        let mut requirements = Vec::new();
        while !reader.tokens.is_empty() {
            requirements.push(reader.requirement()?);
            match reader.next() {
                None => break,
                Some(Token::Symbol(",")) if !reader.tokens.is_empty() => {}
                _ => {
                    return Err(reader.fault("a comma and a further requirement, or the end, was expected"));
                }
            }
        }
        Ok(LabelSelector(requirements))
    }

    /// Whether the labels (or annotations) meet every requirement.
    pub(crate) fn matches(&self, labels: Option<&Map>) -> bool {
        self.fits(|key| labels.and_then(|labels| labels.get(key)).map(|value| value.as_text().unwrap_or("")))
    }

    /// The same, where `of` gives the value of a label.
    pub(crate) fn fits<'l>(&self, of: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.0.iter().all(|requirement| {
            let value = of(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.condition {
                Condition::Exists => value.is_some(),
                Condition::Missing => value.is_none(),
                Condition::In(values) => value.is_some_and(|value| values.iter().any(|want| want == value)),
                Condition::NotIn(values) => value.is_none_or(|value| values.iter().all(|want| want != value)),
                Condition::Above(limit) => number().is_some_and(|number| number > *limit),
                Condition::Below(limit) => number().is_some_and(|number| number < *limit),
            }
        })
    }
}

struct Reader<'t> {
    tokens: &'t [Token],
    text: &'t str,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn fault(&self, cause: &str) -> String {
        format!("{:?} is not a label selector: {cause}", self.text)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.tokens.first() == Some(&Token::Symbol("!"));
        if negated {
            self.next();
        }
        let Some(Token::Word(key)) = self.next() else {
            return Err(self.fault("a label name was expected"));
        };
        if !is_qualified_name(&key) {
            return Err(self.fault(&format!("{key:?} is not a label name")));
        }
        if matches!(self.tokens.first(), None | Some(Token::Symbol(","))) {
            let condition = if negated { Condition::Missing } else { Condition::Exists };
            return Ok(Requirement { key, condition });
        }
        if negated {
            return Err(self.fault("! stands before a bare label name only"));
        }
        let condition = match self.next() {
            Some(Token::Symbol("=" | "==")) => Condition::In(vec![self.value()?]),
            Some(Token::Symbol("!=")) => Condition::NotIn(vec![self.value()?]),
            Some(Token::Symbol(">")) => Condition::Above(self.integer()?),
            Some(Token::Symbol("<")) => Condition::Below(self.integer()?),
            Some(Token::Word(word)) if word == "in" => Condition::In(self.values()?),
            Some(Token::Word(word)) if word == "notin" => Condition::NotIn(self.values()?),
            _ => return Err(self.fault("one of =, ==, !=, >, <, in, notin was expected")),
        };
        Ok(Requirement { key, condition })
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.tokens.first(), None | Some(Token::Symbol(","))) {
            return Ok(String::new());
        }
        match self.next() {
            Some(Token::Word(word)) => self.checked(word),
            _ => Err(self.fault("a value was expected")),
        }
    }

    fn integer(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| self.fault("> and < compare with an integer"))
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        if self.next() != Some(Token::Symbol("(")) {
            return Err(self.fault("( was expected"));
        }
        let mut values = vec![String::new()];
        loop {
            match self.next() {
                Some(Token::Symbol(")")) => return Ok(values),
                Some(Token::Symbol(",")) => values.push(String::new()),
                Some(Token::Word(word)) => {
                    let word = self.checked(word)?;
                    match values.last_mut() {
                        Some(last) if last.is_empty() => *last = word,
                        _ => return Err(self.fault("a comma was expected between values")),
                    }
                }
                _ => return Err(self.fault(") was expected")),
            }
        }
    }

    fn checked(&self, value: String) -> Result<String, String> {
        if value.is_empty() || (value.len() <= 63 && is_name(&value)) {
            return Ok(value);
        }
        Err(self.fault(&format!("{value:?} is not a label value")))
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            found.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c: char| "=!(),>< \t\r\n".contains(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }
    Ok(found)
}

/// An optional DNS prefix and a name of at most 63 characters.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.split('.').all(|label| {
                is_name(label) && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            })
    });
    prefix_fits && name.len() <= 63 && is_name(name)
}

/// Letters and digits at both ends; those, `-`, `_` and `.` between.
fn is_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::LabelSelector;
    use crate::yaml::{Map, Node};

    #[test]
    fn the_grammar_of_kubernetes() {
        let mut labels = Map::new();
        for (key, value) in [("app", "web"), ("tier", "b"), ("n", "5"), ("e", "")] {
            labels.insert(key, Node::text(value));
        }
        let holds = |text: &str| LabelSelector::parse(text).unwrap().matches(Some(&labels));
        for text in [
            "",
            "app",
            "app=web",
            "app==web,tier in (a, b)",
            "!x",
            "x!=1",
            "x notin (1)",
            "n>4",
            "n<6",
            "e=",
            "e in ()",
            "e in (,x)",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in ["x", "app=no", "!app", "tier notin (b)", "n>5", "app>1", "x=1"] {
            assert!(!holds(text), "{text}");
        }
        for text in ["app=web,", "=web", "app in web", "a b", "app=-x", "-a", "n>x", "!app=web", "a in (b c)"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }
}
