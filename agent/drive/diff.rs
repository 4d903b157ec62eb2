//! What a run would change now, for people: the field-by-field difference, made apart from the plan.
//!
//! The server is asked what it would make of each manifest (a dry run), so that defaults and other owners' fields do
//! not show. Values of Secrets are masked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use similar::TextDiff;
use wickie_kustomize::yaml;
use wickie_model::{Digest, Inventory, Manifest, ObjectId, ResourceName};
use wickie_plan::drift::Manager;
use wickie_plan::ignore;

use super::run::{self, BuildKey, Shared};
use super::{Drive, rollback};
use crate::chain::chain;
use crate::cluster::{ApiError, Class, Cluster, MANAGER};
use crate::config::git::GitSource;
use crate::config::{Ignoring, Kustomization};
use crate::render::{self, Broken, Inputs, Packed};
use crate::serve::{Against, Asked, Refused};

impl Drive {
    /// The work of a diff; nothing where there is no snapshot to compare with.
    ///
    /// What is built instead of the revision that is followed, it is built with the same spec and values. Whoever may ask
    /// may read a folder of the agent's disk: the control socket is open to the agent's own user alone.
    pub(super) fn diff(
        &self,
        name: &ResourceName,
        against: Against,
    ) -> Option<impl Future<Output = Asked<String>> + use<>> {
        let state = self.kustomizations.get(name)?;
        let spec = state.spec()?;
        let inputs = self.inputs_of(name, &spec);
        let git = || Some((Box::new(self.git_source(&spec.source)?), Box::new(self.build_key(name)?)));
        let from = match against {
            Against::Folder(path) => From::Folder(path),
            Against::Followed => git().map(|(git, key)| From::Git(git, key, None))?,
            Against::Revision(wanted) => git().map(|(git, key)| From::Git(git, key, Some(wanted)))?,
        };
        let inventory = state.inventory.clone();
        let shared = self.shared.clone();
        let target = self.target(state).cloned().map_err(ToString::to_string);
        Some(async move {
            let refused = |message: String| Refused::Not { message };
            let cluster = target.map_err(refused)?.cluster;
            let inputs = inputs.map_err(|trouble| refused(trouble.to_string()))?;
            let unpacked = |manifests: &Packed| manifests.all().map_err(|error| refused(error.to_string()));
            let (manifests, broken) = match from {
                From::Git(git, mut key, wanted) => {
                    if let Some(wanted) = wanted {
                        let stored = rollback::stored(&shared.store, &spec.source).await;
                        let stored = stored.map_err(|error| refused(chain(&error)))?;
                        key.revision = rollback::find(&stored, &wanted).map_err(refused)?.clone();
                    }
                    let built = run::wanted(&shared, &spec, &inputs, &git, &key, None).await;
                    let (wanted, _) = built.map_err(|error| refused(chain(&error)))?;
                    (unpacked(&wanted.manifests)?, wanted.broken.clone())
                }
                From::Folder(path) => {
                    let built = build_folder(&shared, &spec, inputs, path).await.map_err(refused)?;
                    (unpacked(&built.manifests)?, built.broken)
                }
            };
            diff(&cluster, &spec, &manifests, &broken, &inventory).await
        })
    }
}

/// What is compared with the cluster.
enum From {
    /// A stored revision, where one is named.
    Git(Box<GitSource>, Box<BuildKey>, Option<String>),
    Folder(PathBuf),
}

/// Builds a folder, when it is its turn among the builds. Disk and build keep nobody waiting: they have a thread of their own.
async fn build_folder(
    shared: &Shared,
    spec: &Kustomization,
    inputs: Inputs,
    path: PathBuf,
) -> Result<render::Built, String> {
    // It is never closed.
    let _leave = shared.building.acquire().await;
    let spec = spec.clone();
    let build = move || render::build_folder(&spec, &inputs, &path).map_err(|error| chain(&error));
    let built = tokio::task::spawn_blocking(build).await;
    built.map_err(|error| format!("the build ended without a result: {error}; please report this"))?
}

async fn diff(
    cluster: &Cluster,
    spec: &Arc<Kustomization>,
    manifests: &BTreeMap<ObjectId, Manifest>,
    broken: &[Broken],
    inventory: &Inventory,
) -> Asked<String> {
    let refused = |message: String| Refused::Not { message };
    let mut text = String::new();
    for broken in broken {
        let _ = writeln!(text, "# not compared: {broken}");
    }
    let ignoring = spec.ignoring();
    for (id, manifest) in manifests {
        match compare(cluster, id, manifest, &ignoring).await {
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

async fn compare(
    cluster: &Cluster,
    id: &ObjectId,
    manifest: &Manifest,
    ignoring: &Ignoring,
) -> Result<Option<String>, ApiError> {
    let kind = match cluster.kind(manifest.gvk()).await {
        Ok(kind) => kind,
        Err(error) if error.class == Class::NoSuchKind => {
            return Ok(Some(format!("+ {id} would be created, with its kind\n")));
        }
        Err(error) => return Err(error),
    };
    let live = cluster.get(&kind, id).await?;
    let settled =
        |live: &Value| ignore::settled(manifest.body(), live, &ignoring.of(manifest.body()), Manager(MANAGER));
    let body = live.as_ref().map_or_else(|| manifest.body().clone(), settled);
    let merged = match cluster.apply_dry(&kind, id, &body).await {
        Ok(merged) => merged,
        // Its namespace is made by the same run.
        Err(error) if error.class == Class::NoNamespace && live.is_none() => body,
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
