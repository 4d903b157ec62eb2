//! What the agent is told: from files and from the cluster, both at once.
//!
//! Files win where both declare the same object. The cluster is asked for nothing that is not there: the CRDs are
//! watched, and each kind from the moment that its CRD exists.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::AbortHandle;
use wickie_model::{Gvk, Resource, ResourceKind};
use wickie_plan::cycle::{Cause, spread};

use super::{Drive, Event};
use crate::cluster::Kind;
use crate::cluster::watch::{self, Seen, Selection, Within};
use crate::config::{Declared, SecretError, Secrets, annotation, files, read_secret, secrets_named};
use crate::store::Origin;

/// How often it is asked whether Flux is still active, while that keeps us from work.
const ASK_FLUX: Duration = Duration::from_secs(30);

/// What comes from the cluster.
#[derive(Default)]
pub(super) struct ClusterInput {
    declared: BTreeMap<Resource, Arc<Declared>>,
    kinds: BTreeMap<ResourceKind, Watched>,
    definitions_read: bool,
    /// Whether what the store remembers has been held against what is declared.
    compared: bool,
    /// What takes from a source that nobody declares has been told.
    told: bool,
    flux: Flux,
    /// When it is asked again whether Flux is active.
    due: Option<Duration>,
}

struct Watched {
    /// Whether the CRD is ours: then every object of the kind is.
    ours: bool,
    task: AbortHandle,
    read: bool,
}

/// Whether a Flux controller works on the same objects.
#[derive(Default, PartialEq)]
enum Flux {
    /// The CRDs are ours, or `--takeover` was given.
    #[default]
    NotAsked,
    /// It was asked; while there is no answer nothing is written.
    Unknown(String),
    Active,
    Absent,
}

impl ClusterInput {
    /// Why an object of the cluster must not be followed now.
    pub(super) fn refusal(&self, declared: Option<&Declared>) -> Option<String> {
        let declared = declared.filter(|declared| declared.origin == Origin::Cluster)?;
        if self.kinds.get(&declared.resource.kind).is_none_or(|watched| watched.ours) {
            return None;
        }
        match &self.flux {
            Flux::Active => Some("a Flux controller is active in this cluster and would work on the same object: scale it down, or start wickie with --takeover".to_owned()),
            Flux::Unknown(why) => Some(format!("whether a Flux controller is active could not be found out ({why}): nothing is written; start wickie with --takeover to go on all the same")),
            Flux::NotAsked | Flux::Absent => None,
        }
    }

    pub(super) fn wake(&self) -> Option<Duration> {
        self.due
    }

    /// Whether every source that the cluster declares has been seen once.
    pub(super) fn knows_sources(&self) -> bool {
        let sources = self.kinds.get(&ResourceKind::GitRepository);
        self.definitions_read && sources.is_none_or(|watched| watched.read)
    }

    /// Whether everything that the cluster declares has been seen once.
    pub(super) fn is_read(&self) -> bool {
        self.definitions_read && self.kinds.values().all(|watched| watched.read)
    }
}

impl Drive {
    /// Reads the configuration files, and takes over what has changed in them.
    pub(super) fn read_files(&mut self) {
        self.files_seen = files::fingerprint(&self.settings.config);
        let mut read = files::read(&self.settings.config);
        read.node.permits.push(self.settings.data_dir.permits());
        for problem in read.problems.iter().filter(|problem| !self.files.problems.contains(problem)) {
            tracing::error!("{problem}");
        }
        let node_changed = read.node != self.node;
        let mut before = std::mem::replace(&mut self.files, read);
        let node_before = std::mem::replace(&mut self.node, self.files.node.clone());
        if !self.files.problems.is_empty() {
            // An object in a file that cannot be read now has not gone; nor has the node's policy become looser.
            for (resource, declared) in std::mem::take(&mut before.declared) {
                self.files.declared.entry(resource).or_insert(declared);
            }
            self.node.stays_as_strict_as(node_before);
        }
        self.shared.announcer.borrow_mut().cluster_name = self.node.cluster.clone();
        self.merge_declared(node_changed);
        self.file_values_changed(&before);
    }

