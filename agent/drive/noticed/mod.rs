//! What is noticed of an object as it arrives: who it is and whose, a digest of its metadata, and how healthy it is.
//!
//! Most of what arrives says nothing new: a status was written. So the text of an object is taken apart no further than
//! is needed to see that; only metadata that reads otherwise than the last time is put into the canonical form, of which
//! the fingerprints are made.

mod parts;

use std::borrow::Cow;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wickie_model::{Digest, Fingerprint, Gvk, Hasher, ObjectId, ResourceName, Verdict};
use wickie_plan::drift::Manager;
use wickie_plan::{HealthRules, drift, health};

use self::parts::Fields;
pub(super) use self::parts::Parts;
use super::live::Judges;
use crate::cluster::MANAGER;
use crate::cluster::watch::Arrived;
use crate::render::{OWNER_NAME, OWNER_NAMESPACE};

/// The text of an object.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text(Box<RawValue>);

/// An object that carries our labels, reduced.
pub(super) struct Noticed {
    pub(super) id: ObjectId,
    pub(super) owner: ResourceName,
    /// The version it was seen at.
    pub(super) version: u64,
    pub(super) reads: Reads,
    /// What it looks like; nothing where that was not asked for: see [`Noticed::complete`].
    pub(super) looks: Option<Looks>,
    /// Its health, where it was judged.
    pub(super) verdict: Option<Verdict>,
    /// Nothing that counts is other than it was seen before: see [`Live::absorb`](super::live::Live::absorb).
    pub(super) known: bool,
}

/// How the text of an object reads, apart from what makes no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reads {
    metadata: Mark,
    /// What it is judged by beside that; the same for all where nobody judges it.
    health: Mark,
}

/// Half of a digest: it is held against the one before it, and against nothing else.
type Mark = [u8; 16];

/// What an object looks like.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    /// See [`drift::metadata_digest`].
    pub(super) metadata: Digest,
    /// Its fingerprint, where all of it was seen and others write to it, too: that moves its metadata, and this tells
    /// whether it moved anything of ours.
    pub(super) fingerprint: Option<Rc<Fingerprint>>,
}

impl Arrived for Option<Noticed> {
    fn version(&self) -> Option<Cow<'_, str>> {
        self.as_ref().map(|noticed| noticed.version.to_string().into())
    }

    fn place(&self) -> Option<ResourceName> {
        self.as_ref().map(|noticed| ResourceName::new(noticed.id.namespace.clone(), noticed.id.name.clone()))
    }

    fn is_news(&self) -> bool {
        self.as_ref().is_some_and(|noticed| !noticed.known)
    }
}

