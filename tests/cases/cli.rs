//! The command as a process, on a data directory that the test has filled: what goes to stdout, what to stderr, and the
//! exit code.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wickie::serve::{self, Live, Outcome, Refused};
use wickie::store::{Batch, Changes, DataDir, Origin, Record, Run, Store};
use wickie_model::{Cause, Digest, Event, Resource, ResourceKind, ResourceName, Severity, reason};

/// How a command ended: exit code, stdout, stderr.
type Ended = (i32, String, String);

fn wickie(dir: &Path, line: &str) -> Ended {
    let ended = Command::new(env!("CARGO_BIN_EXE_wickie"))
        .args(line.split(' '))
        .env("WICKIE_DATA_DIR", dir)
        .env_remove("WICKIE_LOG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
}

fn shop() -> Resource {
    Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop"))
}

async fn filled(dir: &Path) -> Store {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let store = Store::open(&DataDir::new(dir), at).unwrap().0;
    let record = Record {
        resource: shop(),
        origin: Origin::File,
        spec: Digest::of(b"spec"),
        generation: 1,
        suspended: false,
        released: false,
        status: json!({"conditions": [{"type": "Ready", "status": "True", "reason": "ReconciliationSucceeded",
            "message": "applied", "lastTransitionTime": at}]})
        .into(),
        seen: None,
    };
    let run = Run {
        name: shop().name,
        revision: "main@sha1:2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4".to_owned(),
        cause: Cause::Drift,
        started_at: at,
        ended_at: at,
        reason: reason::RECONCILIATION_SUCCEEDED.to_owned(),
        message: String::new(),
        changes: Changes { repaired: 1, ..Changes::default() },
    };
    let event = |id: &str, severity| {
        let event = Event {
            id: id.to_owned(),
            about: shop(),
            uid: String::new(),
            severity,
            at,
            reason: reason::PROGRESSING.to_owned(),
            message: "applied".to_owned(),
            metadata: Default::default(),
        };
        (event, Vec::new())
    };
    let events = vec![event("1", Severity::Info), event("2", Severity::Error), event("3", Severity::Info)];
    store.commit(Batch { records: vec![record], runs: vec![run], events, ..Batch::default() }).await.unwrap();
    store
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn without_an_agent_everything_that_only_reads_works() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let (code, shown, words) = wickie(dir.path(), "status");
    assert_eq!((code, words.as_str()), (0, ""));
    assert!(shown.starts_with("✗ No agent is running"), "{shown}");
    assert!(!shown.contains('\x1b'), "colours belong on a terminal");
    assert_eq!(wickie(dir.path(), "status --exit-code").0, 3);

    let (code, shown, _) = wickie(dir.path(), "-o json status");
    let status = json(&shown);
    assert_eq!((code, &status["apiVersion"], &status["ok"]), (0, &json!("cli.wickie.dev/v1"), &json!(false)));
    assert_eq!(status["kustomizations"][0]["lastRun"]["changes"]["repaired"], 1);
    let (_, yaml, _) = wickie(dir.path(), "status -o yaml");
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), status);

    let (code, shown, _) = wickie(dir.path(), "history shop");
    assert_eq!(code, 0);
    assert!(shown.contains("main@2dd6d76b1c") && shown.contains("repaired 1"), "{shown}");
    let (_, shown, _) = wickie(dir.path(), "events -o json");
    let ids: Vec<_> = json(&shown).as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["1", "2", "3"], "the newest last");
    let (_, shown, _) = wickie(dir.path(), "events source/shop");
    assert_eq!(shown, "");
    let (_, shown, _) = wickie(dir.path(), "events shop --errors -o json");
    assert_eq!(json(&shown).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_error_names_what_is_wrong_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (code, shown, words) = wickie(dir.path(), "status");
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(words.contains("--data-dir") && words.contains("wickie run"), "{words}");

    drop(filled(dir.path()).await);
    let (code, _, words) = wickie(dir.path(), "history shopp");
    assert_eq!(code, 1);
    assert!(words.contains("Kustomization/flux-system/shopp") && words.contains("it has flux-system/shop"), "{words}");
    let (code, _, words) = wickie(dir.path(), "reconcile shop");
    assert_eq!(code, 1);
    assert!(words.starts_with("error: no agent is running"), "{words}");
    assert_eq!(wickie(dir.path(), "reconcile helm/shop").0, 2);
    assert_eq!(wickie(dir.path(), "no-such-command").0, 2);

    let damaged = tempfile::tempdir().unwrap();
    std::fs::write(damaged.path().join("wickie.db"), vec![7; 8192]).unwrap();
    let (code, _, words) = wickie(damaged.path(), "status");
    assert_eq!(code, 1);
    assert!(words.contains("because: "), "{words}");
}

