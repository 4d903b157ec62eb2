//! What a build will ask for, found from its kustomizations alone.
//!
//! A build stops at the first file that is not known; this goes through all that the kustomizations name, so that a tree
//! known in part is completed in a few rounds. Configurations of generators and transformers are gone through for what
//! looks like a path. It errs on the side of more, and reports no error: that is for the build.

use super::{FluxOverlay, scan};
use crate::files::{LoadRestrictor, Loader, is_repository};
use crate::kustomization::Kustomization;
use crate::partial::Partial;
use crate::yaml::{self, Dialect};
use serde_json::Value;
use std::collections::BTreeSet;

/// Members of a plugin's configuration that name files.
const NAMING: [&str; 5] = ["path", "paths", "files", "envs", "env"];

/// How deep a plugin's configuration is gone into.
const DEEPEST: usize = 16;

/// What of the files that a kustomization names is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// That they are there.
    Names,
    /// Their content too, as for a build that follows.
    Content,
}

/// Looks for all that building the folder `root` of `tree` will look for, as far as its kustomizations are known;
/// [`Partial::take_wanted`] tells what of it is not.
pub fn reach_flux(tree: &Partial, root: &str, overlay: &FluxOverlay, ahead: Ahead) {
    let Ok(loader) = Loader::new(tree, LoadRestrictor::None, root) else { return };
    let mut reach = Reach { ahead, entered: BTreeSet::new() };
    for component in &overlay.components {
        reach.name(&loader, component);
    }
    match Kustomization::load_lax(&loader) {
        Ok(Some(kustomization)) => reach.kustomization(&loader, &kustomization),
        Ok(None) => reach.scanned(&loader),
        Err(_) => {}
    }
}

struct Reach {
    ahead: Ahead,
    entered: BTreeSet<String>,
}

impl Reach {
    /// A folder without a kustomization: its files are read, and folders with one below it are built.
    fn scanned(&mut self, loader: &Loader<'_>) {
        let Ok(all) = loader.below() else { return };
        let below = scan::within(loader.directory(), &all);
        let built = scan::built(&below);
        for path in &below {
            let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]);
            match folders.find(|folder| built.contains(folder)) {
                Some(folder) => self.name(loader, folder),
                None if path.ends_with(".yaml") || path.ends_with(".yml") => self.file(loader, path),
                None => {}
            }
        }
    }

    fn file(&self, loader: &Loader<'_>, path: &str) {
        match self.ahead {
            Ahead::Names => drop(loader.is_file(path)),
            Ahead::Content => drop(loader.load(path)),
        }
    }

    fn kustomization(&mut self, loader: &Loader<'_>, own: &Kustomization) {
        let entries = [&own.resources, &own.components, &own.crds, &own.configurations, &own.patches_strategic_merge];
        for entry in entries.into_iter().flatten() {
            self.name(loader, &entry.text);
        }
        for patch in own.patches.iter().chain(&own.patches_json6902) {
            self.name(loader, &patch.path);
        }
        for replacement in &own.replacements {
            self.name(loader, &replacement.path);
        }
        for sources in own.config_maps.iter().chain(&own.secrets) {
            for path in sources.envs.iter().chain(&sources.files) {
                self.name(loader, path.rsplit('=').next().unwrap_or(path));
            }
        }
        if let Some(path) = own.open_api.get("path") {
            self.file(loader, path);
        }
        for entry in own.generators.iter().chain(&own.transformers).chain(&own.validators) {
            self.name(loader, &entry.text);
            match loader.load(&entry.text) {
                Ok((_, bytes)) => self.plugin(loader, &bytes),
                Err(_) => self.plugin(loader, entry.text.as_bytes()),
            }
        }
    }

    /// A file or a folder that a field names.
    fn name(&mut self, loader: &Loader<'_>, path: &str) {
        if path.is_empty() || path.contains('\n') || is_repository(path) {
            return;
        }
        match loader.enter(path) {
            Ok(below) => {
                if self.entered.insert(below.directory().to_owned())
                    && let Ok(Some(kustomization)) = Kustomization::load_lax(&below)
                {
                    self.kustomization(&below, &kustomization);
                }
            }
            Err(_) => self.file(loader, path),
        }
    }

    fn plugin(&self, loader: &Loader<'_>, bytes: &[u8]) {
        let Ok(trees) = yaml::trees("", bytes, Dialect::Kubernetes) else { return };
        for tree in &trees {
            if let Ok(value) = yaml::json::to_value(&tree.root) {
                self.members(loader, &value, DEEPEST);
            }
        }
    }

    fn members(&self, loader: &Loader<'_>, value: &Value, deep: usize) {
        let Some(deep) = deep.checked_sub(1) else { return };
        for (name, member) in value.as_object().into_iter().flatten() {
            let items = member.as_array().map_or(std::slice::from_ref(member), Vec::as_slice);
            for item in items {
                match item.as_str().filter(|_| NAMING.contains(&name.as_str())) {
                    Some(text) => self.text(loader, text),
                    None => self.members(loader, item, deep),
                }
            }
        }
    }

    /// What may be a path, with or without a key in front.
    fn text(&self, loader: &Loader<'_>, text: &str) {
        let path = text.rsplit('=').next().unwrap_or(text);
        if !path.is_empty() && !path.contains('\n') && !is_repository(path) {
            self.file(loader, path);
        }
    }
}
