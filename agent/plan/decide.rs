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
    /// Delete it later: it left Git here, and may have moved to somebody who has not said yet; the text says who.
    Wait(String),
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

    /// Whether it deletes, now or later.
    pub fn deletes(&self) -> bool {
        matches!(self, Self::Delete | Self::Wait(_))
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
        };
        applied.entry(rank(id)).or_default().push(step);
    }
    let mut deleted: BTreeMap<Rank, Vec<Step>> = BTreeMap::new();
    for (id, entry) in request.inventory {
        if request.desired.contains_key(id) {
            continue;
        }
        let Some(action) = unwanted(request, id, entry.state) else { continue };
        let step = Step { id: id.clone(), version: entry.version.clone(), action, recreate: false };
        deleted.entry(rank(id)).or_default().push(step);
    }
    if request.policy.undo {
        hold_excess(request, &mut deleted);
    }
    let waves = applied.into_iter().chain(deleted.into_iter().rev());
    let plan = Plan { waves: waves.map(|(rank, steps)| Wave { rank, steps }).collect(), unchanged };
    guard::check(plan, request)
}

/// Holds the deletions where there are more of them than may be made unasked.
fn hold_excess(request: &Request<'_>, deleted: &mut BTreeMap<Rank, Vec<Step>>) {
    let deletions = deleted.values().flatten().filter(|step| step.action.deletes()).count();
    let Some(refusal) = guard::excess(request, deletions) else { return };
    let why = format!("what it replaces had it alone, and it is not deleted unasked: {refusal}");
    for step in deleted.values_mut().flatten().filter(|step| step.action.deletes()) {
        step.action = Action::Hold(why.clone());
    }
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
        _ => match &request.policy.awaited {
            Some(names) if state != EntryState::Deleting => {
                Some(Action::Wait(format!("it may have moved to {names}, which is not built yet")))
            }
            _ => Some(Action::Delete),
        },
    }
}

impl Request<'_> {
    /// The ids that Git wants.
    pub(crate) fn wanted_ids(&self) -> BTreeSet<&ObjectId> {
        self.desired.keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use wickie_model::Entry;

    use super::*;
    use crate::policy::Limit;

    fn id(name: &str) -> ObjectId {
        ObjectId { group: String::new(), kind: "ConfigMap".into(), namespace: "shop".into(), name: name.into() }
    }

    #[test]
    fn harm_is_undone_also_where_the_deletions_must_wait() {
        let desired = Desired {
            version: "v1".to_owned(),
            digest: Digest::of(b"a"),
            ssa: Ssa::Override,
            force: false,
            paused: false,
        };
        let desired = BTreeMap::from([(id("a"), desired)]);
        let applied = Entry { state: EntryState::Applied, ..Entry::planned("v1") };
        let inventory: Inventory = ["a", "b", "c"].map(|name| (id(name), applied.clone())).into();
        let policy = |undo| Policy {
            prune: true,
            prune_limit: Some(Limit::Count(1)),
            prune_approved: false,
            undo,
            awaited: None,
            complete: true,
            force: false,
            mode: Mode::Enforce,
        };
        let planned = |policy: &Policy| {
            let (observed, claimed) = (BTreeMap::new(), BTreeMap::new());
            let (desired, inventory) = (&desired, &inventory);
            plan(&Request { desired, inventory, observed: &observed, claimed: &claimed, policy })
        };
        assert!(matches!(planned(&policy(false)), Err(Refusal::TooManyDeletions { count: 2, limit: 1 })));
        let plan = planned(&policy(true)).unwrap();
        let applies: Vec<_> = plan.steps().filter(|step| step.action.applies()).map(|step| &step.id).collect();
        assert_eq!(applies, [&id("a")]);
        assert_eq!(plan.steps().filter(|step| matches!(step.action, Action::Hold(_))).count(), 2);
        // What may have moved counts, and goes later.
        let awaited = Policy { awaited: Some("till".to_owned()), prune_limit: None, ..policy(false) };
        let waiting = planned(&awaited).unwrap();
        assert_eq!(waiting.steps().filter(|step| matches!(step.action, Action::Wait(_))).count(), 2);
        assert!(planned(&Policy { prune_limit: Some(Limit::Count(1)), ..awaited }).is_err());
        // Within the limit, or approved, they go.
        let approved = Policy { prune_approved: true, ..policy(true) };
        assert_eq!(planned(&approved).unwrap().steps().filter(|step| step.action == Action::Delete).count(), 2);
    }
}
