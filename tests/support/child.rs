//! Child processes that cannot outlive the test.
//!
//! Each child is started by a small shell, its guard, which reads a pipe that only the test process holds open. When that process ends, in
//! whatever way, the pipe ends, and the guard kills the child. No program is ever looked for by its name.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Reads the log's path, then the command. Prints the child's pid, waits for it, and exits as it did.
const GUARD: &str = r#"
log=$1; shift
exec 3<&0 4>&1 </dev/null >>"$log" 2>&1
"$@" 3<&- 4>&- &
child=$!
echo "$child" >&4
exec 4>&-
{ read -r _ <&3; kill -9 "$child"; } 2>/dev/null &
watch=$!
exec 3<&-
wait "$child"
code=$?
kill -9 "$watch" 2>/dev/null
exit "$code"
"#;

/// A running program, killed when dropped. Its output is in a log file.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: Pid,
    guard: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command` with its output appended to `log`. Its stdin is empty.
    ///
    /// # Errors
    /// When there is no `sh`, or the log cannot be written.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(GUARD).arg("guard").arg(log).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(key, value),
                None => guard.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            guard.current_dir(folder);
        }
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("write {}", log.display()))?;
        // A group of its own: Ctrl-C at the terminal is this process's to answer, and the guard lives to see how it does.
        guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
        let mut guard = guard.spawn().context("start sh")?;
        let mut line = String::new();
        BufReader::new(guard.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let pid = line
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .with_context(|| format!("{name}: no pid from its guard"))?;
        Ok(Self { name: name.to_owned(), pid, guard, log: log.to_owned() })
    }

    /// The process id of the program itself.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The exit code once it has ended; 128 + N when signal N ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = self.guard.try_wait().ok().flatten()?;
        Some(status.code().unwrap_or(-1))
    }

    /// Fails, with the end of the log, if the program has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn check(&mut self) -> Result<()> {
        if let Some(code) = self.exit_code() {
            bail!("{} ended with code {code}; the end of {}:\n{}", self.name, self.log.display(), self.log_tail(30));
        }
        Ok(())
    }

    /// SIGKILL; returns when the program is gone.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.guard.wait();
    }

    /// Sends a signal, if the program still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_code().is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// SIGTERM, then waits for the end and returns the exit code.
    ///
    /// # Errors
    /// When it still runs after `patience`; it is killed then.
    pub async fn stop(&mut self, patience: Duration) -> Result<i32> {
        self.signal(Signal::TERM);
        self.wait(patience).await
    }

    /// Waits for the end and returns the exit code.
    ///
    /// # Errors
    /// When it still runs after `patience`; it is killed then.
    pub async fn wait(&mut self, patience: Duration) -> Result<i32> {
        let start = Instant::now();
        loop {
            if let Some(code) = self.exit_code() {
                return Ok(code);
            }
            if start.elapsed() > patience {
                self.kill9();
                bail!(
                    "{} still ran after {patience:?}; the end of {}:\n{}",
                    self.name,
                    self.log.display(),
                    self.log_tail(30)
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Removes a folder after this process has ended in a way that dropped nothing: a `static`, or SIGKILL. A file `keep` in it keeps the logs.
#[derive(Debug)]
pub(crate) struct Sweeper(std::process::Child);

impl Sweeper {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        const SWEEP: &str = r#"read -r _; sleep 1; rm -rf "$1/etcd"; [ -e "$1/keep" ] || rm -rf "$1""#;
        let args: [OsString; 4] = ["-c".into(), SWEEP.into(), "sweep".into(), folder.into()];
        let mut shell = Command::new("sh");
        shell.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        shell.spawn().map(Self).context("start sh")
    }
}

impl Drop for Sweeper {
    /// Whoever drops it has looked after the folder.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
