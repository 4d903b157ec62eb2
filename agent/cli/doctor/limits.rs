//! What the system allows the agent: open files, and memory.

use std::fs;
use std::path::PathBuf;

use super::super::text;
use super::finding::{Area, Diagnosis};

/// Files that a busy agent has open: a socket a source and receiver, the API server's, the store's.
const FILES: u64 = 256;

/// What an agent with 1,000 objects has taken at its peak: see the README's table.
const MEMORY: u64 = 48 << 20;

/// What is allowed to the agent `pid`, or to this command where none runs.
pub(super) fn look(pid: Option<u32>, diagnosis: &mut Diagnosis) {
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
    if let Some(most) = open_files(&limits) {
        files(most, diagnosis);
    }
    // What holds for a command that a person types says nothing of a service.
    if let Some(group) = pid.and_then(|_| group(&fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?)) {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        let most = read("memory.max").and_then(|text| text.trim().parse().ok());
        let killed = read("memory.events").and_then(|text| killed(&text)).unwrap_or(0);
        memory(most, killed, diagnosis);
    }
}

/// The soft limit of open files. Source: proc(5), `/proc/pid/limits`.
pub(super) fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    Some(soft.parse().unwrap_or(u64::MAX))
}

/// The folder of a process's group. Source: cgroups(7), version 2.
fn group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Seen from within a container, the group is the top of what is mounted.
    let below = PathBuf::from("/sys/fs/cgroup").join(path);
    Some(if below.is_dir() { below } else { PathBuf::from("/sys/fs/cgroup") })
}

/// How often something in the group was killed for want of memory.
pub(super) fn killed(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

pub(super) fn files(most: u64, diagnosis: &mut Diagnosis) {
    match most {
        most if most < FILES => diagnosis.fail(
            Area::Limits,
            format!("{most} files may be open, and it takes up to {FILES}"),
            "LimitNOFILE=1024 in the unit, or ulimit -n 1024",
        ),
        u64::MAX => diagnosis.ok(Area::Limits, "open files are not limited"),
        most => diagnosis.ok(Area::Limits, format!("{most} files may be open")),
    }
}

pub(super) fn memory(most: Option<u64>, killed: u64, diagnosis: &mut Diagnosis) {
    let raise = "raise the memory limit of the DaemonSet, or MemoryMax of the unit: 128Mi is enough for 1,000 objects";
    if killed > 0 {
        let message = format!("processes of its group were killed for want of memory, {killed} in all");
        diagnosis.fail(Area::Limits, message, raise);
    }
    match most {
        Some(most) if most < MEMORY => {
            let message = format!(
                "{} of memory may be taken, and 1,000 objects take up to {}",
                text::bytes(most),
                text::bytes(MEMORY)
            );
            diagnosis.warn(Area::Limits, message, raise);
        }
        Some(most) => diagnosis.ok(Area::Limits, format!("{} of memory may be taken", text::bytes(most))),
        None => diagnosis.ok(Area::Limits, "memory is not limited"),
    }
}