impl Noticed {
    /// Reads of an object of a kind who it is, whose, and how it reads; `judges` where its health matters.
    pub(super) fn read(gvk: &Gvk, (text, parts): (&Text, &Parts<'_>), judges: Option<&Judges>) -> Option<Self> {
        let field = |name| parts.metadata.fields.text(name);
        let labels = Fields::of(parts.metadata.fields.get("labels")?)?;
        let id = ObjectId::new(gvk.group.clone(), gvk.kind.clone(), field("namespace")?, field("name")?);
        let owner = ResourceName::new(labels.text(OWNER_NAMESPACE)?, labels.text(OWNER_NAME)?);
        let version = field("resourceVersion")?.parse().unwrap_or(0);
        let health = judges.map_or(Mark::default(), |judges| Judge::of(judges, &owner, gvk).mark(text, parts));
        let reads = Reads { metadata: parts.metadata.mark(), health };
        Some(Self { id, owner, version, reads, looks: None, verdict: None, known: false })
    }

    /// The rest of it: what it looks like, and how healthy it is. `before` is how it read when it was seen before, and
    /// what it looked like then. Tells whether it can be read.
    pub(super) fn complete(
        &mut self,
        gvk: &Gvk,
        (text, parts): (&Text, &Parts<'_>),
        judges: Option<&Judges>,
        before: Option<(Reads, Looks)>,
    ) -> bool {
        self.verdict = judges.map(|judges| Judge::of(judges, &self.owner, gvk).verdict(text, parts));
        let same = before.filter(|(reads, _)| reads.metadata == self.reads.metadata);
        self.looks = same.map(|(_, looks)| looks).or_else(|| text.looks(judges.is_some()));
        self.looks.is_some()
    }
}

impl Text {
    fn looks(&self, whole: bool) -> Option<Looks> {
        #[derive(Deserialize)]
        struct Part {
            metadata: Value,
        }
        let Part { metadata } = serde_json::from_str(self.0.get()).ok()?;
        let fingerprint = match whole && drift::is_shared(&metadata, Manager(MANAGER)) {
            true => drift::fingerprint(&value(&self.0), Manager(MANAGER), &[]).map(Rc::new),
            false => None,
        };
        Some(Looks { metadata: drift::metadata_digest(&metadata), fingerprint })
    }
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn mark(hasher: Hasher) -> Mark {
    let digest = hasher.finish();
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// By what the objects of a kind and an owner are judged.
struct Judge<'r> {
    gvk: &'r Gvk,
    rules: Option<&'r HealthRules>,
    /// A rule of the owner's sees all of an object; the built-in ones look at no more than what is named beside them.
    sees_all: bool,
}

impl<'r> Judge<'r> {
    fn of(judges: &'r Judges, owner: &ResourceName, gvk: &'r Gvk) -> Self {
        let rules = judges.get(owner).map(|kustomization| &kustomization.health_rules);
        Self { gvk, rules, sees_all: rules.is_some_and(|rules| rules.of(&gvk.group, &gvk.kind).is_some()) }
    }

    /// As long as it stays, so does the verdict, where metadata reads as before: the digest of the text of all that the
    /// built-in rules look at beside that, and of more. Of what a rule sees that sees all, it is that of the verdict itself.
    fn mark(&self, text: &Text, parts: &Parts<'_>) -> Mark {
        let mut hasher = Hasher::default();
        if self.sees_all {
            let Verdict { health, message } = self.verdict(text, parts);
            [format!("{health:?}"), message].iter().for_each(|text| hasher.field(text.as_bytes()));
            return mark(hasher);
        }
        hasher.field(parts.spec.map_or("", RawValue::get).as_bytes());
        match parts.status.and_then(Fields::of) {
            Some(status) => {
                for (name, raw) in status.0 {
                    match conditions(name, raw) {
                        Some(conditions) => conditions.iter().for_each(|condition| condition.add_to(&mut hasher)),
                        None => [name, raw.get()].iter().for_each(|text| hasher.field(text.as_bytes())),
                    }
                }
            }
            None => hasher.field(parts.status.map_or("", RawValue::get).as_bytes()),
        }
        mark(hasher)
    }

    fn verdict(&self, text: &Text, parts: &Parts<'_>) -> Verdict {
        let object = match self.sees_all {
            true => value(&text.0),
            false => json!({
                "metadata": parts.metadata.fields.only(&["deletionTimestamp", "generation"]),
                "spec": parts.spec.and_then(Fields::of).unwrap_or_default().only(&health::SPEC),
                "status": parts.status.map(value).unwrap_or_default(),
            }),
        };
        let Gvk { group, kind, .. } = self.gvk;
        match self.rules {
            Some(rules) => rules.health(group, kind, &object),
            None => health::health(group, kind, &object),
        }
    }
}

/// The conditions that the built-in rules look at, where a field of a status holds conditions.
fn conditions<'t>(name: &str, raw: &'t RawValue) -> Option<Vec<Condition<'t>>> {
    let all: Vec<Condition<'_>> =
        if name == "conditions" { serde_json::from_str(raw.get()).ok()? } else { return None };
    Some(all.into_iter().filter(|condition| health::CONDITIONS.contains(&&*condition.type_)).collect())
}

/// A condition, as far as the built-in rules look at one.
#[derive(Deserialize)]
struct Condition<'t> {
    #[serde(borrow, rename = "type")]
    type_: Cow<'t, str>,
    #[serde(borrow, default)]
    status: Cow<'t, str>,
    #[serde(borrow, default)]
    reason: Cow<'t, str>,
    #[serde(borrow, default)]
    message: Cow<'t, str>,
}

