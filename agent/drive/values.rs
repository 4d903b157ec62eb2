//! The ConfigMaps and Secrets that Kustomizations take values and kubeconfigs from: beside them in files, or in the cluster.
//!
//! One of the cluster is watched alone, by its name: a change is seen at once, an interval without one costs nothing,
//! and no right to other Secrets is needed. What they hold stays in memory. After a start without Git they are read from
//! the cluster again, which must be there anyway to be kept in order.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use tokio::task::AbortHandle;
use wickie_model::{Gvk, ResourceName};
use wickie_plan::cycle::Cause;

use super::{Drive, Event};
use crate::cluster::watch::{self, Seen, Selection, Within};
use crate::cluster::{ApiError, Kind};
use crate::config::{Invalid, Kustomization, Named, SecretData, ValuesKind, ValuesName};
use crate::render::{Found, InputError, Inputs, Values};
use crate::store::Origin;

/// All that are watched.
#[derive(Default)]
pub(super) struct WatchedValues(BTreeMap<ValuesName, Watched>);

struct Watched {
    task: AbortHandle,
    known: Known,
}

/// What is known of one.
enum Known {
    /// It was not looked at yet.
    Nothing,
    /// It is not there.
    Absent,
    /// It is there.
    Here(Rc<Values>),
    /// It is there and cannot be read, or may not be.
    Unusable(Trouble),
}

impl Known {
    fn was_read(&self) -> bool {
        matches!(self, Self::Here(_) | Self::Absent | Self::Unusable(Trouble::Malformed { .. }))
    }
}

/// A Secret, as far as it was read.
pub(super) enum Entries {
    /// It was not looked at yet.
    Unread,
    /// It is not there.
    Absent,
    /// It is there.
    Here(Rc<Values>),
}

/// Why values cannot be had. Values are not repeated.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{name} cannot be read: {error}; the agent needs get, list and watch for it")]
    Unseen { name: ValuesName, error: Box<ApiError> },
    #[error("{name}: {why}")]
    Malformed { name: ValuesName, why: String },
    #[error("{0}")]
    Input(#[from] InputError),
}

impl Trouble {
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unseen { error, .. } if error.class.is_transient())
    }
}

impl Drop for WatchedValues {
    fn drop(&mut self) {
        self.0.values().for_each(|watched| watched.task.abort());
    }
}

impl Drive {
    /// Watches exactly those that are named, and do not stand in a file.
    pub(super) fn watch_values(&mut self) {
        let mut wanted: Vec<ValuesName> = Vec::new();
        for (owner, state) in &self.kustomizations {
            let named = state.spec().into_iter().flat_map(|spec| spec.watched_values().collect::<Vec<_>>());
            wanted.extend(named.filter(|name| self.values_in_file(owner, name).is_none()));
        }
        self.values.0.retain(|name, watched| {
            let keep = wanted.contains(name);
            if !keep {
                watched.task.abort();
            }
            keep
        });
        for name in wanted {
            if self.values.0.contains_key(&name) {
                continue;
            }
            let kind = Kind::new(Gvk::new("v1", name.kind.as_str()), name.kind.plural(), true);
            let selection =
                Selection { kind, labels: String::new(), within: Within::Object(name.name.clone()), metadata: false };
            let (cluster, events, of) = (self.shared.cluster.clone(), self.events.clone(), name.clone());
            let follow = watch::watch(cluster, selection, events, move |seen| Event::Values(of.clone(), seen));
            let task = self.tasks.spawn(follow);
            self.values.0.insert(name, Watched { task, known: Known::Nothing });
        }
        self.take_aim();
    }

    pub(super) fn values_seen(&mut self, name: &ValuesName, seen: Seen) {
        let Some(watched) = self.values.0.get_mut(name) else { return };
        let now = match seen {
            Seen::All(objects, _) => objects.first().map_or(Known::Absent, |object| read(name, object)),
            Seen::Here(object) => read(name, &object),
            Seen::Gone(_) => Known::Absent,
            // What was read before is what counts until something else is read.
            Seen::Again | Seen::SetBack => return,
            Seen::Blind(error) if watched.known.was_read() && error.class.is_transient() => return,
            Seen::Blind(error) => Known::Unusable(Trouble::Unseen { name: name.clone(), error: Box::new(error) }),
        };
        let same = match (&watched.known, &now) {
            (Known::Here(before), Known::Here(now)) => before == now,
            (Known::Absent, Known::Absent) => true,
            (Known::Unusable(before), Known::Unusable(now)) => before.to_string() == now.to_string(),
            _ => false,
        };
        watched.known = now;
        if !same {
            self.values_changed(name);
        }
    }

