//! What was found, and how it is shown.

use serde::Serialize;

use super::super::look::{Look, Tone};
use super::super::text;
use crate::serve::view::API_VERSION;

/// What was looked at, in the order in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Area {
    Config,
    Agent,
    Disk,
    Clock,
    Limits,
    Api,
    Rights,
    Link,
    Trust,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) area: Area,
    pub(super) verdict: Verdict,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole<'a> {
    api_version: &'static str,
    /// Whether nothing fails.
    pub(super) ok: bool,
    findings: &'a [Finding],
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Diagnosis(pub(super) Vec<Finding>);

impl Diagnosis {
    pub(super) fn ok(&mut self, area: Area, message: impl Into<String>) {
        self.0.push(Finding { area, verdict: Verdict::Ok, message: message.into(), fix: None });
    }

    pub(super) fn warn(&mut self, area: Area, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { area, verdict: Verdict::Warn, message: message.into(), fix: Some(fix.into()) });
    }

    pub(super) fn fail(&mut self, area: Area, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { area, verdict: Verdict::Fail, message: message.into(), fix: Some(fix.into()) });
    }

    pub(super) fn whole(&mut self) -> Whole<'_> {
        // Within an area the order of looking stays.
        self.0.sort_by_key(|finding| finding.area);
        let ok = self.0.iter().all(|finding| finding.verdict != Verdict::Fail);
        Whole { api_version: API_VERSION, ok, findings: &self.0 }
    }
}

impl Area {
    fn title(self) -> &'static str {
        match self {
            Self::Config => "CONFIGURATION",
            Self::Agent => "AGENT",
            Self::Disk => "DISK",
            Self::Clock => "CLOCK",
            Self::Limits => "LIMITS",
            Self::Api => "CLUSTER",
            Self::Rights => "RIGHTS",
            Self::Link => "LINK",
            Self::Trust => "TRUST",
        }
    }
}

/// The page for people.
pub(super) fn page(whole: &Whole<'_>, look: &Look) -> String {
    let mut page = String::new();
    let mut area = None;
    for finding in whole.findings {
        if area.replace(finding.area) != Some(finding.area) {
            let gap = if page.is_empty() { "" } else { "\n" };
            page.push_str(&format!("{gap}{}\n", look.paint(Tone::Strong, finding.area.title())));
        }
        let (tone, mark) = match finding.verdict {
            Verdict::Ok => (Tone::Good, "●"),
            Verdict::Warn => (Tone::Warn, "○"),
            Verdict::Fail => (Tone::Bad, "✗"),
        };
        let lines = text::wrap(&finding.message, look.width.saturating_sub(2)).join("\n  ");
        page.push_str(&format!("{} {lines}\n", look.paint(tone, mark)));
        if let Some(fix) = &finding.fix {
            let lines = text::wrap(fix, look.width.saturating_sub(4)).join("\n    ");
            page.push_str(&format!("  {} {lines}\n", look.paint(Tone::Dim, "→")));
        }
    }
    let count = |verdict: Verdict| whole.findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    let (fails, warns) = (count(Verdict::Fail), count(Verdict::Warn));
    let summary = match (fails, warns) {
        (0, 0) => look.paint(Tone::Good, "Nothing is wrong."),
        (0, warns) => look.paint(Tone::Warn, &format!("Nothing fails; {} to know.", text::count(warns, "thing"))),
        (fails, 0) => look.paint(Tone::Bad, &format!("{} to mend.", text::count(fails, "thing"))),
        (fails, warns) => look.paint(Tone::Bad, &format!("{} to mend, {warns} to know.", text::count(fails, "thing"))),
    };
    page + &format!("\n{summary}\n")
}
