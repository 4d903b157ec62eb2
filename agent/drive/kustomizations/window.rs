//! The window for changes: whether it is open, what waits for it, and what is kept up meanwhile.
//!
//! While it is shut, what is new is built and planned, and nothing of it is done. What the cluster was last driven to is
//! kept up, by the spec and values that it was made with as long as the agent runs. After a restart that is the revision
//! that was begun last, by the spec of today: an object that this makes otherwise than it was applied waits with the rest.
//!
//! Held back are changes: what is new, what is changed, what is deleted, also as the end of the Kustomization itself. Not
//! held back are a rollback, since it undoes harm, and the end of a Kustomization that leaves its objects. Who depends on
//! one that waits has to wait for the same window, and is kept up likewise.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use wickie_model::{Condition, ConditionStatus, ObjectId, ResourceName, Revision, Severity, condition_type, reason};
use wickie_plan::cycle::{Cause, Gate, Outcome};
use wickie_plan::{DeletionPolicy, Extent, Mode, Withheld};

use super::{Current, KustomizationState, outcome, resource};
use crate::config::Kustomization;
use crate::drive::Drive;
use crate::drive::records::Say;
use crate::drive::run::{BuildKey, Report, Wanted};
use crate::render::Inputs;
use crate::serve::HeldLive;
use crate::store::{Record, Run};

/// What waits for the window.
pub(super) struct Waiting {
    /// What it is built from.
    pub(super) key: BuildKey,
    /// What it is; nothing where it cannot be built.
    pub(super) wanted: Option<Rc<Wanted>>,
    changes: BTreeMap<ObjectId, Withheld>,
    /// What would keep it from being applied also then.
    problem: Option<String>,
}

/// What the cluster was last driven to.
pub(super) struct Kept {
    key: BuildKey,
    spec: Arc<Kustomization>,
    inputs: Rc<Inputs>,
}

/// What a run is made from.
pub(super) struct Basis {
    pub(super) key: BuildKey,
    pub(super) spec: Arc<Kustomization>,
    /// Nothing where they are those of today.
    pub(super) inputs: Option<Rc<Inputs>>,
    /// Whether something newer waits, and was looked at.
    pub(super) keeps: bool,
}

/// Why nothing is changed now.
struct Shut {
    reason: &'static str,
    /// `until …`
    until: String,
    opens: Option<Timestamp>,
}

impl KustomizationState {
    /// Whether something waits for the window.
    pub(super) fn waits_for_window(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether its end would delete anything.
    fn end_deletes(&self) -> bool {
        let Some(spec) = self.spec.as_ref().filter(|_| !self.suspended && !self.inventory.is_empty()) else {
            return false;
        };
        match spec.deletion_policy {
            DeletionPolicy::MirrorPrune => spec.prune,
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
            DeletionPolicy::Orphan => false,
        }
    }
}

impl Drive {
    /// Whether changes may be made now.
    pub(super) fn gate(&self, name: &ResourceName) -> Gate {
        let Some(state) = self.kustomizations.get(name) else { return Gate::Open };
        let Some(spec) = &state.spec else { return Gate::Open };
        // What only says what differs changes nothing at any time.
        let free = spec.mode == Mode::Detect || (state.deleted && !state.end_deletes()) || self.undoes(name);
        let now = Timestamp::now();
        match self.shut(state, now).filter(|_| !free) {
            None => Gate::Open,
            Some(Shut { opens, .. }) => {
                let wait = opens.and_then(|opens| Duration::try_from(opens.duration_since(now)).ok());
                // Never at once: the wall clock may stand just before the moment.
                let opens = wait.map(|wait| self.clock.now() + wait.max(Duration::from_millis(100)));
                Gate::Shut { opens, repairs: spec.repairs_at_any_time }
            }
        }
    }

    /// Whether an earlier revision is being put back, and is not yet there.
    fn undoes(&self, name: &ResourceName) -> bool {
        let said = self.records.get(&resource(name)).map(Record::conditions).unwrap_or_default();
        let there = |ready: &Condition| ready.reason == reason::ROLLED_BACK || ready.status == ConditionStatus::True;
        let judged = self.against(name).is_some_and(|trial| trial.instead.is_some()) || self.back(name).is_some();
        judged && !said.get(condition_type::READY).is_some_and(there)
    }

