//! One request to the API server at a time: sent, bounded in time and size, its failure classified.
//!
//! Guarantee: while the server asks for a pause, nothing is sent, whoever wants to.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, ValidationDirective,
};
use kube::core::{Request as Requests, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wickie_model::ObjectId;

use super::counted::Counted;
use super::error::{ApiError, Class};
use super::events::Events;
use super::fence::Fence;
use super::kinds::{Kind, Kinds};
use super::remote::{KubeConfigError, Remote};
use super::throttle::Throttle;

/// Our field manager.
pub const MANAGER: &str = "wickie";

/// The longest that one request may take; a write that is later than this is given up.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read. An object is at most 3 MiB in etcd's default configuration; a list page holds 500.
pub(super) const MAX_ANSWER: usize = 64 << 20;

const IMPERSONATE: HeaderName = HeaderName::from_static("impersonate-user");

/// How many items a page of a list holds.
const PAGE: u32 = 500;

/// The API server of one cluster. Clones share connections and what is known of its kinds.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// For all that changes something, and until when it may.
    writer: Client,
    fence: Option<Fence>,
    kinds: Kinds,
    throttle: Arc<Throttle>,
    counted: Arc<Counted>,
    /// The user on whose behalf everything is asked for; our own account where it is not given.
    user: Option<HeaderValue>,
}

/// What became of an apply.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Whether the object was not there before.
    pub created: bool,
    /// The object as the server now has it.
    pub object: Value,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
struct Page<O> {
    #[serde(default)]
    metadata: PageMetadata,
    /// The API server writes `null` for a list of metadata that is empty.
    items: Option<Vec<O>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    more: String,
}

/// A list, and the version it was true at.
#[derive(Debug)]
pub struct Listed<R = Value> {
    /// The objects.
    pub items: Vec<R>,
    /// From here a watch goes on.
    pub resource_version: String,
}

/// The version of an object, as its server writes it: a write that names it is refused where there is another by then.
pub fn resource_version(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion")?.as_str()
}

impl Cluster {
    /// The API server that `client` speaks to.
    pub fn new(client: Client) -> Self {
        Self {
            writer: client.clone(),
            client,
            fence: None,
            kinds: Kinds::default(),
            throttle: Arc::default(),
            counted: Arc::default(),
            user: None,
        }
    }

    /// The same, with a client of its own for what changes something, which is sent only while `fence` is open.
    pub fn fenced(client: Client, writer: Client, fence: Fence) -> Self {
        Self { writer, fence: Some(fence), ..Self::new(client) }
    }

    /// The same server without the fence: for the Lease by which it is opened.
    pub fn unfenced(&self) -> Self {
        Self { writer: self.client.clone(), fence: None, ..self.clone() }
    }

    /// The API server of another cluster; what it is asked counts with the rest.
    ///
    /// # Errors
    /// As [`Remote::client`].
    pub fn beside(&self, remote: &Remote) -> Result<Self, KubeConfigError> {
        let there = match self.fence.clone() {
            Some(fence) => Self::fenced(remote.client()?, remote.fenced_client(Some(fence.clone()))?, fence),
            None => Self::new(remote.client()?),
        };
        Ok(Self { counted: self.counted.clone(), ..there })
    }

    /// The same server, asked on behalf of `user`, whose rights then count. Our own account must be allowed to
    /// impersonate it. The server itself adds the groups of a service account.
    ///
    /// Source: Kubernetes, "User impersonation".
    pub fn acting_for(&self, user: &str) -> Self {
        Self { user: HeaderValue::from_str(user).ok(), ..self.clone() }
    }

    /// On whose behalf everything is asked for, where it is not our own account.
    pub(super) fn user(&self) -> Option<&HeaderValue> {
        self.user.as_ref()
    }

    /// The client that writes, for what is sent elsewhere.
    pub fn writer(&self) -> &Client {
        &self.writer
    }

    /// How many requests were made since the start, to this server and those [`Self::beside`] it, by method and status;
    /// 0 where there was no answer.
    pub fn requests(&self) -> Vec<((String, u16), u64)> {
        self.counted.read()
    }

    /// What is known of the kinds that the server has.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// The path that serves `group`, `version` and `kind`.
    pub async fn kind(&self, gvk: &wickie_model::Gvk) -> Result<Kind, ApiError> {
        self.kinds.resolve(self, gvk).await
    }

