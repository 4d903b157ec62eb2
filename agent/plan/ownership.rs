//! Field ownership that comes over with an object that somebody else has applied before.
//!
//! Server-side apply removes a field only when its last owner lets go of it. An object that kubectl, Helm or Flux has
//! applied keeps every field they own, also those that Git has dropped since. So whoever adopts an object takes their
//! fields into his own entry first, and the apply that follows removes what is not in Git.
//!
//! | manager | where it comes from |
//! |---|---|
//! | `kubectl*` | `kubectl apply`, `create`, `edit`, with or without `--server-side` |
//! | `before-first-apply` | what was there before the first server-side apply |
//! | `kustomize-controller`, `helm-controller`, `flux*` | Flux, and its command |
//! | `helm`, `Helm` | Helm |
//!
//! Entries of a subresource are left: what `kubectl scale` or a kubelet says there is no manifest.
//!
//! The other way, [`hand_over`] gives our fields to whoever goes on with the object, or to nobody, and leaves its values as
//! they are.
//!
//! Source: fluxcd/pkg/ssa, `PatchReplaceFieldsManagers`, and kustomize-controller's `applyOpts.Cleanup`;
//! client-go, `util/csaupgrade`.

use serde_json::{Map, Value, json};

use crate::drift::Manager;

/// How the names begin of those whose fields an adopter takes over.
const PREDECESSORS: [&str; 6] = ["kubectl", "before-first-apply", "kustomize-controller", "helm", "Helm", "flux"];

/// What `kubectl apply` writes on an object to remember what it applied: nobody keeps it up any more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The merge patch that gives the fields of an object's former managers to `manager`; nothing where there are none.
///
/// The patch holds for this very version of the object: the server refuses it where somebody has written meanwhile.
pub fn take_over(object: &Value, manager: Manager<'_>) -> Option<Value> {
    let metadata = object.get("metadata")?;
    let entries = metadata.get("managedFields")?.as_array()?;
    let api_version = object.get("apiVersion")?;
    // Paths are those of one version of the API; an entry of another one cannot be read beside ours.
    let is_former = |entry: &&Value| {
        is_predecessor(text(entry, "manager")) && is_whole(entry) && entry.get("apiVersion") == Some(api_version)
    };
    let mut fields = Map::new();
    let is_ours =
        |entry: &&Value| text(entry, "manager") == manager.0 && text(entry, "operation") == "Apply" && is_whole(entry);
    let mut former = entries.iter().filter(is_former).peekable();
    former.peek()?;
    for entry in entries.iter().find(is_ours).into_iter().chain(former) {
        if let Some(owned) = entry.get("fieldsV1").and_then(Value::as_object) {
            unite(&mut fields, owned);
        }
    }
    let ours = json!({
        "manager": manager.0, "operation": "Apply", "apiVersion": api_version, "fieldsType": "FieldsV1",
        "time": entries.iter().filter_map(|entry| entry.get("time")?.as_str()).max(), "fieldsV1": fields,
    });
    let rest = entries.iter().filter(|entry| !is_former(entry) && !is_ours(entry)).cloned();
    let managed: Vec<Value> = std::iter::once(ours).chain(rest).collect();
    let mut patch =
        json!({"metadata": {"resourceVersion": metadata.get("resourceVersion")?, "managedFields": managed}});
    if metadata.get("annotations").is_some_and(|annotations| annotations.get(LAST_APPLIED).is_some()) {
        patch["metadata"]["annotations"] = json!({LAST_APPLIED: null});
    }
    Some(patch)
}

/// The merge patch that lets go of an object; nothing where there is nothing to let go of.
///
/// Our fields become those of the manager `to`, whose next apply then removes what is not in its manifests; of nobody where
/// none is given: they stay as they are until somebody sends others. `labels` are taken off where they have these values.
///
/// The patch holds for this very version of the object: the server refuses it where somebody has written meanwhile.
pub fn hand_over(object: &Value, from: Manager<'_>, to: Option<Manager<'_>>, labels: &[(&str, &str)]) -> Option<Value> {
    let metadata = object.get("metadata")?;
    let none = Vec::new();
    let entries = metadata.get("managedFields").and_then(Value::as_array).unwrap_or(&none);
    let (ours, mut managed): (Vec<_>, Vec<_>) =
        entries.iter().cloned().partition(|entry| text(entry, "manager") == from.0);
    for entry in ours.iter().filter(|entry| is_whole(entry)) {
        let Some(to) = to else { break };
        let fits = |other: &&mut Value| {
            let same = text(other, "manager") == to.0 && text(other, "operation") == "Apply" && is_whole(other);
            same && other.get("apiVersion") == entry.get("apiVersion")
        };
        match managed.iter_mut().find(fits) {
            Some(other) => {
                let owned = entry.get("fieldsV1").and_then(Value::as_object);
                if let (Some(into), Some(owned)) = (other.get_mut("fieldsV1").and_then(Value::as_object_mut), owned) {
                    unite(into, owned);
                }
            }
            None => {
                let mut entry = entry.clone();
                (entry["manager"], entry["operation"]) = (to.0.into(), "Apply".into());
                managed.push(entry);
            }
        }
    }
    let has = |(key, value): &&(&str, &str)| {
        metadata.get("labels").and_then(|labels| labels.get(*key)).and_then(Value::as_str) == Some(*value)
    };
    let off: Map<String, Value> = labels.iter().filter(has).map(|(key, _)| ((*key).to_owned(), Value::Null)).collect();
    if ours.is_empty() && off.is_empty() {
        return None;
    }
    if managed.is_empty() {
        // Source: Kubernetes, "Server-Side Apply", "Clearing managedFields": an empty list is taken for none at all.
        managed.push(json!({}));
    }
    let mut patch =
        json!({"metadata": {"resourceVersion": metadata.get("resourceVersion")?, "managedFields": managed}});
    if !off.is_empty() {
        patch["metadata"]["labels"] = off.into();
    }
    Some(patch)
}

