//! One operation's conversation with a server.
//!
//! What the server can do is remembered over operations and restarts, so that a poll is a single request. If the server
//! does not understand what it once did, the handshake is made again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::body::Meter;
use super::client::Clients;
use super::pktline::PacketReader;
use super::protocol::{self, Capabilities, FetchRequest, PackStream, Ref, Version};
use super::transport::{Transport, TransportError};
use super::wire::WireError;
use crate::config::git::GitSource;

/// What is remembered of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerNote {
    /// The URL it was learnt for.
    url: Url,
    /// Where the repository was found to be.
    base: Option<Url>,
    capabilities: Capabilities,
}

/// A conversation.
pub(crate) struct Session {
    transport: Transport,
    url: Url,
    capabilities: Option<Capabilities>,
    /// The references that came with the greeting of an old server.
    refs: Option<Vec<Ref>>,
    remembered: bool,
    most_refs: u32,
}

impl Session {
    /// Begins a conversation with the server of `source`, of which `note` was remembered.
    pub(crate) fn new(
        clients: &Clients,
        source: &GitSource,
        note: Option<&str>,
        meter: Meter,
    ) -> Result<Self, TransportError> {
        let url = source.url.as_url().clone();
        let note = note.and_then(|note| serde_json::from_str::<ServerNote>(note).ok()).filter(|note| note.url == url);
        let base = note.as_ref().and_then(|note| note.base.clone());
        Ok(Self {
            transport: Transport::new(clients, source, base, meter)?,
            url,
            refs: None,
            remembered: note.is_some(),
            capabilities: note.map(|note| note.capabilities),
            most_refs: source.limits.refs,
        })
    }

    /// What is to be remembered, if anything new was learnt.
    pub(crate) fn note(&self) -> Option<String> {
        let capabilities = self.capabilities.filter(|_| !self.remembered)?;
        let note = ServerNote { url: self.url.clone(), base: self.transport.base().cloned(), capabilities };
        serde_json::to_string(&note).ok()
    }

    /// What the server can do.
    pub(crate) async fn capabilities(&mut self) -> Result<Capabilities, WireError> {
        match self.capabilities {
            Some(known) => Ok(known),
            None => self.greet().await,
        }
    }

    async fn greet(&mut self) -> Result<Capabilities, WireError> {
        let hello = self.transport.hello().await?;
        self.remembered = self.remembered && self.capabilities == Some(hello.capabilities);
        self.capabilities = Some(hello.capabilities);
        self.refs = hello.refs;
        Ok(hello.capabilities)
    }

    /// Lists the references that begin with one of `prefixes`; an old server lists all it has.
    pub(crate) async fn ls_refs(&mut self, prefixes: &[String]) -> Result<Vec<Ref>, WireError> {
        let mut server = self.capabilities().await?;
        if let Some(listed) = self.transport.local_refs(prefixes).await {
            return listed;
        }
        if server.version == Version::V0 && self.refs.is_none() {
            // Its greeting is the list; and it may have been replaced by a newer server since.
            server = self.greet().await?;
        }
        if let (Version::V0, Some(refs)) = (server.version, self.refs.take()) {
            return Ok(refs);
        }
        let mut packets = self.ask(|_| protocol::ls_refs(prefixes)).await?;
        protocol::read_refs(&mut packets, self.most_refs).await
    }

    /// Asks for a pack.
    pub(crate) async fn fetch(&mut self, request: &FetchRequest) -> Result<PackStream, WireError> {
        if let Some(pack) = self.transport.local_fetch(request).await {
            return pack;
        }
        let packets = self.ask(|server| request.encode(server)).await?;
        PackStream::open(packets, self.capabilities().await?.version).await
    }

    async fn ask(&mut self, request: impl Fn(Capabilities) -> Bytes) -> Result<PacketReader, WireError> {
        let server = self.capabilities().await?;
        match self.transport.request(request(server)).await {
            Err(error) if self.remembered && is_misunderstanding(&error) => {
                self.remembered = false;
                self.transport.forget(&self.url);
                let server = self.greet().await?;
                self.transport.request(request(server)).await
            }
            answer => answer,
        }
    }
}

/// Whether a server may have changed since it was remembered: moved, upgraded, replaced by another product.
fn is_misunderstanding(error: &WireError) -> bool {
    match error {
        WireError::Status { status, retry_after, .. } => retry_after.is_none() && *status < 500 && *status != 429,
        WireError::NotGit { .. } => true,
        _ => false,
    }
}
