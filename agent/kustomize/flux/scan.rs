//! The kustomization that Flux makes for a folder without one.
//!
//! Every `.yaml` and `.yml` file below is a resource; a folder below that has a kustomization of its own is one resource
//! and is not entered (`scanManifests` in fluxcd/pkg/kustomize).

use crate::error::{Error, Place};
use crate::files::{LoadError, Loader};
use crate::kustomization::{Entry, FILE_NAMES, Kustomization};
use crate::resources;
use std::collections::BTreeSet;

/// What stands in for a namespace where there is nothing to build.
const PLACEHOLDER: &str = "_placeholder";

/// Makes the kustomization. Every file is read once, so that one that is no manifest is named.
pub(super) fn kustomization(loader: &Loader<'_>) -> Result<Kustomization, Error> {
    let top = loader.directory();
    let fault = |path: &str| {
        let path = path.to_owned();
        move |error: LoadError| error.at(Place { file: path.clone(), ..Place::default() }, &path)
    };
    let all = loader.below().map_err(fault(top))?;
    let below = within(top, &all);
    let built = built(&below);
    let mut found: BTreeSet<Vec<&str>> = BTreeSet::new();
    for path in below {
        let parts: Vec<&str> = path.split('/').collect();
        let inside = (1..parts.len()).find(|count| built.contains(parts[..*count].join("/").as_str()));
        match inside {
            Some(count) => {
                found.insert(parts[..count].to_vec());
            }
            None if path.ends_with(".yaml") || path.ends_with(".yml") => {
                let full = loader.shown_file(path);
                if let Some(content) = loader.own_file(path).map_err(fault(&full))? {
                    resources::parse(&full, &content)?;
                }
                found.insert(parts);
            }
            None => {}
        }
    }
    let resources: Vec<Entry> = found
        .iter()
        .enumerate()
        .map(|(at, parts)| Entry { field: format!("resources[{at}]"), text: parts.join("/") })
        .collect();
    let namespace = if resources.is_empty() { PLACEHOLDER } else { "" };
    Ok(Kustomization::made(loader.shown_file(FILE_NAMES[0]), resources, namespace))
}

/// The paths of the files below a folder, from there.
pub(super) fn within<'f>(top: &str, all: &'f [String]) -> Vec<&'f str> {
    all.iter().map(|path| if top.is_empty() { path } else { &path[top.len() + 1..] }).collect()
}

/// The folders among some paths that have a kustomization of their own.
pub(super) fn built<'f>(paths: &[&'f str]) -> BTreeSet<&'f str> {
    let folders = paths.iter().filter_map(|path| path.rsplit_once('/'));
    folders.filter(|(_, name)| FILE_NAMES.contains(name)).map(|(folder, _)| folder).collect()
}
