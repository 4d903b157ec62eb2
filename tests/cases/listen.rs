//! `--listen`: metrics, probes and webhooks, and what strangers may do to them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use wickie_testbench::port::Port;
use wickie_testbench::{Agent, Fleet, When, eventually};

use crate::node::{LONG, applied, fleet, tail};

/// Sends a request as it stands, and gives what came back.
fn raw(addr: SocketAddr, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // The other side may hang up before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn get(addr: SocketAddr, path: &str) -> Result<String> {
    raw(addr, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
}

fn post(addr: SocketAddr, path: &str, headers: &str, body: &str) -> Result<String> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    raw(addr, format!("{head}{body}").as_bytes())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

/// What `openssl` says that GitHub would write: another judge than the code under test.
fn signature(body: &str) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", TOKEN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let said = String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap();
    format!("sha256={}", said.trim().rsplit(' ').next().unwrap())
}

const TOKEN: &str = "long and random";

/// A fleet that is asked each hour alone, a Receiver for it, and an agent that listens.
fn start(fleet: &Fleet, port: &Port) -> Agent {
    fleet.follow("1h").unwrap();
    fleet.keep("apps", "  wait: true\n").unwrap();
    let receiver = format!(
        "apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {{name: github}}
spec:
  type: github
  events: [push]
  secretRef: {{name: hook}}
  resources: [{{kind: GitRepository, name: fleet}}, {{kind: GitRepository, name: '*', matchLabels: {{no: one}}}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: hook}}
stringData: {{token: {TOKEN}}}
"
    );
    fleet.configure("receiver.yaml", &receiver).unwrap();
    let mut options = fleet.options();
    options.args = vec!["--listen".into(), port.addr().to_string().into()];
    Agent::spawn(options).unwrap()
}

