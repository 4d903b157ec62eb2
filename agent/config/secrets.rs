//! Secrets and ConfigMaps that declared objects name: from files beside them, or from the cluster.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use serde_json::Value;
use wickie_model::{Gvk, ObjectId, ResourceName};

use super::Invalid;
use crate::cluster::{ApiError, Cluster, Kind};

/// Which Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named(pub ResourceName);

impl Named {
    /// The Secret `name` in `namespace`.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self(ResourceName::new(namespace, name))
    }
}

/// What kind of object a Kustomization takes values from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValuesKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A ConfigMap or Secret that a Kustomization takes values from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValuesName {
    /// Which of the two.
    pub kind: ValuesKind,
    /// Its namespace and name.
    pub name: ResourceName,
}

impl ValuesKind {
    /// The kind, as Kubernetes has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The name of its collection in the API.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }
}

impl fmt::Display for ValuesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// Secrets by name, as far as they are there.
pub type Secrets = BTreeMap<Named, SecretData>;

/// A Secret's entries. They do not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretData(BTreeMap<String, Vec<u8>>);

impl SecretData {
    /// A Secret with these entries.
    pub fn new(entries: BTreeMap<String, Vec<u8>>) -> Self {
        Self(entries)
    }

    /// Reads `data` and `stringData` of a Secret's document; `stringData` wins, as in the API.
    pub fn from_document(document: &Value) -> Result<Self, Invalid> {
        let mut entries = BTreeMap::new();
        for (key, value) in object(document, "data") {
            let text = value.as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
            // The error must not repeat the value.
            let bytes = bytes.map_err(|_| Invalid::field(format!("data[{key}]"), "is not base64"))?;
            entries.insert(key.clone(), bytes);
        }
        for (key, value) in object(document, "stringData") {
            let text = value.as_str().ok_or_else(|| Invalid::field(format!("stringData[{key}]"), "is not a text"))?;
            entries.insert(key.clone(), text.as_bytes().to_vec());
        }
        Ok(Self(entries))
    }

    /// Reads `data` of a ConfigMap's document. `binaryData` holds no values for Flux, and none here.
    pub fn from_config_map(document: &Value) -> Result<Self, Invalid> {
        let entry = |(key, value): (&String, &Value)| {
            let text = value.as_str().ok_or_else(|| Invalid::field(format!("data[{key}]"), "is not a text"))?;
            Ok((key.clone(), text.as_bytes().to_vec()))
        };
        object(document, "data").map(entry).collect::<Result<_, Invalid>>().map(Self)
    }

    /// The entry `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// All entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// All entries, by name, owned.
    pub fn entries(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.0.clone().into_iter()
    }
}

/// A Secret of the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It could not be had.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It is no Secret that can be used.
    #[error("Secret/{0}: {1}")]
    Invalid(ResourceName, Invalid),
}

/// Reads a Secret of the cluster; nothing where it is not there.
pub async fn read_secret(cluster: &Cluster, name: &Named) -> Result<Option<SecretData>, SecretError> {
    let kind = Kind::new(Gvk::new("v1", "Secret"), "secrets", true);
    let id = ObjectId::new("", "Secret", name.0.namespace.clone(), name.0.name.clone());
    let Some(object) = cluster.get(&kind, &id).await? else { return Ok(None) };
    SecretData::from_document(&object).map(Some).map_err(|error| SecretError::Invalid(name.0.clone(), error))
}

fn object<'a>(document: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    document.get(key).and_then(Value::as_object).into_iter().flatten()
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn string_data_wins_and_values_do_not_print() {
        let secret = SecretData::from_document(&json!({"data": {"a": "b2xk"}, "stringData": {"a": "new"}})).unwrap();
        assert_eq!(secret.get("a"), Some(&b"new"[..]));
        assert_eq!(format!("{secret:?}"), r#"{"a"}"#);
        let error = SecretData::from_document(&json!({"data": {"a": "hunter2!"}})).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
