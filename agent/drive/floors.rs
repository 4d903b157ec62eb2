//! The copy of the trust floors in the cluster: a ConfigMap where wickie lives.
//!
//! It is read once, before anything stored is enforced, and written when a floor moves; while nothing changes nothing is
//! asked. A write names the version that was read: where somebody else has written meanwhile, theirs is read first. What
//! it holds only ever raises (`source::floors`). An API server that does not answer keeps nobody from work: without it
//! nothing can be applied anyway, and the ConfigMap is read as soon as it answers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};
use wickie_model::{Digest, Gvk, ObjectId, ResourceName};
use wickie_plan::cycle::backoff;
use wickie_trust::Kept;

use super::{Drive, Event};
use crate::chain::chain;
use crate::cluster::{ApiError, Class, Cluster, Kind, resource_version};
use crate::source::{Git, SourceError};
use crate::store::{KeptFloor, OwnFloor, merge_floors};

/// The ConfigMap's name.
const NAME: &str = "wickie-floors";

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The first answer is waited for so long before stored snapshots are loaded without it.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Rounds of read and write, where others write too, before it is left for later.
const ROUNDS: usize = 5;

/// What is known of the ConfigMap.
#[derive(Default)]
pub(super) struct ClusterFloors {
    /// Its version, and what it held then.
    seen: Option<Seen>,
    /// Whether there was a first answer, or that it did not come.
    answered: bool,
    busy: bool,
    due: Option<Duration>,
    failures: u32,
    /// Accepted since the last write.
    moved: BTreeSet<ResourceName>,
    /// What was last said of it.
    said: Option<String>,
    /// The sources that it named before this process has written to it; nothing while it was not read.
    before: Option<BTreeSet<ResourceName>>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Nothing where the ConfigMap is not there.
    version: Option<String>,
    floors: Vec<KeptFloor>,
}

/// What a round of read and write came to.
pub(super) struct Synced {
    seen: Seen,
    /// What it holds that the store does not say.
    ahead: Vec<KeptFloor>,
    /// What was wrong with it.
    trouble: Option<String>,
    /// The sources that it named as it was read; nothing where it was known already.
    before: Option<BTreeSet<ResourceName>>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("others write to it all the time")]
    Contended,
    #[error("no answer within {} seconds", FIRST_ANSWER.as_secs())]
    Silence,
}

impl ClusterFloors {
    /// Has it read at once.
    pub(super) fn begin(&mut self) {
        self.due = Some(Duration::ZERO);
    }

    pub(super) fn wake(&self) -> Option<Duration> {
        self.due.filter(|_| !self.busy)
    }

    /// Whether an agent that lived where this one does has followed a source in this cluster before; nothing while that is
    /// not known.
    pub(super) fn knew(&self, source: &ResourceName) -> Option<bool> {
        self.before.as_ref().map(|before| before.contains(source))
    }

    /// Whether what is stored may be loaded: the ConfigMap was read, or cannot be for now.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }
}

impl Drive {
    /// A source has accepted something: its floor moves in the cluster too.
    pub(super) fn floor_moved(&mut self, name: &ResourceName) {
        self.cluster_floors.moved.insert(name.clone());
        self.cluster_floors.due = Some(self.clock.now());
    }

    pub(super) fn tick_floors(&mut self, now: Duration) {
        let floors = &mut self.cluster_floors;
        if floors.busy || floors.due.is_none_or(|due| due > now) {
            return;
        }
        floors.busy = true;
        floors.due = None;
        let (cluster, git, namespace) =
            (self.shared.cluster.clone(), self.shared.git.clone(), self.settings.namespace.clone());
        let (seen, moved, first) = (floors.seen.clone(), std::mem::take(&mut floors.moved), !floors.answered);
        let writes = self.role.writes();
        self.answer(async move {
            let sync = sync(&cluster, &git, &namespace, seen, &moved, writes);
            let answer = match first {
                true => tokio::time::timeout(FIRST_ANSWER, sync).await.unwrap_or(Err(SyncError::Silence)),
                false => sync.await,
            };
            Event::FloorsSynced(answer.map_err(|error| (moved, error)).map(Box::new))
        });
    }

    pub(super) fn floors_synced(&mut self, answer: Result<Box<Synced>, (BTreeSet<ResourceName>, SyncError)>) {
        let now = self.clock.now();
        let first = !std::mem::replace(&mut self.cluster_floors.answered, true);
        let floors = &mut self.cluster_floors;
        floors.busy = false;
        let mut ahead: Vec<KeptFloor> = Vec::new();
        let trouble = match answer {
            Ok(synced) => {
                let Synced { seen, ahead: found, trouble, before } = *synced;
                if floors.before.is_none() {
                    floors.before = before;
                }
                floors.failures = 0;
                self.shared.git.note_copies(Kept::Cluster, seen.floors.clone());
                let before = floors.seen.replace(seen).unwrap_or_default().floors;
                ahead.extend(found.into_iter().filter(|copy| !before.contains(copy)));
                trouble
            }
            Err((moved, error)) => {
                floors.moved.extend(moved);
                floors.seen = None;
                let transient = match &error {
                    SyncError::Api(error) => error.class.is_transient(),
                    SyncError::Source(_) | SyncError::Contended | SyncError::Silence => true,
                };
                if transient {
                    floors.due = Some(now + backoff(floors.failures, LONGEST_PAUSE, fastrand::f64()));
                    floors.failures += 1;
                    tracing::debug!(
                        why = chain(&error),
                        "the trust floors in the cluster cannot be brought up to date"
                    );
                    None
                } else {
                    // Nothing but a change of rights helps; it is tried again when a floor moves.
                    Some(format!("it cannot be used: {}; the copies in the store and beside it count", chain(&error)))
                }
            }
        };
        if let Some(why) = &trouble
            && floors.said.as_ref() != Some(why)
        {
            tracing::warn!(config_map = %format!("{}/{NAME}", self.settings.namespace), "the copy of the trust floors in the cluster: {why}");
        }
        floors.said = trouble;
        if first {
            self.load_waiting();
        }
        for copy in ahead {
            self.load_again(&copy.source, &copy.floor.track);
        }
    }
}

