//! The most memory of an agent that receives 50 MB (67 MB of files, one of them 10 MB): a process of its own, and no API server to talk to.

use std::time::Duration;

use wickie_testbench::{Agent, AgentOptions, eventually, histories};

use crate::judge::Judge;
use crate::stand::Stand;

const LONG: Duration = Duration::from_secs(600);

pub(crate) async fn run(judge: &mut Judge) {
    let stand = Stand::new("thin-link-memory");
    histories::large_file(&stand.repo, 10 << 20).unwrap();
    histories::noise(&stand.repo, 1_150, 50_000, &stand.signer()).unwrap();
    let commit = stand.repo.id("main").unwrap();
    let binary = std::env::var("WICKIE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wickie").to_owned());
    let options = configured(&stand, &binary);
    let agent = Agent::spawn(options).unwrap();
    eventually("the snapshot is accepted", LONG, || async {
        let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?.stdout)?;
        anyhow::ensure!(status["sources"][0].to_string().contains(&commit), "{status:#}\n{}", agent.log());
        anyhow::Ok(())
    })
    .await;
    let peak = field(&agent, "VmHWM:");
    let received: u64 = stand.tls.requests().iter().map(|request| request.response_bytes).sum();
    println!("\n{binary}: {:.1} MB received, of them one file of 10 MB", received as f64 / 1e6);
    println!("resident: {peak:.1} MiB at its peak, {:.1} MiB after", field(&agent, "VmRSS:"));
    assert!(received > 50_000_000, "only {received} bytes were fetched: the figure says nothing");
    judge.at_most("MiB resident while 50 MB are fetched", peak, 64.0);
}

fn configured(stand: &Stand, binary: &str) -> AgentOptions {
    let config = stand.scratch.folder("conf.d");
    let write = |name: &str, value: serde_json::Value| std::fs::write(config.join(name), value.to_string()).unwrap();
    let source = serde_json::json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "fleet"},
        "spec": {
            "url": stand.tls.url("fleet"), "interval": "1h", "timeout": "10m", "ref": {"branch": "main"},
            "secretRef": {"name": "ca"}
        }
    });
    write("fleet.yaml", source);
    // It names the whole repository as used, and nothing of it is built.
    let kustomization = serde_json::json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "fleet"},
        "spec": {
            "sourceRef": {"kind": "GitRepository", "name": "fleet"}, "path": "./", "interval": "1h", "prune": true,
            "suspend": true
        }
    });
    write("whole.yaml", kustomization);
    write(
        "ca.yaml",
        serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "stringData": {"ca.crt": stand.tls.ca()}
        }),
    );
    // A port where nobody listens: what is measured is the fetch alone.
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:9", "insecure-skip-tls-verify": true}}],
        "users": [{"name": "none", "user": {}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}]
    });
    let file = stand.scratch.join("kubeconfig");
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    AgentOptions {
        binary: binary.into(),
        config: Some(config),
        data_dir: stand.scratch.join("data"),
        kubeconfig: Some(file),
        ..AgentOptions::default()
    }
}

/// A line of the agent's `/proc/PID/status`, in MiB.
fn field(agent: &Agent, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
