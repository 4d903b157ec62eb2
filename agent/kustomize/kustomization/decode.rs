//! Reading typed fields out of a document, and saying exactly which one is wrong.
//!
//! kustomize decodes with Go's `encoding/json`: names are compared without case, null is the same as absent, unknown
//! fields are refused in a kustomization. Files of other kinds (plugin configurations, replacement files) go through
//! sigs.k8s.io/yaml, which ignores unknown fields and takes numbers and booleans for text where text is wanted.

use crate::error::{Error, Place};
use crate::yaml;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

/// A file that is being decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document<'d> {
    pub(crate) file: &'d str,
    pub(crate) bytes: &'d [u8],
    /// Whether unknown fields are refused and types must be exact.
    pub(crate) strict: bool,
}

impl<'d> Document<'d> {
    /// The place of a field in it.
    pub(crate) fn place(&self, field: &str) -> Place {
        Place { file: self.file.to_owned(), line: yaml::line_of(self.bytes, field), field: field.to_owned() }
    }

    /// A field that is wrong.
    pub(crate) fn fault(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Field { place: self.place(field), problem: problem.into() }
    }
}

/// A value with its path.
#[derive(Debug, Clone)]
pub(crate) struct Field<'d> {
    pub(crate) document: Document<'d>,
    pub(crate) path: String,
    pub(crate) value: &'d Value,
}

/// The members of an object, and which of them were asked for.
#[derive(Debug)]
pub(crate) struct Members<'d> {
    document: Document<'d>,
    path: String,
    map: &'d Map<String, Value>,
    asked: RefCell<HashSet<&'d str>>,
}

impl<'d> Field<'d> {
    /// The root of a document.
    pub(crate) fn root(document: Document<'d>, value: &'d Value) -> Field<'d> {
        Field { document, path: String::new(), value }
    }

    /// An error at this value.
    pub(crate) fn fault(&self, problem: impl Into<String>) -> Error {
        self.document.fault(&self.path, problem)
    }

    fn mismatch(&self, wanted: &str) -> Error {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        let hint = match (wanted, self.value) {
            ("text", Value::Bool(_) | Value::Number(_)) => "; put it in quotes",
            _ => "",
        };
        self.fault(format!("{wanted} was expected, found {found}{hint}"))
    }

    /// The members of an object.
    pub(crate) fn members(&self) -> Result<Members<'d>, Error> {
        match self.value {
            Value::Object(map) => {
                Ok(Members { document: self.document, path: self.path.clone(), map, asked: RefCell::default() })
            }
            _ => Err(self.mismatch("a mapping")),
        }
    }

    /// The elements of a list; null is an empty one.
    pub(crate) fn elements(&self) -> Result<Vec<Field<'d>>, Error> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(at, value)| Field { document: self.document, path: format!("{}[{at}]", self.path), value })
                .collect()),
            _ => Err(self.mismatch("a list")),
        }
    }

    /// Text; null is empty.
    pub(crate) fn text(&self) -> Result<String, Error> {
        match self.value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            Value::Bool(value) if !self.document.strict => Ok(value.to_string()),
            Value::Number(number) if !self.document.strict => Ok(number
                .as_f64()
                .filter(|_| number.is_f64())
                .map_or_else(|| number.to_string(), yaml::shortest_single)),
            _ => Err(self.mismatch("text")),
        }
    }

    fn boolean(&self) -> Result<bool, Error> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(*value),
            _ => Err(self.mismatch("true or false")),
        }
    }

    fn integer(&self) -> Result<i64, Error> {
        match self.value {
            Value::Null => Ok(0),
            Value::Number(number) => number.as_i64().ok_or_else(|| self.mismatch("an integer")),
            _ => Err(self.mismatch("an integer")),
        }
    }

    fn texts(&self) -> Result<BTreeMap<String, String>, Error> {
        match self.value {
            Value::Null => Ok(BTreeMap::new()),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    let field = Field { document: self.document, path: format!("{}.{key}", self.path), value };
                    Ok((key.clone(), field.text()?))
                })
                .collect(),
            _ => Err(self.mismatch("a mapping")),
        }
    }
}

impl<'d> Members<'d> {
    /// A member by its name, compared without case; null counts as absent.
    pub(crate) fn get(&self, name: &'static str) -> Option<Field<'d>> {
        let (key, value) = match self.map.get_key_value(name) {
            Some(found) => found,
            None => self.map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?,
        };
        self.asked.borrow_mut().insert(key);
        (!value.is_null()).then(|| Field { document: self.document, path: self.path_of(key), value })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Text; empty when absent.
    pub(crate) fn text(&self, name: &'static str) -> Result<String, Error> {
        self.get(name).map_or_else(|| Ok(String::new()), |field| field.text())
    }

    /// A boolean; false when absent.
    pub(crate) fn boolean(&self, name: &'static str) -> Result<bool, Error> {
        self.get(name).map_or(Ok(false), |field| field.boolean())
    }

    /// An integer; nought when absent.
    pub(crate) fn integer(&self, name: &'static str) -> Result<i64, Error> {
        self.get(name).map_or(Ok(0), |field| field.integer())
    }

    /// Text by name; empty when absent.
    pub(crate) fn texts(&self, name: &'static str) -> Result<BTreeMap<String, String>, Error> {
        self.get(name).map_or_else(|| Ok(BTreeMap::new()), |field| field.texts())
    }

    /// A list; empty when absent.
    pub(crate) fn list<T>(
        &self,
        name: &'static str,
        mut read: impl FnMut(&Field<'d>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(field) => field.elements()?.iter().map(&mut read).collect(),
        }
    }

    /// A list of texts.
    pub(crate) fn text_list(&self, name: &'static str) -> Result<Vec<String>, Error> {
        self.list(name, Field::text)
    }

    /// A value that may be absent.
    pub(crate) fn option<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Field<'d>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.get(name).map(|field| read(&field)).transpose()
    }

    /// Refuses members that nobody asked for, in strict documents.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let asked = self.asked.borrow();
        match self.map.keys().find(|key| self.document.strict && !asked.contains(key.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(self
                .document
                .fault(&self.path_of(unknown), "there is no such field; check its spelling and indentation")),
        }
    }
}
