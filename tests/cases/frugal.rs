//! What the API server is asked for, counted by the API server itself and by a proxy before it.

use wickie_testbench::{ApiProxy, ControlPlane, manifests};

use crate::node::*;

/// A thousand objects are applied once each; one line of one of them is one apply; nothing is none.
#[tokio::test]
async fn a_thousand_objects_cost_a_thousand_applies_and_a_line_costs_one() {
    let (mut fleet, _) = fleet("frugal").await;
    let proxy = ApiProxy::start(ControlPlane::shared().await).unwrap();
    fleet.through(&proxy.kubeconfig());
    fleet.repo.write_all(&manifests::many(1000, Some(&fleet.namespace))).unwrap();
    let first = fleet.commit("a thousand").unwrap();
    fleet.follow("2s").unwrap();
    fleet.keep("apps", "  path: apps\n  interval: 5s\n").unwrap();
    let agent = fleet.start().unwrap();
    let applied = |commit: String| {
        move |status: &serde_json::Value| {
            kustomization(status, "apps")["appliedRevision"] == format!("main@sha1:{commit}")
        }
    };
    status_becomes(&agent, "all is applied", applied(first)).await;
    let applies = || proxy.count(|request| request.method == "PATCH" && !request.path.ends_with("/status"));
    assert_eq!(applies(), 1000);

    // Watches settle, and say nothing new.
    let quiet = || async {
        let before = proxy.requests().len();
        tokio::time::sleep(std::time::Duration::from_secs(12)).await;
        let after = proxy.requests();
        let paths: Vec<_> =
            after[before..].iter().map(|request| format!("{} {}", request.method, request.path)).collect();
        anyhow::ensure!(paths.is_empty(), "{paths:?}");
        anyhow::Ok(())
    };
    wickie_testbench::eventually("two intervals pass without a request", LONG, quiet).await;

    let (path, text) = manifests::many(1000, Some(&fleet.namespace)).swap_remove(0);
    fleet.repo.write(&path, &text.replace("line 7 of", "line seven of")).unwrap();
    proxy.forget();
    let second = fleet.commit("one line").unwrap();
    status_becomes(&agent, "the line is applied", applied(second)).await;
    let sent: Vec<_> = proxy.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    assert_eq!(applies(), 1, "{sent:?}");
    assert!(sent.len() <= 3, "{sent:?}");
}
