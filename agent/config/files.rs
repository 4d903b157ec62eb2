//! Declared objects from files: one folder of YAML, or single files, for nodes that want no CRDs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use wickie_kustomize::yaml;
use wickie_model::{Resource, ResourceKind, ResourceName};

use super::declared::Declared;
use super::node::{self, NodeConfig};
use super::secrets::{Named, SecretData, Secrets};
use crate::store::Origin;

/// The namespace of file objects that name none.
pub const DEFAULT_NAMESPACE: &str = "flux-system";

/// A configuration file larger than this is a mistake.
const MAX_FILE: u64 = 4 << 20;

/// The folder beside the configuration in which somebody may put permits for steps back.
const PERMITS: &str = "permits";

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// Objects of wickie's kinds.
    pub declared: BTreeMap<Resource, Arc<Declared>>,
    /// Secrets that stand beside them.
    pub secrets: Secrets,
    /// ConfigMaps that stand beside them.
    pub config_maps: BTreeMap<ResourceName, SecretData>,
    /// The node's own configuration.
    pub node: NodeConfig,
    /// What could not be read. The rest stands all the same.
    pub problems: Vec<Problem>,
}

/// A file, or a document in one, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Reads every file named, and every `.yaml` or `.yml` file in the folders named (not deeper), by name.
pub fn read(paths: &[PathBuf]) -> Files {
    let mut files = Files::default();
    for path in paths {
        match listing(path) {
            Ok(found) => found.iter().for_each(|file| read_file(file, &mut files)),
            Err(error) => files.problem(path, format!("cannot be read: {error}")),
        }
    }
    files.node.permits = paths.iter().filter(|path| path.is_dir()).map(|path| path.join(PERMITS)).collect();
    files
}

/// A value that changes when any of the files does: names, sizes and times of change.
pub fn fingerprint(paths: &[PathBuf]) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let files = paths.iter().flat_map(|path| listing(path).unwrap_or_default());
    files
        .map(|file| match fs::metadata(&file) {
            Ok(metadata) => (file, metadata.len(), metadata.modified().ok()),
            Err(_) => (file, 0, None),
        })
        .collect()
}

fn listing(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // Editors leave hidden files; a mounted ConfigMap has hidden folders that the visible names link to.
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if yaml && !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(file: &Path, files: &mut Files) {
    let bytes = match fs::metadata(file).and_then(|metadata| match metadata.len() {
        0..=MAX_FILE => fs::read(file),
        size => Err(std::io::Error::other(format!("{size} bytes are more than the {MAX_FILE} allowed"))),
    }) {
        Ok(bytes) => bytes,
        Err(error) => return files.problem(file, format!("cannot be read: {error}")),
    };
    match yaml::documents(&file.display().to_string(), &bytes) {
        Ok(documents) => documents.iter().for_each(|document| files.add(file, document)),
        Err(error) => files.problem(file, error.to_string()),
    }
}

impl Files {
    fn problem(&mut self, file: &Path, why: String) {
        self.problems.push(Problem { file: file.to_owned(), why });
    }

    fn add(&mut self, file: &Path, document: &yaml::Document) {
        if let Err(why) = self.try_add(&document.value) {
            self.problem(file, format!("the document at line {}: {why}", document.line));
        }
    }

    fn try_add(&mut self, document: &Value) -> Result<(), String> {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let group = version.split_once('/').map_or("", |(group, _)| group);
        if let Some(ours) = kind.parse::<ResourceKind>().ok().filter(|ours| ours.group() == group) {
            let declared = Declared::new(ours, document, Origin::File, DEFAULT_NAMESPACE).map_err(|e| e.to_string())?;
            return match self.declared.insert(declared.resource.clone(), Arc::new(declared)) {
                Some(twice) => Err(format!("{} is declared twice; the later one is used", twice.resource)),
                None => Ok(()),
            };
        }
        let of = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let name = || of("/metadata/name").ok_or("metadata.name is missing");
        let namespace = || of("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE);
        match (version, kind) {
            ("v1", "Secret") => {
                let data = SecretData::from_document(document).map_err(|error| error.to_string())?;
                self.secrets.insert(Named::secret(namespace(), name()?), data);
            }
            ("v1", "ConfigMap") => {
                let data = SecretData::from_config_map(document).map_err(|error| error.to_string())?;
                self.config_maps.insert(ResourceName::new(namespace(), name()?), data);
            }
            (node::API_VERSION, node::KIND) => {
                let read = NodeConfig::from_document(document).map_err(|error| error.to_string());
                self.node = read.clone().unwrap_or_else(NodeConfig::unreadable);
                read?;
            }
            _ => {
                return Err(format!(
                    "{version} {kind:?} does not belong here: this folder takes GitRepository, Kustomization, Provider, Alert, Receiver, Secret, ConfigMap and NodeConfig"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_file_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let source = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: shop}\nspec: {}\n";
        fs::write(dir.path().join("a.yaml"), source).unwrap();
        fs::write(dir.path().join("b.yaml"), "a: [").unwrap();
        fs::write(dir.path().join("c.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n").unwrap();
        fs::write(
            dir.path().join("d.yml"),
            "apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {require-verified: true}\n",
        )
        .unwrap();
        fs::write(dir.path().join(".e.yaml"), "a: [").unwrap();
        let files = read(&[dir.path().to_owned()]);
        assert_eq!(files.declared.len(), 1);
        assert!(files.node.require_verified);
        assert_eq!(files.problems.len(), 2, "{:?}", files.problems);
    }

    #[test]
    fn a_misspelt_policy_is_a_problem_and_not_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.yaml");
        fs::write(&file, "apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {require-verfied: true}\n").unwrap();
        let files = read(&[file]);
        assert!(files.problems[0].why.contains("require-verfied"), "{:?}", files.problems);
        assert!(files.node.unreadable.is_some());
        // One that was read before goes on to hold.
        let strict = NodeConfig { require_verified: true, ..NodeConfig::default() };
        let mut node = files.node.clone();
        node.stays_as_strict_as(strict.clone());
        assert_eq!(node, strict);
    }
}
