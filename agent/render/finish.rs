//! The last touches to an object before it is planned for: whose it is, where it goes, and what must not be sent.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::scope::is_cluster_wide;
use crate::config::Kustomization;

/// The label that names the owner. Source: Flux, `kustomize-controller`; a cluster moves between Flux and wickie by it.
pub const OWNER_NAME: &str = "kustomize.toolkit.fluxcd.io/name";
/// The label that names the owner's namespace.
pub const OWNER_NAMESPACE: &str = "kustomize.toolkit.fluxcd.io/namespace";

/// Why a document must not be applied at all. One that is encrypted is none where values are `unread`: nothing is applied
/// then.
pub(super) fn refusal(document: &Value, unread: bool) -> Option<&'static str> {
    let api_version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if api_version.starts_with("helm.toolkit.fluxcd.io/") {
        return Some(
            "a HelmRelease takes Helm on the node: render the chart in the pipeline, and commit the manifests",
        );
    }
    if unread || super::decrypt::is_left(document) {
        return None;
    }
    if document.get("sops").is_some_and(|sops| sops.get("mac").is_some()) {
        return Some(
            "it is encrypted with SOPS, and spec.decryption is not configured: as it stands it would be applied encrypted",
        );
    }
    // Its metadata were lost on the way, in a List perhaps.
    let sealed = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("ENC[AES256_GCM,"));
    let mut texts = ["data", "stringData"].into_iter().filter_map(|key| document.get(key)?.as_object());
    if document.get("kind") == Some(&"Secret".into()) && texts.any(|texts| texts.values().any(sealed)) {
        return Some(
            "it holds values that are encrypted with SOPS, and no metadata to decrypt them with: let each object be a document of its own",
        );
    }
    None
}

/// Whether an object with these labels is one of Flux's own components, as `flux bootstrap` commits them.
pub fn is_flux_component<'a>(label: impl Fn(&str) -> Option<&'a str>) -> bool {
    label("app.kubernetes.io/part-of") == Some("flux") && label("app.kubernetes.io/instance").is_some()
}

/// Marks an object as `kustomization`'s.
pub(super) fn finish(document: &mut Value, kustomization: &Kustomization) {
    let Some(object) = document.as_object_mut() else { return };
    // Status is the controllers'; a creation time is the server's.
    object.remove("status");
    encode_string_data(object);
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let cluster_wide = is_cluster_wide(group, &kind);
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("creationTimestamp");
    if cluster_wide {
        metadata.remove("namespace");
    }
    add_texts(metadata, "annotations", kustomization.annotations.iter());
    add_texts(metadata, "labels", kustomization.labels.iter());
    let owner = [(OWNER_NAME, &kustomization.name.name), (OWNER_NAMESPACE, &kustomization.name.namespace)];
    add_texts(metadata, "labels", owner.into_iter());
}

fn add_texts<'a>(
    metadata: &mut Map<String, Value>,
    key: &str,
    texts: impl ExactSizeIterator<Item = (impl ToString, &'a String)>,
) {
    if texts.len() == 0 {
        return;
    }
    let entry = metadata.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    if let Some(entries) = entry.as_object_mut() {
        entries.extend(texts.map(|(name, value)| (name.to_string(), value.clone().into())));
    }
}

/// `stringData` of a Secret becomes `data`: it is write-only, and a field that never comes back looks like drift.
fn encode_string_data(object: &mut Map<String, Value>) {
    if object.get("kind") != Some(&"Secret".into()) || object.get("apiVersion") != Some(&"v1".into()) {
        return;
    }
    let Some(Value::Object(texts)) = object.remove("stringData") else { return };
    let data = object.entry("data").or_insert(Value::Null);
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    if let Some(data) = data.as_object_mut() {
        for (key, value) in texts {
            let encoded = match value.as_str() {
                Some(text) => base64::engine::general_purpose::STANDARD.encode(text).into(),
                // Not a text: sent as it is, for the API server to refuse with its own words.
                None => value,
            };
            data.insert(key, encoded);
        }
    }
}
