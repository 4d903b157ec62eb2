//! A circuit breaker for each host: many sources on one dead host cost one probe.
//!
//! | circuit | what happens |
//! |---|---|
//! | well | the host has answered and not failed since: everybody may ask |
//! | not known to be well | one may ask at a time, and the others wait for what becomes of it: if it is answered they all go, if not they have their answer too |
//! | open | after [`FAILURES`] failures in a row nobody may ask until a pause is over, which doubles from try to try up to [`LONGEST`] |
//!
//! A server that answers is not dead, whatever it answers; one that says when to come back is believed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Failures in a row that open a circuit.
const FAILURES: u32 = 3;

/// The first pause, and the longest.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// The circuits of all hosts.
#[derive(Clone, Default)]
pub(crate) struct Breaker(Arc<Mutex<HashMap<String, Circuit>>>);

#[derive(Debug, Default)]
struct Circuit {
    /// It has answered since the start.
    heard: bool,
    /// Failures in a row, and all of them.
    failures: u32,
    ever_failed: u64,
    /// Nobody may ask before; `None` while it is closed.
    open_until: Option<Instant>,
    probing: bool,
    /// Rings when a probe has ended.
    ended: Arc<Notify>,
}

/// Leave to ask a host once. Dropped without an answer (the poll was cancelled), it counts as nothing.
pub(crate) struct Leave {
    breaker: Breaker,
    host: String,
    probe: bool,
    answered: bool,
}

impl Breaker {
    /// Leave to ask `host`, or how long to wait for it. While another finds out whether it answers, that is waited for.
    pub(crate) async fn ask(&self, host: &str) -> Result<Leave, Duration> {
        let mut failed_before = None;
        loop {
            let ended: Arc<Notify>;
            let probe = {
                let mut circuits = self.circuits();
                let circuit = circuits.entry(host.to_owned()).or_default();
                let now = Instant::now();
                if let Some(until) = circuit.open_until.filter(|until| now < *until) {
                    return Err(until - now);
                }
                if failed_before.replace(circuit.ever_failed).is_some_and(|before| before < circuit.ever_failed) {
                    return Err(SHORTEST);
                }
                let is_well = circuit.heard && circuit.failures == 0;
                match (is_well, circuit.probing) {
                    (true, _) => return Ok(self.leave(host, false)),
                    (false, false) => {
                        circuit.probing = true;
                        return Ok(self.leave(host, true));
                    }
                    (false, true) => {
                        ended = circuit.ended.clone();
                        ended.notified()
                    }
                }
            };
            probe.await;
        }
    }

    fn leave(&self, host: &str, probe: bool) -> Leave {
        Leave { breaker: self.clone(), host: host.to_owned(), probe, answered: false }
    }

    /// Closes the circuit of a host: somebody wants to know now.
    pub(crate) fn reset(&self, host: &str) {
        if let Some(circuit) = self.circuits().get_mut(host) {
            (circuit.failures, circuit.open_until) = (0, None);
        }
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<String, Circuit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// The host answered.
    pub(crate) fn succeeded(mut self) {
        self.answered = true;
        self.end(|circuit| {
            (circuit.heard, circuit.failures, circuit.open_until) = (true, 0, None);
        });
    }

    /// The host did not answer, or asked to be left alone for `retry_after`.
    pub(crate) fn failed(mut self, retry_after: Option<Duration>, now: Instant) {
        self.answered = true;
        self.end(|circuit| {
            circuit.failures += 1;
            circuit.ever_failed += 1;
            let beyond = circuit.failures.checked_sub(FAILURES);
            let pause = beyond.map(|beyond| SHORTEST.saturating_mul(1 << beyond.min(10)).min(LONGEST));
            // What the server asks for is granted, within reason.
            let pause = pause.max(retry_after.map(|asked| asked.min(LONGEST)));
            circuit.open_until = pause.map(|pause| now + pause);
        });
    }

    fn end(&self, change: impl FnOnce(&mut Circuit)) {
        let mut circuits = self.breaker.circuits();
        let circuit = circuits.entry(self.host.clone()).or_default();
        circuit.probing &= !self.probe;
        change(circuit);
        circuit.ended.notify_waiters();
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.answered {
            self.end(|_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fail(breaker: &Breaker) {
        breaker.ask("h").await.map(|leave| leave.failed(None, Instant::now())).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_host_is_probed_by_one_at_a_time_and_ever_more_rarely() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            fail(&breaker).await;
        }
        assert_eq!(breaker.ask("h").await.err(), Some(SHORTEST));
        breaker.ask("another").await.map(Leave::succeeded).unwrap();

        tokio::time::advance(SHORTEST).await;
        let probe = breaker.ask("h").await.map_err(drop).ok().unwrap();
        let (other, waits) = (
            breaker.clone(),
            tokio::spawn({
                let breaker = breaker.clone();
                async move { breaker.ask("h").await.err() }
            }),
        );
        tokio::task::yield_now().await;
        probe.failed(None, Instant::now());
        assert_eq!(waits.await.unwrap(), Some(SHORTEST * 2));
        assert_eq!(other.ask("h").await.err(), Some(SHORTEST * 2));

        tokio::time::advance(SHORTEST * 2).await;
        // A probe that was given up makes way for the next one.
        drop(breaker.ask("h").await.map_err(drop).ok().unwrap());
        breaker.ask("h").await.map(Leave::succeeded).unwrap();
        // It is well: two at once.
        let two = (breaker.ask("h").await.ok().unwrap(), breaker.ask("h").await.ok().unwrap());
        two.0.succeeded();
        two.1.succeeded();
    }

    #[tokio::test(start_paused = true)]
    async fn of_twenty_who_come_at_once_one_asks_and_all_have_their_answer() {
        for dead in [true, false] {
            let (breaker, asked) = (Breaker::default(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
            let tasks = (0..20).map(|_| {
                let (breaker, asked) = (breaker.clone(), asked.clone());
                tokio::spawn(async move {
                    let leave = breaker.ask("h").await?;
                    asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    match dead {
                        true => leave.failed(None, Instant::now()),
                        false => leave.succeeded(),
                    }
                    Ok::<_, Duration>(())
                })
            });
            let tasks: Vec<_> = tasks.collect();
            let mut went = 0;
            for task in tasks {
                went += usize::from(task.await.unwrap().is_ok());
            }
            let asked = asked.load(std::sync::atomic::Ordering::SeqCst);
            assert_eq!((asked, went), if dead { (1, 1) } else { (20, 20) }, "dead: {dead}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_failure_and_a_long_outage_are_bounded() {
        let breaker = Breaker::default();
        fail(&breaker).await;
        drop(breaker.ask("h").await.ok().unwrap());
        for _ in 0..40 {
            tokio::time::advance(LONGEST).await;
            fail(&breaker).await;
        }
        assert_eq!(breaker.ask("h").await.err(), Some(LONGEST));
        breaker.reset("h");
        drop(breaker.ask("h").await.ok().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_gets_it_within_reason() {
        for (asked, granted) in
            [(Duration::from_secs(7), Duration::from_secs(7)), (Duration::from_secs(1 << 40), LONGEST)]
        {
            let breaker = Breaker::default();
            breaker.ask("h").await.ok().unwrap().failed(Some(asked), Instant::now());
            assert_eq!(breaker.ask("h").await.err(), Some(granted));
        }
    }
}