#[tokio::test]
async fn orders_go_to_the_agent_and_their_outcome_is_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, mut queue) = mpsc::channel(4);
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let _server = serve::serve(&DataDir::new(dir.path()), filled(dir.path()).await, commands, at).unwrap();
    tokio::spawn(async move {
        let outcome = |severity, reason: &str, message: &str| Outcome {
            done: true,
            severity,
            reason: reason.to_owned(),
            message: message.to_owned(),
            revision: None,
            waits: false,
            note: None,
        };
        let well = outcome(Severity::Info, reason::RECONCILIATION_SUCCEEDED, "applied main@2dd6d76b1c");
        let ill = outcome(Severity::Error, reason::BUILD_FAILED, "shop/till.yaml: line 3: not YAML");
        while let Some(command) = queue.recv().await {
            match command {
                serve::Command::Reconcile { resource, reply, with_source, wait } => {
                    assert_eq!(with_source, resource.name.namespace == "apps");
                    assert_eq!(wait, resource.name.name == "shop");
                    let answer = match resource.name.namespace.as_str() {
                        "flux-system" => Ok(well.clone()),
                        "apps" => Ok(ill.clone()),
                        _ => Err(Refused::Not { message: "it is suspended; resume it first".to_owned() }),
                    };
                    drop(reply.send(answer));
                }
                serve::Command::Hook { .. } => unreachable!("no webhook comes over this socket"),
                serve::Command::Live { reply } => drop(reply.send(Live::default())),
                serve::Command::Release { .. } | serve::Command::Forget { .. } => {
                    unreachable!("nothing is released here")
                }
                serve::Command::Diff { reply, .. } => drop(reply.send(Ok("-a\n+b\n".to_owned()))),
                serve::Command::Rollback { to, permit, reply, .. } => {
                    let asked = (to.as_deref(), permit.as_deref());
                    assert!(matches!(asked, (Some("2dd6d76"), None) | (None, None)), "{asked:?}");
                    drop(reply.send(Ok(well.clone())));
                }
                // One that is not well is suspended all the same.
                serve::Command::Suspend { resource, reply } if resource == shop() => drop(reply.send(Ok(ill.clone()))),
                // Dropped unanswered, as by an agent that stops.
                serve::Command::Suspend { .. } => {}
                // Never answered: the command gives up by itself.
                serve::Command::Resume { reply, .. } => {
                    drop(tokio::spawn(async { (reply, std::future::pending::<()>().await) }))
                }
            }
        }
    });
    let run = |line: &'static str| {
        let dir = dir.path().to_owned();
        tokio::task::spawn_blocking(move || wickie(&dir, line))
    };
    let (code, shown, _) = run("reconcile shop").await.unwrap();
    assert_eq!((code, shown.as_str()), (0, "● Kustomization/flux-system/shop: applied main@2dd6d76b1c\n"));
    let (code, shown, _) = run("reconcile -n apps shop --with-source").await.unwrap();
    assert_eq!(code, 1);
    assert_eq!(shown, "✗ Kustomization/apps/shop: BuildFailed: shop/till.yaml: line 3: not YAML\n");
    let (code, _, words) = run("reconcile -n other shop").await.unwrap();
    assert_eq!((code, words.lines().last().unwrap()), (1, "error: it is suspended; resume it first"));
    let (code, _, words) = run("resume shop --timeout 10ms").await.unwrap();
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("no outcome after 10ms"), "{words}");
    let (code, shown, _) = run("-n apps reconcile till --with-source --no-wait").await.unwrap();
    assert_eq!((code, shown.as_str()), (0, "○ Kustomization/apps/till is under way: see `wickie status`\n"));
    for line in ["rollback shop --to 2dd6d76", "rollback shop --resume"] {
        assert_eq!(run(line).await.unwrap().0, 0, "{line}");
    }
    for line in ["rollback shop", "rollback shop --to 2dd6d76 --resume", "rollback shop --resume --permit p"] {
        assert_eq!(run(line).await.unwrap().0, 2, "{line}");
    }
    let (code, _, words) = run("rollback shop --to 2dd6d76 --permit no-such-file").await.unwrap();
    assert_eq!(code, 1);
    assert!(words.contains("no-such-file"), "{words}");
    let (code, shown, _) = run("suspend shop").await.unwrap();
    assert_eq!(code, 0);
    assert_eq!(shown, "○ Kustomization/flux-system/shop is left as it is until `wickie resume`\n");
    let (code, _, words) = run("suspend source/shop").await.unwrap();
    assert_eq!(code, 1);
    assert!(words.contains("the agent is stopping"), "{words}");
    assert_eq!(run("diff shop --exit-code").await.unwrap(), (3, "-a\n+b\n".to_owned(), String::new()));
    let (code, shown, _) = run("status --exit-code").await.unwrap();
    assert_eq!((code, shown.lines().last().unwrap()), (0, "All is well."));
    let (_, shown, _) = run("version").await.unwrap();
    assert_eq!(shown, format!("wickie {0}\nagent {0}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn crds_are_yaml_that_kubectl_takes() {
    let dir = tempfile::tempdir().unwrap();
    let (code, yaml, _) = wickie(dir.path(), "crds");
    assert_eq!(code, 0);
    let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    let (_, list, _) = wickie(dir.path(), "crds -o json");
    assert_eq!(json(&list)["items"], Value::Array(documents));
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wickie"))
        .args(["crds"])
        .env("WICKIE_DATA_DIR", dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}
