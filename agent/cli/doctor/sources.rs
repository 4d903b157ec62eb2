//! The sources: whether each can be reached with its credentials, and whom it believes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use wickie_model::{Gvk, ObjectId, Resource, ResourceKind, ResourceName};

use super::super::text;
use super::finding::{Area, Diagnosis};
use crate::chain::chain;
use crate::cluster::{Class, Cluster, Kind};
use crate::config::git::GitSource;
use crate::config::{
    Declared as Written, Files, GitRepository, Kustomization, MANAGED_BY, NodeConfig, Secrets, annotation, files,
    read_secret, secrets_named,
};
use crate::source::{Git, SourceErrorClass};
use crate::store::{KeptFloor, Origin};

/// Keys that end within this time are told of.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is declared, in files and in the cluster.
#[derive(Default)]
pub(super) struct Declared {
    sources: Vec<GitRepository>,
    /// Kustomizations whose objects a service account writes.
    pub(super) acted_for: BTreeSet<ResourceName>,
    /// Whether CRDs are there that wickie has not installed.
    pub(super) foreign: bool,
}

/// Reads what the files and the cluster declare, as the agent does; what it would refuse is found.
pub(super) async fn declared(files: &Files, cluster: Option<&Cluster>, diagnosis: &mut Diagnosis) -> Declared {
    let mut declared = Declared::default();
    let mut written: BTreeMap<Resource, Written> = BTreeMap::new();
    if let Some(cluster) = cluster {
        for kind in [ResourceKind::GitRepository, ResourceKind::Kustomization] {
            match in_cluster(cluster, kind, &mut declared.foreign).await {
                Ok(found) => written.extend(found.into_iter().map(|one| (one.resource.clone(), one))),
                Err(error) => diagnosis.warn(
                    Area::Config,
                    format!("what the cluster declares cannot be read: {error}"),
                    "it takes the right to list them: see the rights below",
                ),
            }
        }
    }
    // As in the agent, a file comes before an object of the same name.
    written.extend(files.declared.iter().map(|(resource, one)| (resource.clone(), (**one).clone())));
    for (resource, one) in &written {
        let invalid = match resource.kind {
            ResourceKind::Kustomization => Kustomization::new(one, &files.node).map(|spec| {
                if spec.service_account.is_some() {
                    declared.acted_for.insert(resource.name.clone());
                }
            }),
            ResourceKind::GitRepository => {
                let Some(secrets) = secrets(one, files, cluster, diagnosis).await else { continue };
                GitRepository::new(one, &secrets, &files.node).map(|source| declared.sources.push(source))
            }
            _ => continue,
        };
        if let Err(invalid) = invalid {
            diagnosis.fail(
                Area::Config,
                format!("{resource} is not followed: {invalid}"),
                "mend the object as it says",
            );
        }
    }
    if written.is_empty() {
        let fix = "declare a GitRepository and a Kustomization, in a file or in the cluster: see the README";
        diagnosis.warn(Area::Config, "nothing is declared: there is nothing to keep", fix);
    }
    declared
}

