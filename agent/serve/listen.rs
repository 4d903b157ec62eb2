//! `--listen`: metrics, probes and webhooks at one address. Nothing of it runs unless it is asked for.
//!
//! | path | what |
//! |---|---|
//! | `/metrics` | OpenMetrics |
//! | `/healthz` | 200 while the loop turns; otherwise the process is of no use, and better killed |
//! | `/readyz` | 200 once the inputs were read and every source was loaded or asked for the first time |
//! | `/hook/DIGEST` | `POST`: the webhook of a Receiver |
//!
//! Whoever reaches the address sees names of objects and figures; no secret, no manifest. Every byte that comes in is
//! bounded: connections (in all and a peer), the head in size and time, the body in size and time, hooks a second.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::control::ServeError;
use super::hook::Hooks;
use super::metrics::{self, Metrics, Scraped};
use super::view::{self, AgentView};
use super::{Command, Live};
use crate::chain::chain;
use crate::config::receiver::HOOK_PATH;
use crate::store::Store;

/// Connections in all, and from one address.
const CONNECTIONS: usize = 64;
const CONNECTIONS_OF_A_PEER: usize = 32;

/// The head of a request, and the time that it may take to come.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_TIME: Duration = Duration::from_secs(10);

/// The body of a webhook, the time that it may take, and how many are read at once.
const BODY_BYTES: usize = 1 << 20;
const BODY_TIME: Duration = Duration::from_secs(10);
const BODIES: usize = 4;

/// A connection is closed after this, whatever goes on on it.
const CONNECTION_TIME: Duration = Duration::from_secs(300);

/// How long the loop may take to answer before it counts as stuck.
const LOOP_TIME: Duration = Duration::from_secs(10);

/// Hooks that one address may send at once, and a second.
const BURST: f64 = 30.0;
const RATE: f64 = 10.0;

/// Addresses whose rate is remembered.
const PEERS: usize = 1_024;

/// What it serves from.
#[derive(Clone)]
pub struct Served {
    /// The loop.
    pub commands: mpsc::Sender<Command>,
    /// The store.
    pub store: Store,
    /// The Receivers' hooks.
    pub hooks: Hooks,
    /// What is counted.
    pub metrics: Metrics,
    /// When the agent started.
    pub since: Timestamp,
}

/// A served address. Dropping it ends that.
pub struct Listener {
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    served: Served,
    bodies: Semaphore,
    /// Questions to the loop at once.
    questions: Semaphore,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// Tokens of one address.
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Serves at `address` until the answer is dropped.
pub async fn listen(address: SocketAddr, served: Served) -> Result<Listener, ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let bound = listener.local_addr().unwrap_or(address);
    tracing::info!(address = %bound, "metrics, probes and webhooks are served");
    let shared = Arc::new(Shared {
        served,
        bodies: Semaphore::new(BODIES),
        questions: Semaphore::new(BODIES),
        buckets: Mutex::default(),
        peers: Mutex::default(),
    });
    Ok(Listener { task: tokio::spawn(accept(listener, shared)) })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: some will come free.
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Some(seat) = Seat::take(&shared, peer.ip()) else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _held = (place, seat);
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, peer.ip(), request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION_TIME, connection).await {
                tracing::debug!(%peer, %error, "a connection broke off");
            }
        });
    }
}

/// A peer's place among its connections.
struct Seat {
    shared: Arc<Shared>,
    peer: IpAddr,
}