impl Condition<'_> {
    fn add_to(&self, hasher: &mut Hasher) {
        for text in [&self.type_, &self.status, &self.reason, &self.message] {
            hasher.field(text.as_bytes());
        }
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

    fn gvk() -> Gvk {
        Gvk::new("apps/v1", "Deployment")
    }

    /// As it is noticed where it was seen like that `before`, whole or its metadata alone.
    fn seen(object: &Value, whole: bool, before: Option<(Reads, Looks)>) -> Option<Noticed> {
        let text = serde_json::from_str(&object.to_string()).unwrap();
        let parts = Parts::of(&text)?;
        let judges = Judges::new();
        let judges = whole.then_some(&judges);
        let mut noticed = Noticed::read(&gvk(), (&text, &parts), judges)?;
        noticed.complete(&gvk(), (&text, &parts), judges, before).then_some(noticed)
    }

    fn noticed(object: &Value) -> Option<Noticed> {
        seen(object, true, None)
    }

    #[test]
    fn it_is_what_the_whole_object_says() {
        let object = object();
        let noticed = noticed(&object).unwrap();
        assert_eq!(noticed.id.to_string(), "Deployment/shop/till");
        assert_eq!((noticed.owner, noticed.version), (ResourceName::new("flux-system", "apps"), 41));
        assert_eq!(noticed.verdict.unwrap(), health::health("apps", "Deployment", &object));
        assert_eq!(noticed.looks.unwrap().metadata, drift::metadata_digest(&object["metadata"]));
    }

    #[test]
    fn only_what_a_verdict_looks_at_reads_otherwise_to_a_judge() {
        let mut object = object();
        object["status"]["conditions"] = json!([
            {"type": "Available", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"},
            {"type": "Churn", "status": "True", "message": "1"},
        ]);
        let reads = |object: &Value| noticed(object).unwrap().reads;
        /// And whether it counts for the rules that are built in.
        type Change = (bool, fn(&mut Value));
        let changes: [Change; 10] = [
            (false, |it| it["status"]["conditions"][1]["message"] = json!("2")),
            (false, |it| it["status"]["conditions"][0]["lastUpdateTime"] = json!("2026-01-01T00:00:01Z")),
            (false, |it| drop(it["status"]["conditions"].as_array_mut().unwrap().pop())),
            (true, |it| it["status"]["conditions"][0]["status"] = json!("False")),
            (true, |it| it["status"]["conditions"][1]["type"] = json!("Progressing")),
            (true, |it| it["status"]["conditions"] = json!("none")),
            (true, |it| it["status"]["readyReplicas"] = json!(2)),
            (true, |it| it["status"]["a\"b"] = json!(1)),
            (true, |it| it["status"] = json!("Ready")),
            (true, |it| it["spec"]["replicas"] = json!(3)),
        ];
        for (counts, change) in changes {
            let mut changed = object.clone();
            change(&mut changed);
            assert_eq!(reads(&changed).metadata, reads(&object).metadata);
            assert_eq!(reads(&changed).health != reads(&object).health, counts, "{changed:#}");
        }
    }

    /// A rule of the owner's may look at what is neither spec nor status.
    #[test]
    fn what_a_rule_says_of_all_of_an_object_is_marked() {
        let current = wickie_cel::Expression::new("data.ready == 'true'", wickie_cel::Variables::Fields).unwrap();
        let (group, kind) = ("apps".to_owned(), Some("Deployment".to_owned()));
        let rule = wickie_plan::HealthRule { group, kind, in_progress: None, failed: None, current };
        let rules = HealthRules::new(vec![rule]).unwrap();
        let marked = |data: Value, status: Value| {
            let mut object = object();
            (object["data"], object["status"]) = (data, status);
            let text = serde_json::from_str(&object.to_string()).unwrap();
            Judge { gvk: &gvk(), rules: Some(&rules), sees_all: true }.mark(&text, &Parts::of(&text).unwrap())
        };
        let before = marked(json!({"ready": "false"}), json!({}));
        assert_eq!(marked(json!({"ready": "false"}), json!({"replicas": 1})), before);
        assert_ne!(marked(json!({"ready": "true"}), json!({})), before);
    }

    #[test]
    fn a_status_reads_as_before_and_every_other_change_does_not() {
        let first = noticed(&object()).unwrap().reads;
        let before = || Some((first, Looks { metadata: Digest::of(b"before"), fingerprint: None }));
        let same: [fn(&mut Value); 3] = [
            |it| it["metadata"]["resourceVersion"] = json!("42"),
            |it| it["metadata"]["managedFields"][0]["time"] = json!("2026-01-01T00:00:01Z"),
            |it| it["metadata"]["managedFields"][1]["fieldsV1"] = json!({"f:status": {"f:replicas": {}}}),
        ];
        for change in same {
            let mut object = object();
            change(&mut object);
            let noticed = seen(&object, true, before()).unwrap();
            assert_eq!(noticed.reads, first, "{object:#}");
            assert_eq!(noticed.looks.unwrap().metadata, Digest::of(b"before"));
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
            let noticed = seen(&object, true, before()).unwrap();
            assert_ne!(noticed.reads, first, "{object:#}");
            assert_eq!(noticed.looks.unwrap().metadata, drift::metadata_digest(&object["metadata"]));
        }
    }

    /// The controller of Deployments annotates each of them: such an object need not be read to see that nothing of ours moved.
    #[test]
    fn what_others_write_to_has_a_fingerprint() {
        let mut object = object();
        let print = drift::fingerprint(&object, Manager(MANAGER), &[]).unwrap();
        let fingerprint = |noticed: Option<Noticed>| noticed.unwrap().looks.unwrap().fingerprint;
        assert_eq!(fingerprint(noticed(&object)).as_deref(), Some(&print));
        assert_eq!(fingerprint(seen(&object, false, None)), None, "of metadata alone it cannot be told");
        object["metadata"]["managedFields"].as_array_mut().unwrap().pop();
        assert_eq!(fingerprint(noticed(&object)), None, "its metadata tells all there is to tell");
    }

    #[test]
    fn what_carries_no_labels_is_not_noticed() {
        for object in [json!({}), json!({"metadata": {"name": "till"}}), json!({"metadata": 7})] {
            assert!(noticed(&object).is_none());
        }
    }
}
