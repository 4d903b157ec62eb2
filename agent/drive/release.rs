//! `wickie release`: the agent lets go of Kustomizations, for good until somebody resumes them.
//!
//! What is let go of is marked first, in the store; a run that is under way ends, and from then on nothing of it is
//! written to the cluster, over restarts, too. Only then is it told what there is to hand over, which is done by whoever
//! asked; the inventory stays until that is over, so that it can be gone on with after a crash.

use tokio::sync::oneshot;
use wickie_model::{Resource, ResourceKind, ResourceName};
use wickie_plan::cycle::Cause;

use super::Drive;
use crate::config::KubeConfigRef;
use crate::serve::{Asked, Refused, Released};
use crate::store::InventoryChange;

/// Somebody who waits until work on these has ended.
pub(super) struct Releasing {
    names: Vec<ResourceName>,
    reply: oneshot::Sender<Asked<Vec<Released>>>,
}

impl Drive {
    /// Lets go of these Kustomizations, or of everything; only says what that would be where `dry_run`.
    pub(super) fn order_release(
        &mut self,
        names: Option<Vec<ResourceName>>,
        dry_run: bool,
        reply: oneshot::Sender<Asked<Vec<Released>>>,
    ) {
        let all = names.is_none();
        let names = names.unwrap_or_else(|| self.kustomizations.keys().cloned().collect());
        for name in &names {
            let resource = kustomization(name);
            let unknown = !self.kustomizations.contains_key(name);
            if let Err(refused) = self.known(&resource)
                && unknown
            {
                return drop(reply.send(Err(refused)));
            }
            if self.kustomizations.get(name).is_some_and(|state| state.is_ending()) {
                let message =
                    format!("{resource} is being deleted; wait for its end, or set spec.deletionPolicy to Orphan");
                return drop(reply.send(Err(Refused::Not { message })));
            }
        }
        if dry_run {
            return drop(reply.send(Ok(self.released(&names))));
        }
        let mut marked: Vec<Resource> = names.iter().map(kustomization).collect();
        if all {
            marked.extend(self.records.keys().filter(|known| known.kind != ResourceKind::Kustomization).cloned());
        }
        for resource in marked {
            let Some(record) = self.records.get_mut(&resource) else { continue };
            record.released = true;
            self.batch.records.push(record.clone());
            self.unpublish(&resource);
            let declared = self.declared.get(&resource).cloned();
            match (resource.kind, declared) {
                (ResourceKind::Kustomization, _) => {
                    self.let_go(&resource.name);
                    self.admit(&resource.name, Cause::Request);
                }
                (ResourceKind::GitRepository, Some(declared)) => self.source_declared(&declared),
                (ResourceKind::Provider, Some(declared)) => self.provider_declared(&declared),
                (ResourceKind::Receiver, Some(declared)) => self.receiver_declared(&declared),
                _ => {}
            }
        }
        tracing::info!(?names, "it is handed back, and left alone from now on");
        self.releasing.push(Releasing { names, reply });
    }

    /// Tells whoever waits that nothing is under way any more. The mark is written by now.
    pub(super) fn answer_releasing(&mut self) {
        let written = self.batch.is_empty();
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.releasing)
            .into_iter()
            .partition(|order| written && !order.names.iter().any(|name| self.is_at_work(name)));
        self.releasing = waiting;
        for Releasing { names, reply } in done {
            let _ = reply.send(Ok(self.released(&names)));
        }
    }

    fn is_at_work(&self, name: &ResourceName) -> bool {
        let busy = self.kustomizations.get(name).is_some_and(|state| state.cycle().is_busy());
        busy || self.is_publishing(&kustomization(name))
    }

    fn released(&self, names: &[ResourceName]) -> Vec<Released> {
        let of = |name: &ResourceName| {
            let resource = kustomization(name);
            let record = self.records.get(&resource);
            let inventory = self.kustomizations.get(name).map(|state| &*state.inventory);
            let objects = inventory.into_iter().flatten().map(|(id, entry)| (id.clone(), entry.version.clone()));
            Released {
                name: name.clone(),
                origin: record.map(|record| record.origin),
                kube_config: record.and_then(KubeConfigRef::in_record),
                objects: objects.collect(),
            }
        };
        names.iter().map(of).collect()
    }

    /// It is handed over: nothing in the cluster is its any more.
    pub(super) fn order_forget(&mut self, name: &ResourceName, reply: oneshot::Sender<Asked<()>>) {
        let resource = kustomization(name);
        if !self.records.get(&resource).is_some_and(|record| record.released) {
            let message = format!("{resource} was not released");
            return drop(reply.send(Err(Refused::Not { message })));
        }
        if let Some(state) = self.kustomizations.get_mut(name) {
            let struck: Vec<_> = std::mem::take(&mut state.inventory).keys().cloned().collect();
            self.batch.inventory.push(InventoryChange { owner: name.clone(), put: Vec::new(), struck });
        }
        {
            let mut claims = self.shared.claims.borrow_mut();
            claims.want(name, []);
            claims.have(name, []);
        }
        self.live_stale = true;
        self.forgotten.push(reply);
    }

    /// Tells whoever waits for that to be written.
    pub(super) fn answer_forgotten(&mut self) {
        if self.batch.is_empty() {
            self.forgotten.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
        }
    }
}

fn kustomization(name: &ResourceName) -> Resource {
    Resource::new(ResourceKind::Kustomization, name.clone())
}
