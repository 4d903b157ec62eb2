//! wickie beside Flux's kustomize-controller, and beside the least that anybody could send: the same objects, the same
//! API server, the same intervals, one after the other in one run. Each line ends with the ratio.
//!
//!     cargo bench --bench beside_flux                              # 1,000 objects, first apply, then 180 quiet seconds
//!     cargo bench --bench beside_flux -- --objects 10000 --quiet 60
//!     cargo bench --bench beside_flux -- --kustomizations 1000     # 4 objects each: Flux's own published workload
//!     cargo bench --bench beside_flux -- --alone                   # without Flux: for a figure of ours that is worked on
//!     cargo bench --bench beside_flux -- --alone --no-floor        # and without the bare loop
//!     cargo bench --bench beside_flux -- --homes --quiet 3600      # no peer: in a pod and as a service, for an hour
//!
//! Flux is its kustomize-controller alone, fed by a GitRepository whose status names an archive on a file server: what its
//! source-controller and notification-controller cost comes on top. `WICKIE_BINARY` names the agent, for instance the static one.

#![allow(clippy::print_stdout, reason = "figures are for people")]

mod cluster;
mod flux;
mod floor;
mod homes;
mod wickie;

use std::error::Error;
use std::time::Duration;

use anyhow::Result;
use wickie_testbench::{ControlPlane, Options};

use cluster::Namespace;

/// How often both hold the cluster against Git.
const INTERVAL: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(1800);

/// What is compared.
#[derive(Clone, Copy, Debug)]
struct Workload {
    objects: usize,
    /// Kustomizations that share them; one has all.
    kustomizations: usize,
    /// For how long nothing is to be done afterwards.
    quiet: Duration,
    /// Deployments whose status changes meanwhile.
    churning: usize,
}

/// What one of them took.
#[derive(Debug, Default)]
struct Figures {
    exist: Duration,
    ready: Duration,
    requests: usize,
    settled: u64,
    peak: u64,
    quiet_requests: usize,
    quiet_cpu: f64,
    /// Changes of status meanwhile.
    churned: usize,
    quiet_written: Option<u64>,
    /// How long edits by hand stood, shortest first.
    drift: Vec<Duration>,
    /// Requests for one changed line.
    change: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let workload = workload();
    println!("{workload:?}; intervals of {INTERVAL:?}");
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    if given("--homes") {
        return Ok(homes::run(workload).await?);
    }
    let control_plane = ControlPlane::start(Options::default()).await?;
    let mut floor = Duration::ZERO;
    // Many objects take minutes to be deleted again.
    if !given("--no-floor") {
        let namespace = Namespace::new(&control_plane, "floor").await?;
        floor = floor::run(&namespace, workload).await?;
        println!("a bare loop of applies, 8 under way: all exist after {:.1} s", floor.as_secs_f64());
        namespace.clear().await?;
    }

    let namespace = Namespace::new(&control_plane, "wickie").await?;
    let ours = wickie::run(&control_plane, &namespace, workload).await?;
    println!("{ours:?}");

    let theirs = match given("--alone") {
        true => Figures::default(),
        false => {
            namespace.clear().await?;
            flux::run(&control_plane, &Namespace::new(&control_plane, "flux").await?, workload).await?
        }
    };
    print(floor, &ours, &theirs, workload);
    Ok(())
}

fn workload() -> Workload {
    let arguments: Vec<String> = std::env::args().collect();
    let given = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<usize>().ok()
    };
    let kustomizations = given("--kustomizations").unwrap_or(1);
    let objects = given("--objects").unwrap_or(if kustomizations > 1 { 4 * kustomizations } else { 1000 });
    let quiet = Duration::from_secs(given("--quiet").unwrap_or(180) as u64);
    Workload { objects, kustomizations, quiet, churning: given("--churning").unwrap_or(100).min(objects / 4) }
}

fn print(floor: Duration, ours: &Figures, theirs: &Figures, workload: Workload) {
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let line = |what: &str, ours: f64, theirs: f64| {
        let ratio = if ours > 0.0 { format!("{:.1}", theirs / ours) } else { "none of ours".to_owned() };
        println!("{what:<58} {ours:>10.1} {theirs:>10.1} {ratio:>12}");
    };
    println!("{:<58} {:>10} {:>10} {:>12}", "", "wickie", "Flux", "Flux/wickie");
    let (exist, ready) = (|one: &Figures| one.exist.as_secs_f64(), |one: &Figures| one.ready.as_secs_f64());
    line("all objects exist after (s)", exist(ours), exist(theirs));
    println!("{:<58} {:>10.2}", "  the same, beside the bare loop (times)", exist(ours) / floor.as_secs_f64());
    line("Ready, with wait, after (s)", ready(ours), ready(theirs));
    line("API requests until then", ours.requests as f64, theirs.requests as f64);
    line("resident, settled (MB)", mega(ours.settled), mega(theirs.settled));
    line("resident, at its peak (MB)", mega(ours.peak), mega(theirs.peak));
    let Workload { quiet, churning, .. } = workload;
    println!("{quiet:?} with nothing to do but the status of {churning} Deployments that changes:");
    line("  changes of status", ours.churned as f64, theirs.churned as f64);
    line("  API requests", ours.quiet_requests as f64, theirs.quiet_requests as f64);
    println!(
        "{:<58} {:>10.2} {:>10.2} {:>12.1}",
        "  CPU (s)",
        ours.quiet_cpu,
        theirs.quiet_cpu,
        theirs.quiet_cpu / ours.quiet_cpu
    );
    if let Some(written) = ours.quiet_written {
        println!("{:<58} {written:>10}", "  bytes written to storage");
    }
    if let (Some(most), Some(median)) = (ours.drift.last(), ours.drift.get(ours.drift.len() / 2)) {
        let what = format!("an edit by hand is repaired after (median, most, of {})", ours.drift.len());
        println!("{what:<58} {median:>10.2?} {most:>10.2?}");
    }
    if let Some(change) = ours.change {
        println!("{:<58} {change:>10}", "one line changed in Git: API requests, statuses aside");
    }
}
