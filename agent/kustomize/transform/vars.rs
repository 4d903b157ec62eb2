//! `vars`: `$(NAME)` in known fields becomes the value of another field.

use super::of_object;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::kustomization::Var;
use crate::path;
use crate::resource::Resource;
use crate::yaml::{Node, Scalar, Tag, general};
use std::collections::BTreeMap;

/// A value that a variable stands for.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// A collection cannot be put into text: the variable stays as it is.
    Collection,
}

/// Finds the value of every variable and puts it in.
pub(crate) fn apply(
    resources: &mut [Resource],
    vars: &BTreeMap<String, Var>,
    specs: &[FieldSpec],
) -> Result<(), String> {
    let mut values = BTreeMap::new();
    for var in vars.values() {
        values.insert(var.name.as_str(), value_of(resources, var)?);
    }
    if values.is_empty() {
        return Ok(());
    }
    for resource in resources {
        for spec in specs {
            fieldspec::apply(&mut resource.node, spec, Make::Nothing, &mut |node| replace(node, &values))
                .map_err(|cause| of_object(resource, &cause))?;
        }
    }
    Ok(())
}

fn value_of(resources: &[Resource], var: &Var) -> Result<Value, String> {
    let source = resources.iter().find(|resource| resource.memory.vars.contains(&var.name));
    let Some(source) = source else {
        return Err(format!("variable {}: there is no object {}", var.name, var.object));
    };
    let parts = path::split_indices(path::split(&var.field_path));
    match path::lookup(&source.node, &parts) {
        Ok(Some(node)) => read(node).ok_or_else(|| {
            format!("variable {}: {} of {} cannot be read as what it is tagged", var.name, var.field_path, source.id())
        }),
        _ => Err(format!("variable {}: {} has no field {}", var.name, source.id(), var.field_path)),
    }
}

fn read(node: &Node) -> Option<Value> {
    let Node::Scalar(Scalar { tag, text, .. }) = node else {
        return Some(Value::Collection);
    };
    Some(match tag {
        Tag::Int => Value::Int(text.parse().ok()?),
        Tag::Float => Value::Float(text.parse().ok()?),
        Tag::Bool => Value::Bool(text.to_ascii_lowercase().parse().ok()?),
        Tag::Str | Tag::Null | Tag::Timestamp => Value::Text(text.as_ref().to_owned()),
    })
}

fn replace(node: &mut Node, values: &BTreeMap<&str, Value>) -> Result<(), String> {
    match node {
        Node::Scalar(scalar) => {
            in_scalar(scalar, values);
            Ok(())
        }
        Node::Map(map) => {
            for (_, value) in map.iter_mut() {
                if let Node::Scalar(scalar) = value {
                    in_scalar(scalar, values);
                }
            }
            Ok(())
        }
        Node::Seq(items) => items.iter_mut().try_for_each(|item| match item {
            Node::Scalar(scalar) if is_text(scalar) => {
                in_scalar(scalar, values);
                Ok(())
            }
            other => Err(format!("variables can only be put into text, the list holds {}", other.kind_word())),
        }),
    }
}

/// Text, or a value that was written without a type.
fn is_text(scalar: &Scalar) -> bool {
    scalar.tag == Tag::Str || scalar.untagged
}

fn in_scalar(scalar: &mut Scalar, values: &BTreeMap<&str, Value>) {
    if !is_text(scalar) {
        return;
    }
    if !scalar.text.contains('$') {
        // What was written without a type becomes text here.
        (scalar.tag, scalar.untagged) = (Tag::Str, false);
        return;
    }
    let (tag, text) = match expand(&scalar.text, values) {
        Value::Text(text) => (Tag::Str, text),
        Value::Int(value) => (Tag::Int, value.to_string()),
        Value::Float(value) => (Tag::Float, value.to_string()),
        Value::Bool(value) => (Tag::Bool, value.to_string()),
        Value::Collection => return,
    };
    scalar.quoted = false;
    scalar.assign(&Scalar::new(tag, text));
}

/// Expands `$(NAME)`; `$$` is a dollar sign. A text that is one variable and nothing else takes its type.
fn expand(text: &str, values: &BTreeMap<&str, Value>) -> Value {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let mut following = after.chars();
        rest = match following.next() {
            None => {
                rest = &rest[at..];
                break;
            }
            Some('$') => {
                out.push('$');
                &after[1..]
            }
            Some('(') => match after.find(')') {
                Some(end) => {
                    let name = &after[1..end];
                    match values.get(name) {
                        Some(value) if text.len() == name.len() + 3 && *value != Value::Collection => {
                            return value.clone();
                        }
                        Some(value) => push(&mut out, name, value),
                        None => push(&mut out, name, &Value::Collection),
                    }
                    &after[end + 1..]
                }
                None => {
                    out.push_str("$(");
                    &after[1..]
                }
            },
            Some(other) => {
                out.push('$');
                out.push(other);
                following.as_str()
            }
        };
    }
    out.push_str(rest);
    Value::Text(out)
}

fn push(out: &mut String, name: &str, value: &Value) {
    match value {
        Value::Text(text) => out.push_str(text),
        Value::Int(value) => out.push_str(&value.to_string()),
        // As Go's %v writes it.
        Value::Float(value) => out.push_str(&general(*value)),
        Value::Bool(value) => out.push_str(&value.to_string()),
        Value::Collection => {
            out.push_str("$(");
            out.push_str(name);
            out.push(')');
        }
    }
}
