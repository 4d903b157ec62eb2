//! Orders from the control socket.

use tokio::sync::oneshot;
use wickie_model::{Ending, Resource, ResourceKind, ResourceName, Severity, condition_type, reason};
use wickie_plan::cycle::{Cause, Hold, Stage, State};

use super::lease::Role;
use super::{Drive, rollback};
use crate::cluster::Kind;
use crate::serve::{
    Against, Asked, Command, Counts, KustomizationLive, Live, Outcome, Phase, Problem, Refused, SourceLive,
};
use crate::store::{Origin, Record};

/// How many objects that are not well are told of.
const PROBLEMS: usize = 20;

/// Somebody who waits until work on a resource is done.
pub(super) struct Waiter {
    resource: Resource,
    note: Option<String>,
    /// A source that is to be asked first, and whose failure is one of the whole order.
    source: Option<ResourceName>,
    /// A run was under way when it was asked for: that is not the one that is waited for.
    later: bool,
    reply: oneshot::Sender<Asked<Outcome>>,
}

impl Drive {
    pub(super) fn obey(&mut self, order: Command) {
        let order = match &self.role {
            Role::StandsBy(why) => match order.unless_writing(why) {
                Some(order) => order,
                None => return,
            },
            Role::Writes { .. } => order,
        };
        match order {
            Command::Reconcile { resource, with_source, wait, reply } => {
                self.order_reconcile(resource, with_source, wait, reply);
            }
            Command::Suspend { resource, reply } => self.order_suspend(resource, true, false, reply),
            Command::Resume { resource, wait, reply } => self.order_suspend(resource, false, wait, reply),
            Command::Rollback { resource, to, permit, wait, reply } => {
                self.order_rollback(rollback::Order { resource, to, permit, wait, reply });
            }
            Command::Release { names, dry_run, reply } => self.order_release(names, dry_run, reply),
            Command::Forget { name, reply } => self.order_forget(&name, reply),
            Command::Diff { name, against, reply } => self.order_diff(&name, against, reply),
            Command::Hook { receiver, reply } => {
                let asked = self.hooked(&receiver);
                let _ = reply.send(asked);
            }
            Command::Live { reply } => drop(reply.send(self.live())),
        }
    }

    pub(super) fn known(&self, resource: &Resource) -> Result<(), Refused> {
        if self.declared.contains_key(resource) {
            return Ok(());
        }
        let same = self.declared.keys().filter(|known| known.kind == resource.kind);
        Err(Refused::Unknown { resource: resource.clone(), known: same.map(|known| known.name.clone()).collect() })
    }

    fn order_reconcile(
        &mut self,
        resource: Resource,
        with_source: bool,
        wait: bool,
        reply: oneshot::Sender<Asked<Outcome>>,
    ) {
        if let Err(refused) = self.known(&resource) {
            return drop(reply.send(Err(refused)));
        }
        if self.declared.get(&resource).is_some_and(|declared| self.is_suspended(declared)) {
            let message = format!("{resource} is suspended; wickie resume takes that back");
            return drop(reply.send(Err(Refused::Not { message })));
        }
        let name = resource.name.clone();
        let mut note = None;
        let mut asked = None;
        match (resource.kind, with_source) {
            (ResourceKind::GitRepository, _) => {
                note = self.passed_over(&name);
                self.ask_source(&name);
            }
            (ResourceKind::Kustomization, true) => {
                let source = self.kustomizations.get_mut(&name).and_then(|state| {
                    state.after_source = true;
                    state.source().cloned()
                });
                match source {
                    Some(source) => {
                        note = self.passed_over(&source);
                        self.ask_source(&source);
                        asked = Some(source);
                    }
                    None => self.admit(&name, Cause::Request),
                }
            }
            (ResourceKind::Kustomization, false) => self.admit(&name, Cause::Request),
            (kind, _) => {
                let message = format!("a {kind} has nothing to reconcile: it takes effect as soon as it is declared");
                return drop(reply.send(Err(Refused::Not { message })));
            }
        }
        if wait {
            self.queue(resource, note, asked, reply);
        } else {
            let _ = reply.send(Ok(Outcome { note, ..self.outcome(&resource, false) }));
        }
    }

