//! Which revision a Kustomization follows: the newest of its source, or the one that was put back in its stead.
//!
//! ```text
//!  newest ──► is it judged? ── no ──► it is followed, and on trial ──► healthy: the one to go back to from now on
//!                 │                                  │
//!                 │ in favour of another             └──► not healthy in time ──► condemned: judged in favour of the
//!                 ▼                                                                last healthy one, or stopped
//!             the other is followed
//! ```
//!
//! A judgement names the revision that it condemns, so it ends by itself as soon as the source has another one; that
//! one's own trial may end the same way. A revision is condemned once: when a source comes back to it, it is not tried
//! again. The source's floor has no part in this: what is put back was accepted before, and history moves on from where
//! it was.

use jiff::Timestamp;
use wickie_model::{Ending, ResourceName, Revision, Trial};

use crate::cycle::Remedy;

/// `wickie.dev/on-unhealthy`: what is done with a new revision that does not become healthy in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// The last healthy revision is put back.
    Rollback,
    /// It stays, and is not tried again.
    Stop,
}

/// What became of the revisions that a Kustomization took, as far as a decision needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// In the order in which they began.
    trials: Vec<Trial>,
}

/// How many condemned revisions are remembered.
const CONDEMNED: usize = 8;

impl Course {
    /// What became of earlier revisions, those that began last at the end.
    pub fn new(trials: Vec<Trial>) -> Self {
        let mut course = Self { trials };
        course.forget();
        course
    }

    /// The trial of a revision of `source`.
    pub fn of(&self, source: &ResourceName, revision: &Revision) -> Option<&Trial> {
        self.trials.iter().rfind(|trial| trial.source == *source && trial.revision == *revision)
    }

    /// What stands against the newest revision: it was condemned, or set aside.
    pub fn against(&self, source: &ResourceName, newest: &Revision) -> Option<&Trial> {
        self.of(source, newest).filter(|trial| is_against(trial.ending))
    }

    /// The revision to follow, where `newest` is the source's.
    pub fn follows<'a>(&'a self, source: &ResourceName, newest: &'a Revision) -> &'a Revision {
        self.against(source, newest).and_then(|trial| trial.instead.as_ref()).unwrap_or(newest)
    }

    /// The revision of `source` that the cluster was last driven to; one that was refused changed nothing in it.
    pub fn last(&self, source: &ResourceName) -> Option<&Revision> {
        let begun = |trial: &&Trial| trial.source == *source && trial.ending != Ending::Refused;
        self.trials.iter().rfind(begun).map(|trial| trial.instead.as_ref().unwrap_or(&trial.revision))
    }

    /// What was put back in the stead of the revision that was condemned last, where none has begun since.
    pub fn back(&self, source: &ResourceName) -> Option<&Revision> {
        let condemned = |trial: &&Trial| trial.source == *source && trial.ending == Ending::RolledBack;
        self.newest().filter(condemned).and_then(|trial| trial.instead.as_ref())
    }

    /// The last revision of `source` that was healthy.
    pub fn healthy(&self, source: &ResourceName) -> Option<&Revision> {
        self.trials
            .iter()
            .rfind(|trial| trial.source == *source && trial.ending == Ending::Healthy)
            .map(|trial| &trial.revision)
    }

    /// What is done when `revision`, which is followed now, is not healthy in time. What was healthy before, and what
    /// was put back, is tried again: it is not the revision that does harm.
    pub fn remedy(&self, asked: Option<OnUnhealthy>, source: &ResourceName, revision: &Revision) -> Remedy {
        let on_trial = self.newest().is_some_and(|trial| {
            let followed = trial.source == *source && trial.revision == *revision;
            followed && !is_against(trial.ending) && trial.ending != Ending::Healthy
        });
        match asked.filter(|_| on_trial) {
            None => Remedy::Retry,
            Some(OnUnhealthy::Stop) => Remedy::Stop,
            Some(OnUnhealthy::Rollback) if self.healthy(source).is_some() => Remedy::Back,
            Some(OnUnhealthy::Rollback) => Remedy::Retry,
        }
    }

