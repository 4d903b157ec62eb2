//! What is noticed of an object as it arrives: who it is and whose, a digest of its metadata, and how healthy it is.
//!
//! Most of what arrives says nothing new: a status was written. So the text of an object is taken apart no further than
//! is needed to see that; only metadata that reads otherwise than the last time is put into the canonical form, of which
//! the fingerprints are made.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use wickie_model::{Digest, Gvk, Hasher, ObjectId, ResourceName, Verdict};
use wickie_plan::{HealthRule, HealthRules, drift, health};

use super::live::Judges;
use crate::cluster::watch::{Arrival, Arrived};
use crate::render::{OWNER_NAME, OWNER_NAMESPACE};

/// An object: the text of each of its fields.
#[derive(Deserialize)]
pub(super) struct Text(BTreeMap<String, Box<RawValue>>);

/// An object that carries our labels, reduced.
pub(super) struct Noticed {
    pub(super) id: ObjectId,
    pub(super) owner: ResourceName,
    /// The version it was seen at.
    pub(super) version: u64,
    /// Its health, where somebody judges it.
    pub(super) verdict: Option<Verdict>,
    /// The digest of the metadata as it reads.
    pub(super) reads: Digest,
    metadata: Metadata,
}

/// The metadata of what was noticed.
enum Metadata {
    Digested(Digest),
    Text(Box<RawValue>),
}

impl Arrived for Option<Noticed> {
    fn version(&self) -> Option<Cow<'_, str>> {
        self.as_ref().map(|noticed| noticed.version.to_string().into())
    }
}

impl Noticed {
    /// Reads an object of a kind. Where `judges` are given, its owner's rules say how healthy it is.
    pub(super) fn read(gvk: &Gvk, text: Text, arrival: Arrival, judges: Option<&Judges>) -> Option<Self> {
        let metadata = text.0.get("metadata")?;
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(metadata.get()).ok()?;
        let field = |name: &str| match fields.get(name) {
            Some(raw) => serde_json::from_str::<String>(raw.get()).ok(),
            None => Some(String::new()),
        };
        let labels: BTreeMap<String, String> = serde_json::from_str(fields.get("labels")?.get()).ok()?;
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let id = ObjectId {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            namespace: field("namespace")?,
            name: field("name")?,
        };
        let owner = ResourceName::new(label(OWNER_NAMESPACE), label(OWNER_NAME));
        let verdict = judges.map(|judges| {
            let rules = judges.get(&owner).map(|kustomization| &kustomization.health_rules);
            verdict(gvk, &text, &fields, rules)
        });
        let version = field("resourceVersion")?.parse().unwrap_or(0);
        let reads = reads(&fields)?;
        let metadata = match arrival {
            // A list may be long: no text of it is kept.
            Arrival::Listed => Metadata::Digested(digest(metadata)?),
            Arrival::Event => Metadata::Text(metadata.clone()),
        };
        Some(Self { id, owner, version, verdict, reads, metadata })
    }

    /// See [`drift::metadata_digest`]. `before` is what the metadata read as the last time, and its digest.
    pub(super) fn metadata(&self, before: Option<(Digest, Digest)>) -> Option<Digest> {
        match (&self.metadata, before) {
            (Metadata::Digested(digest), _) => Some(*digest),
            (Metadata::Text(_), Some((reads, digest))) if reads == self.reads => Some(digest),
            (Metadata::Text(text), _) => digest(text),
        }
    }
}

fn digest(metadata: &RawValue) -> Option<Digest> {
    Some(drift::metadata_digest(&serde_json::from_str(metadata.get()).ok()?))
}

/// An entry of managedFields, as far as it counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields<'t> {
    #[serde(borrow, default)]
    manager: Cow<'t, str>,
    #[serde(borrow, default)]
    operation: Cow<'t, str>,
    #[serde(borrow, default)]
    api_version: Cow<'t, str>,
    #[serde(borrow, default)]
    subresource: Cow<'t, str>,
    #[serde(borrow, rename = "fieldsV1")]
    fields: Option<&'t RawValue>,
}

/// The digest of the text of all that [`drift::metadata_digest`] looks at, and of more.
fn reads(fields: &BTreeMap<&str, &RawValue>) -> Option<Digest> {
    let mut hasher = Hasher::default();
    for (name, text) in fields.iter().filter(|(name, _)| !matches!(**name, "resourceVersion" | "managedFields")) {
        hasher.field(name.as_bytes());
        hasher.field(text.get().as_bytes());
    }
    let managed: Vec<ManagedFields> = match fields.get("managedFields") {
        Some(text) => serde_json::from_str(text.get()).ok()?,
        None => Vec::new(),
    };
    for entry in managed.iter().filter(|entry| entry.subresource != "status") {
        for text in [&entry.manager, &entry.operation, &entry.api_version, &entry.subresource] {
            hasher.field(text.as_bytes());
        }
        hasher.field(entry.fields.map(RawValue::get).unwrap_or_default().as_bytes());
    }
    Some(hasher.finish())
}

