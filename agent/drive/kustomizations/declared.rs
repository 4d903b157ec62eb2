//! A Kustomization as it is declared: new, changed, invalid, or gone without a word.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use wickie_model::{ConditionStatus, Entry, Inventory, ObjectId, ResourceName, condition_type, reason};
use wickie_plan::cycle::{self, Cause, Hold};

use super::{KustomizationState, resource};
use crate::config::{Declared, Invalid, Kustomization};
use crate::drive::Drive;
use crate::drive::targets::{Aim, NoTarget};
use crate::store::InventoryChange;

impl Drive {
    /// A Kustomization is new, or has changed.
    pub(in crate::drive) fn kustomization_declared(&mut self, declared: &Declared) {
        let name = &declared.resource.name;
        self.shared_sources.clear();
        let suspended = self.is_suspended(declared);
        let read = Kustomization::new(declared, &self.node);
        if !self.kustomizations.contains_key(name) {
            let inventory = match self.is_released(&declared.resource) {
                // What stands there is somebody else's now.
                true => Inventory::new(),
                false => self.inventory_in_status(declared),
            };
            self.kustomizations.insert(name.clone(), Box::new(KustomizationState::remembered(inventory)));
        }
        let applied = self
            .records
            .get(&declared.resource)
            .is_some_and(|record| record.status.text("/lastAppliedRevision").is_some());
        let others = self.role.after_others();
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let in_status = declared.status.pointer("/inventory/entries").is_some();
        state.search |= state.spec.is_none() && (others || (!applied && !in_status));
        state.suspended = suspended;
        state.digest = Some(declared.digest());
        if declared.deleting {
            state.deleted = true;
            if let Ok(spec) = read {
                state.spec = Some(Arc::new(spec));
                self.watch_values();
            }
            return match self.role.writes() {
                true => self.step(name, cycle::Event::Deleted),
                false => self.admit(name, Cause::Spec),
            };
        }
        match read {
            Ok(spec) => {
                state.spec = Some(Arc::new(spec));
                self.clear_stalled(name);
                self.live_stale = true;
                self.watch_values();
                self.admit(name, Cause::Spec);
            }
            Err(invalid) => self.kustomization_invalid(name, &invalid),
        }
    }

    /// The inventory that stands in an object's status, where our own store knows nothing of it: the store was lost, or
    /// Flux has applied it before. Each entry may or may not be in the cluster; the next run finds out.
    pub(super) fn inventory_in_status(&mut self, declared: &Declared) -> Inventory {
        let status = declared.status.value();
        let entries = status.pointer("/inventory/entries").and_then(Value::as_array);
        let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        let inventory: Inventory = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                Some((ObjectId::from_inventory_key(&text(entry, "id")?)?, Entry::planned(text(entry, "v")?)))
            })
            .collect();
        if !inventory.is_empty() {
            let name = &declared.resource.name;
            tracing::info!(kustomization = %name, objects = inventory.len(), "its inventory is taken from its status");
            self.shared.claims.borrow_mut().have(name, inventory.keys());
            let put = inventory.clone().into_iter().collect();
            self.batch.inventory.push(InventoryChange { owner: name.clone(), put, struck: Vec::new() });
        }
        inventory
    }

    fn kustomization_invalid(&mut self, name: &ResourceName, invalid: &Invalid) {
        self.step(name, cycle::Event::Held(Hold::Invalid(invalid.to_string())));
        if let Some(state) = self.kustomizations.get_mut(name) {
            state.spec = None;
        }
    }

    fn clear_stalled(&mut self, name: &ResourceName) {
        let resource = resource(name);
        self.set_status(&resource, |conditions, _, _| {
            // What was condemned stays so, whatever becomes of the spec.
            if conditions.get(condition_type::STALLED).is_some_and(|stalled| stalled.reason == reason::INVALID_SPEC) {
                conditions.remove(condition_type::STALLED);
            }
        });
    }

    /// A Kustomization's declaration is gone without its deletion having been asked for: a file that was taken away, a
    /// CRD that vanished. That is no order to delete anything.
    pub(in crate::drive) fn kustomization_vanished(&mut self, name: &ResourceName) {
        let state = self.kustomizations.remove(name);
        // A run that is under way may put its first objects into the cluster.
        let begins = state.as_ref().is_some_and(|state| state.cycle.stage() == Some(cycle::Stage::Applying));
        let course = state.as_ref().map(|state| state.course.clone()).unwrap_or_default();
        let ended = state.as_ref().is_some_and(|state| state.deleted);
        let aim = match state.as_ref().map(|state| &state.aim) {
            Some(Aim::Own) | None => Aim::Own,
            // Its objects are not to be looked for in the agent's own cluster.
            Some(_) => Aim::Nowhere(NoTarget::Undeclared),
        };
        let mut inventory = state.map(|state| state.inventory).unwrap_or_default();
        if ended && !self.role.writes() {
            // The agent that writes has dealt with its objects.
            let struck = std::mem::take(&mut inventory).keys().cloned().collect();
            self.batch.inventory.push(InventoryChange { owner: name.clone(), put: Vec::new(), struck });
        }
        self.watch_values();
        self.shared.claims.borrow_mut().want(name, []);
        let resource = resource(name);
        if inventory.is_empty() && !begins {
            self.batch.gone.push(resource.clone());
            self.records.remove(&resource);
            return;
        }
        let message =
            "its declaration is gone; its objects are left in the cluster as they are, and no longer looked after";
        tracing::warn!(kustomization = %name, "{message}");
        let remembered = KustomizationState { course, aim, ..KustomizationState::remembered(inventory) };
        self.kustomizations.insert(name.clone(), Box::new(remembered));
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| {
            conditions.set(
                condition_type::READY,
                ConditionStatus::False,
                reason::INVALID_SPEC,
                message,
                generation,
                now,
            );
        });
    }
}
