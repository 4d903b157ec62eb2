//! The first fetch of one cluster's folder out of a repository of 200 such folders.

use wickie_testbench::histories;

use crate::judge::Judge;
use crate::stand::{RealGit, Stand, Wickie, heading, row};

pub(crate) async fn run(judge: &mut Judge) {
    let stand = Stand::new("thin-link-folder");
    histories::clusters(&stand.repo, 200, &stand.signer()).unwrap();
    heading("First fetch of one folder of 200 (20 manifests each, 4.8 MB in all)");
    let part = Wickie::new(&stand, "part", Some("clusters/c7")).poll().await;
    row("wickie", part);
    let git = RealGit::new(&stand, "shallow");
    let whole = git.clone(&["--depth=1"]).await;
    row("git clone --depth 1", whole);
    let cloned = git.clone(&["--depth=1", "--filter=blob:none", "--sparse"]).await;
    git.run(&["config", "core.sparseCheckoutCone", "true"]).await;
    git.run(&["sparse-checkout", "set", "clusters/c7"]).await;
    let files = git.run(&["checkout", "--quiet", "main"]).await;
    let sum = |one: u64, other: u64| one + other;
    row(
        "git clone --depth 1 --filter=blob:none --sparse, and the folder",
        crate::stand::Cost {
            requests: sum(cloned.requests, files.requests),
            bodies: sum(cloned.bodies, files.bodies),
            headers: sum(cloned.headers, files.headers),
            wire: sum(cloned.wire, files.wire),
        },
    );
    println!("\nwickie: {:.2} % of a shallow clone", 100.0 * part.bodies as f64 / whole.bodies as f64);
    judge.at_most(
        "percent of a shallow clone for one folder of 200",
        100.0 * part.bodies as f64 / whole.bodies as f64,
        3.0,
    );
}
