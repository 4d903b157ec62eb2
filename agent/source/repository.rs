//! The store as a Git repository: typed objects, what is missing of a tree, who descends from whom.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use wickie_model::Oid;

use super::error::Fault;
use super::ignore;
use super::object::{self, Commit, ObjectError, Tag};
use super::scope::Scope;
use super::submodule;
use super::tree::{self, Target, TreeEntry};
use super::trees::Trees;
use crate::config::git::Limits;
use crate::store::{ObjectKind, Store, StoredObject};

/// Reads objects out of the store; each is hashed again as it is read.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) store: Store,
    trees: Trees,
}

/// What is not there of a tree.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// Folders above those in scope, of which the list of names alone is needed, and single files that lie in them.
    pub(crate) above: Vec<Oid>,
    /// Folders in scope, with all that is beneath them.
    pub(crate) trees: Vec<Oid>,
    pub(crate) blobs: Vec<Oid>,
}

impl Missing {
    pub(crate) fn first(&self) -> Option<Oid> {
        self.above.first().or(self.trees.first()).or(self.blobs.first()).copied()
    }

    pub(crate) fn contains(&self, oid: Oid) -> bool {
        [&self.above, &self.trees, &self.blobs].into_iter().any(|list| list.contains(&oid))
    }
}

/// What a walk has come by: an id, and whether it is a tree.
type Reached = HashSet<(Oid, bool)>;

/// What a walk found besides what it reached.
#[derive(Default)]
struct Walked {
    /// Trees that are not in the store.
    missing: Vec<Oid>,
    /// The commits of submodules.
    submodules: Vec<Oid>,
}

/// Whether one commit descends from another, as far as the store can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descent {
    /// A chain of parents leads there.
    Proven,
    /// Every chain was followed to its end and none leads there.
    Disproven,
    /// None leads there, but some chain leaves the store.
    Open,
    /// There are more commits than are looked at.
    TooLong,
}

