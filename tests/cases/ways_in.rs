//! Ways to a repository that the agent as a process takes: a medium on the node, and a proxy of the environment.

use kube::api::Api;
use wickie_testbench::{Agent, ForwardProxy, ForwardProxyOptions, Speaks};

use crate::node::*;

/// The source `fleet` at `url`, as a file of the node.
fn follow(fleet: &wickie_testbench::Fleet, url: &str) {
    let text = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: fleet}}\nspec:\n  url: {url}\n  \
         interval: 1s\n  ref: {{branch: main}}\n  verify: {{mode: HEAD, secretRef: {{name: signers}}}}\n---\napiVersion: \
         v1\nkind: Secret\nmetadata: {{name: signers}}\nstringData:\n  ada.sshpub: {}\n",
        fleet.key.public()
    );
    fleet.configure("fleet.yaml", &text).unwrap();
}

#[tokio::test]
async fn a_stick_is_followed_and_may_be_pulled_out() {
    let (fleet, client) = fleet("stick").await;
    let maps: Api<_> = maps(&fleet, &client);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    follow(&fleet, &format!("file://{}", fleet.repo.bare().display()));
    fleet.keep("apps", "  path: ./\n").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    // Nobody was asked over the network.
    assert!(fleet.git.requests().is_empty());

    let gone = fleet.scratch.join("gone");
    std::fs::rename(fleet.repo.bare(), &gone).unwrap();
    status_becomes(&agent, "the status says that the medium is gone", |status| {
        status["sources"][0].to_string().contains("is the medium plugged in")
    })
    .await;
    // What was accepted is enforced all the same.
    change_by_hand(&maps, "a", "by hand").await;
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    std::fs::rename(&gone, fleet.repo.bare()).unwrap();
    fleet.write_map("a.yaml", "a", "2").unwrap();
    fleet.commit("second").unwrap();
    value_becomes(&mut agent, &maps, "a", Some("2")).await;
}

#[tokio::test]
async fn the_environment_s_proxy_is_gone_through() {
    let (fleet, client) = fleet("proxy").await;
    let maps: Api<_> = maps(&fleet, &client);
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    let proxy = ForwardProxy::start(ForwardProxyOptions {
        speaks: Speaks::Http,
        tls: None,
        login: Some(("ada".to_owned(), "s3cret".to_owned())),
        names: vec![("git.test".to_owned(), fleet.git.addr())],
    })
    .unwrap();
    follow(&fleet, "http://git.test/fleet.git");
    fleet.keep("apps", "  path: ./\n").unwrap();
    let mut options = fleet.options();
    options.env = vec![
        ("HTTP_PROXY".to_owned(), proxy.url().replace("http://", "http://ada:s3cret@")),
        ("NO_PROXY".to_owned(), "127.0.0.1".to_owned()),
    ];
    let mut agent = Agent::spawn(options).unwrap();
    value_becomes(&mut agent, &maps, "a", Some("1")).await;
    assert!(proxy.asked().iter().all(|asked| asked.allowed && asked.target == "git.test:80"), "{:?}", proxy.asked());
    assert!(!agent.log().contains("s3cret"));
}
