//! A TCP port that can be shut and opened again, served on a thread of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::port::Port;

/// The port, and the thread that serves it. Both end when dropped.
#[derive(Debug)]
pub(crate) struct Door {
    addr: SocketAddr,
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Open(mpsc::Sender<()>),
    Shut(mpsc::Sender<()>),
}

impl Door {
    /// Opens a free port and gives every connection to `serve`.
    pub(crate) fn open<S, F>(name: &str, serve: S) -> Result<Self>
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let port = Port::free()?;
        let addr = port.addr();
        let (orders, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        // Listening before this returns: whoever has the address can connect. Entered, not blocked on: the caller may be in a runtime.
        let listener = {
            let _entered = runtime.enter();
            port.listen()?
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(keep(port, listener, inbox, serve)))
            .context("start a thread")?;
        Ok(Self { addr, orders: Some(orders), thread: Some(thread) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Refuses connections from now on, and breaks those that are there. The port stays ours.
    pub(crate) fn shut(&self) {
        self.order(Order::Shut);
    }

    /// Takes connections again.
    pub(crate) fn reopen(&self) {
        self.order(Order::Open);
    }

    fn order(&self, order: fn(mpsc::Sender<()>) -> Order) {
        let (done, wait) = mpsc::channel();
        let orders = self.orders.as_ref().expect("there until dropped");
        orders.send(order(done)).expect("the thread runs until dropped");
        wait.recv().expect("the thread answers every order");
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A thread that ends its own door (a hook that owns it) cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

async fn keep<S, F>(port: Port, listener: TcpListener, mut orders: UnboundedReceiver<Order>, serve: S)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut open = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &open {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                None => return,
                Some(Order::Shut(done)) => {
                    open = None;
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Order::Open(done)) => {
                    if open.is_none() {
                        open = Some(port.listen().expect("the port is held for us"));
                    }
                    let _ = done.send(());
                }
            },
            Some(_) = connections.join_next() => {}
            accepted = accept => if let Ok((stream, _)) = accepted {
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream));
            },
        }
    }
}
