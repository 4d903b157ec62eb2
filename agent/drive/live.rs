//! What is seen of the cluster: one watch a kind, reduced to a few digests an object on arrival.
//!
//! Metadata is enough to notice drift. A kind whose health somebody waits for is watched whole, and each object is
//! reduced to its verdict at once, so that no object is kept.

use std::collections::HashMap;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wickie_model::{Digest, Gvk, ObjectId, ResourceName, Verdict};
use wickie_plan::cycle::backoff;
use wickie_plan::{drift, health};

use super::Event;
use crate::cluster::watch::{self, Seen, Selection};
use crate::cluster::{ApiError, Cluster};
use crate::render::{OWNER_NAME, OWNER_NAMESPACE};

/// Group and kind: one watch serves all versions of them.
type GroupKind = (String, String);

/// What was last seen of an object.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// See [`drift::metadata_digest`].
    pub(super) metadata: Digest,
    /// The version it was seen at.
    pub(super) version: u64,
    /// Its health, where the kind is watched whole.
    pub(super) verdict: Option<Verdict>,
    owner: ResourceName,
}

/// What a look at an object shows.
pub(super) enum Look<'a> {
    /// It is there.
    Seen(&'a Sighting),
    /// It is not among those that carry our labels; true up to this version.
    NotSeen(u64),
    /// Its kind cannot be seen, and why; nothing yet where there is no why.
    Blind(Option<&'a ApiError>),
}

struct Watched {
    whole: bool,
    task: AbortHandle,
    seen: Option<HashMap<ObjectId, Sighting>>,
    /// The newest version that the watch has told of.
    version: u64,
    blind: Option<ApiError>,
}

/// All watches on objects that carry our labels.
pub(super) struct Live {
    cluster: Cluster,
    sender: mpsc::Sender<Event>,
    kinds: HashMap<GroupKind, Watched>,
}

impl Live {
    pub(super) fn new(cluster: Cluster, sender: mpsc::Sender<Event>) -> Self {
        Self { cluster, sender, kinds: HashMap::new() }
    }

    /// Watches exactly these kinds, and whole those whose health is waited for.
    pub(super) fn watch(&mut self, wanted: &HashMap<GroupKind, (String, bool)>) {
        self.kinds.retain(|kind, watched| {
            let keep = wanted.get(kind).is_some_and(|(_, whole)| *whole == watched.whole);
            if !keep {
                watched.task.abort();
            }
            keep
        });
        for ((group, kind), (version, whole)) in wanted {
            if self.kinds.contains_key(&(group.clone(), kind.clone())) {
                continue;
            }
            let gvk = Gvk { group: group.clone(), version: version.clone(), kind: kind.clone() };
            let task = tokio::task::spawn_local(follow(self.cluster.clone(), gvk, *whole, self.sender.clone()));
            let watched = Watched { whole: *whole, task: task.abort_handle(), seen: None, version: 0, blind: None };
            self.kinds.insert((group.clone(), kind.clone()), watched);
        }
    }

    /// Takes in what a watch has seen; gives the objects that it may concern, with their owners. Without an object it
    /// may concern all of an owner's.
    pub(super) fn take(&mut self, gvk: &Gvk, seen: Seen) -> Vec<(ResourceName, Option<ObjectId>)> {
        let Some(watched) = self.kinds.get_mut(&(gvk.group.clone(), gvk.kind.clone())) else { return Vec::new() };
        match seen {
            Seen::Blind(error) => {
                watched.blind = Some(error);
                Vec::new()
            }
            Seen::All(objects, version) => {
                let seen: HashMap<_, _> =
                    objects.iter().filter_map(|object| sight(gvk, object, watched.whole)).collect();
                let before = watched.seen.take().unwrap_or_default();
                let mut owners: Vec<_> =
                    before.into_values().chain(seen.values().cloned()).map(|it| it.owner).collect();
                watched.seen = Some(seen);
                watched.version = version.parse().unwrap_or(0);
                watched.blind = None;
                owners.sort();
                owners.dedup();
                owners.into_iter().map(|owner| (owner, None)).collect()
            }
            Seen::Here(object) => {
                let Some((id, sighting)) = sight(gvk, &object, watched.whole) else { return Vec::new() };
                let owner = sighting.owner.clone();
                watched.version = watched.version.max(sighting.version);
                watched.blind = None;
                watched.seen.get_or_insert_default().insert(id.clone(), sighting);
                vec![(owner, Some(id))]
            }
            Seen::Gone(object) => {
                let Some((id, sighting)) = sight(gvk, &object, watched.whole) else { return Vec::new() };
                watched.version = watched.version.max(sighting.version);
                let before = watched.seen.get_or_insert_default().remove(&id);
                vec![(before.map_or(sighting.owner, |before| before.owner), Some(id))]
            }
        }
    }

    /// What is known of an object.
    pub(super) fn look(&self, id: &ObjectId) -> Look<'_> {
        let Some(watched) = self.kinds.get(&(id.group.clone(), id.kind.clone())) else { return Look::Blind(None) };
        match (&watched.blind, &watched.seen) {
            (None, Some(seen)) => seen.get(id).map_or(Look::NotSeen(watched.version), Look::Seen),
            (error, _) => Look::Blind(error.as_ref()),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.kinds.values().for_each(|watched| watched.task.abort());
    }
}

/// Finds out how the kind is served, however long that takes, and watches it.
async fn follow(cluster: Cluster, gvk: Gvk, whole: bool, sender: mpsc::Sender<Event>) {
    let mut failures = 0;
    let kind = loop {
        match cluster.kind(&gvk).await {
            Ok(kind) => break kind,
            Err(error) => {
                if sender.send(Event::Live(gvk.clone(), Seen::Blind(error))).await.is_err() {
                    return;
                }
                let pause = backoff(failures, std::time::Duration::from_secs(60), fastrand::f64());
                failures += 1;
                tokio::time::sleep(pause).await;
            }
        }
    };
    let selection = Selection { kind, labels: OWNER_NAME.to_owned(), only: None, metadata: !whole };
    watch::watch(cluster, selection, sender, |seen| Event::Live(gvk.clone(), seen)).await;
}

fn sight(gvk: &Gvk, object: &Value, whole: bool) -> Option<(ObjectId, Sighting)> {
    let metadata = object.get("metadata")?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = ObjectId {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: text(metadata, "namespace"),
        name: text(metadata, "name"),
    };
    let sighting = Sighting {
        metadata: drift::metadata_digest(metadata),
        version: text(metadata, "resourceVersion").parse().unwrap_or(0),
        verdict: whole.then(|| health::health(&gvk.group, &gvk.kind, object)),
        owner: metadata
            .get("labels")
            .map(|labels| ResourceName::new(text(labels, OWNER_NAMESPACE), text(labels, OWNER_NAME)))?,
    };
    Some((id, sighting))
}
