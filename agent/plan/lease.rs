//! Who of several agents writes: whoever holds a Lease of the cluster.
//!
//! ```text
//!              nobody holds it, or ours from before            not renewed in time, or another's
//!   ┌─────────────────────────────────────────────► held ──────────────────────────────────────┐
//!   │                                                                                           ▼
//! standing by ◄─────────────────────────────────────────────────────────────────────── standing by
//!   │ another's: taken once it was seen unchanged for as long as it says it lasts
//! ```
//!
//! Times in the Lease are compared for being the same, and never read: clocks of nodes differ. A holder counts from before
//! it sent its renewal, whoever waits from after it saw one, so that the one ends before the other begins, as long as
//! their clocks run equally fast. All moments count from the boot of the machine, suspended or not.
//!
//! Source: `client-go/tools/leaderelection`; `coordination.k8s.io/v1`, Lease.

use std::time::Duration;

use crate::cycle::Moment;

/// A Lease as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is; empty where nobody's.
    pub holder: String,
    /// How long it lasts from each renewal.
    pub lasts: Duration,
    /// Differs with each renewal.
    pub renewed: String,
    /// How often it went from one to another.
    pub transitions: u64,
}

/// A write of ours that had no answer.
#[derive(Clone, Debug)]
struct Unanswered {
    lease: Lease,
    sent: Moment,
    /// Whether another may have held it before.
    others: bool,
}

/// How many writes without an answer are remembered.
const UNANSWERED: usize = 16;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Write it as ours, now.
    Write,
    /// Nothing before this moment, unless the Lease is seen to change.
    Wait(Moment),
}

/// What the Lease as it was seen means for whoever held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing new.
    Same,
    /// It is another's.
    Others,
    /// Somebody renews it in our name: two agents were given the same identity.
    Twin,
}

/// One agent's part in the election.
#[derive(Clone, Debug)]
pub struct Elector {
    me: String,
    lasts: Duration,
    /// What was last seen or written, and when; nothing where there is no Lease, or none was seen yet.
    seen: Option<(Lease, Moment)>,
    /// It is ours until then.
    until: Option<Moment>,
    /// What we wrote since and had no answer to: it may stand there all the same.
    unanswered: Vec<Unanswered>,
    /// Somebody else bears our name: what stands in it is theirs.
    twin: bool,
    /// Not before then, after a write that failed.
    again: Moment,
    /// The Lease was looked at.
    looked: bool,
    /// The cluster may not be as we left it, although what stands in the Lease is ours.
    others: bool,
}

impl Elector {
    /// An agent that calls itself `me`, and lets the Lease last for `lasts` from each renewal.
    pub fn new(me: impl Into<String>, lasts: Duration) -> Self {
        Self {
            me: me.into(),
            lasts,
            seen: None,
            until: None,
            unanswered: Vec::new(),
            twin: false,
            again: Moment::ZERO,
            looked: false,
            others: false,
        }
    }