    /// Reads the configuration files again where they are others now, and tells whether they are.
    pub(super) fn look_at_files(&mut self) -> bool {
        let changed = files::fingerprint(&self.settings.config) != self.files_seen;
        if changed {
            self.read_files();
        }
        changed
    }

    /// Follows the CRDs of our kinds.
    pub(super) fn watch_definitions(&mut self) {
        let gvk = Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let kind = Kind::new(gvk, "customresourcedefinitions", false);
        let selection = Selection { kind, labels: String::new(), within: Within::Cluster, metadata: true };
        let (cluster, events) = (self.shared.cluster.clone(), self.events.clone());
        self.tasks.spawn(watch::watch(cluster, selection, events, Event::Definitions));
    }

    pub(super) fn definitions_seen(&mut self, seen: Seen) {
        match seen {
            Seen::All(definitions, _) => {
                let found: Vec<_> = definitions.iter().filter_map(definition).collect();
                let gone: Vec<_> = self
                    .cluster_input
                    .kinds
                    .keys()
                    .filter(|kind| !found.iter().any(|(found, _)| found == *kind))
                    .copied()
                    .collect();
                gone.into_iter().for_each(|kind| self.definition_gone(kind));
                found.into_iter().for_each(|(kind, ours)| self.definition_here(kind, ours));
                self.cluster_input.definitions_read = true;
            }
            Seen::Here(object) => {
                if let Some((kind, ours)) = definition(&object) {
                    self.definition_here(kind, ours);
                }
            }
            Seen::Gone(object) => {
                if let Some((kind, _)) = definition(&object) {
                    self.definition_gone(kind);
                }
            }
            Seen::Again | Seen::SetBack => {
                let gvk = Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
                self.targets.own.reachable.borrow_mut().note(None, &gvk);
            }
            Seen::Blind(error) => {
                let gvk = Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
                // Where the CRDs may not be listed, nothing is declared in the cluster as far as we can know.
                self.cluster_input.definitions_read |= !error.class.is_transient();
                tracing::debug!(%error, "the CRDs cannot be seen");
                self.targets.own.reachable.borrow_mut().note(Some(&error), &gvk);
            }
        }
    }

    fn definition_here(&mut self, kind: ResourceKind, ours: bool) {
        if self.cluster_input.kinds.get(&kind).is_some_and(|watched| watched.ours == ours) {
            return;
        }
        self.definition_gone(kind);
        let labels = if ours || self.settings.all { String::new() } else { format!("{}=true", annotation::MANAGED) };
        let selection = Selection { kind: Kind::ours(kind), labels, within: Within::Cluster, metadata: false };
        let (cluster, events) = (self.shared.cluster.clone(), self.events.clone());
        let follow = watch::watch(cluster, selection, events, move |seen| Event::Resource(kind, seen));
        let task = self.tasks.spawn(follow);
        self.cluster_input.kinds.insert(kind, Watched { ours, task, read: false });
        self.cluster_input.told = false;
        if !ours && !self.settings.takeover && self.cluster_input.flux == Flux::NotAsked {
            self.cluster_input.flux = Flux::Unknown("it is being asked".to_owned());
            self.ask_flux();
        }
    }

    /// A CRD that vanishes takes its objects with it; that is no order to prune.
    fn definition_gone(&mut self, kind: ResourceKind) {
        if let Some(watched) = self.cluster_input.kinds.remove(&kind) {
            watched.task.abort();
            self.cluster_input.declared.retain(|resource, _| resource.kind != kind);
            self.merge_declared(false);
        }
    }

