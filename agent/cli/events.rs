//! `wickie events`: what happened.

use wickie_model::{Event, Severity};

use super::look::{Look, Tone};
use super::table::Table;
use super::target::Target;
use super::{CliError, Exit, Out, Settings, text};
use crate::serve::{Control, named};
use crate::store::EventFilter;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// About this object alone: NAME, source/NAME, provider/NAME
    #[arg(value_name = "NAME")]
    target: Option<Target>,
    /// Errors alone
    #[arg(long)]
    errors: bool,
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let filter = EventFilter {
        kind: args.target.as_ref().and_then(|target| target.kind),
        namespace: settings.namespace.clone(),
        name: args.target.map(|target| target.name),
        severity: args.errors.then_some(Severity::Error),
    };
    let mut events = Control::open(&settings.data_dir).await?.events(filter, args.limit).await?;
    // The newest last: where the eye is when the output has stopped.
    events.reverse();
    if events.is_empty() {
        out.say("No events")?;
    }
    out.answer(settings.format, &events, |events, look| render(events, look))?;
    Ok(Exit::Done)
}

fn render(events: &[Event], look: &Look) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["AGO", "OBJECT", "WHAT HAPPENED"]);
    for event in events {
        let what = match event.metadata.get("revision") {
            Some(revision) => format!("{}: {} ({})", event.reason, event.message, text::revision(revision)),
            None => format!("{}: {}", event.reason, event.message),
        };
        let tone = (event.severity == Severity::Error).then_some(Tone::Bad);
        table.row(tone, [text::age(event.at, look.now), object(event), what]);
    }
    table.render(look)
}

/// As the command line names it: `shop`, `source/fleet`, `provider/ci`, `-n apps shop`.
fn object(event: &Event) -> String {
    named(event.about.kind, &event.about.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::{SignedDuration, Timestamp};
    use wickie_model::{Resource, ResourceKind, ResourceName, reason};

    use super::*;
    use crate::cli::golden;

    #[test]
    fn events_are_told_in_full_and_steer_no_terminal() {
        let now: Timestamp = "2026-03-01T03:00:00Z".parse().unwrap();
        let event = |ago: i64, kind, name: &str, severity, reason: &str, message: &str| Event {
            id: ago.to_string(),
            about: Resource::new(kind, ResourceName::new("flux-system", name)),
            uid: String::new(),
            severity,
            at: now - SignedDuration::from_secs(ago),
            reason: reason.to_owned(),
            message: message.to_owned(),
            metadata: BTreeMap::from([(
                "revision".to_owned(),
                "main@sha1:2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4".to_owned(),
            )]),
        };
        let events = [
            event(
                90_000,
                ResourceKind::GitRepository,
                "fleet",
                Severity::Error,
                reason::INVALID_COMMIT_SIGNATURE,
                "the commit is signed by a key that nobody has named: SHA256:\u{1b}[2Jx8dW0fQk1m6rXv\r\nhello",
            ),
            event(
                300,
                ResourceKind::Kustomization,
                "shop",
                Severity::Info,
                reason::RECONCILIATION_SUCCEEDED,
                "repaired 1",
            ),
        ];
        let shown = render(&events, &Look { color: false, width: 80, now });
        assert!(shown.lines().all(|line| text::width(line) <= 80));
        golden("events", &shown);
        assert!(!render(&events, &Look { color: false, width: 40, now }).contains('\u{1b}'));
    }
}
