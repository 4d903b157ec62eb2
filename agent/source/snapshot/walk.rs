//! The way through the folders of a snapshot, by name: what is checked out, what is ignored, what is mounted, what a link
//! leads to.

use std::collections::HashMap;
use std::sync::Arc;

use wickie_model::Oid;

use super::{FileEntry, Found, Ignore, Snapshot};
use crate::source::error::Fault;
use crate::source::ignore::{self, Patterns};
use crate::source::include::Mount;
use crate::source::object::ObjectError;
use crate::source::scope::{self, Scope};
use crate::source::submodule;
use crate::source::tree::{FileMode, Target, TreeEntry};

/// How deep folders may lie within each other.
const DEEPEST: usize = 64;

/// A link to a longer path is none.
const LONGEST_LINK: usize = 4_096;

impl Snapshot {
    /// Whether there is anything of this very name in what was checked out, ignored or not.
    pub(super) async fn shows(&self, path: &str) -> Result<bool, Fault> {
        let mut folder = self.root().await?;
        let mut names = scope::names(path).peekable();
        while let Some(name) = names.next() {
            let entries = self.entries(folder.tree).await?;
            let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
                return Ok(false);
            };
            match self.enter(&folder, entry).await? {
                Some(within) => folder = within,
                None => return Ok(names.peek().is_none() && folder.scope.shows(name)),
            }
        }
        Ok(true)
    }

    pub(super) async fn find(&self, path: &str) -> Result<Found, Fault> {
        for mount in self.mounts.iter() {
            if let Some(inside) = mount.within(path) {
                return Box::pin(self.find_mounted(mount, &inside)).await;
            }
        }
        let mut folder = self.root().await?;
        let mut names = scope::names(path).peekable();
        while let Some(name) = names.next() {
            let entries = self.entries(folder.tree).await?;
            let found = entries.iter().find(|entry| entry.name == name);
            let at = format!("{}{name}", folder.prefix);
            match found {
                Some(&TreeEntry { target: Target::File(mode), oid, .. }) => {
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
                Some(entry) => match self.enter(&folder, entry).await? {
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
            let Some(entry) = entries.iter().find(|entry| entry.name == name) else { break };
            let Some(within) = self.enter(&above, entry).await? else { break };
            above = within;
        }
        let renamed = files.into_iter().filter_map(|file| Some(FileEntry { path: mount.without(&file.path)?, ..file }));
        Ok(renamed.filter(|file| !self.is_ignored(&above, &file.path)).collect())
    }

    pub(super) async fn list(&self, path: &str) -> Result<Option<Vec<FileEntry>>, Fault> {
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
            for entry in &*self.entries(folder.tree).await? {
                let path = format!("{}{}", folder.prefix, entry.name);
                match entry.target {
                    Target::Directory | Target::Submodule if folder.depth >= DEEPEST => {
                        return Err(
                            ObjectError::TooMuch { what: "folders within each other", limit: DEEPEST as u64 }.into()
                        );
                    }
                    Target::Directory | Target::Submodule => ahead.extend(self.enter(&folder, entry).await?),
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
    pub(super) async fn descend(&self, path: &str) -> Result<Option<Folder>, Fault> {
        let mut folder = self.root().await?;
        for name in scope::names(path) {
            let entries = self.entries(folder.tree).await?;
            let Some(entry) = entries.iter().find(|entry| entry.name == name) else { return Ok(None) };
            match self.enter(&folder, entry).await? {
                Some(within) => folder = within,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    async fn root(&self) -> Result<Folder, Fault> {
        let tree = self.head.tree;
        let project = self.project(String::new(), tree, 0).await?;
        let scope = Scope::shown(&self.extent);
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

    async fn entries(&self, oid: Oid) -> Result<Arc<[TreeEntry]>, Fault> {
        Ok(self.repository.known_tree(oid).await?.ok_or(ObjectError::Missing { kind: "tree", oid })?)
    }

    /// Where the link at `path` leads; `None` out of the snapshot.
    pub(super) async fn target(&self, path: &str, oid: Oid) -> Result<Option<String>, Fault> {
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
pub(super) struct Folder {
    pub(super) tree: Oid,
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
