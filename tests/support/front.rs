//! The HTTP server that the bench's servers stand behind: it counts, it logs, and it fails on order.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::door::Door;
use crate::fault::{Fault, Hook, Rule, When};
use crate::shape;
use crate::tls::Authority;

/// A body of a request or an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;
/// What a [`Front`] hands to the server behind it.
pub(crate) type Served = hyper::Request<Body>;
/// What that server gives back; an error breaks the connection, as a server does that has died.
pub(crate) type Answer = Result<hyper::Response<Body>>;
type Handler = Arc<dyn Fn(Served) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// How much of a request's body the log keeps.
pub const BODY_START: usize = 64;

/// A request as it stands in the log.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counted from 0, in the order in which they came.
    pub number: usize,
    /// When its head had come.
    pub at: Instant,
    /// GET, POST, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark; empty if there is none.
    pub query: String,
    /// `User-Agent`, or empty.
    pub user_agent: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// `None` until it is answered, and for ever if it never is.
    pub status: Option<u16>,
    /// Bytes of body so far.
    pub request_bytes: u64,
    /// The first of them, at most [`BODY_START`].
    pub body_start: Vec<u8>,
    /// Bytes of the answer's body so far.
    pub response_bytes: u64,
    /// From the head to the end of the answer; `None` until then.
    pub took: Option<Duration>,
    /// The fault that struck it.
    pub fault: Option<Fault>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An HTTP server that counts, logs and fails on order. Ends when dropped.
pub struct Front {
    door: Door,
    ca: Option<String>,
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(crate) struct Shared {
    log: Mutex<Vec<Request>>,
    rules: Mutex<Vec<Rule>>,
    hooks: Mutex<Vec<Hook>>,
}

impl Front {
    /// Serves `handler` on a free port, with a certificate of `authority` if there is one.
    pub(crate) fn start<H, F>(name: &str, authority: Option<&Authority>, handler: H) -> Result<Self>
    where
        H: Fn(Served) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let tls = authority.map(Authority::server_config).transpose()?;
        Self::start_tls(name, tls, authority.map(Authority::pem), handler)
    }

    /// Serves `handler` on a free port, as `tls` says and `ca` vouches for.
    pub(crate) fn start_tls<H, F>(
        name: &str,
        tls: Option<Arc<ServerConfig>>,
        ca: Option<String>,
        handler: H,
    ) -> Result<Self>
    where
        H: Fn(Served) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let tls = tls.map(TlsAcceptor::from);
        let state = shared.clone();
        let door = Door::open(name, move |stream| connection(stream, tls.clone(), state.clone(), handler.clone()))?;
        Ok(Self { door, ca, shared })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.door.addr()
    }

    /// `http://127.0.0.1:port`, or `https://`.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.ca.is_some() { "https" } else { "http" }, self.addr())
    }

    /// The CA to trust, PEM, if it speaks TLS.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// Refuses connections from now on, and breaks those that are there.
    pub fn down(&self) {
        self.door.shut();
    }

    /// Takes connections again, on the same port.
    pub fn up(&self) {
        self.door.reopen();
    }

    /// Adds a fault. Of several that strike a request, the one added first does.
    pub fn inject(&self, rule: impl Into<Rule>) {
        lock(&self.shared.rules).push(rule.into());
    }

    /// Removes all faults and hooks, and is up again.
    pub fn heal(&self) {
        lock(&self.shared.rules).clear();
        lock(&self.shared.hooks).clear();
        self.up();
    }

    /// Does something at the `nth` request like these from now on, counted from 1. The action runs on the server's thread, which waits for it.
    pub fn at_request(
        &self,
        nth: usize,
        when: When,
        matches: impl Fn(&Request) -> bool + Send + 'static,
        action: impl FnOnce() + Send + 'static,
    ) {
        let hook =
            Hook { when, matches: Box::new(matches), skip: nth.saturating_sub(1), action: Some(Box::new(action)) };
        lock(&self.shared.hooks).push(hook);
    }

    /// The log so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.log).clone()
    }

    /// The part of the log that fits.
    pub fn requests_where(&self, fits: impl Fn(&Request) -> bool) -> Vec<Request> {
        lock(&self.shared.log).iter().filter(|request| fits(request)).cloned().collect()
    }

    /// How many requests fit.
    pub fn count(&self, fits: impl Fn(&Request) -> bool) -> usize {
        lock(&self.shared.log).iter().filter(|request| fits(request)).count()
    }

    /// Empties the log. Requests under way are no longer recorded.
    pub fn forget(&self) {
        lock(&self.shared.log).clear();
    }

    /// Bytes of all answers' bodies in the log.
    pub fn bytes_sent(&self) -> u64 {
        lock(&self.shared.log).iter().map(|request| request.response_bytes).sum()
    }

    /// Bytes of all requests' bodies in the log.
    pub fn bytes_received(&self) -> u64 {
        lock(&self.shared.log).iter().map(|request| request.request_bytes).sum()
    }
}

