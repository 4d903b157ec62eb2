//! The agent and the service manager that started it: what is told, and the signs of life.
//!
//! A sign of life is given by the loop itself, at half the time that the manager waits, so that an agent that is frozen,
//! or whose one thread hangs, gives none and is started again. One that is only busy is not to be killed for it:
//!
//! - Builds, plans and the reading of the configuration run on the loop's thread and hold it, for seconds on a slow
//!   node. The manager's time must be well above that; ours is 3 minutes.
//! - While the loop waits for the store, signs of life go on, for [`PATIENCE`]: a disk may be slow, and its thread commits
//!   whole packs. The store is asked with each sign whether it answers, also where nothing is to be written.
//! - All that the loop waits for otherwise are events. What brings them has its end: each request to the API server or a
//!   Git host has a timeout, each wait for health `spec.timeout`. A panic ends the process.

use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;
use wickie_model::{ConditionStatus, ResourceKind, condition_type};

use super::{Drive, lease::Role};
use crate::serve::{Standing, Supervisor};
use crate::store::Store;

/// How long the store may work on one thing before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The least time between two statuses: who looks is a person.
const STATUS: Duration = Duration::from_secs(5);

/// The agent's words to its service manager.
pub(super) struct Pulse<'a> {
    supervisor: &'a mut Supervisor,
    store: Store,
    patience: Duration,
    /// The time between two signs of life, where they are waited for.
    every: Option<Duration>,
    next: Instant,
    /// What the store was asked with the last sign, and when.
    asked: Option<(Instant, oneshot::Receiver<bool>)>,
    /// That the store is stuck was said.
    said: bool,
    /// What was told may be so no longer.
    stale: bool,
    status_due: Instant,
}

/// How it goes with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Given,
    Awaited,
    Overdue,
    /// Its thread has ended.
    None,
}

fn judge(answer: Result<bool, TryRecvError>, waited: Duration, patience: Duration) -> Answer {
    match answer {
        Ok(true) => Answer::Given,
        Ok(false) | Err(TryRecvError::Closed) => Answer::None,
        Err(TryRecvError::Empty) if waited < patience => Answer::Awaited,
        Err(TryRecvError::Empty) => Answer::Overdue,
    }
}

impl<'a> Pulse<'a> {
    pub(super) fn new(supervisor: &'a mut Supervisor, store: Store) -> Self {
        let every = supervisor.watchdog().map(|time| time / 2);
        let now = Instant::now();
        Self {
            supervisor,
            store,
            patience: PATIENCE,
            every,
            next: now,
            asked: None,
            said: false,
            stale: false,
            status_due: now,
        }
    }

    /// Waits for what may take long, with signs of life.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sign_due(self.every.map(|_| self.next)) => self.beat(),
            }
        }
    }

    /// Returns when there is something to tell.
    pub(super) async fn due(&self) {
        let status = self.stale.then_some(self.status_due);
        let sign = self.every.map(|_| self.next);
        sign_due(status.into_iter().chain(sign).min()).await;
    }

    /// Gives a sign of life, if it is time for one and everything lives.
    pub(super) fn beat(&mut self) {
        let now = Instant::now();
        let Some(every) = self.every.filter(|_| now >= self.next) else { return };
        self.next = now + every;
        if self.store_lives(now) {
            self.supervisor.alive();
        }
    }

    fn store_lives(&mut self, now: Instant) -> bool {
        let answer = self.asked.as_mut().map_or(Answer::Given, |(since, answer)| {
            judge(answer.try_recv(), now.duration_since(*since), self.patience)
        });
        match answer {
            Answer::Given => {
                let (sender, answer) = oneshot::channel();
                let store = self.store.clone();
                tokio::spawn(async move { sender.send(store.answers().await.is_ok()) });
                self.asked = Some((now, answer));
                self.said = false;
                true
            }
            Answer::Awaited => true,
            Answer::Overdue | Answer::None => {
                if !std::mem::replace(&mut self.said, true) {
                    let minutes = self.patience.as_secs() / 60;
                    tracing::error!(
                        "the store does not answer (it was given {minutes} minutes): look at the disk; the service manager is to start this agent again"
                    );
                }
                false
            }
        }
    }

    /// The loop turns. `news`: what is told may be other now. Tells whether it is time for a status.
    pub(super) fn turned(&mut self, news: bool) -> bool {
        let ready = self.supervisor.ready();
        self.stale |= self.supervisor.is_there() && (news || !ready);
        let due = self.stale && Instant::now() >= self.status_due;
        if due {
            self.status_due = Instant::now() + STATUS;
        }
        due
    }

    pub(super) fn status(&mut self, line: &str) {
        self.stale = !self.supervisor.status(line);
    }

    pub(super) fn stopping(&mut self) {
        self.supervisor.stopping();
    }
}

