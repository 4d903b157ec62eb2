//! What an object looked like after our last apply, and whether it still does.
//!
//! managedFields names the paths that each manager owns, never their values; generation does not move for labels, and
//! Service, PersistentVolumeClaim and Role have none. So a [`Fingerprint`] keeps three digests: one that a watch event
//! can be held against without reading the object (`metadata`), one of the paths we own (`fields`) and one of the live
//! values at those paths (`values`).
//!
//! Source of the encoding: `sigs.k8s.io/structured-merge-diff`, `fieldpath/serialize.go` (FieldsV1).

use serde_json::{Map, Value};
use wickie_model::{Digest, Fingerprint, Hasher};

use crate::ignore::{self, Pointer};

/// Which manager's fields are ours, and where they are written.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a>(pub &'a str);

/// The fingerprint of a live object, or nothing where we own no field of it. What is ignored is not part of it.
pub fn fingerprint(object: &Value, manager: Manager<'_>, ignored: &[Pointer]) -> Option<Fingerprint> {
    let metadata = object.get("metadata")?;
    let owned = owned_fields(metadata, manager)?;
    let left = (!ignored.is_empty()).then(|| ignore::without(owned, object, ignored));
    let owned = left.as_ref().unwrap_or(owned);
    let mut values = Hasher::default();
    digest_values(&mut values, owned, Some(object));
    Some(Fingerprint {
        uid: metadata.get("uid")?.as_str()?.to_owned(),
        version: version(metadata),
        metadata: metadata_digest(metadata),
        fields: Digest::of_json(owned),
        values: values.finish(),
    })
}

/// The version of an object, from its metadata; 0 where it has none that is a number.
///
/// Source: Kubernetes, "Resource versions": of one kind, they are numbers that grow.
pub fn version(metadata: &Value) -> u64 {
    text(metadata, "resourceVersion").parse().unwrap_or(0)
}

/// The digest of all that an event's metadata says beyond "its status was updated".
///
/// Left out: resourceVersion and the times of managedFields, which every write moves, and the entries that belong to
/// the status subresource.
pub fn metadata_digest(metadata: &Value) -> Digest {
    let mut digest = Hasher::default();
    for key in ["uid", "generation", "labels", "annotations", "ownerReferences", "finalizers", "deletionTimestamp"] {
        digest.field(key.as_bytes());
        digest.field(metadata.get(key).map(Value::to_string).unwrap_or_default().as_bytes());
    }
    for entry in managed_fields(metadata).filter(|entry| text(entry, "subresource") != "status") {
        for key in ["manager", "operation", "apiVersion", "subresource"] {
            digest.field(text(entry, key).as_bytes());
        }
        digest.field(entry.get("fieldsV1").map(Value::to_string).unwrap_or_default().as_bytes());
    }
    digest.finish()
}

