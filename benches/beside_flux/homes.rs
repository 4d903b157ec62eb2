//! Both homes of the agent, each with the same objects on an API server of its own: what it takes over a long time.
//!
//! In its pod it is told by objects in the cluster, holds a Lease, listens, and is probed as the kubelet would; as a service it is
//! told by files, and tells a service manager that it lives.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wickie_testbench::{Agent, ControlPlane, Fleet, Options, eventually};

use crate::cluster::{Namespace, cpu, memory};
use crate::{INTERVAL, LONG, Workload};

/// The namespace that the pod lives in.
const HOME: &str = "flux-system";

/// The shorter of the periods of the probes in the exported manifests; the other is twice that.
const PROBE: Duration = Duration::from_secs(10);

/// The watchdog of the unit.
const WATCHDOG: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug)]
enum Home {
    Pod,
    Service,
}

pub(crate) async fn run(workload: Workload) -> Result<()> {
    let (pod, service) = tokio::join!(live(Home::Pod, workload), live(Home::Service, workload));
    println!(
        "{:<10} {:>14} {:>10} {:>10} {:>12} {:>10}",
        "", "settled (MB)", "peak (MB)", "CPU (s)", "written (MB)", "requests"
    );
    for (home, figures) in [(Home::Pod, pod?), (Home::Service, service?)] {
        let Lived { settled, peak, cpu, written, requests } = figures;
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let home = format!("{home:?}");
        println!(
            "{home:<10} {:>14.1} {:>10.1} {cpu:>10.2} {:>12.1} {requests:>10}",
            mega(settled),
            mega(peak),
            mega(written)
        );
    }
    Ok(())
}

struct Lived {
    settled: u64,
    peak: u64,
    /// Of all its time, with the start and the first apply, in seconds.
    cpu: f64,
    written: u64,
    /// To the API server, watches and the Lease aside.
    requests: usize,
}

async fn live(home: Home, workload: Workload) -> Result<Lived> {
    let control_plane = ControlPlane::start(Options::default()).await?;
    let namespace = Namespace::new(&control_plane, "homes").await?;
    let mut fleet = Fleet::new("homes", &crate::wickie::binary(), control_plane.kubeconfig(), namespace.name.clone())?;
    fleet.repo.write_all(&namespace.manifests(workload))?;
    fleet.commit("all")?;
    let (agent, company) = match home {
        Home::Pod => pod(&namespace, &mut fleet).await?,
        Home::Service => service(&fleet)?,
    };
    eventually("it is ready", LONG, || async {
        let status: Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?.stdout)?;
        ensure!(status["kustomizations"][0]["ready"]["status"] == "True", "{status:#}");
        anyhow::Ok(())
    })
    .await;
    let asked = || {
        let asked = control_plane.audit_of("wickie")?;
        anyhow::Ok(asked.iter().filter(|event| event.verb != "watch" && !event.uri.contains("/leases")).count())
    };
    let before = asked()?;
    println!("the {home:?} is ready after {:.1} s of CPU", cpu(agent.pid())?);
    namespace.churn(workload).await?;
    company.abort();
    Ok(Lived {
        settled: memory(agent.pid(), "VmRSS")?,
        peak: memory(agent.pid(), "VmHWM")?,
        cpu: cpu(agent.pid())?,
        written: agent.bytes_written()?,
        requests: asked()? - before,
    })
}

/// Started as in the exported DaemonSet, its orders in the cluster.
async fn pod(namespace: &Namespace, fleet: &mut Fleet) -> Result<(Agent, tokio::task::JoinHandle<()>)> {
    fleet.home = HOME.to_owned();
    let printed = wickie_testbench::agent::cli(&fleet.options(), &["install", "--export", "-o", "json"])?;
    let list: Value = serde_json::from_str(&printed.stdout).context(printed.stderr)?;
    let wanted =
        |document: &&Value| matches!(document["kind"].as_str(), Some("Namespace" | "CustomResourceDefinition"));
    for document in list["items"].as_array().into_iter().flatten().filter(wanted) {
        apply(namespace, document).await?;
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "signers", "namespace": HOME},
        "stringData": {"ada.sshpub": fleet.key.public()}
    });
    let source = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "fleet", "namespace": HOME},
        "spec": {"url": fleet.git.url("fleet"), "interval": format!("{}s", INTERVAL.as_secs()), "ref": {"branch": "main"},
                 "verify": {"mode": "HEAD", "secretRef": {"name": "signers"}}}
    });
    let kustomization = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "apps", "namespace": HOME},
        "spec": {"interval": format!("{}s", INTERVAL.as_secs()), "path": "./apps", "prune": true, "wait": true,
                 "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
    });
    for document in [secret, source, kustomization] {
        // A definition is served a moment after it is there.
        eventually("it is taken", LONG, || apply(namespace, &document)).await;
    }
    let mut options = fleet.options();
    let port = wickie_testbench::port::Port::free()?;
    let address = port.addr();
    options.args = vec!["--lease".into(), "--listen".into(), address.to_string().into()];
    let agent = Agent::spawn(options)?;
    let probes = tokio::spawn(async move {
        let _port = port;
        for round in 0_u64.. {
            let paths = if round % 2 == 0 { vec!["/readyz", "/healthz"] } else { vec!["/readyz"] };
            for path in paths {
                // While it starts nobody listens.
                let _ = probe(address, path).await;
            }
            tokio::time::sleep(PROBE).await;
        }
    });
    Ok((agent, probes))
}

async fn probe(address: std::net::SocketAddr, path: &str) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(())
}

async fn apply(namespace: &Namespace, document: &Value) -> Result<()> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let objects: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(namespace.client.clone(), &resource),
        within => Api::namespaced_with(namespace.client.clone(), within, &resource),
    };
    objects.patch(text("/metadata/name"), &PatchParams::apply("kubectl"), &Patch::Apply(document)).await?;
    Ok(())
}

/// Started as by the unit, its orders in files.
fn service(fleet: &Fleet) -> Result<(Agent, tokio::task::JoinHandle<()>)> {
    fleet.follow(&format!("{}s", INTERVAL.as_secs()))?;
    fleet.keep("apps", &format!("  path: ./apps\n  interval: {}s\n  wait: true\n", INTERVAL.as_secs()))?;
    let path = fleet.config().with_file_name("notify");
    let manager = tokio::net::UnixDatagram::from_std({
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        socket
    })?;
    let mut options = fleet.options();
    options.env.push(("NOTIFY_SOCKET".to_owned(), path.display().to_string()));
    options.env.push(("WATCHDOG_USEC".to_owned(), WATCHDOG.as_micros().to_string()));
    let agent = Agent::spawn(options)?;
    let heard = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while manager.recv(&mut bytes).await.is_ok() {}
    });
    Ok((agent, heard))
}
