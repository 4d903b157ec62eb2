//! The control socket: HTTP over a unix socket in the data directory, open to the agent's own user alone.
//!
//! Assumption: the caller holds the lock on the data directory; a socket that is still there then belongs to nobody.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use wickie_model::{Resource, ResourceKind, ResourceName, Severity};

use super::answer::Answer;
use super::view::{self, AgentView};
use super::{Against, Asked, Command, Live, Refused};
use crate::chain::chain;
use crate::store::{DataDir, EventFilter, Store, StoreError};

/// The paths of the socket.
pub(super) mod path {
    pub(in crate::serve) const VERSION: &str = "/v1/version";
    pub(in crate::serve) const STATUS: &str = "/v1/status";
    pub(in crate::serve) const HISTORY: &str = "/v1/history";
    pub(in crate::serve) const TREE: &str = "/v1/tree";
    pub(in crate::serve) const EVENTS: &str = "/v1/events";
    pub(in crate::serve) const RECONCILE: &str = "/v1/reconcile";
    pub(in crate::serve) const SUSPEND: &str = "/v1/suspend";
    pub(in crate::serve) const RESUME: &str = "/v1/resume";
    pub(in crate::serve) const ROLLBACK: &str = "/v1/rollback";
    pub(in crate::serve) const DIFF: &str = "/v1/diff";
    pub(in crate::serve) const RELEASE: &str = "/v1/release";
    pub(in crate::serve) const FORGET: &str = "/v1/forget";
}

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A path that the system has no room for.
    #[error(
        "the control socket {path} cannot be made; a socket's path may have 107 bytes: choose a shorter --data-dir"
    )]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address of `--listen` cannot be had.
    #[error("cannot listen at {address}; give --listen another address, or leave it out")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Its rights could not be set, or an old one not be taken away.
    #[error("the control socket {path} cannot be prepared")]
    Prepare {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A served socket. Dropping it takes the socket away.
pub struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // If it cannot be taken away, the next start does so.
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves the control socket until the answer is dropped. Orders go to `commands`.
pub fn serve(
    dir: &DataDir,
    store: Store,
    commands: mpsc::Sender<Command>,
    since: Timestamp,
) -> Result<Server, ServeError> {
    let path = dir.socket();
    let listener = listen(&path)?;
    let agent = AgentView { pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned(), since };
    let shared = Arc::new(Shared { store, commands, agent });
    let router = Router::new()
        .route(path::VERSION, get(|| async { Answer(env!("CARGO_PKG_VERSION")) }))
        .route(path::STATUS, get(status))
        .route(path::HISTORY, get(history))
        .route(path::TREE, get(tree))
        .route(path::EVENTS, get(events))
        .route(path::RECONCILE, post(reconcile))
        .route(path::SUSPEND, post(suspend))
        .route(path::RESUME, post(resume))
        .route(path::ROLLBACK, post(rollback))
        .route(path::DIFF, get(diff))
        .route(path::RELEASE, post(release))
        .route(path::FORGET, post(forget))
        .with_state(shared);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the control socket has ended");
        }
    });
    Ok(Server { path, task })
}

fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let prepare = |source| ServeError::Prepare { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(prepare(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|source| ServeError::Bind { path: path.to_owned(), source })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(prepare)?;
    Ok(listener)
}

struct Shared {
    store: Store,
    commands: mpsc::Sender<Command>,
    agent: AgentView,
}

impl Shared {
    /// Puts a question to the loop and waits for its answer.
    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Failed> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(order(reply)).await.map_err(|_| Failed::Stopping)?;
        answer.await.map_err(|_| Failed::Stopping)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the agent is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, chain(&self)).into_response()
    }
}

/// What goes wrong on the agent's side is a status; what it will not do is an answer.
type Answered<T> = Result<Answer<T>, Failed>;

/// Which object, and how.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    pub(super) resource: Resource,
    #[serde(default)]
    pub(super) with_source: bool,
    #[serde(default)]
    pub(super) wait: bool,
}

/// Which Kustomization is to follow what.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RollbackOrder {
    pub(crate) resource: Resource,
    /// The revision to put back; nothing, to follow the newest again.
    #[serde(default)]
    pub(crate) to: Option<String>,
    /// A signed permit.
    #[serde(default)]
    pub(crate) permit: Option<String>,
    #[serde(default)]
    pub(crate) wait: bool,
}

/// Which Kustomizations are let go of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReleaseOrder {
    /// Nothing, for all.
    #[serde(default)]
    pub(super) names: Option<Vec<ResourceName>>,
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// Which runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HistoryQuery {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) limit: usize,
}

