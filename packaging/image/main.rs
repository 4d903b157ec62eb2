//! What is made for shipping, beyond the binaries themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use wickie_packaging::{Architecture, Image};

/// Makes what wickie ships in.
#[derive(Parser)]
#[command(name = "wickie-packaging")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The container image, from the binaries of packaging/build-static
    Image(Args),
}

#[derive(clap::Args)]
#[group(id = "to", required = true, multiple = true, args = ["out", "archive"])]
struct Args {
    /// Write an OCI layout into this folder, which is made
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write it as one tar, for `ctr image import`
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// A binary, in place of target/static/ARCH/wickie; where one is named, only those that are named go in
    #[arg(long = "binary", value_name = "amd64|arm64=FILE", value_parser = binary)]
    binaries: Vec<(Architecture, PathBuf)>,
    /// The image's name without its tag
    #[arg(long, value_name = "NAME", default_value = "docker.io/library/wickie")]
    name: String,
}

fn binary(text: &str) -> Result<(Architecture, PathBuf), String> {
    let wrong = || "it is written like amd64=FILE or arm64=FILE".to_owned();
    let (architecture, file) = text.split_once('=').ok_or_else(wrong)?;
    let named = |known: &Architecture| known.oci() == architecture;
    let architecture = Architecture::ALL.into_iter().find(named).ok_or_else(wrong)?;
    Ok((architecture, file.into()))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
fn main() -> ExitCode {
    let Task::Image(args) = Cli::parse().command;
    match image(&args) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn image(args: &Args) -> Result<Vec<String>> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the crate lies in the repository")?;
    let binaries = match args.binaries.is_empty() {
        true => {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
            let built = |one: Architecture| (one, target.join("static").join(one.machine()).join("wickie"));
            Architecture::ALL.into_iter().map(built).collect()
        }
        false => args.binaries.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    let image = Image {
        binaries,
        name: args.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: git(top, &["rev-parse", "HEAD"]).ok(),
        created: created(top)?,
    };
    let mut lines = Vec::new();
    for (path, made) in [
        args.out.as_ref().map(|folder| (folder, image.write(folder))),
        args.archive.as_ref().map(|file| (file, image.archive(file))),
    ]
    .into_iter()
    .flatten()
    {
        let made = made?;
        lines.push(format!("{}: {}:{}@{}", path.display(), image.name, image.version, made.digest));
        lines.extend(made.layers.iter().map(|(one, bytes)| format!("  {}: {bytes} bytes", one.oci())));
    }
    Ok(lines)
}

/// The time that everything in the image bears: what SOURCE_DATE_EPOCH says, or the time of the commit.
///
/// Source: reproducible-builds.org, "SOURCE_DATE_EPOCH".
fn created(top: &Path) -> Result<Timestamp> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => git(top, &["log", "-1", "--format=%ct"]).context("SOURCE_DATE_EPOCH is not set")?,
    };
    let seconds: i64 = seconds.parse().with_context(|| format!("{seconds:?} is no time in seconds"))?;
    Ok(Timestamp::from_second(seconds)?)
}

fn git(top: &Path, args: &[&str]) -> Result<String> {
    let answer = Command::new("git").arg("-C").arg(top).args(args).output().context("git cannot be run")?;
    if !answer.status.success() {
        bail!("git {} failed: {}", args.join(" "), String::from_utf8_lossy(&answer.stderr).trim());
    }
    Ok(String::from_utf8(answer.stdout)?.trim().to_owned())
}