    /// Whoever takes values from it is built again; whoever is for the cluster that its kubeconfig leads to is brought there.
    fn values_changed(&mut self, name: &ValuesName) {
        self.take_aim();
        let takes = |spec: &Arc<Kustomization>| spec.watched_values().any(|named| named == *name);
        let owners: Vec<_> = self
            .kustomizations
            .iter()
            .filter(|(_, state)| state.spec().as_ref().is_some_and(takes))
            .map(|(owner, _)| owner.clone())
            .collect();
        owners.iter().for_each(|owner| self.admit(owner, Cause::Spec));
    }

    /// Files were read anew: values in them may be others.
    pub(super) fn file_values_changed(&mut self, before: &crate::config::Files) {
        let secrets = self.files.secrets.keys().chain(before.secrets.keys());
        let secrets = secrets.filter(|name| self.files.secrets.get(*name) != before.secrets.get(*name));
        let secrets = secrets.map(|name| ValuesName { kind: ValuesKind::Secret, name: name.0.clone() });
        let maps = self.files.config_maps.keys().chain(before.config_maps.keys());
        let maps = maps.filter(|name| self.files.config_maps.get(*name) != before.config_maps.get(*name));
        let maps = maps.map(|name| ValuesName { kind: ValuesKind::ConfigMap, name: name.clone() });
        let mut changed: Vec<_> = secrets.chain(maps).collect();
        changed.sort();
        changed.dedup();
        if !changed.is_empty() {
            self.watch_values();
            changed.iter().for_each(|name| self.values_changed(name));
        }
    }

    /// What stands in a file is for what stands in a file.
    fn values_in_file(&self, owner: &ResourceName, name: &ValuesName) -> Option<&SecretData> {
        let declared = self.declared.get(&super::kustomizations::resource(owner))?;
        if declared.origin != Origin::File {
            return None;
        }
        match name.kind {
            ValuesKind::ConfigMap => self.files.config_maps.get(&name.name),
            ValuesKind::Secret => self.files.secrets.get(&Named(name.name.clone())),
        }
    }

    /// Whether any of those that a Kustomization names has not been looked at yet.
    pub(super) fn waits_for_values(&self, owner: &ResourceName, spec: &Kustomization) -> bool {
        spec.watched_values().any(|name| {
            let unseen = self.values.0.get(&name).is_none_or(|watched| matches!(watched.known, Known::Nothing));
            unseen && self.values_in_file(owner, &name).is_none()
        })
    }

    /// The entries of a Secret that a Kustomization names.
    pub(super) fn secret_entries(&self, owner: &ResourceName, secret: &ResourceName) -> Result<Entries, Trouble> {
        let name = ValuesName { kind: ValuesKind::Secret, name: secret.clone() };
        if let Some(entries) = self.values_in_file(owner, &name) {
            return Ok(Entries::Here(Rc::new(Values { uid: String::new(), entries: entries.clone() })));
        }
        match self.values.0.get(&name).map(|watched| &watched.known) {
            Some(Known::Here(values)) => Ok(Entries::Here(values.clone())),
            Some(Known::Unusable(trouble)) => Err(trouble.clone()),
            Some(Known::Absent) => Ok(Entries::Absent),
            Some(Known::Nothing) | None => Ok(Entries::Unread),
        }
    }

    /// What a build of a Kustomization takes from them.
    pub(super) fn inputs_of(&self, owner: &ResourceName, spec: &Kustomization) -> Result<Inputs, Trouble> {
        let mut found = Found::new();
        for name in spec.values_named() {
            if let Some(entries) = self.values_in_file(owner, &name) {
                found.insert(name, Rc::new(Values { uid: String::new(), entries: entries.clone() }));
                continue;
            }
            match self.values.0.get(&name).map(|watched| &watched.known) {
                Some(Known::Here(values)) => drop(found.insert(name, values.clone())),
                Some(Known::Unusable(trouble)) => return Err(trouble.clone()),
                Some(Known::Absent | Known::Nothing) | None => {}
            }
        }
        Ok(Inputs::new(spec, &found)?)
    }
}

fn read(name: &ValuesName, object: &Value) -> Known {
    let entries: Result<SecretData, Invalid> = match name.kind {
        ValuesKind::ConfigMap => SecretData::from_config_map(object),
        ValuesKind::Secret => SecretData::from_document(object),
    };
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
    match entries {
        Ok(entries) => Known::Here(Rc::new(Values { uid, entries })),
        Err(error) => Known::Unusable(Trouble::Malformed { name: name.clone(), why: error.to_string() }),
    }
}
