//! What one step of the loop brought, written together: the work, what is said of it, and who must still hear of it.

use jiff::Timestamp;
use wickie_model::{Event, Resource, ResourceKind, Trial};

use super::{
    Delivery, InventoryChange, Record, Run, Store, StoreError, TrafficDay, events, inventory, outbox, resources, runs,
    time_floor, traffic, trials,
};

/// What one step of the loop brought. It is written whole or not at all, so that no report is lost between the work
/// and the outbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Resources as they now are; one that is stored already, just so, is not written.
    pub records: Vec<Record>,
    /// Resources that are no more. What was still to be reported to a Provider that is gone stays in the outbox: it may
    /// have been taken away by mistake.
    pub gone: Vec<Resource>,
    /// What was planned for the cluster, done to it, or confirmed gone from it.
    pub inventory: Vec<InventoryChange>,
    /// Runs that ended.
    pub runs: Vec<Run>,
    /// What became of revisions.
    pub trials: Vec<Trial>,
    /// What happened, each with its way to those who must hear of it.
    pub events: Vec<(Event, Vec<Delivery>)>,
    /// More ways for events that were written before it was known who must hear of them.
    pub late: Vec<Delivery>,
    /// What sources have cost, as it stands now.
    pub traffic: Vec<TrafficDay>,
    /// What time it is at least. Alone it is no reason to write.
    pub time_floor: Option<Timestamp>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.gone.is_empty()
            && self.inventory.is_empty()
            && self.runs.is_empty()
            && self.trials.is_empty()
            && self.events.is_empty()
            && self.late.is_empty()
            && self.traffic.is_empty()
    }
}

impl Store {
    /// Writes a batch in one transaction. One that brings nothing new writes no byte.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.transact(move |transaction| {
            for record in &batch.records {
                resources::put(transaction, record)?;
            }
            for resource in &batch.gone {
                resources::remove(transaction, resource)?;
                if resource.kind == ResourceKind::Kustomization {
                    runs::remove(transaction, &resource.name)?;
                    trials::remove(transaction, &resource.name)?;
                    inventory::remove(transaction, &resource.name)?;
                }
            }
            for change in &batch.inventory {
                inventory::change(transaction, change)?;
            }
            for day in &batch.traffic {
                traffic::put(transaction, day)?;
            }
            for run in &batch.runs {
                runs::add(transaction, run)?;
            }
            for trial in &batch.trials {
                trials::put(transaction, trial)?;
            }
            for (event, deliveries) in &batch.events {
                events::add(transaction, event)?;
                for delivery in deliveries {
                    outbox::add(transaction, delivery)?;
                }
            }
            for delivery in &batch.late {
                outbox::add(transaction, delivery)?;
            }
            if let Some(floor) = batch.time_floor {
                time_floor::raise(transaction, floor)?;
            }
            let events = batch.events.iter().filter(|(_, deliveries)| !deliveries.is_empty()).map(|(event, _)| event);
            let newest = events.chain(batch.late.iter().map(|late| &late.event)).map(|event| event.at).max();
            newest.map_or(Ok(()), |newest| outbox::make_room(transaction, newest))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use serde_json::json;
    use wickie_model::{Cause, Digest, ResourceName, Severity};

    use super::*;
    use crate::store::{Changes, DataDir, EventFilter, Origin};

    fn shop() -> Resource {
        Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop"))
    }

    fn record() -> Record {
        Record {
            resource: shop(),
            origin: Origin::File,
            spec: Digest::of(b"spec"),
            generation: 1,
            suspended: false,
            released: false,
            status: json!({"conditions": []}).into(),
            seen: None,
        }
    }

    fn run(revision: usize) -> Run {
        Run {
            name: shop().name,
            revision: revision.to_string(),
            cause: Cause::Drift,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            reason: "ReconciliationSucceeded".to_owned(),
            message: String::new(),
            changes: Changes { repaired: 1, ..Changes::default() },
        }
    }

