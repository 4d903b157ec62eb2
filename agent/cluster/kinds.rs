//! Which path serves a kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::HeaderValue;
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
///
/// Guarantee: who asks for the same version on behalf of the same user while an answer is under way waits for that one,
/// and shares its failure: a wave of objects of one kind asks once.
#[derive(Clone, Default)]
pub struct Kinds(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// By `group/version`.
    versions: HashMap<String, Arc<[Kind]>>,
    /// What is being asked, for whom. A question ends with the last of those who wait for it.
    asked: HashMap<(Option<HeaderValue>, String), WeakShared<Asking>>,
    /// How often something was forgotten: an answer to a question of before is not kept.
    forgotten: u64,
}

type Asking = BoxFuture<'static, Result<Arc<[Kind]>, ApiError>>;

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
        let mut known = self.locked();
        known.versions.retain(|version, _| !version.starts_with(&prefix));
        known.asked.clear();
        known.forgotten += 1;
    }

    pub(super) async fn resolve(&self, cluster: &Cluster, gvk: &Gvk) -> Result<Kind, ApiError> {
        let version = gvk.api_version();
        let find = |kinds: &[Kind]| kinds.iter().find(|kind| kind.gvk().kind == gvk.kind).cloned();
        if let Some(kind) = self.locked().versions.get(&version).and_then(|kinds| find(kinds)) {
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
    ) -> Result<Arc<[Kind]>, ApiError> {
        let version = Gvk { group: group.to_owned(), version: version.to_owned(), kind: String::new() };
        self.asked(cluster, version).await
    }

    /// The question that is under way, or a new one.
    fn asked(&self, cluster: &Cluster, version: Gvk) -> Shared<Asking> {
        let question = (cluster.user().cloned(), version.api_version());
        let mut known = self.locked();
        if let Some(asking) = known.asked.get(&question).and_then(WeakShared::upgrade) {
            return asking;
        }
        let asking = self.clone().ask(cluster.clone(), version, known.forgotten).boxed().shared();
        if let Some(weak) = asking.downgrade() {
            known.asked.insert(question, weak);
        }
        asking
    }

    async fn ask(self, cluster: Cluster, version: Gvk, forgotten: u64) -> Result<Arc<[Kind]>, ApiError> {
        let api_version = version.api_version();
        let answer = kinds_of(&cluster, version).await;
        let mut known = self.locked();
        if known.forgotten == forgotten {
            known.asked.remove(&(cluster.user().cloned(), api_version.clone()));
            if let Ok(kinds) = &answer {
                known.versions.insert(api_version, kinds.clone());
            }
        }
        answer
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Known> {
        // A map of plain values is whole at every moment, also after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn kinds_of(cluster: &Cluster, version: Gvk) -> Result<Arc<[Kind]>, ApiError> {
    let api_version = version.api_version();
    let root = if version.group.is_empty() { "/api" } else { "/apis" };
    let answer = cluster.get_path(&format!("{root}/{api_version}")).await?;
    let list =
        ResourceList::deserialize(&answer).map_err(|error| ApiError::other(format!("read {api_version}"), error))?;
    let served = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    let kinds = served.map(|resource| {
        let (kept, namespaced) = (resource.kept(), resource.namespaced);
        let gvk = Gvk { kind: resource.kind, ..version.clone() };
        Kind(Arc::new(Served { gvk, plural: resource.name, namespaced, kept }))
    });
    Ok(kinds.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;

    use super::*;

    /// A server that takes a moment, and how often it was asked.
    fn server(answers: impl Fn(usize) -> (u16, &'static str) + Clone + Send + 'static) -> (Cluster, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let server = tower::service_fn(move |_: Request<Body>| {
            let (status, body) = answers(count.fetch_add(1, Ordering::Relaxed));
            async move {
                tokio::task::yield_now().await;
                let answer = Response::builder().status(status).body(Body::from(body.as_bytes().to_vec()));
                Ok::<_, std::convert::Infallible>(answer.unwrap())
            }
        });
        (Cluster::new(Client::new(server, "default")), asked)
    }

    fn till() -> Gvk {
        Gvk::new("shop.example/v1", "Till")
    }

    const TILLS: &str = r#"{"resources": [{"name": "tills", "kind": "Till", "namespaced": true}]}"#;

    #[tokio::test]
    async fn those_who_ask_together_ask_once_and_share_a_failure() {
        let (cluster, asked) = server(|number| if number == 0 { (503, "{}") } else { (200, TILLS) });
        let (kinds, till) = (cluster.kinds(), till());
        let (one, other) = tokio::join!(kinds.resolve(&cluster, &till), kinds.resolve(&cluster, &till));
        assert_eq!(one.unwrap_err().why, other.unwrap_err().why);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let (one, other) = tokio::join!(kinds.resolve(&cluster, &till), kinds.resolve(&cluster, &till));
        assert_eq!((one.unwrap().plural(), other.unwrap().plural()), ("tills", "tills"));
        kinds.resolve(&cluster, &till).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2, "it is known from then on");
    }

    #[tokio::test]
    async fn who_gives_up_takes_nobody_with_him_and_another_s_rights_are_another_question() {
        let (cluster, asked) = server(|_| (200, TILLS));
        let (kinds, till, tenant) = (cluster.kinds(), till(), cluster.acting_for("tenant"));
        let mut first = Box::pin(kinds.resolve(&cluster, &till));
        let mut second = Box::pin(kinds.resolve(&cluster, &till));
        let mut third = Box::pin(kinds.resolve(&tenant, &till));
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        drop(first);
        second.await.unwrap();
        third.await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // One that nobody waits for any more keeps nobody waiting.
        kinds.forget("shop.example");
        let mut only = Box::pin(kinds.resolve(&cluster, &till));
        assert!(futures_util::poll!(&mut only).is_pending());
        drop(only);
        kinds.resolve(&cluster, &till).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_from_before_a_crd_was_applied_is_not_kept() {
        let (cluster, asked) = server(|number| if number == 0 { (200, r#"{"resources": []}"#) } else { (200, TILLS) });
        let (kinds, till) = (cluster.kinds(), till());
        let mut before = Box::pin(kinds.resolve(&cluster, &till));
        assert!(futures_util::poll!(&mut before).is_pending());
        kinds.forget("shop.example");
        let (after, before) = tokio::join!(kinds.resolve(&cluster, &till), before);
        assert_eq!(before.unwrap_err().class, Class::NoSuchKind);
        assert_eq!(after.unwrap().plural(), "tills");
        kinds.resolve(&cluster, &till).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
