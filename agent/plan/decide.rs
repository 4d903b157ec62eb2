//! What to do with each object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wickie_model::{Digest, EntryState, Inventory, ObjectId, ObjectMap, ResourceName};

use crate::guard::{self, Checked, Refusal};
use crate::ignore::Pointer;
use crate::order::{Rank, rank};
use crate::policy::{Extent, Mode, Policy, Ssa};

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
    /// Fields that others may change: see [`crate::ignore`].
    pub ignored: Arc<[Pointer]>,
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
    /// It must not be deleted.
    Kept(Keep),
}

/// Why an object is left in the cluster although Git no longer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// `kustomize.toolkit.fluxcd.io/prune: disabled` stands on it, or it is somebody else's now.
    Marked,
    /// It is what the agent runs by: its CRDs, its namespace, its own manifests; or the Kustomization itself.
    Own,
    /// It is a component of Flux, which a takeover finds in the inventory.
    Flux,
}

impl Keep {
    fn why(self) -> &'static str {
        match self {
            Self::Marked => "it is marked prune: disabled",
            Self::Own => "it is wickie's own, or the Kustomization itself, and is never pruned; remove it by hand",
            Self::Flux => "it is a component of Flux, and left to Flux; `flux uninstall` removes it",
        }
    }
}

/// All that a plan is made from.
pub struct Request<'a> {
    /// What Git wants.
    pub desired: &'a ObjectMap<Desired>,
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
    /// Whether the fields of those who applied the object before come over with it: see [`crate::ownership`].
    pub take_over: bool,
    /// Fields that are sent as they are in the cluster: see [`crate::ignore`].
    pub ignored: Arc<[Pointer]>,
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
    /// What waits for the window, by object.
    pub withheld: BTreeMap<ObjectId, Withheld>,
}

/// What would be done with an object, and waits until it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// It is new.
    Create,
    /// Git wants something else than was applied.
    Change,
    /// It left Git.
    Delete,
    /// It is not as it was applied.
    Repair,
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
    let mut withheld = BTreeMap::new();
    let mut applied: BTreeMap<Rank, Vec<Step>> = BTreeMap::new();
    for (id, desired) in request.desired {
        let Some(action) = wanted(request, id, desired) else {
            unchanged += 1;
            continue;
        };
        if let Some(what) = beyond(request, id, &action) {
            withheld.insert(id.clone(), what);
            continue;
        }
        let step = Step {
            id: id.clone(),
            version: desired.version.clone(),
            action,
            recreate: desired.force || request.policy.force,
            take_over: desired.ssa == Ssa::Override && is_new_to_us(request, id),
            ignored: desired.ignored.clone(),
        };
        applied.entry(rank(id)).or_default().push(step);
    }
    let mut deleted: BTreeMap<Rank, Vec<Step>> = BTreeMap::new();
    for (id, entry) in request.inventory {
        if request.desired.contains_key(id) {
            continue;
        }
        let Some(action) = unwanted(request, id, entry.state) else { continue };
        // What was begun is ended; the rest of the old order stands until it may be changed.
        if request.policy.extent != Extent::All && entry.state != EntryState::Deleting {
            if action.deletes() {
                withheld.insert(id.clone(), Withheld::Delete);
            }
            continue;
        }
        let step = Step {
            id: id.clone(),
            version: entry.version.clone(),
            action,
            recreate: false,
            take_over: false,
            ignored: Arc::default(),
        };
        deleted.entry(rank(id)).or_default().push(step);
    }
    if request.policy.undo {
        hold_excess(request, &mut deleted);
    }
    let waves = applied.into_iter().chain(deleted.into_iter().rev());
    let plan = Plan { waves: waves.map(|(rank, steps)| Wave { rank, steps }).collect(), unchanged, withheld };
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

