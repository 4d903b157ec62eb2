//! One run of a Kustomization: build, look, plan, write down what is meant to happen, do it, write down what did.
//!
//! ```text
//! snapshot ─► build ─► look at what is there ─► plan ─► intent (store) ─► waves ─► outcomes (store)
//! ```
//!
//! Guarantees: nothing is sent to the cluster before the store holds that it will be; an object leaves the inventory
//! only when the API server has confirmed that it is gone. A process that is killed anywhere in between finds, when it
//! starts again, every object it may have made.

mod gather;
mod job;
mod lost;
mod observe;
mod still;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::sync::Semaphore;
use wickie_model::{Digest, Hasher, ObjectId, ObjectMap, ResourceName, Revision};
use wickie_plan::{Desired, Refusal};

use super::announce::Announcer;
use super::claims::Claims;
use super::targets::NoTarget;
use super::values::Trouble;
use crate::cluster::{ApiError, Cluster};
use crate::config::Kustomization;
use crate::config::git::GitSource;
use crate::render::{self, Built, Inputs, Packed, RenderError, Seal};
use crate::source::{Git, SourceError, SourceErrorClass, Traffic};
use crate::store::{Store, StoreError};
use gather::{Gathered, Trace};

pub(super) use gather::reach;
pub(super) use job::{Job, Report, Restored};
pub(super) use lost::Lost;
pub(super) use still::Still;

/// What every run shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) git: Rc<Git>,
    /// The agent's own cluster: what it is told by.
    pub(super) cluster: Cluster,
    pub(super) claims: Rc<RefCell<Claims>>,
    pub(super) announcer: Rc<RefCell<Announcer>>,
    /// What builds have cost on the network, until it is counted.
    pub(super) spent: Rc<RefCell<Vec<(ResourceName, Traffic)>>>,
    /// Leave to build: each build holds its files and objects in memory.
    pub(super) building: Rc<Semaphore>,
    /// The namespace that the agent lives in.
    pub(super) namespace: String,
}

/// What Git wants: what plans need to know of it, and the manifests themselves, packed.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What it was built from.
    pub(super) key: BuildKey,
    pub(super) desired: ObjectMap<Desired>,
    pub(super) manifests: Rc<Packed>,
    /// Files that could not be read.
    pub(super) broken: Vec<render::Broken>,
    pub(super) held_back: Vec<ObjectId>,
    /// Objects that hold secret values, and the key for their digests.
    pub(super) secret: BTreeSet<ObjectId>,
    pub(super) seal: Option<Seal>,
    /// What the build looked at.
    trace: Trace,
}

impl Wanted {
    /// Nothing at all: what a deleted Kustomization wants.
    pub(super) fn nothing(key: BuildKey) -> Self {
        Self {
            key,
            desired: ObjectMap::default(),
            manifests: Rc::default(),
            broken: Vec::new(),
            held_back: Vec::new(),
            secret: BTreeSet::new(),
            seal: None,
            trace: Trace::default(),
        }
    }

    /// The key for the digests of an object, where it has one.
    pub(super) fn seal(&self, id: &ObjectId) -> Option<&Seal> {
        self.seal.as_ref().filter(|_| self.secret.contains(id))
    }
}

/// All that a build depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildKey {
    pub(super) revision: Revision,
    /// Of the spec, the source and the inputs.
    rest: Digest,
}

impl BuildKey {
    /// `inputs` is [`Inputs::digest`].
    pub(super) fn new(revision: Revision, spec: Digest, source: Digest, inputs: Digest) -> Self {
        let mut rest = Hasher::default();
        [spec, source, inputs].iter().for_each(|part| rest.field(part.as_bytes()));
        Self { revision, rest: rest.finish() }
    }

