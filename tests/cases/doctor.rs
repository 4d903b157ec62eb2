//! `wickie doctor` where all is well, and where it is not: without an agent, without a cluster, without rights.

use serde_json::Value;
use wickie_testbench::{Agent, ControlPlane, Fleet, Options, PgpKey, Scratch, agent, need};

use crate::node::*;

/// The answer, and the exit code.
fn doctor(fleet: &Fleet, kubeconfig: &std::path::Path, more: &[&str]) -> (i32, Value) {
    let config = fleet.config();
    let mut args = vec!["doctor", "-o", "json", "--config", config.to_str().unwrap()];
    args.extend(["--kubeconfig", kubeconfig.to_str().unwrap()]);
    args.extend(more);
    let answered = agent::cli(&fleet.options(), &args).unwrap();
    let answer = serde_json::from_str(&answered.stdout).expect(&answered.stderr);
    (answered.code, answer)
}

/// The findings of an area, as `verdict: message -> fix`.
fn of(answer: &Value, area: &str) -> Vec<String> {
    let findings = answer["findings"].as_array().unwrap().iter().filter(|finding| finding["area"] == area);
    let said = findings.map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        // What is wrong says what to do.
        assert_eq!(finding["verdict"] == "ok", finding.get("fix").is_none(), "{finding}");
        format!("{}: {}", text("verdict"), text("message"))
    });
    said.collect()
}

fn has(answer: &Value, area: &str, verdict: &str, words: &[&str]) -> bool {
    let fits = |said: &String| said.starts_with(verdict) && words.iter().all(|word| said.contains(word));
    of(answer, area).iter().any(fits)
}

#[track_caller]
fn says(answer: &Value, area: &str, verdict: &str, words: &[&str]) {
    assert!(has(answer, area, verdict, words), "{area} {verdict} {words:?} of {answer:#}");
}

