//! Files that sops encrypted in Git are Secrets in the cluster, and nowhere in clear on the way.

use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use wickie_testbench::{Fleet, eventually};

use crate::node::*;
use crate::values::{assert_not_written, keep_here, set_secret};

/// A file that the real sops made, or the key that decrypts it; see `agent/sops/tests`.
pub(crate) fn vector(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/sops/tests/vectors");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// What the encrypted files hold.
const PASSWORD: &str = "hunter2: #1";
const GENERATED: &str = "hunter2 # no comment";

async fn entry_becomes(secrets: &Api<Secret>, name: &str, entry: &str, value: &str) {
    eventually(&format!("{name} has its {entry}"), LONG, || async {
        let all = secrets.list(&Default::default()).await?.items;
        let found = all.into_iter().find(|it| it.metadata.name.as_deref().is_some_and(|it| it.starts_with(name)));
        let data = found.and_then(|secret| secret.data).unwrap_or_default();
        let have = data.get(entry).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        anyhow::ensure!(have.as_deref() == Some(value), "{name} holds {:?}", data.keys());
        anyhow::Ok(())
    })
    .await;
}

async fn change(secrets: &Api<Secret>, name: &str, entry: &str) {
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let patch = json!({"stringData": {entry: "by hand"}});
    secrets.patch(name, &params, &Patch::Merge(patch)).await.unwrap();
}

fn write_tree(fleet: &Fleet) {
    let kustomization = "resources: [secret.yaml]\nsecretGenerator: [{name: made, envs: [till.env]}]\n";
    fleet.repo.write("apps/kustomization.yaml", kustomization).unwrap();
    fleet.repo.write("apps/secret.yaml", &vector("secret.yaml")).unwrap();
    fleet.repo.write("apps/till.env", &vector("all.env")).unwrap();
}

#[tokio::test]
async fn encrypted_files_are_applied_decrypted_and_stand_nowhere_in_clear() {
    let (fleet, client) = fleet("decryption").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    write_tree(&fleet);
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    keep_here(
        &fleet,
        &format!(
            "  path: apps\n  targetNamespace: {}\n  decryption: {{provider: sops, secretRef: {{name: sops-keys}}}}\n",
            fleet.namespace
        ),
    );
    let mut agent = fleet.start().unwrap();
    let failed = |words: &'static str| {
        move |status: &serde_json::Value| {
            let ready = &kustomization(status, "apps")["ready"];
            ready["reason"] == "BuildFailed" && ready["message"].as_str().is_some_and(|message| message.contains(words))
        }
    };
    status_becomes(&agent, "the missing keys are named", failed("sops-keys")).await;
    set_secret(&client, &fleet, "sops-keys", json!({"other.agekey": vector("hybrid.agekey")})).await;
    status_becomes(&agent, "whom it is encrypted for is named", failed("age age1")).await;
    // The right key comes, at once and without being asked for.
    set_secret(&client, &fleet, "sops-keys", json!({"till.agekey": vector("x25519.agekey")})).await;
    entry_becomes(&secrets, "till", "password", PASSWORD).await;
    entry_becomes(&secrets, "made", "PASSWORD", GENERATED).await;
    status_becomes(&agent, "it is ready", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;

    // What drifts is repaired; also after a kill, with Git gone.
    change(&secrets, "till", "password").await;
    entry_becomes(&secrets, "till", "password", PASSWORD).await;
    fleet.git.down();
    agent.kill9();
    change(&secrets, "till", "password").await;
    agent.restart().unwrap();
    entry_becomes(&secrets, "till", "password", PASSWORD).await;
    fleet.git.up();

    // A diff says that it differs, and not in what.
    let namespace = fleet.namespace.clone();
    assert_eq!(agent.cli(&["suspend", "apps", "-n", &namespace]).unwrap().code, 0);
    change(&secrets, "till", "password").await;
    let diff = agent.cli(&["diff", "apps", "-n", &namespace]).unwrap();
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    assert!(
        diff.stdout.contains("password: '***")
            || diff.stdout.contains("password: \"***")
            || diff.stdout.contains("password: ***"),
        "{diff:?}"
    );
    assert!(!diff.stdout.contains(&encoded(PASSWORD)) && !diff.stdout.contains("hunter2"), "{diff:?}");
    assert_eq!(agent.cli(&["resume", "apps", "-n", &namespace]).unwrap().code, 0);
    entry_becomes(&secrets, "till", "password", PASSWORD).await;

    // Changed without sops: refused, and what is there stays.
    fleet.repo.write("apps/secret.yaml", &vector("secret.yaml").replace("app: till", "app: tall")).unwrap();
    fleet.commit("changed by hand").unwrap();
    status_becomes(&agent, "what was changed by hand is refused", failed("MAC")).await;
    entry_becomes(&secrets, "till", "password", PASSWORD).await;

    for what in [PASSWORD, GENERATED, "hunter2", &encoded(PASSWORD), &encoded(GENERATED), "AGE-SECRET-KEY-1"] {
        assert_not_written(&agent, &fleet, what.as_bytes());
    }
    assert_eq!(agent.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_marked_stays_encrypted() {
    let (fleet, client) = fleet("marked").await;
    let maps = maps(&fleet, &client);
    // The key service's own metadata stays, too: only a kind that takes any field can hold that.
    let tills = crate::expressions::define_tills(&client, &fleet).await;
    let to = |name: &str, mark: &str| {
        vector("only-encrypted.yaml")
            .replace(
                "apiVersion: v1\nkind: Secret\n",
                &format!("apiVersion: {}.example.com/v1\nkind: Till\n", fleet.namespace),
            )
            .replace("    name: till\n", &format!("    name: {name}\n    namespace: {}\n{mark}", fleet.namespace))
    };
    fleet.repo.write("open.yaml", &to("open", "")).unwrap();
    let mark = "    annotations: {kustomize.toolkit.fluxcd.io/decrypt: disabled}\n";
    fleet.repo.write("left.yaml", &to("left", mark)).unwrap();
    fleet.write_map("map.yaml", "map", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    set_secret(&client, &fleet, "sops-keys", json!({"till.agekey": vector("x25519.agekey")})).await;
    keep_here(&fleet, "  decryption: {provider: sops, secretRef: {name: sops-keys}}\n");
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "map", Some("1")).await;
    status_becomes(&agent, "all is applied", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    assert_eq!(tills.get("open").await.unwrap().data["stringData"]["password"], PASSWORD);
    let left = tills.get("left").await.unwrap().data;
    assert!(left["stringData"]["password"].as_str().unwrap().starts_with("ENC["), "{left:#}");
    assert!(left["sops"].is_object(), "{left:#}");
}

#[tokio::test]
async fn a_key_beside_the_kustomization_decrypts_plain_manifests() {
    let (fleet, client) = fleet("keyfile").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &fleet.namespace);
    let maps = maps(&fleet, &client);
    // Of this one only what is encrypted is covered by the MAC: it may be told where to go.
    let secret = vector("only-encrypted.yaml")
        .replace("    name: till\n", &format!("    name: till\n    namespace: {}\n", fleet.namespace));
    fleet.repo.write("secret.yaml", &secret).unwrap();
    fleet.write_map("map.yaml", "map", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let key = vector("x25519.agekey").replace('\n', "\n    ");
    let beside = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: sops-keys, namespace: {}}}\nstringData:\n  till.agekey: |\n    {key}\n",
        fleet.namespace
    );
    keep_here(&fleet, "  decryption: {provider: sops, secretRef: {name: sops-keys}}\n");
    let mut agent = fleet.start().unwrap();
    status_becomes(&agent, "the missing keys are named", |status| {
        kustomization(status, "apps")["ready"]["message"].as_str().is_some_and(|message| message.contains("sops-keys"))
    })
    .await;
    fleet.configure("keys.yaml", &beside).unwrap();
    value_becomes(&mut agent, &maps, "map", Some("1")).await;
    entry_becomes(&secrets, "till", "password", PASSWORD).await;
    assert_not_written(&agent, &fleet, b"hunter2");
    assert_eq!(agent.stop().await.unwrap(), 0);
}
