//! What is said of each resource: its record in the store, and its status in the cluster.
//!
//! The record is written with the step that brought it; the status in the cluster follows when the API takes it, the
//! newest alone, never twice the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wickie_model::{Conditions, Gvk, JsonText, ObjectId, Resource, ResourceKind, Revision, Severity, condition_type};
use wickie_plan::cycle::backoff;

use super::{Drive, Event};
use crate::cluster::{ApiError, Class, Kind};
use crate::config::Declared;
use crate::serve::ClusterLive;
use crate::store::{Batch, Origin, Record};

/// The longest pause between two tries to write a status or a batch.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Beyond so many entries the status holds a digest and a count: an object in etcd has a size limit.
const STATUS_INVENTORY: usize = 5_000;

/// Whether an API server answers.
pub(super) struct Reachable {
    server: String,
    live: Option<ClusterLive>,
}

impl Reachable {
    pub(super) fn new(server: String) -> Self {
        Self { server, live: None }
    }

    /// A watch on a kind has told something, or why it cannot.
    pub(super) fn note(&mut self, blind: Option<&ApiError>, gvk: &Gvk) {
        let (reachable, why) = match blind {
            Some(error) if error.class == Class::Unreachable => (false, Some(error.to_string())),
            // A refused list is an answer, too.
            _ if self.live.as_ref().is_some_and(|before| before.reachable) => return,
            _ => (true, None),
        };
        let since = match &self.live {
            Some(before) if before.reachable == reachable => before.since,
            before => {
                match (reachable, before.is_some()) {
                    (false, _) => {
                        tracing::warn!(server = self.server, kind = %gvk.kind, why = why.as_deref(), "the API server cannot be reached; it is tried again")
                    }
                    (true, true) => tracing::info!(server = self.server, "the API server answers again"),
                    (true, false) => {}
                }
                Timestamp::now()
            }
        };
        self.live = Some(ClusterLive { server: self.server.clone(), reachable, since, why });
    }

    pub(super) fn live(&self) -> Option<ClusterLive> {
        self.live.clone()
    }
}

/// Statuses on their way to the cluster.
#[derive(Default)]
pub(super) struct Statuses {
    waiting: BTreeMap<Resource, Pending>,
    /// Those of which one is being written: of two at once the older might arrive last, and stay.
    under_way: BTreeSet<Resource>,
    /// When a batch that could not be written is tried again.
    retry: Option<Duration>,
}

struct Pending {
    status: Value,
    due: Duration,
    failures: u32,
    sent: bool,
}

impl Statuses {
    pub(super) fn wake(&self) -> Option<Duration> {
        let free = |(resource, pending): &(&Resource, &Pending)| !pending.sent && !self.under_way.contains(*resource);
        self.waiting.iter().filter(free).map(|(_, pending)| pending.due).min()
    }
}

/// What a status is made of, beside the conditions.
pub(super) struct Say<'a> {
    pub(super) severity: Severity,
    pub(super) reason: &'a str,
    pub(super) message: String,
    pub(super) revision: Option<&'a Revision>,
}

impl Drive {
    /// The record of a resource, made where there is none.
    pub(super) fn record(&mut self, declared: &Declared) -> &mut Record {
        self.records.entry(declared.resource.clone()).or_insert_with(|| Record {
            resource: declared.resource.clone(),
            origin: declared.origin,
            spec: declared.digest(),
            generation: declared.generation.max(1),
            suspended: false,
            released: false,
            status: json!({}).into(),
            seen: None,
        })
    }

    /// Takes a declared object's spec into its record; a spec from a file gets a new generation when it changes.
    pub(super) fn note_spec(&mut self, declared: &Declared) {
        let digest = declared.digest();
        let record = self.record(declared);
        let changed = record.spec != digest;
        record.generation = match declared.origin {
            Origin::Cluster => declared.generation,
            Origin::File if changed => record.generation + 1,
            Origin::File => record.generation,
        };
        record.spec = digest;
        record.origin = declared.origin;
        record.seen = Some(declared.spec.clone());
        let record = record.clone();
        self.batch.records.push(record);
    }

