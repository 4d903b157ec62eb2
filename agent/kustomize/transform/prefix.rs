//! `namePrefix` and `nameSuffix`.

use super::of_object;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::id::Id;
use crate::resource::Resource;

/// Which end of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Front,
    Back,
}

/// Adds text to names, and remembers that it did so.
pub(super) fn apply(resources: &mut [Resource], side: Side, text: &str, specs: &[FieldSpec]) -> Result<(), String> {
    for resource in resources {
        let id = resource.original_id();
        if is_exempt(&id) {
            continue;
        }
        for spec in specs.iter().filter(|spec| id.gvk.is_selected_by(&spec.gvk)) {
            if spec.path == "metadata/name" && !text.is_empty() {
                let added = match side {
                    Side::Front => &mut resource.memory.prefixes,
                    Side::Back => &mut resource.memory.suffixes,
                };
                added.push(text.to_owned());
                resource.store_name();
            }
            fieldspec::apply(&mut resource.node, spec, Make::Text, &mut |node| {
                let old = node.as_text().unwrap_or_default();
                let new = match side {
                    Side::Front => format!("{text}{old}"),
                    Side::Back => format!("{old}{text}"),
                };
                fieldspec::retext(node, &new)
            })
            .map_err(|cause| of_object(resource, &cause))?;
        }
    }
    Ok(())
}

/// Names that follow from something else are left alone.
fn is_exempt(id: &Id) -> bool {
    match id.gvk.kind.as_str() {
        "CustomResourceDefinition" | "Namespace" => true,
        "APIService" => id.gvk.group == "apiregistration.k8s.io",
        _ => false,
    }
}
