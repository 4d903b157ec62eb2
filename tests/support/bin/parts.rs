//! Finds or builds the programs of the test bench, and prints where they are. Tests do that by themselves; this does it beforehand.

use anyhow::Result;
use wickie_testbench::parts;

fn main() -> Result<()> {
    for part in [
        parts::ETCD,
        parts::API_SERVER,
        parts::CONTROLLER_MANAGER,
        parts::SCHEDULER,
        parts::KWOK,
        parts::GITEA,
        parts::KUSTOMIZE,
        parts::KUSTOMIZE_CONTROLLER,
        parts::SOPS,
        parts::AGE_KEYGEN,
    ] {
        println!("{}", parts::find(&part)?.display());
    }
    Ok(())
}
