//! A cluster that is put back where it was: etcd is restored from a backup, and the versions of everything go back with
//! it. Nothing tells a watch of that: one that goes on from where it was hears nothing until the versions have grown
//! past that (kubernetes/kubernetes#107457). And what is restored reads as what was left: managedFields hold no values.

use anyhow::ensure;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use wickie_model::ResourceKind;
use wickie_testbench::{Agent, Backup, ControlPlane, Fleet, eventually};

use crate::cluster_input::{api, declare, install_crds, object_becomes};
use crate::node::*;

/// A cluster that has been backed up, and has come further since.
struct Restored {
    control_plane: ControlPlane,
    fleet: Fleet,
    client: Client,
    maps: Api<ConfigMap>,
    agent: Agent,
    backup: Backup,
    /// What is to stand there.
    commit: String,
}

impl Restored {
    /// With what the agent follows declared in files or in the cluster.
    async fn new(name: &str, in_cluster: bool) -> Self {
        let (control_plane, fleet, client) = fleet_alone(name).await;
        let maps = maps(&fleet, &client);
        for name in ["changes", "goes", "stays", "returns"] {
            fleet.write_map(&format!("{name}.yaml"), name, "1").unwrap();
        }
        write_service(&fleet, "old");
        let first = fleet.commit("first").unwrap();
        let mut options = fleet.options();
        if in_cluster {
            install_crds(&client).await;
            declare(&client, &fleet).await;
            options.args.push("--lease=3s".into());
        } else {
            fleet.follow("1s").unwrap();
            fleet.keep("apps", "").unwrap();
        }
        let mut agent = Agent::spawn(options).unwrap();
        applied(&agent, &first).await;
        let backup = control_plane.back_up().await.unwrap();

        fleet.write_map("returns.yaml", "returns", "2").unwrap();
        let between = fleet.commit("between").unwrap();
        value_becomes(&mut agent, &maps, "returns", Some("2")).await;
        applied(&agent, &between).await;
        fleet.write_map("returns.yaml", "returns", "1").unwrap();
        fleet.write_map("changes.yaml", "changes", "2").unwrap();
        fleet.repo.remove("goes.yaml").unwrap();
        fleet.write_map("comes.yaml", "comes", "1").unwrap();
        write_service(&fleet, "new");
        let commit = fleet.commit("second").unwrap();
        value_becomes(&mut agent, &maps, "comes", Some("1")).await;
        value_becomes(&mut agent, &maps, "goes", None).await;
        applied(&agent, &commit).await;
        let restored = Self { control_plane, fleet, client, maps, agent, backup, commit };
        restored.is_busy().await;
        restored
    }

    /// Other things happen in the cluster, so that its versions grow.
    async fn is_busy(&self) {
        let beside: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        for _ in 0..500 {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "busy"},
                "data": {"value": fastrand::u64(..).to_string()}
            });
            beside.patch("busy", &PatchParams::apply("test"), &Patch::Apply(map)).await.unwrap();
        }
    }

    async fn restore(&self) {
        self.control_plane.restore(&self.backup).await.unwrap();
    }

    /// The cluster is brought back to what Git says.
    async fn is_brought_back(&mut self) {
        let Self { maps, agent, .. } = self;
        value_becomes(agent, maps, "changes", Some("2")).await;
        value_becomes(agent, maps, "comes", Some("1")).await;
        value_becomes(agent, maps, "goes", None).await;
        applied(agent, &self.commit).await;
        let services = self.services();
        eventually("the Service is the new one", LONG, || async {
            let service = services.get("serves").await?;
            ensure!(served(&service) == Some("new"), "{:?}", service.spec);
            anyhow::Ok(())
        })
        .await;
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.fleet.namespace)
    }

    /// And kept there.
    async fn goes_on(&mut self) {
        let Self { fleet, maps, agent, .. } = self;
        change_by_hand(maps, "stays", "by hand").await;
        value_becomes(agent, maps, "stays", Some("1")).await;
        fleet.write_map("changes.yaml", "changes", "3").unwrap();
        let third = fleet.commit("third").unwrap();
        value_becomes(agent, maps, "changes", Some("3")).await;
        applied(agent, &third).await;
    }

    /// How often the agent said that the cluster was set back.
    fn noticed(&self) -> usize {
        self.agent.log().matches("was set back").count()
    }
}

