//! `namespace`.
//!
//! Besides `metadata.namespace` of everything that is not cluster-scoped, this sets the name of Namespace objects and
//! the namespace of role binding subjects (`filters/namespace` in kustomize).

use super::of_object;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::id::text_at;
use crate::resource::Resource;
use crate::yaml::Node;
use std::collections::HashMap;

/// Which subjects of role bindings are moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// Those named `default`.
    #[default]
    DefaultOnly,
    /// Every service account.
    AllServiceAccounts,
    /// None.
    None,
}

impl Subjects {
    /// The spelling in a NamespaceTransformer.
    pub(crate) fn parse(text: &str) -> Option<Subjects> {
        Some(match text {
            "" | "defaultOnly" => Subjects::DefaultOnly,
            "allServiceAccounts" => Subjects::AllServiceAccounts,
            "none" => Subjects::None,
            _ => return None,
        })
    }
}

/// Moves everything into a namespace.
pub(super) fn apply(
    resources: &mut [Resource],
    namespace: &str,
    specs: &[FieldSpec],
    unset_only: bool,
    subjects: Subjects,
) -> Result<(), String> {
    if namespace.is_empty() {
        return Ok(());
    }
    for resource in resources.iter_mut().filter(|resource| !resource.is_empty()) {
        resource.store_name();
        one(resource, namespace, specs, unset_only, subjects).map_err(|cause| of_object(resource, &cause))?;
    }
    let mut seen = HashMap::new();
    for resource in resources.iter() {
        let id = resource.id();
        let key = (id.gvk.clone(), id.name.clone(), id.effective_namespace().to_owned());
        if let Some(first) = seen.insert(key, &resource.source) {
            return Err(format!(
                "{id}: {first} and {} have the same name once they are in one namespace",
                resource.source
            ));
        }
    }
    Ok(())
}

/// Moves one object, without touching its history.
pub(super) fn one(
    resource: &mut Resource,
    namespace: &str,
    specs: &[FieldSpec],
    unset_only: bool,
    subjects: Subjects,
) -> Result<(), String> {
    let mut set = |node: &mut Node| match node {
        Node::Scalar(scalar) if unset_only && !node_is_blank(scalar) => Ok(()),
        node => fieldspec::set_text(node, namespace),
    };
    let id = resource.id();
    if !id.cluster_scoped {
        let spec = FieldSpec { path: "metadata/namespace".to_owned(), create: true, ..FieldSpec::default() };
        fieldspec::apply(&mut resource.node, &spec, Make::Text, &mut set)?;
    }
    let is_binding = |kind: &str| matches!(kind, "RoleBinding" | "ClusterRoleBinding");
    if is_binding(&id.gvk.kind) {
        bind(&mut resource.node, subjects, &mut set)?;
    }
    for spec in specs {
        let handled = spec.path == "metadata/namespace"
            || (spec.path == "metadata/name" && text_at(&resource.node, "apiVersion") != "v1")
            || (is_binding(&id.gvk.kind) && is_binding(&spec.gvk.kind) && spec.path == "subjects/namespace");
        if !handled {
            fieldspec::apply(&mut resource.node, spec, Make::Text, &mut set)?;
        }
    }
    Ok(())
}

fn node_is_blank(scalar: &crate::yaml::Scalar) -> bool {
    scalar.tag == crate::yaml::Tag::Null || scalar.text.is_empty()
}

fn bind(node: &mut Node, mode: Subjects, set: fieldspec::Setter<'_>) -> Result<(), String> {
    let (key, value) = match mode {
        Subjects::None => return Ok(()),
        Subjects::DefaultOnly => ("name", "default"),
        Subjects::AllServiceAccounts => ("kind", "ServiceAccount"),
    };
    let subjects = match node.at_mut(&["subjects"]) {
        None => return Ok(()),
        Some(subjects) if subjects.is_null() => return Ok(()),
        Some(Node::Seq(subjects)) => subjects,
        Some(other) => {
            return Err(format!("subjects: expected a sequence, found {}", other.kind_word()));
        }
    };
    for subject in subjects {
        match subject {
            Node::Map(map) if map.get(key).and_then(Node::as_text) == Some(value) => {
                if !map.contains("namespace") {
                    map.push("namespace", Node::text(""));
                }
                if let Some(namespace) = map.get_mut("namespace") {
                    set(namespace)?;
                }
            }
            Node::Map(_) => {}
            other if other.is_null() => {}
            other => {
                return Err(format!("subjects: expected mappings, found {}", other.kind_word()));
            }
        }
    }
    Ok(())
}
