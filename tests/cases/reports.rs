//! Reports to a receiver that is in trouble: nothing is lost, nothing overtakes, nothing counts twice.

use anyhow::ensure;
use wickie_testbench::{Fault, Receiver, When, agent, eventually};

use crate::heard::*;
use crate::node::*;

#[tokio::test]
async fn a_receiver_that_was_down_for_the_whole_run_hears_everything_afterwards() {
    let (fleet, client) = fleet("reports").await;
    let maps = maps(&fleet, &client);
    let receiver = Receiver::start().unwrap();
    receiver.down();
    report_to(&fleet, &receiver);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.write_map("b.yaml", "b", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    applied(&agent, &first).await;

    // All that can happen, and a SIGKILL in the middle of it.
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    fleet.repo.write("c.yaml", "a: [broken").unwrap();
    let broken = fleet.commit("broken").unwrap();
    status_becomes(&agent, "the broken commit fails", |status| {
        kustomization(status, "apps")["ready"]["reason"] == "BuildFailed"
    })
    .await;
    agent.kill9();
    agent.restart().unwrap();
    fleet.repo.remove("c.yaml").unwrap();
    fleet.repo.remove("b.yaml").unwrap();
    let third = fleet.commit("third").unwrap();
    value_becomes(&mut agent, &maps, "b", None).await;
    applied(&agent, &third).await;
    assert_eq!(heard(&receiver).0, []);

    receiver.up();
    let heard = everything_is_heard(&agent, &receiver).await;
    for commit in [&first, &broken, &third] {
        the_one(&heard, |heard| heard.reason == "NewArtifact" && heard.message.contains(commit.as_str()));
    }
    for commit in [&first, &third] {
        assert!(
            heard.iter().any(|heard| heard.reason == "ReconciliationSucceeded" && heard.revision.ends_with(commit))
        );
    }
    let failed: Vec<_> = heard.iter().filter(|heard| heard.severity == "error").collect();
    assert!(!failed.is_empty() && failed.iter().all(|heard| heard.reason == "BuildFailed"), "{failed:#?}");
    the_one(&heard, |heard| heard.message == format!("ConfigMap/{}/b deleted", fleet.namespace));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_receiver_fails_on_comes_again_in_order_under_the_same_id() {
    let (fleet, client) = fleet("reports-faults").await;
    let maps = maps(&fleet, &client);
    let receiver = Receiver::start().unwrap();
    report_to(&fleet, &receiver);
    // One of each; then two answers are lost after the receiver took the report.
    receiver.inject(Fault::answer(500).once());
    receiver.inject(Fault::answer(429).retry_after(2).once());
    receiver.inject(Fault::Refuse.once());
    receiver.inject(Fault::Lose.times(2));
    fleet.write_map("a.yaml", "a", "1").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    applied(&agent, &first).await;
    let said = everything_is_heard(&agent, &receiver).await;
    assert_eq!(heard(&receiver).1, 2, "the two lost answers");
    let requests = receiver.requests();
    let busy = requests.iter().position(|request| request.status == Some(429)).unwrap();
    let pause = requests[busy + 1].at - requests[busy].at;
    assert!(pause.as_secs_f32() >= 2.0, "asked for two seconds, it came again after {pause:?}");

    // Killed after the receiver took a report and before the agent knew: the next start sends it again.
    let pid = agent.pid();
    receiver.at_request(1, When::After, |_| true, move || agent::kill9(pid));
    fleet.write_map("a.yaml", "a", "2").unwrap();
    let second = fleet.commit("second").unwrap();
    eventually("the agent is killed", LONG, || async {
        ensure!(heard(&receiver).0.len() > said.len(), "no new report");
        Ok(())
    })
    .await;
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
    applied(&agent, &second).await;
    everything_is_heard(&agent, &receiver).await;
    assert_eq!(heard(&receiver).1, 3, "the one that the agent was killed at");
    agent.stop().await.unwrap();
}