    /// Suspends or resumes. An object of the cluster is changed there, where everybody sees it.
    fn order_suspend(&mut self, resource: Resource, suspend: bool, wait: bool, reply: oneshot::Sender<Asked<Outcome>>) {
        let Some(declared) = self.declared.get(&resource).cloned() else {
            return drop(reply.send(self.known(&resource).map(|()| self.outcome(&resource, true))));
        };
        let released = !suspend && self.is_released(&resource);
        if released {
            self.record(&declared).released = false;
            if resource.kind == ResourceKind::Kustomization {
                self.take_up(&declared);
            }
        }
        // What was released may not be suspended in the cluster at all.
        if declared.origin == Origin::Cluster && (suspend || !released || declared.suspended()) {
            let record = self.record(&declared).clone();
            self.batch.records.push(record);
            let cluster = self.shared.cluster.clone();
            let outcome = self.outcome(&resource, false);
            self.tasks.spawn(async move {
                let (kind, id) = Kind::place(&resource);
                let patch = serde_json::json!({"spec": {"suspend": suspend}});
                let written = cluster.merge(&kind, &id, &patch).await;
                let _ =
                    reply.send(written.map(|_| outcome).map_err(|error| Refused::Not { message: error.to_string() }));
            });
            return;
        }
        if !suspend && declared.suspended() {
            let message = "spec.suspend stands in its file; take it out there".to_owned();
            return drop(reply.send(Err(Refused::Not { message })));
        }
        let record = self.record(&declared);
        record.suspended = suspend;
        let record = record.clone();
        self.batch.records.push(record);
        match resource.kind {
            ResourceKind::GitRepository => self.source_declared(&declared),
            ResourceKind::Kustomization => self.kustomization_declared(&declared),
            ResourceKind::Provider => self.provider_declared(&declared),
            ResourceKind::Receiver => self.receiver_declared(&declared),
            ResourceKind::Alert => {}
        }
        match wait {
            true => self.queue(resource, None, None, reply),
            false => drop(reply.send(Ok(self.outcome(&resource, true)))),
        }
    }

    /// Answers whoever waited for work on a resource.
    pub(super) fn answer_waiters(&mut self, resource: &Resource) {
        let outcome = self.outcome(resource, true);
        // Until its source has been asked, nothing that ends is what was waited for.
        let early = self.kustomizations.get(&resource.name).is_some_and(|state| state.after_source);
        // Another run begins, for what was asked for while this one was under way.
        let again = self.is_busy(resource);
        let of_this = |waiter: &Waiter| waiter.resource == *resource && !(early && waiter.source.is_some());
        let ends = |waiter: &Waiter| of_this(waiter) && !(again && waiter.later);
        let (done, mut waiting): (Vec<_>, Vec<_>) = self.waiters.drain(..).partition(ends);
        waiting.iter_mut().filter(|waiter| of_this(waiter)).for_each(|waiter| waiter.later = false);
        self.waiters = waiting;
        for Waiter { note, source, reply, .. } in done {
            let refused = source.and_then(|source| self.source_refusal(&source, &outcome));
            let outcome = refused.unwrap_or_else(|| outcome.clone());
            let _ = reply.send(Ok(Outcome { note: note.or(outcome.note.clone()), ..outcome }));
        }
    }

    /// What keeps a source from being asked by itself, and does not keep it from being asked by somebody.
    fn passed_over(&self, source: &ResourceName) -> Option<String> {
        let held = self.sources.get(source)?.held()?.live();
        Some(format!("asked all the same, because you did: otherwise {}", held.message))
    }

    /// How an order ended whose source has nothing newer to give because it was refused, or could not be asked.
    fn source_refusal(&self, source: &ResourceName, outcome: &Outcome) -> Option<Outcome> {
        let source = Resource::new(ResourceKind::GitRepository, source.clone());
        let asked = self.outcome(&source, true);
        let rest = &outcome.message;
        (asked.severity == Severity::Error).then(|| Outcome {
            message: format!("{source}: {}; the Kustomization: {rest}", asked.message),
            revision: outcome.revision.clone(),
            ..asked
        })
    }

    /// Whether a run of a Kustomization is under way.
    fn is_busy(&self, resource: &Resource) -> bool {
        let state = self.kustomizations.get(&resource.name).filter(|_| resource.kind == ResourceKind::Kustomization);
        state.is_some_and(|state| state.cycle().is_busy())
    }

    fn queue(
        &mut self,
        resource: Resource,
        note: Option<String>,
        source: Option<ResourceName>,
        reply: oneshot::Sender<Asked<Outcome>>,
    ) {
        let later = self.is_busy(&resource);
        self.waiters.push(Waiter { resource, note, source, later, reply });
    }

    /// Answers when the work on a resource is done, or at once.
    pub(super) fn wait_for(&mut self, resource: Resource, wait: bool, reply: oneshot::Sender<Asked<Outcome>>) {
        match wait {
            true => self.queue(resource, None, None, reply),
            false => drop(reply.send(Ok(self.outcome(&resource, false)))),
        }
    }