/// Writes to one entry of the log.
#[derive(Clone)]
pub(crate) struct Record {
    shared: Arc<Shared>,
    /// As it was when the request came.
    entry: Request,
}

impl Record {
    pub(crate) fn write(&self, change: impl FnOnce(&mut Request)) {
        // Not there, or another's, once the log was emptied.
        let mut log = lock(&self.shared.log);
        if let Some(entry) = log.get_mut(self.entry.number).filter(|entry| entry.at == self.entry.at) {
            change(entry);
        }
    }

    fn read(&self) -> Request {
        let mut now = self.entry.clone();
        self.write(|entry| now = entry.clone());
        now
    }

    pub(crate) fn end(&self) {
        self.write(|entry| entry.took = Some(entry.at.elapsed()));
    }
}

/// Serves one connection until its end.
async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>, handler: Handler) {
    let service = service_fn(move |request| answer(request, shared.clone(), handler.clone()));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.half_close(false);
    // What goes wrong on a connection is its client's to tell.
    let _ = match tls {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

/// One request: logged, struck or served, its answer shaped.
async fn answer(request: hyper::Request<Incoming>, shared: Arc<Shared>, handler: Handler) -> Answer {
    let record = enter(&request, &shared);
    let request = counted(request, &record).await?;
    let entry = record.read();
    run_hooks(&shared, When::Before, &entry);
    let fault = lock(&shared.rules).iter_mut().find_map(|rule| rule.strikes(&entry).then(|| rule.fault.clone()));
    record.write(|entry| entry.fault.clone_from(&fault));
    let response = match &fault {
        Some(Fault::Answer { status, retry_after, body }) => refusal(*status, *retry_after, body),
        Some(Fault::Redirect(to)) => redirect(to, &entry),
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Refuse) => anyhow::bail!("refused on order"),
        _ => handler(request).await,
    };
    run_hooks(&shared, When::After, &entry);
    if fault == Some(Fault::Lose) {
        anyhow::bail!("lost on order");
    }
    let response = response?;
    record.write(|entry| entry.status = Some(response.status().as_u16()));
    Ok(response.map(|body| shape::body(body, fault, record)))
}

fn enter(request: &hyper::Request<Incoming>, shared: &Arc<Shared>) -> Record {
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let mut log = lock(&shared.log);
    let mut entry = Request {
        number: log.len(),
        at: Instant::now(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        user_agent: String::new(),
        headers,
        status: None,
        request_bytes: 0,
        body_start: Vec::new(),
        response_bytes: 0,
        took: None,
        fault: None,
    };
    entry.user_agent = entry.header("user-agent").unwrap_or_default().to_owned();
    log.push(entry.clone());
    Record { shared: shared.clone(), entry }
}

fn run_hooks(shared: &Shared, when: When, entry: &Request) {
    // Outside the lock: an action may look at the front.
    let due: Vec<_> =
        lock(&shared.hooks).iter_mut().filter(|hook| hook.when == when).filter_map(|hook| hook.due(entry)).collect();
    for action in due {
        action();
    }
}

/// The request with its body counted. Waits for the first piece of the body: rules and hooks may look at it.
async fn counted(request: hyper::Request<Incoming>, record: &Record) -> Result<Served> {
    let (head, mut body) = request.into_parts();
    let first = if body.is_end_stream() { None } else { body.frame().await.transpose()? };
    if let Some(data) = first.as_ref().and_then(Frame::data_ref) {
        count(record, data);
    }
    let record = record.clone();
    let rest = BodyStream::new(body.map_err(anyhow::Error::from)).inspect_ok(move |frame| {
        if let Some(data) = frame.data_ref() {
            count(&record, data);
        }
    });
    let frames = stream::iter(first.map(Ok)).chain(rest);
    Ok(hyper::Request::from_parts(head, StreamBody::new(frames).boxed_unsync()))
}

fn count(record: &Record, data: &Bytes) {
    record.write(|entry| {
        entry.request_bytes += data.len() as u64;
        let room = BODY_START.saturating_sub(entry.body_start.len());
        entry.body_start.extend_from_slice(&data[..room.min(data.len())]);
    });
}

fn refusal(status: u16, retry_after: Option<u64>, body: &str) -> Answer {
    let mut response = hyper::Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    if body.starts_with('{') {
        response = response.header("content-type", "application/json");
    }
    Ok(response.body(text(body))?)
}

fn redirect(to: &str, entry: &Request) -> Answer {
    let query = if entry.query.is_empty() { String::new() } else { format!("?{}", entry.query) };
    let location = match to.strip_suffix("{path}") {
        Some(origin) => format!("{origin}{}{query}", entry.path),
        None => to.to_owned(),
    };
    Ok(hyper::Response::builder().status(307).header("location", location).body(text(""))?)
}

/// A body of text.
pub(crate) fn text(text: &str) -> Body {
    whole(text.as_bytes().to_vec())
}

/// A body of bytes that are there.
pub(crate) fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
