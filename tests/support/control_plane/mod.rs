//! A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and kwok for nodes.
//!
//! Guarantees: each has ports, certificates and a folder of its own, so any number run side by side, and all of it is gone when the test
//! process is. Caveat: pods run nowhere; kwok makes them Ready (or Succeeded, for a Job), and nothing else about them is true.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::audit::{self, AuditEvent};
use crate::child::{Child, Sweeper};
use crate::kubeconfig::{self, Proof};
use crate::metrics::Metrics;
use crate::port::Port;
use crate::scratch::Scratch;
use crate::tls::{Authority, Identity};

mod etcd;
mod programs;

pub use etcd::Backup;
use etcd::Etcd;
use programs::Programs;

/// What a control plane consists of.
#[derive(Clone, Debug)]
pub struct Options {
    /// kube-controller-manager: without it no Deployment makes pods, no namespace goes away, nothing is garbage collected.
    pub controller_manager: bool,
    /// kube-scheduler: without it every pod stays Pending.
    pub scheduler: bool,
    /// Nodes that kwok plays; 0 starts no kwok.
    pub nodes: usize,
    /// An audit policy in place of the usual one (all but the control plane's own requests, without bodies).
    pub audit_policy: Option<Value>,
    /// More flags for the API server.
    pub api_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { controller_manager: true, scheduler: true, nodes: 1, audit_policy: None, api_flags: Vec::new() }
    }
}

impl Options {
    /// An API server and etcd, nothing else: ready soonest, and idle.
    pub fn api_only() -> Self {
        Self { controller_manager: false, scheduler: false, nodes: 0, ..Self::default() }
    }
}

/// A running control plane; ends when dropped.
pub struct ControlPlane {
    // Dropped in this order: first who asks, then who answers.
    helpers: Mutex<Vec<Child>>,
    api: Mutex<Option<Child>>,
    etcd: Etcd,
    api_command: Command,
    /// The API server's, and those of its helpers.
    port: Port,
    helper_ports: Vec<Port>,
    authority: Authority,
    admin: Identity,
    folder: Scratch,
    _sweeper: Sweeper,
}

static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();

/// The namespace that an agent lives in whose objects go into `namespace`: what it keeps for itself is in nobody's way.
pub(crate) fn home(namespace: &str) -> String {
    format!("{namespace}-wickie")
}

