//! Which path serves a kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use wickie_model::{Gvk, ObjectId, Resource, ResourceKind};

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
    /// Whether its objects can be listed and deleted: a review or a binding is only ever made.
    kept: bool,
}

impl Kind {
    /// A kind whose path is known without asking.
    pub fn new(gvk: Gvk, plural: &str, namespaced: bool) -> Self {
        Self(Arc::new(Served { gvk, plural: plural.to_owned(), namespaced, kept: true }))
    }

    /// One of our own kinds, as its CRD serves it.
    pub fn ours(kind: ResourceKind) -> Self {
        let gvk = Gvk { group: kind.group().to_owned(), version: kind.version().to_owned(), kind: kind.to_string() };
        Self::new(gvk, kind.plural(), true)
    }

    /// Where an object of one of our own kinds is served.
    pub fn place(resource: &Resource) -> (Self, ObjectId) {
        let kind = Self::ours(resource.kind);
        let id = ObjectId::new(
            kind.gvk().group.clone(),
            kind.gvk().kind.clone(),
            resource.name.namespace.clone(),
            resource.name.name.clone(),
        );
        (kind, id)
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> &Gvk {
        &self.0.gvk
    }

    /// Its name in the API's paths.
    pub fn plural(&self) -> &str {
        &self.0.plural
    }

    /// Whether its objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.0.namespaced
    }

    /// Whether its objects can be listed and deleted.
    pub(super) fn is_kept(&self) -> bool {
        self.0.kept
    }

    /// The path of the collection in `namespace`; of all namespaces where that is empty.
    pub(super) fn path(&self, namespace: &str) -> String {
        let Served { gvk, plural, namespaced, .. } = &*self.0;
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
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

impl ApiResource {
    fn kept(&self) -> bool {
        ["list", "delete"].iter().all(|verb| self.verbs.iter().any(|known| known == verb))
    }
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
        let unknown = || ApiError {
            tried: format!("find out how {gvk} is served"),
            why: format!("the API server has no kind {:?} in {version}; is its CRD installed?", gvk.kind),
            class: Class::NoSuchKind,
        };
        let kinds = match self.of_version(cluster, &gvk.group, &gvk.version).await {
            Ok(kinds) => kinds,
            Err(ApiError { class: Class::NotFound | Class::NoSuchKind, .. }) => return Err(unknown()),
            Err(error) => return Err(error),
        };
        find(&kinds).ok_or_else(unknown)
    }

    /// Every kind of one version of a group, as the server says now.
    pub(super) async fn of_version(
        &self,
        cluster: &Cluster,
        group: &str,
        version: &str,
    ) -> Result<Vec<Kind>, ApiError> {
        let of = |kind: String| Gvk { group: group.to_owned(), version: version.to_owned(), kind };
        let api_version = of(String::new()).api_version();
        let root = if group.is_empty() { "/api" } else { "/apis" };
        let answer = cluster.get_path(&format!("{root}/{api_version}")).await?;
        let list = ResourceList::deserialize(&answer)
            .map_err(|error| ApiError::other(format!("read {api_version}"), error))?;
        let served = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
        let kinds: Vec<Kind> = served
            .map(|resource| {
                let (kept, namespaced) = (resource.kept(), resource.namespaced);
                let gvk = of(resource.kind);
                Kind(Arc::new(Served { gvk, plural: resource.name, namespaced, kept }))
            })
            .collect();
        self.locked().insert(api_version, kinds.clone());
        Ok(kinds)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Kind>>> {
        // A map of plain values is whole at every moment, also after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