    /// Applies `object` on the server's side. Without `force`, fields of other managers are a [`Class::Conflict`].
    pub async fn apply(&self, kind: &Kind, id: &ObjectId, object: &Value, force: bool) -> Result<Sent, ApiError> {
        let tried = format!("apply {id}");
        let mut params = PatchParams::apply(MANAGER);
        params.force = force;
        params.field_validation = Some(ValidationDirective::Strict);
        let request = Requests::new(kind.path(&id.namespace)).patch(&id.name, &params, &Patch::Apply(object));
        let (code, object) = self.send(tried, request).await?;
        Ok(Sent { created: code == StatusCode::CREATED, object })
    }

    /// What the server would make of an apply; nothing is changed.
    pub async fn apply_dry(&self, kind: &Kind, id: &ObjectId, object: &Value) -> Result<Value, ApiError> {
        let params = PatchParams { dry_run: true, force: true, ..PatchParams::apply(MANAGER) };
        let request = Requests::new(kind.path(&id.namespace)).patch(&id.name, &params, &Patch::Apply(object));
        Ok(self.send(format!("compare {id}"), request).await?.1)
    }

    /// Reads an object; nothing where it is not there.
    pub async fn get(&self, kind: &Kind, id: &ObjectId) -> Result<Option<Value>, ApiError> {
        let request = Requests::new(kind.path(&id.namespace)).get(&id.name, &GetParams::default());
        absent_as_none(self.send(format!("read {id}"), request).await)
    }

    /// Makes an object, or writes the whole of one as it is at `metadata.resourceVersion`. It is [`Class::Stale`] where it
    /// is there already, or has changed.
    pub async fn put(&self, kind: &Kind, id: &ObjectId, object: &Value) -> Result<Value, ApiError> {
        let requests = Requests::new(kind.path(&id.namespace));
        let data = object.to_string().into_bytes();
        let request = match object.pointer("/metadata/resourceVersion") {
            Some(_) => requests.replace(&id.name, &PostParams::default(), data),
            None => requests.create(&PostParams::default(), data),
        };
        Ok(self.send(format!("write {id}"), request).await?.1)
    }

    /// Asks for an object's deletion, and only of the very object `uid`; nothing where it is gone already.
    ///
    /// Its dependents are deleted in the background, as Flux does.
    pub async fn delete(&self, kind: &Kind, id: &ObjectId, uid: Option<&str>) -> Result<Option<Value>, ApiError> {
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let request = Requests::new(kind.path(&id.namespace)).delete(&id.name, &params);
        absent_as_none(self.send(format!("delete {id}"), request).await)
    }

    /// Merges `status` into an object's status subresource.
    pub async fn patch_status(&self, kind: &Kind, id: &ObjectId, status: &Value) -> Result<Value, ApiError> {
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = Requests::new(kind.path(&id.namespace)).patch_subresource("status", &id.name, &params, &patch);
        Ok(self.send(format!("write the status of {id}"), request).await?.1)
    }

