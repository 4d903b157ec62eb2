//! The suffix that tells one content of a generated ConfigMap or Secret from another.
//!
//! It is taken from SHA-256 over JSON as Go writes it (`api/hasher` in kustomize): keys sorted, `<`, `>` and `&` escaped.
//! The name is not part of it: kustomize looks for a member called `metadata/name`, which no object has.

use super::of_object;
use crate::resource::Resource;
use crate::yaml::{Node, json as convert};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Renames every object that asked for a suffix.
pub(super) fn apply(resources: &mut [Resource]) -> Result<(), String> {
    for resource in resources.iter_mut().filter(|resource| resource.memory.needs_hash) {
        let suffix = suffix(&resource.node).map_err(|cause| of_object(resource, &cause))?;
        resource.store_name();
        let name = format!("{}-{suffix}", resource.id().name);
        resource.set_name(&name);
    }
    Ok(())
}

/// The ten characters for an object's content.
pub(crate) fn suffix(node: &Node) -> Result<String, String> {
    let kind = crate::id::text_at(node, "kind");
    let members: &[&str] = match kind {
        "ConfigMap" => &["binaryData", "data", "kind", "name"],
        "Secret" => &["data", "kind", "name", "stringData", "type"],
        other => {
            return Err(format!("a {other} cannot have a hash suffix; only ConfigMaps and Secrets can"));
        }
    };
    let mut text = String::from("{");
    for member in members {
        let value = match *member {
            "kind" => Value::String(kind.to_owned()),
            "name" => Value::String(String::new()),
            key => match content(node, key)? {
                // What may be left out is left out, unless it is a mapping.
                value if matches!(key, "binaryData" | "stringData") && !value.is_object() => {
                    continue;
                }
                value => value,
            },
        };
        if text.len() > 1 {
            text.push(',');
        }
        go_string(&mut text, member);
        text.push(':');
        go_json(&mut text, &value);
    }
    text.push('}');
    let digest = Sha256::digest(text.as_bytes());
    let mut hex = String::new();
    for byte in &digest[..5] {
        let _ = write!(hex, "{byte:02x}");
    }
    // Characters that could spell words are replaced.
    Ok(hex
        .chars()
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            other => other,
        })
        .collect())
}

fn content(node: &Node, key: &str) -> Result<Value, String> {
    match node.get(key) {
        None => Ok(Value::String(String::new())),
        Some(Node::Scalar(scalar)) => Ok(Value::String(scalar.text.as_ref().to_owned())),
        Some(other) => convert::to_value(other).map_err(|fault| fault.to_string()),
    }
}

/// JSON as Go's `encoding/json` writes it.
pub(crate) fn go_json(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => go_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                go_json(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                go_string(out, key);
                out.push(':');
                go_json(out, value);
            }
            out.push('}');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn go_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
