//! A tree that is known in part, and says what more of it is wanted.
//!
//! A build asks while it runs, and what holds the files may be slow, or far away. So it is run on what is known; what it
//! looks for beyond that is noted and the build ends there. Whoever has the files brings what was noted and builds again;
//! a result counts once nothing was noted. [`crate::reach_flux`] finds most of it ahead, so that few rounds are needed.

use crate::files::{Content, Found, Tree, Unreadable, join};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Files and links, as far as they are known.
#[derive(Debug, Default)]
pub struct Partial {
    /// Nothing where the file is there and its content was not brought yet.
    files: BTreeMap<String, Option<Content>>,
    /// Where each link leads within the tree; nothing where it leads out of it.
    links: BTreeMap<String, Option<String>>,
    /// The paths at and below which everything is known.
    known: BTreeSet<String>,
    wanted: RefCell<BTreeSet<String>>,
}

/// Links that are followed on the way to one file; more is a circle. Linux follows as many.
const MOST_LINKS: usize = 40;

impl Partial {
    /// A tree of which nothing is known.
    pub fn new() -> Partial {
        Partial::default()
    }

    /// Adds a file with its content.
    pub fn insert(&mut self, path: impl Into<String>, content: impl Into<Content>) {
        self.files.insert(path.into(), Some(content.into()));
    }

    /// Adds a file whose content is brought when it is asked for.
    pub fn list(&mut self, path: impl Into<String>) {
        self.files.entry(path.into()).or_insert(None);
    }

    /// Adds a link, by the path from the top of the tree that it leads to; nothing for one that leads out of it. A folder
    /// that is searched for manifests is searched without it, since an artifact of Flux holds no links.
    pub fn link(&mut self, path: impl Into<String>, target: Option<String>) {
        self.links.insert(path.into(), target);
    }

    /// Everything at and below `path` was added: what was not is not there.
    pub fn know(&mut self, path: impl Into<String>) {
        self.known.insert(path.into());
    }

    /// What was looked for since the last call, and is not known.
    pub fn take_wanted(&mut self) -> BTreeSet<String> {
        std::mem::take(self.wanted.get_mut())
    }

    fn is_known(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        ["", path].into_iter().chain(folders).any(|folder| self.known.contains(folder))
    }

    fn want<T>(&self, path: String) -> Result<T, Unreadable> {
        let why = format!("{path} is not here yet");
        self.wanted.borrow_mut().insert(path);
        Err(Unreadable(why))
    }

    fn paths_below(&self, directory: &str) -> impl Iterator<Item = &String> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        self.files.range(prefix.clone()..).map(|(path, _)| path).take_while(move |path| path.starts_with(&prefix))
    }

    /// The path without links in it.
    fn follow(&self, path: &str) -> Result<String, Unreadable> {
        let mut path = path.to_owned();
        for _ in 0..=MOST_LINKS {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            let mut links = ends.filter_map(|end| Some((end, self.links.get(&path[..end])?)));
            match links.next() {
                None => return Ok(path),
                Some((end, Some(target))) => {
                    let rest = path[end..].trim_start_matches('/');
                    path = join(target, rest).unwrap_or_default();
                }
                Some((end, None)) => {
                    let link = &path[..end];
                    let why =
                        format!("the symbolic link {link:?} leads out of the repository; commit what it leads to");
                    return Err(Unreadable(why));
                }
            }
        }
        Err(Unreadable(format!("the symbolic links on the way to {path:?} lead in a circle")))
    }
}

impl Tree for Partial {
    fn find(&self, path: &str) -> Result<Option<Found>, Unreadable> {
        let path = self.follow(path)?;
        if self.files.contains_key(&path) {
            return Ok(Some(Found::File(path)));
        }
        // A folder above what is known is there, and need not be brought to be found.
        let prefix = format!("{path}/");
        let leads_to_known = path.is_empty() || self.known.iter().any(|known| known.starts_with(&prefix));
        match self.is_known(&path) {
            _ if leads_to_known => Ok(Some(Found::Folder(path))),
            true => Ok(self.paths_below(&path).next().is_some().then_some(Found::Folder(path.clone()))),
            false => self.want(path),
        }
    }

    fn read(&self, file: &str) -> Result<Content, Unreadable> {
        match self.files.get(file) {
            Some(Some(content)) => Ok(content.clone()),
            Some(None) => self.want(file.to_owned()),
            None => Err(Unreadable(format!("{file} is not in this tree"))),
        }
    }

    fn below(&self, directory: &str) -> Result<Vec<String>, Unreadable> {
        match self.is_known(directory) {
            true => Ok(self.paths_below(directory).cloned().collect()),
            false => self.want(directory.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_and_not_known_is_noted() {
        let mut tree = Partial::new();
        assert!(tree.find("app/a.yaml").is_err() && tree.find("base").is_err());
        assert_eq!(tree.take_wanted(), ["app/a.yaml", "base"].map(str::to_owned).into());
        tree.list("app/a.yaml");
        tree.know("app");
        tree.know("base");
        assert_eq!(tree.find("app/a.yaml"), Ok(Some(Found::File("app/a.yaml".to_owned()))));
        assert_eq!(tree.find("app"), Ok(Some(Found::Folder("app".to_owned()))));
        assert_eq!((tree.find("app/b.yaml"), tree.find("base")), (Ok(None), Ok(None)));
        assert!(tree.read("app/a.yaml").is_err());
        assert_eq!(tree.take_wanted(), ["app/a.yaml".to_owned()].into());
        tree.insert("app/a.yaml", &b"a"[..]);
        assert_eq!(&*tree.read("app/a.yaml").unwrap(), b"a");
        assert!(tree.take_wanted().is_empty());
    }

    #[test]
    fn links_are_followed_to_their_end_and_no_further() {
        let mut tree = Partial::new();
        tree.insert("real/a.yaml", &b"a"[..]);
        tree.know("");
        tree.link("l", Some("m".to_owned()));
        tree.link("m", Some("real".to_owned()));
        tree.link("real/b.yaml", Some("real/a.yaml".to_owned()));
        tree.link("out", None);
        tree.link("x", Some("y/z".to_owned()));
        tree.link("y", Some("x".to_owned()));
        for path in ["l/a.yaml", "l/b.yaml", "real/b.yaml"] {
            assert_eq!(tree.find(path), Ok(Some(Found::File("real/a.yaml".to_owned()))), "{path}");
        }
        assert_eq!(tree.find("l"), Ok(Some(Found::Folder("real".to_owned()))));
        assert_eq!(tree.below("real"), Ok(vec!["real/a.yaml".to_owned()]));
        assert!(tree.find("out/b").unwrap_err().0.contains("\"out\" leads out"));
        assert!(tree.find("x/q").unwrap_err().0.contains("circle"));
    }
}
