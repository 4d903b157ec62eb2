//! What the API server has asked for: to be left alone for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause that a server may ask for.
const LONGEST: Duration = Duration::from_secs(120);

/// One gate for all requests to a server.
#[derive(Default)]
pub(super) struct Throttle {
    until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Waits until the server may be asked again. What waited together does not start together.
    pub(super) async fn pass(&self) {
        while let Some(until) = self.until() {
            let spread = Duration::from_millis(fastrand::u64(0..500));
            tokio::time::sleep_until(until + spread).await;
        }
    }

    /// The server asked for a pause.
    pub(super) fn pause(&self, asked: Duration) {
        let until = Instant::now() + asked.min(LONGEST);
        let mut gate = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *gate = gate.max(Some(until));
    }

    /// The end of the pause, if there is one.
    fn until(&self) -> Option<Instant> {
        let mut gate = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *gate = gate.filter(|until| Instant::now() < *until);
        *gate
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
