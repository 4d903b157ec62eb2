//! One object as Git wants it.

use serde_json::Value;

use crate::{Digest, Gvk, ObjectId};

/// One object as it shall be: its id, and the document that is sent to the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    gvk: Gvk,
    id: ObjectId,
    body: Value,
    digest: Digest,
    secret: bool,
}

/// A document that names no object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// The document is a list or a scalar.
    #[error("the document is not an object: it takes apiVersion, kind and metadata")]
    NotAnObject,
    /// A field that names the object is missing or not text.
    #[error("{0} is missing or is not a text")]
    Missing(&'static str),
}

impl Manifest {
    /// Reads who the object is from its document. The namespace is as written: whether the kind has one, only the API knows.
    pub fn new(body: Value) -> Result<Self, ManifestError> {
        if !body.is_object() {
            return Err(ManifestError::NotAnObject);
        }
        let text = |pointer: &str, name: &'static str| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .ok_or(ManifestError::Missing(name))
        };
        let gvk = Gvk::new(text("/apiVersion", "apiVersion")?, text("/kind", "kind")?);
        let name = text("/metadata/name", "metadata.name")?.to_owned();
        let namespace = match body.pointer("/metadata/namespace") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(namespace)) => namespace.clone(),
            Some(_) => return Err(ManifestError::Missing("metadata.namespace")),
        };
        let id = ObjectId::new(gvk.group.clone(), gvk.kind.clone(), namespace, name);
        let digest = Digest::of_json(&body);
        Ok(Self { gvk, id, body, digest, secret: false })
    }

    /// The same for a document that holds a value which no text, log or report may repeat, with a digest from which the
    /// value cannot be guessed.
    pub fn with_secrets(self, digest: Digest) -> Self {
        Self { digest, secret: true, ..self }
    }

    /// Whether the document holds such a value. A Secret does, wherever it comes from.
    pub fn holds_secrets(&self) -> bool {
        self.secret || (self.gvk.group.is_empty() && self.gvk.kind == "Secret")
    }

    /// Group, version and kind, as written.
    pub fn gvk(&self) -> &Gvk {
        &self.gvk
    }

    /// Which object.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// The document.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// The document, owned.
    pub fn into_body(self) -> Value {
        self.body
    }

    /// The digest of the document; see [`Manifest::with_secrets`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.body.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.body.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    /// The value of `key` as a label or, failing that, as an annotation: Flux takes its marks from either.
    pub fn mark(&self, key: &str) -> Option<&str> {
        self.label(key).or_else(|| self.annotation(key))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_an_object_is_is_read_from_its_document() {
        let body =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "till", "namespace": "shop"}});
        let manifest = Manifest::new(body).unwrap();
        assert_eq!(manifest.id().to_string(), "Deployment/shop/till");
        assert_eq!(manifest.gvk().api_version(), "apps/v1");
    }

    #[test]
    fn what_names_no_object_is_refused() {
        assert_eq!(Manifest::new(json!([])), Err(ManifestError::NotAnObject));
        assert_eq!(Manifest::new(json!({"kind": "Pod"})), Err(ManifestError::Missing("apiVersion")));
        let unnamed = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}});
        assert_eq!(Manifest::new(unnamed), Err(ManifestError::Missing("metadata.name")));
    }
}
