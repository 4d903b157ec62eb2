//! Each field of Flux's Kustomization on the real API server: followed, or refused in the object's status. `tests/flux-fields.md` says
//! where each is shown, and is held against Flux's own CRD by `flux_table`.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use wickie_model::ResourceKind;
use wickie_testbench::{ControlPlane, Fleet, Options, eventually, fleet::config_map};

use crate::cluster_input::{api, apply, declare_source, install_crds, kustomization_spec, object_becomes, ready};
use crate::node::*;

const DIGEST: &str = "sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3";

/// A patch that leaves a mark on each object that its target takes in.
fn marking(mark: &str, target: &str) -> String {
    format!(
        "  - target: {{{target}}}\n    patch: |\n      - {{op: add, path: /metadata/annotations/{mark}, value: \"yes\"}}\n"
    )
}

#[tokio::test]
async fn a_build_takes_what_the_spec_says() {
    let (fleet, client) = fleet("fields").await;
    let maps = maps(&fleet, &client);
    let map = |name: &str, value: &str, annotations: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\n  annotations: {{{annotations}}}\ndata: {{value: \"{value}\"}}\n"
        )
    };
    let here = map("here", "${CITY}", "a: b").replace("metadata:\n", "metadata:\n  namespace: elsewhere\n");
    fleet.repo.write("apps/here.yaml", &here).unwrap();
    fleet.repo.write("apps/marked.yaml", &map("marked", "${CITY}", "tier: front")).unwrap();
    let left = map("left", "${CITY}", "kustomize.toolkit.fluxcd.io/substitute: disabled");
    fleet.repo.write("apps/left.yaml", &left).unwrap();
    fleet
        .repo
        .write(
            "apps/till.yaml",
            "apiVersion: apps/v1
kind: Deployment
metadata: {name: till, annotations: {a: b}}
spec:
  replicas: 0
  selector: {matchLabels: {app: till}}
  template:
    metadata: {labels: {app: till}}
    spec: {containers: [{name: till, image: \"till:1\"}, {name: door, image: \"door:1\"}]}
",
        )
        .unwrap();
    fleet.repo.write("apps/kustomization.yaml", "resources: [here.yaml, marked.yaml, left.yaml, till.yaml]\n").unwrap();
    let component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [extra.yaml]\n";
    fleet.repo.write("components/extra/kustomization.yaml", component).unwrap();
    fleet.repo.write("components/extra/extra.yaml", &map("extra", "1", "a: b")).unwrap();
    fleet.repo.write("always/a.yaml", &config_map(&fleet.namespace, "always", "${none:=default}")).unwrap();
    fleet.repo.write("never/a.yaml", &config_map(&fleet.namespace, "never", "${none:=default}")).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let spec = [
        format!("  path: ./apps\n  targetNamespace: {}\n", fleet.namespace),
        "  namePrefix: pre-\n  nameSuffix: -post\n".to_owned(),
        "  commonMetadata: {labels: {team: shop}, annotations: {owner: ada}}\n".to_owned(),
        "  components: [../components/extra, ../components/none]\n  ignoreMissingComponents: true\n".to_owned(),
        "  buildMetadata: [originAnnotations]\n".to_owned(),
        format!(
            "  images:\n  - {{name: till, newName: example.com/till, newTag: v2}}\n  - {{name: door, digest: \"{DIGEST}\"}}\n"
        ),
        "  postBuild: {substitute: {CITY: Oslo}}\n  patches:\n".to_owned(),
        marking("by-kind", "group: apps, version: v1, kind: Deployment"),
        marking("by-name", "kind: ConfigMap, name: here|left"),
        marking("by-namespace", "namespace: elsewhere"),
        marking("by-label", "labelSelector: app=marked"),
        marking("by-annotation", "annotationSelector: tier=front"),
    ];
    fleet.keep("apps", &spec.concat()).unwrap();
    fleet.keep("always", "  path: always\n  postBuild: {substituteStrategy: Always}\n").unwrap();
    fleet.keep("never", "  path: never\n  postBuild: {substituteStrategy: WithVariables}\n").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "pre-here-post", Some("Oslo")).await;
    value_becomes(&mut agent, &maps, "pre-left-post", Some("${CITY}")).await;
    value_becomes(&mut agent, &maps, "pre-extra-post", Some("1")).await;
    value_becomes(&mut agent, &maps, "always", Some("default")).await;
    value_becomes(&mut agent, &maps, "never", Some("${none:=default}")).await;
    status_becomes(&agent, "all is applied", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;

    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let till = deployments.get("pre-till-post").await.unwrap();
    let containers = till.spec.unwrap().template.spec.unwrap().containers;
    let images: Vec<_> = containers.into_iter().filter_map(|container| container.image).collect();
    assert_eq!(images, ["example.com/till:v2".to_owned(), format!("door@{DIGEST}")]);
    let marks = |annotations: Option<std::collections::BTreeMap<String, String>>| -> Vec<String> {
        annotations.unwrap_or_default().into_keys().filter(|key| key.starts_with("by-")).collect()
    };
    assert_eq!(marks(till.metadata.annotations), ["by-kind"]);
    for (name, by) in [
        ("pre-here-post", vec!["by-name", "by-namespace"]),
        ("pre-left-post", vec!["by-name"]),
        ("pre-marked-post", vec!["by-annotation", "by-label"]),
    ] {
        let metadata = maps.get(name).await.unwrap().metadata;
        let annotations = metadata.annotations.clone().unwrap();
        assert_eq!(marks(metadata.annotations), by, "{name}");
        assert_eq!(metadata.labels.unwrap()["team"], "shop", "{name}");
        assert_eq!(annotations["owner"], "ada", "{name}");
        assert!(annotations["config.kubernetes.io/origin"].contains("path:"), "{name}: {annotations:?}");
    }
}

#[tokio::test]
async fn an_object_says_how_it_is_applied() {
    let (fleet, client) = fleet("applied").await;
    let maps = maps(&fleet, &client);
    let marked = |name: &str, value: &str, mark: &str| {
        config_map(&fleet.namespace, name, value)
            .replace("\ndata:", &format!("\n  annotations: {{kustomize.toolkit.fluxcd.io/{mark}}}\ndata:"))
    };
    let job = |image: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: once, namespace: {}, annotations: {{kustomize.toolkit.fluxcd.io/force: enabled}}}}\nspec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: {image}}}]}}}}}}\n",
            fleet.namespace
        )
    };
    fleet.repo.write("merged.yaml", &marked("merged", "1", "ssa: Merge")).unwrap();
    fleet.repo.write("ignored.yaml", &marked("ignored", "1", "ssa: Ignore")).unwrap();
    fleet.repo.write("job.yaml", &job("one")).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "merged", Some("1")).await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &fleet.namespace);
    let uid = async || jobs.get_opt("once").await.unwrap().and_then(|job| job.metadata.uid);
    eventually("the job is there", LONG, || async {
        anyhow::ensure!(uid().await.is_some());
        anyhow::Ok(())
    })
    .await;
    let first = uid().await;

    // What another added stays beside what Git has; an immutable change makes the Job anew.
    let theirs = Patch::Merge(json!({"data": {"theirs": "x"}}));
    let by = PatchParams { field_manager: Some("another-tool".to_owned()), ..PatchParams::default() };
    maps.patch("merged", &by, &theirs).await.unwrap();
    fleet.repo.write("merged.yaml", &marked("merged", "2", "ssa: Merge")).unwrap();
    fleet.repo.write("job.yaml", &job("two")).unwrap();
    let second = fleet.commit("second").unwrap();
    value_becomes(&mut agent, &maps, "merged", Some("2")).await;
    applied(&agent, &second).await;
    assert_eq!(maps.get("merged").await.unwrap().data.unwrap()["theirs"], "x");
    assert_eq!(value_of(&maps, "ignored").await.unwrap(), None);
    let second = uid().await;
    assert!(second.is_some() && second != first, "{second:?}");
}

