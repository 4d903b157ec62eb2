//! The clusters that Kustomizations are for: the agent's own, and those that kubeconfigs in Secrets lead to.
//!
//! Each has a connection, watches and a word on whether it can be reached of its own: one that is away keeps no
//! Kustomization of another from anything. A cluster is known by its kubeconfig. Kustomizations that name the same share a
//! connection; a Secret that changes leads to a new one, and what was seen over the old one counts no more. Where no
//! Kustomization is for a cluster any more, its connection and its watches end.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tokio::sync::{Notify, Semaphore, mpsc};
use wickie_model::{Digest, ResourceName};

use super::live::Live;
use super::records::Reachable;
use super::run::Lost;
use super::tasks::Tasks;
use super::values::{Entries, Trouble};
use super::{Drive, Event, KustomizationState};
use crate::apply::Executor;
use crate::cluster::{Cluster, KubeConfigError, Remote};
use crate::config::{KubeConfigRef, Kustomization};
use crate::serve::ClusterLive;

/// A cluster, as the Kustomizations for it use it.
#[derive(Clone)]
pub(super) struct Target {
    /// Tells one connection from another; [`OWN`] is that to the agent's own cluster.
    pub(super) serial: u64,
    pub(super) cluster: Cluster,
    pub(super) live: Rc<RefCell<Live>>,
    /// Rings when a watch has seen something.
    pub(super) seen: Rc<Notify>,
    pub(super) lost: Rc<Lost>,
    /// Leave to read or write an object: for all Kustomizations together.
    pub(super) turns: Rc<Semaphore>,
    /// Leave to carry a run out: what it works on is not made before.
    pub(super) runs: Rc<Semaphore>,
    pub(super) reachable: Rc<RefCell<Reachable>>,
    /// See [`Remote::identity`].
    identity: Rc<str>,
}

/// How many objects of a cluster are read or written at once. Some wait long for their answer, for a webhook perhaps: so
/// it is several times what one Kustomization has under way.
const TURNS: usize = 64;

/// How many runs are carried out at once. Each holds what it plans; more than have an object of their own under way wait
/// for each other anyway, or for the server to serve what they defined.
const RUNS: usize = 2 * TURNS;

/// The serial of the connection to the agent's own cluster.
const OWN: u64 = 0;

impl Target {
    fn new(
        serial: u64,
        cluster: Cluster,
        server: String,
        identity: &str,
        events: &mpsc::Sender<Event>,
        tasks: &Tasks,
        by_namespace: bool,
    ) -> Self {
        Self {
            serial,
            live: Live::new(cluster.clone(), serial, events.clone(), tasks.clone(), by_namespace),
            seen: Rc::new(Notify::new()),
            lost: Rc::new(Lost::new(by_namespace)),
            turns: Rc::new(Semaphore::new(TURNS)),
            runs: Rc::new(Semaphore::new(RUNS)),
            reachable: Rc::new(RefCell::new(Reachable::new(server))),
            identity: identity.into(),
            cluster,
        }
    }

    /// Whether it is the cluster that the agent is told by.
    pub(super) fn is_own(&self) -> bool {
        self.serial == OWN
    }

    /// Sends to it as the agent, or as a Kustomization's service account of that cluster.
    pub(super) fn executor(&self, kustomization: &Kustomization) -> Executor {
        let executor = Executor::new(self.cluster.clone(), self.turns.clone());
        match &kustomization.service_account {
            Some(account) => executor.acting_for(&kustomization.name.namespace, account),
            None => executor,
        }
    }

    /// Which one it is, for people.
    pub(super) fn words(&self) -> String {
        match self.is_own() {
            true => "the cluster".to_owned(),
            false => format!("the cluster {}", self.identity),
        }
    }
}

/// The cluster that one Kustomization is for, as far as it can be used.
#[derive(Clone, Default)]
pub(super) enum Aim {
    /// The agent's own.
    #[default]
    Own,
    /// Another.
    Remote(Box<Target>),
    /// Another that there is no way to.
    Nowhere(NoTarget),
}

/// Why there is no way to a cluster.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NoTarget {
    #[error("the kubeconfig in Secret {0} was not read yet")]
    Unread(ResourceName),
    #[error("the kubeconfig of its cluster cannot be had: {0}")]
    Trouble(#[from] Trouble),
    #[error("spec.kubeConfig names Secret {0}, which is not there; create it")]
    NoSecret(ResourceName),
    #[error("Secret {secret} has no entry {key:?} with a kubeconfig; name its key in spec.kubeConfig.secretRef.key")]
    NoKey { secret: ResourceName, key: String },
    #[error("the kubeconfig in Secret {secret} cannot be used: {why}")]
    Unusable { secret: ResourceName, why: KubeConfigError },
    #[error("its declaration is gone")]
    Undeclared,
}

impl NoTarget {
    /// Whether it may well be there in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unread(_) => true,
            Self::Trouble(trouble) => trouble.is_transient(),
            _ => false,
        }
    }
}

/// All clusters that there is a way to.
pub(super) struct Targets {
    pub(super) own: Target,
    /// The address of the own cluster.
    server: String,
    /// By the digest of its kubeconfig.
    remotes: HashMap<Digest, Target>,
    last: u64,
}