/// The managers that own fields of the object beside `manager`, each once.
pub fn other_managers(metadata: &Value, manager: Manager<'_>) -> Vec<String> {
    let mut names: Vec<String> = managed_fields(metadata)
        .filter(|entry| text(entry, "subresource") != "status")
        .map(|entry| text(entry, "manager").to_owned())
        .filter(|name| name != manager.0)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether anybody but `manager` has written to the object. Who writes a status may write annotations along with it, as the
/// controller of Deployments does.
pub fn is_shared(metadata: &Value, manager: Manager<'_>) -> bool {
    managed_fields(metadata).any(|entry| text(entry, "manager") != manager.0)
}

pub(crate) fn managed_fields(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata.get("managedFields").and_then(Value::as_array).into_iter().flatten()
}

fn owned_fields<'a>(metadata: &'a Value, manager: Manager<'_>) -> Option<&'a Value> {
    managed_fields(metadata)
        .find(|entry| {
            text(entry, "manager") == manager.0
                && text(entry, "operation") == "Apply"
                && text(entry, "subresource").is_empty()
        })?
        .get("fieldsV1")
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Adds the values at the paths of a FieldsV1 tree. What is missing is added as missing, so that a removed value
/// differs from an empty one.
fn digest_values(digest: &mut Hasher, fields: &Value, live: Option<&Value>) {
    let Some(children) = fields.as_object() else { return };
    for (segment, below) in children {
        digest.field(segment.as_bytes());
        if segment == "." {
            // The item itself is owned, and with it that it exists; its members are owned one by one.
            digest.field(if live.is_some() { b"+" } else { b"-" });
            continue;
        }
        let child = live.and_then(|live| descend(live, segment));
        match below.as_object() {
            Some(members) if !members.is_empty() => digest_values(digest, below, child),
            _ => digest.field(child.map(Value::to_string).unwrap_or_default().as_bytes()),
        }
    }
}

/// The value that one path segment leads to.
fn descend<'a>(live: &'a Value, segment: &str) -> Option<&'a Value> {
    let (kind, rest) = segment.split_once(':')?;
    match kind {
        "f" => live.get(rest),
        "k" => {
            let key: Map<String, Value> = serde_json::from_str(rest).ok()?;
            let matches = |item: &&Value| key.iter().all(|(name, value)| item.get(name) == Some(value));
            live.as_array()?.iter().find(matches)
        }
        "v" => {
            let value: Value = serde_json::from_str(rest).ok()?;
            live.as_array()?.iter().find(|item| **item == value)
        }
        "i" => live.as_array()?.get(rest.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OURS: Manager<'static> = Manager("wickie");

    fn deployment() -> Value {
        json!({
            "metadata": {
                "uid": "1", "generation": 1, "resourceVersion": "10", "labels": {"a": "b"},
                "managedFields": [
                    {"manager": "wickie", "operation": "Apply", "apiVersion": "apps/v1", "time": "t1", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:a": {}}},
                        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                            "k:{\"name\":\"till\"}": {".": {}, "f:image": {}, "f:name": {}, "f:args": {}}
                        }}}}
                    }},
                    {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}
                ]
            },
            "spec": {"replicas": 2, "paused": false, "template": {"spec": {"containers": [
                {"name": "side", "image": "x"}, {"name": "till", "image": "y", "args": ["1"], "tty": false}
            ]}}},
            "status": {"ready": 1}
        })
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Fingerprint {
        let mut object = deployment();
        change(&mut object);
        fingerprint(&object, OURS, &[]).unwrap()
    }

    #[test]
    fn what_others_own_is_no_drift() {
        let before = changed(|_| {});
        assert_eq!(before, changed(|o| o["status"]["ready"] = json!(2)));
        let later = changed(|o| o["metadata"]["resourceVersion"] = json!("11"));
        assert_eq!(later, Fingerprint { version: 11, ..before.clone() });
        assert_eq!(before, changed(|o| o["metadata"]["managedFields"][0]["time"] = json!("t2")));
        assert_eq!(
            before,
            changed(|o| o["metadata"]["managedFields"][1]["fieldsV1"] = json!({"f:status": {"f:x": {}}}))
        );
        let other_field = changed(|o| o["spec"]["template"]["spec"]["containers"][1]["tty"] = json!(true));
        assert_eq!(before.values, other_field.values);
        let other_container = changed(|o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("z"));
        assert_eq!(before.values, other_container.values);
    }

    #[test]
    fn a_changed_value_of_ours_is_drift_wherever_it_lies() {
        let before = changed(|_| {});
        for (path, value) in [
            ("/spec/replicas", json!(3)),
            ("/metadata/labels/a", json!("c")),
            ("/spec/template/spec/containers/1/image", json!("z")),
            ("/spec/template/spec/containers/1/args", json!([])),
            ("/spec/template/spec/containers/1/name", json!("other")),
        ] {
            let after = changed(|o| *o.pointer_mut(path).unwrap() = value);
            assert_ne!(before.values, after.values, "{path}");
        }
    }

    #[test]
    fn a_moved_list_item_is_no_drift() {
        let swapped = changed(|o| o["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().swap(0, 1));
        assert_eq!(changed(|_| {}).values, swapped.values);
    }

    #[test]
    fn metadata_moves_with_labels_though_generation_does_not() {
        let before = changed(|_| {});
        assert_ne!(before.metadata, changed(|o| o["metadata"]["labels"]["new"] = json!("")).metadata);
        assert_ne!(before.metadata, changed(|o| o["metadata"]["generation"] = json!(2)).metadata);
        let taken = changed(|o| {
            o["metadata"]["managedFields"]
                .as_array_mut()
                .unwrap()
                .push(json!({"manager": "kubectl-edit", "operation": "Update"}));
        });
        assert_ne!(before.metadata, taken.metadata);
    }

    #[test]
    fn where_we_own_nothing_there_is_no_fingerprint() {
        assert_eq!(fingerprint(&deployment(), Manager("other"), &[]), None);
        assert_eq!(other_managers(&deployment()["metadata"], OURS), Vec::<String>::new());
        assert_eq!(other_managers(&deployment()["metadata"], Manager("other")), ["wickie"]);
        assert!(is_shared(&deployment()["metadata"], OURS), "the kubelet writes its status");
    }
}
