//! What the API server has asked for: to be left alone for a while.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause that a server may ask for.
const LONGEST: Duration = Duration::from_secs(120);

/// One gate for all requests of an executor.
#[derive(Default)]
pub(super) struct Throttle {
    until: Cell<Option<Instant>>,
}

impl Throttle {
    /// Waits until the server may be asked again. What waited together does not start together.
    pub(super) async fn pass(&self) {
        while let Some(until) = self.until.get() {
            if Instant::now() >= until {
                self.until.set(None);
                return;
            }
            let spread = Duration::from_millis(fastrand::u64(0..500));
            tokio::time::sleep_until(until + spread).await;
        }
    }

    /// The server asked for a pause.
    pub(super) fn pause(&self, asked: Duration) {
        let until = Instant::now() + asked.min(LONGEST);
        if self.until.get().is_none_or(|before| before < until) {
            self.until.set(Some(until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_before_the_pause_is_over() {
        let throttle = Throttle::default();
        let begin = Instant::now();
        throttle.pass().await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        throttle.pause(Duration::from_secs(7));
        throttle.pause(Duration::from_secs(3));
        throttle.pass().await;
        assert!(begin.elapsed() >= Duration::from_secs(7));
    }
}
