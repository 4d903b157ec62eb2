//! What is seen of a cluster: one watch a kind, reduced to a few digests an object on arrival.
//!
//! Where the account may not list a kind in the whole cluster (`--by-namespace`), it is one a kind and namespace.
//!
//! Metadata is enough to notice drift. A kind whose health somebody waits for is watched whole, and each object is
//! reduced at once to its verdict and, where others write to it too, its fingerprint, so that no object is kept.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use litemap::LiteMap;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wickie_model::{Entry, Gvk, ObjectId, ResourceName, Verdict};
use wickie_plan::HealthRule;
use wickie_plan::cycle::backoff;

use super::Event;
use super::noticed::{Looks, Noticed, Parts, Reads, Text};
use super::run::Wanted;
use super::tasks::Tasks;
use crate::cluster::watch::{self, Arrival, Seen, Selection, Within};
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
    reads: Reads,
    /// The version it was seen at.
    pub(super) version: u64,
    /// Its health, where the kind is watched whole.
    pub(super) verdict: Option<Verdict>,
    owner: ResourceName,
}

impl Sighting {
    /// Nothing where it was not read whole.
    fn new(noticed: Noticed) -> Option<(ObjectId, Box<Self>)> {
        let Noticed { id, owner, version, reads, looks, verdict, .. } = noticed;
        Some((id, Box::new(Self { looks: looks?, reads, version, verdict, owner })))
    }

    /// Whether it shows the object as our last apply left it; `wanted` is what that was, where it is known.
    pub(super) fn is_as_left(&self, id: &ObjectId, entry: &Entry, wanted: Option<&Wanted>) -> bool {
        let Some(left) = &entry.fingerprint else { return false };
        let seal = wanted.and_then(|wanted| wanted.seal(id));
        let sealed = |plain| seal.map_or(plain, |seal| seal.digest(plain));
        // What a restored backup holds reads like what was left, and may hold other values.
        if self.version >= left.version && sealed(self.looks.metadata) == left.metadata {
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
    /// Boxed, because half of the table may be empty.
    seen: Option<HashMap<ObjectId, Box<Sighting>>>,
    /// The newest version that the watch has told of.
    version: u64,
    blind: Option<ApiError>,
}

/// All watches of one cluster on objects that carry our labels.
pub(super) struct Live {
    /// For the watches.
    me: Weak<RefCell<Self>>,
    cluster: Cluster,
    /// Of the connection, for what comes back.
    serial: u64,
    sender: mpsc::Sender<Event>,
    tasks: Tasks,
    places: LiteMap<Place, Watched>,
    judges: Rc<RefCell<Judges>>,
    /// Whether each namespace is watched by itself.
    by_namespace: bool,
    moves: u64,
    /// Somebody is at work or waits in this cluster: every version of an object may be what he waits for.
    pub(super) attended: bool,
}

/// Whose rules of health the objects of each owner are judged by.
pub(super) type Judges = HashMap<ResourceName, Arc<Kustomization>>;

impl Live {
    pub(super) fn new(
        cluster: Cluster,
        serial: u64,
        sender: mpsc::Sender<Event>,
        tasks: Tasks,
        by_namespace: bool,
    ) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|me| {
            let (places, judges) = (LiteMap::new_vec(), Rc::default());
            let me = me.clone();
            let (moves, attended) = (0, true);
            RefCell::new(Self { me, cluster, serial, sender, tasks, places, judges, by_namespace, moves, attended })
        })
    }

    /// Counts what could make a difference to a plan: as long as this stays, every object that was seen looks as it did.
    /// That its status or its health is another makes none.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// The watch that shows an object.
    fn watch_of(&self, id: &ObjectId) -> Option<&Watched> {
        self.watch_at((&id.group, &id.kind, self.within(id)))
    }