/// Serves the pods of an app.
fn write_service(fleet: &Fleet, app: &str) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "serves", "namespace": fleet.namespace},
        "spec": {"type": "LoadBalancer", "selector": {"app": app}, "ports": [{"port": 80}]}
    });
    fleet.repo.write("serves.yaml", &service.to_string()).unwrap();
}

fn served(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.selector.as_ref()?.get("app").map(String::as_str)
}

#[tokio::test]
async fn a_cluster_that_is_restored_from_a_backup_is_brought_back_to_what_git_says() {
    let mut restored = Restored::new("restored", false).await;
    restored.restore().await;
    restored.is_brought_back().await;
    restored.goes_on().await;
    assert_eq!(restored.noticed(), 1, "{}", restored.agent.log());
    // What it was is no news to the next one.
    assert_eq!(restored.agent.stop().await.unwrap(), 0);
    restored.agent.restart().unwrap();
    change_by_hand(&restored.maps, "stays", "by hand").await;
    value_becomes(&mut restored.agent, &restored.maps, "stays", Some("1")).await;
    assert_eq!(restored.noticed(), 1, "{}", restored.agent.log());
}

#[tokio::test]
async fn a_restored_cluster_that_has_come_as_far_again_is_brought_back_too() {
    let mut restored = Restored::new("restored-ahead", false).await;
    restored.agent.freeze();
    restored.restore().await;
    for _ in 0..3 {
        restored.is_busy().await;
    }
    // This one's version alone tells nothing any more; and of a Service no generation tells that its spec is an earlier one.
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let services = restored.services();
    let patched = services.patch_status("serves", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(served(&patched), Some("old"));
    restored.agent.thaw();
    restored.is_brought_back().await;
    restored.goes_on().await;
}

#[tokio::test]
async fn a_cluster_that_was_restored_while_no_agent_ran_is_brought_back_too() {
    let mut restored = Restored::new("restored-unseen", false).await;
    assert_eq!(restored.agent.stop().await.unwrap(), 0);
    restored.restore().await;
    restored.agent.restart().unwrap();
    restored.is_brought_back().await;
    restored.goes_on().await;
}

#[tokio::test]
async fn a_cluster_that_is_being_restored_as_the_agent_starts_is_brought_back_too() {
    let mut restored = Restored::new("restored-start", false).await;
    assert_eq!(restored.agent.stop().await.unwrap(), 0);
    restored.control_plane.stop_api();
    restored.agent.restart().unwrap();
    status_becomes(&restored.agent, "a run could not look at the cluster", |status| {
        status["cluster"]["reachable"] == false && kustomization(status, "apps")["ready"]["status"] == "False"
    })
    .await;
    restored.restore().await;
    restored.is_brought_back().await;
    restored.goes_on().await;
}

#[tokio::test]
async fn the_lease_and_the_statuses_of_a_restored_cluster_are_brought_back_too() {
    let mut restored = Restored::new("restored-lease", true).await;
    let leases: Api<Lease> = Api::namespaced(restored.client.clone(), &restored.fleet.home);
    let held = |lease: Lease| lease.spec.and_then(|spec| spec.lease_transitions);
    let before = held(leases.get("wickie").await.unwrap());
    restored.restore().await;
    restored.is_brought_back().await;
    for (kind, name) in [(ResourceKind::Kustomization, "apps"), (ResourceKind::GitRepository, "fleet")] {
        let told = api(&restored.client, kind, &restored.fleet.namespace);
        object_becomes(&told, name, &format!("{kind} tells of the last revision"), |object| {
            let conditions = object.pointer("/status/conditions").map(ToString::to_string).unwrap_or_default();
            conditions.contains(&revision(&restored.commit))
        })
        .await;
    }
    restored.goes_on().await;
    assert_eq!(held(leases.get("wickie").await.unwrap()), before, "it was another's in between");
    let log = restored.agent.log();
    assert!(!log.contains("in the name of this node"), "its own Lease of before was taken for a twin's: {log}");
    assert!(!log.contains("is not declared"), "one kind was read before the other: {log}");
}
