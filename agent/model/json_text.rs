//! A JSON value that is kept as its text.

use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

/// A JSON value, kept as its text and shared by its copies: for what there are thousands of, each of them seldom looked at.
/// Two are equal where their texts are; a value has always the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// What it says.
    pub fn value(&self) -> Value {
        self.read().unwrap_or_default()
    }

    /// What it says, as far as `T` asks; nothing where it has another form.
    pub fn read<'t, T: Deserialize<'t>>(&'t self) -> Option<T> {
        serde_json::from_str(&self.0).ok()
    }

    /// The value that a JSON pointer (RFC 6901) leads to.
    pub fn pointer(&self, pointer: &str) -> Option<Value> {
        self.value().pointer_mut(pointer).map(Value::take)
    }

    /// The text that a JSON pointer leads to; nothing where none is there, or no text.
    pub fn text(&self, pointer: &str) -> Option<String> {
        match self.pointer(pointer)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JsonText {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // By way of the value: the same one is to have the same text, whoever wrote it.
        serde_json::from_str(text).map(|value: Value| Self::from(&value))
    }
}

impl From<&Value> for JsonText {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl Default for JsonText {
    fn default() -> Self {
        Value::Null.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_says_what_it_was_made_of() {
        let value = json!({"b": {"c/d": ["x", 7, null]}, "a": "ü\n"});
        let text = JsonText::from(&value);
        assert_eq!(text.value(), value);
        assert_eq!(text.pointer("/b/c~1d/1"), Some(json!(7)));
        assert_eq!(text.pointer("/b/e"), None);
        assert_eq!((text.text("/a"), text.text("/b/c~1d/1")), (Some("ü\n".to_owned()), None));
        assert_eq!(text, r#"{ "a": "\u00fc\n", "b": {"c/d": ["x", 7, null]} }"#.parse().unwrap());
    }
}
