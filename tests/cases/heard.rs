//! What a receiver heard, held against what the agent says that happened.

use std::collections::HashSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use wickie_testbench::{Agent, Fleet, Receiver, eventually};

use crate::node::LONG;

/// The key that reports are signed with.
pub(crate) const KEY: &str = "known to node and receiver";

/// A report, as a receiver reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) id: String,
    /// `GitRepository/fleet`
    pub(crate) about: String,
    pub(crate) severity: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Empty where it names none.
    pub(crate) revision: String,
}

/// Lets the node report everything to `receiver`, signed.
pub(crate) fn report_to(fleet: &Fleet, receiver: &Receiver) {
    let text = format!(
        "apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Provider
metadata: {{name: ci}}
spec: {{type: generic-hmac, address: {}, secretRef: {{name: ci}}}}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Alert
metadata: {{name: everything}}
spec:
  providerRef: {{name: ci}}
  eventSources: [{{kind: GitRepository, name: '*'}}, {{kind: Kustomization, name: '*'}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: ci}}
stringData: {{token: {KEY}}}
",
        receiver.url()
    );
    fleet.configure("report.yaml", &text).unwrap();
}

/// Every report that `receiver` took, in the order of its first arrival, each id once; and how often one came again.
pub(crate) fn heard(receiver: &Receiver) -> (Vec<Heard>, usize) {
    let deliveries = receiver.deliveries();
    let (mut ids, mut first) = (HashSet::new(), Vec::new());
    for delivery in &deliveries {
        assert!(delivery.signed_with(KEY.as_bytes()), "its signature does not fit: {delivery:?}");
        let body = delivery.json().unwrap();
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let heard = Heard {
            id: delivery.header("wickie-event-id").unwrap().to_owned(),
            about: format!("{}/{}", text("/involvedObject/kind"), text("/involvedObject/name")),
            severity: text("/severity"),
            reason: text("/reason"),
            message: text("/message"),
            revision: text("/metadata/revision"),
        };
        if ids.insert(heard.id.clone()) {
            first.push(heard);
        } else {
            assert!(first.contains(&heard), "the id {} came again with other words: {heard:?}", heard.id);
        }
    }
    let again = deliveries.len() - first.len();
    (first, again)
}

/// The ids of all events that the agent has written down, in order.
pub(crate) fn written(agent: &Agent) -> Result<Vec<String>> {
    let answered = agent.cli(&["events", "-o", "json", "--limit", "100000"])?;
    let events: Vec<Value> = serde_json::from_str(&answered.stdout).with_context(|| format!("{answered:?}"))?;
    Ok(events.iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Waits until the receiver has heard everything that the agent has written down; in order, and nothing else.
pub(crate) async fn everything_is_heard(agent: &Agent, receiver: &Receiver) -> Vec<Heard> {
    eventually("the receiver has heard everything", LONG, || async {
        let (written, (heard, _)) = (written(agent)?, heard(receiver));
        let ids: Vec<_> = heard.iter().map(|heard| heard.id.clone()).collect();
        ensure!(ids == written, "written {} {written:#?}\nheard {} {heard:#?}", written.len(), heard.len());
        Ok(heard)
    })
    .await
}

/// The only one that fits.
pub(crate) fn the_one(heard: &[Heard], fits: impl Fn(&Heard) -> bool) -> &Heard {
    let found: Vec<_> = heard.iter().filter(|heard| fits(heard)).collect();
    assert_eq!(found.len(), 1, "{found:#?}\nof {heard:#?}");
    found[0]
}