    /// What is put back although there is a newer revision: that one has to wait for the window, and harm must not.
    fn back(&self, name: &ResourceName) -> Option<Revision> {
        let state = self.kustomizations.get(name)?;
        let back = state.course.back(&state.spec.as_ref()?.source).filter(|_| self.against(name).is_none())?;
        self.shut(state, Timestamp::now()).map(|_| back.clone())
    }

    fn shut(&self, state: &KustomizationState, now: Timestamp) -> Option<Shut> {
        let spec = state.spec.as_ref()?;
        let windows = &spec.windows;
        if windows.is_empty() || (windows.is_open(now) && !self.clock_is_wrong(now)) {
            return self.shut_by_dependency(spec).filter(|_| !state.deleted);
        }
        if self.clock_is_wrong(now) {
            let until = format!("until the clock is set: it shows {now}, and the apply window is {windows}");
            return Some(Shut { reason: reason::CLOCK_WRONG, until, opens: None });
        }
        let opens = windows.opens(now);
        let until = match opens {
            Some(opens) => format!("until {opens}; the apply window is {windows}"),
            None => format!("for ever: the apply windows never overlap ({windows})"),
        };
        Some(Shut { reason: reason::OUTSIDE_WINDOW, until, opens })
    }

    fn shut_by_dependency(&self, spec: &Kustomization) -> Option<Shut> {
        let waits = |on: &&ResourceName| self.kustomizations.get(*on).is_some_and(|state| state.waits_for_window());
        let on = spec.depends_on.iter().map(|dependency| &dependency.on).find(waits)?;
        let until = format!("until dependency '{on}' has made what waits for its apply window");
        Some(Shut { reason: reason::DEPENDENCY_NOT_READY, until, opens: None })
    }

    /// What the run that begins now is made from: the newest, or what is kept up while that waits.
    pub(super) fn basis(&self, name: &ResourceName) -> Option<Basis> {
        let state = self.kustomizations.get(name)?;
        let (spec, key) = (state.spec.clone()?, self.build_key(name)?);
        if let Some(revision) = self.back(name).filter(|_| self.undoes(name)) {
            return Some(Basis { key: key.at(revision), spec, inputs: None, keeps: true });
        }
        let waits = state.waiting.as_ref().is_some_and(|waiting| waiting.key == key);
        if state.cycle.extent() == Extent::All || !waits {
            return Some(Basis { key, spec, inputs: None, keeps: false });
        }
        if let Some(Kept { key, spec, inputs }) = &state.kept {
            let (key, inputs) = (key.clone(), Some(inputs.clone()));
            return Some(Basis { key, spec: spec.clone(), inputs, keeps: true });
        }
        let last = state.course.last(&spec.source).filter(|last| **last != key.revision).cloned();
        let keeps = last.is_some();
        let key = last.map_or_else(|| key.clone(), |last| key.at(last));
        Some(Basis { key, spec, inputs: None, keeps })
    }

    /// Who else must know what a build wants. While it is shut, what is there stays ours, and what is new is only meant.
    pub(super) fn claim(&self, name: &ResourceName, wanted: &Wanted) {
        let mut claims = self.shared.claims.borrow_mut();
        let Some(state) = self.kustomizations.get(name) else { return };
        if state.cycle.extent() == Extent::All {
            return claims.want(name, wanted.desired.keys());
        }
        claims.want(name, state.inventory.keys());
        let newer = state.waiting.as_ref().and_then(|waiting| waiting.wanted.as_deref());
        let meant = newer.filter(|_| state.run.as_ref().is_some_and(|run| run.keeps)).unwrap_or(wanted);
        claims.mean(name, meant.desired.keys());
    }

    /// What is newest cannot be built, and would have to wait anyway: what was applied is kept up.
    pub(super) fn unbuildable(&mut self, name: &ResourceName, key: BuildKey, problem: String) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let waiting = Waiting { key, wanted: None, changes: BTreeMap::new(), problem: Some(problem) };
        state.waiting = Some(Box::new(waiting));
    }

