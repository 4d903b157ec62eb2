//! `wickie reconcile`: do it now.

use std::future::Future;
use std::time::Duration;

use wickie_model::{Resource, ResourceKind, Severity};

use super::look::{Look, Tone};
use super::target::Target;
use super::{CliError, Exit, Out, Settings, text};
use crate::config::duration;
use crate::serve::{Agent, AgentError, Asked, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A Kustomization; source/NAME for a GitRepository
    #[arg(value_name = "NAME")]
    target: Target,
    /// Ask the Kustomization's source for something new first
    #[arg(long)]
    with_source: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// Whether to wait for the outcome.
#[derive(Debug, clap::Args)]
pub(super) struct Waiting {
    /// Do not wait for the outcome
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for it
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    timeout: Duration,
}

impl Waiting {
    pub(super) fn wait(&self) -> bool {
        !self.no_wait
    }

    /// The answer to an order, if it comes in time.
    pub(super) async fn answer(
        &self,
        order: impl Future<Output = Result<Asked<Outcome>, AgentError>>,
    ) -> Result<Outcome, CliError> {
        match tokio::time::timeout(self.timeout, order).await {
            Ok(answer) => Ok(answer??),
            Err(_) => Err(CliError::Waited { waited: format!("{:?}", self.timeout) }),
        }
    }
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let agent = Agent::connect(&settings.data_dir).await?;
    if args.waiting.wait() {
        out.say(&format!("{resource}: asked; waiting for the outcome"))?;
    }
    let order = agent.reconcile(resource.clone(), args.with_source, args.waiting.wait());
    let outcome = args.waiting.answer(order).await?;
    show(&resource, &outcome, args.waiting.wait(), settings, out)
}

/// Shows how an order ended, and gives the exit code for it. Where nobody waited for the work, that it was taken is a
/// success, whatever state it found.
pub(super) fn show(
    resource: &Resource,
    outcome: &Outcome,
    waited: bool,
    settings: &Settings,
    out: &mut Out,
) -> Result<Exit, CliError> {
    if let Some(note) = &outcome.note {
        out.say(note)?;
    }
    out.answer(settings.format, outcome, |outcome, look| match waited {
        true => sentence(resource, outcome, look),
        false => taken(resource, "is under way: see `wickie status`", look),
    })?;
    Ok(match (waited, outcome.severity) {
        (true, Severity::Error) => Exit::Failed,
        (true, Severity::Info) if outcome.waits => Exit::Differs,
        _ => Exit::Done,
    })
}

/// That an order was taken.
pub(super) fn taken(resource: &Resource, what: &str, look: &Look) -> String {
    let lines = text::wrap(&format!("{resource} {what}"), look.width.saturating_sub(2));
    format!("{} {}\n", look.paint(Tone::Warn, "○"), lines.join("\n  "))
}

fn sentence(resource: &Resource, outcome: &Outcome, look: &Look) -> String {
    let (tone, mark) = match outcome.severity {
        Severity::Error => (Tone::Bad, "✗"),
        Severity::Info => (Tone::Good, "●"),
    };
    let reason = if outcome.severity == Severity::Error { format!("{}: ", outcome.reason) } else { String::new() };
    let lines = text::wrap(&format!("{resource}: {reason}{}", outcome.message), look.width.saturating_sub(2));
    format!("{} {}\n", look.paint(tone, mark), lines.join("\n  "))
}
