//! Table `inventory`: what each Kustomization has put into the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Row, Transaction, params};
use wickie_model::{Digest, Entry, EntryState, Fingerprint, Inventory, ObjectId, ObjectParts, ResourceName};

use super::{Store, StoreError};

/// What changes in one inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct InventoryChange {
    /// The Kustomization.
    pub owner: ResourceName,
    /// Entries as they now are.
    pub put: Vec<(ObjectId, Entry)>,
    /// Objects that leave it: the API server has confirmed that they are gone, or they are somebody else's now.
    pub struck: Vec<ObjectId>,
}

impl Store {
    /// Every inventory there is.
    pub async fn inventories(&self) -> Result<BTreeMap<ResourceName, Inventory>, StoreError> {
        self.call(|connection| {
            let failed = || StoreError::sql("read the inventories");
            let mut statement = connection
                .prepare_cached(
                    "SELECT owner_namespace, owner_name, api_group, kind, namespace, name,
                            version, state, manifest, uid, metadata, fields, live_values, seen_at FROM inventory",
                )
                .map_err(failed())?;
            let mut rows = statement.query([]).map_err(failed())?;
            let mut inventories: BTreeMap<ResourceName, Vec<_>> = BTreeMap::new();
            while let Some(row) = rows.next().map_err(failed())? {
                let (owner, id, entry) = read(row).map_err(failed())?;
                inventories.entry(owner).or_default().push((id, entry));
            }
            Ok(inventories.into_iter().map(|(owner, entries)| (owner, entries.into_iter().collect())).collect())
        })
        .await
    }

    /// How many objects each inventory has.
    pub async fn inventory_sizes(&self) -> Result<BTreeMap<ResourceName, u64>, StoreError> {
        self.call(|connection| {
            connection
                .prepare_cached(
                    "SELECT owner_namespace, owner_name, count(*) FROM inventory GROUP BY owner_namespace, owner_name",
                )
                .and_then(|mut statement| {
                    let read = |row: &Row<'_>| {
                        let owner = ResourceName::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
                        Ok((owner, row.get::<_, i64>(2)?.unsigned_abs()))
                    };
                    statement.query_map([], read)?.collect()
                })
                .map_err(StoreError::sql("count the inventories"))
        })
        .await
    }
}

pub(super) fn change(transaction: &Transaction<'_>, change: &InventoryChange) -> Result<(), StoreError> {
    let owner = &change.owner;
    let mut put = transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO inventory (owner_namespace, owner_name, api_group, kind, namespace, name,
                 version, state, manifest, uid, metadata, fields, live_values, seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .map_err(StoreError::sql("write an inventory"))?;
    for (id, entry) in &change.put {
        let seen = entry.fingerprint.as_ref();
        put.execute(params![
            owner.namespace,
            owner.name,
            id.group,
            id.kind,
            id.namespace,
            id.name,
            entry.version,
            state_text(entry.state),
            entry.manifest.as_ref().map(Digest::as_bytes),
            seen.map(|seen| &seen.uid),
            seen.map(|seen| seen.metadata.as_bytes()),
            seen.map(|seen| seen.fields.as_bytes()),
            seen.map(|seen| seen.values.as_bytes()),
            seen.map(|seen| seen.version.cast_signed()),
        ])
        .map_err(StoreError::sql("write an inventory"))?;
    }
    let mut strike = transaction
        .prepare_cached(
            "DELETE FROM inventory WHERE owner_namespace = ?1 AND owner_name = ?2
                 AND api_group = ?3 AND kind = ?4 AND namespace = ?5 AND name = ?6",
        )
        .map_err(StoreError::sql("strike from an inventory"))?;
    for id in &change.struck {
        strike
            .execute(params![owner.namespace, owner.name, id.group, id.kind, id.namespace, id.name])
            .map_err(StoreError::sql("strike from an inventory"))?;
    }
    Ok(())
}

pub(super) fn remove(transaction: &Transaction<'_>, owner: &ResourceName) -> Result<(), StoreError> {
    transaction
        .execute(
            "DELETE FROM inventory WHERE owner_namespace = ?1 AND owner_name = ?2",
            params![owner.namespace, owner.name],
        )
        .map_err(StoreError::sql("remove an inventory"))?;
    Ok(())
}

fn state_text(state: EntryState) -> &'static str {
    match state {
        EntryState::Planned => "planned",
        EntryState::Applied => "applied",
        EntryState::Deleting => "deleting",
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<(ResourceName, ObjectId, Entry)> {
    let owner = ResourceName::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
    let id = ObjectId::from(ObjectParts {
        group: row.get(2)?,
        kind: row.get(3)?,
        namespace: row.get(4)?,
        name: row.get(5)?,
    });
    let state = match row.get_ref(7)?.as_str()? {
        "applied" => EntryState::Applied,
        "deleting" => EntryState::Deleting,
        // Whatever else stands there may or may not be in the cluster: the careful reading.
        _ => EntryState::Planned,
    };
    let digest = |index| row.get::<_, Option<[u8; 32]>>(index).map(|bytes| bytes.map(Digest::from_bytes));
    let fingerprint = match (row.get(9)?, digest(10)?, digest(11)?, digest(12)?) {
        (Some(uid), Some(metadata), Some(fields), Some(values)) => {
            // What an earlier release has written tells no version: then none is earlier.
            let version = row.get::<_, Option<i64>>(13)?.unwrap_or(0).cast_unsigned();
            Some(Arc::new(Fingerprint { uid, version, metadata, fields, values }))
        }
        _ => None,
    };
    Ok((owner, id, Entry { version: row.get(6)?, state, manifest: digest(8)?, fingerprint }))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::{Batch, DataDir};

    #[tokio::test]
    async fn entries_come_back_as_they_were_put_and_go_when_struck() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&DataDir::new(dir.path()), Timestamp::UNIX_EPOCH).unwrap();
        let owner = ResourceName::new("flux-system", "shop");
        let id = |name: &str| ObjectId::new("apps", "Deployment", "shop", name);
        let digest = Digest::of(b"x");
        let applied = Entry {
            version: "v1".into(),
            state: EntryState::Applied,
            manifest: Some(digest),
            fingerprint: Some(Arc::new(Fingerprint {
                uid: "u".into(),
                version: u64::MAX,
                metadata: digest,
                fields: digest,
                values: digest,
            })),
        };
        let put = vec![(id("till"), applied.clone()), (id("scale"), Entry::planned("v1"))];
        let batch = |put, struck| Batch {
            inventory: vec![InventoryChange { owner: owner.clone(), put, struck }],
            ..Batch::default()
        };
        store.commit(batch(put.clone(), vec![])).await.unwrap();
        assert_eq!(store.inventories().await.unwrap()[&owner], put.into_iter().collect());
        assert_eq!(store.inventory_sizes().await.unwrap(), [(owner.clone(), 2)].into());
        store.commit(batch(vec![], vec![id("scale")])).await.unwrap();
        assert_eq!(store.inventories().await.unwrap()[&owner], Inventory::from_iter([(id("till"), applied)]));
    }
}
