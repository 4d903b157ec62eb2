//! `wickie build` and `kustomize build` as processes, side by side: 1,000 objects through three overlays.
//!
//!     cargo bench --bench build [-- RUNS]
//!
//! `WICKIE_BINARY` names another binary to measure, for instance the static one. The goals are ten times faster and less
//! than 30 MiB, and the exit code says whether they were met.

#![allow(clippy::print_stdout, reason = "figures are for people")]

#[path = "../agent/kustomize/benches/tree.rs"]
mod tree;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use wickie_testbench::{Scratch, parts};

const FASTER: f64 = 10.0;
const MEMORY_KIB: u64 = 30 * 1024;

fn main() -> Result<ExitCode> {
    let runs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15);
    let kustomize = parts::find(&parts::KUSTOMIZE)?;
    let wickie = std::env::var("WICKIE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wickie").to_owned());
    let scratch = Scratch::new("bench-build");
    for (path, text) in tree::files() {
        let file = scratch.join(path);
        std::fs::create_dir_all(file.parent().context("a file stands in a folder")?)?;
        std::fs::write(file, text)?;
    }
    let root = scratch.join(tree::ROOT);
    let programs = [PathBuf::from(&wickie), kustomize];
    println!("{wickie}: {runs} runs of each, in turns");

    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (program, took) in programs.iter().zip(&mut took) {
            took.push(time(program, &root)?);
        }
    }
    let medians = took.each_mut().map(|took| {
        took.sort();
        took[took.len() / 2].as_secs_f64()
    });
    let [ours, theirs] = [peak(&programs[0], &root)?, peak(&programs[1], &root)?];
    ensure!(ours.output == theirs.output, "the results differ");
    for (name, took, peak) in [("wickie", &took[0], ours.kib), ("kustomize", &took[1], theirs.kib)] {
        let milliseconds = |duration: &Duration| duration.as_secs_f64() * 1000.0;
        println!(
            "{name:>9}: median {:.0} ms, least {:.0} ms, most {:.0} ms; peak {:.1} MiB",
            milliseconds(&took[took.len() / 2]),
            milliseconds(&took[0]),
            milliseconds(&took[took.len() - 1]),
            peak as f64 / 1024.0
        );
    }
    let faster = medians[1] / medians[0];
    println!("the results are equal, {} bytes; {faster:.1} times faster", ours.output.len());
    Ok(if faster >= FASTER && ours.kib < MEMORY_KIB { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From before its start until it has ended.
fn time(program: &Path, root: &Path) -> Result<Duration> {
    let start = Instant::now();
    let status = Command::new(program).arg("build").arg(root).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{} failed", program.display());
    Ok(start.elapsed())
}

struct Peak {
    kib: u64,
    output: Vec<u8>,
}

/// The most memory that was resident. Both write once all is built, and more than a pipe holds: while the rest waits to
/// be read, the process stands still at its peak.
fn peak(program: &Path, root: &Path) -> Result<Peak> {
    let mut child = Command::new(program).arg("build").arg(root).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("it is a pipe")?;
    let mut output = vec![0];
    stdout.read_exact(&mut output)?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib = line.trim().trim_end_matches(" kB").parse()?;
    stdout.read_to_end(&mut output)?;
    ensure!(child.wait()?.success() && output.len() > 128 * 1024, "{} failed", program.display());
    Ok(Peak { kib, output })
}
