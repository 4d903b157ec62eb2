//! `buildMetadata`: where an object came from and what changed it, as annotations.
//!
//! The texts are YAML as kustomize's `resource.Origin` marshals it.

use crate::yaml::{Node, to_yaml};
use serde_json::{Map, Value, json};

pub(crate) const ORIGIN: &str = "config.kubernetes.io/origin";
pub(crate) const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";

/// Where an object or a change came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The file, relative to the folder that the build started from.
    pub(crate) path: String,
    /// The file that configures the generator or transformer.
    pub(crate) configured_in: String,
    /// Which one it was.
    pub(crate) configured_by: Option<ConfiguredBy>,
}

/// The generator or transformer behind an object or a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConfiguredBy {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

impl Origin {
    /// A field of a kustomization.
    pub(crate) fn built_in(file: &str, kind: &str) -> Origin {
        Origin {
            path: String::new(),
            configured_in: file.to_owned(),
            configured_by: Some(ConfiguredBy {
                api_version: "builtin".to_owned(),
                kind: kind.to_owned(),
                ..ConfiguredBy::default()
            }),
        }
    }

    fn value(&self) -> Value {
        let mut members = Map::new();
        let mut put = |key: &str, text: &str| {
            if !text.is_empty() {
                members.insert(key.to_owned(), json!(text));
            }
        };
        put("path", &self.path);
        put("configuredIn", &self.configured_in);
        if let Some(by) = &self.configured_by {
            let mut inner = Map::new();
            for (key, text) in
                [("apiVersion", &by.api_version), ("kind", &by.kind), ("name", &by.name), ("namespace", &by.namespace)]
            {
                if !text.is_empty() {
                    inner.insert(key.to_owned(), json!(text));
                }
            }
            members.insert("configuredBy".to_owned(), Value::Object(inner));
        }
        Value::Object(members)
    }
}

/// The annotation for one origin.
pub(crate) fn origin_text(origin: &Origin) -> Node {
    Node::text(ordered(&origin.value()))
}

/// The annotation for a list of changes.
pub(crate) fn transformations_text(transformations: &[Origin]) -> Node {
    let mut text = String::new();
    for origin in transformations {
        for (at, line) in ordered(&origin.value()).lines().enumerate() {
            text.push_str(if at == 0 { "- " } else { "  " });
            text.push_str(line);
            text.push('\n');
        }
    }
    Node::text(text)
}

/// kustomize marshals a struct: `path`, `configuredIn`, `configuredBy` in this order.
fn ordered(value: &Value) -> String {
    ["path", "configuredIn", "configuredBy"]
        .iter()
        .filter_map(|key| Some(to_yaml(&json!({ *key: value.get(*key)? }))))
        .collect()
}
