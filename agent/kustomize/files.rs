//! The tree that a build reads, and the rules for paths in it.
//!
//! A [`Loader`] stands in the folder of one kustomization. It knows the folders from which it was reached, so that a
//! base which contains one of them is refused (`internal/loader/fileloader.go` in kustomize).

use crate::error::{PathProblem, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files by their path from the top of the tree, with `/` between parts.
///
/// There are no links in it: whoever fills it follows those that stay inside the tree.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, Arc<[u8]>>);

impl Files {
    /// An empty tree.
    pub fn new() -> Files {
        Files::default()
    }

    /// Adds a file, or replaces it.
    pub fn insert(&mut self, path: impl Into<String>, content: impl Into<Arc<[u8]>>) {
        self.0.insert(path.into(), content.into());
    }

    /// The content of a file.
    pub fn get(&self, path: &str) -> Option<&Arc<[u8]>> {
        self.0.get(path)
    }

    /// All files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        self.0.iter().map(|(path, content)| (path.as_str(), content))
    }

    /// The files in and below a folder.
    pub(crate) fn below<'f>(&'f self, directory: &str) -> impl Iterator<Item = (&'f str, &'f Arc<[u8]>)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let start = prefix.clone();
        self.0
            .range(start..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, content)| (path.as_str(), content))
    }

    pub(crate) fn has_directory(&self, directory: &str) -> bool {
        directory.is_empty() || self.below(directory).next().is_some()
    }
}

impl<P: Into<String>, C: Into<Arc<[u8]>>> FromIterator<(P, C)> for Files {
    fn from_iter<I: IntoIterator<Item = (P, C)>>(files: I) -> Files {
        Files(files.into_iter().map(|(path, content)| (path.into(), content.into())).collect())
    }
}

/// Which files a kustomization may name; folders (bases, components) may lie anywhere in the tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadRestrictor {
    /// Files in and below its own folder, as `kustomize build` has it by default.
    #[default]
    RootOnly,
    /// Any file of the tree, as Flux has it.
    None,
}

/// A folder from which paths are resolved.
#[derive(Debug, Clone)]
pub(crate) struct Loader<'f> {
    files: &'f Files,
    restrictor: LoadRestrictor,
    directory: String,
    /// Folders of the kustomizations that led here.
    ancestors: Vec<String>,
}

/// Why something was not loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    Problem(PathProblem),
    Refusal(Refusal),
}

impl<'f> Loader<'f> {
    /// A loader at the folder that a build starts from.
    pub(crate) fn new(files: &'f Files, restrictor: LoadRestrictor, directory: &str) -> Option<Loader<'f>> {
        let directory = join("", directory)?;
        files.has_directory(&directory).then(|| Loader { files, restrictor, directory, ancestors: Vec::new() })
    }

    /// The folder.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// A path from the top of the tree for a file in this folder.
    pub(crate) fn full_path(&self, name: &str) -> String {
        join(&self.directory, name).unwrap_or_else(|| name.to_owned())
    }

    /// A file of this very folder, whatever the restrictor says.
    pub(crate) fn own_file(&self, name: &str) -> Option<&'f Arc<[u8]>> {
        self.files.get(&self.full_path(name))
    }

    /// The full path and content of the file that a field names.
    pub(crate) fn load(&self, path: &str) -> Result<(String, &'f Arc<[u8]>), LoadError> {
        if is_url(path) {
            return Err(LoadError::Refusal(Refusal::Remote));
        }
        let full = self.resolve(path)?;
        if self.restrictor == LoadRestrictor::RootOnly && !contains(&self.directory, &full) {
            return Err(LoadError::Problem(PathProblem::Restricted { root: self.directory.clone() }));
        }
        match self.files.get(&full) {
            Some(content) => Ok((full, content)),
            None => Err(LoadError::Problem(PathProblem::MissingFile)),
        }
    }

    /// A loader at the folder that a field names.
    pub(crate) fn enter(&self, path: &str) -> Result<Loader<'f>, LoadError> {
        if is_repository(path) {
            return Err(LoadError::Refusal(Refusal::Remote));
        }
        let directory = self.resolve(path)?;
        if self.files.get(&directory).is_some() || !self.files.has_directory(&directory) {
            return Err(LoadError::Problem(PathProblem::MissingFolder));
        }
        for root in std::iter::once(&self.directory).chain(&self.ancestors) {
            if contains(&directory, root) {
                return Err(LoadError::Problem(PathProblem::Cycle { root: root.clone() }));
            }
        }
        let mut ancestors = self.ancestors.clone();
        ancestors.push(self.directory.clone());
        Ok(Loader { files: self.files, restrictor: self.restrictor, directory, ancestors })
    }

    /// Whether a path names neither a file nor a folder of the tree.
    pub(crate) fn is_missing(&self, path: &str) -> bool {
        !self.resolve(path).is_ok_and(|full| self.files.get(&full).is_some() || self.files.has_directory(&full))
    }

    /// Whether a path names a file of the tree, allowed or not.
    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|full| self.files.get(&full).is_some())
    }

    fn resolve(&self, path: &str) -> Result<String, LoadError> {
        if path.is_empty() {
            return Err(LoadError::Problem(PathProblem::Empty));
        }
        if path.starts_with('/') {
            return Err(LoadError::Problem(PathProblem::Absolute));
        }
        join(&self.directory, path).ok_or(LoadError::Problem(PathProblem::Outside))
    }
}

/// Whether `path` is `directory` or lies below it.
fn contains(directory: &str, path: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Joins and cleans; none when the path leaves the tree.
pub(crate) fn join(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn is_url(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// What kustomize would clone (`git.NewRepoSpecFromURL`).
pub(crate) fn is_repository(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let rest = lower.strip_prefix("git::").unwrap_or(&lower);
    let user = rest.split_once('@').is_some_and(|(user, host)| {
        user.starts_with(|c: char| c.is_ascii_alphabetic())
            && user.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && host.contains([':', '/'])
    });
    ["ssh://", "https://", "http://", "file://", "github.com/", "github.com:"]
        .iter()
        .any(|start| rest.starts_with(start))
        || user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_tree() {
        assert_eq!(join("a/b", "../c").as_deref(), Some("a/c"));
        assert_eq!(join("a", "./x//y").as_deref(), Some("a/x/y"));
        assert_eq!(join("a", "../../x"), None);
        assert!(contains("a", "a/b") && contains("a", "a") && !contains("a", "ab"));
        assert!(is_repository("git@github.com:o/r.git") && is_repository("github.com/o/r?ref=main"));
        assert!(!is_repository("../base") && !is_repository("base@2"));
    }
}
