//! What a run would change now, for people: the field-by-field difference, made apart from the plan.
//!
//! The server is asked what it would make of each manifest (a dry run), so that defaults and other owners' fields do
//! not show. Values of Secrets are masked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::Value;
use similar::TextDiff;
use wickie_kustomize::yaml;
use wickie_model::{Digest, Inventory, Manifest, ObjectId, ResourceName};

use super::Drive;
use super::run::{self, BuildKey, Shared};
use crate::chain::chain;
use crate::cluster::{ApiError, Class};
use crate::config::Kustomization;
use crate::config::git::GitSource;
use crate::render::{self, Broken};
use crate::serve::{Asked, Refused};

impl Drive {
    /// The work of a diff; nothing where there is no snapshot to compare with.
    ///
    /// With a path, what stands in that folder of the agent's disk is built instead of what is in Git, with the same spec
    /// and values. Whoever may ask may read it: the control socket is open to the agent's own user alone.
    pub(super) fn diff(
        &self,
        name: &ResourceName,
        path: Option<PathBuf>,
    ) -> Option<impl Future<Output = Asked<String>> + use<>> {
        let state = self.kustomizations.get(name)?;
        let spec = state.spec()?;
        let inputs = self.inputs_of(name, &spec);
        let from = match path {
            Some(path) => From::Folder(path),
            None => From::Git(Box::new(self.git_source(&spec.source)?), Box::new(self.build_key(name)?)),
        };
        let inventory = state.inventory.clone();
        let shared = self.shared.clone();
        Some(async move {
            let refused = |message: String| Refused::Not { message };
            let inputs = inputs.map_err(|trouble| refused(trouble.to_string()))?;
            let (manifests, broken) = match from {
                From::Git(git, key) => {
                    let built = run::build(&shared, &spec, &inputs, &git, &key).await;
                    let (wanted, manifests) = built.map_err(|error| refused(chain(&error)))?;
                    (manifests, wanted.broken.clone())
                }
                From::Folder(path) => {
                    let built = render::build_folder(&spec, &inputs, &path).map_err(|error| refused(chain(&error)))?;
                    (Rc::new(built.manifests), built.broken)
                }
            };
            diff(&shared, &spec, &manifests, &broken, &inventory).await
        })
    }
}

/// What is compared with the cluster.
enum From {
    Git(Box<GitSource>, Box<BuildKey>),
    Folder(PathBuf),
}

async fn diff(
    shared: &Shared,
    spec: &Rc<Kustomization>,
    manifests: &BTreeMap<ObjectId, Manifest>,
    broken: &[Broken],
    inventory: &Inventory,
) -> Asked<String> {
    let refused = |message: String| Refused::Not { message };
    let mut text = String::new();
    for broken in broken {
        let _ = writeln!(text, "# not compared: {broken}");
    }
    for (id, manifest) in manifests {
        match compare(shared, id, manifest).await {
            Ok(Some(difference)) => text.push_str(&difference),
            Ok(None) => {}
            Err(error) if error.class.is_transient() => return Err(refused(error.to_string())),
            Err(error) if manifest.holds_secrets() => drop(writeln!(text, "# {}", error.hidden())),
            Err(error) => drop(writeln!(text, "# {error}")),
        }
    }
    for id in inventory.keys().filter(|id| !manifests.contains_key(*id) && broken.is_empty()) {
        let verb = if spec.prune { "would be deleted" } else { "would be left, and no longer looked after" };
        let _ = writeln!(text, "- {id} {verb}: it left Git");
    }
    Ok(text)
}

async fn compare(shared: &Shared, id: &ObjectId, manifest: &Manifest) -> Result<Option<String>, ApiError> {
    let body = manifest.body();
    let kind = match shared.cluster.kind(manifest.gvk()).await {
        Ok(kind) => kind,
        Err(error) if error.class == Class::NoSuchKind => {
            return Ok(Some(format!("+ {id} would be created, with its kind\n")));
        }
        Err(error) => return Err(error),
    };
    let live = shared.cluster.get(&kind, id).await?;
    let merged = match shared.cluster.apply_dry(&kind, id, body).await {
        Ok(merged) => merged,
        // Its namespace is made by the same run.
        Err(error) if error.class == Class::NoNamespace && live.is_none() => body.clone(),
        Err(error) => return Err(error),
    };
    let secret = manifest.holds_secrets();
    let before = live.as_ref().map(|live| yaml::to_yaml(&shown(live, secret))).unwrap_or_default();
    let after = yaml::to_yaml(&shown(&merged, secret));
    if before == after {
        return Ok(None);
    }
    let difference = TextDiff::from_lines(&before, &after);
    let text = difference.unified_diff().header(&format!("live/{id}"), &format!("git/{id}")).to_string();
    Ok(Some(text))
}

/// An object without what is the server's own business; of one that holds secrets no more than which fields differ.
fn shown(object: &Value, secret: bool) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"] {
            metadata.remove(key);
        }
    }
    if secret {
        mask_all(&mut object);
    }
    object
}

/// All but who the object is. A decrypted or substituted value can stand anywhere in it.
fn mask_all(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    for (key, value) in fields.iter_mut() {
        match (key.as_str(), value) {
            ("apiVersion" | "kind" | "type", _) => {}
            ("metadata", Value::Object(metadata)) => metadata
                .iter_mut()
                .filter(|(key, _)| !["name", "namespace"].contains(&key.as_str()))
                .for_each(|(_, value)| mask(value)),
            (_, value) => mask(value),
        }
    }
}

/// A value becomes a mark that differs when the value does, and tells nothing else.
fn mask(value: &mut Value) {
    // A key of the process's own: the marks of two runs cannot be compared, and no value can be guessed from one.
    thread_local!(static KEY: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..)));
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| mask(value)),
        Value::Array(items) => items.iter_mut().for_each(mask),
        value => {
            let mut hasher = wickie_model::Hasher::default();
            KEY.with(|secret| hasher.field(secret));
            hasher.field(value.to_string().as_bytes());
            let digest: Digest = hasher.finish();
            *value = format!("*** ({})", &digest.to_string()[..8]).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_do_not_show_and_still_differ() {
        let secret = |value: &str| {
            let metadata = json!({"uid": "1", "name": "till", "annotations": {"note": "hunter2"}});
            shown(&json!({"kind": "Secret", "data": {"a": value}, "metadata": metadata}), true)
        };
        let text = yaml::to_yaml(&secret("aHVudGVyMg=="));
        assert!(!text.contains("aHVudGVyMg") && !text.contains("hunter2") && !text.contains("uid"), "{text}");
        assert!(text.contains("name: till"), "{text}");
        assert_eq!(secret("a"), secret("a"));
        assert_ne!(secret("a"), secret("b"));
    }
}
