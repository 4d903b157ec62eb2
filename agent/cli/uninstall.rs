//! `wickie uninstall`: lets go of everything, and takes away what wickie installed in the cluster. Workloads go on running.
//!
//! What it installed carries `app.kubernetes.io/managed-by: wickie`. Not taken away are namespaces, since others may live
//! in them, and CRDs that Flux works with.

use std::io::{self, BufRead as _, IsTerminal as _};

use kube::core::params::ListParams;
use serde::Serialize;
use serde_json::Value;
use wickie_model::{Gvk, ObjectId, ResourceKind};

use super::look::{Look, Tone};
use super::release::{self, Answer, How, release};
use super::{CliError, Exit, Out, Settings, text};
use crate::cluster::{ApiError, Class, Cluster, Kind};
use crate::config::MANAGED_BY;
use crate::render::OWNER_NAME;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Uninstalled {
    #[serde(flatten)]
    released: Answer,
    /// What was taken away.
    deleted: Vec<String>,
    /// What was left, and why.
    left: Vec<String>,
    /// Whether something was left for want of rights.
    #[serde(skip)]
    forbidden: bool,
}

/// The kinds that an installation consists of, in the order in which they go. The command may run in the very pod that is
/// taken away: that goes once the rest is gone, and after it what gave it the right to go on.
const INSTALLED: [(&str, &str, &str, bool); 11] = [
    ("v1", "Service", "services", true),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("v1", "ServiceAccount", "serviceaccounts", true),
];

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let cluster = args.how.connect().await?;
    if !args.yes && !args.how.dry_run && !agreed(out)? {
        out.say("nothing was done")?;
        return Ok(Exit::Failed);
    }
    let released = release(&cluster, None, &args.how, settings).await?;
    let mut answer = Uninstalled { released, deleted: Vec::new(), left: Vec::new(), forbidden: false };
    // While something of ours is still held, the objects that say so have to stay.
    if answer.released.is_done() {
        take_away(&cluster, args.how.dry_run, &mut answer).await?;
    }
    out.answer(settings.format, &answer, shown)?;
    if answer.forbidden {
        out.say(
            "what is left for want of rights takes an account that has them: the same again with --kubeconfig FILE",
        )?;
    }
    Ok(if answer.released.is_done() && !answer.forbidden { Exit::Done } else { Exit::Failed })
}

/// Whether whoever sits there wants it.
fn agreed(out: &mut Out) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage("nobody is there to ask: say --yes, or look first with --dry-run".to_owned()));
    }
    out.say(
        "Everything that wickie keeps in this cluster is let go of, and what wickie installed there is deleted. Workloads go on running. Write yes to go on:",
    )?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(CliError::Setup)?;
    Ok(line.trim() == "yes")
}

async fn take_away(cluster: &Cluster, dry_run: bool, answer: &mut Uninstalled) -> Result<(), CliError> {
    let flux = match flux_runs(cluster).await {
        Ok(runs) => runs,
        Err(error) if error.class == Class::Forbidden => {
            answer.left.push(format!("each CRD: whether a Flux controller works with it cannot be found out: {error}"));
            answer.forbidden = true;
            true
        }
        Err(error) => return Err(error.into()),
    };
    let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    for (api_version, name, plural, namespaced) in INSTALLED {
        let kind = Kind::new(Gvk::new(api_version, name), plural, namespaced);
        let listed = match cluster.list(&kind, &ours, true).await {
            Ok(listed) => listed.items,
            // An account of its own has no right to what was not for it to keep, or to nothing more by now.
            Err(error) if error.class == Class::Forbidden => {
                answer.left.push(format!("what there may be of {plural}: {error}"));
                answer.forbidden = true;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for object in listed {
            let id = id_of(&kind, &object);
            if let Some(why) = kept(&kind, &object, flux) {
                answer.left.push(format!("{id}: {why}"));
                continue;
            }
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
            let deleted = if dry_run { Ok(()) } else { delete(cluster, &kind, &id, uid).await };
            match deleted {
                Ok(()) => answer.deleted.push(id.to_string()),
                Err(error) if error.class == Class::Forbidden => {
                    answer.left.push(format!("{id}: {error}"));
                    answer.forbidden = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

async fn delete(cluster: &Cluster, kind: &Kind, id: &ObjectId, uid: Option<&str>) -> Result<(), ApiError> {
    match cluster.delete(kind, id, uid).await {
        // Somebody has made it anew meanwhile: it is theirs.
        Err(ApiError { class: Class::Stale, .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Why something that carries our label stays.
fn kept(kind: &Kind, object: &Value, flux: bool) -> Option<&'static str> {
    let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
    if label(OWNER_NAME).is_some() {
        return Some("a Kustomization has applied it: take it out of Git");
    }
    if kind.gvk().kind != "CustomResourceDefinition" {
        return None;
    }
    if flux || label("app.kubernetes.io/part-of") == Some("flux") {
        return Some("Flux works with it; with it would go every object of the kind");
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let known = ResourceKind::ALL.into_iter().any(|kind| format!("{}.{}", kind.plural(), kind.group()) == name);
    (!known).then_some("it defines none of the kinds that wickie installs")
}

/// Whether one of Flux's controllers runs.
async fn flux_runs(cluster: &Cluster) -> Result<bool, ApiError> {
    let deployments = Kind::new(Gvk::new("apps/v1", "Deployment"), "deployments", true);
    let parts = ListParams::default().labels("app.kubernetes.io/part-of=flux");
    let listed = cluster.list(&deployments, &parts, false).await?;
    Ok(listed.items.iter().any(|one| one.pointer("/spec/replicas").and_then(Value::as_i64) != Some(0)))
}

fn id_of(kind: &Kind, object: &Value) -> ObjectId {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    ObjectId::new(kind.gvk().group.clone(), kind.gvk().kind.clone(), text("namespace"), text("name"))
}

fn shown(answer: &Uninstalled, look: &Look) -> String {
    let mut text = release::shown(&answer.released, look);
    let mut line = |tone, mark: &str, words: &str| {
        let lines = text::wrap(words, look.width.saturating_sub(2)).join("\n  ");
        text.push_str(&format!("{} {lines}\n", look.paint(tone, mark)));
    };
    let rest = if answer.released.is_dry() { "would be deleted" } else { "is deleted" };
    for deleted in &answer.deleted {
        line(Tone::Good, "●", &format!("{deleted} {rest}"));
    }
    for left in &answer.left {
        line(Tone::Warn, "○", &format!("{left}; it is left"));
    }
    if !answer.released.is_done() {
        line(Tone::Bad, "✗", "Nothing was deleted, because not everything is let go of; run it again");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_flux_or_git_has_stays() {
        let crds = Kind::new(
            Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            "customresourcedefinitions",
            false,
        );
        let maps = Kind::new(Gvk::new("v1", "ConfigMap"), "configmaps", true);
        let object = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
        let ours = object("kustomizations.kustomize.toolkit.fluxcd.io", json!({}));
        assert_eq!(kept(&crds, &ours, false), None);
        assert!(kept(&crds, &ours, true).is_some());
        let flux = object("kustomizations.kustomize.toolkit.fluxcd.io", json!({"app.kubernetes.io/part-of": "flux"}));
        assert!(kept(&crds, &flux, false).is_some());
        assert!(kept(&crds, &object("tills.example.com", json!({})), false).is_some());
        assert_eq!(kept(&maps, &object("wickie-floors", json!({})), true), None);
        assert!(kept(&maps, &object("a", json!({OWNER_NAME: "shop"})), false).is_some());
    }
}
