//! Which revision a Kustomization follows: effects of what `wickie_plan::course` decides.
//!
//! A judgement is written in one batch with the end of the run that led to it, and answered with
//! `cycle::Event::Recorded` when the store has it; only then is anything put back.

use jiff::Timestamp;
use wickie_model::{Ending, ResourceName, Revision, Trial};
use wickie_plan::course::OnUnhealthy;
use wickie_plan::cycle::{self, Outcome, Remedy};

use super::{Drive, KustomizationState};
use crate::config::Kustomization;
use crate::drive::run::RunError;

impl KustomizationState {
    /// What is done when the revision that runs now is not healthy in time.
    pub(super) fn remedy(&self) -> Remedy {
        match (&self.spec, &self.run) {
            (Some(spec), Some(run)) => self.course.remedy(spec.on_unhealthy, &spec.source, &run.key.revision),
            _ => Remedy::Retry,
        }
    }
}

impl Drive {
    /// The newest revision of a Kustomization's source.
    pub(super) fn newest(&self, spec: &Kustomization) -> Option<Revision> {
        self.sources.get(&spec.source)?.revision().cloned()
    }

    /// The revision that a Kustomization follows now.
    pub(in crate::drive) fn followed(&self, name: &ResourceName) -> Option<Revision> {
        let state = self.kustomizations.get(name)?;
        let spec = state.spec.as_ref()?;
        Some(state.course.follows(&spec.source, &self.newest(spec)?).clone())
    }

    /// What stands against the newest revision of its source, if anything does.
    pub(in crate::drive) fn against(&self, name: &ResourceName) -> Option<&Trial> {
        let state = self.kustomizations.get(name)?;
        let spec = state.spec.as_ref()?;
        state.course.against(&spec.source, self.sources.get(&spec.source)?.revision()?)
    }

    /// A run of the revision that is followed begins. What was put back has no trial of its own.
    pub(super) fn trial_begins(&mut self, name: &ResourceName, revision: &Revision) {
        let judged = self.against(name).is_some();
        let Some(state) = self.kustomizations.get_mut(name).filter(|_| !judged) else { return };
        let Some(spec) = &state.spec else { return };
        self.batch.trials.extend(state.course.begin(name, &spec.source, revision, Timestamp::now()));
    }

    /// What a run's end means for its revision.
    pub(super) fn trial_ends(&mut self, name: &ResourceName, revision: &Revision, outcome: Outcome, why: &str) {
        let Some(state) = self.kustomizations.get(name) else { return };
        let Some(spec) = state.spec.clone() else { return };
        let judges_health = spec.waits() && state.judges_health();
        let report = state.report.as_ref();
        let refused =
            |error: &RunError| matches!(error, RunError::Render(_) | RunError::Refused(_)).then_some(Ending::Refused);
        let ending = match outcome {
            Outcome::Done if !judges_health => Some(Ending::Applied),
            Outcome::Done if self.unhealthy(state).is_empty() => Some(Ending::Healthy),
            Outcome::Unhealthy => Some(Ending::Unhealthy),
            Outcome::Failed => match report {
                Some(report) if report.is_transient() => None,
                Some(report) => report.error.as_ref().map_or(Some(Ending::Failed), refused),
                None => None,
            },
            Outcome::Done | Outcome::Superseded | Outcome::Deferred | Outcome::Withheld => None,
        };
        let why = if matches!(outcome, Outcome::Done) { "" } else { why };
        if let (Some(ending), Some(state)) = (ending, self.kustomizations.get_mut(name)) {
            self.batch.trials.extend(state.course.end(&spec.source, revision, ending, why, Timestamp::now()));
        }
    }

    /// Condemns the revision that runs now.
    pub(super) fn condemn(&mut self, name: &ResourceName, remedy: Remedy, outcome: Outcome) {
        let Some(state) = self.kustomizations.get(name) else { return };
        let (Some(spec), Some(run)) = (&state.spec, &state.run) else { return };
        let (source, revision) = (spec.source.clone(), run.key.revision.clone());
        let why = self.why(state, outcome);
        let judgement = match remedy {
            Remedy::Back => (Ending::RolledBack, state.course.healthy(&source).cloned()),
            Remedy::Stop | Remedy::Retry => (Ending::Stopped, None),
        };
        if let Some(state) = self.kustomizations.get_mut(name) {
            self.batch.trials.extend(state.course.judge(&source, &revision, judgement, why, Timestamp::now()));
            // A step without anything to write would never be answered.
            self.turning.push(name.clone());
        }
    }

