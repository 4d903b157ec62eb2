//! A snapshot: the files of one commit, read from the store.
//!
//! What is part of it: the commit's files as far as `spec.sparseCheckout` takes them, those of its submodules where the
//! source asks for them, those of included snapshots where they are mounted, without what ignore patterns leave out. As
//! in Flux, `.gitattributes` counts for nothing: source-controller checks out with go-git and packs the files itself, it
//! never runs git-archive, so that `export-ignore` and `export-subst` have no effect (the file itself is left out).
//!
//! Symbolic links: an artifact of Flux holds none, and listing a folder lists them as links. A path that is asked for by
//! name may go through them, as long as they lead to something within the snapshot.

mod walk;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use wickie_model::{Oid, Revision};

use super::error::{Fault, SourceError};
use super::floors::Began;
use super::ignore::Patterns;
use super::include::Mount;
use super::object::ObjectError;
use super::repository::Repository;
use super::room::Reading;
use super::scope;
use super::tree::FileMode;
use super::verify::Head;
use crate::config::git::{GitSource, Limits};
use crate::store::Extent;

/// The files of a commit, without what Flux's defaults, `.sourceignore` and `spec.ignore` leave out.
#[derive(Clone)]
pub struct Snapshot {
    repository: Repository,
    head: Arc<Head>,
    accepted_at: Timestamp,
    began: Option<Arc<Began>>,
    ignore: Arc<Ignore>,
    limits: Limits,
    extent: Arc<Extent>,
    mounts: Arc<[Mount]>,
    /// Keeps its files from being collected while they are read.
    #[expect(dead_code, reason = "held for what its drop does")]
    reading: Option<Arc<Reading>>,
}

/// Patterns of what is not part of a snapshot, besides those that stand in it.
struct Ignore {
    defaults: Patterns,
    beside_given: Patterns,
    spec: Patterns,
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

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file.
    File(FileEntry),
    /// The path goes through a link, or is one.
    Link {
        /// Where the link stands.
        at: String,
        /// Where it leads within the snapshot; nothing for one that leads out of it.
        to: Option<String>,
    },
    /// A folder, with all files and links in it and beneath it.
    Folder(Vec<FileEntry>),
    /// It is part of the commit, and was not fetched.
    NotHere,
}

/// How LFS pointers begin (git-lfs, docs/spec.md).
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.head.revision)
    }
}

impl Snapshot {
    pub(crate) fn new(
        repository: Repository,
        source: &GitSource,
        head: Head,
        accepted_at: Timestamp,
        extent: Extent,
    ) -> Self {
        let spec = Patterns::parse("", source.ignore.as_deref().unwrap_or_default());
        let (defaults, beside_given) = (Patterns::defaults(), Patterns::beside_given());
        let ignore = Arc::new(Ignore { defaults, beside_given, spec });
        let (head, extent, mounts) = (Arc::new(head), Arc::new(extent), Arc::new([]));
        Self {
            repository,
            head,
            accepted_at,
            began: None,
            ignore,
            limits: source.limits,
            extent,
            mounts,
            reading: None,
        }
    }

    /// The same, with other snapshots in it.
    pub(crate) fn with_mounts(self, mounts: Vec<Mount>) -> Self {
        Self { mounts: mounts.into(), ..self }
    }

    /// Keeps its files from being collected for as long as it is there.
    pub(crate) fn read_by(self, reading: Arc<Reading>) -> Self {
        Self { reading: Some(reading), ..self }
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

    /// How much of the commit it has.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// How its source's floor began, where it has just been accepted and began one.
    pub fn began(&self) -> Option<&Began> {
        self.began.as_deref()
    }

    pub(crate) fn beginning(self, began: Option<Began>) -> Self {
        Self { began: began.map(Arc::new), ..self }
    }

    /// The files in the folder `path` and in all folders beneath it, sorted by path; `None` if there is no such folder.
    ///
    /// `path` is relative to the root; `./` in front, `/` at either end and an empty path are allowed. Links are listed
    /// as links, not followed.
    pub async fn files(&self, path: &str) -> Result<Option<Vec<FileEntry>>, SourceError> {
        self.list(path).await.map_err(|fault| self.failed(fault))
    }

    /// What stands at `path`, written as for [`Snapshot::files`].
    pub async fn look(&self, path: &str) -> Result<Found, SourceError> {
        match self.find(path).await {
            Err(Fault::Object(ObjectError::Missing { .. })) => Ok(Found::NotHere),
            found => found.map_err(|fault| self.failed(fault)),
        }
    }

    /// Where a link that [`Snapshot::look`] listed leads within the snapshot; `None` for one that leads out of it.
    pub async fn follow(&self, link: &FileEntry) -> Result<Option<String>, SourceError> {
        let within = self.mounts.iter().find_map(|mount| Some((mount, mount.within(&link.path)?)));
        let followed = match within {
            Some((mount, inside)) => {
                let inner = FileEntry { path: inside, ..link.clone() };
                return Ok(Box::pin(mount.snapshot.follow(&inner)).await?.and_then(|to| mount.without(&to)));
            }
            None => self.target(&link.path, link.oid).await,
        };
        followed.map_err(|fault| self.failed(fault))
    }

    /// The id of the folder `path`: equal ids are equal files. `None` if there is no such folder.
    pub async fn folder(&self, path: &str) -> Result<Option<Oid>, SourceError> {
        let found = self.descend(path).await.map_err(|fault| self.failed(fault))?;
        Ok(found.map(|folder| folder.tree))
    }

    /// The bytes of a file, by the id that [`Snapshot::files`] gave, checked against that id.
    pub async fn read(&self, oid: Oid) -> Result<Bytes, SourceError> {
        let blob = self.repository.blob(oid).await;
        blob.and_then(|blob| whole(oid, blob)).map_err(|fault| self.failed(fault))
    }

    /// The bytes of files, as by [`Snapshot::read`], in the order in which they are named. How many at once, and how large,
    /// is for the caller to bound.
    pub async fn read_all(&self, oids: Vec<Oid>) -> Result<Vec<Bytes>, SourceError> {
        let read = async {
            let blobs = self.repository.blobs(oids.clone()).await?;
            oids.into_iter().zip(blobs).map(|(oid, blob)| whole(oid, blob)).collect::<Result<_, Fault>>()
        };
        read.await.map_err(|fault| self.failed(fault))
    }

    /// Whether each path of `spec.sparseCheckout` is there, as Flux asks of them; the first that is not.
    pub(crate) async fn lacks_sparse(&self) -> Result<Option<String>, Fault> {
        for path in &self.extent.sparse {
            // As fluxcd's securejoin does it: what leads above the root stays there.
            let mut clean: Vec<&str> = Vec::new();
            for name in scope::names(path) {
                match name {
                    ".." => drop(clean.pop()),
                    name => clean.push(name),
                }
            }
            if !self.shows(&clean.join("/")).await? {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }

    fn failed(&self, fault: Fault) -> SourceError {
        content_error(&self.head.revision, fault)
    }
}

/// The bytes of a file as they were found.
fn whole(oid: Oid, blob: Option<Vec<u8>>) -> Result<Bytes, Fault> {
    match blob {
        None => Err(ObjectError::Missing { kind: "file", oid }.into()),
        Some(bytes) if bytes.starts_with(LFS) => Err(ObjectError::Lfs { oid }.into()),
        Some(bytes) => Ok(Bytes::from(bytes)),
    }
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