    /// A run of `revision` begins. Gives what is to be written down: nothing where it went on before.
    pub fn begin(
        &mut self,
        name: &ResourceName,
        source: &ResourceName,
        revision: &Revision,
        now: Timestamp,
    ) -> Vec<Trial> {
        let same = |trial: &Trial| trial.source == *source && trial.revision == *revision;
        if self.newest().is_some_and(same) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        if let Some(before) = self.trials.last_mut().filter(|trial| trial.ending == Ending::Trying) {
            (before.ending, before.ended_at) = (Ending::Superseded, Some(now));
            changed.push(before.clone());
        }
        let before = self.trials.iter().position(same).map(|index| self.trials.remove(index));
        let mut trial = before.unwrap_or_else(|| Trial {
            name: name.clone(),
            source: source.clone(),
            revision: revision.clone(),
            ending: Ending::Trying,
            instead: None,
            began_at: now,
            ended_at: None,
            message: String::new(),
        });
        // One that was healthy stays one to go back to, and what was condemned stays condemned.
        if trial.ending != Ending::Healthy && !is_against(trial.ending) {
            (trial.ending, trial.ended_at) = (Ending::Trying, None);
        }
        trial.began_at = now;
        changed.push(trial.clone());
        // Most have one or two, and there may be thousands of courses.
        self.trials.reserve_exact(1);
        self.trials.push(trial);
        self.forget();
        changed
    }

    /// A run of `revision` ended so. Gives what is to be written down: nothing where that is known, or a judgement stands.
    pub fn end(
        &mut self,
        source: &ResourceName,
        revision: &Revision,
        ending: Ending,
        message: &str,
        now: Timestamp,
    ) -> Option<Trial> {
        let trial = self.find(source, revision)?;
        let judged = match trial.ending {
            // What became healthy after all needs no judgement.
            Ending::Stopped => ending != Ending::Healthy,
            Ending::RolledBack | Ending::SetBack => true,
            // Once healthy, the revision was shown to be good: what comes later is not its doing.
            Ending::Healthy => true,
            _ => trial.ending == ending && trial.message == message,
        };
        if judged {
            return None;
        }
        (trial.ending, trial.ended_at, trial.instead) = (ending, Some(now), None);
        message.clone_into(&mut trial.message);
        Some(trial.clone())
    }

    /// `revision` is judged: condemned, or set aside in favour of `instead`.
    pub fn judge(
        &mut self,
        source: &ResourceName,
        revision: &Revision,
        (ending, instead): (Ending, Option<Revision>),
        message: String,
        now: Timestamp,
    ) -> Option<Trial> {
        let trial = self.find(source, revision)?;
        (trial.ending, trial.instead, trial.message, trial.ended_at) = (ending, instead, message, Some(now));
        Some(trial.clone())
    }

    /// Takes back what stands against the newest revision: it is tried once more.
    pub fn acquit(&mut self, source: &ResourceName, newest: &Revision, now: Timestamp) -> Option<Trial> {
        let against = |trial: &Trial| trial.source == *source && trial.revision == *newest && is_against(trial.ending);
        let mut trial = self.trials.iter().rposition(against).map(|index| self.trials.remove(index))?;
        (trial.ending, trial.instead, trial.ended_at) = (Ending::Trying, None, None);
        (trial.began_at, trial.message) = (now, String::new());
        // It begins anew, which makes it the last.
        self.trials.push(trial.clone());
        Some(trial)
    }

    /// Whether any revision was given up, and stays.
    pub fn has_stopped(&self) -> bool {
        self.trials.iter().any(|trial| trial.ending == Ending::Stopped)
    }

    fn newest(&self) -> Option<&Trial> {
        self.trials.last()
    }

    fn find(&mut self, source: &ResourceName, revision: &Revision) -> Option<&mut Trial> {
        self.trials.iter_mut().rfind(|trial| trial.source == *source && trial.revision == *revision)
    }

    /// Keeps what decisions are made of: the newest, the last healthy one, the last that were condemned.
    fn forget(&mut self) {
        let last = self.trials.len().saturating_sub(1);
        let healthy = self.trials.iter().rposition(|trial| trial.ending == Ending::Healthy);
        let mut condemned = self.trials.iter().filter(|trial| is_against(trial.ending)).count();
        let mut index = 0;
        self.trials.retain(|trial| {
            let against = is_against(trial.ending);
            let keep = index == last || Some(index) == healthy || (against && condemned <= CONDEMNED);
            condemned -= usize::from(against);
            index += 1;
            keep
        });
    }
}

fn is_against(ending: Ending) -> bool {
    matches!(ending, Ending::RolledBack | Ending::SetBack | Ending::Stopped)
}

#[cfg(test)]
mod tests;