    pub(super) fn resource_seen(&mut self, kind: ResourceKind, seen: Seen) {
        match seen {
            Seen::All(objects, _) => {
                let declared = objects.iter().filter_map(|object| self.read_declared(kind, object));
                let declared: BTreeMap<_, _> = declared.map(|one| (one.resource.clone(), Arc::new(one))).collect();
                self.cluster_input.declared.retain(|resource, _| resource.kind != kind);
                self.cluster_input.declared.extend(declared);
                if let Some(watched) = self.cluster_input.kinds.get_mut(&kind) {
                    watched.read = true;
                }
                self.merge_declared(false);
            }
            Seen::Here(object) => {
                if let Some(declared) = self.read_declared(kind, &object) {
                    let resource = declared.resource.clone();
                    self.cluster_input.declared.insert(resource.clone(), Arc::new(declared));
                    self.merge_one(&resource, false);
                }
            }
            Seen::Gone(object) => {
                if let Some(declared) = self.read_declared(kind, &object) {
                    self.cluster_input.declared.remove(&declared.resource);
                    self.merge_one(&declared.resource, false);
                }
            }
            Seen::Again | Seen::SetBack => {}
            Seen::Blind(error) => {
                if let Some(watched) = self.cluster_input.kinds.get_mut(&kind) {
                    watched.read |= !error.class.is_transient();
                }
                tracing::debug!(%kind, %error, "not seen");
            }
        }
    }

    fn read_declared(&self, kind: ResourceKind, object: &Value) -> Option<Declared> {
        // A list leaves kind and version out of its items.
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.as_str().into();
        Declared::new(kind, &object, Origin::Cluster, files::DEFAULT_NAMESPACE)
            .inspect_err(|error| tracing::warn!(%kind, %error, "an object in the cluster cannot be read"))
            .ok()
    }

    /// Files and cluster, as one; hands on what has changed.
    fn merge_declared(&mut self, everything: bool) {
        let declared = self.cluster_input.declared.keys().chain(self.files.declared.keys());
        let mut all: Vec<_> = declared.chain(self.declared.keys()).cloned().collect();
        // First who must hear of things, then sources, then those who take from them.
        let listens = |resource: &Resource| matches!(resource.kind, ResourceKind::Provider | ResourceKind::Alert);
        all.sort_by_key(|resource| (!listens(resource), resource.clone()));
        all.dedup();
        all.iter().for_each(|resource| self.merge_one(resource, everything));
    }

    /// One object, as files and cluster declare it now.
    fn merge_one(&mut self, resource: &Resource, even_unchanged: bool) {
        let declared = self.files.declared.get(resource).or_else(|| self.cluster_input.declared.get(resource));
        let Some(declared) = declared.cloned() else {
            if self.declared.remove(resource).is_some() {
                self.removed(resource);
            }
            return;
        };
        let before = self.declared.insert(resource.clone(), declared.clone());
        self.shared.announcer.borrow_mut().about.insert(declared.resource.clone(), declared.clone());
        let same = before.as_ref().is_some_and(|before| {
            before.digest() == declared.digest() && before.deleting == declared.deleting && before.uid == declared.uid
        });
        let asked = declared.requested_at().is_some()
            && before.as_ref().is_some_and(|before| before.requested_at() != declared.requested_at());
        let metadata = |of: &Arc<Declared>| (of.labels.clone(), of.annotations.clone());
        if !same || before.as_ref().map(metadata) != Some(metadata(&declared)) {
            self.note_moved(resource);
        }
        if !same || even_unchanged {
            self.note_spec(&declared);
            self.take_declared(&declared);
            if self.anew && before.is_none() {
                self.publish(resource);
            }
        } else if asked {
            self.requested(resource);
        }
    }

    /// Once all inputs have been read: what the store remembers and nobody declares any more has vanished while no agent
    /// ran.
    pub(super) fn forget_undeclared(&mut self) {
        if self.cluster_input.knows_sources() && !std::mem::replace(&mut self.cluster_input.told, true) {
            self.miss_sources();
        }
        if self.cluster_input.compared || !self.cluster_input.is_read() || !self.files.problems.is_empty() {
            return;
        }
        self.cluster_input.compared = true;
        let undeclared: Vec<_> =
            self.records.keys().filter(|resource| !self.declared.contains_key(*resource)).cloned().collect();
        undeclared.iter().for_each(|resource| self.removed(resource));
    }

    /// An object of the cluster is done with: what was last seen of it no longer counts.
    pub(super) fn forget_declared(&mut self, resource: &Resource) {
        self.cluster_input.declared.remove(resource);
    }

