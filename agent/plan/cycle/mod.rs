//! The life of one Kustomization, as an explicit state machine.
//!
//! ```text
//!            Asked/due            Built             Applied
//!   Idle ───────────────► Building ────► Applying ──────────► Waiting (health)
//!    ▲                        │ Failed      │ Failed / done       │ Healthy / Unhealthy / deadline
//!    └────────────────────────┴─────────────┴─────────────────────┤
//!   Building ◄── recorded ── Turning ◄── condemned ───────────────┘
//!   Held: suspended, no snapshot, a dependency not ready, an invalid spec
//!   Deleted ──► Finalizing ──► Gone
//! ```
//!
//! [`step`] is the only way from one state to the next. It knows neither cluster nor clock: time and chance come in
//! with the event, what is to be done goes out as effects. Stages run elsewhere and answer with events; what is asked
//! for while one runs is remembered, and done next.
//!
//! Health is waited for until the deadline, and no longer than until something has failed that will not get better by
//! itself, as in Flux (kustomize-controller, `DisableFailFastBehavior` off).
//!
//! A new revision that does not become healthy may be condemned ([`Remedy`]). That is written down before
//! anything is done about it: from then on every run follows what [`crate::course`] says, also after a crash.
//!
//! While the window for changes is shut ([`Gate`]), a run does no more than its [`Extent`] allows: what would change
//! something is withheld, and comes with the run that begins when the window opens. A run that has begun to apply goes on
//! to its end, and so does the trial of a revision that could only be applied in part; harm is undone at any time.

mod gate;
mod words;

use std::time::Duration;

pub use gate::Gate;
pub use wickie_model::Cause;
pub use words::{Clock, Effect, Event, Hold, Moment, Outcome, Pace, Remedy, Stage};

use crate::policy::Extent;

/// How long is waited on after the deadline, while the cluster cannot be seen.
const BLIND: Duration = Duration::from_secs(30);

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
        /// Until when a new revision that cannot be applied is tried.
        patience: Option<Moment>,
        /// Whether something waits for the window.
        waits: bool,
    },
    /// A run is under way.
    Running(Run),
    /// A revision was condemned, which is being written down.
    Turning(Turn),
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
    /// Until when a new revision that cannot be applied is tried, however often.
    patience: Option<Moment>,
    failures: u32,
    next: Next,
    /// How much it may do.
    extent: Extent,
    /// Something waits for the window, as an earlier run has found.
    waits: bool,
}

/// Between two revisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    remedy: Remedy,
    next: Next,
}

/// What comes after the run.
#[derive(Clone, Debug, PartialEq)]
enum Next {
    Idle,
    Again(Cause),
    Hold(Hold),
    Finalize,
}

impl State {
    /// A Kustomization that has just been seen.
    pub fn new() -> Self {
        Self::Idle { due: Moment::MAX, failures: 0, patience: None, waits: false }
    }

    /// The stage of the run that is under way.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Running(run) => Some(run.stage),
            _ => None,
        }
    }

    /// How much the run that is under way may do.
    pub fn extent(&self) -> Extent {
        match self {
            Self::Running(run) => run.extent,
            _ => Extent::All,
        }
    }

    /// Whether something is under way that leads on by itself.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Turning(_))
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

        (State::Held(_), Event::Asked(cause)) => begin(cause, Before::default(), pace),
        (State::Idle { failures, patience, waits, .. }, Event::Asked(cause)) => {
            let patience = patience.filter(|_| !is_anew(cause));
            begin(cause, Before { failures, deadline: None, patience, waits }, pace)
        }
        (State::Idle { failures, waits: true, .. }, Event::Tick) if pace.gate == Gate::Open => {
            begin(Cause::Window, Before { failures, ..Before::default() }, pace)
        }
        (State::Idle { due, failures, patience, waits }, Event::Tick) if clock.now >= due => {
            let cause = if failures == 0 { Cause::Interval } else { Cause::Retry };
            begin(cause, Before { failures, deadline: None, patience, waits }, pace)
        }
        (State::Idle { due, failures, patience, waits }, Event::Tick) => {
            idle(due, Before { failures, deadline: None, patience, waits }, pace, clock)
        }
        (State::Held(_) | State::Idle { .. }, Event::Held(hold)) => rest(hold),
        (State::Held(_) | State::Idle { .. }, Event::Deleted) => finalize(pace, clock),

        (State::Running(run), event) => running(run, event, pace, clock),

        (State::Turning(turn), Event::Recorded) => turned(turn, pace, clock),
        (State::Turning(mut turn), event) => {
            turn.next.remember(event);
            (State::Turning(turn), vec![])
        }

        (State::Finalizing { .. }, Event::Finalized { done: true }) => (State::Gone, vec![Effect::Remove]),
        (State::Finalizing { failures, .. }, Event::Finalized { done: false }) => {
            let due = clock.now + backoff(failures, pace.retry, clock.chance);
            (State::Finalizing { due: Some(due), failures: failures.saturating_add(1) }, vec![Effect::Wake(due)])
        }
        (State::Finalizing { due: Some(due), failures: failures @ 1.. }, Event::Tick) if clock.now >= due => {
            (State::Finalizing { due: None, failures }, vec![Effect::Finalize])
        }
        // It has not begun, because the window is shut; or was, until somebody opened it.
        (State::Finalizing { due: Some(_), failures: 0 }, Event::Tick | Event::Deleted) => finalize(pace, clock),
        (state, _) => (state, vec![]),
    }
}

