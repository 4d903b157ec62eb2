//! What `wickie tree` shows, as data: the objects of a Kustomization, and of those that are among them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wickie_model::{EntryState, Inventory, ObjectId, ResourceKind, ResourceName};

use super::Problem;
use super::view::Status;

/// A Kustomization and its objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tree {
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
    /// The revision that was last applied in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_revision: Option<String>,
    /// Its objects, by kind and name.
    pub objects: Vec<Branch>,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    /// Which.
    pub object: ObjectId,
    /// The version of its API that it was applied with.
    pub version: String,
    /// How far it has come.
    pub state: EntryState,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Its own objects, where it is a Kustomization that this agent follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Box<Tree>>,
}

/// The tree of a Kustomization; nothing where it is neither declared nor has anything in the cluster.
pub(super) fn tree(
    name: &ResourceName,
    status: &Status,
    inventories: &BTreeMap<ResourceName, Inventory>,
) -> Option<Tree> {
    let declared = status.kustomizations.iter().any(|one| one.name == *name);
    (declared || inventories.contains_key(name)).then(|| grow(name, status, inventories, &mut Vec::new()))
}

/// `within` are those that it stands in: one that holds itself is not followed for ever.
fn grow<'a>(
    name: &'a ResourceName,
    status: &Status,
    inventories: &'a BTreeMap<ResourceName, Inventory>,
    within: &mut Vec<ResourceName>,
) -> Tree {
    let view = status.kustomizations.iter().find(|one| one.name == *name);
    // A Kustomization in another cluster is another agent's, whatever it is called.
    let here = view.is_none_or(|view| view.cluster.is_none());
    let problems = view.map(|view| view.problems.as_slice()).unwrap_or_default();
    within.push(name.clone());
    let objects = inventories.get(name).into_iter().flatten().map(|(id, entry)| {
        let own = ResourceName::new(&id.namespace, &id.name);
        let is_ours =
            id.group == ResourceKind::Kustomization.group() && id.kind == ResourceKind::Kustomization.as_str();
        let known = inventories.get_key_value(&own).map(|(own, _)| own);
        let known = known.filter(|own| is_ours && here && !within.contains(own));
        Branch {
            object: id.clone(),
            version: entry.version.clone(),
            state: entry.state,
            problem: problems.iter().find(|problem| problem.object == *id).cloned(),
            tree: known.map(|own| Box::new(grow(own, status, inventories, within))),
        }
    });
    let objects = objects.collect();
    within.pop();
    Tree { name: name.clone(), applied_revision: view.and_then(|view| view.applied_revision.clone()), objects }
}
