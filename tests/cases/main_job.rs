//! The main job: from a signed commit to live objects, and back to them when they drift; with Git, and without.

use crate::node::*;

#[tokio::test]
async fn a_signed_commit_becomes_objects_that_stay_as_git_wants_them() {
    let (fleet, client) = fleet("main-job").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("apps/a.yaml", "a", "1").unwrap();
    fleet.write_map("apps/b.yaml", "b", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "  path: ./apps\n").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    value_becomes(&mut agent, &maps, "b", Some("1")).await;

    // A commit changes one object, and takes another out.
    fleet.write_map("apps/a.yaml", "a", "2").unwrap();
    fleet.repo.remove("apps/b.yaml").unwrap();
    let second = fleet.commit("second").unwrap();
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
    value_becomes(&mut agent, &maps, "b", None).await;
    let done = status_becomes(&agent, "the second commit is applied", |status| {
        kustomization(status, "apps")["appliedRevision"] == format!("main@sha1:{second}")
    })
    .await;
    assert_eq!(kustomization(&done, "apps")["ready"]["reason"], "ReconciliationSucceeded", "{done:#}");

    // Drift is repaired, also when the object is gone.
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
    maps.delete("a", &Default::default()).await.unwrap();
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn with_git_gone_a_killed_agent_enforces_its_last_orders() {
    let (fleet, client) = fleet("last-orders").await;
    let maps = maps(&fleet, &client);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;

    fleet.git.down();
    agent.kill9();
    change_by_hand(&maps, "a", "by hand").await;
    fleet.git.forget();
    agent.restart().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    assert_eq!(fleet.git.requests().len(), 0, "Git has answered");
    let status = status_becomes(&agent, "the source is said to be away", |status| {
        status["sources"][0]["ready"]["status"] == "False"
    })
    .await;
    assert_eq!(kustomization(&status, "apps")["ready"]["status"], "True", "{status:#}");
}
