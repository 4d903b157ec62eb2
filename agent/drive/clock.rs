//! Time since the agent started, and the way from there to the clocks of tokio and of people.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use wickie_plan::cycle;

/// One clock for every schedule. It never steps, whatever the wall clock does.
pub(super) struct Clock {
    begin: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { begin: Instant::now() }
    }

    /// Time since the start.
    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// What a step of a cycle needs to know.
    pub(super) fn for_cycle(&self) -> cycle::Clock {
        cycle::Clock { now: self.now(), chance: fastrand::f64() }
    }

    /// The moment as tokio counts it; far away where it is further than that.
    pub(super) fn instant(&self, moment: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(24 * 3600);
        self.begin.checked_add(moment).unwrap_or_else(|| Instant::now() + FAR).min(Instant::now() + FAR)
    }

    /// The moment as people count it, by the wall clock as it stands now.
    pub(super) fn wall(&self, moment: Duration) -> Option<Timestamp> {
        let ahead = moment.checked_sub(self.now()).unwrap_or_default();
        Timestamp::now().checked_add(ahead).ok()
    }
}
