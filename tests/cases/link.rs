//! Links that cost money: fetch windows, budgets, and what sources have cost.

use anyhow::ensure;
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;
use wickie_testbench::{Agent, Fleet, eventually};

use crate::node::{LONG, applied, fleet, status, status_becomes, tail};

/// Declares the repository with annotations.
fn follow(fleet: &Fleet, name: &str, annotations: &str) {
    let text = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  url: {}
  interval: 1s
  ref: {{branch: main}}
",
        fleet.git.url("fleet")
    );
    fleet.configure(&format!("{name}.yaml"), &text).unwrap();
}

/// A window that opens in three days at the soonest.
fn shut() -> String {
    let day = Timestamp::now().checked_add((24 * 3).hours()).unwrap();
    let day = day.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a").to_string();
    format!("wickie.dev/fetch-window: \"{day} 10:00-11:00 Europe/Oslo\"")
}

fn source<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["sources"].as_array();
    all.and_then(|all| all.iter().find(|one| one["name"] == name)).unwrap_or(&Value::Null)
}

fn reconcile(agent: &Agent) -> wickie_testbench::agent::Answered {
    let answered = agent.cli(&["reconcile", "source/fleet", "--timeout", "100s"]).unwrap();
    assert_eq!(answered.code, 0, "{answered:?}\n{}", tail(&agent.log()));
    answered
}

#[tokio::test]
async fn outside_its_window_a_source_is_asked_by_people_alone() {
    let (fleet, _) = fleet("window").await;
    fleet.write_map("map.yaml", "map", "one").unwrap();
    let first = fleet.commit("first").unwrap();
    follow(&fleet, "fleet", &shut());
    fleet.keep("apps", "  wait: true\n").unwrap();
    let agent = fleet.start().unwrap();
    let held = |status: &Value| source(status, "fleet")["held"]["reason"] == "OutsideWindow";
    let seen = status_becomes(&agent, "it waits for its window, and says so", held).await;
    assert_eq!(source(&seen, "fleet")["ready"]["reason"], "ArtifactFailed");
    let shown = agent.cli(&["status"]).unwrap().stdout;
    assert!(shown.contains("Europe/Oslo") && shown.contains("wickie reconcile source/fleet"), "{shown}");
    assert_eq!(fleet.git.requests().len(), 0, "the network was asked");

    let asked = reconcile(&agent);
    assert!(asked.stderr.contains("because you did"), "{asked:?}");
    applied(&agent, &first).await;
    let once = fleet.git.requests().len();
    fleet.write_map("map.yaml", "map", "two").unwrap();
    fleet.commit("second").unwrap();
    let seen = status_becomes(&agent, "it waits again, and is well", |status| {
        held(status) && source(status, "fleet")["ready"]["status"] == "True"
    })
    .await;
    assert_eq!(seen["ok"], true, "{seen:#}");
    // A window in the file that is open lets it go on by itself.
    follow(&fleet, "fleet", "wickie.dev/fetch-window: \"00:00-24:00\"");
    eventually("it goes on by itself", LONG, || async {
        let status = status(&agent)?;
        ensure!(source(&status, "fleet")["held"].is_null() && fleet.git.requests().len() > once, "{status:#}");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_budget_cuts_what_would_pass_it_and_outlives_a_kill() {
    let (fleet, _) = fleet("budget").await;
    fleet.write_map("map.yaml", "map", "one").unwrap();
    let first = fleet.commit("first").unwrap();
    follow(&fleet, "fleet", "wickie.dev/fetch-budget: 64Ki/day");
    fleet.keep("apps", "  wait: true\n").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;

    // What cannot be compressed, in files of 128 KiB: more than the sockets on the way can hold.
    for file in 0..64_u64 {
        let mut state = file + 1;
        let text: String = (0..131_072)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[(state >> 58) as usize])
            })
            .collect();
        fleet.repo.write(&format!("noise/{file}.txt"), &text).unwrap();
    }
    fleet.write_map("map.yaml", "map", "two").unwrap();
    fleet.git.forget();
    let second = fleet.commit("second, which is large").unwrap();
    let spent = |status: &Value| source(status, "fleet")["held"]["reason"] == "BudgetSpent";
    let seen = status_becomes(&agent, "the budget is spent", spent).await;
    let one = source(&seen, "fleet");
    assert_eq!((&one["ready"]["status"], &seen["ok"]), (&Value::from("True"), &Value::from(true)), "{seen:#}");
    assert!(one["traffic"]["budget"]["spent"].as_u64() >= Some(64 << 10), "{one:#}");
    assert!(one["held"]["until"].as_str().is_some_and(|until| until.ends_with("T00:00:00Z")), "{one:#}");
    let whole = 64 * 131_072 * 3 / 4;
    let sent = fleet.git.bytes_sent();
    assert!(sent < whole, "{sent} bytes were sent of {whole}");

    agent.kill9();
    fleet.git.forget();
    agent.restart().unwrap();
    status_becomes(&agent, "it is still spent", spent).await;
    assert_eq!(fleet.git.requests().len(), 0, "the network was asked");

    reconcile(&agent);
    applied(&agent, &second).await;
    println!("cut after {sent} bytes, asked by a person {} more of about {whole}", fleet.git.bytes_sent());
    // Once more by the store alone, after the agent has ended in good order.
    assert_eq!(agent.stop().await.unwrap(), 0);
    let seen = status(&agent).unwrap();
    let day = &source(&seen, "fleet")["traffic"]["days"][0];
    assert!(day["received"].as_u64() > Some(whole) && day["requests"].as_u64() > Some(3), "{seen:#}");
}
