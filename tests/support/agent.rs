//! The program under test, as a process.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::child::Child;

/// How the agent is started.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// The binary: `env!("CARGO_BIN_EXE_wickie")` in an integration test of the root package.
    pub binary: PathBuf,
    /// `--config`, if any.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--kubeconfig`, if any.
    pub kubeconfig: Option<PathBuf>,
    /// More arguments of `wickie run`.
    pub args: Vec<OsString>,
    /// Variables besides the test's own.
    pub env: Vec<(String, String)>,
}

/// A running `wickie run`; killed when dropped.
pub struct Agent {
    child: Child,
    options: AgentOptions,
}

/// What a command of the CLI answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Answers.
    pub stdout: String,
    /// Words.
    pub stderr: String,
}

impl Agent {
    /// Starts `wickie run`. Its log is appended to `agent.log` beside the data dir, over all starts.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn spawn(options: AgentOptions) -> Result<Self> {
        let child = start(&options)?;
        Ok(Self { child, options })
    }

    /// Starts it again as before. One that still runs is killed.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn restart(&mut self) -> Result<()> {
        self.child.kill9();
        self.child = start(&self.options)?;
        Ok(())
    }

    /// How it was started.
    pub fn options(&self) -> &AgentOptions {
        &self.options
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill9(&mut self) {
        self.child.kill9();
    }

    /// SIGSTOP: it is frozen where it is, its connections with it.
    pub fn freeze(&mut self) {
        self.child.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on as if nothing had been.
    pub fn thaw(&mut self) {
        self.child.signal(Signal::CONT);
    }

    /// SIGTERM; returns the exit code.
    ///
    /// # Errors
    /// When it is not gone after half a minute.
    pub async fn stop(&mut self) -> Result<i32> {
        self.child.stop(Duration::from_secs(30)).await
    }

    /// The exit code, if it has ended; 128 + N when signal N ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.exit_code()
    }

    /// Fails, with the end of the log, if it has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// Its process id: for a hook that kills it, see [`kill9`].
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// All of its log, over all starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.child.log()).unwrap_or_default()).into_owned()
    }

    /// The file of its log.
    pub fn log_file(&self) -> &Path {
        self.child.log()
    }

    /// Resident memory.
    ///
    /// # Errors
    /// When it has ended.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a running process has a VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Processor time so far, user and system.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The second field is a name in parentheses that may hold anything; utime and stime are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(") ").context("a stat line has a name")?;
        let ticks: Vec<u64> = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        Ok(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Bytes written to storage so far, by `/proc/PID/io`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn bytes_written(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "))
            .context("a running process has write_bytes")?;
        Ok(line.parse()?)
    }

    /// Runs `wickie ARGS --data-dir DIR` with this agent's data dir, whether it runs or not, and waits for the end.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn cli(&self, args: &[&str]) -> Result<Answered> {
        cli(&self.options, args)
    }
}

/// [`Agent::cli`] for an agent that was never started.
///
/// # Errors
/// When the binary is not there.
pub fn cli(options: &AgentOptions, args: &[&str]) -> Result<Answered> {
    let mut command = Command::new(&options.binary);
    command.args(args).arg("--data-dir").arg(&options.data_dir).stdin(Stdio::null());
    command.envs(options.env.iter().map(|(key, value)| (key, value)));
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("run {}", options.binary.display()))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answered { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) })
}

/// SIGKILL to a process id, if there is such a process. For a hook: [`Agent`] itself stays with the test.
pub fn kill9(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

fn start(options: &AgentOptions) -> Result<Child> {
    anyhow::ensure!(options.binary.is_file(), "no binary at {}", options.binary.display());
    let mut command = Command::new(&options.binary);
    command.arg("run").arg("--data-dir").arg(&options.data_dir);
    for (flag, value) in [("--config", &options.config), ("--kubeconfig", &options.kubeconfig)] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    command.args(&options.args).envs(options.env.iter().map(|(key, value)| (key, value)));
    let log = options.data_dir.with_file_name("agent.log");
    fs::create_dir_all(log.parent().context("a data dir has a parent")?)?;
    Child::spawn("wickie", &command, &log)
}