#[test]
fn an_openpgp_key_tells_when_it_ends() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let scratch = Scratch::new("ends");
    let ends = |user: &str, expires: &str| {
        let home = scratch.join(user);
        std::fs::create_dir(&home).unwrap();
        let key = PgpKey::generate(&home, user, expires).unwrap();
        let signers = wickie_trust::Signers::parse([("ada.asc", key.public().unwrap().as_bytes())]).unwrap();
        let now = jiff::Timestamp::now();
        let ends = signers.ends(now).into_iter();
        ends.map(|(signer, end)| (signer.key == key.fingerprint(), end.duration_since(now).as_hours()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ends("never", "never"), []);
    let soon = ends("soon", "10d");
    assert!(matches!(soon[..], [(true, 238..=241)]), "{soon:?}");
}

#[tokio::test]
async fn it_names_what_is_wrong_one_thing_after_another() {
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let namespace = control_plane.namespace("doctor").await.unwrap();
    let admin = control_plane.kubeconfig();
    let fleet = Fleet::new("doctor", env!("CARGO_BIN_EXE_wickie"), admin.clone(), namespace).unwrap();
    fleet
        .configure("node.yaml", "apiVersion: wickie.dev/v1\nkind: NodeConfig\nspec: {require-verified: true}\n")
        .unwrap();
    fleet.write_map("a.yaml", "a", "1").unwrap();
    let first = fleet.commit("first").unwrap();

    // Before anything is there: it says what is missing, and fails at nothing.
    let (code, fresh) = doctor(&fleet, &admin, &[]);
    assert_eq!((code, &fresh["ok"]), (0, &Value::Bool(true)), "{fresh:#}");
    says(&fresh, "agent", "warn", &["no agent runs"]);
    says(&fresh, "disk", "warn", &["is not there"]);
    says(&fresh, "config", "warn", &["nothing is declared"]);
    assert!(!fleet.data_dir().exists(), "looking made something");

    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    applied(&agent, &first).await;
    fleet.git.forget();
    let (code, well) = doctor(&fleet, &admin, &[]);
    assert_eq!(code, 0, "{well:#}");
    says(&well, "api", "ok", &["answers: Kubernetes v1."]);
    says(&well, "clock", "ok", &["API server's clock agrees"]);
    says(&well, "rights", "ok", &["it may do all that it asks"]);
    says(&well, "disk", "ok", &["the store is whole"]);
    says(&well, "agent", "ok", &["runs as process", &agent.pid().to_string()]);
    says(&well, "limits", "ok", &["files may be open"]);
    says(&well, "link", "ok", &["GitRepository/flux-system/fleet answers", &first[..10]]);
    says(&well, "trust", "ok", &["believes its signers alone"]);
    says(&well, "trust", "ok", &["may not go behind", &first]);
    assert!(of(&well, "trust").len() == 2 && of(&well, "config").len() == 1, "{well:#}");
    // For people, the same.
    let answered = agent
        .cli(&["doctor", "--config", fleet.config().to_str().unwrap(), "--kubeconfig", admin.to_str().unwrap()])
        .unwrap();
    assert!(
        answered.code == 0 && answered.stdout.contains("● GitRepository/flux-system/fleet answers"),
        "{answered:?}"
    );
    // Where the link costs money, nobody is asked.
    assert!(of(&doctor(&fleet, &admin, &["--skip-link"]).1, "link").is_empty());

    // An account that may do nothing.
    let nobody = control_plane.kubeconfig_for("nobody", &[]).unwrap();
    let (code, denied) = doctor(&fleet, &nobody, &[]);
    assert_eq!(code, 3, "{denied:#}");
    says(&denied, "rights", "fail", &["create, delete, get, patch configmaps", &fleet.namespace]);
    says(&denied, "rights", "fail", &["list, watch configmaps in the whole cluster"]);

    // Git gone, a file broken, a key that ends, a source without signers.
    fleet.git.down();
    fleet.configure("broken.yaml", "a: [").unwrap();
    let key = fleet.key.public();
    let ending = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: ending}}\nspec:\n  url: {}\n  interval: 1h\n  suspend: true\n  ref: {{branch: main}}\n  verify: {{mode: HEAD, secretRef: {{name: ending}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: ending}}\nstringData:\n  signers: 'ada valid-before=\"20200101\" {key}'\n---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: bare}}\nspec: {{url: 'https://git.example.com/bare.git', interval: 1h}}\n",
        fleet.git.url("fleet")
    );
    fleet.configure("ending.yaml", &ending).unwrap();
    let (code, wrong) = doctor(&fleet, &admin, &[]);
    assert_eq!(code, 3, "{wrong:#}");
    says(&wrong, "link", "fail", &["GitRepository/flux-system/fleet"]);
    says(&wrong, "link", "ok", &["GitRepository/flux-system/ending is suspended"]);
    says(&wrong, "config", "fail", &["broken.yaml"]);
    says(&wrong, "config", "fail", &["GitRepository/flux-system/bare", "verify"]);
    says(&wrong, "trust", "warn", &["GitRepository/flux-system/ending", "has ended at 2020-01-01"]);
    fleet.git.up();

    // An agent that hangs.
    let signal = |name: &str, agent: &Agent| {
        let done = std::process::Command::new("kill").args([name, &agent.pid().to_string()]).status().unwrap();
        assert!(done.success());
    };
    signal("-STOP", &agent);
    let (code, hangs) = doctor(&fleet, &admin, &["--skip-link"]);
    signal("-CONT", &agent);
    assert_eq!(code, 3, "{hangs:#}");
    says(&hangs, "agent", "fail", &["does not answer", &format!("process {}", agent.pid())]);

    // The cluster gone, and the agent: what can be looked at still is.
    agent.kill9();
    control_plane.stop_api();
    let (code, away) = doctor(&fleet, &admin, &[]);
    assert_eq!(code, 3, "{away:#}");
    says(&away, "api", "fail", &["127.0.0.1"]);
    says(&away, "agent", "warn", &["no agent runs"]);
    says(&away, "link", "ok", &["GitRepository/flux-system/fleet answers"]);
    assert!(of(&away, "rights").is_empty());

    // The store damaged.
    let file = fleet.data_dir().join("wickie.db");
    for beside in ["wickie.db-wal", "wickie.db-shm"] {
        let _ = std::fs::remove_file(fleet.data_dir().join(beside));
    }
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[100..half].fill(0x5a);
    std::fs::write(&file, bytes).unwrap();
    let (code, damaged) = doctor(&fleet, &admin, &["--skip-link"]);
    assert_eq!(code, 3, "{damaged:#}");
    assert!(of(&damaged, "disk").iter().any(|said| said.starts_with("fail")), "{damaged:#}");
}
