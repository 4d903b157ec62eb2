//! From text to parts.
//!
//! The grammar is that of envsubst (`parse/parse.go`), with its corners: `$$` is a dollar sign outside of forms, `\/` a
//! slash within `${name/old/new}`, defaults may hold further forms, and `${name-default}` without a colon is no form.

use super::SubstituteError;

/// A piece of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// `${name}` with an operator and its words; no operator for the bare form.
    Form {
        name: String,
        operator: String,
        words: Vec<Part>,
    },
}

/// How deep forms may stand within forms.
const DEEPEST: usize = 64;

/// Cuts a text into its parts.
pub(super) fn parse(text: &str) -> Result<Vec<Part>, SubstituteError> {
    let mut scanner = Scanner { text, at: 0, opened: 0, depth: 0 };
    let mut parts = Vec::new();
    while scanner.at < text.len() {
        if scanner.open() {
            parts.push(scanner.form()?);
        } else {
            parts.push(Part::Text(scanner.take(Escapes::Dollar, true, |_, _| true)));
        }
    }
    Ok(parts)
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Where the outermost form in hand starts.
    opened: usize,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    Dollar,
    All,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn fault(&self, problem: &'static str) -> SubstituteError {
        SubstituteError::Form { near: self.text[self.opened..].chars().take(40).collect(), problem }
    }

    /// Consumes `${`.
    fn open(&mut self) -> bool {
        let opens = self.rest().starts_with("${");
        if opens {
            if self.depth == 0 {
                self.opened = self.at;
            }
            self.at += 2;
        }
        opens
    }

    fn close(&mut self) -> Result<(), SubstituteError> {
        if self.peek() != Some('}') {
            return Err(self.fault("the closing brace is missing"));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes characters while they are accepted; `accept` also gets their place, from 1.
    fn take(&mut self, escapes: Escapes, stops_at_form: bool, accept: impl Fn(char, usize) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek() {
            let after = self.rest()[c.len_utf8()..].chars().next();
            if stops_at_form && c == '$' && after == Some('{') {
                break;
            }
            let escaped = match (c, after) {
                ('$', Some('$')) => escapes != Escapes::None,
                ('\\', Some('/' | '\\')) => escapes == Escapes::All,
                _ => false,
            };
            if escaped {
                self.at += 2;
                taken.extend(after);
                continue;
            }
            if !accept(c, taken.len() + 1) {
                break;
            }
            self.at += c.len_utf8();
            taken.push(c);
        }
        taken
    }

    /// What follows `${`, up to and with its brace.
    fn form(&mut self) -> Result<Part, SubstituteError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault("forms stand too deep within forms"));
        }
        let form = self.form_inside();
        self.depth -= 1;
        form
    }

    fn form_inside(&mut self) -> Result<Part, SubstituteError> {
        if self.peek() == Some('#') {
            self.at += 1;
            let name = self.name()?;
            self.close()?;
            return Ok(Part::Form { name, operator: "#".to_owned(), words: Vec::new() });
        }
        let name = self.name()?;
        let mut after = self.rest().chars().skip(1);
        let (operator, words) = match self.peek() {
            Some(mark @ (':' | '=')) => match (mark, after.next()) {
                ('=', _) => self.default(1)?,
                (_, Some('=' | '-' | '?' | '+')) => self.default(2)?,
                (_, Some(other)) if !other.is_ascii() => return Err(self.fault("a position is a number")),
                _ => self.substring()?,
            },
            Some(',' | '^') => {
                (self.take(Escapes::None, false, |c, place| matches!(c, ',' | '^') && place < 3), Vec::new())
            }
            Some('/') => self.replacement()?,
            Some(mark @ ('#' | '%')) => {
                let operator = self.take(Escapes::None, false, |c, place| c == mark && place < 3);
                (operator, vec![self.word(Escapes::None, |c| c != '}')?])
            }
            _ => (String::new(), Vec::new()),
        };
        self.close()?;
        Ok(Part::Form { name, operator, words })
    }

    fn name(&mut self) -> Result<String, SubstituteError> {
        let name = self.take(Escapes::None, false, |c, _| c.is_alphanumeric() || c == '_');
        if name.is_empty() { Err(self.fault("a variable's name is missing")) } else { Ok(name) }
    }

    /// One argument: a form, or text up to a character that is not accepted.
    fn word(&mut self, escapes: Escapes, accept: impl Fn(char) -> bool) -> Result<Part, SubstituteError> {
        if self.open() {
            return self.form();
        }
        let text = self.take(escapes, true, |c, _| accept(c));
        if text.is_empty() { Err(self.fault("a part of the form is missing")) } else { Ok(Part::Text(text)) }
    }

    fn default(&mut self, length: usize) -> Result<(String, Vec<Part>), SubstituteError> {
        let operator = self.rest()[..length].to_owned();
        self.at += length;
        let mut words = Vec::new();
        while self.peek() != Some('}') {
            words.push(self.word(Escapes::None, |c| c != '}')?);
        }
        Ok((operator, words))
    }

    fn substring(&mut self) -> Result<(String, Vec<Part>), SubstituteError> {
        self.at += 1;
        let mut words = vec![self.word(Escapes::None, |c| c != ':' && c != '}')?];
        if self.peek() == Some(':') {
            self.take(Escapes::None, false, |c, _| c == ':');
            words.push(self.word(Escapes::None, |c| c != '}')?);
        }
        Ok((":".to_owned(), words))
    }

    fn replacement(&mut self) -> Result<(String, Vec<Part>), SubstituteError> {
        let operator = self.take(Escapes::None, false, |c, place| {
            (place == 1 && c == '/') || (place == 2 && matches!(c, '/' | '#' | '%'))
        });
        let mut words = vec![self.word(Escapes::All, |c| c != '/')?];
        if self.take(Escapes::None, false, |c, _| c == '/').is_empty() {
            return Err(self.fault("the slash before the replacement is missing"));
        }
        if self.peek() != Some('}') {
            words.push(self.word(Escapes::All, |c| c != '}')?);
        }
        Ok((operator, words))
    }
}
