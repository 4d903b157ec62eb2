//! `labels` and `commonLabels`.

use super::annotations::set_everywhere;
use crate::config::{Tables, merge_all};
use crate::fieldspec::FieldSpec;
use crate::kustomization::Label;
use crate::resource::Resource;
use std::collections::BTreeMap;

/// Sets each label at each place.
pub(super) fn apply(
    resources: &mut [Resource],
    labels: &BTreeMap<String, String>,
    specs: &[FieldSpec],
) -> Result<(), String> {
    set_everywhere(resources, labels, specs)
}

/// Where an entry of `labels` goes: its own fields and those of the configuration, then selectors, or templates and
/// metadata.
pub(crate) fn places(label: &Label, tables: &Tables) -> Result<Vec<FieldSpec>, String> {
    let conflict = |path: String| format!("{path} is given twice, with create and without");
    let mut specs = label.fields.clone();
    merge_all(&mut specs, &tables.labels).map_err(conflict)?;
    if label.include_selectors {
        merge_all(&mut specs, &tables.common_labels).map_err(conflict)?;
        return Ok(specs);
    }
    if label.include_templates {
        merge_all(&mut specs, &tables.template_labels).map_err(conflict)?;
    }
    let metadata = FieldSpec { path: "metadata/labels".to_owned(), create: true, ..FieldSpec::default() };
    merge_all(&mut specs, &[metadata]).map_err(conflict)?;
    Ok(specs)
}
