//! What to do with each object.

use std::collections::{BTreeMap, BTreeSet};

use wickie_model::{Digest, EntryState, Inventory, ObjectId, ResourceName};

use crate::guard::{self, Checked, Refusal};
use crate::order::{Rank, rank};
use crate::policy::{Mode, Policy, Ssa};

/// One object as Git wants it, as far as a decision needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The version of its API.
    pub version: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// `kustomize.toolkit.fluxcd.io/ssa`.
    pub ssa: Ssa,
    /// `kustomize.toolkit.fluxcd.io/force: enabled`.
    pub force: bool,
    /// `kustomize.toolkit.fluxcd.io/reconcile: disabled`.
    pub paused: bool,
}

/// What is known of an object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is as our last apply left it.
    Same,
    /// Our fields, or the values in them, are no longer what our last apply left.
    Drifted,
    /// It is not there.
    Absent,
    /// It must not be deleted: `kustomize.toolkit.fluxcd.io/prune: disabled` stands on it.
    Kept,
}

/// All that a plan is made from.
pub struct Request<'a> {
    /// What Git wants.
    pub desired: &'a BTreeMap<ObjectId, Desired>,
    /// What we have put there.
    pub inventory: &'a Inventory,
    /// What is there. An object of the inventory that is missing here has not been looked at.
    pub observed: &'a BTreeMap<ObjectId, Observed>,
    /// Objects that other Kustomizations want, and which of them does.
    pub claimed: &'a BTreeMap<ObjectId, ResourceName>,
    /// What the owner allows.
    pub policy: &'a Policy,
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it: it was never applied, or is gone.
    Create,
    /// Send it: Git wants something else than before.
    Change,
    /// Send it: Git wants the same, the cluster has something else.
    Repair,
    /// Make it where it is missing, otherwise leave it.
    CreateIfAbsent,
    /// Delete it: it left Git.
    Delete,
    /// Strike it from the inventory: the deletion that was asked for is done. A deletion takes time, and whoever asked
    /// for it may have been killed before the answer.
    Confirm,
    /// Let it be and strike it from the inventory; the text says why.
    Forget(String),
    /// Do nothing now; the text says what is in the way.
    Hold(String),
}

impl Action {
    /// Whether it sends the manifest.
    pub fn applies(&self) -> bool {
        matches!(self, Self::Create | Self::Change | Self::Repair | Self::CreateIfAbsent)
    }
}

/// One object and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which object.
    pub id: ObjectId,
    /// The version of its API.
    pub version: String,
    /// What to do.
    pub action: Action,
    /// Whether it may be deleted and made again where its change is refused as immutable.
    pub recreate: bool,
    /// Whether the fields of those who applied the object before come over with it: see [`crate::ownership`].
    pub take_over: bool,
}

/// Steps that may be done in any order, and together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// What they have in common.
    pub rank: Rank,
    /// The steps, by object.
    pub steps: Vec<Step>,
}

/// What to do, wave by wave. Objects that are right do not appear in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// First what is applied, in order; then what is deleted, in the reverse order.
    pub waves: Vec<Wave>,
    /// How many objects are right.
    pub unchanged: usize,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.waves.is_empty()
    }

    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.waves.iter().flat_map(|wave| &wave.steps)
    }
}

/// Decides what to do, and has the guard audit it.
pub fn plan(request: &Request<'_>) -> Result<Checked<Plan>, Refusal> {
    let mut unchanged = 0;
    let mut applied: BTreeMap<Rank, Vec<Step>> = BTreeMap::new();
    for (id, desired) in request.desired {
        let Some(action) = wanted(request, id, desired) else {
            unchanged += 1;
            continue;
        };
        let step = Step {
            id: id.clone(),
            version: desired.version.clone(),
            action,
            recreate: desired.force || request.policy.force,
            take_over: desired.ssa == Ssa::Override && is_new_to_us(request, id),
        };
        applied.entry(rank(id)).or_default().push(step);
    }
    let mut deleted: BTreeMap<Rank, Vec<Step>> = BTreeMap::new();
    for (id, entry) in request.inventory {
        if request.desired.contains_key(id) {
            continue;
        }
        let Some(action) = unwanted(request, id, entry.state) else { continue };
        let step = Step { id: id.clone(), version: entry.version.clone(), action, recreate: false, take_over: false };
        deleted.entry(rank(id)).or_default().push(step);
    }
    let waves = applied.into_iter().chain(deleted.into_iter().rev());
    let plan = Plan { waves: waves.map(|(rank, steps)| Wave { rank, steps }).collect(), unchanged };
    guard::check(plan, request)
}

/// Whether no apply of ours was ever confirmed: what is there under that name is somebody else's work.
fn is_new_to_us(request: &Request<'_>, id: &ObjectId) -> bool {
    request.inventory.get(id).is_none_or(|entry| entry.manifest.is_none())
}

/// What to do with an object that Git wants; nothing where it is right.
fn wanted(request: &Request<'_>, id: &ObjectId, desired: &Desired) -> Option<Action> {
    if let Some(owner) = request.claimed.get(id) {
        return Some(Action::Hold(format!(
            "Kustomization {owner} wants this object too; take it out of one of the two"
        )));
    }
    if desired.paused || desired.ssa == Ssa::Ignore {
        return None;
    }
    if request.policy.mode == Mode::Detect {
        return differs(request, id, desired)
            .map(|_| Action::Hold("mode is detect: it differs and is left".to_owned()));
    }
    match (desired.ssa, differs(request, id, desired)?) {
        (Ssa::IfNotPresent, Action::Create) => Some(Action::CreateIfAbsent),
        (Ssa::IfNotPresent, _) => None,
        (_, action) => Some(action),
    }
}

fn differs(request: &Request<'_>, id: &ObjectId, desired: &Desired) -> Option<Action> {
    let Some(entry) = request.inventory.get(id) else { return Some(Action::Create) };
    match request.observed.get(id) {
        Some(Observed::Absent) => Some(Action::Create),
        _ if entry.state != EntryState::Applied || entry.manifest.is_none() => Some(Action::Create),
        _ if entry.manifest != Some(desired.digest) || entry.version != desired.version => Some(Action::Change),
        Some(Observed::Same | Observed::Kept) => None,
        // What was not looked at is sent again: a failed look is never read as "it is right".
        Some(Observed::Drifted) | None => Some(Action::Repair),
    }
}

/// What to do with an object that Git no longer wants; nothing where it must wait.
fn unwanted(request: &Request<'_>, id: &ObjectId, state: EntryState) -> Option<Action> {
    if !request.policy.complete {
        return None;
    }
    if let Some(owner) = request.claimed.get(id) {
        return Some(Action::Forget(format!("Kustomization {owner} has it now")));
    }
    match request.observed.get(id) {
        Some(Observed::Absent) if state == EntryState::Deleting => Some(Action::Confirm),
        Some(Observed::Absent) => Some(Action::Forget("it is gone".to_owned())),
        Some(Observed::Kept) => Some(Action::Forget("it is marked prune: disabled".to_owned())),
        _ if state != EntryState::Deleting && !request.policy.prune => Some(Action::Forget("prune is off".to_owned())),
        _ if request.policy.mode == Mode::Detect => {
            Some(Action::Hold("mode is detect: it left Git and is left".to_owned()))
        }
        _ => Some(Action::Delete),
    }
}

impl Request<'_> {
    /// The ids that Git wants.
    pub(crate) fn wanted_ids(&self) -> BTreeSet<&ObjectId> {
        self.desired.keys().collect()
    }
}
