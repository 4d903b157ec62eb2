//! What goes wrong on the wire, whatever the operation was.

use std::time::Duration;

use wickie_model::Oid;

use super::local::LocalError;

/// A server that could not be reached, or said something that it should not.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum WireError {
    #[error("the connection failed")]
    Connection(#[source] std::io::Error),
    #[error("the HTTP request failed")]
    Http(#[source] reqwest::Error),
    #[error("the server was silent, or slower than {slowest} bytes a second, for {} seconds", after.as_secs_f32())]
    Slow { slowest: u64, after: Duration },
    #[error("the server answered {status}{}", detail(said))]
    Status { status: u16, said: String, retry_after: Option<Duration> },
    #[error("the server refused the credentials with {status}{}", detail(said))]
    Unauthorized { status: u16, said: String },
    #[error(
        "the proxy refused the user name and password{}; check the Secret of spec.proxySecretRef, or the environment's proxy",
        detail(said)
    )]
    ProxyLogin { said: String },
    #[error("the proxy {address} did not connect: {why}")]
    Proxy { address: String, why: String },
    #[error("GitHub's API at {host} gave no token for the App: {what}")]
    App { host: String, what: String, status: Option<u16>, retry_after: Option<Duration> },
    #[error("the server redirects to {to}, another host; if that is meant, write it as the URL")]
    Redirect { to: String },
    #[error("the server does not speak Git's smart protocol there: {what}")]
    NotGit { what: String },
    #[error("the SSH connection failed")]
    Ssh(#[source] russh::Error),
    #[error("the server refused the SSH key {key} for the user {user:?}")]
    SshIdentity { user: String, key: String },
    #[error("the server shows the host key {key}, {what}")]
    HostKey { key: String, what: &'static str },
    #[error("the server would not run {command:?}{}", detail(said))]
    Command { command: String, said: String },
    #[error("the repository uses {format} object ids; only sha1 is supported")]
    ObjectFormat { format: String },
    #[error("the server reports: {0}")]
    Remote(String),
    #[error("the answer ended early")]
    Ended,
    #[error("a packet line is malformed: {0}")]
    PacketLine(String),
    #[error("the answer is not what the protocol allows: {0}")]
    Protocol(String),
    #[error("the pack is malformed: {0}")]
    Pack(String),
    #[error("the answer has more than {limit} {what}; the limit is there against endless data")]
    TooMuch { what: &'static str, limit: u64 },
    #[error("the repository on this node cannot be read")]
    Local(#[source] LocalError),
    #[error(
        "its fetch window or budget left {left} bytes for this, and no more may be asked of the network for now; what arrived is kept"
    )]
    Budget { left: u64 },
    #[error("an object was made to collide with another one: {0}")]
    Collision(String),
    #[error("the server did not send the object {0}, which it was asked for")]
    NotSent(Oid),
}

fn detail(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// What a server said, made fit to be shown: one line, no control characters, not endless.
pub(crate) fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]);
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}
