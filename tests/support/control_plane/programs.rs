//! The programs of a control plane, and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Options;
use super::etcd::Etcd;
use crate::port::Port;
use crate::tls::{self, Authority};
use crate::{audit, parts};

pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    api: PathBuf,
    pub(super) controller_manager: Option<PathBuf>,
    pub(super) scheduler: Option<PathBuf>,
    pub(super) kwok: Option<PathBuf>,
}

impl Programs {
    pub(super) fn find(options: &Options) -> Result<Self> {
        let if_wanted = |wanted: bool, part| if wanted { parts::find(part).map(Some) } else { Ok(None) };
        Ok(Self {
            etcd: parts::find(&parts::ETCD)?,
            api: parts::find(&parts::API_SERVER)?,
            controller_manager: if_wanted(options.controller_manager, &parts::CONTROLLER_MANAGER)?,
            scheduler: if_wanted(options.scheduler, &parts::SCHEDULER)?,
            kwok: if_wanted(options.nodes > 0, &parts::KWOK)?,
        })
    }
}

/// Writes what the API server reads, and says how it is started.
pub(super) fn api_server(
    programs: &Programs,
    options: &Options,
    folder: &Path,
    authority: &Authority,
    api: &Port,
    etcd: &Etcd,
) -> Result<Command> {
    let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1"];
    let identity = authority.server(&names)?;
    let (private, public) = tls::token_keys()?;
    let policy = options.audit_policy.clone().unwrap_or_else(audit::policy).to_string();
    let files = [
        ("ca.pem", authority.pem()),
        ("api.pem", identity.cert),
        ("api.key", identity.key),
        ("tokens.key", private),
        ("tokens.pub", public),
        ("audit-policy.json", policy),
        ("audit.log", String::new()),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    let mut command = Command::new(&programs.api);
    command.arg(format!("--etcd-servers=http://{}", etcd.addr())).arg(format!("--secure-port={}", api.number()));
    command
        .arg("--bind-address=127.0.0.1")
        .arg("--service-cluster-ip-range=10.0.0.0/16")
        .arg("--authorization-mode=RBAC");
    command
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg("--allow-privileged=true")
        .arg("--profiling=false");
    command.arg("--endpoint-reconciler-type=none").arg("--audit-log-mode=blocking");
    for (name, file) in [
        ("tls-cert-file", "api.pem"),
        ("tls-private-key-file", "api.key"),
        ("client-ca-file", "ca.pem"),
        ("service-account-key-file", "tokens.pub"),
        ("service-account-signing-key-file", "tokens.key"),
        ("audit-policy-file", "audit-policy.json"),
        ("audit-log-path", "audit.log"),
    ] {
        command.arg(flag(name, &folder.join(file)));
    }
    if !options.controller_manager {
        // Nobody would make the default service account that this plugin wants every pod to have.
        command.arg("--disable-admission-plugins=ServiceAccount");
    }
    command.args(&options.api_flags);
    Ok(command)
}

pub(super) fn controller_manager(program: &Path, kubeconfig: &Path, port: u16, folder: &Path) -> Command {
    let mut command = component(program, kubeconfig, port);
    command.arg("--use-service-account-credentials").arg("--concurrent-namespace-syncs=4");
    command.arg(flag("service-account-private-key-file", &folder.join("tokens.key")));
    command.arg(flag("root-ca-file", &folder.join("ca.pem")));
    // A kwok that has to wait for a core is no dead node: pods that were made unready for that never are again.
    command.arg("--node-monitor-grace-period=1h");
    // 20 requests a second, its own default, would be all that a large workload shows.
    command.args(["--kube-api-qps=500", "--kube-api-burst=1000"]);
    command
}

pub(super) fn scheduler(program: &Path, kubeconfig: &Path, port: u16) -> Command {
    component(program, kubeconfig, port)
}

pub(super) fn kwok(program: &Path, kubeconfig: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg(flag("kubeconfig", kubeconfig))
        .arg(flag("config", &parts::module(&parts::KWOK).join("stages.yaml")))
        .args(["--manage-all-nodes=true", "--node-ip=127.0.0.1", "--cidr=10.1.0.0/16"])
        // No server of its own, which nobody asks: setting up its metrics races with the stages, and may end it.
        .args(["--node-port=0", "--server-address="]);
    command.current_dir(folder).env("HOME", folder);
    command
}

/// The flags that controller manager and scheduler share.
fn component(program: &Path, kubeconfig: &Path, port: u16) -> Command {
    let mut command = Command::new(program);
    for name in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(flag(name, kubeconfig));
    }
    command.arg("--bind-address=127.0.0.1").arg(format!("--secure-port={port}")).arg("--leader-elect=false");
    command
}

pub(super) fn flag(name: &str, file: &Path) -> String {
    format!("--{name}={}", file.display())
}
