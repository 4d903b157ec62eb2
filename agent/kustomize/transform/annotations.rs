//! `commonAnnotations`.

use super::of_object;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::resource::Resource;
use std::collections::BTreeMap;

/// Sets each annotation at each place.
pub(super) fn apply(
    resources: &mut [Resource],
    annotations: &BTreeMap<String, String>,
    specs: &[FieldSpec],
) -> Result<(), String> {
    set_everywhere(resources, annotations, specs)
}

/// Sets members of mappings, as labels and annotations are.
pub(super) fn set_everywhere(
    resources: &mut [Resource],
    members: &BTreeMap<String, String>,
    specs: &[FieldSpec],
) -> Result<(), String> {
    // An object that kustomize remembers something of has annotations, to a path that makes none.
    let looks_for_annotations = specs.iter().any(|spec| !spec.create && spec.path.contains("metadata/annotations"));
    for resource in resources {
        match looks_for_annotations {
            true => drop(resource.patched(|resource| set_members(resource, members, specs))?),
            false => set_members(resource, members, specs)?,
        }
    }
    Ok(())
}

fn set_members(resource: &mut Resource, members: &BTreeMap<String, String>, specs: &[FieldSpec]) -> Result<(), String> {
    for (key, text) in members {
        let shared = resource.next_shared();
        let mut places = 0;
        for spec in specs {
            fieldspec::apply(&mut resource.node, spec, Make::Map, &mut |node| {
                places += usize::from(fieldspec::set_member(node, key, text, shared)?);
                Ok(())
            })
            .map_err(|cause| of_object(resource, &cause))?;
        }
        resource.sync_shared();
        if places > 1 {
            resource.share(shared, text);
        }
    }
    Ok(())
}
