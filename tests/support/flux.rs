//! Flux's own kustomize-controller, on what its source-controller would have left for it: a GitRepository whose status names an archive.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::child::Child;
use crate::front::{Front, whole};
use crate::port::Port;
use crate::{ControlPlane, Repo, eventually, parts};

/// Where Flux's own objects live.
pub const HOME: &str = "flux-system";

/// How long anything may take that is only asked for.
const LONG: Duration = Duration::from_secs(120);

/// What the controller is known as to the API server, and to managed fields.
pub const MANAGER: &str = "kustomize-controller";

/// The controller, and the file server that it takes its archive from.
pub struct KustomizeController {
    controller: Option<Child>,
    command: Command,
    folder: PathBuf,
    client: kube::Client,
    files: Front,
}

impl KustomizeController {
    /// Defines the kinds and starts the controller. `kinds` are CRDs beside that of the Kustomization, which is the controller's own.
    /// It writes into `folder`.
    ///
    /// # Errors
    /// When it cannot be had or does not start.
    pub async fn start(control_plane: &ControlPlane, folder: &Path, kinds: &[Value]) -> Result<Self> {
        let program = tokio::task::spawn_blocking(|| parts::find(&parts::KUSTOMIZE_CONTROLLER)).await??;
        let client = control_plane.client().await;
        let module = parts::module_folder(&parts::KUSTOMIZE_CONTROLLER, "github.com/fluxcd/kustomize-controller")?;
        let crd = module.join("config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml");
        let own: Value = serde_saphyr::from_str(&std::fs::read_to_string(&crd)?)?;
        // Without the other kinds of sources it ends after a while; none of them is used.
        let others =
            [("Bucket", "buckets"), ("OCIRepository", "ocirepositories"), ("ExternalArtifact", "externalartifacts")];
        let others = others.map(|(kind, plural)| empty_kind(kind, plural));
        for kind in kinds.iter().chain([&own]).chain(&others) {
            define(&client, kind).await?;
        }
        let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}});
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        namespaces.patch(HOME, &PatchParams::apply("test").force(), &Patch::Apply(home)).await?;

        let mut command = Command::new(program);
        command
            .args(["--enable-leader-election=false", "--events-addr="])
            .env("KUBECONFIG", control_plane.kubeconfig())
            .env("RUNTIME_NAMESPACE", HOME)
            .env("HOME", folder)
            .env("TMPDIR", folder);
        let served = folder.to_owned();
        let files = Front::start("archives", None, move |request| {
            let file = served.join(request.uri().path().trim_start_matches('/'));
            async move { Ok(hyper::Response::new(whole(std::fs::read(file)?))) }
        })?;
        let mut flux = Self { controller: None, command, folder: folder.to_owned(), client, files };
        flux.go_on().await?;
        Ok(flux)
    }

    /// Starts the controller, as it was started before.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn go_on(&mut self) -> Result<()> {
        let ports = [Port::free()?, Port::free()?];
        let mut command = Command::new(self.command.get_program());
        command.args(self.command.get_args());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        for (flag, port) in ["--metrics-addr", "--health-addr"].iter().zip(&ports) {
            command.arg(format!("{flag}={}", port.addr()));
        }
        drop(ports);
        let mut child = Child::spawn(MANAGER, &command, &self.folder.join("controller.log"))?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        child.check()?;
        self.controller = Some(child);
        Ok(())
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.controller = None;
    }

    /// Its process; nothing while it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.controller.as_ref().map(Child::pid)
    }

    /// The objects of one of Flux's kinds.
    pub fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), HOME, &resource)
    }

    /// Declares the GitRepository `fleet` with this spec, and offers what stands at a commit, as source-controller does.
    ///
    /// # Errors
    /// When git or the API server refuses.
    pub async fn offer(&self, repo: &Repo, commit: &str, spec: &Value) -> Result<()> {
        let name = format!("{commit}.tar.gz");
        let archive = self.folder.join(&name);
        repo.git(&["archive", "--format=tar.gz", "-o", &archive.display().to_string(), commit])?;
        let bytes = std::fs::read(&archive)?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let repositories = self.api("source.toolkit.fluxcd.io", "GitRepository");
        let object = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "spec": spec,
            "metadata": {"name": "fleet", "namespace": HOME}
        });
        repositories.patch("fleet", &PatchParams::apply("flux").force(), &Patch::Apply(object)).await?;
        let now = jiff::Timestamp::now().to_string();
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored", "lastTransitionTime": now,
            "observedGeneration": 1
        });
        let status = json!({"status": {
            "observedGeneration": 1, "conditions": [ready],
            "artifact": {
                "path": name, "url": format!("{}/{name}", self.files.origin()), "revision": format!("main@sha1:{commit}"),
                "digest": format!("sha256:{digest}"), "lastUpdateTime": now, "size": bytes.len()
            }
        }});
        repositories.patch_status("fleet", &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    /// Declares a Kustomization of `fleet`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn keep(&self, name: &str, spec: Value) -> Result<()> {
        let mut object = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "spec": spec,
            "metadata": {"name": name, "namespace": HOME}
        });
        object["spec"]["sourceRef"] = json!({"kind": "GitRepository", "name": "fleet"});
        let kustomizations = self.api("kustomize.toolkit.fluxcd.io", "Kustomization");
        kustomizations.patch(name, &PatchParams::apply("flux").force(), &Patch::Apply(object)).await?;
        Ok(())
    }

    /// How many Kustomizations are ready.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn ready(&self) -> Result<usize> {
        let all = self.api("kustomize.toolkit.fluxcd.io", "Kustomization").list(&ListParams::default()).await?;
        Ok(all.items.iter().filter(|one| is_ready(&one.data)).count())
    }
}

/// Whether an object's condition Ready is True.
pub fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A kind of source of which there is no object.
fn empty_kind(kind: &str, plural: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.source.toolkit.fluxcd.io")},
        "spec": {
            "group": "source.toolkit.fluxcd.io", "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]
        }
    })
}

async fn define(client: &kube::Client, definition: &Value) -> Result<()> {
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let name = definition["metadata"]["name"].as_str().context("a CRD has a name")?;
    definitions.patch(name, &PatchParams::apply("flux").force(), &Patch::Apply(definition.clone())).await?;
    eventually("the kind is served", LONG, || async {
        let served = definitions.get(name).await?;
        let conditions = served.data.pointer("/status/conditions").and_then(Value::as_array).cloned();
        let established =
            conditions.iter().flatten().any(|one| one["type"] == "Established" && one["status"] == "True");
        ensure!(established, "not yet");
        Ok(())
    })
    .await;
    Ok(())
}