fn is_predecessor(manager: &str) -> bool {
    PREDECESSORS.iter().any(|prefix| manager.starts_with(prefix))
}

fn is_whole(entry: &Value) -> bool {
    text(entry, "subresource").is_empty()
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Adds the paths of one FieldsV1 tree to another.
fn unite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (segment, below) in from {
        let entry = into.entry(segment.clone()).or_insert_with(|| Value::Object(Map::new()));
        if let (Value::Object(into), Value::Object(from)) = (entry, below) {
            unite(into, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Manager<'static> = Manager("wickie");

    fn entry(manager: &str, operation: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields})
    }

    fn object(entries: Vec<Value>) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "resourceVersion": "7", "annotations": {LAST_APPLIED: "{}"}, "managedFields": entries
        }})
    }

    #[test]
    fn the_fields_of_former_managers_become_ours_and_those_of_others_stay_theirs() {
        let patch = take_over(
            &object(vec![
                entry("kustomize-controller", "Apply", json!({"f:data": {"f:a": {}, "f:b": {}}})),
                entry("kubectl-client-side-apply", "Update", json!({"f:data": {".": {}, "f:c": {}}})),
                entry("wickie", "Apply", json!({"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:x": {}}}})),
                entry("autoscaler", "Update", json!({"f:data": {"f:d": {}}})),
            ]),
            OURS,
        )
        .unwrap();
        let managed = patch["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(managed.len(), 2);
        let expected = json!({
            "f:data": {".": {}, "f:a": {}, "f:b": {}, "f:c": {}}, "f:metadata": {"f:labels": {"f:x": {}}}
        });
        assert_eq!((&managed[0]["manager"], &managed[0]["fieldsV1"]), (&json!("wickie"), &expected));
        assert_eq!(managed[1]["manager"], "autoscaler");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["annotations"], json!({LAST_APPLIED: null}));
    }

    #[test]
    fn subresources_and_other_versions_are_left() {
        let mut scaled = entry("kubectl", "Update", json!({"f:spec": {"f:replicas": {}}}));
        scaled["subresource"] = "scale".into();
        let mut older = entry("helm", "Update", json!({"f:spec": {}}));
        older["apiVersion"] = "v1beta1".into();
        let ours = entry("wickie", "Apply", json!({"f:data": {}}));
        assert_eq!(take_over(&object(vec![scaled, older, ours]), OURS), None);
    }

    #[test]
    fn what_is_handed_over_is_the_heir_s_and_its_values_stay() {
        let labels = [("kustomize.toolkit.fluxcd.io/name", "shop")];
        let mut object = object(vec![
            entry("wickie", "Apply", json!({"f:data": {"f:a": {}}})),
            entry("wickie", "Update", json!({"f:data": {"f:b": {}}})),
            entry("kustomize-controller", "Apply", json!({"f:data": {"f:c": {}}})),
            entry("autoscaler", "Update", json!({"f:data": {"f:d": {}}})),
        ]);
        object["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "shop", "app": "till"});
        let flux = hand_over(&object, OURS, Some(Manager("kustomize-controller")), &[]).unwrap();
        let managed = flux["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(managed.len(), 2);
        assert_eq!(managed[0]["fieldsV1"], json!({"f:data": {"f:a": {}, "f:b": {}, "f:c": {}}}));
        assert_eq!((&managed[0]["operation"], &managed[1]["manager"]), (&json!("Apply"), &json!("autoscaler")));
        assert_eq!(flux["metadata"].get("labels"), None);
        assert_eq!(flux["metadata"]["resourceVersion"], "7");
        let nobody = hand_over(&object, OURS, None, &labels).unwrap();
        assert_eq!(nobody["metadata"]["managedFields"].as_array().unwrap().len(), 2);
        assert_eq!(nobody["metadata"]["labels"], json!({"kustomize.toolkit.fluxcd.io/name": null}));
        // Another owner's label is left, and what is let go of once is not again.
        assert_eq!(hand_over(&object, OURS, None, &[("app", "shop")]).unwrap()["metadata"].get("labels"), None);
        let gone = json!({"metadata": {"resourceVersion": "8", "managedFields": managed}});
        assert_eq!(hand_over(&gone, OURS, Some(Manager("kustomize-controller")), &labels), None);
    }

    #[test]
    fn an_object_that_is_nobody_s_has_no_managers_and_a_status_of_ours_is_let_go_of() {
        let mut status = entry("wickie", "Update", json!({"f:status": {}}));
        status["subresource"] = "status".into();
        let object = object(vec![status.clone(), entry("wickie", "Apply", json!({"f:data": {}}))]);
        let patch = hand_over(&object, OURS, None, &[]).unwrap();
        assert_eq!(patch["metadata"]["managedFields"], json!([{}]));
        let patch = hand_over(&object, OURS, Some(Manager("flux")), &[]).unwrap();
        let managed = patch["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(
            (managed.len(), &managed[0]["manager"], &managed[0]["fieldsV1"]),
            (1, &json!("flux"), &json!({"f:data": {}}))
        );
    }
}
