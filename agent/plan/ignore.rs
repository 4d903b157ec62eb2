//! Fields of an object that Git has and others may change: `spec.ignore`.
//!
//! They count for nothing in what an object was left like, so that a change of them is no drift. What is sent takes them
//! as they are in the cluster: a field that another manager applies is left out, and so given up to it; any other keeps
//! the live value, and stays ours.
//!
//! Source: `fluxcd/pkg/ssa/manager_apply.go`, `computeDriftedPaths`.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use wickie_model::{Digest, Hasher};

use crate::drift::{Manager, managed_fields};

/// A JSON pointer (RFC 6901) to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

/// Fields by which an object is found, and its owner: they are nobody else's.
const FIXED: [&[&str]; 4] = [&["apiVersion"], &["kind"], &["metadata", "name"], &["metadata", "namespace"]];

/// What an owner's labels begin with.
const OWNER: &str = "kustomize.toolkit.fluxcd.io/";

impl Pointer {
    fn text(&self) -> String {
        self.0.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
    }

    /// Whether it takes in a field that says which object it is, or whose.
    fn is_fixed(&self) -> bool {
        let parts: Vec<_> = self.0.iter().map(String::as_str).collect();
        let around = FIXED.iter().any(|fixed| fixed.starts_with(&parts));
        let owner = match parts.as_slice() {
            ["metadata", "labels"] => true,
            ["metadata", "labels", label, ..] => label.starts_with(OWNER),
            _ => false,
        };
        around || owner
    }

