//! 1,000 objects through three overlays: wickie's build and kustomize's, in one run on one machine.
//!
//! `cargo bench -p wickie-kustomize`. kustomize runs inside the harness, so that starting a process is not counted; its
//! first build, which reads the OpenAPI schema, is shown apart. The peak is that of this process, input included. Beside the
//! command as a process: `cargo bench -p wickie --bench build`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;
mod tree;

use std::time::{Duration, Instant};
use support::{Case, Judge};

const ROUNDS: usize = 7;

fn main() {
    let files = tree::files().into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
    let case = Case { files, root: tree::ROOT.to_owned(), legacy: true, ..Case::default() };
    let before = peak();
    let ours = measure(|| drop(case.wickie().unwrap()));
    println!("wickie:    {}, peak {} KiB ({before} before)", shown(&ours), peak());
    let Some(mut judge) = Judge::start() else { return };
    let first = Instant::now();
    let wanted = judge.build(&case).unwrap();
    let first = first.elapsed();
    let theirs = measure(|| drop(judge.build(&case).unwrap()));
    println!("kustomize: {}, first {first:.0?}", shown(&theirs));
    println!("the results are {}", if wanted == case.wickie().unwrap() { "equal" } else { "DIFFERENT" });
    println!("medians: {:.0} times faster", theirs[ROUNDS / 2].as_secs_f64() / ours[ROUNDS / 2].as_secs_f64());
}

fn measure(mut build: impl FnMut()) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            build();
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn shown(times: &[Duration]) -> String {
    format!("min {:.1?}, median {:.1?}, max {:.1?}", times[0], times[ROUNDS / 2], times[ROUNDS - 1])
}

/// The most memory this process had resident so far.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
