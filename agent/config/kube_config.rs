//! `spec.kubeConfig`: where the kubeconfig stands of the cluster that a Kustomization is for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wickie_model::ResourceName;

use super::Invalid;
use super::flux;
use super::secrets::SecretData;
use crate::store::Record;

/// `spec.kubeConfig.secretRef`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeConfigRef {
    /// The Secret.
    pub secret: ResourceName,
    /// The key in it; nothing: the first of `value` and `value.yaml` that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl KubeConfigRef {
    /// What a Kustomization named `of` says.
    pub(super) fn new(reference: flux::KubeConfig, of: &ResourceName) -> Result<Self, Invalid> {
        match (reference.secret_ref, reference.config_map_ref) {
            (Some(secret), None) => Ok(Self {
                secret: ResourceName::new(&of.namespace, &secret.name),
                key: Some(secret.key).filter(|key| !key.is_empty()),
            }),
            (None, Some(_)) => Err(Invalid::Unsupported {
                field: "spec.kubeConfig.configMapRef".to_owned(),
                way_out: "the agent asks no cloud provider for access: give a kubeconfig with a token or a client certificate in secretRef",
            }),
            _ => Err(Invalid::field(
                "spec.kubeConfig",
                "needs exactly one of secretRef and configMapRef; write secretRef",
            )),
        }
    }

    /// That of a Kustomization in `namespace`, from its spec, which may not be valid otherwise.
    pub fn in_spec(spec: &Value, namespace: &str) -> Option<Self> {
        let secret = spec.pointer("/kubeConfig/secretRef")?;
        let read = |key: &str| secret.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Self { secret: ResourceName::new(namespace, read("name")?), key: read("key").map(str::to_owned) })
    }

    /// That of a Kustomization as it was last seen.
    pub fn in_record(record: &Record) -> Option<Self> {
        Self::in_spec(&record.seen.as_ref()?.value(), &record.resource.name.namespace)
    }

    /// The kubeconfig in the Secret's entries.
    ///
    /// # Errors
    ///
    /// The key that is missing. Source: fluxcd/pkg, `runtime/client/impersonator.go`, `getRESTConfigFromSecret`.
    pub fn of<'a>(&self, entries: &'a SecretData) -> Result<&'a [u8], &str> {
        match &self.key {
            Some(key) => entries.get(key).ok_or(key),
            None => ["value", "value.yaml"].iter().find_map(|key| entries.get(key)).ok_or("value"),
        }
    }
}