/// How healthy an object is. A rule of its owner's sees all of it; the built-in ones look at no more than what is read here.
fn verdict(gvk: &Gvk, text: &Text, metadata: &BTreeMap<&str, &RawValue>, rules: Option<&HealthRules>) -> Verdict {
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap_or_default();
    let rule: Option<&HealthRule> = rules.and_then(|rules| rules.of(&gvk.group, &gvk.kind));
    let all = rule.is_some();
    let some = |fields: &BTreeMap<&str, &RawValue>, named: &[&str]| {
        let named = named.iter().filter_map(|name| Some(((*name).to_owned(), value(fields.get(name)?))));
        Value::Object(named.collect())
    };
    let object: Map<String, Value> = match all {
        true => text.0.iter().map(|(name, raw)| (name.clone(), value(raw))).collect(),
        false => {
            let field = |name: &str| text.0.get(name).map(|raw| &**raw);
            let spec = field("spec").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
            let parts = [
                ("metadata", some(metadata, &["deletionTimestamp", "generation"])),
                ("spec", some(&spec, &health::SPEC)),
                ("status", field("status").map(value).unwrap_or_default()),
            ];
            parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect()
        }
    };
    let object = Value::Object(object);
    match rules {
        Some(rules) => rules.health(&gvk.group, &gvk.kind, &object),
        None => HealthRules::default().health(&gvk.group, &gvk.kind, &object),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "till", "namespace": "shop", "uid": "7", "generation": 2, "resourceVersion": "41",
                "labels": {OWNER_NAME: "apps", OWNER_NAMESPACE: "flux-system", "a": "ü"},
                "managedFields": [
                    {"manager": "wickie", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
                     "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                    {"manager": "kube", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}
                ]
            },
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}
        })
    }

    fn noticed(object: &Value, arrival: Arrival) -> Option<Noticed> {
        let text = serde_json::from_str(&object.to_string()).unwrap();
        Noticed::read(&Gvk::new("apps/v1", "Deployment"), text, arrival, Some(&Judges::new()))
    }

    #[test]
    fn it_is_what_the_whole_object_says() {
        let object = object();
        for arrival in [Arrival::Listed, Arrival::Event] {
            let noticed = noticed(&object, arrival).unwrap();
            assert_eq!(noticed.id.to_string(), "Deployment/shop/till");
            assert_eq!((noticed.owner, noticed.version), (ResourceName::new("flux-system", "apps"), 41));
            assert_eq!(noticed.verdict.unwrap(), wickie_plan::health::health("apps", "Deployment", &object));
        }
        let digest = drift::metadata_digest(&object["metadata"]);
        assert_eq!(noticed(&object, Arrival::Listed).unwrap().metadata(None), Some(digest));
        assert_eq!(noticed(&object, Arrival::Event).unwrap().metadata(None), Some(digest));
    }

    #[test]
    fn a_status_reads_as_before_and_every_other_change_does_not() {
        let first = noticed(&object(), Arrival::Event).unwrap().reads;
        let same: [fn(&mut Value); 3] = [
            |it| it["metadata"]["resourceVersion"] = json!("42"),
            |it| it["metadata"]["managedFields"][0]["time"] = json!("2026-01-01T00:00:01Z"),
            |it| it["metadata"]["managedFields"][1]["fieldsV1"] = json!({"f:status": {"f:replicas": {}}}),
        ];
        for change in same {
            let mut object = object();
            change(&mut object);
            assert_eq!(noticed(&object, Arrival::Event).unwrap().reads, first, "{object:#}");
        }
        let other: [fn(&mut Value); 7] = [
            |it| it["metadata"]["generation"] = json!(3),
            |it| it["metadata"]["labels"]["a"] = json!("u"),
            |it| it["metadata"]["annotations"] = json!({"a": "b"}),
            |it| it["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z"),
            |it| it["metadata"]["managedFields"][0]["manager"] = json!("other"),
            |it| it["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {}}),
            |it| it["metadata"]["managedFields"][0]["subresource"] = json!("scale"),
        ];
        for change in other {
            let mut object = object();
            change(&mut object);
            let noticed = noticed(&object, Arrival::Event).unwrap();
            assert_ne!(noticed.reads, first, "{object:#}");
            let before = Some((first, Digest::of(b"before")));
            assert_eq!(noticed.metadata(before), Some(drift::metadata_digest(&object["metadata"])));
        }
    }

    #[test]
    fn what_carries_no_labels_is_not_noticed() {
        for object in [json!({}), json!({"metadata": {"name": "till"}}), json!({"metadata": 7})] {
            assert!(noticed(&object, Arrival::Event).is_none());
        }
    }
}
