//! The files that Flux decrypts before it builds: what Secrets are generated from, and patches.
//!
//! Source: kustomize-controller v1.9, `internal/decryptor`, `DecryptSources`. It goes through the kustomizations that a
//! folder reaches by `resources` and `components`. What cannot be reached is passed over: the build says so.

use super::FluxOverlay;
use crate::error::Error;
use crate::files::{Found, LoadRestrictor, Loader, Tree};
use crate::kustomization::Kustomization;
use std::collections::{BTreeMap, BTreeSet};

/// What a file is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceUse {
    /// An entry of a Secret, or a patch: its name says what it holds.
    Named,
    /// Lines of `NAME=value`, unless its name says otherwise.
    Env,
}

/// A file that may be encrypted as a whole, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    /// The name that says what it holds: that of a Secret's entry, or the file's own.
    pub name: String,
    /// What it is taken for.
    pub used: SourceUse,
}

/// The files, by where they really stand, that the build of a folder makes Secrets of or patches with.
///
/// # Errors
///
/// A kustomization that cannot be read, and a tree that does not say what it holds.
pub fn secret_sources(
    tree: &dyn Tree,
    root: &str,
    overlay: &FluxOverlay,
) -> Result<BTreeMap<String, SecretSource>, Error> {
    let mut sources = BTreeMap::new();
    let Ok(top) = Loader::new(tree, LoadRestrictor::None, root) else { return Ok(sources) };
    let mut seen = BTreeSet::from([top.directory().to_owned()]);
    let mut folders = vec![top];
    let mut components = overlay.components.clone();
    while let Some(loader) = folders.pop() {
        let below = std::mem::take(&mut components);
        let (of_folder, mut entries) = match Kustomization::load_lax(&loader)? {
            Some(kustomization) => gather(&kustomization),
            None => (Vec::new(), Vec::new()),
        };
        for (path, source) in of_folder {
            if let Some(Found::File(file)) = loader.look(&path).ok().flatten() {
                // A file keeps the use that it is met with first: it is decrypted once.
                sources.entry(file).or_insert(source);
            }
        }
        entries.extend(below);
        for entry in entries {
            if let Ok(loader) = loader.enter(&entry)
                && seen.insert(loader.directory().to_owned())
            {
                folders.push(loader);
            }
        }
    }
    Ok(sources)
}

/// What a kustomization makes Secrets of, with the path of each; and the folders it names, with files among them.
fn gather(kustomization: &Kustomization) -> (Vec<(String, SecretSource)>, Vec<String>) {
    let mut sources = Vec::new();
    let mut add = |path: &str, name: &str, used| {
        sources.push((path.to_owned(), SecretSource { name: name.to_owned(), used }));
    };
    for secret in &kustomization.secrets {
        for file in &secret.files {
            let (name, path) = file.split_once('=').unwrap_or((file, file));
            add(path, name, SourceUse::Named);
        }
        secret.envs.iter().for_each(|path| add(path, path, SourceUse::Env));
    }
    for patch in kustomization.patches.iter().filter(|patch| !patch.path.is_empty()) {
        add(&patch.path, &patch.path, SourceUse::Named);
    }
    let entries = kustomization.resources.iter().chain(&kustomization.components);
    (sources, entries.map(|entry| entry.text.clone()).collect())
}