    /// Whether a resource is ready, for the spec it has now.
    pub(super) fn is_ready(&self, resource: &Resource) -> bool {
        let Some(record) = self.records.get(resource) else { return false };
        record.conditions().get(condition_type::READY).is_some_and(|ready| {
            ready.status == wickie_model::ConditionStatus::True && ready.observed_generation == record.generation
        })
    }

    /// Whether a resource is ready, be it for an earlier spec.
    pub(super) fn was_ready(&self, resource: &Resource) -> bool {
        self.records.get(resource).is_some_and(|record| record.conditions().is_true(condition_type::READY))
    }

    /// Changes a resource's status; where that makes a difference it is written, here and in the cluster.
    pub(super) fn set_status(
        &mut self,
        resource: &Resource,
        change: impl FnOnce(&mut Conditions, &mut Map<String, Value>, i64),
    ) {
        let Some(record) = self.records.get_mut(resource) else { return };
        let mut conditions = record.conditions();
        let mut fields = match record.status.value() {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        change(&mut conditions, &mut fields, record.generation);
        fields.insert("observedGeneration".to_owned(), record.generation.into());
        fields.insert("conditions".to_owned(), serde_json::to_value(conditions).unwrap_or_default());
        let status = JsonText::from(Value::Object(fields));
        if status == record.status {
            return;
        }
        record.status = status;
        let record = record.clone();
        self.batch.records.push(record);
        self.note_moved(resource);
        self.publish(resource);
    }

    /// Brings a resource's status to the cluster, where it lives there.
    pub(super) fn publish(&mut self, resource: &Resource) {
        // How things stand is told by the agent that writes.
        if !self.role.writes() {
            return;
        }
        let Some(declared) = self.declared.get(resource).filter(|declared| declared.origin == Origin::Cluster) else {
            return;
        };
        let Some(record) = self.records.get(resource).filter(|record| !record.released) else { return };
        let mut status = record.status.value();
        if resource.kind == ResourceKind::Kustomization
            && let Some(kustomization) = self.kustomizations.get(&resource.name)
        {
            status["inventory"] = inventory(&kustomization.inventory);
        }
        // What is being written would undo what is there.
        if !self.statuses.under_way.contains(resource) && is_within(&declared.status.value(), &status) {
            self.statuses.waiting.remove(resource);
            return;
        }
        if self.statuses.waiting.get(resource).is_some_and(|pending| pending.status == status) {
            return;
        }
        let pending = Pending { status, due: self.clock.now(), failures: 0, sent: false };
        self.statuses.waiting.insert(resource.clone(), pending);
    }

    /// What waits to be written to the cluster of a resource is not written any more.
    pub(super) fn unpublish(&mut self, resource: &Resource) {
        if self.statuses.waiting.get(resource).is_some_and(|pending| !pending.sent) {
            self.statuses.waiting.remove(resource);
        }
    }

    /// Whether its status is on the way to the cluster.
    pub(super) fn is_publishing(&self, resource: &Resource) -> bool {
        self.statuses.waiting.contains_key(resource) || self.statuses.under_way.contains(resource)
    }

    pub(super) fn tick_statuses(&mut self, now: Duration) {
        let mut tasks = Vec::new();
        let Statuses { waiting, under_way, .. } = &mut self.statuses;
        for (resource, pending) in waiting {
            if !pending.sent && pending.due <= now && under_way.insert(resource.clone()) {
                pending.sent = true;
                tasks.push((resource.clone(), pending.status.clone()));
            }
        }
        for (resource, status) in tasks {
            let cluster = self.shared.cluster.clone();
            self.answer(async move {
                let (kind, id) = Kind::place(&resource);
                let written = cluster.patch_status(&kind, &id, &status).await;
                let answer = match written {
                    // Deleted meanwhile: there is nobody left to tell.
                    Err(error) if error.class == Class::NotFound => Ok(()),
                    other => other.map(drop).map_err(|error| error.to_string()),
                };
                Event::StatusWritten(resource, answer)
            });
        }
    }

    pub(super) fn status_written(&mut self, resource: &Resource, answer: Result<(), String>) {
        let now = self.clock.now();
        self.statuses.under_way.remove(resource);
        let Some(pending) = self.statuses.waiting.get_mut(resource) else { return };
        match answer {
            // One that came meanwhile is still to be sent.
            Ok(()) if pending.sent => drop(self.statuses.waiting.remove(resource)),
            Ok(()) => {}
            Err(_) if self.records.get(resource).is_some_and(|record| record.released) => {
                self.statuses.waiting.remove(resource);
            }
            Err(why) => {
                tracing::debug!(%resource, why, "its status could not be written to the cluster");
                pending.sent = false;
                pending.due = now + backoff(pending.failures, LONGEST_PAUSE, fastrand::f64());
                pending.failures += 1;
            }
        }
    }

    /// Says what happened to a resource: in the log, in the store, to receivers and to the cluster.
    pub(super) fn say(&mut self, resource: &Resource, say: Say<'_>) {
        let Say { severity, reason, message, revision } = say;
        match severity {
            Severity::Info => {
                tracing::info!(%resource, reason, revision = revision.map(tracing::field::display), "{message}")
            }
            Severity::Error => {
                tracing::warn!(%resource, reason, revision = revision.map(tracing::field::display), "{message}")
            }
        }
        if self.role.writes() {
            let said = self.shared.announcer.borrow().say(resource, severity, reason, message, revision);
            self.batch.events.push(said);
        }
    }

    /// Writes what this step changed. What cannot be written is kept, and written later.
    pub(super) async fn write(&mut self) {
        while self.write_once().await && self.recorded() {}
    }

    /// Tells whether everything is written.
    async fn write_once(&mut self) -> bool {
        if !self.batch.is_empty() || self.ledger.is_heavy() {
            self.ledger.write_to(&mut self.batch);
        }
        if self.batch.is_empty() {
            return true;
        }
        if self.statuses.retry.is_some_and(|due| self.clock.now() < due) {
            return false;
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.time_floor = batch.time_floor.or(self.shared.git.time_floor_to_write());
        match self.shared.store.commit(batch.clone()).await {
            Ok(()) => {
                self.statuses.retry = None;
                if self.store_trouble.take().is_some() {
                    tracing::info!("the store can be written again");
                }
                if !batch.events.is_empty() || !batch.late.is_empty() {
                    self.reporter.wake();
                }
                true
            }
            Err(error) => {
                self.statuses.retry = Some(self.clock.now() + Duration::from_secs(5));
                let why = crate::chain::chain(&error);
                if self.store_trouble.as_ref() != Some(&why) {
                    tracing::error!(
                        why,
                        full = error.is_full(),
                        "the store cannot be written; what happened is kept in memory and written as soon as it can be"
                    );
                    self.store_trouble = Some(why);
                }
                let newer = std::mem::replace(&mut self.batch, batch);
                append(&mut self.batch, newer);
                false
            }
        }
    }

    pub(super) fn retry_wake(&self) -> Option<Duration> {
        self.statuses.retry.filter(|_| !self.batch.is_empty())
    }
}

fn append(batch: &mut Batch, newer: Batch) {
    let Batch { records, gone, inventory, runs, trials, events, late, traffic, time_floor } = newer;
    batch.records.extend(records);
    batch.gone.extend(gone);
    batch.inventory.extend(inventory);
    batch.runs.extend(runs);
    batch.trials.extend(trials);
    batch.events.extend(events);
    batch.late.extend(late);
    batch.traffic.extend(traffic);
    batch.time_floor = batch.time_floor.max(time_floor);
}

/// Flux's `status.inventory`.
pub(super) fn inventory(inventory: &wickie_model::Inventory) -> Value {
    if inventory.len() > STATUS_INVENTORY {
        let keys: Vec<_> = inventory.keys().map(ObjectId::inventory_key).collect();
        let digest = wickie_model::Digest::of(keys.join("\n").as_bytes());
        return json!({"entries": [], "count": inventory.len(), "digest": format!("sha256:{digest}")});
    }
    let entries: Vec<_> =
        inventory.iter().map(|(id, entry)| json!({"id": id.inventory_key(), "v": entry.version})).collect();
    json!({"entries": entries})
}

/// Whether merging `patch` into `value` would change nothing.
fn is_within(value: &Value, patch: &Value) -> bool {
    match (value, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            patch.iter().all(|(key, patch)| fields.get(key).map_or(patch.is_null(), |value| is_within(value, patch)))
        }
        _ => value == patch,
    }
}