    /// Merges `patch` into an object.
    pub async fn merge(&self, kind: &Kind, id: &ObjectId, patch: &Value) -> Result<Value, ApiError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = Requests::new(kind.path(&id.namespace)).patch(&id.name, &params, &Patch::Merge(patch));
        Ok(self.send(format!("change {id}"), request).await?.1)
    }

    /// Merges `patch` into an object as the field manager `manager`.
    pub async fn merge_as(&self, kind: &Kind, id: &ObjectId, patch: &Value, manager: &str) -> Result<Value, ApiError> {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        let request = Requests::new(kind.path(&id.namespace)).patch(&id.name, &params, &Patch::Merge(patch));
        Ok(self.send(format!("let go of {id}"), request).await?.1)
    }

    /// Lists the objects of a kind that `selection` selects, page by page; `metadata` alone where that is enough.
    pub async fn list(&self, kind: &Kind, selection: &ListParams, metadata: bool) -> Result<Listed, ApiError> {
        self.list_in("", kind, selection, metadata, std::convert::identity).await
    }

    /// The same, of one namespace, each object reduced by `read` before the next page is asked for.
    pub(super) async fn list_in<O: DeserializeOwned, R>(
        &self,
        namespace: &str,
        kind: &Kind,
        selection: &ListParams,
        metadata: bool,
        read: impl Fn(O) -> R,
    ) -> Result<Listed<R>, ApiError> {
        let requests = Requests::new(kind.path(namespace));
        let mut items = Vec::new();
        let mut params = selection.clone().limit(PAGE);
        loop {
            let request = if metadata { requests.list_metadata(&params) } else { requests.list(&params) };
            let tried = format!("list {}", kind.gvk().kind);
            let (_, page) = self.send::<Page<O>>(tried, request).await?;
            items.extend(page.items.into_iter().flatten().map(&read));
            if page.metadata.more.is_empty() {
                return Ok(Listed { items, resource_version: page.metadata.resource_version });
            }
            params.continue_token = Some(page.metadata.more);
        }
    }

    /// Asks for any path that is not an object's.
    pub async fn get_path(&self, path: &str) -> Result<Value, ApiError> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::core::request::Error::BuildRequest);
        Ok(self.send(format!("read {path}"), request).await?.1)
    }

    /// Opens a watch.
    pub(super) async fn watch(
        &self,
        tried: String,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Events, ApiError> {
        let mut request = request.map_err(|error| ApiError::other(tried.clone(), error))?;
        // From 1.37 on a server compresses each event by itself, which the client's decompression does not read.
        request.headers_mut().insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
        let answer = self.in_time(&tried, self.open(&tried, request)).await?;
        Ok(Events::new(tried, answer.into_body()))
    }

    /// Sends a request and reads its answer.
    async fn send<A: DeserializeOwned>(
        &self,
        tried: String,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(StatusCode, A), ApiError> {
        self.send_for_parts(tried, request).await.map(|(parts, value)| (parts.status, value))
    }

    /// The same, with the headers of the answer.
    pub(super) async fn send_for_parts<A: DeserializeOwned>(
        &self,
        tried: String,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(http::response::Parts, A), ApiError> {
        let request = request.map_err(|error| ApiError::other(tried.clone(), error))?;
        self.in_time(&tried, async {
            let (parts, body) = self.open(&tried, request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| ApiError::unreachable(tried.clone(), error))?.to_bytes();
            let value = serde_json::from_slice(&body).map_err(|error| ApiError::other(tried.clone(), error))?;
            Ok((parts, value))
        })
        .await
    }

    /// Waits until the server may be asked, and bounds what is asked in time.
    async fn in_time<T>(
        &self,
        tried: &str,
        exchange: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        self.throttle.pass().await;
        let answer = match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
                return Err(ApiError::unreachable(tried.to_owned(), why));
            }
        };
        if let Err(ApiError { class: Class::Busy(Some(asked)), .. }) = &answer {
            self.throttle.pause(*asked);
        }
        answer
    }

    /// Sends a request; its answer is a success, with the body still to come.
    async fn open(&self, tried: &str, request: Request<Vec<u8>>) -> Result<Response<Body>, ApiError> {
        let method = request.method().clone();
        let mut request = request;
        let changes = method != Method::GET && !request.uri().query().is_some_and(|query| query.contains("dryRun=All"));
        if changes && self.fence.as_ref().is_some_and(|fence| !fence.is_open()) {
            return Err(ApiError::fenced(tried.to_owned()));
        }
        let client = if changes { &self.writer } else { &self.client };
        if let Some(user) = &self.user {
            request.headers_mut().insert(IMPERSONATE, user.clone());
        }
        let answer = client.send(request.map(Body::from)).await;
        self.counted.count(method.as_str(), answer.as_ref().map_or(0, |answer| answer.status().as_u16()));
        let answer = answer.map_err(|error| ApiError::from_kube(tried.to_owned(), &error))?;
        let code = answer.status();
        if code.is_success() {
            return Ok(answer);
        }
        let retry_after =
            answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| ApiError::unreachable(tried.to_owned(), error))?.to_bytes();
        let status = serde_json::from_slice::<Status>(&body)
            .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&body[..body.len().min(200)]).trim(), ""));
        Err(ApiError::from_status(tried.to_owned(), code.as_u16(), &status, retry_after.map(Duration::from_secs)))
    }
}

/// An object that is not there is a value; everything else that went wrong is an error.
fn absent_as_none(answer: Result<(StatusCode, Value), ApiError>) -> Result<Option<Value>, ApiError> {
    match answer {
        Ok((_, object)) => Ok(Some(object)),
        Err(ApiError { class: Class::NotFound, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster without a CRD was taken for one whose CRDs cannot be seen, and asked again for ever.
    #[test]
    fn an_empty_list_may_be_null() {
        let page = r#"{"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"7"},"items":null}"#;
        let page: Page<Value> = serde_json::from_str(page).unwrap();
        assert_eq!((page.items, page.metadata.resource_version.as_str()), (None, "7"));
    }
}
