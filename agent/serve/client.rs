//! The other end of the control socket, and what stands in for it where no agent runs.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use wickie_model::{Event, NameParts, Resource, ResourceName};

use super::control::{DiffQuery, EventsQuery, HistoryQuery, Order, ReleaseOrder, RollbackOrder, path};
use super::tree::{self, Tree};
use super::view::{self, History, Status};
use super::{Against, Asked, Outcome, Released};
use crate::store::{DataDir, EventFilter, Store, StoreError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody listens.
    #[error(
        "no agent is running on {dir}; start it with `wickie run`, or name another agent's directory with --data-dir"
    )]
    NotRunning {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is nothing to read.
    #[error("{dir} is not the data directory of an agent; name it with --data-dir, or start one with `wickie run`")]
    NoData {
        /// The data directory.
        dir: PathBuf,
    },
    /// The socket could not be used.
    #[error("the control socket {path} cannot be used; it is open to the user that runs the agent, and to root")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The talk broke off.
    #[error("the agent did not answer; its log says why")]
    Http(#[from] hyper::Error),
    /// It answered with a failure.
    #[error("the agent could not answer ({status}): {message}")]
    Failed {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// It answered something else.
    #[error(
        "the agent's answer cannot be read; it may be of another version than this command: compare `wickie version`"
    )]
    Answer(#[source] serde_json::Error),
    /// A question could not be put into words.
    #[error("the question cannot be put to the agent")]
    Question(#[source] serde_json::Error),
    /// Its store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A running agent.
pub struct Agent {
    socket: PathBuf,
}

/// What reading commands read from.
pub enum Control {
    /// The agent.
    Agent(Agent),
    /// Its store, as it left it.
    Store(Store),
}

impl Control {
    /// The agent of a data directory or, where none runs, what it has written there.
    pub async fn open(dir: &DataDir) -> Result<Self, AgentError> {
        match Agent::connect(dir).await {
            Ok(agent) => Ok(Self::Agent(agent)),
            Err(AgentError::NotRunning { dir: path }) if dir.database().exists() => {
                tracing::debug!(dir = %path.display(), "no agent is running; reading what it has written");
                Ok(Self::Store(Store::open_for_reading(dir)?))
            }
            Err(AgentError::NotRunning { dir }) => Err(AgentError::NoData { dir }),
            Err(error) => Err(error),
        }
    }

    /// How everything stands.
    pub async fn status(&self) -> Result<Status, AgentError> {
        match self {
            Self::Agent(agent) => agent.get(path::STATUS, &()).await,
            Self::Store(store) => Ok(view::status(store, None).await?),
        }
    }

    /// What a Kustomization has put into the cluster; nothing where there is no such Kustomization.
    pub async fn tree(&self, name: ResourceName) -> Result<Option<Tree>, AgentError> {
        match self {
            Self::Agent(agent) => agent.get(path::TREE, &name).await,
            Self::Store(store) => Ok(tree::tree(&name, &view::status(store, None).await?, &store.inventories().await?)),
        }
    }

    /// The newest revisions and runs of a Kustomization, newest first.
    pub async fn history(&self, name: ResourceName, limit: usize) -> Result<History, AgentError> {
        match self {
            Self::Agent(agent) => {
                let NameParts { namespace, name } = name.into();
                agent.get(path::HISTORY, &HistoryQuery { namespace, name, limit }).await
            }
            Self::Store(store) => Ok(view::history(store, name, limit).await?),
        }
    }

    /// The newest events that the filter admits, newest first.
    pub async fn events(&self, filter: EventFilter, limit: usize) -> Result<Vec<Event>, AgentError> {
        match self {
            Self::Agent(agent) => {
                let EventFilter { kind, namespace, name, severity } = filter;
                agent.get(path::EVENTS, &EventsQuery { kind, namespace, name, severity, limit }).await
            }
            Self::Store(store) => Ok(store.events(filter, limit).await?),
        }
    }
}

impl Agent {
    /// The agent of a data directory; [`AgentError::NotRunning`] where none listens.
    pub async fn connect(dir: &DataDir) -> Result<Self, AgentError> {
        let agent = Self { socket: dir.socket() };
        match agent.stream().await {
            Ok(_) => Ok(agent),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Err(AgentError::NotRunning { dir: dir.path().to_owned() })
            }
            Err(source) => Err(AgentError::Socket { path: agent.socket, source }),
        }
    }

    /// Has a resource reconciled now.
    pub async fn reconcile(
        &self,
        resource: Resource,
        with_source: bool,
        wait: bool,
    ) -> Result<Asked<Outcome>, AgentError> {
        self.post(path::RECONCILE, &Order { resource, with_source, wait }).await
    }

    /// Has a resource left alone.
    pub async fn suspend(&self, resource: Resource) -> Result<Asked<Outcome>, AgentError> {
        self.post(path::SUSPEND, &Order { resource, with_source: false, wait: false }).await
    }

    /// Has a resource taken up again.
    pub async fn resume(&self, resource: Resource, wait: bool) -> Result<Asked<Outcome>, AgentError> {
        self.post(path::RESUME, &Order { resource, with_source: false, wait }).await
    }

    /// Has an earlier revision put back, or the newest followed again.
    pub(crate) async fn rollback(&self, order: RollbackOrder) -> Result<Asked<Outcome>, AgentError> {
        self.post(path::ROLLBACK, &order).await
    }

    /// Has Kustomizations let go of, all where none are named; gives what is to be handed over.
    pub async fn release(
        &self,
        names: Option<Vec<ResourceName>>,
        dry_run: bool,
    ) -> Result<Asked<Vec<Released>>, AgentError> {
        self.post(path::RELEASE, &ReleaseOrder { names, dry_run }).await
    }

    /// Tells it that a Kustomization is handed over.
    pub async fn forget(&self, name: &ResourceName) -> Result<Asked<()>, AgentError> {
        self.post(path::FORGET, name).await
    }

    /// What a run of that would change now.
    pub async fn diff(&self, name: ResourceName, against: Against) -> Result<Asked<String>, AgentError> {
        let (path, revision) = match against {
            Against::Followed => (None, None),
            Against::Folder(path) => (Some(path), None),
            Against::Revision(revision) => (None, Some(revision)),
        };
        let NameParts { namespace, name } = name.into();
        let query = DiffQuery { namespace, name, path, revision };
        self.get(path::DIFF, &query).await
    }

    /// Its version.
    pub async fn version(&self) -> Result<String, AgentError> {
        self.get(path::VERSION, &()).await
    }

    async fn stream(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.socket).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, AgentError> {
        let uri = format!("{path}{}", query_string(query)?);
        self.send(Method::GET, &uri, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> Result<T, AgentError> {
        let body = serde_json::to_vec(order).map_err(AgentError::Question)?;
        self.send(Method::POST, path, body.into()).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, uri: &str, body: Bytes) -> Result<T, AgentError> {
        let socket = |source| AgentError::Socket { path: self.socket.clone(), source };
        let stream = self.stream().await.map_err(socket)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(hyper::header::HOST, "wickie")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| socket(io::Error::other(error)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(AgentError::Failed { status, message: String::from_utf8_lossy(&body).trim().to_owned() });
        }
        serde_json::from_slice(&body).map_err(AgentError::Answer)
    }
}

/// `?a=b&c=d` for the fields of a flat value.
fn query_string(query: &impl Serialize) -> Result<String, AgentError> {
    let value = serde_json::to_value(query).map_err(AgentError::Question)?;
    let mut pairs = url::form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
    for (key, value) in value.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(text) => pairs.append_pair(key, text),
            None => pairs.append_pair(key, &value.to_string()),
        };
    }
    Ok(pairs.finish())
}