    fn outcome(&self, resource: &Resource, done: bool) -> Outcome {
        let conditions = self.records.get(resource).map(Record::conditions).unwrap_or_default();
        let ready = conditions.get(condition_type::READY);
        // What somebody set back is as they want it, though not as Git does.
        let set_back = resource.kind == ResourceKind::Kustomization
            && self.against(&resource.name).is_some_and(|trial| trial.ending == Ending::SetBack)
            && ready.is_some_and(|ready| ready.reason == reason::ROLLED_BACK);
        let held = conditions.get(condition_type::APPLY_HELD);
        // What waits for its window has not failed.
        let waits = held.zip(ready).is_some_and(|(held, ready)| held.reason == ready.reason);
        let healthy = conditions.is_true(condition_type::READY) || set_back || waits || !done;
        let revision = match resource.kind {
            ResourceKind::GitRepository => self.source_revision(&resource.name),
            _ => {
                let status = self.records.get(resource).map(|record| &record.status);
                status.and_then(|status| status.text("/lastAppliedRevision"))
            }
        };
        Outcome {
            done,
            severity: if healthy { Severity::Info } else { Severity::Error },
            reason: ready.map(|ready| ready.reason.clone()).unwrap_or_default(),
            message: ready.map(|ready| ready.message.clone()).unwrap_or_default(),
            revision,
            waits: done && held.is_some(),
            note: held.filter(|_| done && !waits).map(|held| held.message.clone()),
        }
    }

    /// What only the running agent knows.
    fn live(&self) -> Live {
        let wall = |moment| self.clock.wall(moment);
        let sources = self.sources.iter().map(|(name, state)| {
            let next_poll = state.next_poll().and_then(wall);
            let held = state.held().map(super::link::Held::live);
            let traffic = self.traffic_live(name);
            (name.clone(), SourceLive { last_contact: state.last_contact(), next_poll, held, traffic })
        });
        let kustomizations = self.kustomizations.iter().map(|(name, state)| {
            let unhealthy = self.unhealthy(state);
            let failed = unhealthy.iter().filter(|(_, verdict)| verdict.health == wickie_model::Health::Failed).count();
            let problems = unhealthy.iter().take(PROBLEMS).map(|(id, verdict)| Problem {
                object: id.clone(),
                health: Some(verdict.health),
                message: verdict.message.clone(),
            });
            let live = KustomizationLive {
                phase: phase(state.cycle()),
                next_run: state.next_run().and_then(wall),
                held: self.held_live(name),
                cluster: self.cluster_live(state),
                objects: Some(Counts {
                    total: count(state.inventory.len()),
                    in_progress: count(unhealthy.len() - failed),
                    failed: count(failed),
                }),
                problems: problems.collect(),
            };
            (name.clone(), live)
        });
        Live {
            cluster: self.targets.own.reachable.borrow().live(),
            sources: sources.collect(),
            kustomizations: kustomizations.collect(),
            providers: self.reporter.states(),
            starting: self.starting(),
            stands_by: match &self.role {
                Role::StandsBy(why) => Some(why.clone()),
                Role::Writes { .. } => None,
            },
            api_requests: self.shared.cluster.requests(),
        }
    }

    /// What is waited for before the agent is fully at work.
    pub(super) fn starting(&self) -> Vec<String> {
        let inputs = (!self.cluster_input.is_read()).then(|| "what the cluster declares is not read yet".to_owned());
        let sources = self.sources.iter().filter(|(_, state)| state.is_starting());
        inputs.into_iter().chain(sources.map(|(name, _)| format!("GitRepository {name} is being loaded"))).collect()
    }

    fn order_diff(&mut self, name: &ResourceName, against: Against, reply: oneshot::Sender<Asked<String>>) {
        let resource = Resource::new(ResourceKind::Kustomization, name.clone());
        if let Err(refused) = self.known(&resource) {
            return drop(reply.send(Err(refused)));
        }
        match self.diff(name, against) {
            Some(work) => drop(self.tasks.spawn(async move {
                let _ = reply.send(work.await);
            })),
            None => {
                let message = format!("{resource} has nothing to compare yet; see wickie status");
                let _ = reply.send(Err(Refused::Not { message }));
            }
        }
    }
}

fn phase(state: &State) -> Phase {
    match state {
        State::Held(
            Hold::Suspended
            | Hold::StandsBy(_)
            | Hold::Starting
            | Hold::Source(_)
            | Hold::Dependency(_)
            | Hold::Invalid(_),
        ) => Phase::Held,
        State::Idle { .. } | State::Gone => Phase::Idle,
        State::Finalizing { .. } | State::Turning(_) => Phase::Applying,
        State::Running(_) => match state.stage() {
            Some(Stage::Building) => Phase::Building,
            Some(Stage::Waiting) => Phase::Waiting,
            _ => Phase::Applying,
        },
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