    /// The store has what was written: what waited for it goes on.
    pub(in crate::drive) fn recorded(&mut self) -> bool {
        let turning = std::mem::take(&mut self.turning);
        turning.iter().for_each(|name| self.step(name, cycle::Event::Recorded));
        !turning.is_empty()
    }

    /// Where the owner no longer wants bad revisions put away, those that are come back.
    pub(super) fn free_condemned(&mut self, name: &ResourceName) {
        let wanted = |state: &KustomizationState| state.spec.as_ref().is_some_and(|spec| spec.on_unhealthy.is_some());
        let condemned = self.against(name).is_some_and(|trial| trial.ending != Ending::SetBack);
        if condemned && !self.kustomizations.get(name).is_some_and(|state| wanted(state)) {
            self.acquit(name);
        }
    }

    /// Takes back what stands against the newest revision; tells whether anything did.
    pub(in crate::drive) fn acquit(&mut self, name: &ResourceName) -> bool {
        let Some(state) = self.kustomizations.get_mut(name) else { return false };
        let Some(spec) = &state.spec else { return false };
        let Some(newest) = self.sources.get(&spec.source).and_then(|source| source.revision()) else { return false };
        let acquitted = state.course.acquit(&spec.source, newest, Timestamp::now());
        let did = acquitted.is_some();
        self.batch.trials.extend(acquitted);
        did
    }

    /// Sets the newest revision aside in favour of another, because somebody asked for that.
    pub(in crate::drive) fn set_back(&mut self, name: &ResourceName, to: Revision, why: String) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let Some(spec) = &state.spec else { return };
        let Some(newest) = self.sources.get(&spec.source).and_then(|source| source.revision()) else { return };
        let now = Timestamp::now();
        // The newest may never have been begun.
        if state.course.of(&spec.source, newest).is_none() {
            self.batch.trials.extend(state.course.begin(name, &spec.source, newest, now));
        }
        let judgement = (Ending::SetBack, Some(to));
        self.batch.trials.extend(state.course.judge(&spec.source, newest, judgement, why, now));
    }

    /// What more there is to say of a revision that failed.
    pub(super) fn consequence(&self, state: &KustomizationState, revision: &Revision) -> String {
        let Some(spec) = &state.spec else { return String::new() };
        let Some(trial) = state.course.of(&spec.source, revision) else { return String::new() };
        match (trial.ending, &trial.instead) {
            (Ending::RolledBack, Some(to)) => format!("; going back to revision {to}, which was healthy"),
            (Ending::Unhealthy, _)
                if spec.on_unhealthy == Some(OnUnhealthy::Rollback) && state.course.healthy(&spec.source).is_none() =>
            {
                "; there is no earlier revision that was healthy to go back to".to_owned()
            }
            _ => String::new(),
        }
    }
}

/// What more there is to say where what was put back fails.
pub(super) fn in_stead(trial: &Trial) -> String {
    match trial.instead {
        Some(_) => format!("; this is what was put back in the stead of revision {}", trial.revision),
        None => "; it stays as it is, and is not tried again until a newer revision comes".to_owned(),
    }
}

/// What is said while something stands against the newest revision, and `kept` is what the cluster has.
pub(super) fn aside(trial: &Trial, kept: &Revision) -> String {
    let Trial { revision, message, .. } = trial;
    match trial.ending {
        Ending::Stopped => {
            format!("revision {revision} is kept, and not tried again until a newer one comes: {message}")
        }
        Ending::SetBack => format!("revision {kept} is kept in the stead of revision {revision}: {message}"),
        _ => format!(
            "revision {revision} is refused until a newer one comes, and revision {kept} is back in its stead: {message}"
        ),
    }
}
