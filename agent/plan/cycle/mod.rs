//! The life of one Kustomization, as an explicit state machine.
//!
//! ```text
//!            Asked/due            Built             Applied
//!   Idle ───────────────► Building ────► Applying ──────────► Waiting (health)
//!    ▲                        │ Failed      │ Failed / done       │ Healthy / deadline
//!    └────────────────────────┴─────────────┴─────────────────────┘
//!   Held: suspended, no snapshot, a dependency not ready, an invalid spec
//!   Deleted ──► Finalizing ──► Gone
//! ```
//!
//! [`step`] is the only way from one state to the next. It knows neither cluster nor clock: time and chance come in
//! with the event, what is to be done goes out as effects. Stages run elsewhere and answer with events; what is asked
//! for while one runs is remembered, and done next.

use std::time::Duration;

pub use wickie_model::Cause;

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
}

/// What keeps a Kustomization from running at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Somebody suspended it.
    Suspended,
    /// Its source, or an object that it takes values from, is read for the first time: there is nothing to say yet.
    Starting,
    /// Its source has nothing to offer; the text says why.
    Source(String),
    /// A dependency is not ready; the text names it.
    Dependency(String),
    /// Its spec cannot be followed; the text says why.
    Invalid(String),
}

/// Where a Kustomization is in its life.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Something keeps it from running.
    Held(Hold),
    /// Nothing to do until `due`.
    Idle {
        /// When it runs unasked.
        due: Moment,
        /// How often it failed in a row.
        failures: u32,
    },
    /// A run is under way.
    Running(Run),
    /// It was deleted, and its objects are being dealt with.
    Finalizing {
        /// When that is tried again, if it failed.
        due: Option<Moment>,
        /// How often it failed in a row.
        failures: u32,
    },
    /// It is no more.
    Gone,
}

/// A run: one pass from snapshot to cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    cause: Cause,
    stage: Stage,
    /// Until when health is waited for; a repair in between does not extend it.
    deadline: Option<Moment>,
    failures: u32,
    next: Next,
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

/// What comes after the run.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    Idle,
    Again(Cause),
    Hold(Hold),
    Finalize,
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
    /// All that was waited for is healthy.
    Healthy,
    /// Building or applying failed. `transient`: the API or the node was in trouble, not the manifests.
    Failed {
        /// Whether it may well work in a moment.
        transient: bool,
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
    /// The run is over; say how it went.
    Conclude(Outcome),
    /// Say that it is held, and why.
    Rest(Hold),
    /// Call again with [`Event::Tick`] then.
    Wake(Moment),
    /// Deal with the objects of a deleted Kustomization.
    Finalize,
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
    /// The deadline passed before all was healthy.
    Unhealthy,
    /// Something newer was asked for before all was healthy.
    Superseded,
}

impl State {
    /// A Kustomization that has just been seen.
    pub fn new() -> Self {
        Self::Idle { due: Moment::MAX, failures: 0 }
    }

