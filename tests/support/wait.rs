//! Waiting for something to become true: the only way a test waits.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// Probes until `probe` answers `Ok`, and returns that. An `Err` is what was seen instead; the last one is in the message.
///
/// The timeout says when to give up, not how fast something has to be: take one that a busy machine of one core can keep.
///
/// ```no_run
/// # use std::time::Duration;
/// # use wickie_testbench::eventually;
/// # async fn f() {
/// let ready = eventually("the deployment is ready", Duration::from_secs(60), || async {
///     let replicas = 1; // read it
///     anyhow::ensure!(replicas == 1, "{replicas} of 1 replicas");
///     anyhow::Ok(replicas)
/// }).await;
/// # }
/// ```
///
/// # Panics
/// When the time is over, naming what was waited for and what was seen last.
pub async fn eventually<T, E, F, Fut>(what: &str, timeout: Duration, probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Display,
{
    match within(timeout, probe).await {
        Ok(value) => value,
        Err(missed) => panic!("waited {:.1?} for: {what}\n{missed}", missed.waited),
    }
}

/// What was seen in place of what was waited for.
#[derive(Debug, thiserror::Error)]
#[error("last seen ({tries} probes): {last}")]
pub struct Missed {
    /// How long was waited.
    pub waited: Duration,
    tries: u32,
    last: String,
}

/// Probes as [`eventually`] does, for who goes on when the time is over.
///
/// # Errors
/// When the time is over, with what was seen last.
pub async fn within<T, E, F, Fut>(timeout: Duration, mut probe: F) -> Result<T, Missed>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Display,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    let mut tries = 0u32;
    let mut last = String::from("no answer to the first probe");
    loop {
        tries += 1;
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) if tries > 1 => last = format!("{last} (the last probe did not answer)"),
            Err(_) => {}
        }
        let waited = start.elapsed();
        if waited >= timeout {
            return Err(Missed { waited, tries, last });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(400));
    }
}
