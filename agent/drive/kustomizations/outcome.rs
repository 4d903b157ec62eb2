//! How a run ended, in words: for the status, the history and the reports.

use std::time::Duration;

use jiff::Timestamp;
use wickie_model::{
    ConditionStatus, Ending, ObjectId, ResourceName, Revision, Severity, Trial, condition_type, reason,
};
use wickie_plan::Extent;
use wickie_plan::cycle::{Cause, Outcome};

use super::{Drive, KustomizationState, course, drift, resource};
use crate::chain::chain;
use crate::drive::records::Say;
use crate::drive::run::{Report, RunError};
use crate::store::Run;

/// How many objects a message names.
const NAMED: usize = 10;

/// What is said of a run.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Drive {
    /// Says that a run for something new has begun. Repairs and plain intervals are not announced.
    pub(super) fn say_progress(&mut self, name: &ResourceName, cause: Cause) {
        if !matches!(
            cause,
            Cause::Revision | Cause::Rollback | Cause::Spec | Cause::Window | Cause::Request | Cause::Start
        ) {
            return;
        }
        // What stands against the newest revision was said, and is still true while what was put back is kept up.
        if self.against(name).is_some() {
            return;
        }
        let run = self.kustomizations.get(name).and_then(|state| state.run.as_ref());
        // While the window is shut nothing is under way.
        let Some(revision) = run.filter(|run| run.extent == Extent::All).map(|run| run.key.revision.clone()) else {
            return;
        };
        let resource = resource(name);
        let applied = self.records.get(&resource).and_then(|record| record.status.text("/lastAppliedRevision"));
        if applied == Some(revision.to_string()) && self.is_ready(&resource) {
            return;
        }
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, fields, generation| {
            let message = format!("reconciling revision {revision}");
            conditions.set(
                condition_type::RECONCILING,
                ConditionStatus::True,
                reason::PROGRESSING,
                message.clone(),
                generation,
                now,
            );
            conditions.set(
                condition_type::READY,
                ConditionStatus::Unknown,
                reason::PROGRESSING,
                message,
                generation,
                now,
            );
            fields.insert("lastAttemptedRevision".to_owned(), revision.to_string().into());
        });
    }

    /// A run is over: its status, its line in the history, its report.
    pub(super) fn conclude(&mut self, name: &ResourceName, outcome: Outcome) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        state.settled |= outcome != Outcome::Deferred;
        let Some(run) = state.run.take().map(|run| *run) else { return };
        self.window_run_ended(name, &run, outcome);
        if outcome == Outcome::Withheld {
            let report = self.kustomizations.get_mut(name).and_then(|state| state.report.take()).unwrap_or_default();
            return self.conclude_withheld(name, run, &report);
        }
        let took = run.began.elapsed();
        let revision = run.key.revision.clone();
        let Some(state) = self.kustomizations.get(name) else { return };
        let why = self.why(state, outcome);
        self.trial_ends(name, &revision, outcome, &why);
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let report = state.report.take().unwrap_or_default();
        // An outage meets each run in another place, with other words. It is told once.
        let away = outcome == Outcome::Failed && report.is_away();
        let was_away = std::mem::replace(&mut state.away, away);
        let Some(state) = self.kustomizations.get(name) else { return };
        let against = self.against(name).cloned();
        let aside = against.as_ref().filter(|_| self.followed(name).as_ref() == Some(&revision));
        let verdict = self.verdict(state, outcome, (&report, why), &revision, aside);
        if outcome != Outcome::Superseded {
            self.unwatch_health(name);
        }
        let resource = resource(name);
        let before = self.records.get(&resource).map(|record| record.status.clone()).unwrap_or_default();
        self.conclude_status(name, outcome, &verdict, (&revision, run.keeps), aside);
        self.show_waiting(name);
        let status_changed = self.records.get(&resource).is_some_and(|record| record.status != before);
        let changes = report.changes;
        let worked = !report.done.is_empty() || drift::repaired(&changes);
        let now = self.clock.now();
        if let Some(state) = self.kustomizations.get_mut(name).filter(|_| run.cause == Cause::Drift) {
            state.drift.ended(report.touched(), now);
        }
        for (id, conflict) in &report.taken {
            let message = format!(
                "{id}: the field {} was owned by {:?}; Git has it, so it was taken back",
                conflict.field, conflict.manager
            );
            self.say(
                &resource,
                Say { severity: Severity::Info, reason: reason::DRIFT_DETECTED, message, revision: Some(&revision) },
            );
        }
        if status_changed || worked {
            let verdict = match aside {
                // What was put back is kept up: that it was put back was said.
                Some(_) if outcome == Outcome::Done && !status_changed => applied(&revision),
                _ => verdict.clone(),
            };
            let done = verdict.reason == reason::RECONCILIATION_SUCCEEDED;
            let set_back = aside.is_some_and(|trial| trial.ending == Ending::SetBack) && outcome == Outcome::Done;
            let info = done || set_back || matches!(outcome, Outcome::Superseded | Outcome::Deferred);
            let severity = if info { Severity::Info } else { Severity::Error };
            let message = if done { finished(took, self.next_run_in(name)) } else { verdict.message.clone() };
            let about = aside.filter(|_| !done && outcome == Outcome::Done).map_or(&revision, |trial| &trial.revision);
            // A failure that was said already is not said again with every try.
            if done || (status_changed && !(away && was_away)) {
                self.say(&resource, Say { severity, reason: verdict.reason, message, revision: Some(about) });
            }
            let duration = Timestamp::now().duration_since(run.started_at);
            let duration = std::time::Duration::try_from(duration).unwrap_or_default();
            self.metrics.took(wickie_model::ResourceKind::Kustomization, name, duration);
            self.batch.runs.push(Run {
                name: name.clone(),
                revision: revision.to_string(),
                cause: run.cause,
                started_at: run.started_at,
                ended_at: Timestamp::now(),
                reason: verdict.reason.to_owned(),
                message: verdict.message,
                changes,
            });
        }
        self.publish(&resource);
        if !matches!(outcome, Outcome::Superseded | Outcome::Deferred) {
            self.answer_waiters(&resource);
        }
        if outcome == Outcome::Done {
            self.wake_dependents(name);
        }
        if outcome == Outcome::Done && run.keeps && run.extent == Extent::All {
            // Harm is undone: now the newer revision may be looked at.
            self.admit(name, Cause::Revision);
        }
        self.look_for_drift(name, None);
    }

    fn conclude_status(
        &mut self,
        name: &ResourceName,
        outcome: Outcome,
        verdict: &Verdict,
        (revision, keeps): (&Revision, bool),
        aside: Option<&Trial>,
    ) {
        let resource = resource(name);
        let requested = self.declared.get(&resource).and_then(|declared| declared.requested_at().map(str::to_owned));
        let waits =
            self.kustomizations.get(name).is_some_and(|state| state.spec.as_ref().is_some_and(|spec| spec.waits()));
        let now = Timestamp::now();
        let Verdict { reason: why, message } = verdict;
        self.set_status(&resource, |conditions, fields, generation| {
            // What is kept up while a changed spec waits is no word on that spec.
            let before = conditions.get(condition_type::READY).map(|ready| ready.observed_generation);
            let generation = before.filter(|_| keeps).unwrap_or(generation);
            let mut set =
                |type_, status, reason, message: &str| conditions.set(type_, status, reason, message, generation, now);
            match outcome {
                Outcome::Done if let Some(trial) = aside => {
                    set(condition_type::READY, ConditionStatus::False, why, message);
                    set(condition_type::STALLED, ConditionStatus::True, why, message);
                    if trial.ending == Ending::Stopped {
                        set(condition_type::HEALTHY, ConditionStatus::False, why, message);
                    } else {
                        set(condition_type::HEALTHY, ConditionStatus::True, reason::SUCCEEDED, "Health check passed");
                        fields.insert("lastAppliedRevision".to_owned(), revision.to_string().into());
                    }
                    conditions.remove(condition_type::RECONCILING);
                }
                Outcome::Done => {
                    set(condition_type::READY, ConditionStatus::True, why, message);
                    if waits {
                        set(condition_type::HEALTHY, ConditionStatus::True, reason::SUCCEEDED, "Health check passed");
                    }
                    conditions.remove(condition_type::RECONCILING);
                    conditions.remove(condition_type::STALLED);
                    fields.insert("lastAppliedRevision".to_owned(), revision.to_string().into());
                }
                Outcome::Failed | Outcome::Unhealthy => {
                    set(condition_type::READY, ConditionStatus::False, why, message);
                    set(condition_type::RECONCILING, ConditionStatus::True, reason::PROGRESSING_WITH_RETRY, message);
                    if outcome == Outcome::Unhealthy {
                        set(condition_type::HEALTHY, ConditionStatus::False, why, message);
                    }
                }
                Outcome::Deferred => {
                    set(condition_type::READY, ConditionStatus::Unknown, why, message);
                    set(condition_type::RECONCILING, ConditionStatus::True, why, message);
                }
                Outcome::Superseded | Outcome::Withheld => {}
            }
            if !waits {
                conditions.remove(condition_type::HEALTHY);
            }
            // What was put back is no attempt at anything new.
            let attempted = aside.map_or(revision, |trial| &trial.revision);
            fields.insert("lastAttemptedRevision".to_owned(), attempted.to_string().into());
            if let Some(requested) = requested {
                fields.insert("lastHandledReconcileAt".to_owned(), requested.into());
            }
        });
    }

    /// Why a run has not ended well; empty where it has.
    pub(super) fn why(&self, state: &KustomizationState, outcome: Outcome) -> String {
        match (outcome, &state.report) {
            (Outcome::Unhealthy, _) => {
                let line = |(id, verdict): &(ObjectId, wickie_model::Verdict)| {
                    format!("{id} ({:?}: {})", verdict.health, verdict.message)
                };
                let at = state.elsewhere();
                let failed = state.failed_early();
                if !failed.is_empty() {
                    // How long it took is left out: a try that ends the same way shall not be news.
                    let lines = failed.iter().map(line).collect();
                    return format!("health check failed{at}: failed early due to stalled resources: {}", list(lines));
                }
                let waited = state.spec.as_ref().map_or(Duration::ZERO, |spec| spec.timeout);
                let lines = self.unhealthy(state).iter().map(line).collect();
                format!("health check failed after {}s{at}: {}", waited.as_secs(), list(lines))
            }
            (Outcome::Failed, Some(report)) => failure(state, report).message,
            _ => String::new(),
        }
    }

    fn verdict(
        &self,
        state: &KustomizationState,
        outcome: Outcome,
        (report, why): (&Report, String),
        revision: &Revision,
        aside: Option<&Trial>,
    ) -> Verdict {
        let more = || aside.map_or_else(|| self.consequence(state, revision), course::in_stead);
        match (outcome, aside) {
            (Outcome::Done, Some(trial)) => Verdict {
                reason: if trial.ending == Ending::Stopped { reason::HEALTH_CHECK_FAILED } else { reason::ROLLED_BACK },
                message: course::aside(trial, revision),
            },
            (Outcome::Done, None) => applied(revision),
            (Outcome::Deferred, _) => Verdict {
                reason: reason::PROGRESSING,
                message: format!(
                    "revision {revision} is applied but for what is to be deleted: {}",
                    list(report.deferred.clone())
                ),
            },
            (Outcome::Superseded | Outcome::Withheld, _) => Verdict {
                reason: reason::PROGRESSING,
                message: format!("revision {revision} was applied; another run was asked for before it was healthy"),
            },
            (Outcome::Unhealthy, _) => {
                Verdict { reason: reason::HEALTH_CHECK_FAILED, message: format!("{why}{}", more()) }
            }
            (Outcome::Failed, _) => {
                Verdict { reason: failure(state, report).reason, message: format!("{why}{}", more()) }
            }
        }
    }

    fn next_run_in(&self, name: &ResourceName) -> Option<Duration> {
        let interval = self.kustomizations.get(name)?.spec.as_ref()?.interval;
        Some(interval)
    }
}