    /// The stage of the run that is under way.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Running(run) => Some(run.stage),
            _ => None,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// From one state to the next, and what to do on the way. An event that means nothing in a state changes nothing.
pub fn step(state: State, event: Event, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    match (state, event) {
        (State::Gone, _) => (State::Gone, vec![]),

        (state @ (State::Held(_) | State::Idle { .. }), Event::Asked(cause)) => {
            let failures = if let State::Idle { failures, .. } = state { failures } else { 0 };
            begin(cause, failures, None)
        }
        (State::Idle { due, failures }, Event::Tick) if clock.now >= due => {
            begin(if failures == 0 { Cause::Interval } else { Cause::Retry }, failures, None)
        }
        (State::Idle { due, failures }, Event::Tick) => (State::Idle { due, failures }, vec![Effect::Wake(due)]),
        (State::Held(_) | State::Idle { .. }, Event::Held(hold)) => rest(hold),
        (State::Held(_) | State::Idle { .. }, Event::Deleted) => finalize(),

        (State::Running(run), event) => running(run, event, pace, clock),

        (State::Finalizing { .. }, Event::Finalized { done: true }) => (State::Gone, vec![Effect::Remove]),
        (State::Finalizing { failures, .. }, Event::Finalized { done: false }) => {
            let due = clock.now + backoff(failures, pace.retry, clock.chance);
            (State::Finalizing { due: Some(due), failures: failures.saturating_add(1) }, vec![Effect::Wake(due)])
        }
        (State::Finalizing { due: Some(due), failures }, Event::Tick) if clock.now >= due => {
            (State::Finalizing { due: None, failures }, vec![Effect::Finalize])
        }
        (state, _) => (state, vec![]),
    }
}

fn running(mut run: Run, event: Event, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    match (run.stage, event) {
        (Stage::Building, Event::Built) => {
            run.stage = Stage::Applying;
            (State::Running(run), vec![Effect::Apply])
        }
        (Stage::Applying, Event::Applied { wait: true }) if run.next == Next::Idle => {
            let until = *run.deadline.get_or_insert(clock.now + pace.timeout);
            run.stage = Stage::Waiting;
            (State::Running(run), vec![Effect::Watch { until }, Effect::Wake(until)])
        }
        // Something else is already wanted: waiting would only delay it.
        (Stage::Applying, Event::Applied { wait: true }) => conclude(run, Outcome::Superseded, false, pace, clock),
        (Stage::Applying, Event::Applied { wait: false }) => conclude(run, Outcome::Done, false, pace, clock),
        (Stage::Building | Stage::Applying, Event::Failed { transient }) => {
            conclude(run, Outcome::Failed, transient, pace, clock)
        }

        (Stage::Waiting, Event::Healthy) => conclude(run, Outcome::Done, false, pace, clock),
        (Stage::Waiting, Event::Tick) if run.deadline.is_some_and(|deadline| clock.now >= deadline) => {
            unwatch(conclude(run, Outcome::Unhealthy, false, pace, clock))
        }
        (Stage::Waiting, Event::Tick) => {
            let wake = run.deadline.map(Effect::Wake).into_iter().collect();
            (State::Running(run), wake)
        }
        // A repair goes on with the same deadline; what people or Git ask for begins anew.
        (Stage::Waiting, Event::Asked(Cause::Drift)) => unwatch(begin(Cause::Drift, run.failures, run.deadline)),
        (Stage::Waiting, Event::Asked(cause @ (Cause::Revision | Cause::Spec | Cause::Request))) => {
            run.next = Next::Again(cause);
            unwatch(conclude(run, Outcome::Superseded, false, pace, clock))
        }
        (Stage::Waiting, Event::Held(hold)) => {
            run.next = Next::Hold(hold);
            unwatch(conclude(run, Outcome::Superseded, false, pace, clock))
        }
        (Stage::Waiting, Event::Deleted) => {
            run.next = Next::Finalize;
            unwatch(conclude(run, Outcome::Superseded, false, pace, clock))
        }

        // While a stage works, what is asked for waits for its answer. Deletion outlives a hold, and a hold a request.
        (_, Event::Deleted) => {
            run.next = Next::Finalize;
            (State::Running(run), vec![])
        }
        (_, Event::Held(hold)) if run.next != Next::Finalize => {
            run.next = Next::Hold(hold);
            (State::Running(run), vec![])
        }
        (_, Event::Asked(cause)) if run.next != Next::Finalize => {
            run.next = match run.next {
                Next::Again(before) => Next::Again(before.max(cause)),
                _ => Next::Again(cause),
            };
            (State::Running(run), vec![])
        }
        _ => (State::Running(run), vec![]),
    }
}

fn begin(cause: Cause, failures: u32, deadline: Option<Moment>) -> (State, Vec<Effect>) {
    let run = Run { cause, stage: Stage::Building, deadline, failures, next: Next::Idle };
    (State::Running(run), vec![Effect::Build(cause)])
}

fn rest(hold: Hold) -> (State, Vec<Effect>) {
    (State::Held(hold.clone()), vec![Effect::Rest(hold)])
}

fn finalize() -> (State, Vec<Effect>) {
    (State::Finalizing { due: None, failures: 0 }, vec![Effect::Finalize])
}

fn unwatch((state, mut effects): (State, Vec<Effect>)) -> (State, Vec<Effect>) {
    effects.insert(0, Effect::Unwatch);
    (state, effects)
}

fn conclude(run: Run, outcome: Outcome, transient: bool, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    let failures = match outcome {
        Outcome::Done | Outcome::Superseded => 0,
        Outcome::Failed | Outcome::Unhealthy => run.failures.saturating_add(1),
    };
    let (state, then) = match run.next {
        Next::Idle => {
            let pause = match outcome {
                Outcome::Done | Outcome::Superseded => spread(pace.interval, clock.chance),
                Outcome::Failed if transient => backoff(run.failures, pace.retry, clock.chance),
                Outcome::Failed | Outcome::Unhealthy => spread(pace.retry, clock.chance),
            };
            let due = clock.now.saturating_add(pause);
            (State::Idle { due, failures }, vec![Effect::Wake(due)])
        }
        Next::Again(cause) => begin(cause, failures, None),
        Next::Hold(hold) => rest(hold),
        Next::Finalize => finalize(),
    };
    (state, std::iter::once(Effect::Conclude(outcome)).chain(then).collect())
}

/// `pause` and up to a twentieth more, so that a fleet that was started together does not stay together.
pub fn spread(pause: Duration, chance: f64) -> Duration {
    pause.saturating_add(pause.mul_f64(chance.clamp(0.0, 1.0) / 20.0))
}

/// Full jitter: anything up to 1 s, 2 s, 4 s …, at the most `cap`, and at least half a second.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog.
pub fn backoff(failures: u32, cap: Duration, chance: f64) -> Duration {
    let ceiling = Duration::from_secs(1).saturating_mul(1 << failures.min(16)).min(cap);
    ceiling.mul_f64(chance.clamp(0.0, 1.0)).max(Duration::from_millis(500))
}

#[cfg(test)]
mod tests;
