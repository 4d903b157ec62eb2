//! A snapshot: the files of one commit, read from the store.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use wickie_model::{Oid, Revision};

use super::error::{Fault, SourceError};
use super::ignore::{self, Patterns};
use super::object::ObjectError;
use super::repository::Repository;
use super::tree::{FileMode, Target, TreeEntry};
use super::verify::Head;
use crate::config::git::{GitSource, Limits};

/// The files of a commit, without what Flux's defaults, `.sourceignore` and `spec.ignore` leave out.
#[derive(Clone)]
pub struct Snapshot {
    repository: Repository,
    head: Head,
    accepted_at: Timestamp,
    ignore: Arc<[Patterns; 2]>,
    limits: Limits,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path from the root of the repository, with `/` between names and none in front.
    pub path: String,
    /// Whether it is a file or a link.
    pub mode: FileMode,
    /// The id of its bytes: equal ids are equal bytes.
    pub oid: Oid,
    /// Its size in bytes.
    pub size: u64,
}

/// How deep folders may lie within each other.
const DEEPEST: usize = 64;

/// How LFS pointers begin (git-lfs, docs/spec.md).
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.head.revision)
    }
}

impl Snapshot {
    pub(crate) fn new(repository: Repository, source: &GitSource, head: Head, accepted_at: Timestamp) -> Self {
        let spec = Patterns::parse("", source.ignore.as_deref().unwrap_or_default());
        let ignore = Arc::new([Patterns::defaults(), spec]);
        Self { repository, head, accepted_at, ignore, limits: source.limits }
    }

    /// The commit and the name it was reached by.
    pub fn revision(&self) -> &Revision {
        &self.head.revision
    }

    /// The commit.
    pub fn commit(&self) -> Oid {
        self.head.revision.commit()
    }

    /// The root tree: two snapshots with the same one hold the same files.
    pub fn tree(&self) -> Oid {
        self.head.tree
    }

    /// Who signed it, for people; `None` where the source asks for no signature.
    pub fn signer(&self) -> Option<&str> {
        self.head.signer.as_deref()
    }

    /// When the commit says it was made.
    pub fn committed(&self) -> Timestamp {
        self.head.committed
    }

    /// When it was accepted.
    pub fn accepted_at(&self) -> Timestamp {
        self.accepted_at
    }

    /// The files in the folder `path` and in all folders beneath it, sorted by path; `None` if there is no such folder.
    ///
    /// `path` is relative to the root; `./` in front, `/` at either end and an empty path are allowed. Links are listed
    /// as links, not followed; submodules are left out.
    pub async fn files(&self, path: &str) -> Result<Option<Vec<FileEntry>>, SourceError> {
        self.list(path).await.map_err(|fault| self.failed(fault))
    }

    /// The id of the folder `path`: equal ids are equal files. `None` if there is no such folder.
    pub async fn folder(&self, path: &str) -> Result<Option<Oid>, SourceError> {
        let found = self.descend(path).await.map_err(|fault| self.failed(fault))?;
        Ok(found.map(|folder| folder.tree))
    }

    /// The bytes of a file, by the id that [`Snapshot::files`] gave, checked against that id.
    pub async fn read(&self, oid: Oid) -> Result<Bytes, SourceError> {
        let read = async {
            let bytes = self.repository.blob(oid).await?.ok_or(ObjectError::Missing { kind: "file", oid })?;
            match bytes.starts_with(LFS) {
                true => Err(Fault::from(ObjectError::Lfs { oid })),
                false => Ok(Bytes::from(bytes)),
            }
        };
        read.await.map_err(|fault| self.failed(fault))
    }

    fn failed(&self, fault: Fault) -> SourceError {
        content_error(&self.head.revision, fault)
    }

