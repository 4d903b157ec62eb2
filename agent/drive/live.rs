//! What is seen of a cluster: one watch a kind, reduced to a few digests an object on arrival.
//!
//! Where the account may not list a kind in the whole cluster (`--by-namespace`), it is one a kind and namespace.
//!
//! Metadata is enough to notice drift. A kind whose health somebody waits for is watched whole, and each object is
//! reduced to its verdict at once, so that no object is kept.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wickie_model::{Digest, Entry, Gvk, ObjectId, ResourceName, Verdict};
use wickie_plan::HealthRule;
use wickie_plan::cycle::backoff;

use super::Event;
use super::noticed::{Looks, Noticed, Text};
use super::run::Wanted;
use crate::cluster::watch::{self, Seen, Selection, Within};
use crate::cluster::{ApiError, Cluster};
use crate::config::Kustomization;
use crate::render::OWNER_NAME;

/// Group and kind: one watch serves all versions of them.
type GroupKind = (String, String);

/// Where one watch looks: a kind in one namespace, or in all of them where that is empty.
pub(super) type Place = (GroupKind, String);

/// What was last seen of an object.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    looks: Looks,
    /// What the metadata read as: see [`Noticed::reads`].
    reads: Digest,
    /// The version it was seen at.
    pub(super) version: u64,
    /// Its health, where the kind is watched whole.
    pub(super) verdict: Option<Verdict>,
    owner: ResourceName,
}

impl Sighting {
    fn new(noticed: Noticed, before: Option<&Self>) -> Option<(ObjectId, Self)> {
        let looks = noticed.looks(before.map(|before| (before.reads, &before.looks)))?;
        let Noticed { id, owner, version, verdict, reads, .. } = noticed;
        Some((id, Self { looks, reads, version, verdict, owner }))
    }

    /// Whether it shows the object as our last apply left it; `wanted` is what that was, where it is known.
    pub(super) fn is_as_left(&self, id: &ObjectId, entry: &Entry, wanted: Option<&Wanted>) -> bool {
        let Some(left) = &entry.fingerprint else { return false };
        let seal = wanted.and_then(|wanted| wanted.seal(id));
        let sealed = |plain| seal.map_or(plain, |seal| seal.digest(plain));
        if sealed(self.looks.metadata) == left.metadata {
            return true;
        }
        // What is ignored is no part of what was left, and a part of what is seen.
        let desired = wanted.and_then(|wanted| wanted.desired.get(id));
        let now = self.looks.fingerprint.as_ref().filter(|_| desired.is_some_and(|desired| desired.ignored.is_empty()));
        now.is_some_and(|now| (&now.uid, now.fields, sealed(now.values)) == (&left.uid, left.fields, left.values))
    }
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

/// All watches of one cluster on objects that carry our labels.
pub(super) struct Live {
    cluster: Cluster,
    /// Of the connection, for what comes back.
    serial: u64,
    sender: mpsc::Sender<Event>,
    places: HashMap<Place, Watched>,
    judges: Rc<RefCell<Judges>>,
    /// Whether each namespace is watched by itself.
    by_namespace: bool,
    moves: u64,
}

/// Whose rules of health the objects of each owner are judged by.
pub(super) type Judges = HashMap<ResourceName, Rc<Kustomization>>;

impl Live {
    pub(super) fn new(cluster: Cluster, serial: u64, sender: mpsc::Sender<Event>, by_namespace: bool) -> Self {
        Self { cluster, serial, sender, places: HashMap::new(), judges: Rc::default(), by_namespace, moves: 0 }
    }

    /// Counts what could make a difference to a plan: as long as this stays, every object that was seen looks as it did.
    /// That its status or its health is another makes none.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// The watch that shows an object.
    pub(super) fn place(&self, id: &ObjectId) -> Place {
        ((id.group.clone(), id.kind.clone()), self.within(id).to_owned())
    }

