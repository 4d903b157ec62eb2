//! A circuit breaker for each host: many sources on one dead host cost one probe.
//!
//! | circuit | what happens |
//! |---|---|
//! | closed | everybody may ask; [`FAILURES`] failures in a row open it |
//! | open | nobody may ask until a pause is over, which doubles from try to try up to [`LONGEST`] |
//! | probing | one may ask; its success closes the circuit, its failure opens it again |
//!
//! A server that answers is not dead, whatever it answers; one that says when to come back is believed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open a circuit.
const FAILURES: u32 = 3;

/// The first pause, and the longest.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// The circuits of all hosts.
#[derive(Clone, Default)]
pub(crate) struct Breaker(Arc<Mutex<HashMap<String, Circuit>>>);

#[derive(Clone, Copy, Debug, Default)]
struct Circuit {
    failures: u32,
    /// Nobody may ask before; `None` while it is closed.
    open_until: Option<Instant>,
    probing: bool,
}

/// Leave to ask a host once. Dropped without an answer (the poll was cancelled), it counts as nothing.
pub(crate) struct Leave {
    breaker: Breaker,
    host: String,
    answered: bool,
}

impl Breaker {
    /// Leave to ask `host`, or how long to wait for it.
    pub(crate) fn ask(&self, host: &str, now: Instant) -> Result<Leave, Duration> {
        let mut circuits = self.circuits();
        let circuit = circuits.entry(host.to_owned()).or_default();
        match circuit.open_until {
            Some(until) if now < until => return Err(until - now),
            Some(_) if circuit.probing => return Err(SHORTEST),
            Some(_) => circuit.probing = true,
            None => {}
        }
        Ok(Leave { breaker: self.clone(), host: host.to_owned(), answered: false })
    }

    /// Closes the circuit of a host: somebody wants to know now.
    pub(crate) fn reset(&self, host: &str) {
        self.circuits().remove(host);
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<String, Circuit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// The host answered.
    pub(crate) fn succeeded(mut self) {
        self.answered = true;
        self.breaker.circuits().remove(&self.host);
    }

    /// The host did not answer, or asked to be left alone for `retry_after`.
    pub(crate) fn failed(mut self, retry_after: Option<Duration>, now: Instant) {
        self.answered = true;
        let mut circuits = self.breaker.circuits();
        let circuit = circuits.entry(self.host.clone()).or_default();
        circuit.failures += 1;
        circuit.probing = false;
        let beyond = circuit.failures.checked_sub(FAILURES);
        let pause = beyond.map(|beyond| SHORTEST.saturating_mul(1 << beyond.min(10)).min(LONGEST));
        // What the server asks for is granted, within reason.
        let pause = pause.max(retry_after.map(|asked| asked.min(LONGEST)));
        circuit.open_until = pause.map(|pause| now + pause);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.answered
            && let Some(circuit) = self.breaker.circuits().get_mut(&self.host)
        {
            circuit.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) {
        breaker.ask("h", now).map(|leave| leave.failed(None, now)).unwrap();
    }

    #[test]
    fn a_dead_host_is_probed_by_one_at_a_time_and_ever_more_rarely() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            fail(&breaker, now);
        }
        assert_eq!(breaker.ask("h", now).err(), Some(SHORTEST));
        breaker.ask("another", now).map(Leave::succeeded).unwrap();

        let later = now + SHORTEST;
        let probe = breaker.ask("h", later).map_err(drop).ok().unwrap();
        assert!(breaker.ask("h", later).is_err());
        probe.failed(None, later);
        assert_eq!(breaker.ask("h", later).err(), Some(SHORTEST * 2));

        let later = later + SHORTEST * 2;
        // A probe that was given up makes way for the next one.
        drop(breaker.ask("h", later).map_err(drop).ok().unwrap());
        breaker.ask("h", later).map(Leave::succeeded).unwrap();
        breaker.ask("h", later).map(Leave::succeeded).unwrap();
    }

    #[test]
    fn a_single_failure_and_a_long_outage_are_bounded() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        fail(&breaker, now);
        assert!(breaker.ask("h", now).is_ok());
        for _ in 0..40 {
            now += LONGEST;
            fail(&breaker, now);
        }
        assert_eq!(breaker.ask("h", now).err(), Some(LONGEST));
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let leave = breaker.ask("h", now).map_err(drop).ok().unwrap();
        leave.failed(Some(Duration::from_secs(7)), now);
        assert_eq!(breaker.ask("h", now).err(), Some(Duration::from_secs(7)));
    }
}
