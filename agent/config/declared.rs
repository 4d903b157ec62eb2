//! An object as it was written, before anybody has looked into its spec.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use wickie_model::{Digest, JsonText, Resource, ResourceKind, ResourceName};

use super::Invalid;
use crate::store::Origin;

/// Annotations and labels that wickie reads on the objects it is told by.
pub mod annotation {
    /// Asks for a reconciliation: a new value is a new request. Source: `fluxcd/pkg/apis/meta`.
    pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
    /// Opts an object in where wickie did not install the CRDs; a label.
    pub const MANAGED: &str = "wickie.dev/managed";
    /// Our finalizer: a deleted Kustomization stays until its objects are dealt with.
    pub const FINALIZER: &str = "wickie.dev/finalizer";
    /// The prefix of what Flux has no field for.
    pub const PREFIX: &str = "wickie.dev/";
    /// [`wickie_plan::Policy::prune_limit`].
    pub const PRUNE_LIMIT: &str = "wickie.dev/prune-limit";
    /// [`wickie_plan::Policy::prune_approved`].
    pub const PRUNE_APPROVE: &str = "wickie.dev/prune-approve";
    /// [`wickie_plan::course::OnUnhealthy`].
    pub const ON_UNHEALTHY: &str = "wickie.dev/on-unhealthy";
    /// How many snapshots of a source are kept.
    pub const HISTORY: &str = "wickie.dev/history";
    /// The prefix of the two that spare a link.
    pub const FETCH: &str = "wickie.dev/fetch-";
    /// [`wickie_model::Windows`] in which a source is asked for news.
    pub const FETCH_WINDOW: &str = "wickie.dev/fetch-window";
    /// [`wickie_model::Budget`] of a source.
    pub const FETCH_BUDGET: &str = "wickie.dev/fetch-budget";
    /// [`wickie_model::Windows`] in which changes are made.
    pub const APPLY_WINDOW: &str = "wickie.dev/apply-window";
    /// Whether drift is repaired outside of them, too.
    pub const DRIFT_WINDOW: &str = "wickie.dev/drift-window";
    /// [`wickie_plan::Mode`].
    pub const MODE: &str = "wickie.dev/mode";
    /// [`crate::config::MaxAge`]
    pub const MAX_AGE: &str = "wickie.dev/max-age";
}

/// One of the kinds that wickie is told by, as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Which object.
    pub resource: Resource,
    /// Where it was written.
    pub origin: Origin,
    /// Its uid; empty where it comes from a file.
    pub uid: String,
    /// Its generation; 0 where it comes from a file, which has none of its own.
    pub generation: i64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Whether its deletion was asked for.
    pub deleting: bool,
    /// Its spec, unread.
    pub spec: JsonText,
    /// Its status, as the cluster has it.
    pub status: JsonText,
}

impl Declared {
    /// Reads the outer form of a document of one of wickie's kinds. `namespace` is for objects that name none.
    pub fn new(kind: ResourceKind, document: &Value, origin: Origin, namespace: &str) -> Result<Self, Invalid> {
        let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if version != kind.api_version() {
            let why = format!("{version:?} is not a version that wickie reads: write {}", kind.api_version());
            return Err(Invalid::field("apiVersion", why));
        }
        let empty = Map::new();
        let metadata = document.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = text("name").ok_or_else(|| Invalid::field("metadata.name", "is missing"))?;
        let finalizers = metadata.get("finalizers").and_then(Value::as_array);
        Ok(Self {
            resource: Resource::new(kind, ResourceName::new(text("namespace").unwrap_or(namespace), name)),
            origin,
            uid: text("uid").unwrap_or_default().to_owned(),
            generation: metadata.get("generation").and_then(Value::as_i64).unwrap_or(0),
            labels: texts(metadata, "labels")?,
            annotations: texts(metadata, "annotations")?,
            finalizers: finalizers.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            deleting: text("deletionTimestamp").is_some(),
            spec: document.get("spec").unwrap_or(&Value::Null).into(),
            status: document.get("status").unwrap_or(&Value::Null).into(),
        })
    }

    /// The digest of all that a change of means work: the spec and the annotations of ours.
    pub fn digest(&self) -> Digest {
        let ours = self.annotations.iter().filter(|(key, _)| key.starts_with(annotation::PREFIX));
        let ours: Map<String, Value> = ours.map(|(key, value)| (key.clone(), value.clone().into())).collect();
        Digest::of_json(&Value::from_iter([("spec", self.spec.value()), ("annotations", ours.into())]))
    }

    /// Whether `spec.suspend` is set.
    pub fn suspended(&self) -> bool {
        self.spec.pointer("/suspend") == Some(Value::Bool(true))
    }

    /// The value of the annotation that asks for a reconciliation.
    pub fn requested_at(&self) -> Option<&str> {
        self.annotations.get(annotation::REQUESTED_AT).map(String::as_str)
    }

    /// Refuses annotations with our prefix that nobody reads: a misspelt safeguard must not be a silent one.
    pub(crate) fn check_annotations(&self, known: &[&str]) -> Result<(), Invalid> {
        let unknown = |key: &&String| key.starts_with(annotation::PREFIX) && !known.contains(&key.as_str());
        match self.annotations.keys().find(unknown) {
            Some(key) => Err(Invalid::Unknown { field: format!("metadata.annotations[{key}]") }),
            None => Ok(()),
        }
    }
}

fn texts(metadata: &Map<String, Value>, key: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let Some(Value::Object(entries)) = metadata.get(key) else { return Ok(BTreeMap::new()) };
    entries
        .iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) => Ok((name.clone(), text.to_owned())),
            None => Err(Invalid::field(format!("metadata.{key}[{name}]"), "is not a text; put it in quotes")),
        })
        .collect()
}
