//! What the link may be used for: fetch windows, budgets, and what sources have cost.
//!
//! A repository on the node's own disk costs no link, and knows neither window nor budget.
//!
//! Only what the agent asks of the network by itself is held back. A person, an annotation or a webhook that asks for a
//! source is obeyed at once, window and budget or not; what it costs is counted like the rest.
//!
//! What was spent is counted in memory and written along with whatever is written anyway; alone only once enough has
//! gathered, so that idle polls cost no write each. A kill forgets at most that much.
//!
//! A clock that shows a time before there was a wickie, or a day behind what is known of the time, is wrong. A window is
//! then taken as shut, since nobody knows what time it is; the budget of a day before there was a wickie begins anew with
//! each start, since its days may all be the first of 1970.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use wickie_model::{Budget, ConditionStatus, ResourceName, condition_type, reason};

use super::Drive;
use super::sources::{SourceState, resource};
use crate::config::GitRepository;
use crate::serve::{HeldLive, TrafficLive};
use crate::source::Traffic;
use crate::store::{Batch, Record, TrafficDay};

/// 2025-01-01: before that there was no wickie.
const FIRST_DAY: Timestamp = Timestamp::constant(1_735_689_600, 0);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// So many bytes are written down at once, whether or not anything else is.
const HEAVY: u64 = 64 << 10;

/// Of a budget, this part is written down at once.
const HEAVY_PART: u64 = 20;

/// While something is held back, the clock is looked at this often: it may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(900);

/// The most by which a fleet's nodes spread out when a window opens or a budget renews.
const SPREAD: Duration = Duration::from_secs(300);

/// Days that are shown.
const SHOWN: usize = 7;

/// Why a source is not asked for news by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    reason: &'static str,
    message: String,
    /// When it goes on, where that is known.
    until: Option<Timestamp>,
    /// How long it may then go on.
    length: Option<SignedDuration>,
}

impl Held {
    pub(super) fn live(&self) -> HeldLive {
        HeldLive { reason: self.reason.to_owned(), message: self.message.clone(), until: self.until }
    }
}

/// What all sources have cost, by day.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    days: BTreeMap<ResourceName, BTreeMap<Date, TrafficDay>>,
    /// Changed since they were last handed out to be written.
    unwritten: BTreeSet<(ResourceName, Date)>,
    unwritten_bytes: u64,
    /// From so many bytes on they are written at once.
    heavy: Option<u64>,
}

impl Ledger {
    /// The ledger as it was written. Days of a clock that was wrong are no days.
    pub(super) fn new(written: Vec<TrafficDay>) -> Self {
        let mut ledger = Self::default();
        let first = TimeZone::UTC.to_datetime(FIRST_DAY).date();
        for day in written.into_iter().filter(|day| day.day >= first) {
            ledger.days.entry(day.name.clone()).or_default().insert(day.day, day);
        }
        ledger
    }

    fn add(&mut self, name: &ResourceName, day: Date, traffic: &Traffic) {
        if traffic.total() == 0 && traffic.requests == 0 {
            return;
        }
        let days = self.days.entry(name.clone()).or_default();
        let spent = days.entry(day).or_insert_with(|| TrafficDay::new(name.clone(), day));
        spent.received += traffic.received + traffic.received_heads;
        spent.sent += traffic.sent + traffic.sent_heads;
        spent.requests += traffic.requests;
        self.unwritten.insert((name.clone(), day));
        self.unwritten_bytes += traffic.total();
    }

    /// What a source has cost since a day.
    fn spent(&self, name: &ResourceName, since: Date) -> u64 {
        self.days.get(name).map_or(0, |days| days.range(since..).map(|(_, day)| day.total()).sum())
    }

    /// What all have cost since a day.
    fn spent_by_all(&self, since: Date) -> u64 {
        self.days.keys().map(|name| self.spent(name, since)).sum()
    }

    /// Whether so much has gathered that it must not be lost.
    pub(super) fn is_heavy(&self) -> bool {
        self.unwritten_bytes >= self.heavy.unwrap_or(HEAVY)
    }

    /// What is to be written, which is then taken as written.
    pub(super) fn write_to(&mut self, batch: &mut Batch) {
        self.unwritten_bytes = 0;
        for (name, day) in std::mem::take(&mut self.unwritten) {
            let Some(spent) = self.days.get(&name).and_then(|days| days.get(&day)) else { continue };
            batch.traffic.retain(|waiting| (&waiting.name, waiting.day) != (&name, day));
            batch.traffic.push(spent.clone());
        }
    }

    /// The last days of a source, newest first.
    fn shown(&self, name: &ResourceName) -> Vec<TrafficDay> {
        let days = self.days.get(name).into_iter().flat_map(BTreeMap::values);
        days.rev().take(SHOWN).cloned().collect()
    }
}

