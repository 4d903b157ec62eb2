//! What goes into a step, and what comes out of it.

use std::time::Duration;

use super::{Cause, Gate};

/// Time since the agent started, on a clock that never steps.
pub type Moment = Duration;

/// What a step needs of the world.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Now.
    pub now: Moment,
    /// Chance, from 0 up to but not including 1: spreads a fleet's work out.
    pub chance: f64,
}

/// What the owner asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `spec.interval`
    pub interval: Duration,
    /// `spec.retryInterval`
    pub retry: Duration,
    /// `spec.timeout`: how long health is waited for.
    pub timeout: Duration,
    /// What is done when the revision that runs now is not healthy in time.
    pub remedy: Remedy,
    /// Whether changes may be made now.
    pub gate: Gate,
}

/// What is done when a revision is not healthy in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is tried again.
    Retry,
    /// It stays, and is not tried again.
    Stop,
    /// The last healthy revision is put back.
    Back,
}

/// What keeps a Kustomization from running at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Somebody suspended it.
    Suspended,
    /// Another agent writes; the text says which.
    StandsBy(String),
    /// Its source, or an object that it takes values from, is read for the first time: there is nothing to say yet.
    Starting,
    /// Its source has nothing to offer; the text says why.
    Source(String),
    /// A dependency is not ready; the text names it.
    Dependency(String),
    /// Its spec cannot be followed; the text says why.
    Invalid(String),
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its manifests are being built.
    Building,
    /// Its plan is being carried out.
    Applying,
    /// Its objects are becoming healthy.
    Waiting,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A run is wanted, and nothing speaks against it.
    Asked(Cause),
    /// Something speaks against running.
    Held(Hold),
    /// Time has passed.
    Tick,
    /// The manifests are built.
    Built,
    /// The plan is carried out; `wait` tells whether health is to be waited for.
    Applied {
        /// Whether there is health to wait for.
        wait: bool,
    },
    /// The plan is carried out but for deletions, which wait for others until then.
    Deferred {
        /// When they wait no longer.
        until: Moment,
    },
    /// What the window allows is done; the rest of what is wanted would be a change, and waits.
    Withheld,
    /// All that was waited for is healthy.
    Healthy,
    /// Something that is waited for has failed, and will not become healthy by itself.
    Unhealthy,
    /// The deadline may have passed, but the cluster cannot be seen: nothing is known to be unhealthy.
    Blind,
    /// What condemns the revision is written down.
    Recorded,
    /// Building or applying failed. `transient`: the API or the node was in trouble, not the manifests.
    Failed {
        /// Whether it may well work in a moment.
        transient: bool,
        /// Whether some of it was applied: the cluster is between two revisions.
        halfway: bool,
    },
    /// The Kustomization was deleted.
    Deleted,
    /// Its objects are dealt with, or could not be.
    Finalized {
        /// Whether all are.
        done: bool,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Begin a run: build the manifests.
    Build(Cause),
    /// Plan, and carry the plan out.
    Apply,
    /// Watch the health of what was applied, until the deadline.
    Watch {
        /// The deadline.
        until: Moment,
    },
    /// Stop watching health: something newer is wanted.
    Unwatch,
    /// The revision is condemned: write it down, in one with how the run ended, and answer with [`Event::Recorded`].
    Condemn(Remedy, Outcome),
    /// The run is over; say how it went.
    Conclude(Outcome),
    /// Say that it is held, and why.
    Rest(Hold),
    /// Call again with [`Event::Tick`] then.
    Wake(Moment),
    /// Deal with the objects of a deleted Kustomization.
    Finalize,
    /// Say that dealing with them waits for the window.
    Withhold,
    /// Forget it.
    Remove,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is as Git wants it, and healthy where that was waited for.
    Done,
    /// A stage failed; whoever reported it knows the details.
    Failed,
    /// The deadline passed before all was healthy, or something failed for good.
    Unhealthy,
    /// Another run was asked for before all was healthy.
    Superseded,
    /// Deletions wait for others; the next run makes them.
    Deferred,
    /// What is wanted would be a change, which waits for the window.
    Withheld,
}