/// Reads the ConfigMap, unless it is known, and writes it if it lacks what the store has, where this agent writes at all.
async fn sync(
    cluster: &Cluster,
    git: &Git,
    namespace: &str,
    seen: Option<Seen>,
    moved: &BTreeSet<ResourceName>,
    writes: bool,
) -> Result<Synced, SyncError> {
    let (kind, id) = place(namespace);
    let mut trouble = None;
    let (mut known, before) = match seen {
        Some(seen) => (seen, None),
        None => {
            let read = read(cluster, &kind, &id, &mut trouble).await?;
            let before = read.floors.iter().map(|floor| floor.source.clone()).collect();
            (read, Some(before))
        }
    };
    for _ in 0..ROUNDS {
        let own = git.own_floors().await?;
        let mut changed = false;
        for name in moved {
            changed |= merge_floors(&mut known.floors, &own, Some(name));
        }
        changed |= merge_floors(&mut known.floors, &own, None);
        if known.floors.is_empty() || !(changed || trouble.is_some()) || !writes {
            return Ok(Synced { before, ..synced(known, &own, trouble) });
        }
        match cluster.apply(&kind, &id, &document(namespace, &known), true).await {
            Ok(sent) => {
                if sent.created && known.version.is_some() {
                    trouble = Some("it was deleted; it is written again".to_owned());
                }
                known.version = resource_version(&sent.object).map(str::to_owned);
                return Ok(Synced { before, ..synced(known, &own, trouble) });
            }
            Err(error) if error.class == Class::Stale => known = read(cluster, &kind, &id, &mut trouble).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(SyncError::Contended)
}

fn synced(seen: Seen, own: &[OwnFloor], trouble: Option<String>) -> Synced {
    let is_own =
        |copy: &KeptFloor| own.iter().any(|own| own.kept.source == copy.source && own.kept.floor == copy.floor);
    let ahead = seen.floors.iter().filter(|copy| !is_own(copy)).cloned().collect();
    Synced { seen, ahead, trouble, before: None }
}

async fn read(cluster: &Cluster, kind: &Kind, id: &ObjectId, trouble: &mut Option<String>) -> Result<Seen, ApiError> {
    let Some(object) = cluster.get(kind, id).await? else { return Ok(Seen::default()) };
    let mut seen = Seen { version: resource_version(&object).map(str::to_owned), floors: Vec::new() };
    for (key, value) in object.get("data").and_then(Value::as_object).into_iter().flatten() {
        match KeptFloor::from_line(value.as_str().unwrap_or_default()) {
            Ok(floor) => seen.floors.push(floor),
            Err(error) => *trouble = Some(format!("{key}: {error}; it counts for nothing, and is written again")),
        }
    }
    Ok(seen)
}

fn place(namespace: &str) -> (Kind, ObjectId) {
    let id = ObjectId::new("", "ConfigMap", namespace, NAME);
    (Kind::new(Gvk::new("v1", "ConfigMap"), "configmaps", true), id)
}

fn document(namespace: &str, seen: &Seen) -> Value {
    let data: Map<String, Value> = seen.floors.iter().map(|floor| (key(floor), floor.to_line().into())).collect();
    let mut metadata = json!({
        "name": NAME,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "wickie"},
        "annotations": {"wickie.dev/about": "How far back the history of each source may never go again. It may be deleted; it is written again from the node."},
    });
    if let Some(version) = &seen.version {
        metadata["resourceVersion"] = version.as_str().into();
    }
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
}

/// One key a source and track: a key of a ConfigMap may hold letters, digits, `-`, `_` and `.`, up to 253.
fn key(floor: &KeptFloor) -> String {
    let KeptFloor { source, floor, .. } = floor;
    let name: String = format!("{}.{}", source.namespace, source.name).chars().take(200).collect();
    let digest = Digest::of(format!("{source} {}", floor.track).as_bytes()).to_string();
    format!("{name}.{}", &digest[..12])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wickie_model::Oid;
    use wickie_trust::Floor;

    use super::*;

    #[test]
    fn a_key_is_one_that_a_config_map_takes_and_of_one_track_alone() {
        let floor = |track: &str| KeptFloor {
            source: ResourceName::new("flux-system", "f".repeat(253)),
            floor: Floor { track: track.to_owned(), commit: Oid::from_bytes([1; 20]), tag: None, version: None },
            accepted_at: Timestamp::UNIX_EPOCH,
        };
        let (one, other) = (key(&floor("u main")), key(&floor("u other")));
        assert_ne!(one, other);
        assert!(one.len() <= 253 && one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    }
}
