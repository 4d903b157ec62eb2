//! Saying what happened: an event, and the way to everybody who must hear of it.
//!
//! Alerts that the cluster declares are not known yet when the agent starts. Those that were known before a restart stand
//! in the store, and serve until the cluster has been read; and what is said before that is routed once more after it, so
//! that an Alert that is new misses nothing either.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;
use wickie_model::{Event, Resource, ResourceName, Revision, Severity};

use super::tasks::Tasks;
use crate::cluster::Cluster;
use crate::config::Declared;
use crate::config::notification::Alert;
use crate::report::{Subject, kube_event, route, send_kube_event};
use crate::store::{Delivery, Origin};

/// An event with its ways, to be written with the work that it describes.
pub(super) type Said = (Event, Vec<Delivery>);

/// Makes events, and knows who must hear of them.
pub(super) struct Announcer {
    cluster: Cluster,
    tasks: Tasks,
    /// The node's name, as Kubernetes Events show it.
    instance: String,
    /// Rings when there is something new in the outbox.
    pub(super) written: Rc<Notify>,
    /// The cluster's name, where the node's configuration gives one.
    pub(super) cluster_name: Option<String>,
    pub(super) alerts: BTreeMap<ResourceName, Alert>,
    /// Providers that nothing is kept for.
    pub(super) closed: BTreeSet<ResourceName>,
    /// The objects that events are about, as they were declared.
    pub(super) about: HashMap<Resource, Arc<Declared>>,
    /// What was said before all Alerts were known; nothing once they are.
    early: RefCell<Option<VecDeque<Early>>>,
}

/// An event that was said before all Alerts were known.
struct Early {
    event: Event,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Who hears of it already.
    told: Vec<ResourceName>,
}

/// So many early events are remembered, the newest.
const EARLY: usize = 1_000;

impl Announcer {
    pub(super) fn new(cluster: Cluster, instance: String, tasks: Tasks) -> Self {
        Self {
            cluster,
            tasks,
            instance,
            written: Rc::default(),
            cluster_name: None,
            alerts: BTreeMap::new(),
            closed: BTreeSet::new(),
            about: HashMap::new(),
            early: RefCell::new(Some(VecDeque::new())),
        }
    }

    /// An event about `resource`, and the way to everybody who must hear of it. Whoever takes it writes it down.
    ///
    /// Objects that live in the cluster get it as a Kubernetes Event too, as well as that goes.
    pub(super) fn say(
        &self,
        resource: &Resource,
        severity: Severity,
        reason: &str,
        message: String,
        revision: Option<&Revision>,
    ) -> Said {
        let about = self.about.get(resource);
        let mut metadata = BTreeMap::new();
        metadata.extend(revision.map(|revision| ("revision".to_owned(), revision.to_string())));
        metadata.extend(self.cluster_name.clone().map(|name| ("cluster".to_owned(), name)));
        let event = Event {
            id: uuid::Uuid::now_v7().to_string(),
            about: resource.clone(),
            uid: about.map(|about| about.uid.clone()).unwrap_or_default(),
            severity,
            at: Timestamp::now(),
            reason: reason.to_owned(),
            message,
            metadata,
        };
        if about.is_some_and(|about| about.origin == Origin::Cluster) {
            let (client, event) = (self.cluster.writer().clone(), kube_event(&event, &self.instance));
            self.tasks.spawn(async move {
                if let Err(error) = send_kube_event(client, &event).await {
                    tracing::debug!(%error, "a Kubernetes Event was not taken");
                }
            });
        }
        let none = BTreeMap::new();
        let subject = Subject {
            labels: about.map_or(&none, |about| &about.labels),
            annotations: about.map_or(&none, |about| &about.annotations),
        };
        let deliveries = route(&event, subject, self.alerts.values(), &self.closed);
        if let Some(early) = self.early.borrow_mut().as_mut() {
            if early.len() >= EARLY {
                early.pop_front();
            }
            let told = deliveries.iter().map(|delivery| delivery.provider.clone()).collect();
            let (labels, annotations) = (subject.labels.clone(), subject.annotations.clone());
            early.push_back(Early { event: event.clone(), labels, annotations, told });
        }
        (event, deliveries)
    }

    /// All Alerts are known now: the ways of what was said before, to those who do not hear of it already.
    pub(super) fn route_early(&self) -> Vec<Delivery> {
        let early = self.early.borrow_mut().take().unwrap_or_default();
        let mut late = Vec::new();
        for Early { event, labels, annotations, told } in early {
            let subject = Subject { labels: &labels, annotations: &annotations };
            let ways = route(&event, subject, self.alerts.values(), &self.closed);
            late.extend(ways.into_iter().filter(|way| !told.contains(&way.provider)));
        }
        late
    }

    /// Tells whoever sends that there is something new.
    pub(super) fn wake(&self) {
        self.written.notify_one();
    }
}