    /// The same in the fields that a manager owns: lists there go by keys. Nothing where the list cannot be followed.
    fn in_fields(&self, fields: &Value, object: &Value) -> Option<Vec<String>> {
        let (mut fields, mut live) = (Some(fields), Some(object));
        let mut segments = Vec::with_capacity(self.0.len());
        for part in &self.0 {
            let item = live.and_then(Value::as_array).and_then(|items| items.get(part.parse::<usize>().ok()?));
            let segment = match (live, item) {
                (Some(Value::Array(_)), Some(item)) => {
                    let keys = fields.and_then(Value::as_object).map(Map::keys)?;
                    let mut keys = keys.filter(|key| key.starts_with("k:"));
                    keys.find(|key| is_key_of(key, item))?.clone()
                }
                (Some(Value::Array(_)), None) => return None,
                _ => format!("f:{part}"),
            };
            fields = fields.and_then(|fields| fields.get(&segment));
            live = item.or_else(|| live.and_then(|live| live.get(part)));
            segments.push(segment);
        }
        Some(segments)
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(parts) = text.strip_prefix('/') else {
            return Err(format!("{text:?} is not a JSON pointer: it begins with a slash, as in /spec/replicas"));
        };
        let pointer = Self(parts.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect());
        match pointer.is_fixed() {
            true => Err(format!("{text:?} takes in what says which object it is, or whose; name a field below it")),
            false => Ok(pointer),
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

fn is_key_of(segment: &str, item: &Value) -> bool {
    let key: Option<Map<String, Value>> = segment.strip_prefix("k:").and_then(|key| serde_json::from_str(key).ok());
    key.is_some_and(|key| key.iter().all(|(name, value)| item.get(name) == Some(value)))
}

/// The digest of what is wanted of an object: its manifest's, and what of it others may change. Where that changes, the
/// object is sent again.
pub fn digest(manifest: Digest, ignored: &[Pointer]) -> Digest {
    if ignored.is_empty() {
        return manifest;
    }
    let mut digest = Hasher::default();
    digest.field(manifest.as_bytes());
    ignored.iter().for_each(|pointer| digest.field(pointer.text().as_bytes()));
    digest.finish()
}

/// The owned fields without those that are ignored. What held nothing else goes with them: it makes no difference whether
/// another manager has taken the field.
pub(crate) fn without(fields: &Value, object: &Value, ignored: &[Pointer]) -> Value {
    let mut left = fields.clone();
    for pointer in ignored {
        if let Some(segments) = pointer.in_fields(fields, object) {
            remove_field(&mut left, &segments);
        }
    }
    left
}

fn remove_field(fields: &mut Value, segments: &[String]) {
    let (Some((first, rest)), Some(children)) = (segments.split_first(), fields.as_object_mut()) else { return };
    match children.get_mut(first) {
        Some(child) if !rest.is_empty() => {
            let had = child.as_object().is_some_and(|below| !below.is_empty());
            remove_field(child, rest);
            if had && child.as_object().is_some_and(Map::is_empty) {
                children.remove(first);
            }
        }
        _ => drop(children.remove(first)),
    }
}

/// The manifest as it is sent where the object is there as `live`.
pub fn settled(manifest: &Value, live: &Value, ignored: &[Pointer], manager: Manager<'_>) -> Value {
    let mut sent = manifest.clone();
    let mut given_up = Vec::new();
    for pointer in ignored {
        let text = pointer.text();
        let found = live.pointer(&text);
        let Some(wanted) = sent.pointer_mut(&text).filter(|wanted| Some(&**wanted) != found) else { continue };
        match found {
            Some(found) if !is_applied_by_another(live, pointer, manager) => *wanted = found.clone(),
            _ => given_up.push(pointer),
        }
    }
    // Items of a list go from the last to the first, or the places of those behind would move.
    given_up.sort_by(|one, other| places(other).cmp(&places(one)));
    given_up.into_iter().for_each(|pointer| remove_value(&mut sent, &pointer.0));
    sent
}

/// Numbers by their value, so that 10 comes behind 9.
fn places(pointer: &Pointer) -> Vec<(usize, &str)> {
    pointer.0.iter().map(|part| (part.parse().unwrap_or(0), part.as_str())).collect()
}

fn is_applied_by_another(live: &Value, pointer: &Pointer, manager: Manager<'_>) -> bool {
    let entries = live.get("metadata").map(managed_fields).into_iter().flatten();
    let is = |entry: &Value, key: &str, text: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default() == text;
    let mut others = entries.filter(|entry| {
        is(entry, "operation", "Apply") && is(entry, "subresource", "") && !is(entry, "manager", manager.0)
    });
    others.any(|entry| {
        let Some(fields) = entry.get("fieldsV1") else { return false };
        let segments = pointer.in_fields(fields, live);
        segments
            .is_some_and(|segments| segments.iter().try_fold(fields, |fields, segment| fields.get(segment)).is_some())
    })
}

fn remove_value(value: &mut Value, parts: &[String]) {
    match (parts, value) {
        ([last], Value::Object(fields)) => drop(fields.remove(last)),
        ([last], Value::Array(items)) => {
            if let Some(at) = last.parse().ok().filter(|at: &usize| *at < items.len()) {
                items.remove(at);
            }
        }
        ([first, rest @ ..], Value::Object(fields)) => {
            if let Some(child) = fields.get_mut(first) {
                remove_value(child, rest);
            }
        }
        ([first, rest @ ..], Value::Array(items)) => {
            if let Some(child) = first.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                remove_value(child, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::drift::fingerprint;

    const OURS: Manager<'static> = Manager("wickie");

    fn pointers(texts: &[&str]) -> Vec<Pointer> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn live(entries: Value) -> Value {
        json!({
            "metadata": {"uid": "1", "annotations": {"a/b": "live"}, "managedFields": entries},
            "spec": {"replicas": 5, "containers": [{"name": "door", "cpu": "1"}, {"name": "till", "cpu": "2"}]}
        })
    }

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "fieldsV1": fields})
    }

    fn manifest() -> Value {
        json!({
            "metadata": {"annotations": {"a/b": "git"}},
            "spec": {"replicas": 1, "paused": true, "containers": [{"name": "door", "cpu": "9"}, {"name": "till", "cpu": "9"}]}
        })
    }

    #[test]
    fn a_pointer_is_read_and_refused_in_words() {
        assert_eq!("/metadata/annotations/a~1b~0c".parse::<Pointer>().unwrap().0, ["metadata", "annotations", "a/b~c"]);
        assert_eq!(
            "/metadata/annotations/a~1b~0c".parse::<Pointer>().unwrap().to_string(),
            "/metadata/annotations/a~1b~0c"
        );
        for text in ["", "spec/replicas", "/metadata", "/kind", "/metadata/name", "/metadata/labels"] {
            assert!(text.parse::<Pointer>().is_err(), "{text}");
        }
        assert!("/metadata/labels/kustomize.toolkit.fluxcd.io~1name".parse::<Pointer>().is_err());
        assert!("/metadata/labels/app".parse::<Pointer>().is_ok());
    }

    #[test]
    fn live_values_stay_ours_and_what_another_applies_is_given_up() {
        let ignored =
            pointers(&["/spec/replicas", "/metadata/annotations/a~1b", "/spec/containers/1/cpu", "/spec/none"]);
        let updated = settled(&manifest(), &live(json!([])), &ignored, OURS);
        assert_eq!(updated["spec"]["replicas"], 5);
        assert_eq!(updated["spec"]["containers"], json!([{"name": "door", "cpu": "9"}, {"name": "till", "cpu": "2"}]));
        assert_eq!(updated["metadata"]["annotations"]["a/b"], "live");
        assert_eq!(updated["spec"]["paused"], true);

        let theirs = json!({
            "f:spec": {"f:replicas": {}, "f:containers": {"k:{\"name\":\"till\"}": {".": {}, "f:cpu": {}}}}
        });
        let applied = live(json!([
            entry("scaler", "Apply", theirs.clone()),
            entry("wickie", "Apply", json!({"f:metadata": {}}))
        ]));
        let given_up = settled(&manifest(), &applied, &ignored, OURS);
        assert_eq!(given_up["spec"].get("replicas"), None);
        assert_eq!(given_up["spec"]["containers"][1], json!({"name": "till"}));
        assert_eq!(given_up["metadata"]["annotations"]["a/b"], "live");
        // By an update they own it too, and still it stays ours.
        let edited = live(json!([entry("scaler", "Update", theirs)]));
        assert_eq!(settled(&manifest(), &edited, &ignored, OURS)["spec"]["replicas"], 5);
    }

    #[test]
    fn what_is_gone_in_the_cluster_is_not_sent_again() {
        let mut without = live(json!([]));
        without["spec"].as_object_mut().unwrap().remove("replicas");
        let sent = settled(
            &manifest(),
            &without,
            &pointers(&["/spec/replicas", "/spec/containers/0", "/spec/containers/1"]),
            OURS,
        );
        assert_eq!(sent["spec"].get("replicas"), None);
        without["spec"]["containers"] = json!([]);
        let sent = settled(&manifest(), &without, &pointers(&["/spec/containers/0", "/spec/containers/1"]), OURS);
        assert_eq!(sent["spec"]["containers"], json!([]));
    }

    #[test]
    fn an_ignored_field_is_no_drift_whoever_owns_it() {
        let ours = |replicas: bool| {
            let mut spec = json!({"f:containers": {"k:{\"name\":\"till\"}": {".": {}, "f:name": {}, "f:cpu": {}}}});
            if replicas {
                spec["f:replicas"] = json!({});
            }
            json!([entry("wickie", "Apply", json!({"f:spec": spec, "f:metadata": {"f:annotations": {"f:a/b": {}}}}))])
        };
        let left = |object: &Value, ignored: &[&str]| {
            let print = fingerprint(object, OURS, &pointers(ignored)).unwrap();
            (print.fields, print.values)
        };
        let before = live(ours(true));
        let mut after = live(ours(false));
        after["spec"]["replicas"] = json!(9);
        after["spec"]["containers"][1]["cpu"] = json!("4");
        let all = ["/spec/replicas", "/spec/containers/1/cpu"];
        assert_eq!(left(&before, &all), left(&after, &all));
        assert_ne!(left(&before, &all[..1]), left(&after, &all[..1]));
        assert_ne!(left(&before, &all[1..]), left(&after, &all[1..]));
        after["spec"]["containers"][1]["name"] = json!("other");
        assert_ne!(left(&before, &all), left(&after, &all));
    }
}