impl Drive {
    /// How many bytes a source may cost if it is asked by itself now, or why it is not.
    pub(super) fn leave_to_fetch(
        &self,
        name: &ResourceName,
        spec: &GitRepository,
        now: Timestamp,
    ) -> Result<u64, Held> {
        if spec.source.url.local().is_some() {
            return Ok(u64::MAX);
        }
        if !spec.windows.is_empty() {
            self.window_is_open(spec, now)?;
        }
        let node = self.node.fetch_budget.as_ref();
        let own =
            spec.budget.as_ref().map(|budget| (budget, self.ledger.spent(name, budget.since(now)), "its fetch budget"));
        let all = node.map(|budget| (budget, self.ledger.spent_by_all(budget.since(now)), "the node's fetch budget"));
        let mut left = u64::MAX;
        for (budget, spent, whose) in own.into_iter().chain(all) {
            if spent >= budget.bytes {
                let renews = budget.renews(now);
                return Err(Held {
                    reason: reason::BUDGET_SPENT,
                    message: format!(
                        "nothing more is asked of the network until {renews}: {whose} of {budget} is spent"
                    ),
                    until: Some(renews),
                    length: None,
                });
            }
            left = left.min(budget.bytes - spent);
        }
        Ok(left)
    }

    /// Whether the clock is far from what is known of the time: a window cannot be judged by it. Less than a day behind is
    /// no proof of that, since a clock that ran ahead by so much was believed.
    pub(super) fn clock_is_wrong(&self, now: Timestamp) -> bool {
        is_wrong(now, self.shared.git.later_of(now))
    }

    fn window_is_open(&self, spec: &GitRepository, now: Timestamp) -> Result<(), Held> {
        let windows = &spec.windows;
        if self.clock_is_wrong(now) {
            return Err(Held {
                reason: reason::CLOCK_WRONG,
                message: format!(
                    "nothing is asked of the network: its fetch window is {windows}, and the clock is wrong; set it"
                ),
                until: None,
                length: None,
            });
        }
        if windows.is_open(now) {
            return Ok(());
        }
        let until = windows.opens(now);
        let when = until.map_or("again: the windows never overlap".to_owned(), |opens| format!("until {opens}"));
        Err(Held {
            reason: reason::OUTSIDE_WINDOW,
            message: format!("nothing is asked of the network {when}; its fetch window is {windows}"),
            until,
            length: until.and_then(|opens| Some(windows.closes(opens)?.duration_since(opens))),
        })
    }

    /// When a source that is held back is looked at again: when it may go on, a little later so that a fleet does not go on
    /// as one, and in between because the clock may be set.
    pub(super) fn due_again(&self, held: &Held, interval: Duration, now: Timestamp) -> Duration {
        let wait = held.until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
        let length = held.length.and_then(|length| Duration::try_from(length).ok()).unwrap_or(SPREAD * 10);
        let spread = SPREAD.min(interval).min(length / 10).mul_f64(fastrand::f64());
        let wait = wait.map_or(LOOK_AGAIN, |wait| wait.saturating_add(spread).min(LOOK_AGAIN));
        self.clock.now().saturating_add(wait.max(Duration::from_millis(100)))
    }

    /// Counts what builds have cost that fetched more of a commit.
    pub(super) fn count_spent(&mut self) {
        let spent = self.shared.spent.take();
        spent.iter().for_each(|(name, traffic)| self.note_traffic(name, traffic));
    }

    /// Counts what a poll has cost.
    pub(super) fn note_traffic(&mut self, name: &ResourceName, traffic: &Traffic) {
        let local =
            self.sources.get(name).and_then(SourceState::spec).is_some_and(|spec| spec.source.url.local().is_some());
        if local {
            return;
        }
        self.metrics.spent(name, traffic);
        let budget = self.budget_of(name);
        let now = Timestamp::now();
        let day = budget.map_or_else(|| TimeZone::UTC.to_datetime(now).date(), |budget| budget.day(now));
        let tightest = self.sources.values().filter_map(|state| state.spec()?.budget.as_ref());
        let tightest = tightest.chain(self.node.fetch_budget.as_ref()).map(|budget| budget.bytes / HEAVY_PART).min();
        self.ledger.heavy = tightest.map(|bytes| bytes.min(HEAVY));
        self.ledger.add(name, day, traffic);
    }

    /// Whose days a source's bytes are counted by.
    fn budget_of(&self, name: &ResourceName) -> Option<&Budget> {
        let own = self.sources.get(name).and_then(|state| state.spec()?.budget.as_ref());
        own.or(self.node.fetch_budget.as_ref())
    }

