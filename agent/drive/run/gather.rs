//! From a snapshot to what a build reads of it: the folder of a Kustomization, and what that leads to.
//!
//! Nothing is read that is not reached. Of a kustomize build, first the folder's names are known; then, round by round,
//! what its kustomizations name is brought ([`wickie_kustomize::reach_flux`]), which may lead to folders that were not
//! fetched. Symbolic links are followed where something names them; a folder that is taken whole is taken without them,
//! as Flux's artifacts hold none.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use wickie_kustomize::{Ahead, Partial};
use wickie_model::{Digest, Hasher};

use super::RunError;
use crate::config::Kustomization;
use crate::render::{self, Built, Inputs, Plain, RenderError};
use crate::source::{FileEntry, FileMode, Found, Reached, Snapshot, SourceError};

/// Rounds of one build, each of which brings something new.
const ROUNDS: usize = 500;

/// Files that are read at once, and their bytes.
const TOGETHER: usize = 64;
const TOGETHER_BYTES: u64 = 256 << 10;

/// Links that are followed on the way to a folder.
const MOST_LINKS: usize = 40;

/// What became of a build.
pub(in crate::drive) enum Gathered {
    Built(Built, Trace),
    /// It needs these paths, which were not fetched.
    Lacks(BTreeSet<String>),
}

/// Every path that a build looked at, with a digest of what it found there. The contents of files count by their ids.
#[derive(Clone, Debug, Default)]
pub(in crate::drive) struct Trace(Vec<(String, Digest)>);

impl Trace {
    fn note(&mut self, path: &str, found: &Found) {
        self.0.push((path.to_owned(), digest(found)));
    }

    /// It is kept as long as what was built.
    fn ended(mut self) -> Self {
        self.0.shrink_to_fit();
        self
    }

    /// Whether a build of this snapshot would find the same at every path.
    pub(super) async fn holds(&self, snapshot: &Snapshot) -> Result<bool, SourceError> {
        for (path, before) in &self.0 {
            if digest(&snapshot.look(path).await?) != *before {
                return Ok(false);
            }
        }
        Ok(!self.0.is_empty())
    }
}

fn digest(found: &Found) -> Digest {
    let mut hasher = Hasher::default();
    let mut file = |entry: &FileEntry| {
        hasher.field(entry.path.as_bytes());
        hasher.field(format!("{:?}", entry.mode).as_bytes());
        hasher.field(entry.oid.to_string().as_bytes());
    };
    let kind = match found {
        Found::Nothing => "nothing",
        Found::NotHere => "not here",
        Found::File(entry) => {
            file(entry);
            "file"
        }
        Found::Folder(entries) => {
            entries.iter().for_each(file);
            "folder"
        }
        Found::Link { at, to } => {
            hasher.field(at.as_bytes());
            hasher.field(to.as_deref().unwrap_or("\0").as_bytes());
            "link"
        }
    };
    hasher.field(kind.as_bytes());
    hasher.finish()
}

/// What building these Kustomizations takes of a snapshot. That a build will fail is no matter here.
pub(in crate::drive) async fn reach(
    snapshot: &Snapshot,
    kustomizations: &[Arc<Kustomization>],
) -> Result<Reached, SourceError> {
    let mut reached = Reached::default();
    for kustomization in kustomizations {
        let mut tree = Gathering::new(snapshot, Ahead::Names);
        if let Start::Folder { path, files } = tree.start(&kustomization.path).await?
            && render::takes_kustomize(kustomization, files.iter().map(|file| file.path.as_str()))
        {
            tree.add_folder(&path, files).await?;
            tree.reach(kustomization, &path).await?;
        }
        reached.here.extend(tree.looked_at);
        reached.missing.extend(tree.lacks);
    }
    Ok(reached)
}

/// Builds a Kustomization, or says what is not here for it.
pub(super) async fn build(
    snapshot: &Snapshot,
    kustomization: &Kustomization,
    inputs: &Inputs,
) -> Result<Gathered, RunError> {
    let mut tree = Gathering::new(snapshot, Ahead::Content);
    let (path, files) = match tree.start(&kustomization.path).await? {
        Start::Folder { path, files } => (path, files),
        Start::Lacks => return Ok(Gathered::Lacks(tree.lacks)),
        Start::Nothing => return Err(RenderError::NoPath(kustomization.path.clone()).into()),
        Start::Link(why) => return Err(RenderError::Link { path: kustomization.path.clone(), why }.into()),
    };
    if !render::takes_kustomize(kustomization, files.iter().map(|file| file.path.as_str())) {
        return Ok(Gathered::Built(build_plain(snapshot, kustomization, inputs, files).await?, tree.trace.ended()));
    }
    tree.add_folder(&path, files).await?;
    for _ in 0..ROUNDS {
        tree.reach(kustomization, &path).await?;
        if !tree.lacks.is_empty() {
            return Ok(Gathered::Lacks(tree.lacks));
        }
        let built = render::build_kustomize(kustomization, inputs, &tree.tree, &path);
        let wanted = tree.tree.take_wanted();
        if wanted.is_empty() {
            return Ok(Gathered::Built(built?, tree.trace.ended()));
        }
        tree.bring(wanted).await?;
    }
    Err(RunError::Endless { rounds: ROUNDS })
}

