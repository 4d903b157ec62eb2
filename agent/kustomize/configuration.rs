//! Files that `configurations` names: further places for the transformers.

use crate::config::{BackReference, Tables, merge_all};
use crate::error::Error;
use crate::kustomization::decode::{Document, Field};
use crate::kustomization::{field_spec, gvk};
use crate::yaml::{self, Dialect};

/// Adds what a file says to `tables`.
pub(crate) fn read(file: &str, bytes: &[u8], tables: &mut Tables) -> Result<(), Error> {
    let document = Document { file, bytes, strict: true };
    let trees = yaml::trees(file, bytes, Dialect::Kubernetes)?;
    let Some(tree) = trees.first() else {
        return Ok(());
    };
    let value = yaml::json::to_value(&tree.root).map_err(|fault| document.fault("", fault.to_string()))?;
    let members = Field::root(document, &value).members()?;
    let twice =
        |name: &str, path: String| document.fault(name, format!("{path} is given twice, with create and without"));
    for name in Tables::NAMES {
        let specs = members.list(name, field_spec)?;
        if let Some(table) = tables.named_mut(name) {
            merge_all(table, &specs).map_err(|path| twice(name, path))?;
        }
    }
    let references = members.list("nameReference", |field| {
        let members = field.members()?;
        let reference = BackReference { target: gvk(&members)?, referrers: members.list("fieldSpecs", field_spec)? };
        members.finish()?;
        Ok(reference)
    })?;
    for reference in references {
        match tables.name_reference.iter_mut().find(|known| known.target == reference.target) {
            None => tables.name_reference.push(reference),
            Some(known) => {
                merge_all(&mut known.referrers, &reference.referrers).map_err(|path| twice("nameReference", path))?
            }
        }
    }
    members.finish()
}
