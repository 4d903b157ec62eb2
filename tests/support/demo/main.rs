//! `cargo demo`: what wickie promises, shown on real parts, step by step.
//!
//! ```text
//! args ─► tools (what is missing?) ─► build (the agent) ─► scene (cluster, Git, receiver, agent) ─► steps ─► table
//! ```
//!
//! A step holds only when what it claims was seen. Whatever happens, also Ctrl-C, a namespace in a cluster that was lent is removed again.

mod args;
mod screen;
mod tools;
mod build;
mod scene;
mod steps;
mod keep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use wickie_testbench::Options;

use args::Args;
use scene::{Cluster, Scene};
use screen::Screen;
use steps::Step;

/// How much of the agent's log is shown with a step that does not hold.
const TAIL: usize = 12;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (args, screen) = (Args::parse(), Screen::new());
    match demo(&args, &screen).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every step held.
async fn demo(args: &Args, screen: &Screen) -> Result<bool> {
    let wanted = match (&args.kubeconfig, args.full) {
        (Some(_), _) => None,
        (None, true) => Some(Options::default()),
        (None, false) => Some(Options::api_only()),
    };
    tools::check(wanted.as_ref())?;
    let binary = prepare(args, wanted.as_ref(), screen)?;

    let start = Instant::now();
    let cluster = tokio::select! {
        opened = Cluster::open(args, wanted) => opened?,
        // Nothing is anywhere yet that would not go with this process.
        () = interrupted() => std::process::exit(130),
    };
    let namespace = cluster.make_namespace().await?;
    let whose = if cluster.is_borrowed() { "yours, reached" } else { "etcd and kube-apiserver, started" };
    screen.say(&format!("The cluster: {whose} in {:.1} s", start.elapsed().as_secs_f64()));
    screen.say(&format!("The namespace: {namespace}"));
    let outcome = on(&cluster, &namespace, &binary, args, screen).await;
    // Before what went wrong is told: the namespace goes in any case.
    let tidy = !cluster.is_borrowed() || tidy_up(&cluster, &namespace, screen).await;
    Ok(outcome? && tidy)
}

/// The demo in a namespace that is there; whether every step held.
async fn on(cluster: &Cluster, namespace: &str, binary: &Path, args: &Args, screen: &Screen) -> Result<bool> {
    let mut scene = Scene::open(cluster, namespace, binary)?;
    let held = tokio::select! {
        held = play(&mut scene, args, screen) => Some(held),
        () = interrupted() => None,
    };
    if args.keep && held.is_some() {
        screen.heading("Everything runs on until Ctrl-C. What to try:");
        screen.say(&keep::what_to_try(&scene)?);
        interrupted().await;
    }
    scene.agent.stop().await.context("stop the agent")?;
    Ok(held == Some(true))
}

/// Builds what is missing, with a word on how long it takes.
fn prepare(args: &Args, wanted: Option<&Options>, screen: &Screen) -> Result<PathBuf> {
    let profile = if args.release { "release" } else { "dev" };
    screen.say(&format!("The agent: cargo build, {profile} profile (minutes the first time, then nothing)"));
    let binary = build::agent(args.release)?;
    for part in wanted.map(tools::to_build).transpose()?.unwrap_or_default() {
        screen.say(&format!("{}: built with Go, once, about {} on two cores", part.program, part.takes));
    }
    Ok(binary)
}

/// Goes through all steps, and writes the table.
async fn play(scene: &mut Scene<'_>, args: &Args, screen: &Screen) -> bool {
    screen.heading("What it does");
    let mut rows = Vec::new();
    for (index, step) in Step::ALL.into_iter().enumerate() {
        let (number, start) = (index + 1, Instant::now());
        let outcome = {
            let mut showing = std::pin::pin!(step.show(scene));
            loop {
                screen.pending(number, step.name(), start.elapsed());
                tokio::select! {
                    outcome = &mut showing => break outcome,
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                }
            }
        };
        let took = start.elapsed();
        let held = outcome.is_ok();
        let evidence = outcome.unwrap_or_else(|error| format!("{error:#}"));
        screen.done(number, step.name(), held, took, &evidence);
        if !held {
            let log = scene.agent.log();
            let lines: Vec<_> = log.lines().collect();
            screen.quote("the end of the agent's log:", &lines[lines.len().saturating_sub(TAIL)..].join("\n"));
        }
        rows.push((format!("{number:>2}  {}", step.name()), held, took));
    }
    screen.table(&rows);
    if let Ok(bytes) = scene.agent.rss_bytes() {
        let profile = if args.release { "release" } else { "dev" };
        screen.say(&format!("\nThe agent has {:.1} MB resident ({profile} build).", bytes as f64 / 1e6));
    }
    rows.iter().all(|(_, held, _)| *held)
}

/// Removes the namespace from a cluster that is not ours; says how to where that fails.
async fn tidy_up(cluster: &Cluster, namespace: &str, screen: &Screen) -> bool {
    let start = Instant::now();
    match cluster.remove_namespace(namespace).await {
        Ok(()) => {
            screen.say(&format!("Namespace {namespace} is removed ({:.1} s).", start.elapsed().as_secs_f64()));
            true
        }
        Err(error) => {
            screen.say(&format!("Namespace {namespace} could not be removed: {error:#}"));
            screen.say(&format!("Do it by hand: kubectl delete namespace {namespace}"));
            false
        }
    }
}

/// Waits for Ctrl-C, or to be told to stop.
async fn interrupted() {
    let told = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = told(SignalKind::interrupt()) => {}
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()) => {}
    }
}
