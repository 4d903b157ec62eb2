//! Trees become JSON values, and JSON values trees.

use super::error::Fault;
use super::node::{Map, Node, Scalar, Tag};
use super::number;
use super::scalar::{Dialect, Resolved, resolve};
use serde_json::Value;

/// The value that a tree stands for.
pub(crate) fn to_value(node: &Node) -> Result<Value, Fault> {
    Ok(match node {
        Node::Scalar(scalar) => scalar_value(scalar)?,
        Node::Seq(items) => Value::Array(items.iter().map(to_value).collect::<Result<_, _>>()?),
        Node::Map(map) => Value::Object(
            map.iter().map(|(key, value)| Ok((key.to_owned(), to_value(value)?))).collect::<Result<_, Fault>>()?,
        ),
    })
}

/// A tag that no longer fits its text is an error, as it is for kustomize when it prints an object: a replacement
/// may have put a word into what was a number.
fn scalar_value(scalar: &Scalar) -> Result<Value, Fault> {
    let wrong = |tag: &str| Fault::Tag { tag: tag.to_owned(), text: scalar.text.as_ref().into() };
    let resolved = match scalar.tag {
        Tag::Str => return Ok(Value::String(scalar.text.as_ref().into())),
        Tag::Null => {
            return match resolve(&scalar.text, Dialect::Kustomize) {
                Resolved::Null => Ok(Value::Null),
                _ => Err(wrong("!!null")),
            };
        }
        _ => resolve(&scalar.text, Dialect::Kustomize),
    };
    match (scalar.tag, resolved) {
        (Tag::Bool, Resolved::Bool(value)) => Ok(value.into()),
        (Tag::Int, Resolved::Int(value)) => Ok(value.into()),
        (Tag::Int, Resolved::UInt(value)) => Ok(value.into()),
        (Tag::Float, Resolved::Float(value)) => {
            number::to_json(value).ok_or_else(|| Fault::NotJson(scalar.text.as_ref().into()))
        }
        #[allow(clippy::cast_precision_loss)] // `!!float 3` asks for it
        (Tag::Float, Resolved::Int(value)) => number::to_json(value as f64).ok_or_else(|| wrong("!!float")),
        (Tag::Timestamp, Resolved::Timestamp) => {
            super::timestamp::parse(&scalar.text).map(Value::String).ok_or_else(|| wrong("!!timestamp"))
        }
        (Tag::Bool, _) => Err(wrong("!!bool")),
        (Tag::Int, _) => Err(wrong("!!int")),
        (Tag::Float, _) => Err(wrong("!!float")),
        _ => Err(wrong("!!timestamp")),
    }
}

/// The tree of a value.
pub(crate) fn from_value(value: &Value) -> Node {
    match value {
        Value::Null => Node::null(),
        Value::Bool(value) => plain(Tag::Bool, value.to_string()),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => plain(Tag::Float, number::general(float)),
            _ => plain(Tag::Int, number.to_string()),
        },
        Value::String(text) => {
            let quoted = super::scalar::plain_tag(text) != Tag::Str;
            Node::Scalar(Scalar { quoted, ..Scalar::text(text.as_str()) })
        }
        Value::Array(items) => Node::Seq(items.iter().map(from_value).collect()),
        Value::Object(members) => {
            Node::Map(members.iter().map(|(key, value)| (key.as_str().into(), from_value(value))).collect::<Map>())
        }
    }
}

/// The same where every number passes through a float, as it does for an object that a JSON patch touched: the text of
/// 12345678 is then `1.2345678e+07`, and digits beyond 2^53 are lost.
pub(crate) fn from_value_by_floats(value: &Value) -> Node {
    match value {
        Value::Number(number) => {
            let text = number.as_f64().map_or_else(|| number.to_string(), number::general);
            plain(super::scalar::plain_tag(&text), text)
        }
        Value::Array(items) => Node::Seq(items.iter().map(from_value_by_floats).collect()),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| (key.as_str().into(), from_value_by_floats(value)));
            Node::Map(members.collect())
        }
        other => from_value(other),
    }
}

fn plain(tag: Tag, text: String) -> Node {
    Node::Scalar(Scalar::new(tag, text))
}