impl Targets {
    /// With `by_namespace`, the agent's account may list and watch within namespaces alone.
    pub(super) fn new(
        own: Cluster,
        server: String,
        events: &mpsc::Sender<Event>,
        tasks: &Tasks,
        by_namespace: bool,
    ) -> Self {
        let target = Target::new(OWN, own, server.clone(), &server, events, tasks, by_namespace);
        Self { own: target, server, remotes: HashMap::new(), last: OWN }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.own).chain(self.remotes.values())
    }

    /// The cluster of a connection, while that lasts.
    pub(super) fn by_serial(&self, serial: u64) -> Option<&Target> {
        self.all().find(|target| target.serial == serial)
    }

    /// The cluster that a kubeconfig leads to.
    fn lead(
        &mut self,
        kubeconfig: &[u8],
        events: &mpsc::Sender<Event>,
        tasks: &Tasks,
    ) -> Result<Target, KubeConfigError> {
        let digest = Digest::of(kubeconfig);
        if let Some(known) = self.remotes.get(&digest) {
            return Ok(known.clone());
        }
        let remote = Remote::read(kubeconfig)?;
        let cluster = self.own.cluster.beside(&remote)?;
        self.last += 1;
        tracing::info!(server = remote.server(), "a Kustomization is for another cluster");
        let target = Target::new(self.last, cluster, remote.server(), &remote.identity(), events, tasks, false);
        self.remotes.insert(digest, target.clone());
        Ok(target)
    }
}

impl Drive {
    /// The cluster that a Kustomization is for.
    pub(super) fn target<'a>(&'a self, state: &'a KustomizationState) -> Result<&'a Target, &'a NoTarget> {
        match &state.aim {
            Aim::Own => Ok(&self.targets.own),
            Aim::Remote(target) => Ok(target.as_ref()),
            Aim::Nowhere(why) => Err(why),
        }
    }

    /// Brings every Kustomization to the cluster that it is for, as the Secrets say now.
    pub(super) fn take_aim(&mut self) {
        let elsewhere = |state: &KustomizationState| {
            !matches!(state.aim, Aim::Own) || state.spec().is_some_and(|spec| spec.kube_config.is_some())
        };
        let names: Vec<_> =
            self.kustomizations.iter().filter(|(_, state)| elsewhere(state)).map(|(name, _)| name.clone()).collect();
        for name in &names {
            // One that cannot be followed as it is declared stays where it was.
            let Some(spec) = self.kustomizations.get(name).and_then(|state| state.spec()) else { continue };
            let aim = match &spec.kube_config {
                None => Aim::Own,
                Some(reference) => match self.lead(name, reference) {
                    Ok(target) => Aim::Remote(Box::new(target)),
                    Err(why) => Aim::Nowhere(why),
                },
            };
            self.aim(name, &spec, aim);
        }
        let used: HashSet<u64> = self.kustomizations.values().filter_map(|state| state.aim.serial()).collect();
        self.targets.remotes.retain(|_, target| used.contains(&target.serial));
    }

    fn lead(&mut self, owner: &ResourceName, reference: &KubeConfigRef) -> Result<Target, NoTarget> {
        let secret = || reference.secret.clone();
        let entries = match self.secret_entries(owner, &reference.secret)? {
            Entries::Unread => return Err(NoTarget::Unread(secret())),
            Entries::Absent => return Err(NoTarget::NoSecret(secret())),
            Entries::Here(values) => values,
        };
        let kubeconfig = reference.of(&entries.entries);
        let kubeconfig = kubeconfig.map_err(|key| NoTarget::NoKey { secret: secret(), key: key.to_owned() })?;
        let target = self.targets.lead(kubeconfig, &self.events, &self.tasks);
        target.map_err(|why| NoTarget::Unusable { secret: secret(), why })
    }

    fn aim(&mut self, name: &ResourceName, spec: &Kustomization, aim: Aim) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let same = matches!((&state.aim, &aim), (Aim::Own, Aim::Own))
            || state.aim.serial().is_some_and(|serial| aim.serial() == Some(serial));
        if !same {
            // Versions of one cluster mean nothing in another.
            state.forget_versions();
            self.live_stale = true;
        }
        let place = match (&aim, &spec.kube_config) {
            // A kubeconfig may lead back to where the agent is.
            (Aim::Remote(target), _) if *target.identity != *self.targets.server => Some(target.identity.to_string()),
            (Aim::Nowhere(_), Some(reference)) => Some(format!("by Secret {}", reference.secret)),
            _ => None,
        };
        state.aim = aim;
        self.shared.claims.borrow_mut().place(name, place);
    }

    /// How it goes with the cluster that a Kustomization is for, where that is not the agent's own.
    pub(super) fn cluster_live(&self, state: &KustomizationState) -> Option<ClusterLive> {
        match &state.aim {
            Aim::Own | Aim::Nowhere(_) => None,
            Aim::Remote(target) => target.reachable.borrow().live(),
        }
    }
}

impl Aim {
    pub(super) fn serial(&self) -> Option<u64> {
        match self {
            Self::Own => Some(OWN),
            Self::Remote(target) => Some(target.serial),
            Self::Nowhere(_) => None,
        }
    }
}
