//! `wickie install --export`: the manifests of an agent on every node, to be read, committed, or applied by whoever may.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use wickie_kustomize::yaml;

use super::{CliError, Cluster, Exit, Format, Out, Settings, run};
use crate::cluster::Class;
use crate::config::DEFAULT_NAMESPACE;
use crate::install::{IMAGE, Image, Installation, KnownKinds, Rights, Served, read_repository};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the manifests: wickie itself installs nothing
    #[arg(long, required = true)]
    export: bool,
    /// Give the rights that this repository takes, in place of cluster-admin: a checkout, or the folder in it that the
    /// first Kustomization names
    #[arg(long = "for", value_name = "DIR")]
    repositories: Vec<PathBuf>,
    /// The image to run
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    image: Image,
    /// Where each node serves metrics, probes and webhooks; :9797 is every address of the node
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9797", value_parser = run::address)]
    listen: SocketAddr,
    /// Leave the CRDs out, where Flux's are there and stay
    #[arg(long)]
    no_crds: bool,
    /// Ask the cluster of this kubeconfig how kinds are served that the repository does not say it of
    #[command(flatten)]
    cluster: Cluster,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let namespace = settings.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let namespace: crate::install::Name = namespace.parse().map_err(CliError::Usage)?;
    let rights = match args.repositories.is_empty() {
        true => None,
        false => Some(rights(&args, namespace.as_str(), out).await?),
    };
    let Args { image, listen, no_crds, .. } = args;
    let installation = Installation { namespace, image, listen, crds: !no_crds, rights };
    let text = installation.to_yaml().map_err(|error| CliError::Yaml(error.to_string()))?;
    match settings.format {
        Format::Table | Format::Yaml => out.text(&text)?,
        Format::Json => {
            let documents = yaml::documents("the manifests", text.as_bytes());
            let documents = documents.map_err(|error| CliError::Yaml(error.to_string()))?;
            let items: Vec<_> = documents.into_iter().map(|document| document.value).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            out.answer(Format::Json, &list, |_, _| String::new())?;
        }
    }
    Ok(Exit::Done)
}

/// What the repositories take. What the agent would refuse in them is said, and so is what their rights make possible.
async fn rights(args: &Args, home: &str, out: &mut Out) -> Result<Rights, CliError> {
    let contents = read_repository(&args.repositories, home)?;
    for left in &contents.left_out {
        out.say(&format!("left out: {left}"))?;
    }
    let mut kinds = KnownKinds::default();
    for kept in &contents.objects {
        kinds.learn(kept.manifest.id(), kept.manifest.body());
    }
    if args.cluster.kubeconfig.is_some() || args.cluster.context.is_some() {
        let cluster = args.cluster.connect().await?;
        let written = contents.objects.iter().map(|kept| kept.manifest.gvk());
        let checked = contents.kustomizations.iter().flat_map(|spec| &spec.health_checks).map(|check| &check.gvk);
        for gvk in written.chain(checked) {
            if kinds.of(&gvk.group, &gvk.kind).is_some() {
                continue;
            }
            match cluster.kind(gvk).await {
                Ok(kind) => {
                    kinds.add(gvk, Served { plural: kind.plural().to_owned(), namespaced: kind.namespaced() });
                }
                // Named below, with every other that nobody knows.
                Err(error) if error.class == Class::NoSuchKind => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let rights = Rights::new(&contents, &kinds, home, args.no_crds)?;
    for remark in &rights.remarks {
        out.say(&format!("note: {remark}"))?;
    }
    out.say("note: if wickie was installed with cluster-admin before: kubectl delete clusterrolebinding wickie-cluster-admin")?;
    Ok(rights)
}
