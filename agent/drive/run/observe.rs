//! Looking at what is there, before anything is planned.
//!
//! The watches tell of most objects that they are as they were left. Only those that differ are read in full.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use wickie_model::{Entry, EntryState, Fingerprint, Gvk, ObjectId, ResourceKind, ResourceName};
use wickie_plan::drift::{self, Manager};
use wickie_plan::{Keep, Observed};

use super::{Job, Restored, RunError};
use crate::cluster::{ApiError, Class, MANAGER};
use crate::drive::live::Look;
use crate::render::{self, OWNER_NAME, OWNER_NAMESPACE};

/// How long a watch may take to show its first list.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// How many objects are read at once.
const IN_FLIGHT: usize = 8;

/// What is there.
pub(super) struct Seen {
    pub(super) observed: BTreeMap<ObjectId, Observed>,
    /// The watches show every object just as it was left: as long as they tell of nothing else, it stays so.
    pub(super) at_rest: bool,
}

/// What a read of an object shows.
struct Read {
    known: Observed,
    /// Its new fingerprint, where only what is not ours has changed.
    fresh: Option<Fingerprint>,
    /// It is an earlier one than was left: the cluster was set back.
    is_earlier: bool,
}

/// What a look at the watches says of an object.
enum Glance {
    /// It is as it was left.
    AtRest,
    Known(Observed),
    Suspect,
    Wait,
    Away(ApiError),
}

