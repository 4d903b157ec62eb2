//! `wickie status`: how everything stands, and what to do next.

use std::fmt::Write as _;

use wickie_model::{ConditionStatus, ResourceKind, ResourceName};

use super::history::changes;
use super::look::{Look, Tone};
use super::{CliError, Exit, Out, Settings, text};
use crate::serve::view::{KustomizationView, ProviderView, ReadyView, SourceView, Status};
use crate::serve::{Control, Phase, TrafficLive, named};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End with 3 where something is not as it should be
    #[arg(long)]
    exit_code: bool,
}

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let mut status = Control::open(&settings.data_dir).await?.status().await?;
    if let Some(namespace) = &settings.namespace {
        status.only(namespace);
    }
    out.answer(settings.format, &status, render)?;
    Ok(if args.exit_code && !status.ok { Exit::Differs } else { Exit::Done })
}

/// Paragraphs stand this far in.
const INDENT: usize = 2;

/// Between a name and what is said beside it.
const GAP: &str = "  ";

/// Up to here a name has its values beside it, however wide they are.
const SHORTEST_NAME: usize = 16;

/// How many unwell objects are named.
const PROBLEMS: usize = 5;

fn render(status: &Status, look: &Look) -> String {
    let mut page = Page { text: String::new(), look };
    page.header(status);
    page.section("SOURCES", &status.sources, Page::source);
    page.section("KUSTOMIZATIONS", &status.kustomizations, Page::kustomization);
    page.section("REPORTS", &status.providers, Page::provider);
    page.others(status);
    page.summary(status);
    page.text
}

/// An object with a line of its own.
trait Row {
    fn name(&self) -> &ResourceName;
    /// What is most worth knowing, beside the name.
    fn cells(&self, look: &Look) -> Vec<String>;
}

impl Row for SourceView {
    fn name(&self) -> &ResourceName {
        &self.name
    }

    fn cells(&self, _: &Look) -> Vec<String> {
        vec![self.snapshot.as_ref().map_or("no snapshot".to_owned(), |it| text::revision(&it.revision))]
    }
}

impl Row for KustomizationView {
    fn name(&self) -> &ResourceName {
        &self.name
    }

    fn cells(&self, _: &Look) -> Vec<String> {
        let revision = self.applied_revision.as_deref().map_or("nothing applied".to_owned(), text::revision);
        let objects = self.objects.filter(|objects| objects.total > 0).map(|objects| {
            let counted = text::count(objects.total, "object");
            let unwell = [(objects.failed, "failed"), (objects.in_progress, "not yet well")];
            let unwell = unwell.into_iter().filter(|(number, _)| *number > 0);
            unwell.fold(counted, |said, (number, word)| format!("{said}, {number} {word}"))
        });
        [revision].into_iter().chain(objects).collect()
    }
}

impl Row for ProviderView {
    fn name(&self) -> &ResourceName {
        &self.name
    }

    fn cells(&self, look: &Look) -> Vec<String> {
        vec![match (self.waiting, self.oldest) {
            (0, _) => "nothing waits".to_owned(),
            (number, Some(oldest)) => format!("{number} wait, the oldest for {}", text::age(oldest, look.now)),
            (number, None) => format!("{number} wait"),
        }]
    }
}

struct Page<'a> {
    text: String,
    look: &'a Look,
}