    /// The namespace that is watched for an object; none where the whole cluster is.
    pub(super) fn within<'a>(&self, id: &'a ObjectId) -> &'a str {
        if self.by_namespace { &id.namespace } else { "" }
    }

    /// Watches exactly these places, and whole those whose health is waited for. What was judged by a rule that is another
    /// now is seen anew.
    pub(super) fn watch(&mut self, wanted: &HashMap<Place, (String, bool)>, judges: Judges) {
        let before = self.judges.replace(judges);
        let judges = self.judges.borrow();
        let judged_anew = |kind: &GroupKind| {
            let owners = before.keys().chain(judges.keys());
            owners.into_iter().any(|owner| rule(&before, owner, kind) != rule(&judges, owner, kind))
        };
        self.places.retain(|place, watched| {
            let same = wanted.get(place).is_some_and(|(_, whole)| *whole == watched.whole);
            let keep = same && !(watched.whole && judged_anew(&place.0));
            if !keep {
                watched.task.abort();
                self.moves += 1;
            }
            keep
        });
        for (place, (version, whole)) in wanted {
            if self.places.contains_key(place) {
                continue;
            }
            self.moves += 1;
            let ((group, kind), namespace) = place;
            let gvk = Gvk { group: group.clone(), version: version.clone(), kind: kind.clone() };
            let judges = whole.then(|| self.judges.clone());
            let follow = follow(self.cluster.clone(), self.serial, gvk, namespace.clone(), judges, self.sender.clone());
            let task = tokio::task::spawn_local(follow).abort_handle();
            let watched = Watched { whole: *whole, task, seen: None, version: 0, blind: None };
            self.places.insert(place.clone(), watched);
        }
    }

    /// Takes in what a watch has seen; gives the objects that it may concern, with their owners. Without an object it
    /// may concern all of an owner's.
    pub(super) fn take(
        &mut self,
        gvk: &Gvk,
        namespace: String,
        seen: Seen<Option<Noticed>>,
    ) -> Vec<(ResourceName, Option<ObjectId>)> {
        let place = ((gvk.group.clone(), gvk.kind.clone()), namespace);
        let Some(watched) = self.places.get_mut(&place) else { return Vec::new() };
        self.moves += u64::from(!matches!(seen, Seen::Here(_)));
        match seen {
            Seen::Blind(error) => {
                watched.blind = Some(error);
                Vec::new()
            }
            Seen::Again => {
                watched.blind = None;
                Vec::new()
            }
            Seen::All(objects, version) => {
                let seen = objects.into_iter().flatten();
                let seen: HashMap<_, _> = seen.filter_map(|noticed| Sighting::new(noticed, None)).collect();
                let before = watched.seen.take().unwrap_or_default();
                let owners = before.values().chain(seen.values()).map(|sighting| &sighting.owner);
                let owners: BTreeSet<_> = owners.cloned().collect();
                watched.seen = Some(seen);
                watched.version = version.parse().unwrap_or(0);
                watched.blind = None;
                owners.into_iter().map(|owner| (owner, None)).collect()
            }
            Seen::Here(noticed) => {
                let Some(noticed) = noticed else { return Vec::new() };
                let seen = watched.seen.get_or_insert_default();
                let before = seen.get(&noticed.id);
                let Some((id, sighting)) = Sighting::new(noticed, before) else { return Vec::new() };
                let same = before.is_some_and(|before| {
                    before.looks.metadata == sighting.looks.metadata && before.owner == sighting.owner
                });
                self.moves += u64::from(!same || watched.blind.is_some());
                let owner = sighting.owner.clone();
                watched.version = watched.version.max(sighting.version);
                watched.blind = None;
                seen.insert(id.clone(), sighting);
                vec![(owner, Some(id))]
            }
            Seen::Gone(noticed) => {
                let Some(noticed) = noticed else { return Vec::new() };
                watched.version = watched.version.max(noticed.version);
                let before = watched.seen.get_or_insert_default().remove(&noticed.id);
                vec![(before.map_or(noticed.owner, |before| before.owner), Some(noticed.id))]
            }
        }
    }

    /// What is known of an object.
    pub(super) fn look(&self, id: &ObjectId) -> Look<'_> {
        let Some(watched) = self.places.get(&self.place(id)) else { return Look::Blind(None) };
        match (&watched.blind, &watched.seen) {
            (None, Some(seen)) => seen.get(id).map_or(Look::NotSeen(watched.version), Look::Seen),
            (error, _) => Look::Blind(error.as_ref()),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.places.values().for_each(|watched| watched.task.abort());
    }
}

/// Finds out how the kind is served, however long that takes, and watches it.
async fn follow(
    cluster: Cluster,
    serial: u64,
    gvk: Gvk,
    namespace: String,
    judges: Option<Rc<RefCell<Judges>>>,
    sender: mpsc::Sender<Event>,
) {
    let event = |seen| Event::Live(serial, gvk.clone(), namespace.clone(), seen);
    let mut failures = 0;
    let kind = loop {
        match cluster.kind(&gvk).await {
            Ok(kind) => break kind,
            Err(error) => {
                if sender.send(event(Seen::Blind(error))).await.is_err() {
                    return;
                }
                let pause = backoff(failures, std::time::Duration::from_secs(60), fastrand::f64());
                failures += 1;
                tokio::time::sleep(pause).await;
            }
        }
    };
    let within = match namespace.as_str() {
        "" => Within::Cluster,
        one => Within::Namespace(one.to_owned()),
    };
    let selection = Selection { kind, labels: OWNER_NAME.to_owned(), within, metadata: judges.is_none() };
    let read = |text: Text, arrival| {
        let judges = judges.as_ref().map(|judges| judges.borrow());
        Noticed::read(&gvk, text, arrival, judges.as_deref())
    };
    watch::watch_reduced(cluster, selection, sender, read, event).await;
}

fn rule<'a>(judges: &'a Judges, owner: &ResourceName, (group, kind): &GroupKind) -> Option<&'a HealthRule> {
    judges.get(owner).and_then(|kustomization| kustomization.health_rules.of(group, kind))
}