    fn event(id: usize) -> Event {
        Event {
            id: id.to_string(),
            about: shop(),
            uid: String::new(),
            severity: Severity::Info,
            at: Timestamp::UNIX_EPOCH,
            reason: "Progressing".to_owned(),
            message: String::new(),
            metadata: Default::default(),
        }
    }

    fn bytes_of(dir: &Path) -> Vec<Vec<u8>> {
        ["wickie.db", "wickie.db-wal"].map(|name| std::fs::read(dir.join(name)).unwrap()).to_vec()
    }

    #[tokio::test]
    async fn what_brings_nothing_new_writes_no_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        store.commit(Batch { records: vec![record()], ..Batch::default() }).await.unwrap();
        let before = bytes_of(dir.path());
        store.commit(Batch::default()).await.unwrap();
        store.commit(Batch { time_floor: Some(Timestamp::MAX), ..Batch::default() }).await.unwrap();
        store.commit(Batch { records: vec![record()], ..Batch::default() }).await.unwrap();
        assert_eq!(bytes_of(dir.path()), before);
        let changed = Record { seen: Some(json!({}).into()), ..record() };
        store.commit(Batch { records: vec![changed.clone()], ..Batch::default() }).await.unwrap();
        assert_ne!(bytes_of(dir.path()), before);
        assert_eq!(store.records().await.unwrap(), [changed]);
        // The marks of people, each for itself.
        for (suspended, released) in [(true, false), (true, true), (false, true)] {
            let marked = Record { suspended, released, ..record() };
            store.commit(Batch { records: vec![marked.clone()], ..Batch::default() }).await.unwrap();
            assert_eq!(store.records().await.unwrap(), [marked]);
        }
    }

    #[tokio::test]
    async fn runs_and_events_are_kept_up_to_their_bounds_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        let runs: Vec<_> = (0..130).map(run).collect();
        let events = (0..1_200).map(|id| (event(id), Vec::new())).collect();
        store.commit(Batch { runs: runs.clone(), events, ..Batch::default() }).await.unwrap();
        let kept = store.runs(shop().name, 1_000).await.unwrap();
        assert_eq!((kept.len(), &kept[0]), (100, &runs[129]));
        let another = Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "another"));
        let of_another = Run { name: another.name.clone(), ..run(1) };
        let records = vec![record(), Record { resource: another, ..record() }];
        store.commit(Batch { records, runs: vec![of_another.clone()], ..Batch::default() }).await.unwrap();
        let last = [&runs[129], &of_another].map(|run| (run.name.clone(), run.clone()));
        assert_eq!(store.last_runs().await.unwrap(), last.into());
        let kept = store.events(EventFilter::default(), 10_000).await.unwrap();
        assert_eq!((kept.len(), &kept[0]), (1_000, &event(1_199)));
        let others = EventFilter { name: Some("till".to_owned()), ..EventFilter::default() };
        assert_eq!(store.events(others, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn all_records_are_read_each_once_in_their_order() {
        let store = Store::in_memory().unwrap();
        for count in [1, 100, 101, 200, 250] {
            let named = |number| ResourceName::new("flux-system", format!("{number:03}"));
            let of =
                |number| Record { resource: Resource::new(ResourceKind::Kustomization, named(number)), ..record() };
            let mut records: Vec<_> = (1..count).map(of).collect();
            let source = Resource::new(ResourceKind::GitRepository, named(999));
            records.insert(0, Record { resource: source, ..record() });
            store.commit(Batch { records: records.iter().rev().cloned().collect(), ..Batch::default() }).await.unwrap();
            assert_eq!(store.records().await.unwrap(), records);
        }
    }

    #[tokio::test]
    async fn what_is_gone_takes_its_runs_along() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        store.commit(Batch { records: vec![record()], runs: vec![run(1)], ..Batch::default() }).await.unwrap();
        store.commit(Batch { gone: vec![shop()], ..Batch::default() }).await.unwrap();
        assert_eq!(store.record(shop()).await.unwrap(), None);
        assert_eq!(store.runs(shop().name, 1).await.unwrap(), []);
    }
}
