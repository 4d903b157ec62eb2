//! Who remembers what is released: the agent that runs on the data directory, or its store.

use wickie_model::{Resource, ResourceKind, ResourceName};

use super::How;
use crate::cli::{CliError, Settings};
use crate::config::KubeConfigRef;
use crate::serve::{Agent, AgentError, Released};
use crate::store::{Batch, InventoryChange, Lock, Store};

/// Who remembers what is released: the agent that runs, or its store.
pub(super) enum Hands {
    Agent(Agent),
    /// The store, and the lock that keeps an agent from starting meanwhile; no lock where nothing is written.
    Store(Store, #[expect(dead_code, reason = "held for its lock")] Option<Lock>),
    /// There is neither; the cluster alone is asked.
    Nobody,
}

impl Hands {
    pub(super) async fn of(settings: &Settings, how: &How) -> Result<Self, CliError> {
        let dir = &settings.data_dir;
        match Agent::connect(dir).await {
            Ok(agent) => Ok(Self::Agent(agent)),
            Err(AgentError::NotRunning { .. }) if dir.database().exists() => {
                if how.dry_run {
                    return Ok(Self::Store(Store::open_for_reading(dir).map_err(AgentError::Store)?, None));
                }
                let lock = dir.lock().map_err(AgentError::Store)?;
                let (store, _) = Store::open(dir, jiff::Timestamp::now()).map_err(AgentError::Store)?;
                Ok(Self::Store(store, Some(lock)))
            }
            Err(AgentError::NotRunning { .. }) if how.no_agent => Ok(Self::Nobody),
            Err(AgentError::NotRunning { dir }) => Err(CliError::Usage(format!(
                "no agent runs on {}, and none has: run this where the agent runs (kubectl exec, or --data-dir), or it would take everything back; where none runs anywhere, say --no-agent",
                dir.display()
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Marks what is released, so that nothing of it is done any more; gives what there is of it.
    pub(super) async fn begin(
        &self,
        names: Option<Vec<ResourceName>>,
        dry_run: bool,
    ) -> Result<Vec<Released>, CliError> {
        let store = match self {
            Self::Agent(agent) => return Ok(agent.release(names, dry_run).await??),
            Self::Nobody => return Ok(Vec::new()),
            Self::Store(store, _) => store,
        };
        let mut records = store.records().await.map_err(AgentError::Store)?;
        let mut inventories = store.inventories().await.map_err(AgentError::Store)?;
        let is_kustomization = |resource: &Resource| resource.kind == ResourceKind::Kustomization;
        records.retain(|record| match &names {
            Some(names) => is_kustomization(&record.resource) && names.contains(&record.resource.name),
            None => true,
        });
        if !dry_run {
            records.iter_mut().for_each(|record| record.released = true);
            store.commit(Batch { records: records.clone(), ..Batch::default() }).await.map_err(AgentError::Store)?;
        }
        let origins = records.into_iter().filter(|record| is_kustomization(&record.resource));
        let mut released: Vec<_> = origins
            .map(|record| Released {
                kube_config: KubeConfigRef::in_record(&record),
                name: record.resource.name,
                origin: Some(record.origin),
                objects: Vec::new(),
            })
            .collect();
        for one in &mut released {
            let inventory = inventories.remove(&one.name).unwrap_or_default();
            one.objects = inventory.into_iter().map(|(id, entry)| (id, entry.version)).collect();
        }
        Ok(released)
    }

    /// It is handed over: its inventory is not needed any more.
    pub(super) async fn end(&self, one: &Released) -> Result<(), CliError> {
        match self {
            Self::Agent(agent) => match agent.forget(&one.name).await? {
                Ok(()) => Ok(()),
                // It was found in the cluster alone: there is nothing to forget.
                Err(refused) => {
                    tracing::debug!(kustomization = %one.name, %refused, "it was not known");
                    Ok(())
                }
            },
            Self::Nobody => Ok(()),
            Self::Store(store, _) => {
                let struck = one.objects.iter().map(|(id, _)| id.clone()).collect();
                let inventory = vec![InventoryChange { owner: one.name.clone(), put: Vec::new(), struck }];
                let batch = Batch { inventory, ..Batch::default() };
                Ok(store.commit(batch).await.map_err(AgentError::Store)?)
            }
        }
    }
}