    /// Takes from a run what waits; tells whether anything does that the run should have done.
    pub(super) fn note_withheld(&mut self, name: &ResourceName, report: &Report) -> bool {
        let Some(state) = self.kustomizations.get_mut(name) else { return false };
        let (Some(run), Some(wanted)) = (&state.run, state.wanted.clone()) else { return false };
        let is_repair = |what: &Withheld| *what == Withheld::Repair;
        let done = report.error.is_none();
        if !run.keeps {
            let changes: BTreeMap<_, _> = report
                .withheld
                .iter()
                .filter(|(_, what)| !is_repair(what))
                .map(|(id, what)| (id.clone(), *what))
                .collect();
            let broken: Vec<_> = wanted.broken.iter().map(ToString::to_string).collect();
            let waits = !changes.is_empty() || (run.extent != Extent::All && !broken.is_empty());
            let problem = Some(outcome::list(broken)).filter(|text| !text.is_empty());
            if done {
                let waiting = || Box::new(Waiting { key: run.key.clone(), wanted: Some(wanted), changes, problem });
                state.waiting = waits.then(waiting);
            }
            if done && !waits {
                let (key, spec, inputs) = (run.key.clone(), run.spec.clone(), state.inputs.clone());
                state.kept = Some(Kept { key, spec, inputs });
            }
        } else if done && run.extent == Extent::All {
            // It was put back.
            let (key, spec, inputs) = (run.key.clone(), run.spec.clone(), state.inputs.clone());
            state.kept = Some(Kept { key, spec, inputs });
        }
        // A run that keeps up what was applied has said all of what it may not touch; so has one that has nothing else.
        let keeps = run.keeps;
        let last = state.course.last(&run.spec.source);
        let alone = keeps || (state.kept.is_none() && last.is_none_or(|last| *last == run.key.revision));
        state.left = report
            .withheld
            .iter()
            .filter(|(_, what)| alone || is_repair(what))
            .map(|(id, what)| (id.clone(), *what))
            .collect();
        let left = state.left.values().any(is_repair);
        left || (!keeps && state.waiting.is_some())
    }

    /// What waits, and until when, for people.
    pub(in crate::drive) fn held_live(&self, name: &ResourceName) -> Option<HeldLive> {
        let state = self.kustomizations.get(name)?;
        let said = self.records.get(&resource(name)).map(Record::conditions)?;
        let said = said.get(condition_type::APPLY_HELD)?;
        let until = self.shut(state, Timestamp::now()).and_then(|shut| shut.opens);
        Some(HeldLive { reason: said.reason.clone(), message: said.message.clone(), until })
    }

    fn held_text(&self, name: &ResourceName) -> Option<(&'static str, String)> {
        let state = self.kustomizations.get(name)?;
        let shut = self.shut(state, Timestamp::now())?;
        let mut said = Vec::new();
        if let Some(Waiting { key, changes, problem, .. }) = state.waiting.as_deref() {
            let applied =
                self.records.get(&resource(name)).and_then(|record| record.status.text("/lastAppliedRevision"));
            let same = applied == Some(key.revision.to_string());
            let what = if same { "what the changed spec or values make of revision" } else { "revision" };
            let count = |what| changes.values().filter(|change| **change == what).count();
            let counts = [(Withheld::Create, "create"), (Withheld::Change, "change"), (Withheld::Delete, "delete")];
            let counts = counts.map(|(what, verb)| (count(what), verb)).into_iter().filter(|(number, _)| *number > 0);
            let counts: Vec<_> = counts.map(|(number, verb)| format!("{number} to {verb}")).collect();
            let changes = if counts.is_empty() { String::new() } else { format!(" with {}", counts.join(", ")) };
            said.push(format!("{what} {}{changes} waits {}", key.revision, shut.until));
            said.extend(problem.as_ref().map(|problem| format!("it cannot be built as it is: {problem}")));
        }
        let left = state.left.iter().filter(|(_, what)| **what == Withheld::Repair);
        let left: Vec<_> = left.map(|(id, _)| id.to_string()).collect();
        if !left.is_empty() {
            let until = if said.is_empty() { shut.until.as_str() } else { "until then" };
            said.push(format!("drift is left {until} (wickie.dev/drift-window): {}", outcome::list(left)));
        }
        (!said.is_empty()).then(|| (shut.reason, said.join("; ")))
    }

    /// Says in its status what waits; gives the words where they are new.
    pub(super) fn show_waiting(&mut self, name: &ResourceName) -> Option<(&'static str, String)> {
        let held = self.held_text(name);
        self.show(name, held)
    }

    fn show(&mut self, name: &ResourceName, held: Option<(&'static str, String)>) -> Option<(&'static str, String)> {
        let resource = resource(name);
        let said = self.records.get(&resource).map(Record::conditions).unwrap_or_default();
        let said = said.get(condition_type::APPLY_HELD).map(|said| said.message.clone());
        if said.as_deref() == held.as_ref().map(|(_, message)| message.as_str()) {
            return None;
        }
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| match &held {
            Some((why, message)) => {
                conditions.set(condition_type::APPLY_HELD, ConditionStatus::True, why, message, generation, now);
            }
            None => conditions.remove(condition_type::APPLY_HELD),
        });
        held
    }

