//! Ports on loopback that stay ours.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::TcpSocket;

/// A free port of 127.0.0.1, held for as long as this value lives.
///
/// Held by a socket that is bound and never listens: the kernel gives the port to nobody else, connections to it are refused, and
/// whoever binds it by number with `SO_REUSEADDR` (as Go's and our own listeners do) can listen on it, stop, and listen again.
#[derive(Debug)]
pub struct Port {
    addr: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// When loopback has none left.
    pub fn free() -> Result<Self> {
        let socket = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { addr: socket.local_addr()?, _held: socket })
    }

    /// The address, with 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.addr.port()
    }

    /// Listens on it. Must be called in a runtime.
    pub(crate) fn listen(&self) -> Result<tokio::net::TcpListener> {
        bound(self.addr)?.listen(1024).with_context(|| format!("listen on {}", self.addr))
    }
}

fn bound(addr: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr).with_context(|| format!("bind {addr}"))?;
    Ok(socket)
}