impl Seat {
    fn take(shared: &Arc<Shared>, peer: IpAddr) -> Option<Self> {
        let mut peers = shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = peers.entry(peer).or_default();
        if *taken >= CONNECTIONS_OF_A_PEER {
            return None;
        }
        *taken += 1;
        Some(Self { shared: shared.clone(), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut peers = self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = peers.get_mut(&self.peer) {
            *taken -= 1;
            if *taken == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

async fn answer(shared: &Shared, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        "/healthz" if reads => match shared.live().await {
            Some(_) => plain(StatusCode::OK, "ok\n"),
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n"),
        },
        "/readyz" if reads => match shared.live().await {
            Some(live) if live.starting.is_empty() => plain(StatusCode::OK, "ok\n"),
            Some(live) => plain(StatusCode::SERVICE_UNAVAILABLE, live.starting.join("\n") + "\n"),
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n"),
        },
        "/metrics" if reads => shared.metrics().await,
        _ if path.starts_with(HOOK_PATH) => shared.hook(peer, request).await,
        "/healthz" | "/readyz" | "/metrics" => plain(StatusCode::METHOD_NOT_ALLOWED, "GET\n"),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and the hooks of Receivers\n"),
    }
}

impl Shared {
    /// What the loop tells of itself; nothing where it does not answer.
    async fn live(&self) -> Option<Live> {
        timeout(LOOP_TIME, async {
            let _turn = self.questions.acquire().await.ok()?;
            let (reply, answer) = oneshot::channel();
            self.served.commands.send(Command::Live { reply }).await.ok()?;
            answer.await.ok()
        })
        .await
        .ok()?
    }

    async fn metrics(&self) -> Answer {
        let Some(live) = self.live().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n");
        };
        let agent = AgentView {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.served.since,
        };
        let store = &self.served.store;
        let api = live.api_requests.clone();
        let read = async {
            Ok::<_, crate::store::StoreError>((view::status(store, Some((agent, live))).await?, store.size().await?))
        };
        let (status, size) = match read.await {
            Ok(read) => read,
            Err(error) => return plain(StatusCode::SERVICE_UNAVAILABLE, chain(&error) + "\n"),
        };
        match self.served.metrics.render(&status, &Scraped { size, most: store.bounds().most, api }) {
            Ok(text) => {
                let mut answer = plain(StatusCode::OK, text);
                let type_ = header::HeaderValue::from_static(metrics::CONTENT_TYPE);
                answer.headers_mut().insert(header::CONTENT_TYPE, type_);
                answer
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    async fn hook(&self, peer: IpAddr, request: Request<Incoming>) -> Answer {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "POST\n");
        }
        if !self.may_knock(peer, Instant::now()) {
            let mut answer = plain(StatusCode::TOO_MANY_REQUESTS, "too many\n");
            answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            return answer;
        }
        let uri = request.uri();
        let Some(hook) = Some(uri.path()).filter(|_| uri.query().is_none()).and_then(|path| self.served.hooks.at(path))
        else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let count = |result| self.served.metrics.hook(&hook.receiver, result);
        if hook.closed {
            count("closed");
            return plain(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        let (head, body) = request.into_parts();
        let read = async {
            let _place = self.bodies.acquire().await.ok();
            Limited::new(body, BODY_BYTES).collect().await
        };
        let body = match timeout(BODY_TIME, read).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                count("too_large");
                return plain(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {BODY_BYTES} bytes\n"));
            }
            Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, ""),
            Err(_) => {
                count("too_slow");
                return plain(StatusCode::REQUEST_TIMEOUT, "");
            }
        };
        if let Err(why) = hook.check(&head.headers, &body) {
            tracing::warn!(receiver = %hook.receiver, %peer, %why, "a webhook is not heeded");
            count("refused");
            return plain(StatusCode::BAD_REQUEST, "");
        }
        let (reply, answer) = oneshot::channel();
        let order = Command::Hook { receiver: hook.receiver.clone(), reply };
        let asked = timeout(LOOP_TIME, async {
            self.served.commands.send(order).await.ok()?;
            answer.await.ok()
        });
        match asked.await.ok().flatten() {
            Some(Ok(())) => {
                count("heeded");
                plain(StatusCode::OK, "")
            }
            Some(Err(why)) => {
                tracing::warn!(receiver = %hook.receiver, %why, "a webhook could not be followed in all it asks for");
                count("failed");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
            None => plain(StatusCode::SERVICE_UNAVAILABLE, ""),
        }
    }

    /// Whether a peer has a token left, which is then gone.
    fn may_knock(&self, peer: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= PEERS && !buckets.contains_key(&peer) {
            let refilled = Duration::from_secs_f64(BURST / RATE);
            buckets.retain(|_, bucket| now.duration_since(bucket.at) < refilled);
            if buckets.len() >= PEERS {
                return false;
            }
        }
        let bucket = buckets.entry(peer).or_insert(Bucket { tokens: BURST, at: now });
        let since = now.duration_since(bucket.at).as_secs_f64();
        *bucket = Bucket { tokens: (bucket.tokens + since * RATE).min(BURST), at: now };
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }
}
