//! `wickie release`: hands back what wickie keeps.
//!
//! ```text
//! mark it (agent or store) ─► its objects, one by one ─► its own object ─► forget its inventory (agent or store)
//! ```
//!
//! The mark comes first and outlives a restart, the inventory goes last: whatever is killed on the way, the same command
//! again comes to the same end. What people and other tools see stays as it is: no object is made again, no value changes.

mod hands;

use std::str::FromStr;

use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use wickie_model::{Gvk, ObjectId, Resource, ResourceKind, ResourceName, condition_type};

use super::look::{Look, Tone};
use super::target::Target;
use super::{CliError, Cluster as ClusterArgs, Exit, Out, Settings, text};
use crate::apply::{Heir, LetGo, let_go};
use crate::cluster::{ApiError, Class, Cluster, Kind, MANAGER, Remote};
use crate::config::{KubeConfigRef, SecretData, annotation};
use crate::render::{OWNER_NAME, OWNER_NAMESPACE};
use crate::serve::{Released, view};
use crate::store::Origin;
use hands::Hands;

/// How many objects are let go of at once.
const IN_FLIGHT: usize = 8;

/// Flux's field manager. Source: kustomize-controller, `main.go`, `controllerName`.
const FLUX: &str = "kustomize-controller";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kustomizations
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    targets: Vec<Target>,
    /// Everything: all Kustomizations, and what of ours is on sources and the rest
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(super) how: How,
}

/// To whom, and from where.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Who has the fields then: flux (kustomize-controller goes on, with its labels and the inventory in the status), another
    /// field manager by its name, or nobody; for these two the labels of the owner are taken off
    #[arg(long, value_name = "flux|MANAGER|nobody", default_value = "flux")]
    to: To,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// No agent runs anywhere: needed where neither one runs on the data directory nor one has
    #[arg(long)]
    no_agent: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Flux,
    Manager(String),
    Nobody,
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "flux" => Ok(Self::Flux),
            "nobody" => Ok(Self::Nobody),
            MANAGER => Err("that is who lets go of it".to_owned()),
            // Source: Kubernetes, `ValidateFieldManager`.
            _ if text.is_empty() || text.len() > 128 || text.chars().any(char::is_control) => {
                Err("a field manager has a name of 1 to 128 printable characters".to_owned())
            }
            _ => Ok(Self::Manager(text.to_owned())),
        }
    }
}

/// What was released.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    api_version: &'static str,
    dry_run: bool,
    /// The field manager that has the fields now; left out where nobody has.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    kustomizations: Vec<One>,
    /// Other objects of ours that were let go of: sources and the like.
    others: Vec<String>,
    /// What failed.
    failed: Vec<String>,
}

/// One Kustomization.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    #[serde(flatten)]
    name: ResourceName,
    /// Objects that were handed over.
    handed_over: usize,
    /// Objects on which there was nothing of ours.
    not_ours: usize,
    /// Objects that are not there.
    absent: usize,
    /// Whether it is let go of as a whole.
    done: bool,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let kind = ResourceKind::Kustomization;
    if let Some(other) = args.targets.iter().find(|target| target.kind.is_some_and(|of| of != kind)) {
        return Err(CliError::Usage(format!(
            "{}: only Kustomizations are released by name; --all is for the rest",
            other.name
        )));
    }
    let names = args.targets.iter().map(|target| settings.named(target, kind).name).collect();
    let cluster = args.how.connect().await?;
    let answer = release(&cluster, (!args.all).then_some(names), &args.how, settings).await?;
    out.answer(settings.format, &answer, shown)?;
    Ok(if answer.is_done() { Exit::Done } else { Exit::Failed })
}

impl How {
    /// The cluster, as the arguments name it.
    pub(super) async fn connect(&self) -> Result<Cluster, CliError> {
        self.cluster.connect().await
    }

    fn manager(&self) -> Option<&str> {
        match &self.to {
            To::Flux => Some(FLUX),
            To::Manager(name) => Some(name),
            To::Nobody => None,
        }
    }
}

impl Answer {
    pub(super) fn is_dry(&self) -> bool {
        self.dry_run
    }

