//! An agent that lives in a cluster as `wickie install --export` has it, and what it is asked to do there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use wickie::install::KnownKinds;
use wickie_model::{Gvk, ResourceKind};
use wickie_testbench::audit::AuditEvent;
use wickie_testbench::{Agent, ControlPlane, Fleet, Options, eventually, need};

use crate::cluster_input::{api, apply, declare_source_in, kustomization_spec, object_becomes, ready};
use crate::node::*;

pub(super) const HOME: &str = "flux-system";

/// What `wickie install --export` prints.
pub(super) fn exported(fleet: &Fleet, more: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["install", "--export", "-o", "json"].into_iter().chain(more.iter().copied()).collect();
    let answered = wickie_testbench::agent::cli(&fleet.options(), &args).unwrap();
    assert_eq!(answered.code, 0, "{answered:?}");
    let list: Value = serde_json::from_str(&answered.stdout).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Applies the documents in their order, as `kubectl apply --server-side` does.
pub(super) async fn install(client: &Client, documents: &[Value]) {
    let kinds = KnownKinds::default();
    for document in documents {
        let gvk = Gvk::new(document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
        let served = kinds.of(&gvk.group, &gvk.kind).unwrap();
        let resource = ApiResource::from_gvk_with_plural(
            &kube::core::GroupVersionKind::gvk(&gvk.group, &gvk.version, &gvk.kind),
            &served.plural,
        );
        let objects: Api<DynamicObject> = match document["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = document["metadata"]["name"].as_str().unwrap();
        let params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply("kubectl")
        };
        objects.patch(name, &params, &Patch::Apply(document)).await.expect(name);
    }
}

pub(super) fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).expect(kind)
}

/// Everything that a shop takes: kinds with and without namespaces, and rights that are handed on.
pub(super) fn fill(fleet: &Fleet) {
    let namespace = &fleet.namespace;
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.write_map("goes.yaml", "goes", "1").unwrap();
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: till, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{app: till}}}}\n  template:\n    metadata: {{labels: {{app: till}}}}\n    spec: {{containers: [{{name: main, image: till}}]}}\n"
    );
    fleet.repo.write("till.yaml", &deployment).unwrap();
    let rights = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: reader, namespace: {namespace}}}\nrules: [{{apiGroups: [''], resources: [pods], verbs: [get]}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: reader, namespace: {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}\nsubjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: viewer, namespace: {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\nsubjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]\n---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: {namespace}}}\nvalue: 10\n"
    );
    fleet.repo.write("rights.yaml", &rights).unwrap();
}

/// An agent in a cluster, as it was installed.
pub(super) struct Home {
    pub(super) control_plane: ControlPlane,
    pub(super) fleet: Fleet,
    pub(super) client: Client,
    pub(super) agent: Agent,
}