/// Builds from plain files. Links are no files: what they lead to stands for itself.
async fn build_plain(
    snapshot: &Snapshot,
    kustomization: &Kustomization,
    inputs: &Inputs,
    mut files: Vec<FileEntry>,
) -> Result<Built, RunError> {
    // Of two objects of one name that of the first file counts, by its path.
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    files.retain(|entry| entry.mode != FileMode::Symlink);
    let mut plain = Plain::new(kustomization, inputs);
    let mut ahead = files.as_slice();
    while !ahead.is_empty() {
        let (now, later) = ahead.split_at(together(ahead));
        let read = snapshot.read_all(now.iter().map(|entry| entry.oid).collect()).await?;
        now.iter().zip(read).try_for_each(|(entry, bytes)| plain.file(&entry.path, &bytes))?;
        ahead = later;
    }
    Ok(plain.finish()?)
}

/// How many of some files are read at once: each way to the store and back costs more than a small one. At least one.
fn together(files: &[FileEntry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&FileEntry| {
        bytes += entry.size;
        bytes <= TOGETHER_BYTES
    };
    files.iter().take(TOGETHER).take_while(fits).count().max(1)
}

/// The folder that a build starts from.
enum Start {
    Folder { path: String, files: Vec<FileEntry> },
    Nothing,
    Lacks,
    Link(String),
}

struct Gathering<'s> {
    snapshot: &'s Snapshot,
    ahead: Ahead,
    tree: Partial,
    /// Files that are listed, by their paths.
    listed: HashMap<String, FileEntry>,
    /// Every path that was looked at, and is here.
    looked_at: BTreeSet<String>,
    /// Every path that was looked at, and is not.
    lacks: BTreeSet<String>,
    trace: Trace,
}

impl<'s> Gathering<'s> {
    fn new(snapshot: &'s Snapshot, ahead: Ahead) -> Self {
        let (tree, listed) = (Partial::new(), HashMap::new());
        Self {
            snapshot,
            ahead,
            tree,
            listed,
            looked_at: BTreeSet::new(),
            lacks: BTreeSet::new(),
            trace: Trace::default(),
        }
    }

    async fn start(&mut self, path: &str) -> Result<Start, SourceError> {
        let mut path = path.to_owned();
        for _ in 0..=MOST_LINKS {
            let found = self.snapshot.look(&path).await?;
            self.trace.note(&path, &found);
            match found {
                Found::Folder(files) => {
                    self.looked_at.insert(path.clone());
                    return Ok(Start::Folder { path, files });
                }
                Found::Nothing | Found::File(_) => {
                    self.looked_at.insert(path);
                    return Ok(Start::Nothing);
                }
                Found::NotHere => {
                    self.lacks.insert(path);
                    return Ok(Start::Lacks);
                }
                Found::Link { at, to: None } => {
                    return Ok(Start::Link(format!(
                        "the symbolic link {at:?} leads out of the repository; commit what it leads to"
                    )));
                }
                Found::Link { at, to: Some(to) } => {
                    let rest = path.get(at.len()..).unwrap_or_default();
                    path = format!("{to}{rest}").trim_matches('/').to_owned();
                    self.looked_at.insert(at);
                }
            }
        }
        Ok(Start::Link("the symbolic links on the way lead in a circle".to_owned()))
    }

    /// Brings what the kustomizations name, as far as it is here.
    async fn reach(&mut self, kustomization: &Kustomization, root: &str) -> Result<(), SourceError> {
        for _ in 0..ROUNDS {
            wickie_kustomize::reach_flux(&self.tree, root, &kustomization.overlay, self.ahead);
            let wanted = self.tree.take_wanted();
            if wanted.is_subset(&self.lacks) {
                return Ok(());
            }
            self.bring(wanted).await?;
        }
        Ok(())
    }

    async fn bring(&mut self, wanted: BTreeSet<String>) -> Result<(), SourceError> {
        for path in wanted {
            match self.listed.get(&path) {
                Some(file) => self.content(file.clone()).await?,
                None => self.find(path).await?,
            }
        }
        Ok(())
    }

    async fn find(&mut self, path: String) -> Result<(), SourceError> {
        let found = self.snapshot.look(&path).await?;
        self.trace.note(&path, &found);
        match found {
            Found::Nothing => self.tree.know(path.clone()),
            Found::File(file) => {
                self.tree.list(path.clone());
                self.listed.insert(path.clone(), file);
            }
            Found::Folder(files) => self.add_folder(&path, files).await?,
            Found::Link { at, to } => self.tree.link(at, to),
            Found::NotHere => {
                self.lacks.insert(path);
                return Ok(());
            }
        }
        self.looked_at.insert(path);
        Ok(())
    }

    async fn add_folder(&mut self, path: &str, files: Vec<FileEntry>) -> Result<(), SourceError> {
        for file in files {
            match file.mode {
                FileMode::Symlink => self.tree.link(file.path.clone(), self.snapshot.follow(&file).await?),
                FileMode::Regular | FileMode::Executable => {
                    self.tree.list(file.path.clone());
                    self.listed.insert(file.path.clone(), file);
                }
            }
        }
        self.tree.know(path);
        Ok(())
    }

    async fn content(&mut self, file: FileEntry) -> Result<(), SourceError> {
        let bytes = match (self.snapshot.read(file.oid).await, self.ahead) {
            (Ok(bytes), _) => bytes,
            // That it cannot be used is for the build to say.
            (Err(_), Ahead::Names) => bytes::Bytes::new(),
            (Err(error), Ahead::Content) => return Err(error),
        };
        self.tree.insert(file.path, bytes.as_ref());
        Ok(())
    }
}
