//! The etcd of a control plane: what the cluster remembers, and what is done to that.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::lock;
use super::programs::flag;
use crate::child::Child;
use crate::port::Port;
use crate::scratch::Scratch;

pub(super) struct Etcd {
    child: Mutex<Option<Child>>,
    command: Command,
    port: Port,
    _peer: Port,
    data: PathBuf,
    log: PathBuf,
}

/// What etcd held at one time.
pub struct Backup(Scratch);

impl Etcd {
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (port, peer) = (Port::free()?, Port::free()?);
        let (data, log) = (folder.join("etcd"), folder.join("etcd.log"));
        let mut command = Command::new(program);
        command.args(["--name=bench", "--unsafe-no-fsync", "--log-level=warn"]).arg(flag("data-dir", &data));
        let (client_url, peer_url) = (format!("http://{}", port.addr()), format!("http://{}", peer.addr()));
        for name in ["listen-client-urls", "advertise-client-urls"] {
            command.arg(format!("--{name}={client_url}"));
        }
        for name in ["listen-peer-urls", "initial-advertise-peer-urls"] {
            command.arg(format!("--{name}={peer_url}"));
        }
        command.arg(format!("--initial-cluster=bench={peer_url}"));
        let started = Self { child: Mutex::default(), command, port, _peer: peer, data, log };
        started.run()?;
        Ok(started)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Fails, with the end of its log, if it has ended.
    pub(super) fn check(&self) -> Result<()> {
        lock(&self.child).as_mut().context("etcd was stopped")?.check()
    }

    /// Compacts at the newest revision.
    pub(super) async fn compact(&self) -> Result<()> {
        // One write more, so that the newest revision before it is among those that go.
        let put = self.ask("put", &json!({ "key": "d2lja2ll", "value": "" })).await?;
        let revision = put["header"]["revision"].as_str().context("etcd names its revision")?.to_owned();
        self.ask("compaction", &json!({ "revision": revision, "physical": true })).await?;
        Ok(())
    }

    /// Copies what it holds; it is stopped meanwhile, so that the copy is whole.
    pub(super) fn back_up(&self) -> Result<Backup> {
        let backup = Scratch::new("backup");
        self.stop();
        copy(&self.data, &backup.join("etcd"))?;
        self.run()?;
        Ok(Backup(backup))
    }

    /// Goes on from a backup, which stays as it is.
    pub(super) fn restore(&self, backup: &Backup) -> Result<()> {
        self.stop();
        fs::remove_dir_all(&self.data)?;
        copy(&backup.0.join("etcd"), &self.data)?;
        self.run()
    }

    fn run(&self) -> Result<()> {
        *lock(&self.child) = Some(Child::spawn("etcd", &self.command, &self.log)?);
        Ok(())
    }

    fn stop(&self) {
        drop(lock(&self.child).take());
    }

    /// Its own JSON gateway.
    async fn ask(&self, verb: &str, body: &Value) -> Result<Value> {
        let stream = tokio::net::TcpStream::connect(self.addr()).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let body = http_body_util::Full::new(bytes::Bytes::from(body.to_string()));
        let request = hyper::Request::post(format!("/v3/kv/{verb}")).header("host", "etcd").body(body)?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await?.to_bytes();
        driver.abort();
        ensure!(status.is_success(), "etcd answered {verb} with {status}: {}", String::from_utf8_lossy(&bytes));
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// Copies a folder with all in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), &to).with_context(|| format!("copy to {}", to.display()))?),
        }
    }
    Ok(())
}