/// Which events.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventsQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<ResourceKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) severity: Option<Severity>,
    pub(super) limit: usize,
}

async fn status(State(shared): State<Arc<Shared>>) -> Answered<view::Status> {
    let live: Live = shared.ask(|reply| Command::Live { reply }).await?;
    Ok(Answer(view::status(&shared.store, Some((shared.agent.clone(), live))).await?))
}

async fn tree(State(shared): State<Arc<Shared>>, Query(name): Query<ResourceName>) -> Answered<Option<super::Tree>> {
    let live: Live = shared.ask(|reply| Command::Live { reply }).await?;
    let status = view::status(&shared.store, Some((shared.agent.clone(), live))).await?;
    Ok(Answer(super::tree::tree(&name, &status, &shared.store.inventories().await?)))
}

async fn history(State(shared): State<Arc<Shared>>, Query(query): Query<HistoryQuery>) -> Answered<view::History> {
    let name = ResourceName::new(query.namespace, query.name);
    Ok(Answer(view::history(&shared.store, name, query.limit).await?))
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<EventsQuery>,
) -> Answered<Vec<wickie_model::Event>> {
    let EventsQuery { kind, namespace, name, severity, limit } = query;
    Ok(Answer(shared.store.events(EventFilter { kind, namespace, name, severity }, limit).await?))
}

async fn reconcile(State(shared): State<Arc<Shared>>, Json(order): Json<Order>) -> Answered<Asked<super::Outcome>> {
    let Order { resource, with_source, wait } = order;
    Ok(Answer(shared.ask(|reply| Command::Reconcile { resource, with_source, wait, reply }).await?))
}

async fn suspend(State(shared): State<Arc<Shared>>, Json(order): Json<Order>) -> Answered<Asked<super::Outcome>> {
    Ok(Answer(shared.ask(|reply| Command::Suspend { resource: order.resource, reply }).await?))
}

async fn resume(State(shared): State<Arc<Shared>>, Json(order): Json<Order>) -> Answered<Asked<super::Outcome>> {
    Ok(Answer(shared.ask(|reply| Command::Resume { resource: order.resource, wait: order.wait, reply }).await?))
}

async fn rollback(
    State(shared): State<Arc<Shared>>,
    Json(order): Json<RollbackOrder>,
) -> Answered<Asked<super::Outcome>> {
    let RollbackOrder { resource, to, permit, wait } = order;
    Ok(Answer(shared.ask(|reply| Command::Rollback { resource, to, permit, wait, reply }).await?))
}

async fn release(
    State(shared): State<Arc<Shared>>,
    Json(order): Json<ReleaseOrder>,
) -> Answered<Asked<Vec<super::Released>>> {
    let ReleaseOrder { names, dry_run } = order;
    Ok(Answer(shared.ask(|reply| Command::Release { names, dry_run, reply }).await?))
}

async fn forget(State(shared): State<Arc<Shared>>, Json(name): Json<ResourceName>) -> Answered<Asked<()>> {
    Ok(Answer(shared.ask(|reply| Command::Forget { name, reply }).await?))
}

/// The question of a diff.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiffQuery {
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<String>,
}

async fn diff(State(shared): State<Arc<Shared>>, Query(query): Query<DiffQuery>) -> Answered<Asked<String>> {
    let DiffQuery { namespace, name, path, revision } = query;
    let against = match (path, revision) {
        (None, None) => Against::Followed,
        (Some(path), None) => Against::Folder(path),
        (None, Some(revision)) => Against::Revision(revision),
        (Some(_), Some(_)) => {
            let message = "either a folder or a revision is compared with the cluster, not both".to_owned();
            return Ok(Answer(Err(Refused::Not { message })));
        }
    };
    let name = ResourceName::new(namespace, name);
    Ok(Answer(shared.ask(|reply| Command::Diff { name, against, reply }).await?))
}

#[cfg(test)]
mod tests {
    use wickie_model::Digest;

    use super::*;
    use crate::serve::{Agent, AgentError, Control, Outcome};
    use crate::store::{Batch, Origin, Record};

    fn shop() -> Resource {
        Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop"))
    }

    fn outcome() -> Outcome {
        let (reason, message) = ("ReconciliationSucceeded".to_owned(), "applied".to_owned());
        Outcome { done: true, severity: Severity::Info, reason, message, revision: None, waits: false, note: None }
    }