    pub(super) fn is_done(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Lets go of these Kustomizations, or of everything.
pub(super) async fn release(
    cluster: &Cluster,
    names: Option<Vec<ResourceName>>,
    how: &How,
    settings: &Settings,
) -> Result<Answer, CliError> {
    let all = names.is_none();
    let hands = Hands::of(settings, how).await?;
    // What cannot be reached is not marked, either: nothing is begun that cannot be gone on with.
    cluster.get_path("/version").await?;
    let mut released = hands.begin(names.clone(), how.dry_run).await?;
    let api_version = view::API_VERSION;
    let (kustomizations, others, failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut answer = Answer {
        api_version,
        dry_run: how.dry_run,
        to: how.manager().map(str::to_owned),
        kustomizations,
        others,
        failed,
    };
    // Where the store was lost, or is elsewhere, the cluster's own word on what was applied counts.
    let wanted = |name: &ResourceName| names.as_ref().is_none_or(|names| names.contains(name));
    let in_cluster = ours(cluster, ResourceKind::Kustomization).await?;
    for object in &in_cluster {
        let name = name_of(object);
        let known = released.iter().any(|one| one.name == name && (one.origin.is_some() || !one.objects.is_empty()));
        if wanted(&name) && !known {
            released.retain(|one| one.name != name);
            let kube_config = object.get("spec").and_then(|spec| KubeConfigRef::in_spec(spec, &name.namespace));
            released.push(Released { name, origin: Some(Origin::Cluster), kube_config, objects: inventory_of(object) });
        }
    }
    for name in names.iter().flatten().filter(|name| !released.iter().any(|one| one.name == **name)) {
        answer.failed.push(format!("Kustomization/{name}: neither the store nor the cluster knows anything of it"));
    }
    for one in released {
        match cluster_of(cluster, &one).await {
            Ok(at) => release_one((cluster, &at), &one, how, &hands, &mut answer).await?,
            Err(why) => answer.failed.push(format!("Kustomization/{}: {why}", one.name)),
        }
    }
    if all {
        for kind in ResourceKind::ALL.into_iter().filter(|kind| *kind != ResourceKind::Kustomization) {
            for object in ours(cluster, kind).await? {
                let resource = Resource::new(kind, name_of(&object));
                match let_go_of(cluster, &resource, how, None).await {
                    Ok(LetGo::Done) => answer.others.push(resource.to_string()),
                    Ok(LetGo::NotOurs | LetGo::Absent) => {}
                    Err(error) => answer.failed.push(error.to_string()),
                }
            }
        }
    }
    Ok(answer)
}

/// The cluster that the objects of a Kustomization are in.
async fn cluster_of(own: &Cluster, one: &Released) -> Result<Cluster, String> {
    let Some(reference) = &one.kube_config else { return Ok(own.clone()) };
    let secret = &reference.secret;
    let kind = Kind::new(Gvk::new("v1", "Secret"), "secrets", true);
    let id = ObjectId::new("", "Secret", secret.namespace.clone(), secret.name.clone());
    let document = own.get(&kind, &id).await.map_err(|error| error.to_string())?;
    let document = document.ok_or_else(|| {
        format!("its objects are in another cluster, and Secret {secret} with its kubeconfig is not in this one: create it, and run this again")
    })?;
    let entries = SecretData::from_document(&document).map_err(|error| format!("Secret {secret}: {error}"))?;
    let kubeconfig = reference.of(&entries).map_err(|key| format!("Secret {secret} has no entry {key:?}"))?;
    let there = Remote::read(kubeconfig).and_then(|remote| own.beside(&remote));
    there.map_err(|error| format!("the kubeconfig in Secret {secret} cannot be used: {error}"))
}

/// `at` is where its objects are, `cluster` where it is itself.
async fn release_one(
    (cluster, at): (&Cluster, &Cluster),
    one: &Released,
    how: &How,
    hands: &Hands,
    answer: &mut Answer,
) -> Result<(), CliError> {
    let name = &one.name;
    let labels = [(OWNER_NAME, name.name.as_str()), (OWNER_NAMESPACE, name.namespace.as_str())];
    // Flux knows its objects by these.
    let labels = if how.to == To::Flux { &[] } else { &labels[..] };
    let heir = Heir { manager: how.manager(), labels, finalizer: None };
    let outcomes: Vec<_> = futures_util::stream::iter(&one.objects)
        .map(|(id, version)| async move {
            let gvk = Gvk { group: id.group.clone(), version: version.clone(), kind: id.kind.clone() };
            match at.kind(&gvk).await {
                Ok(kind) => let_go(at, &kind, id, heir, how.dry_run).await,
                // The kind is gone, and its objects with it.
                Err(ApiError { class: Class::NoSuchKind, .. }) => Ok(LetGo::Absent),
                Err(error) => Err(error),
            }
        })
        .buffered(IN_FLIGHT)
        .collect()
        .await;
    let count = |what| outcomes.iter().filter(|outcome| matches!(outcome, Ok(became) if *became == what)).count();
    let mut said = One {
        name: name.clone(),
        handed_over: count(LetGo::Done),
        not_ours: count(LetGo::NotOurs),
        absent: count(LetGo::Absent),
        done: false,
    };
    let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    let mut whole = failed.is_empty();
    answer.failed.extend(failed);
    if whole && one.origin == Some(Origin::Cluster) {
        let resource = Resource::new(ResourceKind::Kustomization, name.clone());
        if let Err(error) = let_go_of(cluster, &resource, how, Some(&one.objects)).await {
            answer.failed.push(error.to_string());
            whole = false;
        }
    }
    if whole && !how.dry_run {
        hands.end(one).await?;
    }
    said.done = whole;
    answer.kustomizations.push(said);
    Ok(())
}

/// Lets go of one of the objects that wickie is told by: what of ours stands in its status, our finalizer, the label that
/// opted it in. Its spec and annotations are its owner's.
async fn let_go_of(
    cluster: &Cluster,
    resource: &Resource,
    how: &How,
    inventory: Option<&[(ObjectId, String)]>,
) -> Result<LetGo, ApiError> {
    let (kind, id) = Kind::place(resource);
    let Some(object) = cluster.get(&kind, &id).await? else { return Ok(LetGo::Absent) };
    if let Some(status) = status_without_us(&object, inventory).filter(|_| !how.dry_run) {
        cluster.patch_status(&kind, &id, &status).await?;
    }
    let heir = Heir { manager: None, labels: &[(annotation::MANAGED, "true")], finalizer: Some(annotation::FINALIZER) };
    let_go(cluster, &kind, &id, heir, how.dry_run).await
}

/// The part of a status that changes: conditions that only wickie knows go, and an inventory that was too long for it is
/// written out, because whoever comes next knows no other. Nothing where there is neither.
fn status_without_us(object: &Value, inventory: Option<&[(ObjectId, String)]>) -> Option<Value> {
    let own = |condition: &&Value| {
        let type_ = condition.get("type").and_then(Value::as_str).unwrap_or_default();
        type_.starts_with(annotation::PREFIX) || [condition_type::FLOOR, condition_type::FRESH].contains(&type_)
    };
    let mut status = json!({});
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    if let Some(conditions) = conditions.filter(|all| all.iter().any(|it| own(&it))) {
        status["conditions"] = conditions.iter().filter(|it| !own(it)).cloned().collect();
    }
    if let Some(objects) = inventory.filter(|_| object.pointer("/status/inventory/digest").is_some()) {
        let entries: Vec<_> =
            objects.iter().map(|(id, version)| json!({"id": id.inventory_key(), "v": version})).collect();
        status["inventory"] = json!({"entries": entries, "count": null, "digest": null});
    }
    Some(status).filter(|status| *status != json!({}))
}

/// The objects of a kind on which there is something of ours.
async fn ours(cluster: &Cluster, kind: ResourceKind) -> Result<Vec<Value>, ApiError> {
    let served = match cluster.kind(Kind::ours(kind).gvk()).await {
        Ok(served) => served,
        Err(ApiError { class: Class::NoSuchKind, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let listed = cluster.list(&served, &Default::default(), false).await?;
    Ok(listed.items.into_iter().filter(is_ours).collect())
}

fn is_ours(object: &Value) -> bool {
    let at = |pointer: &str| object.pointer(pointer).and_then(Value::as_array);
    let written = at("/metadata/managedFields").is_some_and(|all| all.iter().any(|entry| entry["manager"] == MANAGER));
    let held = at("/metadata/finalizers").is_some_and(|all| all.iter().any(|it| *it == annotation::FINALIZER));
    written || held || object["metadata"]["labels"][annotation::MANAGED] == "true"
}

fn name_of(object: &Value) -> ResourceName {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    ResourceName::new(text("namespace"), text("name"))
}

fn inventory_of(object: &Value) -> Vec<(ObjectId, String)> {
    let entries = object.pointer("/status/inventory/entries").and_then(Value::as_array);
    let read = |entry: &Value| {
        Some((ObjectId::from_inventory_key(entry.get("id")?.as_str()?)?, entry.get("v")?.as_str()?.to_owned()))
    };
    entries.into_iter().flatten().filter_map(read).collect()
}

/// What was done, for people.
pub(super) fn shown(answer: &Answer, look: &Look) -> String {
    let mut text = String::new();
    let mut line = |tone, mark: &str, words: &str| {
        let lines = text::wrap(words, look.width.saturating_sub(2)).join("\n  ");
        text.push_str(&format!("{} {lines}\n", look.paint(tone, mark)));
    };
    let to = answer.to.as_deref().unwrap_or("nobody");
    let (goes, rest) = if answer.dry_run { ("would go", "would be") } else { ("went", "is") };
    for one in &answer.kustomizations {
        let mut words = format!("{}: {} {goes} to {to}", one.name, text::count(count(one.handed_over), "object"));
        for (number, what) in [(one.not_ours, "had nothing of ours"), (one.absent, "not there")] {
            if number > 0 {
                words.push_str(&format!(", {number} {what}"));
            }
        }
        match one.done {
            true => line(Tone::Good, "●", &format!("{words}; it {rest} let go of")),
            false => line(Tone::Bad, "✗", &format!("{words}; the rest failed: run it again")),
        }
    }
    for other in &answer.others {
        line(Tone::Good, "●", &format!("{other} {rest} let go of"));
    }
    for failed in &answer.failed {
        line(Tone::Bad, "✗", failed);
    }
    if answer.kustomizations.is_empty() && answer.others.is_empty() && answer.is_done() {
        line(Tone::Good, "●", "There is nothing of wickie's");
    } else if answer.is_done() && !answer.dry_run {
        line(Tone::Dim, "→", "wickie resume NAME takes one up again");
    }
    text
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
