//! The tree that a build reads, and the rules for paths in it.
//!
//! A [`Loader`] stands in the folder of one kustomization. It knows the folders from which it was reached, so that a
//! base which contains one of them is refused (`internal/loader/fileloader.go` in kustomize).

use crate::error::{Error, PathProblem, Place, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a build reads from. It is asked only for what the kustomizations reach, and each file is let go once it is read.
///
/// Paths start at the top of the tree: `/` between parts, no part empty, `.` or `..`; the top itself is the empty path.
pub trait Tree {
    /// What a path leads to, links followed; nothing where there is nothing.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    fn find(&self, path: &str) -> Result<Option<Found>, Unreadable>;

    /// The content of a file, by the path that [`Tree::find`] gave.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is too large.
    fn read(&self, file: &str) -> Result<Arc<[u8]>, Unreadable>;

    /// The paths of all files in and below a folder, sorted. Asked only where Flux takes a folder whole.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read to its end.
    fn below(&self, directory: &str) -> Result<Vec<String>, Unreadable>;

    /// What a path is called in messages.
    fn shown(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// The bytes of a file.
pub(crate) type Content = Arc<[u8]>;

/// What stands at a path, by where it really stands: another path where links lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(String),
    /// A folder.
    Folder(String),
}

/// Why a tree does not say what it holds. This is no absence: the build ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Files by their path from the top of the tree, in memory.
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

    /// The paths of the files in and below a folder.
    fn paths_below(&self, directory: &str) -> impl Iterator<Item = &str> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let start = prefix.clone();
        self.0.range(start..).map(|(path, _)| path.as_str()).take_while(move |path| path.starts_with(&prefix))
    }
}

impl Tree for Files {
    fn find(&self, path: &str) -> Result<Option<Found>, Unreadable> {
        let is_folder = || path.is_empty() || self.paths_below(path).next().is_some();
        Ok(match self.0.contains_key(path) {
            true => Some(Found::File(path.to_owned())),
            false => is_folder().then(|| Found::Folder(path.to_owned())),
        })
    }

    fn read(&self, file: &str) -> Result<Arc<[u8]>, Unreadable> {
        self.0.get(file).cloned().ok_or_else(|| Unreadable(format!("{file} is not in this tree")))
    }

