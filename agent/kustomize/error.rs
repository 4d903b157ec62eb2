//! What can go wrong in a build: which file, which line, which field, why, and what to do.

use crate::yaml::{Fault, YamlError};
use std::fmt;
use std::sync::Arc;

/// A build that did not come to an end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file is not YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A folder that should hold a kustomization holds none.
    #[error("{directory}: no kustomization.yaml, kustomization.yml or Kustomization in this folder")]
    NoKustomization {
        /// The folder.
        directory: String,
    },
    /// A folder holds more than one kustomization.
    #[error("{directory}: {} are all kustomizations of one folder; keep one of them", .names.join(" and "))]
    ManyKustomizations {
        /// The folder.
        directory: String,
        /// The files in it.
        names: Vec<String>,
    },
    /// A kustomization says nothing.
    #[error("{file}: the kustomization is empty; name at least one resource")]
    Empty {
        /// The file.
        file: String,
    },
    /// A field is unknown or holds something that it cannot hold.
    #[error("{place}: {problem}")]
    Field {
        /// Where it stands.
        place: Place,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that kustomize can do and wickie does not.
    #[error("{place}: {refusal}")]
    Refused {
        /// Where it is asked for.
        place: Place,
        /// What, and what to do instead.
        refusal: Refusal,
    },
    /// A file or folder that a field names cannot be used.
    #[error("{place}: {path:?}: {problem}")]
    Path {
        /// The field that names it.
        place: Place,
        /// The path as written.
        path: String,
        /// Why not.
        problem: PathProblem,
    },
    /// A document is not an object.
    #[error("{at}: {problem}")]
    Object {
        /// Which document.
        at: Source,
        /// Why not.
        problem: String,
    },
    /// Two objects have one name.
    #[error("{id}: both {first} and {second} define it; remove one, or tell them apart by namespace or prefix")]
    Conflict {
        /// The name.
        id: String,
        /// Where the first stands.
        first: Source,
        /// Where the second stands.
        second: Source,
    },
    /// A step of the build could not be done.
    #[error("{place}: {problem}")]
    Step {
        /// The field that asks for it.
        place: Place,
        /// Why not.
        problem: String,
    },
    /// An object cannot be written as JSON at the end.
    #[error("{id} ({at}): {fault}")]
    Output {
        /// The object.
        id: String,
        /// Where it was read.
        at: Source,
        /// Why not.
        fault: Fault,
    },
}

/// A field of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the top of the tree.
    pub file: String,
    /// Its line, from 1; nought when it is not known.
    pub line: usize,
    /// The field, such as `patches[0].path`; empty for the whole file.
    pub field: String,
}

/// A document of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, relative to the top of the tree.
    pub file: Arc<str>,
    /// Which document, from nought.
    pub document: usize,
    /// Its first line, from 1; nought for generated objects.
    pub line: usize,
}

/// What is refused, with the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `helmCharts`, `helmChartInflationGenerator` and the plugin of that name.
    #[error(
        "Helm charts are not rendered on the node; render them in the pipeline (wickie-ci render) and commit the result"
    )]
    Helm,
    /// Generators, transformers and validators that run a program or a container.
    #[error(
        "plugins that run a program or a container are not run on the node; run them in the pipeline (wickie-ci render) and commit the result"
    )]
    Plugin,
    /// Bases, components and files behind a URL.
    #[error(
        "remote bases and files are not fetched during a build; bring them into the repository as a submodule, or with `include` in the GitRepository"
    )]
    Remote,
}

/// Why a path cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Neither a file nor a folder.
    #[error("there is no such file or folder in this tree")]
    Missing,
    /// There is no such file.
    #[error("there is no such file in this tree")]
    MissingFile,
    /// There is no such folder.
    #[error("there is no such folder in this tree")]
    MissingFolder,
    /// It starts with a slash.
    #[error("the path is absolute; write it relative to the kustomization")]
    Absolute,
    /// It leads out of the tree.
    #[error("the path leads out of the tree")]
    Outside,
    /// The load restrictor forbids files above the kustomization.
    #[error(
        "the file is not in or below {root:?}; move it there, or lift the restriction (--load-restrictor LoadRestrictionsNone)"
    )]
    Restricted {
        /// The kustomization's folder.
        root: String,
    },
    /// The folder is one that is being built.
    #[error("the folder contains {root:?}, which is being built: this would never end")]
    Cycle {
        /// The folder that is being built.
        root: String,
    },
    /// The path is empty.
    #[error("the path is empty")]
    Empty,
    /// It is there, or may be, and cannot be read.
    #[error("{cause}")]
    Unreadable {
        /// What came back.
        cause: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line} (document {})", self.file, self.document + 1),
        }
    }
}
