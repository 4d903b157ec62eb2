//! `wickie tree`: what a Kustomization has put into the cluster.

use wickie_model::{EntryState, ResourceKind};

use super::look::{Look, Tone};
use super::target::Target;
use super::{CliError, Exit, Out, Settings, text};
use crate::serve::{Branch, Control, Refused, Tree};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Kustomization
    #[arg(value_name = "NAME")]
    target: Target,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let control = Control::open(&settings.data_dir).await?;
    let Some(tree) = control.tree(resource.name.clone()).await? else {
        let known = control.status().await?.kustomizations.into_iter().map(|one| one.name).collect();
        return Err(Refused::Unknown { resource, known }.into());
    };
    out.answer(settings.format, &tree, render)?;
    Ok(Exit::Done)
}

fn render(tree: &Tree, look: &Look) -> String {
    let revision = tree.applied_revision.as_deref().map(|revision| format!(" at {}", text::revision(revision)));
    let mut lines = format!("Kustomization/{}{}\n", tree.name, revision.unwrap_or_default());
    branches(&tree.objects, "", look, &mut lines);
    lines
}

fn branches(all: &[Branch], indent: &str, look: &Look, lines: &mut String) {
    for (at, branch) in all.iter().enumerate() {
        let (turn, on) = if at + 1 == all.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
        let state = match branch.state {
            EntryState::Applied => None,
            EntryState::Planned => Some("not confirmed yet".to_owned()),
            EntryState::Deleting => Some("being deleted".to_owned()),
        };
        let problem = branch.problem.as_ref().map(|problem| problem.message.clone());
        let said = problem.or(state).map(|said| format!(": {}", text::clean(&said))).unwrap_or_default();
        let line = format!("{}{said}", branch.object);
        let line = if branch.problem.is_some() { look.paint(Tone::Bad, &line) } else { line };
        lines.push_str(&format!("{indent}{turn}{line}\n"));
        if let Some(tree) = &branch.tree {
            branches(&tree.objects, &format!("{indent}{on}"), look, lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wickie_model::{Health, ObjectId, ResourceName};

    use super::*;
    use crate::cli::golden;
    use crate::serve::Problem;

    #[test]
    fn a_kustomization_within_another_shows_its_own_objects() {
        let id = |kind: &str, name: &str| {
            ObjectId::new(if kind == "Kustomization" { "kustomize.toolkit.fluxcd.io" } else { "" }, kind, "shop", name)
        };
        let branch = |object: ObjectId| Branch {
            object,
            version: "v1".to_owned(),
            state: EntryState::Applied,
            problem: None,
            tree: None,
        };
        let till = id("Deployment", "till");
        let message = "0 of 1 ready".to_owned();
        let problem = Problem { object: till.clone(), health: Some(Health::InProgress), message };
        let inner = Tree {
            name: ResourceName::new("shop", "till"),
            applied_revision: None,
            objects: vec![
                Branch { problem: Some(problem), ..branch(till) },
                Branch { state: EntryState::Deleting, ..branch(id("ConfigMap", "old")) },
            ],
        };
        let tree = Tree {
            name: ResourceName::new("flux-system", "cluster"),
            applied_revision: Some("main@sha1:2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4".to_owned()),
            objects: vec![
                Branch { tree: Some(Box::new(inner)), ..branch(id("Kustomization", "till")) },
                branch(id("Service", "till")),
            ],
        };
        let look = Look { color: false, width: 80, now: Timestamp::UNIX_EPOCH };
        golden("tree", &render(&tree, &look));
    }
}