fn running(mut run: Run, event: Event, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    match (run.stage, event) {
        (Stage::Building, Event::Built) => {
            run.stage = Stage::Applying;
            // The build may have taken until the window was shut. What was built while it was shut stays what it is.
            run.extent = run.extent.min(pace.gate.extent(run.cause, run.patience));
            (State::Running(run), vec![Effect::Apply])
        }
        (Stage::Applying, Event::Applied { wait: true }) if run.next == Next::Idle => {
            let until = *run.deadline.get_or_insert(clock.now + pace.timeout);
            run.stage = Stage::Waiting;
            (State::Running(run), vec![Effect::Watch { until }, Effect::Wake(until)])
        }
        // Something else is already wanted: waiting would only delay it. A repair does not extend the wait.
        (Stage::Applying, Event::Applied { wait: true }) => {
            run.deadline.get_or_insert(clock.now + pace.timeout);
            conclude(run, Outcome::Superseded, false, pace, clock)
        }
        (Stage::Applying, Event::Applied { wait: false }) => conclude(run, Outcome::Done, false, pace, clock),
        (Stage::Building | Stage::Applying, Event::Withheld) => conclude(run, Outcome::Withheld, false, pace, clock),
        (Stage::Applying, Event::Deferred { until }) if run.next == Next::Idle => {
            let (state, wake) = idle(until, Before { waits: run.waits, ..Before::default() }, pace, clock);
            (state, [vec![Effect::Conclude(Outcome::Deferred)], wake].concat())
        }
        (Stage::Applying, Event::Deferred { .. }) => conclude(run, Outcome::Deferred, false, pace, clock),
        // A new revision that can only be applied in part does harm too, and is given as long as one that is not healthy.
        (Stage::Applying, Event::Failed { transient: false, halfway: true }) if pace.remedy != Remedy::Retry => {
            let until = *run.patience.get_or_insert(clock.now + pace.timeout);
            match clock.now >= until {
                true => condemn(run, Outcome::Failed, pace.remedy),
                false => conclude(run, Outcome::Failed, false, pace, clock),
            }
        }
        (Stage::Building | Stage::Applying, Event::Failed { transient, .. }) => {
            conclude(run, Outcome::Failed, transient, pace, clock)
        }

        (Stage::Waiting, Event::Healthy) => conclude(run, Outcome::Done, false, pace, clock),
        (Stage::Waiting, Event::Unhealthy) => unhealthy(run, pace, clock),
        (Stage::Waiting, Event::Tick) if run.is_late(clock.now) => unhealthy(run, pace, clock),
        (Stage::Waiting, Event::Tick | Event::Blind) => {
            if run.is_late(clock.now) {
                run.deadline = Some(clock.now + pace.timeout.min(BLIND));
            }
            let wake = run.deadline.map(Effect::Wake).into_iter().collect();
            (State::Running(run), wake)
        }
        // A repair goes on with the same deadline; what people or Git ask for begins anew.
        (Stage::Waiting, Event::Asked(Cause::Drift)) => {
            let (state, effects) = begin(Cause::Drift, run.before(), pace);
            let over = Effect::Conclude(Outcome::Superseded);
            unwatch((state, std::iter::once(over).chain(effects).collect()))
        }
        (Stage::Waiting, Event::Asked(cause)) if is_anew(cause) => {
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

        // While a stage works, what is asked for waits for its answer.
        (_, event) => {
            run.next.remember(event);
            (State::Running(run), vec![])
        }
    }
}

impl Run {
    /// What it hands on to a run that goes on where it was.
    fn before(&self) -> Before {
        let Self { failures, deadline, patience, waits, .. } = *self;
        Before { failures, deadline, patience, waits }
    }

    fn is_late(&self, now: Moment) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }
}

impl Next {
    /// Remembers what is asked for meanwhile. Deletion outlives a hold, and a hold a request.
    fn remember(&mut self, event: Event) {
        match (event, &*self) {
            (_, Self::Finalize) => {}
            (Event::Deleted, _) => *self = Self::Finalize,
            (Event::Held(hold), _) => *self = Self::Hold(hold),
            (Event::Asked(cause), Self::Again(before)) => *self = Self::Again(cause.max(*before)),
            (Event::Asked(cause), _) => *self = Self::Again(cause),
            _ => {}
        }
    }
}

