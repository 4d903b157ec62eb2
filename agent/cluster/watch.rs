//! List, then watch, for as long as the agent lives.
//!
//! ```text
//!  Listing ──► Watching(version) ──► ended: Watching(version) again, at once if it lasted
//!     ▲             │ 410, an error event, or a server that is not as far as `version`
//!     └─────────────┴── other failure: the same again after a pause that grows
//! ```
//!
//! Where a cluster was restored from a backup, versions have gone back with it. A server takes a watch from a version that
//! it has not come to, and tells nothing until it has; and once it has, nothing of what lies between
//! (kubernetes/kubernetes#107457). So after every watch that did not end when it was to, the server is asked how far it is,
//! and for the object that changed last as far as was seen: if that is an earlier one, so is the rest.
//!
//! Guarantees: what is reported after [`Seen::All`] is complete up to that moment; an object that went while nobody
//! was watching is missing from the next `All`. Versions are kept in memory; bookmarks keep them fresh, so that a
//! quiet watch does not end in a 410.
//!
//! Caveat: [`Seen::Gone`] from a watch with a label selector may only mean that the object lost its label.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use kube::core::WatchEvent;
use kube::core::params::{ListParams, WatchParams};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use wickie_model::ResourceName;
use wickie_plan::cycle::backoff;

use super::error::{ApiError, Class};
use super::kinds::Kind;
use super::{Cluster, resource_version};

/// What to watch.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The kind.
    pub kind: Kind,
    /// A label selector; all objects where it is empty.
    pub labels: String,
    /// Where it is looked for.
    pub within: Within,
    /// Metadata alone, or whole objects.
    pub metadata: bool,
}

/// How far a watch looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// The whole cluster.
    Cluster,
    /// One namespace: it takes no right to see others.
    Namespace(String),
    /// One object alone, for which a role may name it in `resourceNames`.
    Object(ResourceName),
}

impl Selection {
    fn fields(&self) -> String {
        match &self.within {
            Within::Object(only) => named(&only.name),
            Within::Cluster | Within::Namespace(_) => String::new(),
        }
    }

    fn namespace(&self) -> &str {
        match &self.within {
            Within::Cluster => "",
            Within::Namespace(namespace) => namespace,
            Within::Object(only) => &only.namespace,
        }
    }
}

/// The field selector of one object. Roles may have names that hold what means something there.
fn named(name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    format!("metadata.name={escaped}")
}

/// What was seen: whole objects, or what is kept of them.
#[derive(Debug)]
pub enum Seen<R = Value> {
    /// Every object there is, at this version.
    All(Vec<R>, String),
    /// An object that is new or has changed.
    Here(R),
    /// An object that is gone, or no longer selected.
    Gone(R),
    /// Nothing can be seen for now, and why. It is tried again.
    Blind(ApiError),
    /// It can be seen again, and what was seen before is still true: changes since then follow.
    Again,
    /// The cluster is at an earlier version than it was, as after a restore from a backup. What there is follows.
    SetBack,
}

impl<R> Seen<R> {
    /// The objects that it is about.
    pub fn objects(&mut self) -> &mut [R] {
        match self {
            Self::All(objects, _) => objects,
            Self::Here(object) | Self::Gone(object) => std::slice::from_mut(object),
            Self::Blind(_) | Self::Again | Self::SetBack => &mut [],
        }
    }

    /// Why nothing can be seen, where nothing can.
    pub fn blind(&self) -> Option<&ApiError> {
        match self {
            Self::Blind(error) => Some(error),
            _ => None,
        }
    }
}

/// How an object came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// With others, in a list.
    Listed,
    /// By itself: it is new, or has changed.
    Event,
    /// By itself, as it was when it went.
    Gone,
}

/// What is kept of an object that a watch has seen.
pub trait Arrived {
    /// The version of the object, from which a watch can go on; nothing where that could not be read.
    fn version(&self) -> Option<Cow<'_, str>>;

    /// Its namespace, if it has one, and its name.
    fn place(&self) -> Option<ResourceName>;

    /// Whether anybody has to hear of it. What has gone is always told.
    fn is_news(&self) -> bool {
        true
    }
}

impl Arrived for Value {
    fn version(&self) -> Option<Cow<'_, str>> {
        resource_version(self).map(Cow::from)
    }

    fn place(&self) -> Option<ResourceName> {
        let text = |name: &str| Some(self.get("metadata")?.get(name)?.as_str()?.to_owned());
        Some(ResourceName::new(text("namespace").unwrap_or_default(), text("name")?))
    }
}

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a watch is asked to last: the server ends it then, and it is opened again where it was.
const LASTS: u32 = 290;

/// One that is open for longer has lost its server.
const OVERDUE: Duration = Duration::from_secs(LASTS as u64 + 40);

/// How long one has been open that ended as it was asked to.
const IN_TIME: Range<Duration> = Duration::from_secs(LASTS as u64 - 5)..OVERDUE;

