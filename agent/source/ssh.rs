//! SSH: each request a `git-upload-pack` of its own, over one connection.
//!
//! Source: git's connect.c. The protocol's version travels in an environment variable that many servers drop
//! (OpenSSH without `AcceptEnv GIT_PROTOCOL`); such a server then speaks version 0. A server is believed only if its key
//! stands in `known_hosts`; nothing is learnt on first use.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wickie_trust::{HostKey, KnownHosts};

use super::body::{Body, Meter, Origin};
use super::pktline::PacketReader;
use super::protocol::Hello;
use super::proxy;
use super::transport::TransportError;
use super::wire::{WireError, said};
use crate::config::git::{Credentials, GitSource, Limits};
use crate::config::git_access::Proxy;

/// Pieces of an answer that may wait to be read; then the server has to.
const QUEUE: usize = 16;

/// A repository behind SSH.
pub(crate) struct SshTransport {
    host: String,
    port: u16,
    user: String,
    command: String,
    identity: Arc<PrivateKey>,
    known_hosts: Arc<KnownHosts>,
    proxy: Option<Proxy>,
    limits: Limits,
    meter: Meter,
    connection: Option<Handle<Checker>>,
    /// A command that has greeted and not been asked anything yet.
    greeted: Option<Conversation>,
}

/// A running `git-upload-pack`.
struct Conversation {
    packets: PacketReader,
    input: ChannelWriteHalf<client::Msg>,
}

impl SshTransport {
    pub(crate) fn new(source: &GitSource, proxy: Option<Proxy>, meter: Meter) -> Result<Self, TransportError> {
        let Some(Credentials::Ssh { identity, passphrase, known_hosts }) = &source.credentials else {
            return Err(TransportError::NoIdentity);
        };
        let passphrase = passphrase.as_ref().map(|passphrase| passphrase.reveal().as_str());
        let identity = russh::keys::decode_secret_key(identity.reveal(), passphrase).map_err(|source| {
            TransportError::Identity { encrypted: matches!(source, russh::keys::Error::KeyIsEncrypted), source }
        })?;
        let known_hosts = KnownHosts::parse(known_hosts).map_err(TransportError::KnownHosts)?;
        let url = source.url.as_url();
        let user = if url.username().is_empty() { "git" } else { url.username() };
        Ok(Self {
            host: source.url.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(22),
            user: user.to_owned(),
            command: format!("git-upload-pack {}", quoted(&decoded(url.path()))),
            identity: Arc::new(identity),
            known_hosts: Arc::new(known_hosts),
            proxy,
            limits: source.limits,
            meter,
            connection: None,
            greeted: None,
        })
    }

    pub(crate) async fn hello(&mut self) -> Result<Hello, WireError> {
        let mut conversation = self.converse().await?;
        let hello = Hello::read(&mut conversation.packets, self.limits.refs).await?;
        self.greeted = Some(conversation);
        Ok(hello)
    }

    pub(crate) async fn request(&mut self, request: Bytes) -> Result<PacketReader, WireError> {
        let conversation = match self.greeted.take() {
            Some(conversation) => conversation,
            None => {
                let mut conversation = self.converse().await?;
                Hello::read(&mut conversation.packets, self.limits.refs).await?;
                conversation
            }
        };
        self.meter.sent(request.len());
        conversation.input.data_bytes(request).await.map_err(WireError::Ssh)?;
        Ok(conversation.packets)
    }