    /// Whether it is ours.
    pub fn holds(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Until when it is ours, if it is.
    pub fn until(&self) -> Option<Moment> {
        self.until
    }

    /// Whose it is as far as was seen; nothing where it is nobody's.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|(lease, _)| lease.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// The Lease as a watch or a read shows it; nothing where it is not there.
    pub fn saw(&mut self, lease: Option<Lease>, now: Moment) -> Seen {
        self.looked = true;
        let Some(lease) = lease else {
            self.seen = None;
            self.until = None;
            return Seen::Others;
        };
        if self.seen.as_ref().is_some_and(|(before, _)| *before == lease) {
            return Seen::Same;
        }
        if let Some(Unanswered { sent, others, .. }) = self.unanswered.iter().find(|it| it.lease == lease) {
            let others = *others;
            self.written(lease, *sent);
            self.others = others;
            return Seen::Same;
        }
        let news = self.until.take().is_some() && lease.holder == self.me;
        self.twin |= news;
        self.seen = Some((lease, now));
        if news { Seen::Twin } else { Seen::Others }
    }

    /// The Lease as a read shows it that shows one from before those that were known: the cluster was restored from a backup.
    /// It begins as after a start: what stands in our name is what we wrote at that time. Whoever held it since may not have
    /// noticed yet, and is waited for.
    pub fn set_back(&mut self, lease: Option<Lease>, now: Moment) {
        let another = self.holder().is_some_and(|holder| holder != self.me);
        *self = Self { others: true, twin: another, ..Self::new(std::mem::take(&mut self.me), self.lasts) };
        self.saw(lease, now);
    }

    /// A write of ours was accepted, which was sent at `sent`.
    pub fn written(&mut self, lease: Lease, sent: Moment) {
        self.seen = Some((lease, sent));
        self.until = Some(sent + self.lasts);
        self.unanswered.clear();
        self.twin = false;
        self.others = false;
        self.again = Moment::ZERO;
    }

    /// A write of ours was refused.
    pub fn failed(&mut self, now: Moment) {
        self.again = now + self.lasts / 10;
    }

    /// A write of ours had no answer: a [`Elector::proposal`] that was sent at `sent`.
    pub fn unanswered(&mut self, (lease, others): (Lease, bool), sent: Moment, now: Moment) {
        // Of a long outage, the first may have come before the server went away, and the last after it was back.
        self.unanswered.truncate(UNANSWERED - 1);
        self.unanswered.push(Unanswered { lease, others, sent });
        self.failed(now);
    }

    /// What to do now.
    pub fn next(&self, now: Moment) -> Move {
        let from = match (&self.seen, self.until) {
            _ if !self.looked => return Move::Wait(Moment::MAX),
            // Renewed early enough for two more tries.
            (Some((_, sent)), Some(until)) if now < until => *sent + self.lasts / 3,
            (Some((lease, _)), _) if lease.holder.is_empty() || self.is_ours(lease) => now,
            (Some((lease, seen)), _) => *seen + lease.lasts,
            (None, _) => now,
        };
        let from = from.max(self.again);
        if from <= now { Move::Write } else { Move::Wait(from) }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        lease.holder == self.me && !self.twin
    }

    /// What to write, `renewed` being the time as it is written. Also whether the cluster may be other than we left it:
    /// another may have held it in between.
    pub fn proposal(&self, renewed: String) -> (Lease, bool) {
        let before = self.seen.as_ref().map(|(lease, _)| lease);
        let ours = before.is_some_and(|lease| self.is_ours(lease));
        let transitions = before.map_or(0, |lease| lease.transitions + u64::from(!ours));
        (Lease { holder: self.me.clone(), lasts: self.lasts, renewed, transitions }, !ours || self.others)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LASTS: Duration = Duration::from_secs(15);

    fn lease(holder: &str, renewed: &str) -> Lease {
        Lease { holder: holder.to_owned(), lasts: LASTS, renewed: renewed.to_owned(), transitions: 4 }
    }

    fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn elector() -> Elector {
        Elector::new("me", LASTS)
    }

    #[test]
    fn before_it_was_looked_at_nothing_is_written() {
        assert_eq!(elector().next(at(100)), Move::Wait(Moment::MAX));
    }

    #[test]
    fn what_nobody_holds_is_taken_and_what_was_ours_is_taken_back() {
        for (seen, transitions, others) in
            [(None, 0, true), (Some(lease("", "a")), 5, true), (Some(lease("me", "a")), 4, false)]
        {
            let mut elector = elector();
            elector.saw(seen, at(1));
            assert_eq!(elector.next(at(1)), Move::Write);
            let (proposal, between) = elector.proposal("b".to_owned());
            assert_eq!((proposal.transitions, between), (transitions, others));
            elector.written(proposal, at(1));
            assert!(elector.holds(at(15)) && !elector.holds(at(16)));
            assert_eq!(elector.next(at(1)), Move::Wait(at(6)));
            assert_eq!(elector.next(at(6)), Move::Write);
        }
    }

    #[test]
    fn another_s_is_waited_for_from_when_it_last_changed() {
        let mut elector = elector();
        assert_eq!(elector.saw(Some(lease("other", "a")), at(10)), Seen::Others);
        assert_eq!(elector.saw(Some(lease("other", "a")), at(20)), Seen::Same);
        assert_eq!(elector.next(at(20)), Move::Wait(at(25)));
        elector.saw(Some(lease("other", "b")), at(24));
        assert_eq!(elector.next(at(25)), Move::Wait(at(39)));
        assert_eq!(elector.next(at(39)), Move::Write);
        // Somebody else was faster.
        elector.failed(at(39));
        assert_eq!(elector.next(at(39)), Move::Wait(at(39) + LASTS / 10));
        elector.saw(Some(lease("third", "c")), at(40));
        assert_eq!(elector.next(at(41)), Move::Wait(at(55)));
    }

    #[test]
    fn it_is_lost_when_another_has_it_when_it_is_gone_and_when_somebody_bears_our_name() {
        for (seen, means) in
            [(Some(lease("other", "b")), Seen::Others), (None, Seen::Others), (Some(lease("me", "b")), Seen::Twin)]
        {
            let mut elector = elector();
            elector.saw(None, at(0));
            elector.written(lease("me", "a"), at(0));
            assert_eq!(elector.saw(Some(lease("me", "a")), at(1)), Seen::Same);
            assert!(elector.holds(at(1)));
            assert_eq!(elector.saw(seen, at(2)), means);
            assert!(!elector.holds(at(2)));
        }
    }

    #[test]
    fn what_we_wrote_before_a_backup_is_taken_back_at_once_and_another_s_is_waited_for() {
        for (stands, next, transitions) in
            [("me", Move::Write, 4), ("other", Move::Wait(at(22)), 5), ("", Move::Write, 5)]
        {
            let mut elector = elector();
            elector.saw(None, at(0));
            elector.written(lease("me", "b"), at(5));
            elector.failed(at(7));
            elector.set_back(Some(lease(stands, "a")), at(7));
            assert!(!elector.holds(at(7)), "it may be another's by now");
            assert_eq!(elector.next(at(7)), next);
            let (proposal, others) = elector.proposal("c".to_owned());
            assert_eq!((proposal.holder.as_str(), proposal.transitions, others), ("me", transitions, true));
            elector.written(proposal, at(22));
            assert!(elector.holds(at(23)) && !elector.proposal("d".to_owned()).1);
        }
        let mut elector = elector();
        elector.saw(Some(lease("other", "b")), at(5));
        elector.set_back(Some(lease("me", "a")), at(7));
        assert_eq!(elector.next(at(7)), Move::Wait(at(22)), "the other may not know yet");
    }

    #[test]
    fn a_write_of_ours_whose_answer_was_lost_is_no_twin_s() {
        let mut elector = elector();
        elector.saw(None, at(0));
        elector.written(lease("me", "a"), at(0));
        for (renewed, sent) in [("b", 5), ("c", 7)] {
            elector.unanswered((lease("me", renewed), renewed == "b"), at(sent), at(sent + 1));
        }
        assert_eq!(elector.saw(Some(lease("me", "b")), at(9)), Seen::Same);
        assert_eq!(elector.until(), Some(at(5) + LASTS), "it counts from when it was sent");
        assert!(elector.proposal("d".to_owned()).1, "what was not told yet is told with the next");
        assert_eq!(elector.saw(Some(lease("me", "z")), at(10)), Seen::Twin);
    }

    /// Both would take it from each other as fast as they can.
    #[test]
    fn what_stands_in_our_name_and_is_another_s_is_waited_for_like_any_other() {
        let mut elector = elector();
        elector.saw(None, at(0));
        elector.written(lease("me", "a"), at(0));
        elector.saw(Some(lease("me", "b")), at(2));
        elector.saw(Some(lease("me", "c")), at(7));
        assert_eq!(elector.next(at(7)), Move::Wait(at(22)));
        assert_eq!(elector.next(at(22)), Move::Write);
        assert!(elector.proposal("d".to_owned()).1, "another may have written");
        elector.written(lease("me", "d"), at(22));
        assert!(elector.holds(at(23)));
    }

    /// What one of two agents does next, in a world where requests take their time and may be lost.
    #[derive(Clone, Debug)]
    struct Turn {
        agent: usize,
        pause: u64,
        flight: u64,
        lost: bool,
        answered: bool,
        frozen: u64,
    }

    fn turn() -> impl Strategy<Value = Turn> {
        let (lost, answered) = (prop::bool::weighted(0.2), prop::bool::weighted(0.8));
        let frozen = prop::option::weighted(0.1, 0..60_000_u64);
        (0..2_usize, 0..6_000_u64, 0..4_000_u64, lost, answered, frozen).prop_map(
            |(agent, pause, flight, lost, answered, frozen)| Turn {
                agent,
                pause,
                flight,
                lost,
                answered,
                frozen: frozen.unwrap_or(0),
            },
        )
    }

    proptest! {
        /// Whatever is lost, late or frozen: two never believe to hold it at the same moment.
        #[test]
        fn two_never_hold_it_at_once(turns in prop::collection::vec(turn(), 1..120)) {
            let mut agents = [Elector::new("a", LASTS), Elector::new("b", LASTS)];
            let mut asleep = [Moment::ZERO; 2];
            let mut server: Option<Lease> = None;
            let mut now = Moment::ZERO;
            for (number, turn) in turns.into_iter().enumerate() {
                now += Duration::from_millis(turn.pause);
                asleep[turn.agent] = asleep[turn.agent].max(now + Duration::from_millis(turn.frozen));
                if asleep[turn.agent] > now || turn.lost {
                    continue;
                }
                agents[turn.agent].saw(server.clone(), now);
                if agents[turn.agent].next(now) == Move::Write {
                    let (lease, others) = agents[turn.agent].proposal(number.to_string());
                    let sent = now;
                    // The server has it at some time, and the answer comes at another; nobody wrote in between.
                    now += Duration::from_millis(turn.flight);
                    server = Some(lease.clone());
                    match turn.answered {
                        true => agents[turn.agent].written(lease, sent),
                        false => agents[turn.agent].unanswered((lease, others), sent, now),
                    }
                }
                prop_assert!(agents.iter().filter(|agent| agent.holds(now)).count() <= 1);
            }
        }
    }
}