    /// Says in a source's status whether it is held back, and why.
    pub(super) fn show_held(&mut self, name: &ResourceName, held: Option<&Held>) {
        let resource = resource(name);
        let was = self.records.get(&resource).map(Record::conditions);
        let was = was.as_ref().and_then(|was| was.get(condition_type::FETCH_HELD)).map(|was| was.message.clone());
        if was.as_deref() == held.map(|held| held.message.as_str()) {
            return;
        }
        match held {
            Some(held) => tracing::info!(source = %name, "{}", held.message),
            None => tracing::info!(source = %name, "the network may be asked again"),
        }
        let now = Timestamp::now();
        self.set_status(&resource, |conditions, _, generation| match held {
            Some(held) => {
                let (type_, message) = (condition_type::FETCH_HELD, held.message.clone());
                conditions.set(type_, ConditionStatus::True, held.reason, message, generation, now);
            }
            None => conditions.remove(condition_type::FETCH_HELD),
        });
    }

    /// What the link has cost a source.
    pub(super) fn traffic_live(&self, name: &ResourceName) -> TrafficLive {
        let now = Timestamp::now();
        let budget = self.budget_of(name).map(|budget| {
            let own =
                self.sources.get(name).is_some_and(|state| state.spec().is_some_and(|spec| spec.budget.is_some()));
            let since = budget.since(now);
            let spent = if own { self.ledger.spent(name, since) } else { self.ledger.spent_by_all(since) };
            crate::serve::BudgetLive {
                budget: budget.to_string(),
                bytes: budget.bytes,
                spent,
                renews: budget.renews(now),
            }
        });
        TrafficLive { days: self.ledger.shown(name).into_iter().map(Into::into).collect(), budget }
    }
}

/// Whether a clock that shows `now` is wrong, where it is `known` to be so late at least.
fn is_wrong(now: Timestamp, known: Timestamp) -> bool {
    now < FIRST_DAY || known.duration_since(now) > DAY
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn traffic(bytes: u64) -> Traffic {
        Traffic { received: bytes, requests: 1, ..Traffic::default() }
    }

    #[test]
    fn a_clock_that_is_far_behind_what_is_known_is_wrong_and_one_that_was_put_right_is_not() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let known = at("2026-11-24T09:00:00Z");
        assert!(is_wrong(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH));
        assert!(is_wrong(at("2026-11-20T09:00:00Z"), known));
        // It ran ahead by hours, which was believed, and is right again.
        assert!(!is_wrong(at("2026-11-23T20:00:00Z"), known));
        assert!(!is_wrong(known, known));
    }

    #[test]
    fn idle_polls_are_written_with_something_else_and_much_is_written_at_once() {
        let (fleet, today) = (ResourceName::new("flux-system", "fleet"), date(2026, 11, 24));
        let mut ledger = Ledger::default();
        for _ in 0..20 {
            ledger.add(&fleet, today, &traffic(300));
        }
        assert!(!ledger.is_heavy());
        ledger.add(&fleet, today, &traffic(HEAVY));
        assert!(ledger.is_heavy());
        let mut batch = Batch::default();
        ledger.write_to(&mut batch);
        assert_eq!((batch.traffic.len(), batch.traffic[0].requests), (1, 21));
        assert!(!ledger.is_heavy());
        // A batch that could not be written holds each day once.
        ledger.add(&fleet, today, &traffic(1));
        ledger.write_to(&mut batch);
        assert_eq!((batch.traffic.len(), batch.traffic[0].received), (1, 6_001 + HEAVY));
        ledger.add(&fleet, today, &Traffic::default());
        assert!(ledger.unwritten.is_empty());
    }

    #[test]
    fn what_was_spent_counts_from_the_first_day_of_a_period_and_days_of_1970_not_at_all() {
        let (fleet, shop) = (ResourceName::new("flux-system", "fleet"), ResourceName::new("flux-system", "shop"));
        let day = |name: &ResourceName, day, received| TrafficDay { received, ..TrafficDay::new(name.clone(), day) };
        let ledger = Ledger::new(vec![
            day(&fleet, date(1970, 1, 1), 1_000),
            day(&fleet, date(2026, 10, 31), 100),
            day(&fleet, date(2026, 11, 1), 20),
            day(&fleet, date(2026, 11, 24), 3),
            day(&shop, date(2026, 11, 24), 4),
        ]);
        assert_eq!(ledger.spent(&fleet, date(2026, 11, 24)), 3);
        assert_eq!(ledger.spent(&fleet, date(2026, 11, 1)), 23);
        assert_eq!(ledger.spent(&fleet, date(1970, 1, 1)), 123);
        assert_eq!(ledger.spent_by_all(date(2026, 11, 24)), 7);
        assert_eq!(ledger.shown(&fleet)[0].day, date(2026, 11, 24));
    }
}
