//! What is told at a start: nothing that is not so, and all of it to those who want to hear it.

use anyhow::ensure;
use wickie_testbench::{Receiver, eventually};

use crate::node::*;

/// A start once told that the source "cannot be used", before its snapshot was loaded, and the first words of all went to nobody: they were
/// said before the Alert was read.
#[tokio::test]
async fn a_start_tells_no_failure_that_is_none_and_every_event_is_reported() {
    let (fleet, client) = fleet("first-words").await;
    let maps = maps(&fleet, &client);
    let receiver = Receiver::start().unwrap();
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    fleet.configure("reports.yaml", &reports(&receiver)).unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;

    fleet.git.down();
    agent.kill9();
    change_by_hand(&maps, "a", "by hand").await;
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    status_becomes(&agent, "the source is said to be away", |status| {
        status["sources"][0]["ready"]["status"] == "False"
    })
    .await;

    let (ids, reasons) = eventually("every event is reported, in order", LONG, || async {
        let events = events(&agent)?;
        let field = |name: &str| events.iter().filter_map(|event| Some(event[name].as_str()?.to_owned())).collect();
        let (ids, reasons): (Vec<_>, Vec<_>) = (field("id"), field("reason"));
        let mut reported: Vec<_> =
            receiver.deliveries().iter().filter_map(|one| Some(one.header("wickie-event-id")?.to_owned())).collect();
        // Killed between the answer and its note, the agent sends a report again: it is told by its id.
        let mut told = std::collections::HashSet::new();
        reported.retain(|id| told.insert(id.clone()));
        ensure!(ids == reported, "{reasons:?} happened; reported were {} of {}", reported.len(), ids.len());
        anyhow::Ok((ids, reasons))
    })
    .await;
    assert!(ids.len() >= 3, "{reasons:?}");
    assert!(!reasons.contains(&"ArtifactFailed".to_owned()), "{reasons:?}");
}

fn events(agent: &wickie_testbench::Agent) -> anyhow::Result<Vec<serde_json::Value>> {
    Ok(serde_json::from_str(&agent.cli(&["events", "-o", "json"])?.stdout)?)
}

fn reports(receiver: &Receiver) -> String {
    format!(
        "apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Provider
metadata: {{name: ci}}
spec: {{type: generic, address: '{}'}}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Alert
metadata: {{name: all}}
spec:
  providerRef: {{name: ci}}
  eventSources: [{{kind: GitRepository, name: '*'}}, {{kind: Kustomization, name: '*'}}]
",
        receiver.url()
    )
}
