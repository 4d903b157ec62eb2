//! `wickie crds`: the CRDs, to be applied by whoever may.

use serde_json::json;

use super::out::yaml;
use super::{CliError, Exit, Format, Out, Settings};

pub(super) fn execute(settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let crds = crate::config::crds();
    match settings.format {
        Format::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": crds});
            out.answer(Format::Json, &list, |_, _| String::new())?;
        }
        Format::Table | Format::Yaml => {
            for crd in &crds {
                out.text(&format!("---\n{}", yaml(crd)?))?;
            }
        }
    }
    Ok(Exit::Done)
}