    fn watch_at(&self, wanted: (&str, &str, &str)) -> Option<&Watched> {
        self.places.get_by(|((group, kind), within)| (group.as_str(), kind.as_str(), within.as_str()).cmp(&wanted))
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
            let watch = Watch { live: self.me.clone(), serial: self.serial, gvk, namespace: namespace.clone(), judges };
            let follow = watch.follow(self.cluster.clone(), self.sender.clone());
            let task = self.tasks.spawn(follow);
            let watched = Watched { whole: *whole, task, seen: None, version: 0, blind: None };
            self.places.insert(place.clone(), watched);
        }
    }

    /// Whether a watch shows a cluster that was set back: by its own word, or because an object is an earlier one than was
    /// seen, as where a restore has raised the versions of the cluster and not of what is in it.
    pub(super) fn is_set_back(&self, gvk: &Gvk, namespace: &str, seen: &Seen<Option<Noticed>>) -> bool {
        let objects = match seen {
            Seen::SetBack => return true,
            Seen::All(objects, _) => objects,
            _ => return false,
        };
        let Some(watched) = self.watch_at((&gvk.group, &gvk.kind, namespace)) else { return false };
        let Some(before) = &watched.seen else { return false };
        // What was not there is newer than all that was.
        let least = |now: &Noticed| before.get(&now.id).map_or(watched.version, |before| before.version);
        objects.iter().flatten().any(|now| now.version < least(now))
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
            // With a cluster that was set back the loop begins anew.
            Seen::Again | Seen::SetBack => {
                watched.blind = None;
                Vec::new()
            }
            Seen::All(objects, version) => {
                let seen = objects.into_iter().flatten();
                let seen: HashMap<_, _> = seen.filter_map(Sighting::new).collect();
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
                let Some((id, sighting)) = Sighting::new(noticed) else { return Vec::new() };
                let seen = watched.seen.get_or_insert_default();
                let before = seen.get(&id);
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

    /// Takes in an object by itself where nobody has to hear of it: it reads as it did, it is as healthy as it was, it is
    /// whose it was, and nobody is at work. On a quiet cluster nearly all that arrives is of that sort, a status that was
    /// written; it costs a fraction of a turn of the loop. Tells whether it was.
    ///
    /// What came before it must have been taken already: see [`Watch::follow`].
    fn absorb(&mut self, place: &Place, noticed: &Noticed) -> bool {
        let Some(watched) = self.places.get_mut(place).filter(|_| !self.attended) else { return false };
        let Some(before) = watched.seen.as_mut().and_then(|seen| seen.get_mut(&noticed.id)) else { return false };
        let same = before.reads == noticed.reads && before.owner == noticed.owner;
        if !same || watched.blind.is_some() {
            return false;
        }
        before.version = noticed.version;
        watched.version = watched.version.max(noticed.version);
        true
    }

    /// How an object read when it was seen last, and what it looked like.
    fn before(&self, place: &Place, id: &ObjectId) -> Option<(Reads, Looks)> {
        let before = self.places.get(place)?.seen.as_ref()?.get(id)?;
        Some((before.reads, before.looks.clone()))
    }

    /// What is known of an object.
    pub(super) fn look(&self, id: &ObjectId) -> Look<'_> {
        let Some(watched) = self.watch_of(id) else { return Look::Blind(None) };
        match (&watched.blind, &watched.seen) {
            (None, Some(seen)) => seen.get(id).map_or(Look::NotSeen(watched.version), |seen| Look::Seen(seen)),
            (error, _) => Look::Blind(error.as_ref()),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.places.values().for_each(|watched| watched.task.abort());
    }
}

/// One watch, and what is done with what it sees.
struct Watch {
    live: Weak<RefCell<Live>>,
    serial: u64,
    gvk: Gvk,
    namespace: String,
    judges: Option<Rc<RefCell<Judges>>>,
}

impl Watch {
    /// Finds out how the kind is served, however long that takes, and watches it.
    async fn follow(self, cluster: Cluster, sender: mpsc::Sender<Event>) {
        let Self { live, serial, gvk, namespace, judges } = self;
        // As long as an event is on its way to the loop, what comes after it must not be held against what was before it.
        let on_its_way = OnItsWay::default();
        let event = |seen| Event::Live(serial, gvk.clone(), namespace.clone(), seen, on_its_way.clone());
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
        let place = ((gvk.group.clone(), gvk.kind.clone()), namespace.clone());
        // Nothing of its text is kept: there may be many on their way to the loop.
        let read = |text: Text, arrival| {
            let parts = Parts::of(&text)?;
            let judges = judges.as_ref().map(|judges| judges.borrow());
            let mut noticed = Noticed::read(&gvk, (&text, &parts), judges.as_deref())?;
            if arrival == Arrival::Gone {
                return Some(noticed);
            }
            let live = live.upgrade()?;
            let mut live = live.try_borrow_mut().ok();
            if arrival == Arrival::Event && on_its_way.is_empty() {
                noticed.known = live.as_mut().is_some_and(|live| live.absorb(&place, &noticed));
            }
            if noticed.known {
                return Some(noticed);
            }
            let before = live.as_ref().and_then(|live| live.before(&place, &noticed.id));
            noticed.complete(&gvk, (&text, &parts), judges.as_deref(), before).then_some(noticed)
        };
        watch::watch_reduced(cluster, selection, sender, read, event).await;
    }
}

/// Events of one watch that were sent and are not taken yet: each carries one.
#[derive(Clone, Default)]
pub(super) struct OnItsWay(Rc<()>);

impl OnItsWay {
    fn is_empty(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

fn rule<'a>(judges: &'a Judges, owner: &ResourceName, (group, kind): &GroupKind) -> Option<&'a HealthRule> {
    judges.get(owner).and_then(|kustomization| kustomization.health_rules.of(group, kind))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use wickie_model::Fingerprint;

    use super::*;
    use crate::render::OWNER_NAMESPACE;

    fn till() -> Value {
        let labels = json!({OWNER_NAME: "apps", OWNER_NAMESPACE: "flux-system"});
        json!({
            "metadata": {"name": "till", "namespace": "shop", "generation": 1, "resourceVersion": "41", "labels": labels},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}
        })
    }

    fn gvk() -> Gvk {
        Gvk::new("apps/v1", "Deployment")
    }

    fn noticed(object: &Value) -> Noticed {
        let text = serde_json::from_str(&object.to_string()).unwrap();
        let (parts, judges) = (Parts::of(&text).unwrap(), Judges::new());
        let mut noticed = Noticed::read(&gvk(), (&text, &parts), Some(&judges)).unwrap();
        assert!(noticed.complete(&gvk(), (&text, &parts), Some(&judges), None));
        noticed
    }

    fn watched(place: &Place) -> Rc<RefCell<Live>> {
        let nobody = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let live =
            Live::new(Cluster::new(Client::new(nobody, "default")), 0, mpsc::channel(1).0, Tasks::default(), false);
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let watched = Watched { whole: true, task, seen: None, version: 0, blind: None };
        live.borrow_mut().places.insert(place.clone(), watched);
        let listed = Seen::All(vec![Some(noticed(&till()))], "41".to_owned());
        live.borrow_mut().take(&gvk(), String::new(), listed);
        live
    }

    /// A change of it that comes by itself.
    fn change(change: impl FnOnce(&mut Value)) -> Noticed {
        let mut object = till();
        object["metadata"]["resourceVersion"] = json!("42");
        change(&mut object);
        noticed(&object)
    }

    #[tokio::test]
    async fn a_status_that_changes_nothing_is_absorbed_while_nobody_is_at_work() {
        let place = (("apps".to_owned(), "Deployment".to_owned()), String::new());
        let live = watched(&place);
        let mut live = live.borrow_mut();
        let nothing = change(|object| object["status"]["conditions"] = json!([{"type": "Churn", "status": "True"}]));
        assert!(!live.absorb(&place, &nothing), "somebody may be at work");
        live.attended = false;
        let moves = live.moves();
        assert!(live.absorb(&place, &nothing));
        assert!(matches!(live.look(&nothing.id), Look::Seen(seen) if seen.version == 42));
        assert_eq!(live.moves(), moves);
        let others: [fn(&mut Value); 4] = [
            |it| it["metadata"]["generation"] = json!(2),
            |it| it["status"]["availableReplicas"] = json!(0),
            |it| it["metadata"]["labels"][OWNER_NAME] = json!("other"),
            |it| it["metadata"]["name"] = json!("never-seen"),
        ];
        for other in others {
            assert!(!live.absorb(&place, &change(other)));
        }
        let refused = ApiError::other("watch Deployment".to_owned(), "no");
        live.take(&gvk(), String::new(), Seen::Blind(refused));
        assert!(!live.absorb(&place, &nothing), "that it can be seen again is news");
    }

    #[tokio::test]
    async fn an_object_that_is_earlier_than_it_was_is_not_as_it_was_left_and_tells_of_a_restore() {
        let place = (("apps".to_owned(), "Deployment".to_owned()), String::new());
        let live = watched(&place);
        let mut live = live.borrow_mut();
        let listed = |version: &str| {
            let at = |it: &mut Value| it["metadata"]["resourceVersion"] = json!(version);
            Seen::All(vec![Some(change(at))], "50".to_owned())
        };
        for (version, set_back) in [("40", true), ("41", false), ("42", false)] {
            assert_eq!(live.is_set_back(&gvk(), "", &listed(version)), set_back, "{version}");
            let other = |it: &mut Value| {
                it["metadata"]["resourceVersion"] = json!(version);
                it["metadata"]["name"] = json!("was-deleted");
            };
            let listed = Seen::All(vec![Some(change(other))], "50".to_owned());
            assert_eq!(live.is_set_back(&gvk(), "", &listed), set_back, "{version}");
        }
        assert!(!live.is_set_back(&gvk(), "shop", &listed("40")), "another watch has seen it");

        let left = |version| {
            let (uid, digest) = ("7".to_owned(), noticed(&till()).looks.unwrap().metadata);
            let left = Fingerprint { uid, version, metadata: digest, fields: digest, values: digest };
            Entry { fingerprint: Some(Arc::new(left)), ..Entry::planned("v1") }
        };
        live.take(&gvk(), String::new(), listed("42"));
        let id = noticed(&till()).id;
        let Look::Seen(seen) = live.look(&id) else { panic!("it was seen") };
        for (version, as_left) in [(0, true), (41, true), (42, true), (43, false)] {
            assert_eq!(seen.is_as_left(&id, &left(version), None), as_left, "{version}");
        }
    }

    #[test]
    fn what_is_on_its_way_is_known_until_it_is_taken() {
        let on_its_way = OnItsWay::default();
        assert!(on_its_way.is_empty());
        let sent = on_its_way.clone();
        assert!(!on_its_way.is_empty());
        drop(sent);
        assert!(on_its_way.is_empty());
    }
}