    /// That of a build of another revision that is made from the same otherwise.
    pub(super) fn at(&self, revision: Revision) -> Self {
        Self { revision, rest: self.rest }
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("the snapshot cannot be loaded")]
    Source(#[from] SourceError),
    #[error("the snapshot of {0} at {1} is no longer in the store")]
    NoSnapshot(ResourceName, Revision),
    #[error("the build needs {paths}, of which {revision} was not fetched; it could not be fetched now")]
    NotFetched { paths: String, revision: String, source: Box<SourceError> },
    #[error("the build reached for further files {rounds} times and found no end; name fewer of them")]
    Endless { rounds: usize },
    #[error("{0}")]
    Values(#[from] Trouble),
    #[error("{0}")]
    Render(#[from] RenderError),
    #[error("{0}")]
    Target(#[from] NoTarget),
    #[error("{at} cannot be looked at")]
    Look {
        at: String,
        #[source]
        error: ApiError,
    },
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0} was set back; all in it is looked at anew")]
    SetBack(String),
    #[error("what is to be done cannot be written down, so nothing was done")]
    Store(#[from] StoreError),
}

impl RunError {
    /// Whether it may well work in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Look { error, .. } => error.class.is_transient(),
            Self::Target(why) => why.is_transient(),
            Self::Store(_) => true,
            Self::Values(trouble) => trouble.is_transient(),
            Self::NotFetched { source, .. } => source.class() == SourceErrorClass::Transient,
            _ => false,
        }
    }
}

/// Builds at a time, of all Kustomizations.
pub(super) const BUILDS: usize = 2;

/// How often more is fetched for one build.
const WIDENINGS: usize = 16;

/// What a Kustomization wants, and whether it was built anew for that: what was built `before` serves as long as it would
/// come out the same.
pub(super) async fn wanted(
    shared: &Shared,
    kustomization: &Kustomization,
    inputs: &Inputs,
    source: &GitSource,
    expected: &BuildKey,
    before: Option<&Wanted>,
) -> Result<(Rc<Wanted>, bool), RunError> {
    // It is never closed.
    let _leave = shared.building.acquire().await;
    // A build is large even before it begins: those of a thousand Kustomizations that wait for their turn are not made yet.
    Box::pin(async {
        if let Some(before) = before
            && let Some(same) = unchanged(shared, source, before, expected).await?
        {
            return Ok((same, false));
        }
        build(shared, kustomization, inputs, source, expected).await.map(|built| (built, true))
    })
    .await
}

/// Builds what a Kustomization wants from the stored snapshot that `expected` names, verified again as it is loaded.
///
/// What it needs and was not fetched is fetched now, for that very commit; a new commit is not accepted before all that
/// is known to be needed is here, so this is for what came into use since.
async fn build(
    shared: &Shared,
    kustomization: &Kustomization,
    inputs: &Inputs,
    source: &GitSource,
    expected: &BuildKey,
) -> Result<Rc<Wanted>, RunError> {
    for _ in 0..WIDENINGS {
        let snapshot = shared.git.load_at(source, &expected.revision).await?;
        let snapshot = snapshot.ok_or_else(|| RunError::NoSnapshot(source.name.clone(), expected.revision.clone()))?;
        let lacks = match gather::build(&snapshot, kustomization, inputs).await? {
            Gathered::Built(built, trace) => {
                let Built { desired, manifests, broken, held_back, secret } = built;
                tracing::debug!(kustomization = %kustomization.name, revision = %snapshot.revision(), objects = desired.len(), "built");
                let (manifests, seal, key) = (Rc::new(manifests), inputs.seal().cloned(), expected.clone());
                return Ok(Rc::new(Wanted { key, desired, manifests, broken, held_back, secret, seal, trace }));
            }
            Gathered::Lacks(paths) => paths.into_iter().collect::<Vec<_>>(),
        };
        let (outcome, traffic) = shared.git.widen(source, snapshot.commit(), &lacks).await;
        shared.spent.borrow_mut().push((source.name.clone(), traffic));
        tracing::debug!(source = %source.name, paths = ?lacks, received = traffic.received, "fetched what a build needs");
        if let Err(error) = outcome {
            let paths = lacks.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
            let revision = snapshot.revision().to_string();
            return Err(RunError::NotFetched { paths, revision, source: Box::new(error) });
        }
    }
    Err(RunError::Endless { rounds: WIDENINGS })
}

/// What was built before, where building it again would come to the same: nothing that it was built from has changed but
/// the revision, and everything that the build looked at is the same in the new one.
async fn unchanged(
    shared: &Shared,
    source: &GitSource,
    before: &Wanted,
    expected: &BuildKey,
) -> Result<Option<Rc<Wanted>>, RunError> {
    if before.key.rest != expected.rest {
        return Ok(None);
    }
    let snapshot = shared.git.load_at(source, &expected.revision).await?;
    let snapshot = snapshot.ok_or_else(|| RunError::NoSnapshot(source.name.clone(), expected.revision.clone()))?;
    if !before.trace.holds(&snapshot).await? {
        return Ok(None);
    }
    Ok(Some(Rc::new(Wanted { key: expected.clone(), ..before.clone() })))
}
