//! Another version of the agent on the data directory of the one before: nothing is applied again, and no report is lost.
//!
//! The one before is the binary that `WICKIE_BEFORE` names (say, a release); without it, this very one.

use std::path::PathBuf;

use wickie_testbench::{Agent, ApiProxy, ControlPlane, Receiver};

use crate::heard::*;
use crate::node::*;

/// How many objects Git holds.
const OBJECTS: usize = 20;

#[tokio::test]
async fn an_upgrade_applies_nothing_again_and_loses_no_report() {
    let this = PathBuf::from(env!("CARGO_BIN_EXE_wickie"));
    let before = std::env::var_os("WICKIE_BEFORE").map_or_else(|| this.clone(), PathBuf::from);
    let (mut fleet, client) = fleet("upgrade").await;
    let proxy = ApiProxy::start(ControlPlane::shared().await).unwrap();
    fleet.through(&proxy.kubeconfig());
    let maps = maps(&fleet, &client);
    let receiver = Receiver::start().unwrap();
    receiver.down();
    report_to(&fleet, &receiver);
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    for index in 0..OBJECTS {
        fleet.write_map(&format!("{index}.yaml"), &format!("a{index}"), "1").unwrap();
    }
    let commit = fleet.commit("first").unwrap();
    let mut options = fleet.options();
    options.binary = before;
    let mut agent = Agent::spawn(options.clone()).unwrap();
    applied(&agent, &commit).await;
    agent.stop().await.unwrap();
    let told = written(&agent).unwrap();
    assert!(!told.is_empty() && heard(&receiver).0.is_empty());

    // The new one, with Git gone: what it knows is what the other one wrote down.
    fleet.git.down();
    let applies = || proxy.count(|request| request.method == "PATCH" && !request.path.ends_with("/wickie-floors"));
    let sent = applies();
    options.binary = this;
    let mut agent = Agent::spawn(options).unwrap();
    change_by_hand(&maps, "a7", "by hand").await;
    value_becomes(&mut agent, &maps, "a7", Some("1")).await;
    applied(&agent, &commit).await;
    // Refused at first, because another manager owns the field, and then taken back.
    assert_eq!(applies() - sent, 2, "one object was to be put right, and no other sent");
    receiver.up();
    let heard = everything_is_heard(&agent, &receiver).await;
    assert!(told.iter().all(|id| heard.iter().any(|heard| heard.id == *id)), "{told:?}\n{heard:#?}");

    // It goes on.
    fleet.git.heal();
    fleet.write_map("0.yaml", "a0", "2").unwrap();
    let second = fleet.commit("second").unwrap();
    value_becomes(&mut agent, &maps, "a0", Some("2")).await;
    applied(&agent, &second).await;
    agent.stop().await.unwrap();
}
