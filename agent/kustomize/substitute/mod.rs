//! Flux's `postBuild` substitution: `${name}` and the bash forms around it.
//!
//! An object is printed as YAML, the text is expanded, and the result is read back as kubectl reads it
//! (`SubstituteVariables` in fluxcd/pkg/kustomize, `fluxcd/pkg/envsubst`). So the value `true` for an unquoted `${flag}`
//! becomes a boolean, and a value may hold a whole YAML flow list. Flux passes numbers through floats here and loses the
//! last digits of integers beyond 2^53; they are kept.
//!
//! ```text
//! object --to_yaml--> text --parse, expand--> text --documents--> object
//! ```

mod expand;
mod glob;
mod parse;

use crate::entry::Object;
use crate::yaml;
use std::collections::BTreeMap;

/// How long a text may become, in bytes. The API server takes objects of 3 MiB; forms within forms can grow beyond any
/// measure.
const MOST: usize = 8 << 20;

/// Why a text or an object could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// A `${` that is not one of the known forms.
    #[error("{near:?}: {problem}")]
    Form {
        /// The text from the `${` on, cut short.
        near: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// In strict mode: a variable without a value and without a default.
    #[error(
        "variable {name:?} has no value and no default; give it one under postBuild, or write ${{{name}:=default}}"
    )]
    Missing {
        /// The variable.
        name: String,
    },
    /// A variable whose name no reference can have.
    #[error("variable {name:?}: a name is letters, digits and _, and does not start with a digit")]
    Name {
        /// The variable.
        name: String,
    },
    /// A substring form cut a character in two.
    #[error("variable {name:?}: the substring cuts a character in two")]
    Cut {
        /// The variable.
        name: String,
    },
    /// The expansion grows without measure, or a pattern takes too long on a long value.
    #[error("variable {name:?}: its expansion takes more than is allowed; {MOST} bytes are the most for a text")]
    TooMuch {
        /// The variable.
        name: String,
    },
    /// The expanded text is no longer an object.
    #[error("after substitution the object is no longer readable: {cause}")]
    Unreadable {
        /// The line, within the object as it is printed; nought for the whole of it.
        line: usize,
        /// Why not.
        cause: String,
    },
}

impl SubstituteError {
    /// The same without text that came out of a variable, for variables whose values must not be told.
    pub fn without_values(self) -> SubstituteError {
        match self {
            SubstituteError::Unreadable { line, .. } => SubstituteError::Unreadable {
                line,
                cause: format!("see line {line} of it; its text is not shown, because it holds values of a Secret"),
            },
            other => other,
        }
    }

    /// The same without any text of the object, for one that is secret as a whole.
    pub fn without_text(self) -> SubstituteError {
        let hidden = || "(not shown)".to_owned();
        match self.without_values() {
            SubstituteError::Form { problem, .. } => SubstituteError::Form { near: hidden(), problem },
            SubstituteError::Missing { .. } => SubstituteError::Missing { name: hidden() },
            SubstituteError::Cut { .. } => SubstituteError::Cut { name: hidden() },
            other => other,
        }
    }
}

/// Variables, and how strict to be about missing ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Substitution {
    vars: BTreeMap<String, String>,
    /// A variable without a value and without a default is an error.
    pub strict: bool,
    /// Expand even when there are no variables at all, for the sake of defaults.
    pub always: bool,
}

/// The label or annotation that keeps an object from being expanded.
const SWITCH: &str = "kustomize.toolkit.fluxcd.io/substitute";

impl Substitution {
    /// No variables, not strict.
    pub fn new() -> Substitution {
        Substitution::default()
    }

