//! A snapshot: the files of one commit, read from the store.
//!
//! What is part of it: the commit's files as far as `spec.sparseCheckout` takes them, those of its submodules where the
//! source asks for them, those of included snapshots where they are mounted, without what ignore patterns leave out. As
//! in Flux, `.gitattributes` counts for nothing: source-controller checks out with go-git and packs the files itself, it
//! never runs git-archive, so that `export-ignore` and `export-subst` have no effect (the file itself is left out).
//!
//! Symbolic links: an artifact of Flux holds none, and listing a folder lists them as links. A path that is asked for by
//! name may go through them, as long as they lead to something within the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use wickie_model::{Oid, Revision};

use super::error::{Fault, SourceError};
use super::floors::Began;
use super::ignore::{self, Patterns};
use super::include::Mount;
use super::object::ObjectError;
use super::repository::Repository;
use super::room::Reading;
use super::scope::{self, Scope};
use super::submodule;
use super::tree::{FileMode, Target, TreeEntry};
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

/// How deep folders may lie within each other.
const DEEPEST: usize = 64;

/// A link to a longer path is none.
const LONGEST_LINK: usize = 4_096;

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
        Ok(self.read_all(vec![oid]).await?.pop().unwrap_or_default())
    }

    /// The bytes of files, as by [`Snapshot::read`], in the order in which they are named. How many at once, and how large,
    /// is for the caller to bound.
    pub async fn read_all(&self, oids: Vec<Oid>) -> Result<Vec<Bytes>, SourceError> {
        let read = async {
            let blobs = self.repository.blobs(oids.clone()).await?;
            let whole = |(blob, oid): (Option<Vec<u8>>, Oid)| match blob {
                None => Err(Fault::from(ObjectError::Missing { kind: "file", oid })),
                Some(bytes) if bytes.starts_with(LFS) => Err(ObjectError::Lfs { oid }.into()),
                Some(bytes) => Ok(Bytes::from(bytes)),
            };
            blobs.into_iter().zip(oids).map(whole).collect::<Result<Vec<Bytes>, Fault>>()
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

    /// Whether there is anything of this very name in what was checked out, ignored or not.
    async fn shows(&self, path: &str) -> Result<bool, Fault> {
        let mut folder = self.root().await?;
        let mut names = scope::names(path).peekable();
        while let Some(name) = names.next() {
            let Some(entry) = self.entries(folder.tree).await?.into_iter().find(|entry| entry.name == name) else {
                return Ok(false);
            };
            match self.enter(&folder, &entry).await? {
                Some(within) => folder = within,
                None => return Ok(names.peek().is_none() && folder.scope.shows(name)),
            }
        }
        Ok(true)
    }

    fn failed(&self, fault: Fault) -> SourceError {
        content_error(&self.head.revision, fault)
    }

    async fn find(&self, path: &str) -> Result<Found, Fault> {
        for mount in self.mounts.iter() {
            if let Some(inside) = mount.within(path) {
                return Box::pin(self.find_mounted(mount, &inside)).await;
            }
        }
        let mut folder = self.root().await?;
        let mut names = scope::names(path).peekable();
        while let Some(name) = names.next() {
            let entries = self.entries(folder.tree).await?;
            let found = entries.into_iter().find(|entry| entry.name == name);
            let at = format!("{}{name}", folder.prefix);
            match found {
                Some(TreeEntry { target: Target::File(mode), oid, .. }) => {
                    if self.is_ignored(&folder, &at) || !folder.scope.shows(name) {
                        return Ok(Found::Nothing);
                    }
                    if mode == FileMode::Symlink {
                        let to = self.target(&at, oid).await?;
                        return Ok(Found::Link { at, to });
                    }
                    if names.peek().is_some() {
                        return Ok(Found::Nothing);
                    }
                    let mut file = [FileEntry { path: at, mode, oid, size: 0 }];
                    self.add_sizes(&mut file).await?;
                    let [file] = file;
                    return Ok(Found::File(file));
                }
                Some(entry) => match self.enter(&folder, &entry).await? {
                    Some(within) => folder = within,
                    None => return Ok(Found::Nothing),
                },
                None if self.mounts.is_empty() => return Ok(Found::Nothing),
                // A folder may be there for what is mounted in it.
                None => break,
            }
        }
        Ok(self.list(path).await?.map_or(Found::Nothing, Found::Folder))
    }

    async fn find_mounted(&self, mount: &Mount, inside: &str) -> Result<Found, Fault> {
        Ok(match mount.snapshot.find(inside).await? {
            Found::File(file) => match self.mounted(mount, vec![file]).await?.pop() {
                Some(file) => Found::File(file),
                None => Found::Nothing,
            },
            Found::Link { at, to } => match mount.without(&at) {
                Some(at) => Found::Link { at, to: to.and_then(|to| mount.without(&to)) },
                None => Found::Nothing,
            },
            Found::Folder(files) => Found::Folder(self.mounted(mount, files).await?),
            found => found,
        })
    }

    /// Files of an included snapshot under the paths they have here, without what patterns of this one leave out.
    async fn mounted(&self, mount: &Mount, files: Vec<FileEntry>) -> Result<Vec<FileEntry>, Fault> {
        let mut above = self.root().await?;
        for name in scope::names(&mount.at) {
            let entries = self.entries(above.tree).await?;
            let Some(entry) = entries.into_iter().find(|entry| entry.name == name) else { break };
            let Some(within) = self.enter(&above, &entry).await? else { break };
            above = within;
        }
        let renamed = files.into_iter().filter_map(|file| Some(FileEntry { path: mount.without(&file.path)?, ..file }));
        Ok(renamed.filter(|file| !self.is_ignored(&above, &file.path)).collect())
    }

    async fn list(&self, path: &str) -> Result<Option<Vec<FileEntry>>, Fault> {
        for mount in self.mounts.iter() {
            if let Some(inside) = mount.within(path) {
                let files = Box::pin(mount.snapshot.list(&inside)).await?;
                return match files {
                    Some(files) => self.mounted(mount, files).await.map(Some),
                    None => Ok(None),
                };
            }
        }
        let mut files = self.list_own(path).await?;
        for mount in self.mounts.iter().filter(|mount| mount.lies_in(path)) {
            let more = match Box::pin(mount.snapshot.find(&mount.from)).await? {
                Found::File(file) => vec![file],
                Found::Folder(files) => files,
                Found::Nothing | Found::Link { .. } | Found::NotHere => Vec::new(),
            };
            let more = self.mounted(mount, more).await?;
            files.get_or_insert_default().extend(more);
        }
        if let Some(files) = &mut files {
            files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        }
        Ok(files)
    }

    async fn list_own(&self, path: &str) -> Result<Option<Vec<FileEntry>>, Fault> {
        let Some(start) = self.descend(path).await? else { return Ok(None) };
        let mut files = Vec::new();
        let mut ahead = vec![start];
        while let Some(folder) = ahead.pop() {
            for entry in self.entries(folder.tree).await? {
                let path = format!("{}{}", folder.prefix, entry.name);
                match entry.target {
                    Target::Directory | Target::Submodule if folder.depth >= DEEPEST => {
                        return Err(
                            ObjectError::TooMuch { what: "folders within each other", limit: DEEPEST as u64 }.into()
                        );
                    }
                    Target::Directory | Target::Submodule => ahead.extend(self.enter(&folder, &entry).await?),
                    Target::File(mode) if folder.scope.shows(&entry.name) && !self.is_ignored(&folder, &path) => {
                        files.push(FileEntry { path, mode, oid: entry.oid, size: 0 });
                    }
                    Target::File(_) => {}
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
        for name in scope::names(path) {
            let entries = self.entries(folder.tree).await?;
            let Some(entry) = entries.into_iter().find(|entry| entry.name == name) else { return Ok(None) };
            match self.enter(&folder, &entry).await? {
                Some(within) => folder = within,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    async fn root(&self) -> Result<Folder, Fault> {
        let tree = self.head.tree;
        let project = self.project(String::new(), tree, 0).await?;
        let scope = Scope::of(&self.extent).regardless_of_use();
        let top = Folder { tree, prefix: String::new(), patterns: Vec::new(), depth: 0, scope, project };
        self.with_patterns(top).await
    }

    /// The submodules of the project whose root is at `prefix`.
    async fn project(&self, prefix: String, root: Oid, level: usize) -> Result<Option<Arc<Project>>, Fault> {
        if !self.extent.submodules || level >= submodule::DEEPEST {
            return Ok(None);
        }
        let modules = self.repository.modules(root).await?;
        let paths = modules.into_iter().map(|module| module.path).collect();
        Ok(Some(Arc::new(Project { prefix, paths, level })))
    }

    /// The folder that an entry is; `None` for a file, for one that is not checked out, and for a submodule that is not
    /// asked for.
    async fn enter(&self, parent: &Folder, entry: &TreeEntry) -> Result<Option<Folder>, Fault> {
        let Some(scope) = parent.scope.enter(&entry.name) else { return Ok(None) };
        let prefix = format!("{}{}/", parent.prefix, entry.name);
        let (tree, project) = match entry.target {
            Target::File(_) => return Ok(None),
            Target::Directory => (entry.oid, parent.project.clone()),
            Target::Submodule => {
                let Some(project) = parent.project.as_ref().filter(|project| project.lists(&prefix)) else {
                    return Ok(None);
                };
                let commit = self.repository.commit(entry.oid).await?;
                let commit = commit.ok_or(ObjectError::Missing { kind: "commit of a submodule", oid: entry.oid })?;
                (commit.tree, self.project(prefix.clone(), commit.tree, project.level + 1).await?)
            }
        };
        let (patterns, depth) = (parent.patterns.clone(), parent.depth + 1);
        self.with_patterns(Folder { tree, prefix, patterns, depth, scope, project }).await.map(Some)
    }

    async fn with_patterns(&self, mut folder: Folder) -> Result<Folder, Fault> {
        if !folder.scope.shows(ignore::FILE) {
            return Ok(folder);
        }
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

    /// Where the link at `path` leads; `None` out of the snapshot.
    async fn target(&self, path: &str, oid: Oid) -> Result<Option<String>, Fault> {
        let bytes = self.repository.blob(oid).await?.ok_or(ObjectError::Missing { kind: "link", oid })?;
        Ok(std::str::from_utf8(&bytes).ok().and_then(|target| leads_to(path, target)))
    }

    fn is_ignored(&self, folder: &Folder, path: &str) -> bool {
        let Ignore { defaults, beside_given, spec } = &*self.ignore;
        let given = !spec.is_empty() || folder.patterns.iter().any(|patterns| !patterns.is_empty());
        let defaults = if given { beside_given } else { defaults };
        let own = folder.patterns.iter().map(|patterns| &**patterns);
        ignore::is_ignored(std::iter::once(defaults).chain(own).chain(std::iter::once(spec)), path)
    }

    async fn add_sizes(&self, files: &mut [FileEntry]) -> Result<(), Fault> {
        let oids = files.iter().map(|file| file.oid).collect();
        let sizes: HashMap<Oid, u64> = self.repository.store.object_sizes(oids).await?.into_iter().collect();
        for file in files {
            file.size = *sizes.get(&file.oid).ok_or(ObjectError::Missing { kind: "file", oid: file.oid })?;
        }
        Ok(())
    }
}

/// Where a link with this text at `path` leads; `None` where it is absolute, or goes above the root.
fn leads_to(path: &str, target: &str) -> Option<String> {
    if target.is_empty() || target.starts_with('/') || target.len() > LONGEST_LINK {
        return None;
    }
    let mut at: Vec<&str> = path.split('/').collect();
    at.pop();
    for name in scope::names(target) {
        match name {
            ".." => drop(at.pop()?),
            name => at.push(name),
        }
    }
    Some(at.join("/"))
}

/// A folder on the way through a snapshot.
struct Folder {
    tree: Oid,
    prefix: String,
    patterns: Vec<Arc<Patterns>>,
    depth: usize,
    /// What of it is checked out.
    scope: Scope,
    /// The project it belongs to, where submodules are part of the snapshot.
    project: Option<Arc<Project>>,
}

/// A commit's files, as far as submodules are concerned.
struct Project {
    prefix: String,
    /// Where its submodules are.
    paths: Vec<String>,
    /// How many projects it lies in.
    level: usize,
}

impl Project {
    /// Whether it lists a submodule at the folder `prefix`.
    fn lists(&self, prefix: &str) -> bool {
        let path = prefix.strip_prefix(&self.prefix).map(|path| path.trim_end_matches('/'));
        path.is_some_and(|path| self.paths.iter().any(|listed| listed == path))
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

#[cfg(test)]
mod tests {
    use super::leads_to;

    #[test]
    fn a_link_leads_from_its_folder_and_not_out() {
        for (path, target, to) in [
            ("a/b/link", "../c.yaml", Some("a/c.yaml")),
            ("link", "./a//b/", Some("a/b")),
            ("a/link", "..", Some("")),
            ("a/link", "../../x", None),
            ("a/link", "b/../../../x", None),
            ("link", "/etc/passwd", None),
            ("link", "", None),
        ] {
            assert_eq!(leads_to(path, target).as_deref(), to, "{path} -> {target}");
        }
    }
}