impl Page<'_> {
    fn header(&mut self, status: &Status) {
        match &status.agent {
            Some(agent) => {
                let up = text::age(agent.since, self.look.now);
                let line = format!("wickie {} has been running for {up} as process {}", agent.version, agent.pid);
                self.line(Tone::Good, "●", &line);
            }
            None => {
                self.line(Tone::Bad, "✗", "No agent is running on this data directory");
                self.paragraph(
                    None,
                    "What follows is what it wrote down last. Nothing is repaired until it runs again.",
                );
                self.next("systemctl status wickie, kubectl -n flux-system get pods, or: wickie run");
            }
        }
        let Some(cluster) = &status.cluster else { return };
        let server = text::clean(&cluster.server);
        let server = if server.is_empty() { String::new() } else { format!(" {server}") };
        if cluster.reachable {
            self.line(Tone::Good, "●", &format!("The cluster{server} answers"));
        } else {
            let since = text::age(cluster.since, self.look.now);
            self.line(Tone::Bad, "✗", &format!("The cluster{server} has not answered for {since}"));
            self.paragraph(None, cluster.why.as_deref().unwrap_or_default());
        }
        if let Some(why) = &status.stands_by {
            self.line(Tone::Good, "○", &format!("This agent stands by: {why}"));
        }
    }

    fn section<T: Row>(&mut self, title: &str, all: &[T], each: impl Fn(&mut Self, &T, &[String])) {
        if all.is_empty() {
            return;
        }
        let _ = write!(self.text, "\n{}\n", self.look.paint(Tone::Strong, title));
        let beside = |row: &T| row.cells(self.look).iter().map(|cell| GAP.len() + text::width(cell)).sum::<usize>();
        let beside = all.iter().map(beside).max().unwrap_or(0);
        // A long name gets a line of its own: neither it nor what is wrong may be cut.
        let room = self.look.width.saturating_sub(INDENT + beside).max(SHORTEST_NAME);
        let widths = all.iter().map(|row| text::width(&row.name().to_string()));
        let names = widths.filter(|width| *width <= room).max().unwrap_or(0);
        for row in all {
            let (name, cells) = (row.name().to_string(), row.cells(self.look).join(GAP));
            let title = if text::width(&name) <= names {
                vec![format!("{}{GAP}{cells}", text::pad(&name, names))]
            } else {
                vec![name, cells]
            };
            each(self, row, &title);
        }
    }

    fn source(&mut self, source: &SourceView, title: &[String]) {
        self.title(source.suspended, &source.ready, title);
        if let Some(snapshot) = &source.snapshot {
            let signer = match &snapshot.signer {
                Some(signer) => format!("signed: {signer}"),
                None => "taken without a signature".to_owned(),
            };
            let accepted = text::age(snapshot.accepted_at, self.look.now);
            self.paragraph(Some(Tone::Dim), &format!("{signer}, accepted {accepted} ago"));
        }
        let contact = source.live.last_contact.map(|at| format!("last contact {} ago", text::age(at, self.look.now)));
        let poll = source.live.next_poll.map(|at| format!("next poll {}", text::until(at, self.look.now)));
        let contact: Vec<_> = contact.into_iter().chain(poll).collect();
        self.paragraph(Some(Tone::Dim), &contact.join(", "));
        self.paragraph(Some(Tone::Dim), &link(&source.live.traffic).unwrap_or_default());
        for warning in &source.warnings {
            self.paragraph(Some(Tone::Warn), warning);
        }
        if let Some(held) = &source.live.held {
            let until = held.until.map(|at| format!(" ({})", text::until(at, self.look.now)));
            self.paragraph(Some(Tone::Warn), &format!("{}{}", held.message, until.unwrap_or_default()));
            self.next(&format!("wickie reconcile {} asks at once", named(ResourceKind::GitRepository, &source.name)));
        }
        self.trouble_then(source.suspended, &source.ready, |page| {
            if source.snapshot.is_some() {
                page.paragraph(None, "Until it can be followed again, the snapshot above stays enforced.");
            }
        });
    }

    fn kustomization(&mut self, one: &KustomizationView, title: &[String]) {
        self.title(one.suspended, &one.ready, title);
        self.doing(one);
        if let Some(cluster) = &one.cluster {
            let server = text::clean(&cluster.server);
            match cluster.reachable {
                true => self.paragraph(Some(Tone::Dim), &format!("in the cluster {server}")),
                false => {
                    let since = text::age(cluster.since, self.look.now);
                    let said = format!("its cluster {server} has not answered for {since}");
                    self.paragraph(Some(Tone::Bad), &said);
                }
            }
        }
        // Where nothing was applied yet, that it waits is why it is not ready, and said there.
        if let Some(held) = one.held.as_ref().filter(|held| held.message != one.ready.message) {
            let until = held.until.map(|at| format!(" ({})", text::until(at, self.look.now)));
            self.paragraph(Some(Tone::Warn), &format!("{}{}", held.message, until.unwrap_or_default()));
            self.next(&format!("wickie diff {}", named(ResourceKind::Kustomization, &one.name)));
        }
        self.trouble_then(one.suspended, &one.ready, |page| {
            for problem in one.problems.iter().take(PROBLEMS) {
                page.paragraph(Some(Tone::Bad), &format!("{}: {}", problem.object, problem.message));
            }
            if let Some(more) = one.problems.len().checked_sub(PROBLEMS).filter(|more| *more > 0) {
                page.paragraph(None, &format!("and {more} more: -o json names them"));
            }
        });
    }

    /// What goes on, and how the last run went.
    fn doing(&mut self, one: &KustomizationView) {
        let mut said = Vec::new();
        match (one.phase, &one.attempted_revision) {
            (Some(phase @ (Phase::Building | Phase::Applying | Phase::Waiting)), to) => {
                let to = to.as_deref().map(|to| format!(" {}", text::revision(to)));
                let doing = match phase {
                    Phase::Building => "building",
                    Phase::Applying => "applying",
                    _ => "waiting for the health of",
                };
                said.push(format!("{doing}{} now", to.unwrap_or_else(|| " it".to_owned())));
            }
            (_, Some(tried)) => said.push(format!("{} was tried and not reached", text::revision(tried))),
            (_, None) => {}
        }
        if one.ready.status == ConditionStatus::True
            && let Some(since) = one.ready.since
        {
            said.push(format!("ready for {}", text::age(since, self.look.now)));
        }
        if let Some(run) = &one.last_run {
            let did = changes(&run.changes).unwrap_or_else(|| "nothing to do".to_owned());
            said.push(format!("last run {} ago ({}): {did}", text::age(run.ended_at, self.look.now), run.cause));
        }
        self.paragraph(Some(Tone::Dim), &said.join("; "));
    }

    fn provider(&mut self, provider: &ProviderView, title: &[String]) {
        let now = self.look.now;
        let (tone, mark) = match (provider.suspended, provider.is_in_trouble(), &provider.sending) {
            (true, ..) => (Tone::Warn, "‖"),
            (_, true, _) => (Tone::Bad, "✗"),
            (_, _, None) if provider.waiting > 0 => (Tone::Warn, "○"),
            _ => (Tone::Good, "●"),
        };
        self.lines(tone, mark, title);
        if !provider.known {
            self.paragraph(None, "There is no such Provider any more; its reports are kept in case it comes back.");
        }
        if let Some(sending) = &provider.sending {
            if let Some(why) = &sending.failing {
                let next = sending.next_try.map(|at| format!("; next try {}", text::until(at, now)));
                self.paragraph(Some(Tone::Bad), &format!("{why}{}", next.unwrap_or_default()));
            } else if let Some(at) = sending.last_sent {
                self.paragraph(Some(Tone::Dim), &format!("last sent {} ago", text::age(at, now)));
            }
        }
        if provider.set_aside > 0 {
            let aside = text::count(provider.set_aside, "report");
            self.paragraph(Some(Tone::Bad), &format!("{aside} set aside: the receiver will not have them"));
            self.next(&format!("wickie events provider/{}", provider.name.name));
        }
        if provider.dropped > 0 {
            let dropped = text::count(provider.dropped, "report");
            self.paragraph(
                Some(Tone::Bad),
                &format!("{dropped} dropped: the outbox is full; the receiver will be told"),
            );
        }
        if let Some(ready) = &provider.ready {
            self.trouble(provider.suspended, ready);
        }
    }

    fn others(&mut self, status: &Status) {
        for other in &status.others {
            self.text.push('\n');
            self.line(Tone::Bad, "✗", &format!("{} {}", other.kind, other.name));
            self.trouble(false, &other.ready);
        }
    }

    fn summary(&mut self, status: &Status) {
        let nothing = status.sources.is_empty() && status.kustomizations.is_empty();
        let troubles = status.troubles() + usize::from(status.agent.is_none());
        let (tone, said) = match (troubles, nothing) {
            (0, true) => {
                (Tone::Warn, "The agent has been told of nothing to keep: see --config, and `wickie crds`.".to_owned())
            }
            (0, false) => (Tone::Good, "All is well.".to_owned()),
            (1, _) => (Tone::Bad, "One thing is not as it should be.".to_owned()),
            (many, _) => (Tone::Bad, format!("{many} things are not as they should be.")),
        };
        let _ = writeln!(self.text, "\n{}", self.look.paint(tone, &said));
    }

    /// The first line of an object.
    fn title(&mut self, suspended: bool, ready: &ReadyView, title: &[String]) {
        let (tone, mark) = match (suspended, ready.status) {
            (true, _) => (Tone::Warn, "‖"),
            (_, ConditionStatus::True) => (Tone::Good, "●"),
            (_, ConditionStatus::False) => (Tone::Bad, "✗"),
            (_, ConditionStatus::Unknown) => (Tone::Warn, "○"),
        };
        self.lines(tone, mark, title);
    }

    fn lines(&mut self, tone: Tone, mark: &str, lines: &[String]) {
        let [first, rest @ ..] = lines else { return };
        self.line(tone, mark, first);
        for line in rest {
            self.paragraph(None, line);
        }
    }

    /// One line, cut where it is too wide.
    fn line(&mut self, tone: Tone, mark: &str, words: &str) {
        let line = text::truncate(words.trim_end(), self.look.width.saturating_sub(INDENT));
        let _ = writeln!(self.text, "{} {line}", self.look.paint(tone, mark));
    }

    fn trouble(&mut self, suspended: bool, ready: &ReadyView) {
        self.trouble_then(suspended, ready, |_| {});
    }

    /// Why an object is not ready, `details`, and the next step.
    fn trouble_then(&mut self, suspended: bool, ready: &ReadyView, details: impl FnOnce(&mut Self)) {
        if suspended {
            self.paragraph(None, "suspended: it is left as it is");
        } else if ready.status != ConditionStatus::True {
            let since = ready.since.map(|at| format!(" for {}", text::age(at, self.look.now)));
            let what = if ready.reason.is_empty() {
                String::new()
            } else {
                format!("{}{}: ", ready.reason, since.unwrap_or_default())
            };
            self.paragraph(None, &format!("{what}{}", ready.message));
            details(self);
        }
        if let Some(next) = &ready.next {
            self.next(next);
        }
    }

    fn paragraph(&mut self, tone: Option<Tone>, words: &str) {
        if words.is_empty() {
            return;
        }
        for line in text::wrap(words, self.look.width.saturating_sub(INDENT)) {
            let line = tone.map_or(line.clone(), |tone| self.look.paint(tone, &line));
            let _ = writeln!(self.text, "{:INDENT$}{line}", "");
        }
    }

    /// What to do next.
    fn next(&mut self, step: &str) {
        for (at, line) in text::wrap(step, self.look.width.saturating_sub(INDENT + 2)).iter().enumerate() {
            let arrow = if at == 0 { "→" } else { " " };
            let _ = writeln!(self.text, "{:INDENT$}{arrow} {}", "", self.look.paint(Tone::Strong, line));
        }
    }
}

/// What the link has cost: `412 KiB on 2026-11-24 in 12 requests; 1.2 MiB of 5Mi/day spent`.
fn link(traffic: &TrafficLive) -> Option<String> {
    let today = traffic.days.first().map(|day| {
        let requests = text::count(day.requests, "request");
        format!("{} on {} in {requests}", text::bytes(day.received.saturating_add(day.sent)), day.day)
    });
    let budget = traffic.budget.as_ref().map(|it| format!("{} of {} spent", text::bytes(it.spent), it.budget));
    let said: Vec<_> = today.into_iter().chain(budget).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests;
