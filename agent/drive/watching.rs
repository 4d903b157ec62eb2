//! What the clusters are watched for, and what is made of what the watches see.

use std::collections::{BTreeSet, HashMap};

use wickie_model::{Gvk, ResourceName};
use wickie_plan::HealthRules;

use super::Drive;
use super::kustomizations::KustomizationState;
use super::noticed::Noticed;
use crate::cluster::Class;
use crate::cluster::watch::Seen;

impl Drive {
    /// The kinds to watch in each cluster: those of every inventory, whole where health is waited for.
    pub(super) fn watch_live(&mut self) {
        if !std::mem::take(&mut self.live_stale) {
            return;
        }
        for target in self.targets.all() {
            let is_for = |state: &KustomizationState| self.role.writes() && state.is_for(target.serial);
            let here: Vec<_> = self.kustomizations.iter().filter(|(_, state)| is_for(state)).collect();
            let mut live = target.live.borrow_mut();
            let mut wanted: HashMap<(&str, &str, &str), (&str, bool)> = HashMap::new();
            for (_, kustomization) in &here {
                let whole = kustomization.waits_for_all();
                for (id, entry) in &*kustomization.inventory {
                    let place = wanted.entry((&id.group, &id.kind, live.within(id))).or_insert((&entry.version, false));
                    place.1 |= whole || kustomization.checks(id);
                }
            }
            let owned = |((group, kind, within), (version, whole)): ((&str, &str, &str), (&str, bool))| {
                (((group.to_owned(), kind.to_owned()), within.to_owned()), (version.to_owned(), whole))
            };
            let wanted = wanted.into_iter().map(owned).collect();
            let judge = |name: &ResourceName, state: &KustomizationState| {
                state.spec().filter(|spec| spec.health_rules != HealthRules::default()).map(|spec| (name.clone(), spec))
            };
            let judges = here.into_iter().filter_map(|(name, state)| judge(name, state)).collect();
            live.watch(&wanted, judges);
        }
    }

    pub(super) fn live_seen(&mut self, serial: u64, gvk: &Gvk, namespace: String, mut seen: Seen<Option<Noticed>>) {
        // What a connection has still seen that is given up is of no use.
        let Some(target) = self.targets.by_serial(serial) else { return };
        target.reachable.borrow_mut().note(seen.blind(), gvk);
        if target.live.borrow().is_set_back(gvk, &namespace, &seen) {
            let which = target.words();
            return self.was_set_back(&which);
        }
        let forbidden = seen.blind().is_some_and(|error| error.class == Class::Forbidden);
        let again = matches!(seen, Seen::Again);
        // One name in memory for what has a name already.
        let claims = self.shared.claims.borrow();
        for noticed in seen.objects().iter_mut().flatten() {
            if let Some(id) = claims.known(&noticed.id) {
                noticed.id = id.clone();
            }
            if let Some((owner, _)) = self.kustomizations.get_key_value(&noticed.owner) {
                noticed.owner = owner.clone();
            }
        }
        drop(claims);
        let concerned = target.live.borrow_mut().take(gvk, namespace, seen);
        target.seen.notify_waiters();
        if forbidden {
            self.ask_for_unlisted(serial);
        }
        if again {
            self.look_again_at_health(serial);
        }
        let mut checked = BTreeSet::new();
        for (owner, object) in concerned {
            // An agent of that cluster may have a Kustomization of the same name.
            if !self.kustomizations.get(&owner).is_some_and(|state| state.is_for(serial)) {
                continue;
            }
            self.look_for_drift(&owner, object.as_ref());
            if checked.insert(owner.clone()) {
                self.look_at_health(&owner, object.as_ref());
            }
        }
    }

    /// A cluster is at an earlier state than it was: all that is in memory is of another, and the loop begins anew.
    pub(super) fn was_set_back(&mut self, which: &str) {
        if !std::mem::replace(&mut self.set_back, true) {
            tracing::warn!("{which} was set back, as by a restore from a backup: all in it is looked at anew");
        }
    }
}
