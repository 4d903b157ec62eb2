//! Values. What stands in the object is borrowed, what is made is shared: to copy a value costs nothing.

use std::rc::Rc;

use serde_json::Value as Json;

use crate::budget::Budget;
use crate::expression::Failure;

#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Rc<[u8]>),
    /// A list of the object.
    Array(&'a [Json]),
    /// A map of the object.
    Object(&'a serde_json::Map<String, Json>),
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<Vec<(Value<'a>, Value<'a>)>>),
    Optional(Option<Rc<Value<'a>>>),
    Type(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
}

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    /// Numbers as the Kubernetes API reads them: a whole one that fits is an int, any other a double.
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(Text::Borrowed(text)),
            Json::Array(items) => Self::Array(items),
            Json::Object(fields) => Self::Object(fields),
        }
    }
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    pub(crate) fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// The name of its type in the language.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Array(_) | Self::List(_) => "list",
            Self::Object(_) | Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
        }
    }

    /// The items of a list, or the keys of a map.
    pub(crate) fn items(&self, budget: &mut Budget) -> Result<Vec<Self>, Failure> {
        let items: Vec<Self> = match self {
            Self::Array(items) => {
                budget.spend(items.len())?;
                items.iter().map(Self::from).collect()
            }
            Self::List(items) => {
                budget.spend(items.len())?;
                items.to_vec()
            }
            Self::Object(fields) => {
                budget.spend(fields.len())?;
                fields.keys().map(|key| Self::Text(Text::Borrowed(key))).collect()
            }
            Self::Map(entries) => {
                budget.spend(entries.len())?;
                entries.iter().map(|(key, _)| key.clone()).collect()
            }
            other => return Err(Failure::overload("a macro", &[other])),
        };
        Ok(items)
    }

    /// Whether it is what an unset field would be: `optional.ofNonZeroValue`.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::Text(text) => text.as_str().is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Array(items) => items.is_empty(),
            Self::Object(fields) => fields.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            Self::Optional(value) => value.is_none(),
            Self::Type(_) => false,
        }
    }
}

/// The types that can be named.
pub(crate) const TYPES: [&str; 10] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