    /// A run is over that has left what waits for the window.
    pub(super) fn conclude_withheld(&mut self, name: &ResourceName, run: Current, report: &Report) {
        let resource = resource(name);
        let (revision, newest) = (run.key.revision.clone(), self.followed(name));
        let moment = self.clock.now();
        if let Some(state) = self.kustomizations.get_mut(name).filter(|_| run.cause == Cause::Drift) {
            state.drift.ended(report.touched(), moment);
        }
        let requested = self.declared.get(&resource).and_then(|declared| declared.requested_at().map(str::to_owned));
        let held = self.held_text(name);
        let judged = self.against(name).is_some();
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, fields, generation| {
            let applied = fields.get("lastAppliedRevision").and_then(serde_json::Value::as_str).map(str::to_owned);
            // How it stands with what was applied before stays as it was said. Where nothing was, that is what is to be said.
            let was = conditions.get(condition_type::READY).cloned();
            let unsaid = was.as_ref().is_none_or(|ready| {
                [reason::PROGRESSING, reason::OUTSIDE_WINDOW, reason::CLOCK_WRONG, reason::DEPENDENCY_NOT_READY]
                    .contains(&ready.reason.as_str())
            });
            if let Some((why, message)) = held.as_ref().filter(|_| unsaid) {
                conditions.set(condition_type::READY, ConditionStatus::False, why, message, generation, now);
            }
            // What was put back is no longer in the stead of what is newest: it is what was applied.
            let back = was.as_ref().is_some_and(|ready| ready.reason == reason::ROLLED_BACK) && !judged;
            if let Some(applied) = applied.filter(|_| back) {
                let (why, message) = (reason::RECONCILIATION_SUCCEEDED, format!("Applied revision: {applied}"));
                conditions.set(condition_type::READY, ConditionStatus::True, why, message, generation, now);
                conditions.remove(condition_type::STALLED);
            }
            conditions.remove(condition_type::RECONCILING);
            if let Some(requested) = requested {
                fields.insert("lastHandledReconcileAt".to_owned(), requested.into());
            }
        });
        let news = self.show_waiting(name);
        if let Some((why, message)) = &news {
            let problem =
                self.kustomizations.get(name).and_then(|state| state.waiting.as_ref()?.problem.as_ref()).is_some();
            let severity = if problem { Severity::Error } else { Severity::Info };
            let about = newest.as_ref().unwrap_or(&revision);
            self.say(&resource, Say { severity, reason: why, message: message.clone(), revision: Some(about) });
        }
        if news.is_some() || !report.done.is_empty() {
            let (why, message) = news.or(held).unwrap_or((reason::OUTSIDE_WINDOW, String::new()));
            self.batch.runs.push(Run {
                name: name.clone(),
                revision: revision.to_string(),
                cause: run.cause,
                started_at: run.started_at,
                ended_at: now,
                reason: why.to_owned(),
                message,
                changes: report.changes,
            });
        }
        self.publish(&resource);
        self.answer_waiters(&resource);
        self.wake_dependents(name);
        self.look_for_drift(name, None);
    }

    /// The end of a Kustomization waits for the window.
    pub(super) fn withhold_end(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get(name) else { return };
        let Some(shut) = self.shut(state, Timestamp::now()) else { return };
        let objects = state.inventory.len();
        let message = format!(
            "its deletion, and that of its {objects} objects, waits {}; to let it go now, take the window away, or set spec.deletionPolicy to Orphan, which leaves them",
            shut.until
        );
        if let Some((why, message)) = self.show(name, Some((shut.reason, message))) {
            self.say(&resource(name), Say { severity: Severity::Info, reason: why, message, revision: None });
        }
    }

    /// What a run's end means for what waits.
    pub(super) fn window_run_ended(&mut self, name: &ResourceName, run: &Current, outcome: Outcome) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        if run.extent == Extent::All {
            // Whatever became of it, nothing waits for the window any more.
            state.waiting = None;
            state.left.clear();
        } else if outcome == Outcome::Done && !run.keeps {
            // What is new makes no difference here: it is as good as applied.
            self.trial_begins(name, &run.key.revision);
        }
    }
}
