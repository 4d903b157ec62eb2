//! One operation's conversation with a server.
//!
//! What the server can do is remembered over operations and restarts, so that a poll is a single request. If the server
//! does not understand what it once did, the handshake is made again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::body::Meter;
use super::http::{Clients, HttpTransport, TlsError};
use super::pktline::PacketReader;
use super::protocol::{self, Capabilities, FetchRequest, PackStream, Ref};
use super::wire::WireError;
use crate::config::git::GitSource;

/// What is remembered of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerNote {
    /// The URL it was learnt for.
    url: Url,
    /// Where the repository was found to be.
    base: Url,
    capabilities: Capabilities,
}

/// A conversation.
pub(crate) struct Session {
    transport: HttpTransport,
    url: Url,
    capabilities: Option<Capabilities>,
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
    ) -> Result<Self, TlsError> {
        let url = source.url.as_url().clone();
        let note = note.and_then(|note| serde_json::from_str::<ServerNote>(note).ok()).filter(|note| note.url == url);
        let base = note.as_ref().map(|note| note.base.clone());
        Ok(Self {
            transport: HttpTransport::new(clients, source, base, meter)?,
            url,
            remembered: note.is_some(),
            capabilities: note.map(|note| note.capabilities),
            most_refs: source.limits.refs,
        })
    }

    /// What is to be remembered, if anything new was learnt.
    pub(crate) fn note(&self) -> Option<String> {
        let capabilities = self.capabilities.filter(|_| !self.remembered)?;
        let note = ServerNote { url: self.url.clone(), base: self.transport.base().clone(), capabilities };
        serde_json::to_string(&note).ok()
    }

    /// What the server can do.
    pub(crate) async fn capabilities(&mut self) -> Result<Capabilities, WireError> {
        match self.capabilities {
            Some(known) => Ok(known),
            None => {
                let learnt = self.transport.handshake().await?;
                self.capabilities = Some(learnt);
                Ok(learnt)
            }
        }
    }

    /// Lists the references that begin with one of `prefixes`.
    pub(crate) async fn ls_refs(&mut self, prefixes: &[String]) -> Result<Vec<Ref>, WireError> {
        let mut packets = self.ask(protocol::ls_refs(prefixes)).await?;
        protocol::read_refs(&mut packets, self.most_refs).await
    }

    /// Asks for a pack.
    pub(crate) async fn fetch(&mut self, request: &FetchRequest) -> Result<PackStream, WireError> {
        PackStream::open(self.ask(request.encode()).await?).await
    }

    async fn ask(&mut self, request: Bytes) -> Result<PacketReader, WireError> {
        self.capabilities().await?;
        match self.transport.command(request.clone()).await {
            Err(error) if self.remembered && is_misunderstanding(&error) => {
                self.remembered = false;
                self.capabilities = None;
                self.transport.forget(&self.url);
                self.capabilities().await?;
                self.transport.command(request).await
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