/// A program that starts the agent with what the pod leaves to root: no capability, and no way to one.
fn without_capabilities(fleet: &Fleet) -> Option<PathBuf> {
    let setpriv = need::program("setpriv")?;
    let file = fleet.scratch.join("wickie");
    let text = format!(
        "#!/bin/sh\nexec {} --bounding-set=-all --inh-caps=-all --no-new-privs {} \"$@\"\n",
        setpriv.display(),
        env!("CARGO_BIN_EXE_wickie")
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Only root has any to drop.
    let tried = std::process::Command::new(&file).arg("version").output().unwrap();
    tried.status.success().then_some(file)
}

impl Home {
    /// Installs what is exported for `folder` of the repository, or with cluster-admin, and starts the agent as the pod
    /// would run it: by the same account, arguments, files and capabilities.
    pub(super) async fn new(name: &str, folder: Option<&str>, fill: impl FnOnce(&Fleet)) -> Self {
        let control_plane = ControlPlane::start(Options::default()).await.unwrap();
        let namespace = control_plane.namespace(name).await.unwrap();
        let client = control_plane.client().await;
        let mut fleet = Fleet::new(name, env!("CARGO_BIN_EXE_wickie"), control_plane.kubeconfig(), namespace).unwrap();
        fleet.home = HOME.to_owned();
        fill(&fleet);
        fleet.commit("first").unwrap();
        let folder = folder.map(|folder| fleet.repo.work().join(folder).to_str().unwrap().to_owned());
        let documents = match &folder {
            Some(folder) => exported(&fleet, &["--for", folder]),
            None => exported(&fleet, &[]),
        };
        install(&client, &documents).await;
        let config = of_kind(&documents, "ConfigMap")["data"].as_object().unwrap().clone();
        for (file, text) in config {
            fleet.configure(&file, text.as_str().unwrap()).unwrap();
        }
        let account = control_plane.kubeconfig_for_service_account(HOME, "wickie").await.unwrap();
        fleet.through(&account);
        let container = &of_kind(&documents, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
        let args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
        let mut options = fleet.options();
        // Its port may be taken here; everything else is as the pod has it.
        assert_eq!(args[..4], ["run", "--lease", "--listen", "127.0.0.1:9797"]);
        options.args = ["--lease", "--listen", "127.0.0.1:0"].into_iter().map(Into::into).collect();
        options.args.extend(args[4..].iter().map(Into::into));
        if let Some(program) = without_capabilities(&fleet) {
            options.binary = program;
            // As the kubelet makes it.
            std::fs::create_dir(fleet.data_dir()).unwrap();
        }
        let agent = Agent::spawn(options).unwrap();
        Self { control_plane, fleet, client, agent }
    }

    /// Applies, repairs, waits for health, suspends, prunes, lets go: by objects in the cluster.
    pub(super) async fn main_job(&mut self) {
        let Self { fleet, client, agent, .. } = self;
        let maps = maps(fleet, client);
        // Beside the agent, where a cluster is first told what to keep to.
        declare_source_in(client, fleet, HOME).await;
        let mut spec = kustomization_spec();
        spec["wait"] = json!(true);
        apply(client, ResourceKind::Kustomization, HOME, "apps", spec).await;
        let kustomizations = api(client, ResourceKind::Kustomization, HOME);
        value_becomes(agent, &maps, "a", Some("1")).await;
        let done = object_becomes(&kustomizations, "apps", "it is ready, with all that it waits for", |object| {
            ready(object)["status"] == "True"
        })
        .await;
        assert_eq!(done["metadata"]["finalizers"], json!(["wickie.dev/finalizer"]));
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
        assert_eq!(deployments.get("till").await.unwrap().status.unwrap().ready_replicas, Some(1));
        change_by_hand(&maps, "a", "by hand").await;
        value_becomes(agent, &maps, "a", Some("1")).await;

        assert_eq!(agent.cli(&["suspend", "apps", "-n", HOME]).unwrap().code, 0);
        object_becomes(&kustomizations, "apps", "spec.suspend is set", |object| object["spec"]["suspend"] == true)
            .await;
        assert_eq!(agent.cli(&["resume", "apps", "-n", HOME]).unwrap().code, 0);
        fleet.repo.remove("goes.yaml").unwrap();
        fleet.write_map("a.yaml", "a", "2").unwrap();
        let second = fleet.commit("second").unwrap();
        value_becomes(agent, &maps, "goes", None).await;
        value_becomes(agent, &maps, "a", Some("2")).await;
        object_becomes(&kustomizations, "apps", "the second commit is applied", |object| {
            object["status"]["lastAppliedRevision"] == format!("main@sha1:{second}").as_str()
        })
        .await;
        // The floor is kept in the cluster.
        let floors: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client.clone(), HOME);
        eventually("the floor is in the cluster", LONG, || async {
            let floors = floors.get("wickie-floors").await?;
            anyhow::ensure!(json!(floors.data).to_string().contains(&second), "{floors:?}");
            anyhow::Ok(())
        })
        .await;
        let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), HOME);
        eventually("Events tell of it", LONG, || async {
            let events = events.list(&Default::default()).await?.items;
            anyhow::ensure!(events.iter().any(|it| it.reporting_component.as_deref() == Some("wickie")), "{events:?}");
            anyhow::Ok(())
        })
        .await;
        self.nothing_was_forbidden();
    }

    /// Neither the API server nor the agent says that anything was not allowed.
    pub(super) fn nothing_was_forbidden(&self) {
        self.its_own_rights_were_enough();
        let log = self.agent.log().to_lowercase();
        assert!(!log.contains("forbidden"), "{log}");
    }

    /// Nothing was refused that it asked for itself.
    pub(super) fn its_own_rights_were_enough(&self) {
        let asked = self.asked();
        let own: Vec<_> = asked.iter().filter(|event| event.impersonated_user.is_none()).collect();
        assert!(own.iter().any(|event| event.writes()), "{} requests", own.len());
        let forbidden: Vec<_> = own.iter().filter(|event| matches!(event.response_status.code, 401 | 403)).collect();
        assert!(forbidden.is_empty(), "{forbidden:#?}");
    }

    /// What its account has asked of the API server, for itself and for others.
    pub(super) fn asked(&self) -> Vec<AuditEvent> {
        let account = format!("system:serviceaccount:{HOME}:wickie");
        let asked = self.control_plane.audit().unwrap();
        asked.into_iter().filter(|event| event.user.username == account).collect()
    }

    /// What was installed goes, what was kept stays.
    pub(super) async fn uninstall(&self, labelled: usize) {
        let Self { fleet, client, agent, .. } = self;
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &fleet.namespace);
        let before = deployments.get("till").await.unwrap().metadata.uid;
        let kubeconfig: PathBuf = self.control_plane.kubeconfig();
        let answered =
            agent.cli(&["uninstall", "--yes", "-o", "json", "--kubeconfig", kubeconfig.to_str().unwrap()]).unwrap();
        assert_eq!(answered.code, 0, "{answered:?}");
        let answer: Value = serde_json::from_str(&answered.stdout).unwrap();
        assert_eq!(answer["deleted"].as_array().unwrap().len(), labelled, "{answer:#}");
        let sets: Api<DaemonSet> = Api::namespaced(client.clone(), HOME);
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), HOME);
        eventually("the DaemonSet and its pod are gone", LONG, || async {
            let pods: Api<Pod> = Api::namespaced(client.clone(), HOME);
            anyhow::ensure!(sets.get_opt("wickie").await?.is_none(), "the DaemonSet is there");
            anyhow::ensure!(pods.list(&Default::default()).await?.items.is_empty(), "a pod is there");
            anyhow::Ok(())
        })
        .await;
        assert!(accounts.get_opt("wickie").await.unwrap().is_none());
        let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
        let ours = |bindings: &kube::api::ObjectList<ClusterRoleBinding>| {
            bindings.items.iter().filter(|it| it.metadata.name.as_ref().unwrap().starts_with("wickie")).count()
        };
        assert_eq!(ours(&bindings.list(&Default::default()).await.unwrap()), 0);
        assert_eq!(deployments.get("till").await.unwrap().metadata.uid, before);
        assert_eq!(value_of(&maps(fleet, client), "a").await.unwrap().as_deref(), Some("2"));
    }
}