    fn take_declared(&mut self, declared: &Declared) {
        match declared.resource.kind {
            ResourceKind::GitRepository => self.source_declared(declared),
            ResourceKind::Kustomization => {
                self.hold_on_to(declared);
                self.kustomization_declared(declared);
            }
            ResourceKind::Provider => self.provider_declared(declared),
            ResourceKind::Alert => self.alert_declared(declared),
            ResourceKind::Receiver => self.receiver_declared(declared),
        }
    }

    fn removed(&mut self, resource: &Resource) {
        self.shared.announcer.borrow_mut().about.remove(resource);
        match resource.kind {
            ResourceKind::GitRepository => self.source_removed(&resource.name),
            ResourceKind::Kustomization => return self.kustomization_vanished(&resource.name),
            ResourceKind::Provider => self.provider_removed(&resource.name),
            ResourceKind::Alert => drop(self.shared.announcer.borrow_mut().alerts.remove(&resource.name)),
            ResourceKind::Receiver => self.receiver_removed(&resource.name),
        }
        self.metrics.forget(resource.kind, &resource.name);
        self.records.remove(resource);
        self.batch.gone.push(resource.clone());
    }

    /// Somebody has set the annotation that asks for a reconciliation.
    fn requested(&mut self, resource: &Resource) {
        match resource.kind {
            ResourceKind::GitRepository => self.ask_source(&resource.name),
            ResourceKind::Kustomization => self.admit(&resource.name, Cause::Request),
            _ => {}
        }
    }

    /// Suspended by its spec, or by `wickie suspend`.
    pub(super) fn is_suspended(&self, declared: &Declared) -> bool {
        let record = self.records.get(&declared.resource);
        declared.suspended() || record.is_some_and(|record| record.suspended || record.released)
    }

    /// Whether it was handed back (`wickie release`).
    pub(super) fn is_released(&self, resource: &Resource) -> bool {
        self.records.get(resource).is_some_and(|record| record.released)
    }

    /// Looks for the Secrets that a declared object names: beside it, then in the cluster.
    pub(super) fn find_secrets(&mut self, resource: &Resource) {
        let Some(declared) = self.declared.get(resource) else { return };
        let mut found = Secrets::new();
        let mut missing = Vec::new();
        for name in secrets_named(declared) {
            match self.files.secrets.get(&name).filter(|_| declared.origin == Origin::File) {
                Some(secret) => drop(found.insert(name, secret.clone())),
                None => missing.push(name),
            }
        }
        let (cluster, resource) = (self.shared.cluster.clone(), resource.clone());
        self.answer(async move {
            for name in missing {
                match read_secret(&cluster, &name).await {
                    Ok(Some(secret)) => drop(found.insert(name, secret)),
                    // Whoever reads the spec says which field names it.
                    Ok(None) => {}
                    Err(error @ SecretError::Invalid(..)) => return Event::Secrets(resource, Err(error.to_string())),
                    // A source says so itself, and asks again: one that may not be read is not one that is missing.
                    Err(SecretError::Api(error))
                        if error.class.is_transient() || resource.kind == ResourceKind::GitRepository =>
                    {
                        return Event::Secrets(resource, Err(error.to_string()));
                    }
                    Err(SecretError::Api(error)) => tracing::debug!(%error, "a Secret cannot be read"),
                }
            }
            Event::Secrets(resource, Ok(found))
        });
    }

    pub(super) fn secrets_found(&mut self, resource: &Resource, answer: Result<Secrets, String>) {
        let Some(declared) = self.declared.get(resource).cloned() else { return };
        match (resource.kind, answer) {
            (ResourceKind::GitRepository, Ok(secrets)) => self.source_secrets(&declared, &secrets),
            (ResourceKind::GitRepository, Err(why)) => self.source_without_secrets(&resource.name, why),
            (ResourceKind::Provider, Ok(secrets)) => self.provider_secrets(&declared, &secrets),
            (ResourceKind::Provider, Err(why)) => self.provider_without_secrets(&resource.name, why),
            (ResourceKind::Receiver, Ok(secrets)) => self.receiver_secrets(&declared, &secrets),
            (ResourceKind::Receiver, Err(why)) => self.receiver_without_secrets(&resource.name, why),
            _ => {}
        }
    }

