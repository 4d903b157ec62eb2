//! What must be on the machine, named before anything is built.

use anyhow::{Result, bail};
use wickie_testbench::parts::{self, Part};
use wickie_testbench::{Options, need};

/// Fails with all that is missing, and how to get it. `cluster` is what will be started, if anything.
pub(crate) fn check(cluster: Option<&Options>) -> Result<()> {
    let mut missing = Vec::new();
    if need::program("git").is_none() {
        missing.push("git: https://git-scm.com/downloads (Debian: apt install git)".to_owned());
    }
    let compiler = std::env::var("CC").ok().filter(|name| !name.is_empty());
    let compilers = ["cc", "gcc", "clang"].into_iter().any(|name| need::program(name).is_some());
    if compiler.is_none() && !compilers {
        missing.push("a C compiler, for SQLite: gcc or clang (Debian: apt install gcc libc6-dev)".to_owned());
    }
    let to_build = cluster.map(to_build).transpose()?.unwrap_or_default();
    if !to_build.is_empty() && need::program("go").is_none() {
        let names: Vec<_> = to_build.iter().map(|part| part.program).collect();
        missing.push(format!(
            "Go 1.26 or newer, to build {}: https://go.dev/dl\n    or a folder that holds them, in KUBEBUILDER_ASSETS; or a cluster of yours: --kubeconfig FILE",
            names.join(" and ")
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing on this machine:\n  {}", missing.join("\n  "))
}

/// The parts of a control plane that are not here yet.
pub(crate) fn to_build(options: &Options) -> Result<Vec<&'static Part>> {
    let mut wanted = vec![&parts::ETCD, &parts::API_SERVER];
    wanted.extend(options.controller_manager.then_some(&parts::CONTROLLER_MANAGER));
    wanted.extend(options.scheduler.then_some(&parts::SCHEDULER));
    wanted.extend((options.nodes > 0).then_some(&parts::KWOK));
    let mut missing = Vec::new();
    for part in wanted {
        if !parts::is_here(part)? {
            missing.push(part);
        }
    }
    Ok(missing)
}
