//! What is known of a Kustomization.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use wickie_model::{Digest, Inventory, ObjectId, ResourceName};
use wickie_plan::course::Course;
use wickie_plan::cycle::{self, Cause, Gate, Moment, Pace, Remedy};
use wickie_plan::{Extent, Withheld};

use super::drift::Drift;
use super::{health, peers, window};
use crate::config::Kustomization;
use crate::drive::run::{BuildKey, Report, Still, Wanted};
use crate::drive::targets::Aim;
use crate::render::Inputs;

/// A Kustomization. There may be thousands, most of them at rest: what only one at work has lies apart.
pub(in crate::drive) struct KustomizationState {
    /// Nothing while it is not declared (what it has put into the cluster is remembered), or cannot be followed.
    pub(super) spec: Option<Arc<Kustomization>>,
    pub(super) digest: Option<Digest>,
    pub(super) cycle: cycle::State,
    pub(super) wake: Option<Moment>,
    /// The cluster that it is for.
    pub(in crate::drive) aim: Aim,
    /// What it has put into the cluster, as far as the last run that ended says. A run works on a copy of its own.
    pub(in crate::drive) inventory: Rc<Inventory>,
    /// The inventory may lack something: nothing here says that it was ever applied in full.
    pub(super) search: bool,
    pub(super) versions: HashMap<ObjectId, u64>,
    /// See [`Job::rested`](crate::drive::run::Job::rested).
    pub(super) rested: Option<(Still, u32)>,
    /// What it wants, as last built.
    pub(super) wanted: Option<Rc<Wanted>>,
    /// What it was built with.
    pub(super) inputs: Rc<Inputs>,
    pub(super) run: Option<Box<Current>>,
    pub(super) report: Option<Box<Report>>,
    /// Health is waited for; foreign objects by their last verdict.
    pub(super) watching: Option<Box<health::Watching>>,
    pub(super) stale: health::Stale,
    pub(super) drift: Drift,
    /// Deletions that wait for what others want.
    pub(super) deferred: Option<Box<peers::Deferred>>,
    /// What was built, or is being built, while it has to wait.
    pub(super) ahead: Option<Box<BuildKey>>,
    /// What waits for the window for changes.
    pub(super) waiting: Option<Box<window::Waiting>>,
    /// What the cluster was last driven to, since the start.
    pub(super) kept: Option<window::Kept>,
    /// Objects that are not as they should be and wait for the window.
    pub(super) left: BTreeMap<ObjectId, Withheld>,
    /// What became of the revisions that it took.
    pub(in crate::drive) course: Course,
    pub(super) suspended: bool,
    pub(super) deleted: bool,
    /// The last run failed because the API server was away.
    pub(super) away: bool,
    /// Somebody asked for it, and for its source first.
    pub(in crate::drive) after_source: bool,
    /// Has been through a run or is held, since the start.
    pub(super) settled: bool,
    /// A run of this loop has looked at all of its objects.
    pub(super) looked: bool,
}

/// The run that is under way.
pub(super) struct Current {
    pub(super) cause: Cause,
    pub(super) key: BuildKey,
    pub(super) spec: Arc<Kustomization>,
    /// How much it may do.
    pub(super) extent: Extent,
    /// It keeps up what was applied while something newer waits for the window.
    pub(super) keeps: bool,
    pub(super) began: Instant,
    pub(super) started_at: Timestamp,
}

impl KustomizationState {
    /// One of which only its inventory is known.
    pub(in crate::drive) fn remembered(inventory: impl Into<Rc<Inventory>>) -> Self {
        Self {
            spec: None,
            digest: None,
            cycle: cycle::State::new(),
            wake: None,
            aim: Aim::default(),
            inventory: inventory.into(),
            search: false,
            versions: HashMap::new(),
            rested: None,
            wanted: None,
            inputs: Rc::default(),
            run: None,
            report: None,
            watching: None,
            stale: health::Stale::default(),
            drift: Drift::default(),
            deferred: None,
            ahead: None,
            waiting: None,
            kept: None,
            left: BTreeMap::new(),
            course: Course::default(),
            suspended: false,
            deleted: false,
            away: false,
            after_source: false,
            settled: false,
            looked: false,
        }
    }

    pub(in crate::drive) fn wake(&self) -> Option<Moment> {
        [self.wake, self.drift.due, self.watching.as_ref().and_then(|watching| watching.wake())]
            .into_iter()
            .flatten()
            .min()
    }

    pub(in crate::drive) fn next_run(&self) -> Option<Moment> {
        match self.cycle {
            cycle::State::Idle { due, .. } => Some(due).filter(|due| *due < Moment::MAX),
            _ => None,
        }
    }

    pub(in crate::drive) fn source(&self) -> Option<&ResourceName> {
        self.spec.as_ref().map(|spec| &spec.source)
    }

    /// Whether nothing that an object's health or version could tell would make it do anything.
    pub(in crate::drive) fn is_at_rest(&self) -> bool {
        // What was given up is taken up again when its objects become healthy after all.
        let idle = matches!(self.cycle, cycle::State::Idle { .. } | cycle::State::Held(_) | cycle::State::Gone);
        idle && !self.course.has_stopped()
    }

    pub(in crate::drive) fn is_settled(&self) -> bool {
        self.spec.is_none() || (self.settled && !self.cycle.is_busy())
    }

    pub(in crate::drive) fn waits_for_all(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.wait)
    }

    pub(in crate::drive) fn checks(&self, id: &ObjectId) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.health_checks.iter().any(|check| check.id == *id))
    }

    pub(in crate::drive) fn spec(&self) -> Option<Arc<Kustomization>> {
        self.spec.clone()
    }

    /// Whether it is for the cluster of this connection.
    pub(in crate::drive) fn is_for(&self, serial: u64) -> bool {
        self.aim.serial() == Some(serial)
    }

    /// Where its objects are, for the end of a message; empty where that is the agent's own cluster.
    pub(super) fn elsewhere(&self) -> String {
        match &self.aim {
            Aim::Remote(target) => format!(" in {}", target.words()),
            Aim::Own | Aim::Nowhere(_) => String::new(),
        }
    }

    /// What was written was written to another cluster, or may have been.
    pub(in crate::drive) fn forget_versions(&mut self) {
        self.versions.clear();
    }

    pub(in crate::drive) fn cycle(&self) -> &cycle::State {
        &self.cycle
    }

    /// Whether its deletion was asked for.
    pub(in crate::drive) fn is_ending(&self) -> bool {
        self.deleted
    }

    pub(super) fn pace(&self) -> Pace {
        let default = Duration::from_secs(60);
        let remedy = self.remedy();
        let gate = Gate::Open;
        let unknown = Pace { interval: default, retry: default, timeout: default, remedy: Remedy::Retry, gate };
        self.spec.as_ref().map_or(unknown, |spec| Pace {
            interval: spec.interval,
            retry: spec.retry_interval,
            timeout: spec.timeout,
            remedy,
            gate,
        })
    }
}