    fn below(&self, directory: &str) -> Result<Vec<String>, Unreadable> {
        Ok(self.paths_below(directory).map(str::to_owned).collect())
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
#[derive(Clone)]
pub(crate) struct Loader<'f> {
    tree: &'f dyn Tree,
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

impl LoadError {
    /// The error of the field that names `path`.
    pub(crate) fn at(self, place: Place, path: &str) -> Error {
        match self {
            LoadError::Problem(problem) => Error::Path { place, path: path.to_owned(), problem },
            LoadError::Refusal(refusal) => Error::Refused { place, refusal },
        }
    }
}

impl From<Unreadable> for LoadError {
    fn from(cause: Unreadable) -> LoadError {
        LoadError::Problem(PathProblem::Unreadable { cause: cause.0 })
    }
}

impl<'f> Loader<'f> {
    /// A loader at the folder that a build starts from.
    pub(crate) fn new(
        tree: &'f dyn Tree,
        restrictor: LoadRestrictor,
        directory: &str,
    ) -> Result<Loader<'f>, PathProblem> {
        let directory = join("", directory).ok_or(PathProblem::Outside)?;
        match tree.find(&directory) {
            Ok(Some(Found::Folder(directory))) => Ok(Loader { tree, restrictor, directory, ancestors: Vec::new() }),
            Ok(Some(Found::File(_)) | None) => Err(PathProblem::MissingFolder),
            Err(cause) => Err(PathProblem::Unreadable { cause: cause.0 }),
        }
    }

    /// The folder.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// The paths of all files in and below the folder.
    pub(crate) fn below(&self) -> Result<Vec<String>, LoadError> {
        Ok(self.tree.below(&self.directory)?)
    }

    /// What the folder is called in messages.
    pub(crate) fn shown(&self) -> String {
        self.tree.shown(&self.directory)
    }

    /// What a file in this folder is called in messages.
    pub(crate) fn shown_file(&self, name: &str) -> String {
        self.tree.shown(&self.full_path(name))
    }

    fn full_path(&self, name: &str) -> String {
        join(&self.directory, name).unwrap_or_else(|| name.to_owned())
    }

    /// A file of this very folder; none where there is none.
    pub(crate) fn own_file(&self, name: &str) -> Result<Option<Arc<[u8]>>, LoadError> {
        match self.tree.find(&self.full_path(name))? {
            Some(Found::File(file)) => self.allowed(&file).map(Some),
            Some(Found::Folder(_)) | None => Ok(None),
        }
    }

    /// The file that a field names: what it is called in messages, and its content.
    pub(crate) fn load(&self, path: &str) -> Result<(String, Arc<[u8]>), LoadError> {
        if is_url(path) {
            return Err(LoadError::Refusal(Refusal::Remote));
        }
        let full = self.resolve(path)?;
        let found = match self.tree.find(&full)? {
            Some(Found::File(file)) => Some(file),
            Some(Found::Folder(_)) | None => None,
        };
        // What lies outside is not told apart from what is not there.
        if !self.may_load(found.as_deref().unwrap_or(&full)) {
            return Err(LoadError::Problem(PathProblem::Restricted { root: self.shown() }));
        }
        match found {
            Some(file) => Ok((self.tree.shown(&full), self.allowed(&file)?)),
            None => Err(LoadError::Problem(PathProblem::MissingFile)),
        }
    }

    /// Reads a file by where it really stands, if the restrictor allows it.
    fn allowed(&self, file: &str) -> Result<Arc<[u8]>, LoadError> {
        match self.may_load(file) {
            true => Ok(self.tree.read(file)?),
            false => Err(LoadError::Problem(PathProblem::Restricted { root: self.shown() })),
        }
    }

    fn may_load(&self, file: &str) -> bool {
        self.restrictor == LoadRestrictor::None || contains(&self.directory, file)
    }

    /// A loader at the folder that a field names.
    pub(crate) fn enter(&self, path: &str) -> Result<Loader<'f>, LoadError> {
        if is_repository(path) {
            return Err(LoadError::Refusal(Refusal::Remote));
        }
        let Some(Found::Folder(directory)) = self.tree.find(&self.resolve(path)?)? else {
            return Err(LoadError::Problem(PathProblem::MissingFolder));
        };
        for root in std::iter::once(&self.directory).chain(&self.ancestors) {
            if contains(&directory, root) {
                return Err(LoadError::Problem(PathProblem::Cycle { root: self.tree.shown(root) }));
            }
        }
        let mut ancestors = self.ancestors.clone();
        ancestors.push(self.directory.clone());
        Ok(Loader { tree: self.tree, restrictor: self.restrictor, directory, ancestors })
    }

    /// What a field names, by where it really stands.
    pub(crate) fn look(&self, path: &str) -> Result<Option<Found>, LoadError> {
        Ok(self.tree.find(&self.resolve(path)?)?)
    }

    /// Whether a path names neither a file nor a folder of the tree.
    pub(crate) fn is_missing(&self, path: &str) -> Result<bool, LoadError> {
        match self.resolve(path) {
            Ok(full) => Ok(self.tree.find(&full)?.is_none()),
            Err(_) => Ok(true),
        }
    }

    /// Whether a path names a file of the tree, allowed or not.
    pub(crate) fn is_file(&self, path: &str) -> Result<bool, LoadError> {
        match self.resolve(path) {
            Ok(full) => Ok(matches!(self.tree.find(&full)?, Some(Found::File(_)))),
            Err(_) => Ok(false),
        }
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

/// Whether kustomize would clone what this names (`git.NewRepoSpecFromURL`).
pub fn is_repository(path: &str) -> bool {
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
