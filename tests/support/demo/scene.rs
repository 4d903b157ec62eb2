//! What the demo plays on: a cluster, a signed repository behind a Git server, a receiver, and the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use wickie_testbench::{Agent, ControlPlane, Fleet, Options, Receiver, kubeconfig, within};

use crate::args::Args;

/// The key of the `generic-hmac` Provider.
pub(crate) const HMAC_KEY: &str = "a key that demo and receiver share";
/// ConfigMaps of the repository, by name, with their first value.
pub(crate) const MAPS: [(&str, &str); 3] = [("greeting", "moin"), ("menu", "fish soup"), ("hours", "5 to 9")];
/// How long a namespace may take to go away.
const REMOVAL: Duration = Duration::from_secs(120);

/// Where the objects go.
pub(crate) struct Cluster {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) context: Option<String>,
    pub(crate) client: Client,
    /// The one that was started for the demo. It ends with it, and everything in it.
    own: Option<ControlPlane>,
}

impl Cluster {
    /// Starts a control plane, or takes the user's.
    pub(crate) async fn open(args: &Args, options: Option<Options>) -> Result<Self> {
        let (own, kubeconfig) = match (options, &args.kubeconfig) {
            (Some(options), _) => {
                let own = ControlPlane::start(options).await?;
                let kubeconfig = own.kubeconfig();
                (Some(own), kubeconfig)
            }
            (None, Some(file)) => (None, std::path::absolute(file)?),
            (None, None) => bail!("no cluster"),
        };
        let client = kubeconfig::client_in(&kubeconfig, args.context.as_deref()).await;
        let client = client.with_context(|| format!("read {}", kubeconfig.display()))?;
        if own.is_none() {
            refuse_where_wickie_is_at_work(&client).await?;
        }
        Ok(Self { kubeconfig, context: args.context.clone(), client, own })
    }

    pub(crate) fn is_borrowed(&self) -> bool {
        self.own.is_none()
    }

    /// A new namespace.
    pub(crate) async fn make_namespace(&self) -> Result<String> {
        let metadata = ObjectMeta { generate_name: Some("wickie-demo-".to_owned()), ..Default::default() };
        let wish = Namespace { metadata, ..Default::default() };
        let made = self.namespaces().create(&PostParams::default(), &wish).await.context("make a namespace")?;
        Ok(made.name_any())
    }

    /// Removes the namespace, and waits until it is gone.
    pub(crate) async fn remove_namespace(&self, name: &str) -> Result<()> {
        let namespaces = self.namespaces();
        namespaces.delete(name, &DeleteParams::default()).await?;
        let gone = || async {
            ensure!(namespaces.get_opt(name).await?.is_none(), "it is still there");
            anyhow::Ok(())
        };
        within(REMOVAL, gone).await.map_err(anyhow::Error::from)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }
}

/// The agent also follows what a cluster declares. In one where objects wait for a wickie, the demo's would take them.
async fn refuse_where_wickie_is_at_work(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions = definitions.list(&ListParams::default()).await.context("look for Flux's kinds in the cluster")?;
    for definition in definitions.items.iter().filter(|one| one.spec.group.ends_with(".toolkit.fluxcd.io")) {
        let ours = definition.labels().get("app.kubernetes.io/managed-by").is_some_and(|by| by == "wickie");
        let Some(version) = definition.spec.versions.iter().find(|version| version.storage) else { continue };
        let kind = GroupVersionKind::gvk(&definition.spec.group, &version.name, &definition.spec.names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &definition.spec.names.plural);
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let wanted = ListParams { limit: Some(1), ..ListParams::default() };
        let wanted = if ours { wanted } else { wanted.labels("wickie.dev/managed=true") };
        if let Some(found) = all.list(&wanted).await?.items.first() {
            bail!(
                "this cluster has objects that a wickie follows (the first: {} {}/{}): the demo's agent would follow them \
                 too. Take a cluster without them",
                kind.kind,
                found.namespace().unwrap_or_default(),
                found.name_any()
            );
        }
    }
    Ok(())
}

