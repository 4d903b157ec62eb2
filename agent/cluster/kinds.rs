//! Which path serves a kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use wickie_model::Gvk;

use super::Cluster;
use super::error::{ApiError, Class};

/// A kind that the API server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind(Arc<Served>);

#[derive(Debug, PartialEq, Eq)]
struct Served {
    gvk: Gvk,
    plural: String,
    namespaced: bool,
}

impl Kind {
    /// A kind whose path is known without asking.
    pub fn new(gvk: Gvk, plural: &str, namespaced: bool) -> Self {
        Self(Arc::new(Served { gvk, plural: plural.to_owned(), namespaced }))
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> &Gvk {
        &self.0.gvk
    }

    /// Whether its objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.0.namespaced
    }

    /// The path of the collection in `namespace`; of all namespaces where that is empty.
    pub(super) fn path(&self, namespace: &str) -> String {
        let Served { gvk, plural, namespaced } = &*self.0;
        let root = if gvk.group.is_empty() { "/api" } else { "/apis" };
        let scope =
            if *namespaced && !namespace.is_empty() { format!("/namespaces/{namespace}") } else { String::new() };
        format!("{root}/{}{scope}/{plural}", gvk.api_version())
    }
}

/// What has been found out of the server's kinds. A kind that was not served is asked for again: its CRD may have come.
#[derive(Clone, Default)]
pub struct Kinds(Arc<Mutex<HashMap<String, Vec<Kind>>>>);

#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
}

impl Kinds {
    /// Forgets what is known of a group's versions: a CRD of it was applied or has gone.
    pub fn forget(&self, group: &str) {
        let prefix = format!("{group}/");
        self.locked().retain(|version, _| !version.starts_with(&prefix));
    }

    pub(super) async fn resolve(&self, cluster: &Cluster, gvk: &Gvk) -> Result<Kind, ApiError> {
        let version = gvk.api_version();
        let find = |kinds: &[Kind]| kinds.iter().find(|kind| kind.gvk().kind == gvk.kind).cloned();
        if let Some(kind) = self.locked().get(&version).and_then(|kinds| find(kinds)) {
            return Ok(kind);
        }
        let root = if gvk.group.is_empty() { "/api" } else { "/apis" };
        let unknown = || ApiError {
            tried: format!("find out how {gvk} is served"),
            why: format!("the API server has no kind {:?} in {version}; is its CRD installed?", gvk.kind),
            class: Class::NoSuchKind,
        };
        let answer = match cluster.get_path(&format!("{root}/{version}")).await {
            Ok(answer) => answer,
            Err(ApiError { class: Class::NotFound | Class::NoSuchKind, .. }) => return Err(unknown()),
            Err(error) => return Err(error),
        };
        let list =
            ResourceList::deserialize(&answer).map_err(|error| ApiError::other(format!("read {version}"), error))?;
        let served = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
        let kinds: Vec<Kind> = served
            .map(|resource| {
                let gvk = Gvk { kind: resource.kind, ..gvk.clone() };
                Kind::new(gvk, &resource.name, resource.namespaced)
            })
            .collect();
        let found = find(&kinds);
        self.locked().insert(version.clone(), kinds);
        found.ok_or_else(unknown)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Kind>>> {
        // A map of plain values is whole at every moment, also after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