fn hook_path() -> String {
    let digest = Sha256::digest(format!("{TOKEN}githubflux-system"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("/hook/{digest}")
}

fn push(addr: SocketAddr) -> Result<String> {
    let body = r#"{"ref":"refs/heads/main"}"#;
    let headers = format!(
        "content-type: application/json\r\nx-github-event: push\r\nx-hub-signature-256: {}\r\n",
        signature(body)
    );
    post(addr, &hook_path(), &headers, body)
}

fn is_poll(request: &wickie_testbench::front::Request) -> bool {
    String::from_utf8_lossy(&request.body_start).contains("ls-refs")
}

async fn is_ready(agent: &Agent, addr: SocketAddr) {
    eventually("it is ready", LONG, || async {
        let answer = get(addr, "/readyz").with_context(|| tail(&agent.log()))?;
        ensure!(status(&answer) == "200", "{answer}");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn probes_metrics_and_a_hook_that_asks_exactly_once() {
    let (fleet, _) = fleet("listen").await;
    let port = Port::free().unwrap();
    let addr = port.addr();
    fleet.write_map("map.yaml", "map", "one").unwrap();
    let first = fleet.commit("first").unwrap();
    // While Git does not answer for the first time it is alive, and not ready.
    fleet.git.at_request(
        1,
        When::Before,
        |_| true,
        move || {
            eventually_blocking(|| status(&get(addr, "/healthz").unwrap_or_default()) == "200");
            assert_eq!(status(&get(addr, "/readyz").unwrap()), "503");
        },
    );
    let agent = start(&fleet, &port);
    applied(&agent, &first).await;
    is_ready(&agent, addr).await;

    let metrics = get(addr, "/metrics").unwrap();
    let commit = [
        "gotk_reconcile_condition{kind=\"Kustomization\",name=\"apps\",namespace=\"flux-system\",type=\"Ready\",status=\"True\"} 1",
        "gotk_suspend_status{kind=\"GitRepository\",name=\"fleet\",namespace=\"flux-system\"} 0",
        "gotk_reconcile_duration_seconds_count{kind=\"GitRepository\",name=\"fleet\",namespace=\"flux-system\"} 1",
        "wickie_source_received_bytes_total{namespace=\"flux-system\",name=\"fleet\"}",
        "wickie_source_day_bytes{namespace=\"flux-system\",name=\"fleet\",day=\"20",
        "wickie_store_bytes{part=\"file\"}",
        "wickie_store_most_bytes 1073741824",
        "wickie_api_requests_total{method=\"PATCH\",code=\"201\"} ",
        "wickie_cluster_reachable 1",
        "wickie_kustomization_objects{namespace=\"flux-system\",name=\"apps\"} 1",
    ];
    for line in commit {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line} is not in\n{metrics}");
    }
    assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
    assert!(!metrics.contains(TOKEN) && !metrics.contains(&hook_path()));

    // A push, and its hook.
    fleet.write_map("map.yaml", "map", "two").unwrap();
    let second = fleet.commit("second").unwrap();
    let polls = fleet.git.count(is_poll);
    assert_eq!(status(&push(addr).unwrap()), "200", "{}", tail(&agent.log()));
    applied(&agent, &second).await;
    assert_eq!(fleet.git.count(is_poll), polls + 1, "one hook, one question");

    // Twenty more while it is being asked are answered by asking once more.
    fleet.git.at_request(1, When::Before, is_poll, move || {
        for _ in 0..20 {
            assert_eq!(status(&push(addr).unwrap()), "200");
        }
    });
    assert_eq!(status(&push(addr).unwrap()), "200");
    eventually("it was asked once more", LONG, || async {
        ensure!(fleet.git.count(is_poll) == polls + 3, "{} polls", fleet.git.count(is_poll) - polls);
        anyhow::Ok(())
    })
    .await;
    fleet.write_map("map.yaml", "map", "three").unwrap();
    let third = fleet.commit("third").unwrap();
    assert_eq!(status(&push(addr).unwrap()), "200");
    applied(&agent, &third).await;
    assert_eq!(fleet.git.count(is_poll), polls + 4, "nothing of the twenty came later");
    let metrics = get(addr, "/metrics").unwrap();
    assert!(metrics.contains("name=\"github\",result=\"heeded\"} 23"), "{metrics}");
}

fn eventually_blocking(probe: impl Fn() -> bool) {
    let came = (0..600).any(|_| {
        probe() || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }
    });
    assert!(came, "it did not come to be");
}

#[tokio::test]
async fn strangers_are_turned_away_and_bounded() {
    let (fleet, _) = fleet("strangers").await;
    let port = Port::free().unwrap();
    let addr = port.addr();
    fleet.write_map("map.yaml", "map", "one").unwrap();
    let first = fleet.commit("first").unwrap();
    let mut agent = start(&fleet, &port);
    applied(&agent, &first).await;
    is_ready(&agent, addr).await;
    let polls = fleet.git.count(is_poll);
    let path = hook_path();
    let body = r#"{"ref":"refs/heads/main"}"#;
    let headers = |signature: &str, event: &str| {
        format!("content-type: application/json\r\nx-github-event: {event}\r\nx-hub-signature-256: {signature}\r\n")
    };
    let good = signature(body);
    assert_eq!(status(&post(addr, &path, &headers("sha256=00", "push"), body).unwrap()), "400");
    assert_eq!(status(&post(addr, &path, &headers(&good, "push"), "{}").unwrap()), "400");
    assert_eq!(status(&post(addr, &path, &headers(&good, "star"), body).unwrap()), "400");
    assert_eq!(status(&post(addr, &path, "", body).unwrap()), "400");
    assert_eq!(status(&post(addr, &format!("{path}?x"), &headers(&good, "push"), body).unwrap()), "404");
    assert_eq!(status(&post(addr, "/hook/0000", &headers(&good, "push"), body).unwrap()), "404");
    assert_eq!(status(&get(addr, &path).unwrap()), "405");
    assert_eq!(status(&get(addr, "/").unwrap()), "404");
    assert_eq!(status(&get(addr, "/v1/status").unwrap()), "404", "the control socket is not served here");
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(status(&post(addr, &path, &headers(&good, "push"), &large).unwrap()), "413");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    let refused = raw(addr, head.as_bytes()).unwrap();
    assert!(refused.is_empty() || status(&refused) == "431", "{refused}");
    assert_ne!(status(&raw(addr, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap()), "200");
    // A flood: most of it is not even looked at, and nobody else suffers.
    let flood: Vec<_> = (0..100).map(|_| post(addr, "/hook/0000", "", "").unwrap()).collect();
    assert!(flood.iter().any(|answer| status(answer) == "429" && answer.contains("retry-after: 1")), "{flood:?}");
    // Connections that say nothing are held to their number, and then let go.
    let idle: Vec<_> = (0..80).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    eventually("it answers all the same", LONG, || async {
        let answer = get(addr, "/healthz")?;
        ensure!(status(&answer) == "200", "{answer:?}");
        anyhow::Ok(())
    })
    .await;
    drop(idle);
    agent.check().unwrap();
    assert_eq!(fleet.git.count(is_poll), polls, "nobody of them was heeded");
    assert!(!agent.log().contains(TOKEN));
}

/// A host that takes connections and says nothing to anybody costs one probe for all of its sources.
#[tokio::test]
async fn twenty_sources_on_a_dead_host_cost_one_probe() {
    let (fleet, _) = fleet("dead").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, tried) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Hung up at once: nobody is there.
            drop(stream);
            if sender.send(std::time::Instant::now()).is_err() {
                return;
            }
        }
    });
    for number in 0..20 {
        let text = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: dead-{number}}}
spec: {{url: 'http://{addr}/dead-{number}', interval: 1s}}
"
        );
        fleet.configure(&format!("dead-{number}.yaml"), &text).unwrap();
    }
    let agent = fleet.start().unwrap();
    let began = std::time::Instant::now();
    crate::node::status_becomes(&agent, "each of them fails", |status| {
        let sources = status["sources"].as_array().unwrap();
        sources.len() == 20 && sources.iter().all(|one| one["ready"]["status"] == "False")
    })
    .await;
    let first = tried.try_iter().count();
    assert!((1..=6).contains(&first), "{first} connections until all twenty had their answer");
    let waited = Duration::from_secs(30);
    tokio::time::sleep(waited).await;
    let more = tried.try_iter().count();
    // Probes come after 5, 10, 20, 40 seconds; each poll of a source alone would have come every few.
    assert!(more <= 6, "{more} connections in {waited:?}");
    println!("20 sources on a dead host, {:?}: {} connections in all", began.elapsed(), first + more);
}
