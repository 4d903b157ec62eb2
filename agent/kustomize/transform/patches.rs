//! `patches`, `patchesStrategicMerge` and `patchesJson6902`: which objects a patch goes to, and what it keeps of them.

use super::of_object;
use crate::id::Id;
use crate::patch;
use crate::resource::{Memory, Resource};
use crate::resources::{self, insert_all};
use crate::schema::Schema;
use crate::select::{Matcher, Selector};

/// A patch that was read.
#[derive(Debug)]
pub(crate) enum Patch {
    /// An entry of `patches` without a target: each document says what it is for.
    Named(Vec<Resource>),
    /// An entry of `patches` with a target.
    Selected(Box<Resource>, Selector),
    /// `patchesStrategicMerge`.
    Legacy(Vec<Resource>),
    /// A JSON patch; only those in `patches` let references follow a name they change.
    Json { operations: Vec<patch::json::Operation>, target: Selector, tracks_names: bool },
}

impl Patch {
    /// The name that kustomize gives this transformer.
    pub(crate) fn transformer(&self) -> &'static str {
        match self {
            Patch::Named(_) | Patch::Selected(..) => "PatchTransformer",
            Patch::Legacy(_) => "PatchStrategicMergeTransformer",
            Patch::Json { tracks_names: true, .. } => "PatchTransformer",
            Patch::Json { tracks_names: false, .. } => "PatchJson6902Transformer",
        }
    }

    /// Applies it.
    pub(crate) fn apply(&self, resources: &mut Vec<Resource>, schema: &Schema) -> Result<(), String> {
        match self {
            Patch::Named(patches) => {
                for patch in patches {
                    let at = target_of(resources, &patch.original_id())?;
                    merge(&mut resources[at], patch, schema)?;
                }
                Ok(())
            }
            Patch::Legacy(patches) => {
                for patch in patches {
                    let at = target_of(resources, &patch.original_id())?;
                    merge_selected(resources, &[at], patch, schema)?;
                }
                Ok(())
            }
            Patch::Selected(patch, target) => {
                let matcher = Matcher::new(target)?;
                let chosen: Vec<usize> = (0..resources.len()).filter(|at| matcher.selects(&resources[*at])).collect();
                merge_selected(resources, &chosen, patch, schema)
            }
            Patch::Json { operations, target, tracks_names } => {
                let matcher = Matcher::new(target)?;
                for resource in resources.iter_mut().filter(|resource| matcher.selects(resource)) {
                    if *tracks_names {
                        resource.store_name();
                    }
                    let kept = resource
                        .patched(|resource| patch::json::apply(&mut resource.node, operations))
                        .map_err(|cause| of_object(resource, &cause))?;
                    resource.memory.shared.clear();
                    if !kept {
                        // kustomize puts back what it needs itself, but not where the object came from.
                        (resource.memory.origin, resource.memory.transformations) = (None, Vec::new());
                    }
                    let annotations = resource.meta_texts("annotations");
                    resource.set_meta_texts("annotations", annotations);
                }
                Ok(())
            }
        }
    }
}

/// The one object that has or had this name.
fn target_of(resources: &[Resource], id: &Id) -> Result<usize, String> {
    let mut found = (0..resources.len())
        .filter(|at| !resources[*at].is_empty() && resources[*at].all_ids().any(|other| id.is_same(&other)));
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => Err(format!(
            "there is no {id} to patch; check kind, apiVersion, name and namespace, or give the patch a target"
        )),
        (Some(_), Some(_)) => Err(format!("more than one object is or was {id}; give the patch a target")),
    }
}

/// Applies a patch to chosen objects. What it says of labels and annotations is taken as text first: a null there
/// becomes the word.
fn merge_selected(
    resources: &mut Vec<Resource>,
    chosen: &[usize],
    patch: &Resource,
    schema: &Schema,
) -> Result<(), String> {
    for at in chosen {
        let mut patch = patch.clone();
        for key in ["labels", "annotations"] {
            let texts = patch.meta_texts(key);
            patch.set_meta_texts(key, texts);
        }
        let own = patch.id();
        patch.set_name(&own.name);
        patch.set_namespace(&own.namespace);
        let target = resources[*at].id();
        patch.set_api_version(&target.gvk.api_version());
        merge(&mut resources[*at], &patch, schema)?;
    }
    resources.retain(|resource| !resource.is_empty());
    let all = std::mem::take(resources);
    insert_all(resources, all).map_err(|clash| clash.to_string())
}

/// Merges, then puts back kind, name and namespace unless the patch may change them.
fn merge(resource: &mut Resource, patch: &Resource, schema: &Schema) -> Result<(), String> {
    let id = resource.id();
    if patch.memory.may_rename || patch.memory.may_change_kind {
        resource.store_name();
    }
    let source = resource.source.clone();
    let kept = resource
        .patched(|resource| {
            let node = std::mem::replace(&mut resource.node, crate::yaml::Node::null());
            if let Some(merged) = patch::merge(node, patch.node.clone(), schema)? {
                resource.node = merged;
            }
            Ok(())
        })
        .map_err(|cause| format!("{id} ({source}): {cause}"))?;
    resource.sync_shared();
    if !kept {
        // These two are no annotations in kustomize either.
        let Memory { shared, vars, .. } = std::mem::take(&mut resource.memory);
        resource.memory = Memory { shared, vars, ..Memory::default() };
    }
    if resource.is_empty() {
        return Ok(());
    }
    if !patch.memory.may_change_kind {
        resource.set_kind(&id.gvk.kind);
    }
    if !patch.memory.may_rename {
        resource.set_name(&id.name);
    }
    resource.set_namespace(&id.namespace);
    Ok(())
}

/// What the text of a patch is.
pub(crate) enum Text {
    Strategic(Vec<Resource>),
    Json(Vec<patch::json::Operation>),
}

/// Tells strategic merge patches from JSON patches by reading the text as both.
pub(crate) fn read(file: &str, text: &str) -> Result<Text, String> {
    let strategic = resources::parse(file, text.as_bytes());
    match (strategic, read_json(text)) {
        (Ok(patches), _) => Ok(Text::Strategic(patches)),
        (Err(_), Ok(operations)) => Ok(Text::Json(operations)),
        (Err(error), Err(cause)) => {
            Err(format!("neither a strategic merge patch ({error}) nor a JSON patch ({cause})"))
        }
    }
}

/// Reads a JSON patch: JSON when it starts with a bracket, YAML otherwise.
pub(crate) fn read_json(text: &str) -> Result<Vec<patch::json::Operation>, String> {
    let value = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        let trees = crate::yaml::trees("patch", text.as_bytes(), crate::yaml::Dialect::Kubernetes)
            .map_err(|error| error.to_string())?;
        let tree = trees.first().ok_or("the patch is empty")?;
        crate::yaml::json::to_value(&tree.root).map_err(|fault| fault.to_string())?
    };
    patch::json::operations(&value)
}