impl Repository {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, trees: Trees::default() }
    }

    async fn read(&self, oid: Oid, kind: ObjectKind) -> Result<Option<Vec<u8>>, Fault> {
        match self.store.object(oid).await? {
            Some(stored) => Ok(Some(object::open(&stored, kind)?)),
            None => Ok(None),
        }
    }

    pub(crate) async fn commit(&self, oid: Oid) -> Result<Option<Commit>, Fault> {
        match self.read(oid, ObjectKind::Commit).await? {
            Some(bytes) => Ok(Some(Commit::parse(oid, &bytes)?)),
            None => Ok(None),
        }
    }

    /// The bytes of a commit, its signature among them.
    pub(crate) async fn commit_bytes(&self, oid: Oid) -> Result<Option<Vec<u8>>, Fault> {
        self.read(oid, ObjectKind::Commit).await
    }

    pub(crate) async fn tag(&self, oid: Oid) -> Result<Option<Tag>, Fault> {
        match self.read(oid, ObjectKind::Tag).await? {
            Some(bytes) => Ok(Some(Tag::parse(oid, &bytes)?)),
            None => Ok(None),
        }
    }

    pub(crate) async fn tree(&self, oid: Oid) -> Result<Option<Vec<TreeEntry>>, Fault> {
        match self.read(oid, ObjectKind::Tree).await? {
            Some(bytes) => Ok(Some(tree::parse(oid, &bytes)?)),
            None => Ok(None),
        }
    }

    /// The same, for who goes through it again and again.
    pub(crate) async fn known_tree(&self, oid: Oid) -> Result<Option<Arc<[TreeEntry]>>, Fault> {
        if let Some(known) = self.trees.get(oid) {
            return Ok(Some(known));
        }
        let Some(read) = self.tree(oid).await? else { return Ok(None) };
        let read = Arc::from(read);
        self.trees.put(oid, &read);
        Ok(Some(read))
    }

    pub(crate) async fn blob(&self, oid: Oid) -> Result<Option<Vec<u8>>, Fault> {
        self.read(oid, ObjectKind::Blob).await
    }

    /// Files in the order in which they are named; nothing stands for one that is not there.
    pub(crate) async fn blobs(&self, oids: Vec<Oid>) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        let open = |stored: Option<StoredObject>| {
            stored.map(|stored| object::open(&stored, ObjectKind::Blob).map_err(Fault::from)).transpose()
        };
        self.store.objects(oids).await?.into_iter().map(open).collect()
    }

    /// Walks what is in scope of a tree to its leaves: what of it is not in the store. Every name in it is checked on
    /// the way.
    pub(crate) async fn missing(&self, root: Oid, scope: &Scope, limits: &Limits) -> Result<Missing, Fault> {
        let mut missing = Missing::default();
        let mut reached = Reached::new();
        let mut single = Vec::new();
        let mut above = vec![(root, scope.clone())];
        while let Some((oid, scope)) = above.pop() {
            if scope.is_whole() {
                missing.trees.extend(self.walk(oid, limits, &mut reached).await?.missing);
                continue;
            }
            let Some(entries) = self.tree(oid).await? else {
                missing.above.push(oid);
                continue;
            };
            for entry in entries {
                let name = entry.name.as_str();
                match entry.target {
                    Target::Directory => above.extend(scope.enter(name).map(|scope| (entry.oid, scope))),
                    // Its patterns reach down into the folders in scope.
                    Target::File(_) if name == ignore::FILE && scope.shows(name) => single.push(entry.oid),
                    Target::File(_) if name == submodule::FILE && scope.has_modules() => single.push(entry.oid),
                    Target::File(_) if scope.takes(name) => single.push(entry.oid),
                    Target::File(_) | Target::Submodule => {}
                }
            }
        }
        let blobs: Vec<Oid> = reached.into_iter().filter(|(_, is_tree)| !is_tree).map(|(oid, _)| oid).collect();
        missing.blobs = self.absent(blobs).await?;
        missing.above.extend(self.absent(single).await?);
        Ok(missing)
    }

    /// Those of some objects that are not in the store.
    pub(crate) async fn absent(&self, oids: Vec<Oid>) -> Result<Vec<Oid>, Fault> {
        let there = self.store.object_sizes(oids.clone()).await?;
        let there: HashSet<Oid> = there.into_iter().map(|(oid, _)| oid).collect();
        Ok(oids.into_iter().filter(|oid| !there.contains(oid)).collect())
    }

    /// Everything that the commits and tags in `roots` reach, as far as it is there, the commits of submodules and what
    /// those reach included. Parents are not followed.
    pub(crate) async fn reachable(&self, roots: Vec<Oid>, limits: &Limits) -> Result<HashSet<Oid>, Fault> {
        let mut reached = HashSet::new();
        let mut keep = HashSet::new();
        let mut ahead = roots;
        while let Some(root) = ahead.pop() {
            if !keep.insert(root) {
                continue;
            }
            let Some(stored) = self.store.object(root).await? else { continue };
            let commit = match stored.kind {
                ObjectKind::Tag => self.tag(root).await?.map(|tag| tag.target),
                _ => Some(root),
            };
            let Some(commit) = commit else { continue };
            keep.insert(commit);
            if let Some(commit) = self.commit(commit).await? {
                ahead.extend(self.walk(commit.tree, limits, &mut reached).await?.submodules);
            }
        }
        keep.extend(reached.into_iter().map(|(oid, _)| oid));
        Ok(keep)
    }

    /// Adds what `root` reaches to `reached` (an id, and whether it is a tree). A tree that was reached before is not
    /// walked again, so that a tree of itself a million times costs nothing.
    async fn walk(&self, root: Oid, limits: &Limits, reached: &mut Reached) -> Result<Walked, Fault> {
        let mut walked = Walked::default();
        let mut ahead = Vec::new();
        if reached.insert((root, true)) {
            ahead.push(root);
        }
        while let Some(oid) = ahead.pop() {
            let Some(entries) = self.tree(oid).await? else {
                walked.missing.push(oid);
                continue;
            };
            for entry in entries {
                let is_tree = match entry.target {
                    Target::Directory => true,
                    Target::File(_) => false,
                    Target::Submodule => {
                        walked.submodules.push(entry.oid);
                        continue;
                    }
                };
                if reached.insert((entry.oid, is_tree)) && is_tree {
                    ahead.push(entry.oid);
                }
            }
            if reached.len() > limits.objects as usize {
                return Err(ObjectError::TooMuch { what: "objects", limit: limits.objects.into() }.into());
            }
        }
        Ok(walked)
    }

    /// Whether `tip` descends from `floor`, looking at no more than `most` commits.
    pub(crate) async fn descends(&self, tip: Oid, floor: Oid, most: u32) -> Result<Descent, Fault> {
        let mut seen = HashSet::from([tip]);
        let mut ahead = VecDeque::from([tip]);
        let mut open = false;
        while let Some(oid) = ahead.pop_front() {
            if oid == floor {
                return Ok(Descent::Proven);
            }
            let Some(commit) = self.commit(oid).await? else {
                open = true;
                continue;
            };
            for parent in commit.parents {
                if parent == floor {
                    return Ok(Descent::Proven);
                }
                if seen.insert(parent) {
                    ahead.push_back(parent);
                }
            }
            if seen.len() > most as usize {
                return Ok(Descent::TooLong);
            }
        }
        Ok(if open { Descent::Open } else { Descent::Disproven })
    }
}
