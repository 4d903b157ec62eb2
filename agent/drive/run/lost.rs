//! What a store that was lost, or a node that is new in its place, no longer knows: which objects a Kustomization has put
//! into the cluster.
//!
//! A Kustomization in the cluster has its inventory in its status; of one in a file, nothing but the objects' own labels
//! tells. All kinds are looked through for those, once for all Kustomizations that begin about the same time. A label alone
//! proves nothing, because controllers copy the labels of what they make things from: an object counts where we have
//! applied it ourselves, as its managed fields say. That an agent was here before is told by the copy of the trust floors;
//! without it nothing is looked for. Where Git has none of what was found, another agent's Kustomization of the same name
//! may have put it there, and it is left alone.
//!
//! In the same way is found what a cluster that was restored from a backup has again, although it had been deleted since.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wickie_model::{Entry, Gvk, Inventory, ObjectId, ObjectMap, ResourceName};
use wickie_plan::Desired;

use crate::cluster::{ApiError, Cluster, MANAGER, Search};
use crate::render::{OWNER_NAME, OWNER_NAMESPACE};

/// How long what was found answers for others too.
const FRESH: Duration = Duration::from_secs(60);

/// What was found in the cluster, by whose it is.
type Found = BTreeMap<ResourceName, Inventory>;

/// The search for what is no longer known.
pub(in crate::drive) struct Lost {
    last: Mutex<Option<(Instant, Rc<Found>)>>,
    by_namespace: bool,
}

impl Lost {
    /// With `by_namespace`, only the kinds and namespaces are looked through that Git has something of: our account may
    /// not list others.
    pub(in crate::drive) fn new(by_namespace: bool) -> Self {
        Self { last: Mutex::default(), by_namespace }
    }

    /// What `owner` has put into the cluster, as far as it may be seen. Each entry is one that was planned: whether it is
    /// as it should be is not known.
    pub(super) async fn of(
        &self,
        cluster: &Cluster,
        owner: &ResourceName,
        desired: &ObjectMap<Desired>,
    ) -> Result<Inventory, ApiError> {
        if self.by_namespace {
            let place = |(id, wanted): (&ObjectId, &Desired)| {
                let gvk = Gvk { group: id.group.clone(), version: wanted.version.clone(), kind: id.kind.clone() };
                (gvk, id.namespace.clone())
            };
            let places = desired.iter().map(place).collect();
            let mut found = sorted(cluster.search_in(OWNER_NAME, places).await?);
            return Ok(found.remove(owner).unwrap_or_default());
        }
        let mut last = self.last.lock().await;
        let found = match &*last {
            Some((at, found)) if at.elapsed() < FRESH => found.clone(),
            _ => {
                let found = Rc::new(sorted(cluster.search(OWNER_NAME).await?));
                *last = Some((Instant::now(), found.clone()));
                found
            }
        };
        Ok(found.get(owner).cloned().unwrap_or_default())
    }
}

/// What is ours of what was found, by owner.
fn sorted(searched: Search) -> Found {
    for error in searched.missed {
        tracing::debug!(%error, "not looked through for what may be ours");
    }
    let mut found = Found::new();
    for (gvk, object) in searched.found {
        if let Some((owner, id)) = ours(&gvk, &object) {
            found.entry(owner).or_default().insert(id, Entry::planned(gvk.version));
        }
    }
    found
}

/// Whose an object is, where we have applied it.
fn ours(gvk: &Gvk, object: &Value) -> Option<(ResourceName, ObjectId)> {
    let metadata = object.get("metadata")?;
    let managers = metadata.get("managedFields").and_then(Value::as_array)?;
    if !managers.iter().any(|entry| entry["manager"] == MANAGER && entry["operation"] == "Apply") {
        return None;
    }
    let label = |name: &str| metadata["labels"].get(name).and_then(Value::as_str);
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let owner = ResourceName::new(label(OWNER_NAMESPACE)?, label(OWNER_NAME)?);
    let id = ObjectId::new(gvk.group.clone(), gvk.kind.clone(), text("namespace"), text("name"));
    Some((owner, id))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copied_label_makes_nothing_ours() {
        let gvk = Gvk::new("v1", "Service");
        let object = |manager: &str, operation: &str| {
            json!({"metadata": {
                "name": "till", "namespace": "shop",
                "labels": {OWNER_NAME: "apps", OWNER_NAMESPACE: "flux-system"},
                "managedFields": [{"manager": manager, "operation": operation}]
            }})
        };
        let (owner, id) = ours(&gvk, &object(MANAGER, "Apply")).unwrap();
        assert_eq!((owner, id.to_string()), (ResourceName::new("flux-system", "apps"), "Service/shop/till".to_owned()));
        assert_eq!(ours(&gvk, &object("kube-controller-manager", "Update")), None);
        assert_eq!(ours(&gvk, &object(MANAGER, "Update")), None);
        assert_eq!(ours(&gvk, &json!({"metadata": {"labels": {OWNER_NAME: "apps"}}})), None);
    }
}
