//! `replicas`.

use super::of_object;
use crate::fieldspec::{self, FieldSpec, Make};
use crate::kustomization::Replica;
use crate::resource::Resource;
use crate::yaml::Tag;

/// Sets the count of the named objects; one must be there.
pub(super) fn apply(resources: &mut [Resource], replica: &Replica, specs: &[FieldSpec]) -> Result<(), String> {
    let count = replica.count.to_string();
    let mut found = false;
    for spec in specs {
        for resource in resources.iter_mut().filter(|resource| !resource.is_empty()) {
            if resource.all_ids().any(|id| id.name == replica.name && id.gvk.is_selected_by(&spec.gvk)) {
                found = true;
                fieldspec::apply(&mut resource.node, spec, Make::Int, &mut |node| {
                    fieldspec::set_tagged(node, Tag::Int, &count)
                })
                .map_err(|cause| of_object(resource, &cause))?;
            }
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = specs.iter().map(|spec| spec.gvk.to_string()).collect();
    Err(format!("no object named {:?} of a kind that has replicas ({})", replica.name, kinds.join(", ")))
}
