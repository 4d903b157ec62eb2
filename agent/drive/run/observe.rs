//! Looking at what is there, before anything is planned.
//!
//! The watches tell of most objects that they are as they were left. Only those that differ are read in full.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use wickie_model::{Entry, EntryState, Fingerprint, Gvk, ObjectId};
use wickie_plan::Observed;
use wickie_plan::drift::{self, Manager};

use super::{Job, RunError};
use crate::cluster::{ApiError, Class, MANAGER};
use crate::drive::live::Look;
use crate::render::{OWNER_NAME, OWNER_NAMESPACE};

/// How long a watch may take to show its first list.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// How many objects are read at once.
const IN_FLIGHT: usize = 8;

/// What a look at the watches says of an object.
enum Glance {
    Known(Observed),
    Suspect,
    Wait,
    Away(ApiError),
}

impl Job {
    /// What is there, of every object of the inventory.
    pub(super) async fn observe(&mut self) -> Result<BTreeMap<ObjectId, Observed>, RunError> {
        let deadline = tokio::time::Instant::now() + FIRST_LIST;
        let mut observed = BTreeMap::new();
        let mut suspects = Vec::new();
        for (id, entry) in &self.inventory {
            // What was never confirmed is sent, whatever is there: after a crash nothing is read only to be sent.
            if entry.state == EntryState::Planned && self.wanted.desired.contains_key(id) {
                continue;
            }
            match self.glance_when_seen(id, entry, deadline).await? {
                Some(known) => {
                    observed.insert(id.clone(), known);
                }
                None => suspects.push((id.clone(), entry.clone())),
            }
        }
        let read: Vec<_> = futures_util::stream::iter(suspects)
            .map(|(id, entry)| {
                let job = &*self;
                async move { (job.read(&id, &entry).await, id, entry) }
            })
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        for (seen, id, entry) in read {
            match seen {
                Ok((known, fresh)) => {
                    observed.insert(id.clone(), known);
                    if let Some(fingerprint) = fresh {
                        // Kept in memory alone: it only spares a read after the next event, and is no news worth a write.
                        self.inventory.insert(id, Entry { fingerprint: Some(fingerprint), ..entry });
                    }
                }
                Err(error) if error.class.is_transient() => return Err(RunError::Look(error)),
                // It may be there or not: it is sent again, and the answer will tell.
                Err(error) => tracing::debug!(object = %id, %error, "not seen"),
            }
        }
        Ok(observed)
    }

    /// A glance, as soon as the watch of the kind has anything to show; nothing where the object must be read.
    async fn glance_when_seen(
        &self,
        id: &ObjectId,
        entry: &Entry,
        deadline: tokio::time::Instant,
    ) -> Result<Option<Observed>, RunError> {
        loop {
            let seen = self.shared.seen.notified();
            match self.glance(id, entry) {
                Glance::Known(observed) => return Ok(Some(observed)),
                Glance::Suspect => return Ok(None),
                Glance::Away(error) => return Err(RunError::Look(error)),
                Glance::Wait => {
                    if tokio::time::timeout_at(deadline, seen).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn glance(&self, id: &ObjectId, entry: &Entry) -> Glance {
        let live = self.shared.live.borrow();
        match live.look(id) {
            // What left Git is read in full before it is deleted.
            Look::Seen(_) if !self.wanted.desired.contains_key(id) => Glance::Suspect,
            Look::Seen(sighting) => {
                let metadata = self.wanted.seal(id).map_or(sighting.metadata, |seal| seal.digest(sighting.metadata));
                let same = entry.fingerprint.as_ref().is_some_and(|left| left.metadata == metadata);
                let old = self.versions.get(id).is_some_and(|ours| sighting.version < *ours);
                if same || old { Glance::Known(Observed::Same) } else { Glance::Suspect }
            }
            // The watch is not yet as far as our own write.
            Look::NotSeen(version) if self.versions.get(id).is_some_and(|ours| version < *ours) => {
                Glance::Known(Observed::Same)
            }
            // It may only have lost its label: a read tells.
            Look::NotSeen(_) => Glance::Suspect,
            Look::Blind(None) => Glance::Wait,
            Look::Blind(Some(error)) => match error.class {
                Class::NoSuchKind => Glance::Known(Observed::Absent),
                _ if error.class.is_transient() => Glance::Away(error.clone()),
                _ => Glance::Suspect,
            },
        }
    }

    /// Reads an object in full; gives its new fingerprint where only what is not ours has changed.
    async fn read(&self, id: &ObjectId, entry: &Entry) -> Result<(Observed, Option<Fingerprint>), ApiError> {
        let cluster = &self.shared.cluster;
        let gvk = Gvk { group: id.group.clone(), version: entry.version.clone(), kind: id.kind.clone() };
        let kind = match cluster.kind(&gvk).await {
            Ok(kind) => kind,
            Err(ApiError { class: Class::NoSuchKind, .. }) => return Ok((Observed::Absent, None)),
            Err(error) => return Err(error),
        };
        let Some(object) = cluster.get(&kind, id).await? else { return Ok((Observed::Absent, None)) };
        if !self.wanted.desired.contains_key(id) {
            let kept = self.is_kept(&object);
            return Ok((if kept { Observed::Kept } else { Observed::Same }, None));
        }
        let now = drift::fingerprint(&object, Manager(MANAGER));
        let now = match self.wanted.seal(id) {
            Some(seal) => now.map(|plain| seal.fingerprint(plain)),
            None => now,
        };
        Ok(match (&entry.fingerprint, now) {
            (Some(left), Some(now)) if (&left.uid, left.fields, left.values) == (&now.uid, now.fields, now.values) => {
                (Observed::Same, Some(now))
            }
            _ => (Observed::Drifted, None),
        })
    }

    /// Whether an object that left Git must be left in the cluster: it says so itself, or is somebody else's now.
    fn is_kept(&self, object: &Value) -> bool {
        let text = |kind: &str, key: &str| {
            object.pointer(&format!("/metadata/{kind}/{}", key.replace('/', "~1"))).and_then(Value::as_str)
        };
        let prune = "kustomize.toolkit.fluxcd.io/prune";
        let marked = ["labels", "annotations"].into_iter().filter_map(|kind| text(kind, prune));
        let owner = &self.kustomization.name;
        let ours = text("labels", OWNER_NAME) == Some(&owner.name)
            && text("labels", OWNER_NAMESPACE) == Some(&owner.namespace);
        !ours || marked.into_iter().any(|value| value.eq_ignore_ascii_case("disabled"))
    }
}