/// A watch that lasted for less was none.
const SHORTEST: Duration = Duration::from_secs(5);

enum State {
    Listing,
    Watching(From),
}

/// Where a watch goes on.
struct From {
    version: String,
    /// What changed last, as far as was seen.
    last: Option<Last>,
    /// The server may not be as far, or no longer.
    doubted: bool,
}

/// The object with the newest version that was seen.
struct Last {
    place: ResourceName,
    version: u64,
    gone: bool,
}

impl Last {
    fn of(object: &impl Arrived, gone: bool) -> Option<Self> {
        Some(Self { place: object.place()?, version: object.version()?.parse().ok()?, gone })
    }
}

/// Watches whole objects until the receiver is dropped. `wrap` turns what is seen into the receiver's own words.
pub async fn watch<T>(cluster: Cluster, selection: Selection, sender: mpsc::Sender<T>, wrap: impl Fn(Seen) -> T) {
    watch_reduced(cluster, selection, sender, |object: Value, _| object, wrap).await;
}

/// The same, with each object reduced by `read` as it arrives.
pub async fn watch_reduced<O: DeserializeOwned, R: Arrived, T>(
    cluster: Cluster,
    selection: Selection,
    sender: mpsc::Sender<T>,
    read: impl Fn(O, Arrival) -> R,
    wrap: impl Fn(Seen<R>) -> T,
) {
    let mut state = State::Listing;
    let mut failures = 0;
    // Whether the last word was that nothing can be seen.
    let mut blind = false;
    loop {
        let before = std::mem::replace(&mut state, State::Listing);
        let (watching, began) = (matches!(before, State::Watching(_)), tokio::time::Instant::now());
        let stepped = match before {
            State::Listing => list(&cluster, &selection, &sender, &read, &wrap).await,
            State::Watching(from) => follow(&cluster, &selection, from, blind, &sender, &read, &wrap).await,
        };
        let Some((next, trouble)) = stepped else { return };
        state = next;
        let lasted = began.elapsed() >= SHORTEST;
        if lasted {
            failures = 0;
        }
        let Some(error) = trouble else {
            blind = false;
            // What ends as soon as it is open must not be opened again and again without a pause. What is to be listed
            // anew has not been opened.
            if watching && !lasted && !matches!(state, State::Listing) {
                tokio::time::sleep(backoff(failures, LONGEST_PAUSE, fastrand::f64())).await;
                failures += 1;
            }
            continue;
        };
        let expired = error.class == Class::Expired;
        // A pause that the server asked for comes on top of this one.
        let pause = backoff(failures, LONGEST_PAUSE, fastrand::f64());
        failures += 1;
        blind = !expired;
        if blind && sender.send(wrap(Seen::Blind(error))).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// The next state and what went wrong on the way; nothing where nobody listens any more.
type Stepped = Option<(State, Option<ApiError>)>;

async fn list<O: DeserializeOwned, R: Arrived, T>(
    cluster: &Cluster,
    selection: &Selection,
    sender: &mpsc::Sender<T>,
    read: &impl Fn(O, Arrival) -> R,
    wrap: &impl Fn(Seen<R>) -> T,
) -> Stepped {
    let params = ListParams::default().labels(&selection.labels).fields(&selection.fields());
    let read = |object| read(object, Arrival::Listed);
    match cluster.list_in(selection.namespace(), &selection.kind, &params, selection.metadata, read).await {
        Ok(listed) => {
            let number = |object: &&R| object.version().and_then(|version| version.parse::<u64>().ok());
            let last = listed.items.iter().max_by_key(number).and_then(|object| Last::of(object, false));
            let version = listed.resource_version;
            sender.send(wrap(Seen::All(listed.items, version.clone()))).await.ok()?;
            Some((State::Watching(From { version, last, doubted: false }), None))
        }
        Err(error) => Some((State::Listing, Some(error))),
    }
}

async fn follow<O: DeserializeOwned, R: Arrived, T>(
    cluster: &Cluster,
    selection: &Selection,
    from: From,
    blind: bool,
    sender: &mpsc::Sender<T>,
    read: &impl Fn(O, Arrival) -> R,
    wrap: &impl Fn(Seen<R>) -> T,
) -> Stepped {
    if from.doubted {
        match look_back(cluster, selection, &from).await {
            Ok(Past::Same) => {}
            Ok(Past::Unknown) => return Some((State::Listing, None)),
            Ok(Past::Another) => {
                sender.send(wrap(Seen::SetBack)).await.ok()?;
                return Some((State::Listing, None));
            }
            Err(error) => return Some(after(from, error)),
        }
    }
    let From { mut version, mut last, .. } = from;
    let tried = format!("watch {}", selection.kind.gvk().kind);
    let params = WatchParams::default().labels(&selection.labels).fields(&selection.fields()).timeout(LASTS);
    let requests = kube::core::Request::new(selection.kind.path(selection.namespace()));
    let request =
        if selection.metadata { requests.watch_metadata(&params, &version) } else { requests.watch(&params, &version) };
    let opened = tokio::select! {
        opened = cluster.watch(tried.clone(), request) => opened,
        () = sender.closed() => return None,
    };
    let mut events = match opened {
        Ok(events) => events,
        Err(error) => return Some(after(From { version, last, doubted: false }, error)),
    };
    // On a quiet cluster nothing else might come for hours.
    if blind {
        sender.send(wrap(Seen::Again)).await.ok()?;
    }
    let opened = tokio::time::Instant::now();
    let mut overdue = std::pin::pin!(tokio::time::sleep(OVERDUE));
    loop {
        let event = tokio::select! {
            event = events.next::<O>() => event,
            () = sender.closed() => return None,
            () = &mut overdue => Ok(None),
        };
        let seen = match event {
            Ok(None) => {
                let doubted = !IN_TIME.contains(&opened.elapsed());
                return Some((State::Watching(From { version, last, doubted }), None));
            }
            Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                let object = read(object, Arrival::Event);
                remember(&mut version, &mut last, &object, false);
                if !object.is_news() {
                    continue;
                }
                Seen::Here(object)
            }
            Ok(Some(WatchEvent::Deleted(object))) => {
                let object = read(object, Arrival::Gone);
                remember(&mut version, &mut last, &object, true);
                Seen::Gone(object)
            }
            Ok(Some(WatchEvent::Bookmark(bookmark))) => {
                version = bookmark.metadata.resource_version;
                continue;
            }
            Ok(Some(WatchEvent::Error(status))) => {
                let error = ApiError::from_kube(tried, &kube::Error::Api(status));
                return Some(after(From { version, last, doubted: false }, error));
            }
            Err(error) => return Some(after(From { version, last, doubted: false }, error)),
        };
        sender.send(wrap(seen)).await.ok()?;
    }
}

/// After trouble: from the start where the version is no longer kept, otherwise where we were.
fn after(from: From, error: ApiError) -> (State, Option<ApiError>) {
    match error.class {
        Class::Unreachable | Class::Busy(_) => (State::Watching(From { doubted: true, ..from }), Some(error)),
        _ => (State::Listing, Some(error)),
    }
}

fn remember(version: &mut String, last: &mut Option<Last>, object: &impl Arrived, gone: bool) {
    if let Some(newer) = object.version() {
        newer.as_ref().clone_into(version);
    }
    *last = Last::of(object, gone).or(last.take());
}

/// Whether a server still has what a watch was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// All of it.
    Same,
    /// It has gone back to before that.
    Another,
    /// It does not say: all has to be listed.
    Unknown,
}