    /// Adds a variable; a later one of the same name wins. Line feeds in the value are dropped, as Flux drops them.
    ///
    /// # Errors
    ///
    /// A name that no reference can have.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), SubstituteError> {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(SubstituteError::Name { name: name.to_owned() });
        }
        self.vars.insert(name.to_owned(), value.replace('\n', ""));
        Ok(())
    }

    /// Adds a variable unless there is one of that name.
    ///
    /// # Errors
    ///
    /// As for [`Substitution::insert`].
    pub fn fill(&mut self, name: &str, value: &str) -> Result<(), SubstituteError> {
        match self.vars.contains_key(name) {
            true => Ok(()),
            false => self.insert(name, value),
        }
    }

    /// Expands a text.
    ///
    /// # Errors
    ///
    /// A form that is not known, or in strict mode a variable that is missing.
    pub fn text(&self, text: &str) -> Result<String, SubstituteError> {
        let parts = parse::parse(text)?;
        let mut out = String::with_capacity(text.len());
        expand::all(&mut out, &parts, &|name| match self.vars.get(name) {
            Some(value) => Some(value.as_str()),
            None if self.strict => None,
            None => Some(""),
        })?;
        Ok(out)
    }

    /// Expands an object, unless it asks to be left alone or there is nothing to do. True when it was expanded.
    ///
    /// # Errors
    ///
    /// As for [`Substitution::text`], and a result that is not an object.
    pub fn object(&self, object: &mut Object) -> Result<bool, SubstituteError> {
        let off = |kind| object.value["metadata"][kind][SWITCH].as_str() == Some("disabled");
        if off("labels") || off("annotations") || (self.vars.is_empty() && !self.always) {
            return Ok(false);
        }
        let text = yaml::to_yaml(&object.value);
        if !text.contains('$') {
            return Ok(false);
        }
        let expanded = self.text(&text)?;
        let mut documents = yaml::documents("object", expanded.as_bytes())
            .map_err(|error| SubstituteError::Unreadable { line: error.line, cause: error.to_string() })?
            .into_iter();
        match documents.next() {
            Some(document) if document.value.is_object() => {
                object.value = document.value;
                Ok(true)
            }
            _ => Err(SubstituteError::Unreadable { line: 0, cause: "it is not a mapping".to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Substitution {
        let mut substitution = Substitution::new();
        for (name, value) in vars {
            substitution.insert(name, value).unwrap();
        }
        substitution
    }

    #[test]
    fn the_forms_that_flux_documents() {
        let vars = with(&[("name", "hello"), ("path", "a/b/c"), ("empty", "")]);
        for (text, wanted) in [
            ("${name}", "hello"),
            ("x${name}y", "xhelloy"),
            ("${none}", ""),
            ("${none:=d}", "d"),
            ("${none:-d}", "d"),
            ("${empty:-d}", "d"),
            ("${none:-${name}-x}", "hello-x"),
            ("${name:1}", "ello"),
            ("${name:1:2}", "el"),
            ("${#name}", "5"),
            ("${name^}", "Hello"),
            ("${name^^}", "HELLO"),
            ("${name/l/L}", "heLlo"),
            ("${name//l/L}", "heLLo"),
            ("${path##*/}", "c"),
            ("${path#*/}", "b/c"),
            ("${path%/*}", "a/b"),
            ("${path%%/*}", "a"),
            ("$${name}", "${name}"),
            ("$name", "$name"),
            ("cost: 5$", "cost: 5$"),
        ] {
            assert_eq!(vars.text(text).as_deref(), Ok(wanted), "{text}");
        }
        for text in ["${", "${name", "${name-x}", "${}", "${name!}"] {
            assert!(vars.text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn growth_is_bounded() {
        let vars = with(&[("a", &"x".repeat(4096))]);
        let bomb = (0..6).fold("y".to_owned(), |word, _| format!("${{a//x/{word}}}"));
        assert!(matches!(vars.text(&bomb), Err(SubstituteError::TooMuch { .. })));
        assert!(matches!(vars.text(&"${a}".repeat(5000)), Err(SubstituteError::TooMuch { .. })));
        assert_eq!(vars.text("${a##*x}").as_deref(), Ok(""));
    }

    #[test]
    fn strict_wants_a_value_or_a_default() {
        let mut vars = with(&[]);
        vars.strict = true;
        assert_eq!(vars.text("${a:=1}").as_deref(), Ok("1"));
        assert_eq!(vars.text("${a}"), Err(SubstituteError::Missing { name: "a".to_owned() }));
        assert!(vars.insert("a-b", "").is_err());
    }
}
