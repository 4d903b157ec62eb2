//! The order in which kustomize lists objects: `sortOptions`, and the default of `kustomize build`.
//!
//! Kinds that others need come first, webhooks last; in between by group, version and kind, then by namespace and name
//! (`SortOrderTransformer` and `resid.Gvk.IsLessThan`).

use crate::id::{Gvk, Id};
use std::cmp::Ordering;

const FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Kinds that are moved to the front and to the end.
#[derive(Debug, Clone)]
pub(crate) struct Legacy {
    pub(crate) first: Vec<String>,
    pub(crate) last: Vec<String>,
}

impl Default for Legacy {
    fn default() -> Legacy {
        let own = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Legacy { first: own(&FIRST), last: own(&LAST) }
    }
}

impl Legacy {
    /// Compares two objects' names.
    pub(crate) fn compare(&self, a: &Id, b: &Id) -> Ordering {
        if a.gvk != b.gvk {
            return self.place(&a.gvk.kind).cmp(&self.place(&b.gvk.kind)).then_with(|| {
                let order = gvk_text(&a.gvk).cmp(&gvk_text(&b.gvk));
                let namespaces = a.gvk.kind == "Namespace" && b.gvk.kind == "Namespace";
                if namespaces && (a.gvk.group.is_empty() || b.gvk.group.is_empty()) { order.reverse() } else { order }
            });
        }
        id_text(a).cmp(&id_text(b))
    }

    /// A kind named twice counts at its last mention, the end list after the front list, as in kustomize.
    fn place(&self, kind: &str) -> isize {
        let at = |kinds: &[String]| kinds.iter().rposition(|name| name == kind);
        match (at(&self.last), at(&self.first)) {
            (Some(at), _) => 1 + at.cast_signed(),
            (None, Some(at)) => at.cast_signed() - self.first.len().cast_signed(),
            (None, None) => 0,
        }
    }
}

/// The place of a kind among field specifications.
pub(crate) fn rank(gvk: &Gvk) -> (isize, String) {
    let place = match FIRST.iter().position(|kind| *kind == gvk.kind) {
        Some(at) => at.cast_signed() - FIRST.len().cast_signed(),
        None => LAST.iter().position(|kind| *kind == gvk.kind).map_or(0, |at| 1 + at.cast_signed()),
    };
    (place, gvk_text(gvk))
}

fn or<'t>(text: &'t str, stand_in: &'t str) -> &'t str {
    if text.is_empty() { stand_in } else { text }
}

fn gvk_text(gvk: &Gvk) -> String {
    format!("{}_{}_{}", or(&gvk.group, "~G"), or(&gvk.version, "~V"), or(&gvk.kind, "~K"))
}

/// Only compared between objects of one kind.
fn id_text(id: &Id) -> String {
    format!("{}|{}", or(&id.namespace, "~X"), or(&id.name, "~N"))
}
