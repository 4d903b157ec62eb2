//! The end of a Kustomization: what becomes of its objects when it is deleted.

use std::rc::Rc;

use jiff::Timestamp;
use wickie_model::{ConditionStatus, Digest, Gvk, ObjectId, ResourceKind, ResourceName, Severity, condition_type};
use wickie_plan::cycle;
use wickie_plan::{DeletionPolicy, Extent, Mode, Policy};

use super::outcome::{Verdict, failure};
use super::{Reported, resource};
use crate::cluster::{ApiError, Cluster, Kind};
use crate::drive::records::Say;
use crate::drive::run::{BuildKey, Job, Report, Restored, RunError, Wanted};
use crate::drive::{Drive, Event};
use crate::store::Origin;

impl Drive {
    /// Deals with the objects of a deleted Kustomization, as its deletion policy says.
    pub(super) fn finalize(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let spec = state.spec.clone();
        let policy = spec.as_ref().map_or(DeletionPolicy::Orphan, |spec| spec.deletion_policy);
        let prune = match policy {
            DeletionPolicy::MirrorPrune => spec.as_ref().is_some_and(|spec| spec.prune),
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
            DeletionPolicy::Orphan => false,
        };
        let Some(spec) = spec.filter(|_| prune && !state.suspended) else {
            // Its objects stay; it is only forgotten who put them there.
            state.inventory = Rc::default();
            return self.step(name, cycle::Event::Finalized { done: true });
        };
        let revision = wickie_model::Revision::new(None, wickie_model::Oid::from_bytes([0; 20]));
        let none = Digest::of(b"");
        let nothing = Wanted::nothing(BuildKey::new(revision, none, none, none));
        let Some(target) = self.target_or_report(name, Reported::Final) else { return };
        let owner = name.clone();
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let job = Box::new(Job {
            shared: self.shared.clone(),
            target,
            kustomization: spec,
            wanted: Rc::new(nothing),
            policy: Policy {
                prune: true,
                prune_limit: None,
                // Whoever deletes the Kustomization has said so.
                prune_approved: true,
                undo: false,
                awaited: None,
                complete: true,
                force: false,
                mode: Mode::Enforce,
                extent: Extent::All,
            },
            inventory: state.inventory.clone(),
            search: false,
            restored: Restored::Read,
            versions: std::mem::take(&mut state.versions),
            rested: None,
        });
        let in_cluster = self.declared.get(&resource(name)).is_some_and(|declared| declared.origin == Origin::Cluster);
        // The Kustomizations' definition is in the agent's own cluster, wherever the objects are.
        let own = self.targets.own.words();
        self.answer(async move {
            let vanishing = match in_cluster {
                true => definition_is_going(&job.shared.cluster).await,
                false => Ok(false),
            };
            let untouched = || Report {
                inventory: job.inventory.clone(),
                target: job.target.serial,
                versions: job.versions.clone(),
                ..Report::default()
            };
            let reported = match vanishing {
                Ok(false) => Reported::Final(job.run().await),
                Ok(true) => Reported::Vanishing(untouched()),
                Err(error) => Reported::Final(Report { error: Some(RunError::Look { at: own, error }), ..untouched() }),
            };
            Event::Reported(owner, Box::new(reported))
        });
    }

    /// Says why the objects of a deleted Kustomization are still there.
    pub(super) fn say_unfinished(&mut self, name: &ResourceName) {
        let Some(state) = self.kustomizations.get_mut(name) else { return };
        let away = state.report.as_deref().is_some_and(Report::is_away);
        let was_away = std::mem::replace(&mut state.away, away);
        let Some(report) = &state.report else { return };
        let Verdict { reason, message } = failure(state, report);
        let message = format!("its objects cannot be deleted yet: {message}");
        let resource = resource(name);
        let before = self.records.get(&resource).map(|record| record.status.clone());
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| {
            conditions.set(condition_type::READY, ConditionStatus::False, reason, message.clone(), generation, now);
        });
        // An outage meets each try in another place, with other words.
        if self.records.get(&resource).map(|record| &record.status) != before.as_ref() && !(away && was_away) {
            self.say(&resource, Say { severity: Severity::Error, reason, message, revision: None });
        }
    }

    /// A deleted Kustomization is done with.
    pub(super) fn remove(&mut self, name: &ResourceName) {
        let resource = resource(name);
        self.kustomizations.remove(name);
        {
            let mut claims = self.shared.claims.borrow_mut();
            claims.want(name, []);
            claims.have(name, []);
            claims.place(name, None);
        }
        self.records.remove(&resource);
        self.batch.gone.push(resource.clone());
        self.forget_declared(&resource);
        if let Some(declared) = self.declared.remove(&resource).filter(|declared| declared.origin == Origin::Cluster) {
            self.drop_finalizer(&declared);
        }
        self.watch_values();
        self.live_stale = true;
    }
}

/// Whether the Kustomizations' CRD is being deleted, or is gone: its objects are deleted with it then.
async fn definition_is_going(cluster: &Cluster) -> Result<bool, ApiError> {
    let kind = ResourceKind::Kustomization;
    let definitions =
        Kind::new(Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"), "customresourcedefinitions", false);
    let id = ObjectId::new(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "",
        format!("{}.{}", kind.plural(), kind.group()),
    );
    let found = cluster.get(&definitions, &id).await?;
    Ok(found.is_none_or(|crd| crd.pointer("/metadata/deletionTimestamp").is_some()))
}
