//! A forward proxy, as stands between a company's network and the rest: HTTP (CONNECT, and requests in absolute form) or SOCKS5.
//!
//! Source: RFC 9110, sections 7.2 and 9.3.6; RFC 1928 and RFC 1929.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::door::Door;
use crate::front::lock;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP.
    Http,
    /// SOCKS, version 5.
    Socks5,
}

/// How a proxy is set up.
#[derive(Clone, Debug)]
pub struct ForwardProxyOptions {
    /// What it speaks.
    pub speaks: Speaks,
    /// Where it is spoken to over TLS: by which certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may use it; everybody where it is `None`.
    pub login: Option<(String, String)>,
    /// Names that it alone knows, and where they lead.
    pub names: Vec<(String, SocketAddr)>,
}

/// A running proxy; ends when dropped.
pub struct ForwardProxy {
    door: Door,
    scheme: &'static str,
    log: Arc<Mutex<Vec<Asked>>>,
}

/// One connection that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where to: `host:port`, as the client wrote it.
    pub target: String,
    /// Whether it was let through.
    pub allowed: bool,
    /// The head of the request, where it was HTTP.
    pub head: String,
}

impl ForwardProxy {
    /// Starts one.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start(options: ForwardProxyOptions) -> Result<Self> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let scheme = match (options.speaks, &options.tls) {
            (Speaks::Http, None) => "http",
            (Speaks::Http, Some(_)) => "https",
            (Speaks::Socks5, _) => "socks5h",
        };
        let (options, list) = (Arc::new(options), log.clone());
        let door = Door::open("forward proxy", move |stream| {
            let (options, log) = (options.clone(), list.clone());
            async move {
                // What goes wrong on a connection is its client's to tell.
                let _ = match (options.speaks, options.tls.clone().map(TlsAcceptor::from)) {
                    (Speaks::Http, None) => http(stream, &options, &log).await,
                    (Speaks::Http, Some(tls)) => match tls.accept(stream).await {
                        Ok(stream) => http(stream, &options, &log).await,
                        Err(_) => return,
                    },
                    (Speaks::Socks5, _) => socks(stream, &options, &log).await,
                };
            }
        })?;
        Ok(Self { door, scheme, log })
    }

    /// Its address as a client writes it: `http://`, `https://` or `socks5h://`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.door.addr())
    }

    /// What was asked of it so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.log).clone()
    }
}

impl ForwardProxyOptions {
    async fn connect(&self, target: &str) -> Result<TcpStream> {
        let (host, _) = target.rsplit_once(':').context("a target has a port")?;
        Ok(match self.names.iter().find(|(name, _)| name == host) {
            Some((_, addr)) => TcpStream::connect(addr).await?,
            None => TcpStream::connect(target).await?,
        })
    }
}

async fn http(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    options: &ForwardProxyOptions,
    log: &Mutex<Vec<Asked>>,
) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16_384, "a head without end");
        head.push(near.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let absolute = uri.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let target = match (method, absolute) {
        ("CONNECT", _) => uri.to_owned(),
        (_, Some((host, _))) if host.contains(':') => host.to_owned(),
        (_, Some((host, _))) => format!("{host}:80"),
        _ => bail!("neither CONNECT nor an absolute form: {head}"),
    };
    let login = options.login.as_ref().map(|(user, password)| {
        format!("proxy-authorization: basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    });
    // Only the scheme is without case; base64 is not.
    let given = |wanted: &String| {
        let (name, value) = wanted.split_at("proxy-authorization: basic ".len());
        head.lines().any(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) && line[name.len()..] == *value
        })
    };
    let allowed = login.as_ref().is_none_or(given);
    lock(log).push(Asked { target: target.clone(), allowed, head: head.clone() });
    if !allowed {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return Ok(near.write_all(refusal.as_bytes()).await?);
    }
    let mut far = options.connect(&target).await?;
    match absolute {
        None => near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some((_, path)) => {
            // As a proxy does: the server gets its own form, and nothing that was for the proxy. One request a connection.
            let ours = |line: &&str| !line.to_ascii_lowercase().starts_with("proxy-") && !line.is_empty();
            let lines: Vec<&str> = head.lines().skip(1).filter(ours).collect();
            let head = format!("{method} /{path} HTTP/1.1\r\n{}\r\nconnection: close\r\n\r\n", lines.join("\r\n"));
            far.write_all(head.as_bytes()).await?;
        }
    }
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

async fn socks(mut near: TcpStream, options: &ForwardProxyOptions, log: &Mutex<Vec<Asked>>) -> Result<()> {
    ensure!(near.read_u8().await? == 5, "not version 5");
    let methods = bytes(&mut near).await?;
    let wanted = if options.login.is_some() { 2 } else { 0 };
    // Whoever hears of a refusal may look for it here at once.
    let refused = || lock(log).push(Asked { target: String::new(), allowed: false, head: String::new() });
    if !methods.contains(&wanted) {
        refused();
        return Ok(near.write_all(&[5, 0xff]).await?);
    }
    near.write_all(&[5, wanted]).await?;
    if let Some((user, password)) = &options.login {
        ensure!(near.read_u8().await? == 1, "not version 1 of the login");
        let given = (bytes(&mut near).await?, bytes(&mut near).await?);
        if given != (user.clone().into_bytes(), password.clone().into_bytes()) {
            refused();
            return Ok(near.write_all(&[1, 1]).await?);
        }
        near.write_all(&[1, 0]).await?;
    }
    let mut request = [0; 4];
    near.read_exact(&mut request).await?;
    ensure!(request[1] == 1, "CONNECT alone is answered");
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(near.read_u32().await?).to_string(),
        3 => String::from_utf8(bytes(&mut near).await?)?,
        4 => format!("[{}]", std::net::Ipv6Addr::from(near.read_u128().await?)),
        other => bail!("an address of type {other}"),
    };
    let target = format!("{host}:{}", near.read_u16().await?);
    lock(log).push(Asked { target: target.clone(), allowed: true, head: String::new() });
    let far = options.connect(&target).await;
    near.write_all(&[5, if far.is_ok() { 0 } else { 5 }, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut near, &mut far?).await?;
    Ok(())
}

/// As many bytes as the first byte says.
async fn bytes(near: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = vec![0; near.read_u8().await?.into()];
    near.read_exact(&mut bytes).await?;
    Ok(bytes)
}
