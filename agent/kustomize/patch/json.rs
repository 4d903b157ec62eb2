//! JSON patches (RFC 6902), as evanphx/json-patch applies them.
//!
//! Where that library is laxer than the RFC, so is this: `replace` of a member that is not there adds it, negative
//! indices count from the end, and anything before the first slash of a path is dropped. kustomize reads the numbers of
//! a patched object as floats, so integers beyond 2^53 lose their last digits there and here.

use crate::yaml::{Node, json as convert};
use serde_json::{Map, Value};

/// One operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Value,
}

/// Reads a list of operations.
pub(crate) fn operations(value: &Value) -> Result<Vec<Operation>, String> {
    let items = match value {
        Value::Array(items) => items,
        other => {
            return Err(format!("a JSON patch is a list of operations, this is {}", word(other)));
        }
    };
    items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let members = item.as_object().ok_or_else(|| format!("operation {} is {}", at + 1, word(item)))?;
            let text = |key: &str| members.get(key).and_then(Value::as_str).map(str::to_owned);
            Ok(Operation {
                op: text("op").unwrap_or_default(),
                path: text("path"),
                from: text("from"),
                value: members.get("value").cloned().unwrap_or(Value::Null),
            })
        })
        .collect()
}

/// How many values the objects may hold, all told, that a patch copies within: each copy can double one.
const MOST_COPIED: usize = 2_000_000;

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// Applies all operations, or says which one could not be.
pub(crate) fn apply(node: &mut Node, operations: &[Operation]) -> Result<(), String> {
    let mut document = convert::to_value(node).map_err(|fault| fault.to_string())?;
    let mut left = MOST_COPIED;
    for (at, operation) in operations.iter().enumerate() {
        if operation.op == "copy" {
            left = left.checked_sub(size(&document)).ok_or("the copies in this patch grow without measure")?;
        }
        operation.apply(&mut document).map_err(|cause| {
            let path = operation.path.as_deref().unwrap_or_default();
            format!("operation {} ({} {path}): {cause}", at + 1, operation.op)
        })?;
    }
    if !document.is_object() {
        return Err(format!("the patch leaves {} where an object was", word(&document)));
    }
    *node = convert::from_value_by_floats(&document);
    Ok(())
}

impl Operation {
    fn apply(&self, document: &mut Value) -> Result<(), String> {
        let path = self.path.as_deref().ok_or("path is missing")?;
        let from = || self.from.as_deref().ok_or("from is missing");
        match self.op.as_str() {
            "add" => add(document, path, self.value.clone()),
            "remove" => remove(document, path).map(drop),
            "replace" => replace(document, path, self.value.clone()),
            "move" => {
                get(document, from()?)?;
                let value = remove(document, from()?)?;
                add(document, path, value)
            }
            "copy" => {
                let value = get(document, from()?)?;
                add(document, path, value)
            }
            "test" => {
                let found = if path.is_empty() { document.clone() } else { get(document, path)? };
                if equal(&found, &self.value) { Ok(()) } else { Err(format!("the value there is {found}")) }
            }
            "" => Err("op is missing".to_owned()),
            other => Err(format!("there is no operation {other:?}")),
        }
    }
}

/// The container that a path leads to, and the last part of the path.
fn container<'d>(document: &'d mut Value, path: &str) -> Result<(&'d mut Value, String), String> {
    let parts: Vec<String> = path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    let Some((last, before)) = parts.split_last() else {
        return Err("the path is empty".to_owned());
    };
    let mut here = document;
    for part in before {
        here = match here {
            Value::Object(members) => members.get_mut(part),
            Value::Array(items) => index(part, items.len()).ok().and_then(|at| items.get_mut(at)),
            _ => None,
        }
        .filter(|value| value.is_object() || value.is_array())
        .ok_or_else(|| format!("there is no {part:?} on the way"))?;
    }
    Ok((here, last.clone()))
}

/// An index that may count from the end.
fn index(part: &str, length: usize) -> Result<usize, String> {
    let wanted: i64 = part.parse().map_err(|_| format!("{part:?} is not an index of a list"))?;
    let at = if wanted < 0 { wanted + i64::try_from(length).unwrap_or(i64::MAX) } else { wanted };
    usize::try_from(at).map_err(|_| format!("index {wanted} is outside a list of {length}"))
}

fn existing(part: &str, length: usize) -> Result<usize, String> {
    let at = index(part, length)?;
    if at < length { Ok(at) } else { Err(format!("index {at} is outside a list of {length}")) }
}

fn get(document: &mut Value, path: &str) -> Result<Value, String> {
    let (container, key) = container(document, path)?;
    match container {
        Value::Array(items) => Ok(items[existing(&key, items.len())?].clone()),
        other => Ok(other.get(&key).cloned().unwrap_or(Value::Null)),
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    match container(document, path)? {
        (Value::Object(members), key) => {
            members.insert(key, value);
            Ok(())
        }
        (Value::Array(items), key) if key == "-" => {
            items.push(value);
            Ok(())
        }
        (Value::Array(items), key) => {
            let at = existing(&key, items.len() + 1)?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err("there is no object or list to add to".to_owned()),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    match container(document, path)? {
        (Value::Object(members), key) => members.remove(&key).ok_or_else(|| format!("there is no {key:?}")),
        (Value::Array(items), key) => {
            let at = existing(&key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err("there is nothing to remove".to_owned()),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("the whole can only be replaced by an object or a list".to_owned());
        }
        *document = value;
        return Ok(());
    }
    match container(document, path)? {
        (Value::Object(members), key) => {
            members.insert(key, value);
            Ok(())
        }
        (Value::Array(items), key) => {
            let at = existing(&key, items.len())?;
            items[at] = value;
            Ok(())
        }
        _ => Err("there is no object or list".to_owned()),
    }
}

/// Equality of JSON, in which 1 and 1.0 differ only if their numbers do.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.to_string() == b.to_string(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => same_members(a, b),
        _ => a == b,
    }
}

fn same_members(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