fn applied(revision: &Revision) -> Verdict {
    Verdict { reason: reason::RECONCILIATION_SUCCEEDED, message: format!("Applied revision: {revision}") }
}

pub(super) fn failure(state: &KustomizationState, report: &Report) -> Verdict {
    if let Some(error) = &report.error {
        let reason = match error {
            RunError::Source(_) | RunError::NoSnapshot(..) | RunError::NotFetched { .. } => reason::ARTIFACT_FAILED,
            RunError::Render(_) | RunError::Values(_) | RunError::Endless { .. } => reason::BUILD_FAILED,
            RunError::Refused(_) => reason::PRUNE_FAILED,
            RunError::Look { .. } | RunError::Target(_) | RunError::SetBack(_) | RunError::Store(_) => {
                reason::RECONCILIATION_FAILED
            }
        };
        return Verdict { reason, message: chain(error) };
    }
    let broken = state.wanted.iter().flat_map(|wanted| &wanted.broken).map(ToString::to_string);
    let mut lines: Vec<String> = broken.collect();
    let reason = if lines.is_empty() { reason::RECONCILIATION_FAILED } else { reason::BUILD_FAILED };
    lines.extend(report.failures.iter().map(|(_, failure)| failure.message.clone()));
    let others = report.changes.unchanged + report.changes.created + report.changes.changed + report.changes.repaired;
    let rest = if others > 0 { format!(" ({others} other objects are in place)") } else { String::new() };
    let at = match state.elsewhere() {
        at if at.is_empty() => at,
        at => format!("{}: ", at.trim_start()),
    };
    Verdict { reason, message: format!("{at}{}{rest}", list(lines)) }
}

/// The first few, and how many more.
pub(super) fn list(lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(NAMED);
    let mut text = lines.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// As Flux says it.
fn finished(took: Duration, next: Option<Duration>) -> String {
    let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    match next {
        Some(next) => format!("Reconciliation finished in {took:?}, next run in {next:?}"),
        None => format!("Reconciliation finished in {took:?}"),
    }
}
