//! The API server: whether it answers, and what it allows.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use wickie_model::{Gvk, ResourceName};

use super::super::{args, text};
use super::finding::{Area, Diagnosis};
use super::sources::Declared;
use super::{clock, run};
use crate::chain::chain;
use crate::cluster::{Access, Class, Cluster};
use crate::install::{KnownKinds, Rights, Served};
use crate::store::Store;

/// Questions that are asked at one time.
const AT_ONCE: usize = 8;

const ROLES: &str = "wickie install --export has a service account with its rights; with --for DIR those of a repository, to be exported anew when that takes more";

/// Connects; nothing where nobody answers.
pub(super) async fn look(named: &args::Cluster, diagnosis: &mut Diagnosis) -> Option<Cluster> {
    let (cluster, server) = match named.connect_to().await {
        Ok(connected) => connected,
        Err(error) => {
            diagnosis.fail(
                Area::Api,
                chain(&error),
                "name a kubeconfig with --kubeconfig, or run this where the agent runs",
            );
            return None;
        }
    };
    match cluster.about().await {
        Ok(about) => {
            diagnosis.ok(Area::Api, format!("{server} answers: Kubernetes {}", about.version));
            if let Some(time) = about.time {
                clock::compare(jiff::Timestamp::now(), time, diagnosis);
            }
            Some(cluster)
        }
        Err(error) => {
            let fix = match error.class {
                Class::Unauthorized | Class::Forbidden => {
                    "the credentials are refused: renew them, or name others with --kubeconfig"
                }
                _ => {
                    "until it answers, the agent keeps what it knows and waits; look at the API server, and at the way to it"
                }
            };
            diagnosis.fail(Area::Api, format!("{server}: {error}"), fix);
            None
        }
    }
}

/// Whether the account may do what the agent asks: for itself, and for what it keeps by the store.
pub(super) async fn rights(
    cluster: &Cluster,
    declared: &Declared,
    store: Option<&Store>,
    by_namespace: bool,
    diagnosis: &mut Diagnosis,
) {
    let inventories = match store {
        Some(store) => store.inventories().await.unwrap_or_default(),
        None => BTreeMap::new(),
    };
    let mut kinds = KnownKinds::default();
    let mut unserved = BTreeSet::new();
    for (id, entry) in inventories.values().flatten() {
        if kinds.of(&id.group, &id.kind).is_some() || unserved.contains(&(&id.group, &id.kind)) {
            continue;
        }
        let gvk = Gvk { group: id.group.clone(), version: entry.version.clone(), kind: id.kind.clone() };
        match cluster.kind(&gvk).await {
            Ok(kind) => kinds.add(&gvk, Served { plural: kind.plural().to_owned(), namespaced: kind.namespaced() }),
            Err(error) => {
                unserved.insert((&id.group, &id.kind));
                diagnosis.warn(Area::Rights, error.to_string(), "apply its CRD again, or take its objects out of Git");
            }
        }
    }
    let by_itself = |owner: &ResourceName| !declared.acted_for.contains(owner);
    let kept = inventories.iter().flat_map(|(owner, inventory)| inventory.keys().map(move |id| (owner, id)));
    let kept = kept.filter(|(_, id)| !unserved.contains(&(&id.group, &id.kind)));
    let kept = kept.map(|(owner, id)| (id, by_itself(owner)));
    let rights = match Rights::to_keep(kept, &kinds, &run::namespace(), declared.foreign) {
        Ok(rights) => rights,
        Err(unknown) => return diagnosis.warn(Area::Rights, unknown.to_string(), "look at the CRDs of these kinds"),
    };
    let mut asked = rights.accesses();
    if !by_namespace {
        asked = in_the_whole_cluster(asked);
    }
    judge(&ask(cluster, asked).await, diagnosis);
}

/// Unless it is told otherwise, the agent lists and watches what it keeps in all namespaces at once.
fn in_the_whole_cluster(asked: Vec<Access>) -> Vec<Access> {
    let widen = |mut access: Access| {
        let watches = matches!(access.verb, "list" | "watch") && access.name.is_empty();
        if watches {
            access.namespace.clear();
        }
        access
    };
    asked.into_iter().map(widen).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What was asked, and whether it is allowed; an error where that could not be found out.
type Answered = Vec<(Access, Result<bool, String>)>;

async fn ask(cluster: &Cluster, asked: Vec<Access>) -> Answered {
    let answers = futures_util::stream::iter(asked).map(|access| async move {
        let allowed = cluster.may(&access).await.map_err(|error| error.to_string());
        (access, allowed)
    });
    answers.buffered(AT_ONCE).collect().await
}

pub(super) fn judge(answered: &Answered, diagnosis: &mut Diagnosis) {
    if let Some(error) = answered.iter().find_map(|(_, answer)| answer.as_ref().err()) {
        diagnosis.warn(
            Area::Rights,
            format!("what it may do cannot be found out: {error}"),
            "run this again once the API server answers",
        );
        return;
    }
    let mut denied: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (access, _) in answered.iter().filter(|(_, answer)| *answer == Ok(false)) {
        let group = if access.group.is_empty() { String::new() } else { format!(".{}", access.group) };
        let name = if access.name.is_empty() { String::new() } else { format!(" {}", access.name) };
        let place = match access.namespace.as_str() {
            "" => "in the whole cluster".to_owned(),
            namespace => format!("in {namespace}"),
        };
        denied.entry((format!("{}{group}{name}", access.resource), place)).or_default().push(access.verb);
    }
    if denied.is_empty() {
        let rights = text::count(answered.len() as u64, "right");
        return diagnosis.ok(Area::Rights, format!("it may do all that it asks of this cluster: {rights}"));
    }
    for ((resource, place), verbs) in denied {
        let watches = verbs.iter().all(|verb| matches!(*verb, "list" | "watch")) && place == "in the whole cluster";
        let fix = match watches {
            true => format!("with rights in namespaces alone, start it with --by-namespace; otherwise: {ROLES}"),
            false => ROLES.to_owned(),
        };
        diagnosis.fail(Area::Rights, format!("it may not {} {resource} {place}", verbs.join(", ")), fix);
    }
}