    fn ask_flux(&mut self) {
        self.cluster_input.due = None;
        let cluster = self.shared.cluster.clone();
        self.answer(async move {
            let kind = Kind::new(Gvk::new("apps/v1", "Deployment"), "deployments", true);
            let parts = kube::core::params::ListParams::default().labels("app.kubernetes.io/part-of=flux");
            let listed = cluster.list(&kind, &parts, false).await;
            Event::FluxActive(
                listed.map(|listed| listed.items.iter().any(is_active)).map_err(|error| error.to_string()),
            )
        });
    }

    pub(super) fn flux_active(&mut self, answer: Result<bool, String>) {
        let now = match answer {
            Ok(true) => Flux::Active,
            Ok(false) => Flux::Absent,
            Err(why) => Flux::Unknown(why),
        };
        let changed = now != self.cluster_input.flux;
        self.cluster_input.due = match now {
            Flux::Absent | Flux::NotAsked => None,
            _ => Some(self.clock.now() + spread(ASK_FLUX, fastrand::f64())),
        };
        self.cluster_input.flux = now;
        if changed {
            let names: Vec<_> = self.kustomizations.keys().cloned().collect();
            names.iter().for_each(|name| self.admit(name, Cause::Spec));
        }
    }

    pub(super) fn tick_inputs(&mut self, now: Duration) {
        if self.cluster_input.due.is_some_and(|due| due <= now) {
            self.ask_flux();
        }
    }

    /// Puts our finalizer on a Kustomization of the cluster, so that its deletion waits for its objects.
    pub(super) fn hold_on_to(&mut self, declared: &Declared) {
        let held = declared.finalizers.iter().any(|finalizer| finalizer == annotation::FINALIZER);
        let over = declared.deleting || self.is_released(&declared.resource);
        if declared.origin != Origin::Cluster || over || held || !self.role.writes() {
            return;
        }
        if self.cluster_input.refusal(Some(declared)).is_none() {
            let mut finalizers = declared.finalizers.clone();
            finalizers.push(annotation::FINALIZER.to_owned());
            self.set_finalizers(declared, finalizers);
        }
    }

    pub(super) fn drop_finalizer(&mut self, declared: &Declared) {
        let finalizers =
            declared.finalizers.iter().filter(|finalizer| *finalizer != annotation::FINALIZER).cloned().collect();
        self.set_finalizers(declared, finalizers);
    }

    fn set_finalizers(&self, declared: &Declared, finalizers: Vec<String>) {
        let cluster = self.shared.cluster.clone();
        let resource = declared.resource.clone();
        let patch = json!({"metadata": {"uid": declared.uid, "finalizers": finalizers}});
        self.tasks.spawn(async move {
            let (kind, id) = Kind::place(&resource);
            // It must not be lost to an API server that is away for a moment.
            for failures in 0..10 {
                match cluster.merge(&kind, &id, &patch).await {
                    Err(error) if error.class.is_transient() => {
                        let pause = wickie_plan::cycle::backoff(failures, Duration::from_secs(60), fastrand::f64());
                        tokio::time::sleep(pause).await;
                    }
                    Err(error) if error.class != crate::cluster::Class::NotFound => {
                        return tracing::warn!(%resource, %error, "its finalizer cannot be set");
                    }
                    _ => return,
                }
            }
        });
    }
}

/// Which of our kinds a CRD defines, and whether we have installed it.
fn definition(object: &Value) -> Option<(ResourceKind, bool)> {
    let name = object.pointer("/metadata/name")?.as_str()?;
    let kind = ResourceKind::ALL.into_iter().find(|kind| format!("{}.{}", kind.plural(), kind.group()) == name)?;
    let managed = object.pointer("/metadata/labels/app.kubernetes.io~1managed-by").and_then(Value::as_str);
    Some((kind, managed == Some("wickie")))
}

/// Whether a Deployment of Flux's is one that would work on our kinds, and is not scaled down.
fn is_active(deployment: &Value) -> bool {
    let name = deployment.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let works = ["source-controller", "kustomize-controller"].contains(&name);
    works && deployment.pointer("/spec/replicas").and_then(Value::as_i64) != Some(0)
}