async fn sign_due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Drive {
    /// How everything stands.
    pub(super) fn standing(&self) -> Standing {
        let mut standing = Standing {
            starting: self.starting(),
            stands_by: match &self.role {
                Role::StandsBy(why) => Some(why.clone()),
                Role::Writes { .. } => None,
            },
            cluster: self.targets.own.reachable.borrow().live(),
            store_trouble: self.store_trouble.is_some(),
            unreadable: self.files.problems.len(),
            ..Standing::default()
        };
        for (resource, declared) in &self.declared {
            let counted = match resource.kind {
                ResourceKind::GitRepository => &mut standing.sources,
                ResourceKind::Kustomization => &mut standing.kustomizations,
                _ => continue,
            };
            if self.is_suspended(declared) {
                continue;
            }
            *counted += 1;
            if resource.kind == ResourceKind::Kustomization && standing.stands_by.is_some() {
                continue;
            }
            let record = self.records.get(resource);
            let conditions = record.map(crate::store::Record::conditions).unwrap_or_default();
            let ready = conditions.get(condition_type::READY);
            let current = ready.filter(|ready| record.is_some_and(|it| ready.observed_generation == it.generation));
            match current {
                Some(ready) if ready.status == ConditionStatus::True => {}
                Some(ready) => standing.not_ready.push((resource.clone(), ready.reason.clone())),
                None => standing.not_ready.push((resource.clone(), "not judged yet".to_owned())),
            }
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_may_be_slow_and_not_for_ever() {
        let patience = Duration::from_secs(60);
        let after = |answer, seconds| judge(answer, Duration::from_secs(seconds), patience);
        assert_eq!(after(Ok(true), 61), Answer::Given);
        assert_eq!(after(Err(TryRecvError::Empty), 59), Answer::Awaited);
        assert_eq!(after(Err(TryRecvError::Empty), 60), Answer::Overdue);
        assert_eq!(after(Ok(false), 0), Answer::None);
        assert_eq!(after(Err(TryRecvError::Closed), 0), Answer::None);
    }

    /// What is told to nobody must not keep the loop turning.
    #[tokio::test]
    async fn without_a_manager_nothing_is_ever_due() {
        let mut nobody = Supervisor::default();
        let mut pulse = Pulse::new(&mut nobody, Store::in_memory().unwrap());
        assert!(!pulse.turned(true));
        assert!(tokio::time::timeout(Duration::from_millis(50), pulse.due()).await.is_err());
    }

    /// A status follows the one before it after a while, and not with the next turn.
    #[tokio::test]
    async fn a_status_is_due_once_and_then_not_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let mut supervisor = Supervisor::at(&path, Duration::from_secs(600)).unwrap();
        let mut pulse = Pulse::new(&mut supervisor, Store::in_memory().unwrap());
        pulse.beat();
        assert!(pulse.turned(true));
        pulse.status("one");
        let is_due =
            async |pulse: &Pulse<'_>| tokio::time::timeout(Duration::from_millis(50), pulse.due()).await.is_ok();
        assert!(!pulse.turned(false) && !is_due(&pulse).await, "nothing is new");
        assert!(!pulse.turned(true) && !is_due(&pulse).await, "what is new can wait");
    }

    /// A pulse with a real socket at the other end, and a store that is busy for a while.
    #[tokio::test]
    async fn signs_go_on_while_the_store_is_busy_and_stop_when_it_is_stuck() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let signs = || {
            let mut bytes = [0; 64];
            std::iter::from_fn(|| manager.recv(&mut bytes).ok()).count()
        };
        let store = Store::in_memory().unwrap();
        let mut supervisor = Supervisor::at(&path, Duration::from_millis(20)).unwrap();
        let mut pulse = Pulse::new(&mut supervisor, store.clone());
        pulse.patience = Duration::from_secs(1);
        let sleep = |time| tokio::time::sleep(Duration::from_millis(time));

        let busy = store.busy_for(Duration::from_secs(4));
        tokio::pin!(busy);
        let half = async {
            tokio::select! { _ = &mut busy => false, () = sleep(500) => true }
        };
        assert!(pulse.during(half).await, "the store is busy");
        assert!(signs() > 1, "what is only busy lives");
        let stuck = async {
            tokio::select! { _ = &mut busy => false, () = sleep(1500) => true }
        };
        assert!(pulse.during(stuck).await, "the store is busy");
        signs();
        pulse.during(sleep(300)).await;
        assert_eq!(signs(), 0, "a store that is stuck is no life");
        busy.await.unwrap();
        pulse.during(sleep(300)).await;
        assert!(signs() > 1, "and when it answers again, it is");
    }
}