    /// Starts a `git-upload-pack` on the server.
    async fn converse(&mut self) -> Result<Conversation, WireError> {
        let silence = self.limits.silence;
        let slow = |_| WireError::Slow { slowest: self.limits.slowest, after: silence };
        let connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => timeout(silence, self.connect()).await.map_err(slow)??,
        };
        let channel = timeout(silence, connection.channel_open_session()).await.map_err(slow)?;
        let (output, input) = channel.map_err(WireError::Ssh)?.split();
        input.set_env(false, "GIT_PROTOCOL", "version=2").await.map_err(WireError::Ssh)?;
        input.exec(true, self.command.as_str()).await.map_err(WireError::Ssh)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(pump(output, sender, self.command.clone()));
        self.connection = Some(connection);
        let body = Body::new(Origin::Channel(receiver), self.meter.clone(), self.limits);
        Ok(Conversation { packets: PacketReader::new(body), input })
    }

    async fn connect(&self) -> Result<Handle<Checker>, WireError> {
        let config = client::Config { preferred: self.preferred(), nodelay: true, ..Default::default() };
        let stream = match timeout(self.limits.connect, self.stream()).await {
            Ok(stream) => stream?,
            Err(_) => return Err(WireError::Slow { slowest: self.limits.slowest, after: self.limits.connect }),
        };
        let refused = Arc::new(Mutex::new(None));
        let checker = Checker {
            host: self.host.clone(),
            port: self.port,
            known_hosts: self.known_hosts.clone(),
            refused: refused.clone(),
        };
        let connected = client::connect_stream(Arc::new(config), stream, checker).await;
        let mut connection = connected.map_err(|error| {
            let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            refused.unwrap_or(WireError::Ssh(error))
        })?;
        self.authenticate(&mut connection).await?;
        Ok(connection)
    }

    async fn stream(&self) -> Result<TcpStream, WireError> {
        match &self.proxy {
            Some(proxy) => proxy::connect(proxy, &self.host, self.port, self.limits.connect).await,
            None => TcpStream::connect((self.host.as_str(), self.port)).await.map_err(WireError::Connection),
        }
    }

    async fn authenticate(&self, connection: &mut Handle<Checker>) -> Result<(), WireError> {
        let hash = match self.identity.algorithm() {
            // SHA-1 is no choice, also where a server knows nothing else.
            Algorithm::Rsa { .. } => {
                let best = connection.best_supported_rsa_hash().await.map_err(WireError::Ssh)?;
                best.flatten().or(Some(HashAlg::Sha256))
            }
            _ => None,
        };
        let key = PrivateKeyWithHashAlg::new(self.identity.clone(), hash);
        match connection.authenticate_publickey(self.user.clone(), key).await.map_err(WireError::Ssh)? {
            AuthResult::Success => Ok(()),
            AuthResult::Failure { .. } => Err(WireError::SshIdentity {
                user: self.user.clone(),
                key: self.identity.fingerprint(HashAlg::Sha256).to_string(),
            }),
        }
    }

    /// Asks for a host key of a type that `known_hosts` has: a server has several, and shows one.
    fn preferred(&self) -> Preferred {
        let known = self.known_hosts.key_types(&self.host, self.port);
        let all = Preferred::DEFAULT.key;
        let wanted: Vec<Algorithm> = all
            .iter()
            .filter(|algorithm| match algorithm {
                Algorithm::Rsa { hash: None } | Algorithm::Dsa => false,
                Algorithm::Rsa { .. } => known.iter().any(|known| known == "ssh-rsa"),
                other => known.iter().any(|known| known == other.as_str()),
            })
            .cloned()
            .collect();
        // A host that is not known is refused by its key, which is then named.
        let key = if wanted.is_empty() { all } else { Cow::Owned(wanted) };
        Preferred { key, ..Preferred::DEFAULT }
    }
}

/// Carries what the command says into the channel that is read from, and its complaint if it ends badly.
async fn pump(mut output: ChannelReadHalf, sender: mpsc::Sender<Result<Bytes, WireError>>, command: String) {
    let mut complaint = Vec::new();
    let failed = |complaint: &[u8]| Err(WireError::Command { command: command.clone(), said: said(complaint) });
    while let Some(message) = output.wait().await {
        let sent = match message {
            ChannelMsg::Data { data } => sender.send(Ok(data)).await,
            ChannelMsg::ExtendedData { data, .. } => {
                complaint.extend_from_slice(&data[..data.len().min(400_usize.saturating_sub(complaint.len()))]);
                continue;
            }
            ChannelMsg::Failure => sender.send(failed(&complaint)).await,
            ChannelMsg::ExitStatus { exit_status } if exit_status != 0 => sender.send(failed(&complaint)).await,
            _ => continue,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Decides whether the server is the one that is meant.
struct Checker {
    host: String,
    port: u16,
    known_hosts: Arc<KnownHosts>,
    refused: Arc<Mutex<Option<WireError>>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let Ok(bytes) = key.to_bytes() else { return Ok(false) };
        let what = match self.known_hosts.check(&self.host, self.port, &bytes) {
            HostKey::Known => return Ok(true),
            HostKey::Revoked => "which known_hosts has as revoked",
            HostKey::Changed => {
                "and known_hosts has another one for this host: it was replaced, or somebody is in between"
            }
            HostKey::Unknown => "and known_hosts has none for this host: add it once it is confirmed",
        };
        let error = WireError::HostKey { key: key.fingerprint(HashAlg::Sha256).to_string(), what };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        Ok(false)
    }
}

/// A path as one word of a POSIX shell, which is what runs the command on the other side.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// A URL's path with its escapes resolved. What would not be text stays as it is written.
fn decoded(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    match decoded {
        // `/~user/…` is relative to that user's home, as in git.
        Ok(text) if text.starts_with("/~") => text[1..].to_owned(),
        Ok(text) if !text.chars().any(char::is_control) => text.into_owned(),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word_of_the_shell() {
        assert_eq!(quoted(&decoded("/a%20b/c.git")), "'/a b/c.git'");
        assert_eq!(quoted(&decoded("/a';id;'")), r"'/a'\'';id;'\'''");
        assert_eq!(decoded("/~ada/r.git"), "~ada/r.git");
        assert_eq!(decoded("/a%0ab"), "/a%0ab");
    }
}
