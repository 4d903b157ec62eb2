//! A folder on disk as a tree to build: for a person who builds or compares what is not in Git yet. The agent itself
//! builds from verified snapshots alone.
//!
//! Links are followed as long as they stay below the top. Nothing is read but what a build reaches, and what one build
//! may read is bounded.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wickie_kustomize::{Found, Tree, Unreadable};

use super::{Built, Files, Inputs, RenderError};
use crate::config::Kustomization;

/// No manifest is larger: etcd takes objects of 1.5 MiB, and a file may hold a few hundred.
const LARGEST_FILE: u64 = 32 << 20;

/// What one build may read in all. Each file is let go once it is read.
const MOST_BYTES: u64 = 1 << 30;

/// How many files a folder without a kustomization may hold.
const MOST_FILES: usize = 100_000;

/// Version control's own folder: Flux leaves it out of what it takes.
const GIT: &str = ".git";

/// A folder on disk, and all below it.
#[derive(Debug)]
pub struct Folder {
    top: PathBuf,
    /// The working directory: what lies below it is called from there.
    here: Option<PathBuf>,
    left: Cell<u64>,
}

impl Folder {
    /// The tree whose top is this folder; links in its path are followed.
    pub fn at(top: &Path) -> io::Result<Folder> {
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).ok();
        Ok(Folder { top: top.canonicalize()?, here, left: Cell::new(MOST_BYTES) })
    }

    /// The top, without links in it.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// A path of the tree, from the top.
    fn within(&self, real: &Path) -> Result<String, Unreadable> {
        let path = real
            .strip_prefix(&self.top)
            .map_err(|_| Unreadable(format!("a link leads out of {}, to {}", self.top.display(), real.display())))?;
        let text = path.to_str().ok_or_else(|| Unreadable(format!("the name {} is not UTF-8", real.display())))?;
        Ok(text.to_owned())
    }

    fn open(&self, file: &str) -> io::Result<Vec<u8>> {
        let opened = File::open(self.top.join(file))?;
        let meta = opened.metadata()?;
        let bound = LARGEST_FILE.min(self.left.get());
        let too_much = || {
            let what = if bound < LARGEST_FILE { "the files of one build" } else { "a file" };
            io::Error::other(format!(
                "{what} may hold {} MiB",
                if bound < LARGEST_FILE { MOST_BYTES } else { bound } >> 20
            ))
        };
        if !meta.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        if meta.len() > bound {
            return Err(too_much());
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
        opened.take(bound + 1).read_to_end(&mut bytes)?;
        match (bytes.len() as u64).cmp(&bound) {
            std::cmp::Ordering::Greater => Err(too_much()),
            _ => {
                self.left.set(self.left.get() - bytes.len() as u64);
                Ok(bytes)
            }
        }
    }

    fn walk(&self, folder: &Path, files: &mut Vec<String>) -> Result<(), Unreadable> {
        let fault = |error: io::Error| Unreadable(format!("{} cannot be listed: {error}", folder.display()));
        for entry in fs::read_dir(folder).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(fault)?);
            if kind.is_dir() && entry.file_name() != GIT {
                self.walk(&path, files)?;
            } else if kind.is_file() || kind.is_symlink() && path.is_file() {
                files.push(self.within(&path)?);
            }
            if files.len() > MOST_FILES {
                return Err(Unreadable(format!("{} holds more than {MOST_FILES} files", self.top.display())));
            }
        }
        Ok(())
    }
}

/// Why a folder was not built.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there, or cannot be read.
    #[error("{} cannot be built", .folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file in it cannot be read.
    #[error(transparent)]
    Read(#[from] Unreadable),
    /// The build came to no end.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Builds what stands in a folder on disk in place of a Kustomization's path. What it builds upon may stand anywhere in the
/// same working tree of Git, or else in the folder itself.
pub fn build_folder(spec: &Kustomization, inputs: &Inputs, folder: &Path) -> Result<Built, FolderError> {
    let fault = |cause| FolderError::Open { folder: folder.to_owned(), cause };
    let real = folder.canonicalize().map_err(fault)?;
    let top = real.ancestors().find(|above| above.join(GIT).exists()).unwrap_or(&real);
    let tree = Folder::at(top).map_err(fault)?;
    let root = tree.within(&real)?;
    let files = tree.below(&root)?;
    if super::takes_kustomize(spec, files.iter().map(String::as_str)) {
        return Ok(super::build_kustomize(spec, inputs, &tree, &root)?);
    }
    Ok(super::build_plain(spec, inputs, &plain(&tree, files)?)?)
}

/// The YAML files in and below a folder, by their path.
pub fn yaml_files(folder: &Path) -> Result<Files, FolderError> {
    let fault = |cause| FolderError::Open { folder: folder.to_owned(), cause };
    let tree = Folder::at(folder).map_err(fault)?;
    plain(&tree, tree.below("")?)
}

/// The YAML files among these, read.
fn plain(tree: &Folder, files: Vec<String>) -> Result<Files, FolderError> {
    let mut plain = Files::new();
    for file in files.into_iter().filter(|file| super::is_yaml(file)) {
        if let Some(Found::File(real)) = tree.find(&file)? {
            plain.insert(file, tree.read(&real)?.to_vec().into());
        }
    }
    Ok(plain)
}

impl Tree for Folder {
    fn find(&self, path: &str) -> Result<Option<Found>, Unreadable> {
        let full = self.top.join(path);
        let fault = |error: io::Error| Unreadable(format!("{} cannot be looked at: {error}", full.display()));
        let real = match full.canonicalize() {
            Ok(real) => real,
            // Text that no path can be is no path either.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidFilename) => {
                return Ok(None);
            }
            Err(error) => return Err(fault(error)),
        };
        let inside = self.within(&real)?;
        Ok(Some(match fs::metadata(&real).map_err(fault)?.is_dir() {
            true => Found::Folder(inside),
            false => Found::File(inside),
        }))
    }

    fn read(&self, file: &str) -> Result<Arc<[u8]>, Unreadable> {
        let fault = |error| Unreadable(format!("{} cannot be read: {error}", self.top.join(file).display()));
        Ok(self.open(file).map_err(fault)?.into())
    }

    fn below(&self, directory: &str) -> Result<Vec<String>, Unreadable> {
        let mut files = Vec::new();
        self.walk(&self.top.join(directory), &mut files)?;
        files.sort_unstable();
        Ok(files)
    }

    fn shown(&self, path: &str) -> String {
        let full = self.top.join(path);
        match self.here.as_ref().map(|here| full.strip_prefix(here)) {
            Some(Ok(below)) if below.as_os_str().is_empty() => ".".to_owned(),
            Some(Ok(below)) => below.display().to_string(),
            _ => full.display().to_string(),
        }
    }
}