    async fn list(&self, path: &str) -> Result<Option<Vec<FileEntry>>, Fault> {
        let Some(start) = self.descend(path).await? else { return Ok(None) };
        let mut files = Vec::new();
        let mut ahead = vec![start];
        while let Some(folder) = ahead.pop() {
            for entry in self.entries(folder.tree).await? {
                let path = format!("{}{}", folder.prefix, entry.name);
                match entry.target {
                    Target::Directory if folder.depth >= DEEPEST => {
                        return Err(
                            ObjectError::TooMuch { what: "folders within each other", limit: DEEPEST as u64 }.into()
                        );
                    }
                    Target::Directory => ahead.push(self.enter(&folder, &entry).await?),
                    Target::File(mode) if !self.is_ignored(&folder, &path) => {
                        files.push(FileEntry { path, mode, oid: entry.oid, size: 0 });
                    }
                    Target::File(_) | Target::Submodule => {}
                }
            }
            // Folders can be the same folder many times over: what is small in the store may be endless as a list.
            if files.len() + ahead.len() > self.limits.objects as usize {
                return Err(ObjectError::TooMuch { what: "files", limit: self.limits.objects.into() }.into());
            }
        }
        self.add_sizes(&mut files).await?;
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        Ok(Some(files))
    }

    /// Goes down to a folder, picking up the patterns of those on the way.
    async fn descend(&self, path: &str) -> Result<Option<Folder>, Fault> {
        let mut folder = self.root().await?;
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            let entries = self.entries(folder.tree).await?;
            let found = entries.into_iter().find(|entry| entry.name == name && entry.target == Target::Directory);
            match found {
                Some(entry) => folder = self.enter(&folder, &entry).await?,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    async fn root(&self) -> Result<Folder, Fault> {
        let top = Folder { tree: self.head.tree, prefix: String::new(), patterns: Vec::new(), depth: 0 };
        self.with_patterns(top).await
    }

    async fn enter(&self, parent: &Folder, entry: &TreeEntry) -> Result<Folder, Fault> {
        self.with_patterns(Folder {
            tree: entry.oid,
            prefix: format!("{}{}/", parent.prefix, entry.name),
            patterns: parent.patterns.clone(),
            depth: parent.depth + 1,
        })
        .await
    }

    async fn with_patterns(&self, mut folder: Folder) -> Result<Folder, Fault> {
        let entries = self.entries(folder.tree).await?;
        let file =
            entries.iter().find(|entry| entry.name == ignore::FILE && entry.target == Target::File(FileMode::Regular));
        if let Some(file) = file
            && let Some(bytes) = self.repository.blob(file.oid).await?
        {
            folder.patterns.push(Arc::new(Patterns::parse(&folder.prefix, &String::from_utf8_lossy(&bytes))));
        }
        Ok(folder)
    }

    async fn entries(&self, oid: Oid) -> Result<Vec<TreeEntry>, Fault> {
        Ok(self.repository.tree(oid).await?.ok_or(ObjectError::Missing { kind: "tree", oid })?)
    }

    fn is_ignored(&self, folder: &Folder, path: &str) -> bool {
        let [defaults, spec] = &*self.ignore;
        let own = folder.patterns.iter().map(|patterns| &**patterns);
        ignore::is_ignored(std::iter::once(defaults).chain(own).chain(std::iter::once(spec)), path)
    }

    async fn add_sizes(&self, files: &mut [FileEntry]) -> Result<(), Fault> {
        let oids = files.iter().map(|file| file.oid).collect();
        let sizes: std::collections::HashMap<Oid, u64> =
            self.repository.store.object_sizes(oids).await?.into_iter().collect();
        for file in files {
            file.size = *sizes.get(&file.oid).ok_or(ObjectError::Missing { kind: "file", oid: file.oid })?;
        }
        Ok(())
    }
}

/// A folder on the way through a snapshot.
struct Folder {
    tree: Oid,
    prefix: String,
    patterns: Vec<Arc<Patterns>>,
    depth: usize,
}

/// A fault in what a revision holds, with the revision.
pub(crate) fn content_error(revision: &Revision, fault: Fault) -> SourceError {
    match fault {
        Fault::Store(error) => SourceError::Store(error),
        Fault::Object(source) => SourceError::Content { revision: revision.to_string(), source },
        // Reading the store makes no exchange; a wire fault here is a digest that met a collision.
        Fault::Wire(error) => SourceError::Content {
            revision: revision.to_string(),
            source: ObjectError::Damaged { oid: revision.commit(), detail: error.to_string() },
        },
    }
}