/// What an action would do that may not be done now; nothing where it may.
fn beyond(request: &Request<'_>, id: &ObjectId, action: &Action) -> Option<Withheld> {
    // That somebody else has it now is for the run to say that may take it.
    if request.policy.extent == Extent::All || !(action.applies() || matches!(action, Action::Hold(_))) {
        return None;
    }
    if !action.applies() {
        return (!request.is_as_applied(id)).then_some(Withheld::Create);
    }
    let what = match action {
        _ if request.is_as_applied(id) => Withheld::Repair,
        Action::Create | Action::CreateIfAbsent if is_new_to_us(request, id) => Withheld::Create,
        _ => Withheld::Change,
    };
    (what != Withheld::Repair || request.policy.extent == Extent::Nothing).then_some(what)
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
        Some(Observed::Same | Observed::Kept(_)) => None,
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
        Some(Observed::Kept(keep)) => Some(Action::Forget(keep.why().to_owned())),
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
    /// Whether Git wants of an object just what was applied and confirmed, so that sending it again changes nothing that was
    /// not changed by somebody else.
    pub(crate) fn is_as_applied(&self, id: &ObjectId) -> bool {
        let (Some(entry), Some(desired)) = (self.inventory.get(id), self.desired.get(id)) else { return false };
        let same = entry.manifest == Some(desired.digest) && entry.version == desired.version;
        same && entry.state == EntryState::Applied
    }

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
        ObjectId::new("", "ConfigMap", "shop", name)
    }

    #[test]
    fn harm_is_undone_also_where_the_deletions_must_wait() {
        let desired = Desired {
            version: "v1".to_owned(),
            digest: Digest::of(b"a"),
            ssa: Ssa::Override,
            force: false,
            paused: false,
            ignored: Arc::default(),
        };
        let desired = ObjectMap::from_iter([(id("a"), desired)]);
        let applied = Entry { state: EntryState::Applied, ..Entry::planned("v1") };
        let inventory: Inventory = ["a", "b", "c"].map(|name| (id(name), applied.clone())).into_iter().collect();
        let policy = |undo| Policy {
            prune: true,
            prune_limit: Some(Limit::Count(1)),
            prune_approved: false,
            undo,
            awaited: None,
            complete: true,
            force: false,
            mode: Mode::Enforce,
            extent: Extent::All,
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

    #[test]
    fn outside_the_window_what_was_applied_is_put_right_and_nothing_else_is_touched() {
        let desired = |text: &str| Desired {
            version: "v1".to_owned(),
            digest: Digest::of(text.as_bytes()),
            ssa: Ssa::Override,
            force: false,
            paused: false,
            ignored: Arc::default(),
        };
        let entry = |text: &str| Entry {
            state: EntryState::Applied,
            manifest: Some(Digest::of(text.as_bytes())),
            ..Entry::planned("v1")
        };
        let wanted = ["drifted", "gone", "same", "new", "begun"].map(|name| (id(name), desired(name)));
        let mut wanted = ObjectMap::from_iter(wanted);
        wanted.insert(id("changed"), desired("another"));
        let had = ["drifted", "gone", "same", "changed", "left", "leaving"].map(|name| (id(name), entry(name)));
        let mut inventory = Inventory::from_iter(had);
        inventory.insert(id("begun"), Entry::planned("v1"));
        inventory.get_mut(&id("leaving")).unwrap().state = EntryState::Deleting;
        let observed = [("drifted", Observed::Drifted), ("gone", Observed::Absent), ("same", Observed::Same)];
        let mut observed: BTreeMap<_, _> = observed.map(|(name, seen)| (id(name), seen)).into();
        // That it drifted makes a change no repair: what was applied is not what would be sent.
        observed.insert(id("changed"), Observed::Drifted);
        let (claimed, names) =
            (BTreeMap::new(), |ids: Vec<&ObjectId>| ids.into_iter().map(|id| id.name.clone()).collect::<Vec<_>>());
        let planned = |extent| {
            let policy = Policy {
                prune: true,
                prune_limit: Some(Limit::Count(1)),
                prune_approved: false,
                undo: false,
                awaited: None,
                complete: true,
                force: false,
                mode: Mode::Enforce,
                extent,
            };
            let (desired, inventory, observed) = (&wanted, &inventory, &observed);
            plan(&Request { desired, inventory, observed, claimed: &claimed, policy: &policy })
        };
        let repairs = planned(Extent::Repairs).unwrap();
        assert_eq!(names(repairs.steps().map(|step| &step.id).collect()), ["drifted", "gone", "leaving"]);
        let waiting = |plan: &Plan| plan.withheld.iter().map(|(id, what)| (id.name.clone(), *what)).collect::<Vec<_>>();
        let changes = [
            ("begun", Withheld::Create),
            ("changed", Withheld::Change),
            ("left", Withheld::Delete),
            ("new", Withheld::Create),
        ];
        let changes = changes.map(|(name, what)| (name.to_owned(), what));
        assert_eq!(waiting(&repairs), changes);
        let nothing = planned(Extent::Nothing).unwrap();
        assert_eq!(names(nothing.steps().map(|step| &step.id).collect()), ["leaving"]);
        assert_eq!(nothing.withheld[&id("gone")], Withheld::Repair);
        assert_eq!(nothing.withheld.len(), changes.len() + 2);
        // When it opens all of it is done, and the limit on deletions holds again.
        assert!(matches!(planned(Extent::All), Err(Refusal::TooManyDeletions { count: 2, limit: 1 })));
    }
}