impl ControlPlane {
    /// The one that the tests of a test binary share. Each test takes namespaces of its own from [`ControlPlane::namespace`].
    ///
    /// # Panics
    /// When it cannot be started; the message says why, and every test gets the same.
    pub async fn shared() -> &'static Self {
        let started = SHARED.get_or_init(|| async {
            let started = Self::start(Options::default()).await;
            let started = started.inspect(|started| keep_after_panic(started.folder.path()));
            started.map_err(|error| format!("{error:#}"))
        });
        match started.await {
            Ok(started) => started,
            Err(error) => panic!("the control plane did not start: {error}"),
        }
    }

    /// One that nobody else touches, for tests that stop it or count everything.
    ///
    /// # Errors
    /// When a program is nowhere to be had, or ends early: then with the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let programs = tokio::task::spawn_blocking({
            let options = options.clone();
            move || Programs::find(&options)
        });
        let programs = programs.await??;
        let folder = Scratch::new("control-plane");
        let authority = Authority::new("wickie test cluster")?;
        let admin = authority.client("admin", &["system:masters"])?;
        let (etcd, port) = (Etcd::start(&programs.etcd, folder.path())?, Port::free()?);
        let api_command = programs::api_server(&programs, &options, &folder, &authority, &port, &etcd)?;
        let mut started = Self {
            helpers: Mutex::default(),
            api: Mutex::default(),
            etcd,
            api_command,
            port,
            helper_ports: Vec::new(),
            authority,
            admin,
            _sweeper: Sweeper::of(&folder)?,
            folder,
        };
        started.write_kubeconfig("admin", &started.admin)?;
        started.start_api().await?;
        started.start_helpers(&programs, &options).await?;
        Ok(started)
    }

    /// `https://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.port.addr())
    }

    /// The address of the API server.
    pub fn addr(&self) -> std::net::SocketAddr {
        self.port.addr()
    }

    /// Who signed the API server's certificate and the clients'.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder with the logs and the kubeconfigs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A kubeconfig of user `admin` in `system:masters`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A kubeconfig of another user, by client certificate. It may do what RBAC gives it, which at first is next to nothing.
    ///
    /// # Errors
    /// With more than two groups.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        self.write_kubeconfig(&user.replace([':', '/'], "-"), &self.authority.client(user, groups)?)
    }

    /// A kubeconfig of a service account, by a token that the API server issued. The account must exist.
    ///
    /// # Errors
    /// When it does not.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let wish = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(7200), ..Default::default() }),
            ..Default::default()
        };
        let answer = accounts.create_token_request(name, &PostParams::default(), &wish).await?;
        let token =
            answer.status.and_then(|status| status.token).context("a token request is answered with a token")?;
        let file = self.folder.join(format!("{namespace}-{name}.kubeconfig"));
        kubeconfig::write(&file, &kubeconfig::text(&self.url(), Some(&self.authority.pem()), &Proof::Token(&token)))?;
        Ok(file)
    }

    /// A client of `admin` on the runtime that calls. A client does not outlive its runtime, so each test makes its own.
    ///
    /// # Panics
    /// Never for a kubeconfig of our own making.
    pub async fn client(&self) -> Client {
        kubeconfig::client(&self.kubeconfig()).await.expect("the admin's kubeconfig is whole")
    }

    /// A new namespace, `name` with something random behind it.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&self, name: &str) -> Result<String> {
        let name = format!("{name}-{:06x}", fastrand::u32(..0x0100_0000));
        let namespaces: Api<Namespace> = Api::all(self.client().await);
        for name in [name.clone(), home(&name)] {
            let metadata = ObjectMeta { name: Some(name), ..Default::default() };
            namespaces.create(&PostParams::default(), &Namespace { metadata, ..Default::default() }).await?;
        }
        Ok(name)
    }

    /// The API server's metrics now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        let request = hyper::Request::get("/metrics").body(Vec::new())?;
        Metrics::parse(&self.client().await.request_text(request).await?)
    }

    /// Everything that was asked of the API server so far, in the order of the answers. An answer can reach its client a moment before it
    /// stands here: use [`eventually`](crate::eventually).
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.folder.join("audit.log"))
    }

    /// The part of [`ControlPlane::audit`] whose user agent starts with this.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_of(&self, user_agent: &str) -> Result<Vec<AuditEvent>> {
        let mut events = self.audit()?;
        events.retain(|event| event.user_agent.starts_with(user_agent));
        Ok(events)
    }

    /// Kills the API server. Its port refuses connections until [`ControlPlane::start_api`].
    pub fn stop_api(&self) {
        drop(lock(&self.api).take());
    }

    /// Starts the API server, on the same port and etcd, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends early.
    pub async fn start_api(&self) -> Result<()> {
        let child = Child::spawn("kube-apiserver", &self.api_command, &self.folder.join("kube-apiserver.log"))?;
        *lock(&self.api) = Some(child);
        let client = self.client().await;
        for _ in 0..1200 {
            self.etcd.check()?;
            lock(&self.api).as_mut().context("the API server was stopped while it started")?.check()?;
            if client.request_text(hyper::Request::get("/readyz").body(Vec::new())?).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tail = lock(&self.api).as_ref().map(|api| api.log_tail(30)).unwrap_or_default();
        bail!("kube-apiserver was not ready after two minutes:\n{tail}")
    }

    /// Forgets every stored resource version but the newest, and restarts the API server so that its cache forgets them too: a watch or
    /// a list continued from an older one is answered with 410 Gone.
    ///
    /// # Errors
    /// When etcd or the API server does not answer.
    pub async fn expire_resource_versions(&self) -> Result<()> {
        self.stop_api();
        self.etcd.compact().await?;
        self.start_api().await
    }

    /// Compacts etcd at its newest revision. The API server's watch cache still knows what it has seen: see
    /// [`ControlPlane::expire_resource_versions`].
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn compact(&self) -> Result<()> {
        self.etcd.compact().await
    }

    /// A backup of the whole cluster, as `etcdutl` or `k3s etcd-snapshot` take one. The API server is away meanwhile.
    ///
    /// # Errors
    /// When the disk does not take it, or what was stopped does not start again.
    pub async fn back_up(&self) -> Result<Backup> {
        self.stop_api();
        let backup = self.etcd.back_up()?;
        self.start_api().await?;
        Ok(backup)
    }

    /// Puts the cluster back where it was when it was backed up, resource versions and all, as a restore does that is not told
    /// to raise them.
    ///
    /// # Errors
    /// As [`ControlPlane::back_up`].
    pub async fn restore(&self, backup: &Backup) -> Result<()> {
        self.stop_api();
        self.etcd.restore(backup)?;
        self.start_api().await
    }

    fn write_kubeconfig(&self, name: &str, identity: &Identity) -> Result<PathBuf> {
        let file = self.folder.join(format!("{name}.kubeconfig"));
        kubeconfig::write(
            &file,
            &kubeconfig::text(&self.url(), Some(&self.authority.pem()), &Proof::Certificate(identity)),
        )?;
        Ok(file)
    }

    async fn start_helpers(&mut self, programs: &Programs, options: &Options) -> Result<()> {
        let mut commands = Vec::new();
        if let Some(program) = &programs.controller_manager {
            let kubeconfig = self.kubeconfig_for("system:kube-controller-manager", &[])?;
            let command = programs::controller_manager(program, &kubeconfig, self.port()?, &self.folder);
            commands.push(("kube-controller-manager", command));
        }
        if let Some(program) = &programs.scheduler {
            let kubeconfig = self.kubeconfig_for("system:kube-scheduler", &[])?;
            commands.push(("kube-scheduler", programs::scheduler(program, &kubeconfig, self.port()?)));
        }
        if let Some(program) = &programs.kwok {
            let kubeconfig = self.kubeconfig_for("kwok", &["system:masters"])?;
            commands.push(("kwok", programs::kwok(program, &kubeconfig, &self.folder)));
        }
        for (name, command) in commands {
            let child = Child::spawn(name, &command, &self.folder.join(format!("{name}.log")))?;
            lock(&self.helpers).push(child);
        }
        self.add_nodes(options.nodes).await
    }

    /// Registers the nodes that kwok plays, and waits until they are Ready.
    async fn add_nodes(&self, count: usize) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client().await);
        for index in 0..count {
            let name = format!("node-{index}");
            // The labels that a kubelet would give it.
            let labels =
                json!({ "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name });
            let node: Node = serde_json::from_value(json!({
                "metadata": { "name": name, "labels": labels, "annotations": { "kwok.x-k8s.io/node": "fake" } },
                "status": { "allocatable": capacity(), "capacity": capacity() },
            }))?;
            nodes.create(&PostParams::default(), &node).await?;
        }
        let ready = |node: &Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        };
        for _ in 0..1200 {
            for child in lock(&self.helpers).iter_mut() {
                child.check()?;
            }
            if nodes.list(&ListParams::default()).await?.items.iter().filter(|node| ready(node)).count() == count {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("kwok did not make {count} nodes Ready in two minutes; its log is in {}", self.folder.display())
    }

    fn port(&mut self) -> Result<u16> {
        let port = Port::free()?;
        let number = port.number();
        self.helper_ports.push(port);
        Ok(number)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::fs::remove_dir_all(self.folder.join("etcd"));
        }
    }
}

fn capacity() -> Value {
    json!({ "cpu": "1k", "memory": "1Ti", "pods": "10k" })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A `static` is never dropped, and does not see that a test failed: a panic of any test keeps its logs.
fn keep_after_panic(folder: &Path) {
    static HOOK: Once = Once::new();
    let keep = folder.join("keep");
    HOOK.call_once(move || {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !keep.exists() && std::fs::write(&keep, "").is_ok() {
                eprintln!("the control plane's logs are kept for you beside {}", keep.display());
            }
            before(info);
        }));
    });
}