#[tokio::test]
async fn others_may_change_what_is_ignored() {
    let (fleet, client) = fleet("ignored").await;
    let maps = maps(&fleet, &client);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
    let till = |paused: bool| {
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: till, namespace: {}, labels: {{app: till}}, annotations: {{tier: front}}}}
spec:
  replicas: 0
  paused: {paused}
  selector: {{matchLabels: {{app: till}}}}
  template:
    metadata: {{labels: {{app: till}}}}
    spec: {{containers: [{{name: till, image: \"till:1\"}}]}}
",
            fleet.namespace
        )
    };
    let shared = |name: &str, value: &str| {
        config_map(&fleet.namespace, name, value).replace("\ndata:\n", "\ndata:\n  theirs: git\n")
    };
    fleet.repo.write("till.yaml", &till(false)).unwrap();
    fleet.repo.write("shared.yaml", &shared("shared", "1")).unwrap();
    fleet.repo.write("other.yaml", &shared("other", "1")).unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    let rules = format!(
        "  ignore:
  - paths: [/spec/replicas]
    target: {{group: apps, version: v1, kind: Deployment, labelSelector: app=till, annotationSelector: tier=front}}
  - paths: [/data/theirs]
    target: {{name: shared, namespace: {}}}
",
        fleet.namespace
    );
    fleet.keep("apps", &rules).unwrap();
    let mut agent = fleet.start().unwrap();
    value_becomes(&mut agent, &maps, "shared", Some("1")).await;
    status_becomes(&agent, "all is applied", |status| kustomization(status, "apps")["ready"]["status"] == "True").await;
    let replicas = async || deployments.get("till").await.unwrap().spec.and_then(|spec| spec.replicas);
    let theirs = async |name: &str| maps.get(name).await.unwrap().data.unwrap()["theirs"].clone();
    // Made for the first time, all is as in Git.
    assert_eq!((replicas().await, theirs("shared").await.as_str()), (Some(0), "git"));

    // One changes a field by an update, as a scaler does, another applies it; what is not ignored is put right beside it.
    let by = |name: &str| PatchParams { field_manager: Some(name.to_owned()), ..PatchParams::default() };
    let scaled = Patch::Merge(json!({"spec": {"replicas": 2}}));
    deployments.patch("till", &by("scaler"), &scaled).await.unwrap();
    for name in ["shared", "other"] {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"theirs": "live"}});
        maps.patch(name, &PatchParams::apply("writer").force(), &Patch::Apply(map)).await.unwrap();
    }
    change_by_hand(&maps, "shared", "by hand").await;
    value_becomes(&mut agent, &maps, "shared", Some("1")).await;
    eventually("what no rule names is put right", LONG, || async {
        anyhow::ensure!(theirs("other").await == "git", "it is not");
        anyhow::Ok(())
    })
    .await;
    assert_eq!((replicas().await, theirs("shared").await.as_str()), (Some(2), "live"));

    // A commit changes other fields of the same objects, and not these.
    fleet.repo.write("till.yaml", &till(true)).unwrap();
    fleet.repo.write("shared.yaml", &shared("shared", "2")).unwrap();
    let second = fleet.commit("second").unwrap();
    applied(&agent, &second).await;
    let deployment = deployments.get("till").await.unwrap();
    assert_eq!(deployment.spec.as_ref().unwrap().paused, Some(true));
    assert_eq!((replicas().await, theirs("shared").await.as_str()), (Some(2), "live"));
    assert_eq!(value_of(&maps, "shared").await.unwrap().as_deref(), Some("2"));
    let owned = |metadata: kube::core::ObjectMeta, field: &str| {
        let ours = metadata.managed_fields.unwrap_or_default().into_iter();
        let ours = ours.filter(|entry| entry.manager.as_deref() == Some("wickie"));
        ours.filter_map(|entry| entry.fields_v1).any(|fields| fields.0.to_string().contains(field))
    };
    assert!(owned(deployment.metadata, "\"f:replicas\""), "what was changed by an update stays ours");
    let map = maps.get("shared").await.unwrap().metadata;
    assert!(!owned(map, "\"f:theirs\""), "what another applies is given up");
    let diff = agent.cli(&["diff", "apps"]).unwrap();
    assert!(!diff.stdout.contains("replicas") && !diff.stdout.contains("theirs"), "{diff:?}");

    // Without the rules, all is Git's again.
    fleet.keep("apps", "").unwrap();
    eventually("Git's values are back", LONG, || async {
        anyhow::ensure!(replicas().await == Some(0) && theirs("shared").await == "git", "they are not");
        anyhow::Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_object_in_the_cluster_is_followed_in_each_of_its_fields_or_refused() {
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let client = control_plane.client().await;
    let namespace = control_plane.namespace("one").await.unwrap();
    let other = control_plane.namespace("two").await.unwrap();
    let fleet = Fleet::new("one", env!("CARGO_BIN_EXE_wickie"), control_plane.kubeconfig(), namespace).unwrap();
    let maps = maps(&fleet, &client);
    for name in ["orphan", "delete", "mirror", "often", "after"] {
        fleet.write_map(&format!("{name}/{name}.yaml"), name, "1").unwrap();
    }
    let held =
        config_map(&fleet.namespace, "held", "1").replace("\ndata:", "\n  finalizers: [example.com/hold]\ndata:");
    fleet.repo.write("held/held.yaml", &held).unwrap();
    fleet.repo.write("late/late.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: late}\n").unwrap();
    fleet.commit("first").unwrap();
    install_crds(&client).await;
    declare_source(&client, &fleet).await;
    let with = |path: &str, more: Value| {
        let mut spec = kustomization_spec();
        spec["path"] = format!("./{path}").into();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let kind = ResourceKind::Kustomization;
    let keep = async |name: &str, more: Value| apply(&client, kind, &fleet.namespace, name, with(name, more)).await;
    keep("orphan", json!({"deletionPolicy": "Orphan"})).await;
    keep("delete", json!({"deletionPolicy": "Delete", "prune": false})).await;
    keep("mirror", json!({"deletionPolicy": "MirrorPrune", "prune": false})).await;
    keep("held", json!({"deletionPolicy": "WaitForTermination"})).await;
    keep("often", json!({"interval": "2s"})).await;
    let late = format!("{}-late", fleet.namespace);
    keep("late", json!({"interval": "1h", "retryInterval": "1s", "targetNamespace": late})).await;
    // Of another namespace: the source, and what it depends on.
    let source = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "name": "fleet", "namespace": fleet.namespace
    });
    let depends = json!([{"name": "often", "namespace": fleet.namespace}]);
    let after = with("after", json!({"sourceRef": source, "dependsOn": depends}));
    apply(&client, kind, &other, "after", after).await;
    let refused = [
        ("provider", "spec.kubeConfig.configMapRef", json!({"kubeConfig": {"configMapRef": {"name": "a"}}})),
        ("fixed", "spec.ignore[0].paths", json!({"ignore": [{"paths": ["/metadata/name"]}]})),
        (
            "cloud",
            "spec.decryption.serviceAccountName",
            json!({"decryption": {"provider": "sops", "serviceAccountName": "a"}}),
        ),
        ("oci", "spec.sourceRef.kind", json!({"sourceRef": {"kind": "OCIRepository", "name": "fleet"}})),
        (
            "strange",
            "spec.sourceRef.apiVersion",
            json!({"sourceRef": {"apiVersion": "example.com/v1", "kind": "GitRepository", "name": "fleet"}}),
        ),
        ("bucket", "spec.sourceRef.kind", json!({"sourceRef": {"kind": "Bucket", "name": "fleet"}})),
        ("external", "spec.sourceRef.kind", json!({"sourceRef": {"kind": "ExternalArtifact", "name": "fleet"}})),
    ];
    for (name, _, more) in &refused {
        keep(name, more.clone()).await;
    }
    let mut agent = fleet.start().unwrap();
    let kustomizations = api(&client, kind, &fleet.namespace);
    for (name, field, _) in &refused {
        let object =
            object_becomes(&kustomizations, name, "it is refused", |object| ready(object)["reason"] == "InvalidSpec")
                .await;
        assert_eq!(ready(&object)["status"], "False");
        assert!(ready(&object)["message"].as_str().unwrap().contains(field), "{name}: {object:#}");
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    }

    for name in ["orphan", "delete", "mirror", "held", "often", "after"] {
        value_becomes(&mut agent, &maps, name, Some("1")).await;
    }
    let elsewhere = api(&client, kind, &other);
    object_becomes(&elsewhere, "after", "it is ready", |object| ready(object)["status"] == "True").await;

    // It runs again by itself, without anything having changed.
    let next = |status: &Value| -> Option<jiff::Timestamp> {
        kustomization(status, "often")["nextRun"].as_str()?.parse().ok()
    };
    let first = next(&status_becomes(&agent, "it has a next run", |status| next(status).is_some()).await).unwrap();
    status_becomes(&agent, "it has run at its interval", |status| {
        next(status).is_some_and(|next| next.duration_since(first).as_secs() >= 1)
    })
    .await;

    // What failed is tried again long before the hour is over.
    object_becomes(&kustomizations, "late", "its namespace is missing", |object| {
        ready(object)["message"].as_str().is_some_and(|message| message.contains(&late))
            && ready(object)["status"] == "False"
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made = serde_json::from_value(json!({"metadata": {"name": late}})).unwrap();
    namespaces.create(&Default::default(), &made).await.unwrap();
    object_becomes(&kustomizations, "late", "it is tried again", |object| ready(object)["status"] == "True").await;
    let there = Api::<ConfigMap>::namespaced(client.clone(), &late).get_opt("late").await.unwrap();
    assert!(there.is_some());

    // Deleted: each leaves what its policy leaves.
    for name in ["orphan", "delete", "mirror", "held"] {
        object_becomes(&kustomizations, name, "it is ready", |object| ready(object)["status"] == "True").await;
        kustomizations.delete(name, &Default::default()).await.unwrap();
    }
    let gone = async |name: &str| {
        eventually(&format!("{name} is gone"), LONG, || async {
            anyhow::ensure!(kustomizations.get_opt(name).await?.is_none(), "it is still there\n{}", tail(&agent.log()));
            anyhow::Ok(())
        })
        .await;
    };
    for name in ["orphan", "delete", "mirror"] {
        gone(name).await;
    }
    assert_eq!(value_of(&maps, "orphan").await.unwrap().as_deref(), Some("1"));
    assert_eq!(value_of(&maps, "mirror").await.unwrap().as_deref(), Some("1"));
    assert_eq!(value_of(&maps, "delete").await.unwrap(), None);
    eventually("its object is on its way out", LONG, || async {
        anyhow::ensure!(maps.get("held").await?.metadata.deletion_timestamp.is_some());
        anyhow::Ok(())
    })
    .await;
    assert!(kustomizations.get_opt("held").await.unwrap().is_some(), "it did not wait for its object");
    let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    maps.patch("held", &PatchParams::default(), &free).await.unwrap();
    gone("held").await;
}
