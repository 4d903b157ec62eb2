//! The time floor: what time it is at least, whatever the node's clock says.
//!
//! Nodes have no battery behind their clock, start in 1970, and follow time servers that may be wrong. What has an end
//! (a permit, a key) must stay ended when the clock is set back; and no clock that ran ahead for a while may keep a node
//! from working once it is right again. Time is therefore judged by the later of the clock and a floor, and the floor
//! rises only by what cannot be far from the truth:
//!
//! | evidence | how far the floor follows |
//! |---|---|
//! | this program was written | to then |
//! | time passed while the agent ran | as far, by a clock that does not step |
//! | the wall clock is ahead by up to a day | at once: that is drift, or the floor was written down a while ago |
//! | it is further ahead | once it has stood there for an hour, or for a hundredth of the way where that is longer: a node that was off for a month believes its clock after seven hours, one that jumped a year after four days |
//! | a commit that was believed is dated so | at once, up to the wall clock and no further: one absurd date moves nothing |
//!
//! The floor never falls. A clock that is behind it is not believed and not corrected.

use std::time::Duration;

use jiff::Timestamp;

/// So far ahead of the floor the wall clock is believed at once.
const CLOSE: Duration = Duration::from_secs(24 * 3600);

/// A wall clock further ahead must have stood for so long, at least.
const SETTLED: Duration = Duration::from_secs(3600);

/// A further jump must stand for this part of it.
const PART: u32 = 100;

/// When this was written, seconds since 1970: 1 November 2026.
const WRITTEN: i64 = 1_793_491_200;

/// What time it is at least.
#[derive(Clone, Debug)]
pub struct TimeFloor {
    floor: Timestamp,
    /// When it was looked at last, by a clock that does not step.
    seen: Duration,
    ahead: Option<Ahead>,
}

/// A wall clock far ahead of the floor.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    by: Duration,
    since: Duration,
}

impl TimeFloor {
    /// The floor as it was written down last, if it was. `up` is a clock that does not step, from wherever it began.
    pub fn new(written: Option<Timestamp>, up: Duration) -> Self {
        let begin = Timestamp::from_second(WRITTEN).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { floor: written.unwrap_or(begin).max(begin), seen: up, ahead: None }
    }

    /// What time it is at least.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// What time it is to be taken to be when the wall clock says `wall`; raises the floor as far as that is believed.
    pub fn judge(&mut self, wall: Timestamp, up: Duration) -> Timestamp {
        let passed = up.saturating_sub(self.seen);
        self.seen = self.seen.max(up);
        self.floor = self.floor.saturating_add(passed).unwrap_or(self.floor);
        let by = Duration::try_from(wall.duration_since(self.floor)).unwrap_or_default();
        if by <= CLOSE {
            self.ahead = None;
            self.floor = self.floor.max(wall);
            return self.floor;
        }
        // Ahead, but not as far as before: it was set again, and begins to stand anew.
        let stood = self.ahead.filter(|before| before.by.abs_diff(by) <= CLOSE);
        let ahead = *self.ahead.insert(stood.unwrap_or(Ahead { by, since: up }));
        if up.saturating_sub(ahead.since) >= SETTLED.max(by / PART) {
            self.ahead = None;
            self.floor = wall;
        }
        wall
    }

    /// A commit that was believed is dated `made`, while the wall clock says `wall`.
    pub fn attest(&mut self, made: Timestamp, wall: Timestamp) {
        if made <= wall {
            self.floor = self.floor.max(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn start() -> Timestamp {
        "2027-03-01T00:00:00Z".parse().unwrap()
    }

    /// One that knows [`start`], looked at when it begins.
    fn floor() -> TimeFloor {
        TimeFloor::new(Some(start()), Duration::ZERO)
    }

    #[test]
    fn a_boot_in_1970_goes_on_from_what_was_written_down() {
        let mut time = floor();
        assert_eq!(time.judge(Timestamp::UNIX_EPOCH, HOUR), start() + HOUR);
        assert_eq!(time.judge(Timestamp::UNIX_EPOCH + HOUR, 2 * HOUR), start() + 2 * HOUR);
        // Nothing was written down: not before the program was.
        let mut new = TimeFloor::new(None, Duration::ZERO);
        assert_eq!(new.judge(Timestamp::UNIX_EPOCH, Duration::ZERO).as_second(), WRITTEN);
    }

    #[test]
    fn a_clock_that_is_set_back_is_not_followed() {
        let mut time = floor();
        let later = start() + 20 * HOUR;
        assert_eq!(time.judge(later, 20 * HOUR), later);
        assert_eq!(time.judge(start(), 21 * HOUR), later + HOUR);
        // Nor after a restart.
        let mut again = TimeFloor::new(Some(time.floor()), Duration::ZERO);
        assert_eq!(again.judge(start() - 300 * DAY, Duration::ZERO), later + HOUR);
    }

    #[test]
    fn a_year_forward_and_back_leaves_nothing_behind() {
        let mut time = floor();
        assert_eq!(time.judge(start() + 366 * DAY, HOUR), start() + 366 * DAY);
        assert_eq!(time.judge(start() + 366 * DAY + HOUR, 2 * HOUR), start() + 366 * DAY + HOUR);
        assert_eq!(time.judge(start() + 3 * HOUR, 3 * HOUR), start() + 3 * HOUR);
        assert_eq!(time.floor(), start() + 3 * HOUR);
    }

    #[test]
    fn a_clock_far_ahead_is_believed_once_it_has_stood() {
        let mut time = floor();
        let after = |up: Duration| start() + 30 * DAY + up;
        for up in [Duration::ZERO, HOUR, 7 * HOUR] {
            time.judge(after(up), up);
            assert!(time.floor() < after(Duration::ZERO), "after {up:?}");
        }
        time.judge(after(8 * HOUR), 8 * HOUR);
        assert_eq!(time.floor(), after(8 * HOUR));
        // One that is set again and again has stood nowhere.
        let mut time = floor();
        for hour in 0..100_u32 {
            time.judge(start() + 40 * DAY + hour * 3 * DAY, hour * HOUR);
        }
        assert_eq!(time.floor(), start() + 99 * HOUR);
    }

    #[test]
    fn a_commit_raises_the_floor_up_to_the_clock_and_no_further() {
        let mut time = floor();
        let wall = start() + 30 * DAY;
        time.judge(wall, Duration::ZERO);
        time.attest(start() + 29 * DAY, wall);
        assert_eq!(time.floor(), start() + 29 * DAY);
        time.attest(start() + 40_000 * DAY, wall);
        assert_eq!(time.floor(), start() + 29 * DAY);
        time.attest(start(), wall);
        assert_eq!(time.floor(), start() + 29 * DAY);
    }
}