    /// A loop that knows one Kustomization.
    fn drive() -> mpsc::Sender<Command> {
        let (commands, mut queue) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                let answer = |resource: Resource| match resource == shop() {
                    true => Ok(outcome()),
                    false => Err(Refused::Unknown { resource, known: vec![shop().name] }),
                };
                match command {
                    Command::Reconcile { resource, reply, .. }
                    | Command::Suspend { resource, reply }
                    | Command::Resume { resource, reply, .. }
                    | Command::Rollback { resource, reply, .. } => drop(reply.send(answer(resource))),
                    Command::Diff { name, against, reply } => {
                        let from = match against {
                            Against::Followed => String::new(),
                            Against::Folder(path) => format!(" from {}", path.display()),
                            Against::Revision(revision) => format!(" at {revision}"),
                        };
                        drop(reply.send(Ok(format!("diff of {name}{from}"))));
                    }
                    Command::Release { reply, .. } => drop(reply.send(Ok(Vec::new()))),
                    Command::Forget { reply, .. } => drop(reply.send(Ok(()))),
                    Command::Live { reply } => drop(reply.send(Live::default())),
                    Command::Hook { reply, .. } => drop(reply.send(Ok(()))),
                }
            }
        });
        commands
    }

    async fn store(dir: &DataDir) -> Store {
        let store = Store::open(dir, Timestamp::UNIX_EPOCH).unwrap().0;
        let record = Record {
            resource: shop(),
            origin: Origin::File,
            spec: Digest::of(b""),
            generation: 1,
            suspended: false,
            released: false,
            status: Default::default(),
            seen: None,
        };
        store.commit(Batch { records: vec![record], ..Batch::default() }).await.unwrap();
        store
    }

    #[tokio::test]
    async fn orders_and_questions_reach_the_agent_and_come_back() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temporary.path());
        let _server = serve(&dir, store(&dir).await, drive(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fs::metadata(dir.socket()).unwrap().permissions().mode() & 0o777, 0o600);
        let agent = Agent::connect(&dir).await.unwrap();
        assert_eq!(agent.reconcile(shop(), true, true).await.unwrap(), Ok(outcome()));
        assert_eq!(agent.suspend(shop()).await.unwrap(), Ok(outcome()));
        let name = ResourceName::new("a b", "c&d");
        assert_eq!(agent.diff(name.clone(), Against::Followed).await.unwrap(), Ok("diff of a b/c&d".to_owned()));
        let from = agent.diff(name.clone(), Against::Folder("/x y/é&z".into())).await.unwrap();
        assert_eq!(from, Ok("diff of a b/c&d from /x y/é&z".to_owned()));
        let at = agent.diff(name, Against::Revision("main@sha1:2dd6&d".into())).await.unwrap();
        assert_eq!(at, Ok("diff of a b/c&d at main@sha1:2dd6&d".to_owned()));
        let till = Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "till"));
        let refused = agent.resume(till, false).await.unwrap().unwrap_err().to_string();
        assert_eq!(refused, "the agent has no Kustomization/flux-system/till; it has flux-system/shop");
        let status = Control::open(&dir).await.unwrap().status().await.unwrap();
        assert_eq!((status.agent.unwrap().pid, status.kustomizations.len()), (std::process::id(), 1));
    }

    #[tokio::test]
    async fn without_an_agent_the_same_is_read_from_what_it_has_written() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temporary.path());
        assert!(matches!(Control::open(&dir).await, Err(AgentError::NoData { .. })));
        let server = serve(&dir, store(&dir).await, drive(), Timestamp::UNIX_EPOCH).unwrap();
        drop(server);
        // An agent that was killed leaves its socket behind.
        drop(std::os::unix::net::UnixListener::bind(dir.socket()).unwrap());
        assert!(matches!(Agent::connect(&dir).await, Err(AgentError::NotRunning { .. })));
        let status = Control::open(&dir).await.unwrap().status().await.unwrap();
        assert_eq!((status.agent, status.kustomizations.len()), (None, 1));
        let _again = serve(&dir, store(&dir).await, drive(), Timestamp::UNIX_EPOCH).unwrap();
        Agent::connect(&dir).await.unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_stops_says_so() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temporary.path());
        let (commands, _) = mpsc::channel(1);
        let _server = serve(&dir, store(&dir).await, commands, Timestamp::UNIX_EPOCH).unwrap();
        let failed = Agent::connect(&dir).await.unwrap().suspend(shop()).await.unwrap_err();
        assert!(failed.to_string().ends_with("the agent is stopping"), "{failed}");
    }
}