/// What a run takes over from the one before it.
#[derive(Clone, Copy, Default)]
struct Before {
    failures: u32,
    deadline: Option<Moment>,
    patience: Option<Moment>,
    waits: bool,
}

/// Whether people or Git ask for something else than what was wanted before: it gets all the time that there is.
fn is_anew(cause: Cause) -> bool {
    matches!(cause, Cause::Revision | Cause::Rollback | Cause::Spec | Cause::Request | Cause::Window)
}

fn begin(cause: Cause, before: Before, pace: &Pace) -> (State, Vec<Effect>) {
    let Before { failures, deadline, patience, waits } = before;
    let extent = pace.gate.extent(cause, patience);
    // What waits is done now, if it can be.
    let waits = waits && extent != Extent::All;
    let run = Run { cause, stage: Stage::Building, deadline, patience, failures, next: Next::Idle, extent, waits };
    (State::Running(run), vec![Effect::Build(cause)])
}

/// Nothing to do until `due`, or until the window opens where something waits for it.
fn idle(due: Moment, before: Before, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    let Before { failures, patience, waits, .. } = before;
    let wake = if waits { due.min(pace.gate.opening(clock)) } else { due };
    (State::Idle { due, failures, patience, waits }, vec![Effect::Wake(wake)])
}

fn rest(hold: Hold) -> (State, Vec<Effect>) {
    (State::Held(hold.clone()), vec![Effect::Rest(hold)])
}

/// The end of a Kustomization is a change like any other; once it has begun it is not held again.
fn finalize(pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    match pace.gate {
        Gate::Open => (State::Finalizing { due: None, failures: 0 }, vec![Effect::Finalize]),
        Gate::Shut { .. } => {
            let due = pace.gate.opening(clock);
            (State::Finalizing { due: Some(due), failures: 0 }, vec![Effect::Withhold, Effect::Wake(due)])
        }
    }
}

fn unwatch((state, mut effects): (State, Vec<Effect>)) -> (State, Vec<Effect>) {
    effects.insert(0, Effect::Unwatch);
    (state, effects)
}

fn unhealthy(run: Run, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    unwatch(match pace.remedy {
        Remedy::Retry => conclude(run, Outcome::Unhealthy, false, pace, clock),
        remedy => condemn(run, Outcome::Unhealthy, remedy),
    })
}

fn condemn(run: Run, outcome: Outcome, remedy: Remedy) -> (State, Vec<Effect>) {
    let turn = Turn { remedy, next: run.next };
    (State::Turning(turn), vec![Effect::Condemn(remedy, outcome), Effect::Conclude(outcome)])
}

/// What is done about a condemned revision is to run again: which revision that is, the course says.
fn turned(turn: Turn, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    match (turn.next, turn.remedy) {
        (Next::Idle, Remedy::Back) => begin(Cause::Rollback, Before::default(), pace),
        (Next::Idle, _) => {
            let due = clock.now.saturating_add(spread(pace.interval, clock.chance));
            idle(due, Before::default(), pace, clock)
        }
        (Next::Again(cause), Remedy::Back) => begin(cause.max(Cause::Rollback), Before::default(), pace),
        (Next::Again(cause), _) => begin(cause, Before::default(), pace),
        (Next::Hold(hold), _) => rest(hold),
        (Next::Finalize, _) => finalize(pace, clock),
    }
}

fn conclude(run: Run, outcome: Outcome, transient: bool, pace: &Pace, clock: Clock) -> (State, Vec<Effect>) {
    let failures = match outcome {
        Outcome::Done | Outcome::Superseded | Outcome::Deferred | Outcome::Withheld => 0,
        Outcome::Failed | Outcome::Unhealthy => run.failures.saturating_add(1),
    };
    let waits = run.waits || outcome == Outcome::Withheld;
    let (state, then) = match run.next {
        Next::Idle => {
            let pause = match outcome {
                Outcome::Done | Outcome::Superseded | Outcome::Deferred | Outcome::Withheld => {
                    spread(pace.interval, clock.chance)
                }
                Outcome::Failed if transient => backoff(run.failures, pace.retry, clock.chance),
                Outcome::Failed | Outcome::Unhealthy => spread(pace.retry, clock.chance),
            };
            let patience = run.patience.filter(|_| outcome == Outcome::Failed);
            let due = clock.now.saturating_add(pause).min(patience.unwrap_or(Moment::MAX));
            idle(due, Before { failures, deadline: None, patience, waits }, pace, clock)
        }
        Next::Again(cause) => {
            let patience = run.patience.filter(|_| outcome == Outcome::Failed && !is_anew(cause));
            let deadline = run.deadline.filter(|_| outcome == Outcome::Superseded && !is_anew(cause));
            begin(cause, Before { failures, deadline, patience, waits }, pace)
        }
        Next::Hold(hold) => rest(hold),
        Next::Finalize => finalize(pace, clock),
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