async fn look_back(cluster: &Cluster, selection: &Selection, from: &From) -> Result<Past, ApiError> {
    let Some(last) = &from.last else { return Ok(Past::Unknown) };
    let params = ListParams::default().fields(&named(&last.place.name));
    let read = |object: Value| object.version().and_then(|version| version.parse().ok());
    let listed = cluster.list_in(&last.place.namespace, &selection.kind, &params, true, read).await?;
    Ok(past(&listed.resource_version, listed.items.into_iter().next().flatten(), &from.version, last))
}

/// `newest` is how far the server is, `now` the version of the object that changed last, where it is there and has one.
///
/// Source: Kubernetes, "Resource versions": of one kind, they are numbers that grow.
fn past(newest: &str, now: Option<u64>, seen: &str, last: &Last) -> Past {
    let (Ok(newest), Ok(seen)) = (newest.parse::<u64>(), seen.parse::<u64>()) else { return Past::Unknown };
    match now {
        _ if newest < seen => Past::Another,
        Some(now) if now < last.version => Past::Another,
        // It is there again, or no longer selected.
        Some(_) if last.gone => Past::Unknown,
        Some(now) if now == last.version => Past::Same,
        // The watch would have told of that.
        Some(now) if now <= seen => Past::Another,
        // Changed or deleted since, or not made yet.
        _ => Past::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_has_gone_back_is_known_by_how_far_it_is_and_by_what_changed_last() {
        let last = |gone| Last { place: ResourceName::new("shop", "till"), version: 40, gone };
        for (newest, now, gone, expected) in [
            ("50", Some(40), false, Past::Same),
            ("60", Some(55), false, Past::Unknown),
            ("60", Some(45), false, Past::Another),
            ("49", Some(40), false, Past::Another),
            ("60", Some(39), false, Past::Another),
            ("60", None, false, Past::Unknown),
            ("60", None, true, Past::Unknown),
            ("60", Some(30), true, Past::Another),
            ("60", Some(41), true, Past::Unknown),
            ("", Some(40), false, Past::Unknown),
        ] {
            assert_eq!(past(newest, now, "50", &last(gone)), expected, "{newest} {now:?} {gone}");
        }
    }
}