/// The objects of a kind in the cluster that the agent would take.
async fn in_cluster(
    cluster: &Cluster,
    kind: ResourceKind,
    foreign: &mut bool,
) -> Result<Vec<Written>, crate::cluster::ApiError> {
    let served = match cluster.kind(Kind::ours(kind).gvk()).await {
        Ok(served) => served,
        Err(error) if error.class == Class::NoSuchKind => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let gvk = Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let definition =
        ObjectId::new(gvk.group.clone(), gvk.kind.clone(), "", format!("{}.{}", kind.plural(), kind.group()));
    let definition = cluster.get(&Kind::new(gvk, "customresourcedefinitions", false), &definition).await?;
    let label = |object: &serde_json::Value, key: &str, value: &str| object["metadata"]["labels"][key] == value;
    let ours = definition.is_some_and(|definition| label(&definition, MANAGED_BY.0, MANAGED_BY.1));
    *foreign |= !ours;
    let mut found = Vec::new();
    for mut object in cluster.list(&served, &Default::default(), false).await?.items {
        if ours || label(&object, annotation::MANAGED, "true") {
            object["apiVersion"] = kind.api_version().into();
            object["kind"] = kind.as_str().into();
            found.extend(Written::new(kind, &object, Origin::Cluster, files::DEFAULT_NAMESPACE).ok());
        }
    }
    Ok(found)
}

/// The Secrets that a source names; nothing where one cannot be read, which is then said.
async fn secrets(
    one: &Written,
    files: &Files,
    cluster: Option<&Cluster>,
    diagnosis: &mut Diagnosis,
) -> Option<Secrets> {
    let mut found = Secrets::new();
    for name in secrets_named(one) {
        if let Some(secret) = files.secrets.get(&name).filter(|_| one.origin == Origin::File) {
            found.insert(name, secret.clone());
            continue;
        }
        let Some(cluster) = cluster else {
            let message = format!(
                "{} is not looked at: its Secret {} is in the cluster, which does not answer",
                one.resource, name.0
            );
            diagnosis.warn(
                Area::Link,
                message,
                "run this again once it does; a Secret may also stand in a file beside the source",
            );
            return None;
        };
        match read_secret(cluster, &name).await {
            Ok(Some(secret)) => drop(found.insert(name, secret)),
            // Whoever reads the spec says which field names it.
            Ok(None) => {}
            Err(error) => {
                let fix = "it takes the right to get that Secret, and base64 in its data";
                diagnosis.fail(
                    Area::Link,
                    format!("{}: its Secret cannot be read: {}", one.resource, chain(&error)),
                    fix,
                );
                return None;
            }
        }
    }
    Some(found)
}

/// Asks each source for its references, unless the link is to be spared, and looks at whom it believes.
pub(super) async fn look(
    git: &Git,
    declared: &Declared,
    node: &NodeConfig,
    beside: &[KeptFloor],
    ask: bool,
    now: Timestamp,
    diagnosis: &mut Diagnosis,
) {
    let own = git.own_floors().await.unwrap_or_default();
    for repository in &declared.sources {
        let source = &repository.source;
        let of = format!("GitRepository/{}", source.name);
        if ask && repository.suspend {
            diagnosis.ok(Area::Link, format!("{of} is suspended, and not asked"));
        } else if ask {
            link(git, source, &of, diagnosis).await;
        }
        signers(git, source, &of, now, diagnosis).await;
        let track = source.track();
        let is_its = |copy: &KeptFloor| copy.source == source.name && copy.floor.track == track;
        let known = own.iter().map(|own| &own.kept).chain(beside).find(|copy| is_its(copy));
        match (known, source.given.is_some()) {
            (Some(copy), _) => {
                diagnosis.ok(Area::Trust, format!("{of}: its history may not go behind {}", copy.floor.commit));
            }
            (None, true) => diagnosis
                .ok(Area::Trust, format!("{of}: its first contact is held against the floor that the node gives")),
            (None, false) => diagnosis.warn(
                Area::Trust,
                format!("{of}: nothing was accepted yet, and its first contact is held against nothing"),
                "give a commit or a version that it may not go behind in floors of the NodeConfig",
            ),
        }
    }
    if !declared.sources.is_empty() && !node.require_verified {
        let fix = "require-verified: true in the NodeConfig";
        diagnosis.warn(Area::Trust, "a source without signers would be taken as it is", fix);
    }
}

async fn link(git: &Git, source: &GitSource, of: &str, diagnosis: &mut Diagnosis) {
    let error = match git.offered(source).await {
        Ok(revision) => {
            return diagnosis.ok(Area::Link, format!("{of} answers: {}", text::revision(&revision.to_string())));
        }
        Err(error) => error,
    };
    let fix = match error.class() {
        SourceErrorClass::Auth => {
            "renew what its Secret holds: username and password, bearerToken, identity, or the GitHub App"
        }
        SourceErrorClass::InvalidSpec => "mend its spec or its Secret as it says",
        SourceErrorClass::Store => "look at the disk, above",
        _ => {
            "what was accepted stays enforced; look at the way there: its address, a proxy, the server, whether the reference exists"
        }
    };
    diagnosis.fail(Area::Link, format!("{of}: {}", chain(&error)), fix);
}

async fn signers(git: &Git, source: &GitSource, of: &str, now: Timestamp, diagnosis: &mut Diagnosis) {
    if source.verify.is_none() && source.policy.is_none() {
        let fix = "name its signers in spec.verify, or in verification of the NodeConfig";
        return diagnosis.warn(Area::Trust, format!("{of} is taken unsigned: whoever can write to it decides"), fix);
    }
    let signers = match git.permit_signers(source).await {
        Ok(signers) => signers,
        Err(error) => {
            let fix = "mend the keys that its signers are listed by";
            return diagnosis.fail(Area::Trust, format!("{of}: {}", chain(&error)), fix);
        }
    };
    let ends = signers.ends(now);
    let (past, ahead): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(_, end)| *end <= now);
    let renew = "prolong the key, or list another beside it before it ends; what was accepted stays enforced";
    for (signer, end) in past {
        diagnosis.warn(Area::Trust, format!("{of}: {signer} has ended at {end}: nothing new of it is believed"), renew);
    }
    let soon: Vec<_> = ahead.into_iter().filter(|(_, end)| end.duration_since(now) <= SOON).collect();
    for (signer, end) in &soon {
        diagnosis.warn(Area::Trust, format!("{of}: {signer} ends at {end}"), renew);
    }
    if soon.is_empty() {
        diagnosis.ok(Area::Trust, format!("{of} believes its signers alone"));
    }
}
