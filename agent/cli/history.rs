//! `wickie history`: why each revision of a Kustomization ended, and how its runs did.

use wickie_model::{Ending, ResourceKind, Trial, reason};

use super::look::{Look, Tone};
use super::table::Table;
use super::target::Target;
use super::{CliError, Exit, Out, Settings, text};
use crate::serve::{Control, History, Refused};
use crate::store::{Changes, Run};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Kustomization
    #[arg(value_name = "NAME")]
    target: Target,
    /// How many revisions, and how many runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let resource = settings.named(&args.target, ResourceKind::Kustomization);
    let control = Control::open(&settings.data_dir).await?;
    let history = control.history(resource.name.clone(), args.limit).await?;
    if history.runs.is_empty() && history.revisions.is_empty() {
        let known: Vec<_> = control.status().await?.kustomizations.into_iter().map(|one| one.name).collect();
        if !known.contains(&resource.name) {
            return Err(Refused::Unknown { resource, known }.into());
        }
        out.say(&format!("{resource} has not run yet"))?;
    }
    out.answer(settings.format, &history, render)?;
    Ok(Exit::Done)
}

fn render(history: &History, look: &Look) -> String {
    let tables = [revisions(&history.revisions, look), runs(&history.runs, look)];
    tables.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn revisions(trials: &[Trial], look: &Look) -> Option<String> {
    let mut table = Table::new(&["BEGAN", "REVISION", "TOOK", "ENDED"]);
    for trial in trials {
        let took = trial.ended_at.map_or_else(String::new, |ended| {
            format!("{:.1}s", ended.duration_since(trial.began_at).as_secs_f64().max(0.0))
        });
        let bad = !matches!(
            trial.ending,
            Ending::Trying | Ending::Applied | Ending::Healthy | Ending::Superseded | Ending::SetBack
        );
        table.row(
            bad.then_some(Tone::Bad),
            [text::age(trial.began_at, look.now), text::revision(&trial.revision.to_string()), took, ended(trial)],
        );
    }
    (!trials.is_empty()).then(|| table.render(look))
}

/// `rolled back to main@1f2e3d4c5b: health check failed after 30s: ...`
fn ended(trial: &Trial) -> String {
    let how = trial.ending.as_str().replace('-', " ");
    let to = trial.instead.as_ref().map(|to| format!(" to {}", text::revision(&to.to_string())));
    let why = Some(trial.message.as_str()).filter(|why| !why.is_empty()).map(|why| format!(": {why}"));
    [Some(how), to, why].into_iter().flatten().collect()
}

fn runs(runs: &[Run], look: &Look) -> Option<String> {
    let mut table = Table::new(&["AGO", "CAUSE", "REVISION", "TOOK", "OUTCOME"]);
    for run in runs {
        let failed = !is_success(run);
        let took = run.ended_at.duration_since(run.started_at).as_secs_f64().max(0.0);
        table.row(
            failed.then_some(Tone::Bad),
            [
                text::age(run.ended_at, look.now),
                run.cause.to_string(),
                text::revision(&run.revision),
                format!("{took:.1}s"),
                outcome(run, failed),
            ],
        );
    }
    (!runs.is_empty()).then(|| table.render(look))
}

fn outcome(run: &Run, failed: bool) -> String {
    match (failed, changes(&run.changes)) {
        (false, None) => "nothing to do".to_owned(),
        (false, Some(changes)) => changes,
        (true, None) => format!("{}: {}", run.reason, run.message),
        (true, Some(changes)) => format!("{}: {} ({changes})", run.reason, run.message),
    }
}

fn is_success(run: &Run) -> bool {
    matches!(run.reason.as_str(), reason::RECONCILIATION_SUCCEEDED | reason::SUCCEEDED) && run.changes.failed == 0
}

/// `created 3, repaired 1`; nothing where nothing was done.
pub(super) fn changes(changes: &Changes) -> Option<String> {
    let Changes { created, changed, repaired, deleted, unchanged: _, failed } = *changes;
    let parts =
        [("created", created), ("changed", changed), ("repaired", repaired), ("deleted", deleted), ("failed", failed)];
    let said: Vec<_> =
        parts.into_iter().filter(|(_, number)| *number > 0).map(|(word, number)| format!("{word} {number}")).collect();
    Some(said.join(", ")).filter(|said| !said.is_empty())
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use wickie_model::{Cause, Oid, ResourceName, Revision};

    use super::*;
    use crate::cli::golden;

    #[test]
    fn revisions_and_runs_are_a_line_each_and_failures_are_told_in_full() {
        let now: Timestamp = "2026-03-01T03:00:00Z".parse().unwrap();
        let run = |ago: i64, took: i64, cause, reason: &str, message: &str, changes| {
            let ended_at = now - SignedDuration::from_secs(ago);
            let started_at = ended_at - SignedDuration::from_millis(took);
            let revision = "main@sha1:2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4".to_owned();
            let (reason, message) = (reason.to_owned(), message.to_owned());
            let name = ResourceName::new("flux-system", "shop");
            Run { name, revision, cause, started_at, ended_at, reason, message, changes }
        };
        let ok = reason::RECONCILIATION_SUCCEEDED;
        let runs = [
            run(3, 212, Cause::Drift, ok, "", Changes { repaired: 1, unchanged: 40, ..Changes::default() }),
            run(700, 90, Cause::Interval, ok, "", Changes { unchanged: 41, ..Changes::default() }),
            run(
                4_000,
                31_400,
                Cause::Revision,
                reason::RECONCILIATION_FAILED,
                "Deployment/shop/till: admission webhook \"policy.example\" denied the request: image must carry a digest",
                Changes { changed: 3, failed: 1, ..Changes::default() },
            ),
            run(500_000, 2_400, Cause::Start, ok, "", Changes { created: 41, deleted: 2, ..Changes::default() }),
        ];
        let revision = |byte| Revision::new(Some("main".to_owned()), Oid::from_bytes([byte; 20]));
        let trial = |byte, ago: i64, took: Option<i64>, ending, instead: Option<u8>, message: &str| Trial {
            name: ResourceName::new("flux-system", "shop"),
            source: ResourceName::new("flux-system", "fleet"),
            revision: revision(byte),
            ending,
            instead: instead.map(revision),
            began_at: now - SignedDuration::from_secs(ago),
            ended_at: took.map(|took| now - SignedDuration::from_secs(ago - took)),
            message: message.to_owned(),
        };
        let why = "health check failed after 30s: Deployment/shop/till (InProgress: 0 of 1 ready)";
        let revisions = vec![
            trial(4, 3, None, Ending::Trying, None, ""),
            trial(3, 600, Some(30), Ending::RolledBack, Some(1), why),
            trial(2, 4_000, Some(12), Ending::Superseded, None, ""),
            trial(1, 500_000, Some(3), Ending::Healthy, None, ""),
        ];
        let shown = render(&History { revisions, runs: runs.to_vec() }, &Look { color: false, width: 80, now });
        assert!(shown.lines().all(|line| text::width(line) <= 80));
        golden("history", &shown);
    }
}
