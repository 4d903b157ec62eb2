//! What is noticed of an object as it arrives: who it is and whose, a digest of its metadata, and how healthy it is.
//!
//! Most of what arrives says nothing new: a status was written. So the text of an object is taken apart no further than
//! is needed to see that; only metadata that reads otherwise than the last time is put into the canonical form, of which
//! the fingerprints are made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use wickie_model::{Digest, Fingerprint, Gvk, Hasher, ObjectId, ResourceName, Verdict};
use wickie_plan::drift::Manager;
use wickie_plan::{HealthRule, HealthRules, drift, health};

use super::live::Judges;
use crate::cluster::MANAGER;
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
    /// Nothing that counts is other than it was seen before: see [`Live::absorb`](super::live::Live::absorb).
    pub(super) known: bool,
    noted: Noted,
}

/// What an object looks like.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    /// See [`drift::metadata_digest`].
    pub(super) metadata: Digest,
    /// Its fingerprint, where all of it was seen and others write to it, too: that moves its metadata, and this tells
    /// whether it moved anything of ours.
    pub(super) fingerprint: Option<Rc<Fingerprint>>,
}

/// The looks of what was noticed.
enum Noted {
    Digested(Looks),
    /// The text, and whether it is the whole object.
    Text(Text, bool),
}

impl Arrived for Option<Noticed> {
    fn version(&self) -> Option<Cow<'_, str>> {
        self.as_ref().map(|noticed| noticed.version.to_string().into())
    }

    fn is_news(&self) -> bool {
        self.as_ref().is_some_and(|noticed| !noticed.known)
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
        let id = ObjectId::new(gvk.group.clone(), gvk.kind.clone(), field("namespace")?, field("name")?);
        let owner = ResourceName::new(label(OWNER_NAMESPACE), label(OWNER_NAME));
        let verdict = judges.map(|judges| {
            let rules = judges.get(&owner).map(|kustomization| &kustomization.health_rules);
            verdict(gvk, &text, &fields, rules)
        });
        let version = field("resourceVersion")?.parse().unwrap_or(0);
        let reads = reads(&fields)?;
        let whole = judges.is_some();
        let noted = match arrival {
            // A list may be long: no text of it is kept.
            Arrival::Listed => Noted::Digested(text.looks(whole)?),
            Arrival::Event | Arrival::Gone => Noted::Text(text, whole),
        };
        Some(Self { id, owner, version, verdict, reads, known: false, noted })
    }

    /// What it looks like. `before` is what its metadata read as the last time, and what it looked like then.
    pub(super) fn looks(&self, before: Option<(Digest, &Looks)>) -> Option<Looks> {
        match (&self.noted, before) {
            (Noted::Digested(looks), _) => Some(looks.clone()),
            (Noted::Text(..), Some((reads, looks))) if reads == self.reads => Some(looks.clone()),
            (Noted::Text(text, whole), _) => text.looks(*whole),
        }
    }
}

impl Text {
    fn looks(&self, whole: bool) -> Option<Looks> {
        let metadata: Value = serde_json::from_str(self.0.get("metadata")?.get()).ok()?;
        let fingerprint = match whole && drift::is_shared(&metadata, Manager(MANAGER)) {
            true => drift::fingerprint(&Value::Object(self.all()), Manager(MANAGER), &[]).map(Rc::new),
            false => None,
        };
        Some(Looks { metadata: drift::metadata_digest(&metadata), fingerprint })
    }

    fn all(&self) -> Map<String, Value> {
        self.0.iter().map(|(name, raw)| (name.clone(), value(raw))).collect()
    }
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
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
    let rule: Option<&HealthRule> = rules.and_then(|rules| rules.of(&gvk.group, &gvk.kind));
    let all = rule.is_some();
    let some = |fields: &BTreeMap<&str, &RawValue>, named: &[&str]| {
        let named = named.iter().filter_map(|name| Some(((*name).to_owned(), value(fields.get(name)?))));
        Value::Object(named.collect())
    };
    let object: Map<String, Value> = match all {
        true => text.all(),
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
        for arrival in [Arrival::Listed, Arrival::Event] {
            let looks = noticed(&object, arrival).unwrap().looks(None).unwrap();
            assert_eq!(looks.metadata, digest);
        }
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
            let before = Looks { metadata: Digest::of(b"before"), fingerprint: None };
            let looks = noticed.looks(Some((first, &before))).unwrap();
            assert_eq!(looks.metadata, drift::metadata_digest(&object["metadata"]));
        }
    }

    /// The controller of Deployments annotates each of them: such an object need not be read to see that nothing of ours moved.
    #[test]
    fn what_others_write_to_has_a_fingerprint() {
        let mut object = object();
        let print = drift::fingerprint(&object, Manager(MANAGER), &[]).unwrap();
        for arrival in [Arrival::Listed, Arrival::Event] {
            let looks = noticed(&object, arrival).unwrap().looks(None).unwrap();
            assert_eq!(looks.fingerprint.as_deref(), Some(&print));
        }
        let text = serde_json::from_str(&object.to_string()).unwrap();
        let metadata_alone = Noticed::read(&Gvk::new("apps/v1", "Deployment"), text, Arrival::Event, None).unwrap();
        assert_eq!(metadata_alone.looks(None).unwrap().fingerprint, None);
        object["metadata"]["managedFields"].as_array_mut().unwrap().pop();
        let ours_alone = noticed(&object, Arrival::Event).unwrap().looks(None).unwrap();
        assert_eq!(ours_alone.fingerprint, None, "its metadata tells all there is to tell");
    }

    #[test]
    fn what_carries_no_labels_is_not_noticed() {
        for object in [json!({}), json!({"metadata": {"name": "till"}}), json!({"metadata": 7})] {
            assert!(noticed(&object, Arrival::Event).is_none());
        }
    }
}
