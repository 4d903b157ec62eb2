//! Carries a plan out, wave by wave, and says what became of each step. It decides nothing.
//!
//! Guarantees: a step's failure stops no other step; each outcome is either confirmed by the API server or a failure.

mod let_go;
mod outcome;
mod step;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use wickie_model::{Gvk, Health, Manifest, ObjectId};
use wickie_plan::order::Rank;
use wickie_plan::{Step, Wave, health};

use crate::cluster::{ApiError, Class, Cluster};

pub use let_go::{Heir, LetGo, let_go};
pub use outcome::{Done, Failure, Outcome};

/// How many steps of one wave are under way at once.
const IN_FLIGHT: usize = 8;

/// How long a CRD may take to be served.
const ESTABLISH: Duration = Duration::from_secs(30);

/// Sends what plans say.
#[derive(Clone)]
pub struct Executor {
    cluster: Cluster,
    turns: Rc<Semaphore>,
}

impl Executor {
    /// An executor for a cluster. `turns` bounds how many steps of all plans together are under way: an API server of a
    /// small node must not be asked for all that a thousand of them want at once, nor the answers lie in memory together.
    pub fn new(cluster: Cluster, turns: Rc<Semaphore>) -> Self {
        Self { cluster, turns }
    }

    /// The same, acting for the service account `namespace/name`: what it may not do is refused.
    pub fn acting_for(&self, namespace: &str, name: &str) -> Self {
        let cluster = self.cluster.acting_for(&format!("system:serviceaccount:{namespace}:{name}"));
        Self { cluster, turns: self.turns.clone() }
    }

    /// Carries one wave out, and waits for what the next one needs of it. `manifest` is asked for each object when it is its
    /// turn.
    pub async fn wave(
        &self,
        wave: &Wave,
        manifest: impl Fn(&ObjectId) -> io::Result<Option<Manifest>>,
    ) -> Vec<Outcome> {
        let mut steps: Vec<&Step> = wave.steps.iter().collect();
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut lost = false;
        let mut running = futures_util::stream::FuturesUnordered::new();
        steps.reverse();
        loop {
            while running.len() < IN_FLIGHT && !lost {
                let Some(step) = steps.pop() else { break };
                let manifest = &manifest;
                running.push(async move {
                    // It is never closed.
                    let _turn = self.turns.acquire().await;
                    let manifest = if step.action.applies() { manifest(&step.id) } else { Ok(None) };
                    // Large, and made only now.
                    Box::pin(step::run(&self.cluster, step, manifest)).await
                });
            }
            let Some(outcome) = running.next().await else { break };
            // When the server is away every further step would only wait for its own time-out.
            lost |= matches!(&outcome.done, Done::Failed(Failure { class: Class::Unreachable, .. }));
            outcomes.push(outcome);
        }
        outcomes.extend(steps.into_iter().map(Outcome::not_tried));
        if wave.rank == Rank::Definition {
            self.establish(wave, &mut outcomes).await;
        }
        outcomes
    }

    /// Waits until the API serves the kinds that the wave has defined.
    async fn establish(&self, wave: &Wave, outcomes: &mut [Outcome]) {
        let deadline = tokio::time::Instant::now() + ESTABLISH;
        let applied = wave.steps.iter().filter(|step| step.action.applies());
        for step in applied {
            let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.id == step.id && outcome.succeeded()) else {
                continue;
            };
            if let Err(error) = self.established(step, deadline).await {
                outcome.done = Done::Failed(Failure::from(&error));
            }
            if let Some((_, group)) = step.id.name.split_once('.') {
                self.cluster.kinds().forget(group);
            }
        }
    }

    async fn established(&self, step: &Step, deadline: tokio::time::Instant) -> Result<(), ApiError> {
        let gvk = Gvk { group: step.id.group.clone(), version: step.version.clone(), kind: step.id.kind.clone() };
        let kind = self.cluster.kind(&gvk).await?;
        let mut pause = Duration::from_millis(50);
        loop {
            let verdict = match self.cluster.get(&kind, &step.id).await? {
                Some(object) => health::health(&step.id.group, &step.id.kind, &object),
                None => wickie_model::Verdict::new(Health::NotFound, "it is gone"),
            };
            if verdict.health == Health::Current {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let tried = format!("wait for {} to be established", step.id);
                return Err(ApiError { tried, why: verdict.message, class: Class::Other });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}
