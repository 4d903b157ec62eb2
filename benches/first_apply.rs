//! 1,000 objects in 1,000 files: how long until all are there, what it costs, and what a one-line commit and a quiet while cost after it.
//!
//!     cargo bench --bench first_apply [-- OBJECTS]
//!
//! `WICKIE_BINARY` names another binary to measure, for instance the static one.

#![allow(clippy::print_stdout, reason = "figures are for people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use wickie_testbench::{Agent, ControlPlane, Fleet, Options, eventually, manifests};

/// How often Git is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The while in which nothing changes.
const QUIET: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    let control_plane = ControlPlane::start(Options::default()).await?;
    let namespace = control_plane.namespace("first-apply").await?;
    let binary = std::env::var("WICKIE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wickie").to_owned());
    let fleet = Fleet::new("first-apply", &binary, control_plane.kubeconfig(), namespace.clone())?;
    fleet.repo.write_all(&manifests::many(count, Some(&namespace)))?;
    let first = fleet.commit("all")?;
    fleet.follow(&format!("{}s", INTERVAL.as_secs()))?;
    fleet.keep("apps", "  path: ./apps\n")?;
    println!("{binary}: {count} objects in {count} files; Git is asked every {INTERVAL:?}");

    let start = Instant::now();
    let agent = fleet.start()?;
    applied(&agent, &first, count).await;
    println!("first apply: all are there after {:.1} s", start.elapsed().as_secs_f64());
    settled(&control_plane).await;
    let cost = requests(&control_plane, 0)?;
    println!("  its API requests: {}", said(&cost));
    println!(
        "  resident: {:.1} MB settled, {:.1} MB peak; CPU {:.1} s",
        mega(agent.rss_bytes()?),
        mega(peak(&agent)?),
        agent.cpu_seconds()?
    );

    let (path, text) = manifests::many(count, Some(&namespace)).remove(0);
    fleet.repo.write(&path, &text.replacen("line 0 of", "one line changed, of", 1))?;
    let before = control_plane.audit_of("wickie")?.len();
    fleet.git.forget();
    let start = Instant::now();
    let second = fleet.commit("one line")?;
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await, &namespace);
    eventually("the line is changed", LONG, || async {
        let data = maps.get("app-0000").await?.data.unwrap_or_default();
        ensure!(data.values().any(|value| value.contains("one line changed")), "{data:?}");
        anyhow::Ok(())
    })
    .await;
    let took = start.elapsed();
    applied(&agent, &second, count).await;
    settled(&control_plane).await;
    let fetched: u64 =
        fleet.git.requests_where(wickie_testbench::git_server::is_fetch).iter().map(|one| one.response_bytes).sum();
    println!("a one-line commit: applied after {:.1} s, the wait for the next poll included", took.as_secs_f64());
    println!("  its API requests: {}; {fetched} bytes fetched from Git", said(&requests(&control_plane, before)?));

    let (before, cpu, written) =
        (control_plane.audit_of("wickie")?.len(), agent.cpu_seconds()?, agent.bytes_written()?);
    fleet.git.forget();
    tokio::time::sleep(QUIET).await;
    let asked = fleet.git.requests().len();
    println!("{QUIET:?} without a change: API requests: {}", said(&requests(&control_plane, before)?));
    println!(
        "  {asked} requests to Git, {} bytes of answers; CPU {:.2} s; {} bytes written; resident {:.1} MB",
        fleet.git.bytes_sent(),
        agent.cpu_seconds()? - cpu,
        agent.bytes_written()? - written,
        mega(agent.rss_bytes()?)
    );
    Ok(())
}

/// Waits until the agent says that a commit is applied, and all of it.
async fn applied(agent: &Agent, commit: &str, count: usize) {
    eventually("the commit is applied", LONG, || async {
        let status: serde_json::Value = serde_json::from_str(&agent.cli(&["status", "-o", "json"])?.stdout)?;
        let one = &status["kustomizations"][0];
        let held = one["appliedRevision"] == format!("main@sha1:{commit}") && one["ready"]["status"] == "True";
        ensure!(held && one["objects"]["total"] == count, "{one:#}");
        anyhow::Ok(())
    })
    .await;
}

/// Waits until the agent asks nothing more. The controllers work through a thousand objects for a while, and write an annotation on each
/// Deployment: a change of metadata, which the agent looks at.
async fn settled(control_plane: &ControlPlane) {
    let asked = || anyhow::Ok(control_plane.audit_of("wickie")?.len());
    eventually("the agent asks nothing for ten seconds", LONG, || async {
        let before = asked()?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        ensure!(before == asked()?, "it asks");
        anyhow::Ok(())
    })
    .await;
}

/// What the agent asked of the API server since its first `skip` requests, by verb; a patch of an object itself is an apply.
fn requests(control_plane: &ControlPlane, skip: usize) -> Result<BTreeMap<String, usize>> {
    let mut counted = BTreeMap::new();
    for event in control_plane.audit_of("wickie")?.iter().skip(skip) {
        let verb = match (event.verb.as_str(), event.object_ref.subresource.as_str()) {
            ("patch", "") => "apply".to_owned(),
            // It is logged when it begins, and again when it ends.
            ("watch", _) if event.stage == "ResponseStarted" => continue,
            (verb, "") => format!("{verb} {}", event.object_ref.resource),
            (verb, sub) => format!("{verb} {sub}"),
        };
        *counted.entry(verb).or_default() += 1;
    }
    Ok(counted)
}

fn said(requests: &BTreeMap<String, usize>) -> String {
    let said: Vec<_> = requests.iter().map(|(verb, count)| format!("{count} {verb}")).collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

/// The most memory that it ever had resident.
fn peak(agent: &Agent) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a running process has a VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