impl Job {
    /// What is there, of every object of the inventory.
    pub(super) async fn observe(&mut self) -> Result<Seen, RunError> {
        let deadline = tokio::time::Instant::now() + FIRST_LIST;
        let (mut observed, mut at_rest) = (BTreeMap::new(), true);
        let (mut suspects, mut earlier) = (Vec::new(), Vec::new());
        for (id, entry) in &*self.inventory {
            // What was never confirmed is sent, whatever is there: after a crash nothing is read only to be sent.
            if entry.state == EntryState::Planned {
                at_rest = false;
                // What Git has no more is read before it is deleted.
                if !self.wanted.desired.contains_key(id) {
                    suspects.push((id.clone(), entry.clone()));
                }
                continue;
            }
            match self.glance_when_seen(id, entry, deadline).await? {
                Some((known, rests)) => {
                    at_rest &= rests;
                    observed.insert(id.clone(), known);
                }
                None => suspects.push((id.clone(), entry.clone())),
            }
        }
        at_rest &= suspects.is_empty();
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
                Ok(Read { known, fresh, is_earlier }) => {
                    observed.insert(id.clone(), known);
                    let fingerprint = fresh.map(Arc::new);
                    if is_earlier {
                        earlier.push((id, Entry { fingerprint, ..entry }));
                    } else if fingerprint.is_some() {
                        // Kept in memory alone: it only spares a read after the next event, and is no news worth a write.
                        Rc::make_mut(&mut self.inventory).insert(id, Entry { fingerprint, ..entry });
                    }
                }
                Err(error) if error.class.is_transient() => return Err(self.unseen(error)),
                // It may be there or not: it is sent again, and the answer will tell.
                Err(error) => tracing::debug!(object = %id, %error, "not seen"),
            }
        }
        if !earlier.is_empty() && self.restored == Restored::No {
            return Err(RunError::SetBack(self.target.words()));
        }
        // Otherwise every start would take the cluster for one that has just been set back.
        self.commit(earlier, Vec::new(), None).await?;
        Ok(Seen { observed, at_rest })
    }

    /// A glance, as soon as the watch of the kind has anything to show, and whether the object is at rest; nothing where it
    /// must be read.
    async fn glance_when_seen(
        &self,
        id: &ObjectId,
        entry: &Entry,
        deadline: tokio::time::Instant,
    ) -> Result<Option<(Observed, bool)>, RunError> {
        loop {
            let seen = self.target.seen.notified();
            match self.glance(id, entry) {
                Glance::AtRest => return Ok(Some((Observed::Same, true))),
                Glance::Known(observed) => return Ok(Some((observed, false))),
                Glance::Suspect => return Ok(None),
                Glance::Away(error) => return Err(self.unseen(error)),
                Glance::Wait => {
                    if tokio::time::timeout_at(deadline, seen).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn glance(&self, id: &ObjectId, entry: &Entry) -> Glance {
        let live = self.target.live.borrow();
        match live.look(id) {
            // What left Git is read in full before it is deleted.
            Look::Seen(_) if !self.wanted.desired.contains_key(id) => Glance::Suspect,
            Look::Seen(_) if self.restored == Restored::Unread && !self.versions.contains_key(id) => Glance::Suspect,
            Look::Seen(sighting) => {
                let same = sighting.is_as_left(id, entry, Some(&self.wanted));
                let old = self.versions.get(id).is_some_and(|ours| sighting.version < *ours);
                match (same, old) {
                    (true, _) => Glance::AtRest,
                    (false, true) => Glance::Known(Observed::Same),
                    (false, false) => Glance::Suspect,
                }
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

    /// Reads an object in full.
    async fn read(&self, id: &ObjectId, entry: &Entry) -> Result<Read, ApiError> {
        let known = |known| Read { known, fresh: None, is_earlier: false };
        let _turn = self.target.turns.acquire().await;
        let cluster = &self.target.cluster;
        let gvk = Gvk { group: id.group.clone(), version: entry.version.clone(), kind: id.kind.clone() };
        let kind = match cluster.kind(&gvk).await {
            Ok(kind) => kind,
            Err(ApiError { class: Class::NoSuchKind, .. }) => return Ok(known(Observed::Absent)),
            Err(error) => return Err(error),
        };
        let Some(object) = cluster.get(&kind, id).await? else { return Ok(known(Observed::Absent)) };
        let Some(desired) = self.wanted.desired.get(id) else {
            return Ok(known(self.keep(id, &object).map_or(Observed::Same, Observed::Kept)));
        };
        let now = drift::fingerprint(&object, Manager(MANAGER), &desired.ignored);
        let now = match self.wanted.seal(id) {
            Some(seal) => now.map(|plain| seal.fingerprint(plain)),
            None => now,
        };
        let left = entry.fingerprint.as_deref();
        let is_earlier = left.is_some_and(|left| drift::version(&object["metadata"]) < left.version);
        Ok(match (left, now) {
            (Some(left), Some(now)) if (&left.uid, left.fields, left.values) == (&now.uid, now.fields, now.values) => {
                // A watch may not be as far as this read, and shows what was left all the same.
                let version = now.version.min(left.version);
                Read { known: Observed::Same, fresh: Some(Fingerprint { version, ..now }), is_earlier }
            }
            _ => Read { known: Observed::Drifted, fresh: None, is_earlier },
        })
    }

    /// Why an object that left Git must be left in the cluster, if it must.
    fn keep(&self, id: &ObjectId, object: &Value) -> Option<Keep> {
        if self.is_kept(object) {
            return Some(Keep::Marked);
        }
        // The agent does not run by what is in another cluster.
        let own = self.target.is_own() && (is_own(id, object, &self.shared.namespace) || self.is_itself(id));
        if own {
            return Some(Keep::Own);
        }
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        (self.wanted.held_back.contains(id) || render::is_flux_component(label)).then_some(Keep::Flux)
    }

    /// Whether it is the Kustomization that this run is for, or its source: whoever drops the file that declares them has
    /// not ordered everything to be deleted. That takes the Kustomization's own deletion.
    fn is_itself(&self, id: &ObjectId) -> bool {
        let is = |kind: ResourceKind, name: &ResourceName| {
            id.group == kind.group()
                && id.kind == kind.as_str()
                && (&id.namespace, &id.name) == (&name.namespace, &name.name)
        };
        is(ResourceKind::Kustomization, &self.kustomization.name)
            || is(ResourceKind::GitRepository, &self.kustomization.source)
    }

    /// Whether it says so itself, or is somebody else's now.
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

/// Whether an object is what the agent itself runs by: the definition of one of its kinds, the namespace that it lives in, or
/// a part of its own manifests. A commit that drops these by accident would end the agent, and with a definition every object
/// of its kind.
fn is_own(id: &ObjectId, object: &Value, namespace: &str) -> bool {
    let part = object.pointer("/metadata/labels/app.kubernetes.io~1part-of").and_then(Value::as_str);
    let definition = || ResourceKind::ALL.iter().any(|kind| id.name == format!("{}.{}", kind.plural(), kind.group()));
    match id.kind.as_str() {
        "Namespace" if id.group.is_empty() && id.name == namespace => true,
        "CustomResourceDefinition" if definition() => true,
        _ => part == Some(crate::install::OWN_PART),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_agent_runs_by_is_its_own() {
        let id = |group: &str, kind: &str, name: &str| ObjectId::new(group, kind, "", name);
        let own = |id: ObjectId, object: Value| is_own(&id, &object, "flux-system");
        assert!(own(id("", "Namespace", "flux-system"), json!({})));
        assert!(!own(id("", "Namespace", "shop"), json!({})));
        let definition = |name: &str| id("apiextensions.k8s.io", "CustomResourceDefinition", name);
        assert!(own(definition("kustomizations.kustomize.toolkit.fluxcd.io"), json!({})));
        assert!(!own(definition("helmreleases.helm.toolkit.fluxcd.io"), json!({})));
        let labelled = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "wickie"}}});
        assert!(own(id("apps", "DaemonSet", "wickie"), labelled));
        assert!(!own(id("apps", "DaemonSet", "till"), json!({"metadata": {"labels": {}}})));
    }
}