/// Everything that runs.
pub(crate) struct Scene<'a> {
    // Dropped in this order: the agent first.
    pub(crate) agent: Agent,
    pub(crate) fleet: Fleet,
    pub(crate) receiver: Receiver,
    pub(crate) cluster: &'a Cluster,
    /// The commit that shall be enforced.
    pub(crate) wanted: String,
}

impl<'a> Scene<'a> {
    /// Makes the repository with its first commit and the node's configuration, starts Git server, receiver and agent.
    pub(crate) fn open(cluster: &'a Cluster, namespace: &str, binary: &Path) -> Result<Self> {
        let binary = binary.to_str().context("the path of the agent is UTF-8")?;
        let mut fleet = Fleet::new("demo", binary, cluster.kubeconfig.clone(), namespace.to_owned())?;
        // What it keeps for itself goes with the rest.
        fleet.home = namespace.to_owned();
        let receiver = Receiver::start()?;
        for (name, value) in MAPS {
            fleet.write_map(&format!("apps/{name}.yaml"), name, value)?;
        }
        fleet.repo.write("apps/shop.yaml", &service(namespace))?;
        let wanted = fleet.commit("first")?;
        fleet.configure("demo.yaml", &configuration(&fleet, &receiver))?;
        let mut options = fleet.options();
        if let Some(context) = &cluster.context {
            options.args.extend(["--context".into(), context.into()]);
        }
        let agent = Agent::spawn(options)?;
        Ok(Self { agent, fleet, receiver, cluster, wanted })
    }

    /// Commits what stands in the work tree, signed.
    pub(crate) fn commit(&mut self, message: &str) -> Result<()> {
        self.wanted = self.fleet.commit(message)?;
        Ok(())
    }

    /// `wickie status -o json`.
    pub(crate) fn status(&self) -> Result<Value> {
        let answered = self.agent.cli(&["status", "-o", "json"])?;
        serde_json::from_str(&answered.stdout).with_context(|| format!("wickie status: {}", answered.stderr.trim()))
    }

    /// The ConfigMaps of the demo.
    pub(crate) fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.cluster.client.clone(), &self.fleet.namespace)
    }

    /// Its Services.
    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.cluster.client.clone(), &self.fleet.namespace)
    }

    /// The value of a ConfigMap; nothing where it is not there.
    pub(crate) async fn value(&self, name: &str) -> Result<Option<String>> {
        let map = self.maps().get_opt(name).await?;
        Ok(map.and_then(|map| map.data?.get("value").cloned()))
    }

    /// Changes a ConfigMap by hand, as `kubectl edit` does.
    pub(crate) async fn edit(&self, name: &str, value: &str) -> Result<()> {
        let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
        self.maps().patch(name, &params, &Patch::Merge(json!({ "data": { "value": value } }))).await?;
        Ok(())
    }
}

fn service(namespace: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: shop
  namespace: {namespace}
spec:
  clusterIP: None
  selector: {{app: shop}}
  ports:
    - port: 80
"
    )
}

/// What the node follows, whom it believes, and whom it tells.
fn configuration(fleet: &Fleet, receiver: &Receiver) -> String {
    format!(
        "apiVersion: wickie.dev/v1
kind: NodeConfig
spec:
  cluster: demo
  require-verified: true
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: fleet}}
spec:
  url: {git}
  interval: 2s
  ref: {{branch: main}}
  verify: {{mode: HEAD, secretRef: {{name: signers}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: signers}}
stringData:
  ada.sshpub: {key}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: shop}}
spec:
  interval: 10m
  path: ./apps
  prune: true
  sourceRef: {{kind: GitRepository, name: fleet}}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Provider
metadata: {{name: ci}}
spec:
  type: generic-hmac
  address: {receiver}
  secretRef: {{name: ci}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ci}}
stringData:
  token: {HMAC_KEY}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Alert
metadata: {{name: all}}
spec:
  providerRef: {{name: ci}}
  eventSources:
    - {{kind: GitRepository, name: '*'}}
    - {{kind: Kustomization, name: '*'}}
",
        git = fleet.git.url("fleet"),
        key = fleet.key.public(),
        receiver = receiver.url(),
    )
}
