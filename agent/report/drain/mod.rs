//! Empties the outbox: one task a Provider, so that a receiver that is down delays no other.
//!
//! A task sends its oldest row, waits for a yes, takes the row out, and goes on with the next. The row is read again
//! before every attempt: it may have been dropped meanwhile. Between attempts it waits a random time below a ceiling that
//! doubles (full jitter, after "Exponential Backoff And Jitter", AWS Architecture Blog), or as long as the receiver asks.
//! A failed attempt writes nothing to the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;
use wickie_model::{Digest, Event, Resource, ResourceKind, ResourceName, Severity};

use super::Endpoint;
use super::send::{self, Answer};
use crate::chain::chain;
use crate::store::{Queued, Store, StoreError};

/// How often an event that its receiver calls unreadable is tried before it is set aside.
const REFUSED_TRIES: u32 = 5;

/// Reason of the event that says so.
const REPORT_REFUSED: &str = "ReportRefused";

/// How long to wait after the first failed attempt, and at the most.
#[derive(Clone, Copy, Debug)]
struct Pace {
    first: Duration,
    most: Duration,
}

const PACE: Pace = Pace { first: Duration::from_secs(2), most: Duration::from_secs(300) };

/// How it goes with one Provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sending {
    /// Whether nothing is left to send.
    pub idle: bool,
    /// When a receiver last said yes, since the agent started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sent: Option<Timestamp>,
    /// Why the last attempt failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// When the next attempt is due, if the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
}

/// Sends what the outbox holds. Dropping it stops all sending; what was not sent stays in the outbox.
pub struct Reporter {
    store: Store,
    instance: Arc<str>,
    pace: Pace,
    wake: watch::Sender<()>,
    states: watch::Sender<BTreeMap<ResourceName, Sending>>,
    tasks: BTreeMap<ResourceName, (Digest, AbortHandle)>,
}

impl Reporter {
    /// Nothing is sent before [`Reporter::serve`]. `instance` is the node or pod, as receivers shall read it.
    pub fn new(store: Store, instance: &str) -> Self {
        Self::with_pace(store, instance, PACE)
    }

    fn with_pace(store: Store, instance: &str, pace: Pace) -> Self {
        Self {
            store,
            instance: instance.into(),
            pace,
            wake: watch::Sender::new(()),
            states: watch::Sender::new(BTreeMap::new()),
            tasks: BTreeMap::new(),
        }
    }

    /// Sends to these and no others from now on. An endpoint that did not change is not disturbed. One for which no
    /// client can be made gets nothing; the last such error is given back, the others are served all the same.
    pub fn serve(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> reqwest::Result<()> {
        let mut before = std::mem::take(&mut self.tasks);
        let mut served = Ok(());
        for endpoint in endpoints {
            let (name, digest) = (endpoint.provider.clone(), endpoint.digest);
            let task = match before.remove(&name) {
                Some((same, task)) if same == digest => Ok(task),
                changed => {
                    changed.inspect(|(_, task)| task.abort());
                    self.begin(endpoint)
                }
            };
            match task {
                Ok(task) => drop(self.tasks.insert(name, (digest, task))),
                Err(error) => served = Err(error),
            }
        }
        for (name, (_, task)) in before {
            task.abort();
            self.states.send_modify(|states| drop(states.remove(&name)));
        }
        served
    }

    /// Says that the outbox has something new.
    pub fn wake(&self) {
        self.states.send_modify(|states| states.values_mut().for_each(|state| state.idle = false));
        self.wake.send_replace(());
    }

    /// How it goes with each Provider that is served.
    pub fn states(&self) -> BTreeMap<ResourceName, Sending> {
        self.states.borrow().clone()
    }

    /// Waits until all that could be sent is, or the time is up; says whether it is.
    pub async fn flush(&self, within: Duration) -> bool {
        let mut states = self.states.subscribe();
        let done = states.wait_for(|states| states.values().all(|state| state.idle));
        tokio::time::timeout(within, done).await.is_ok_and(|done| done.is_ok())
    }

    fn begin(&self, endpoint: Endpoint) -> reqwest::Result<AbortHandle> {
        let client = send::client(&endpoint)?;
        self.states.send_modify(|states| drop(states.insert(endpoint.provider.clone(), Sending::default())));
        let line = Line {
            client,
            endpoint,
            store: self.store.clone(),
            instance: self.instance.clone(),
            pace: self.pace,
            backoff: None,
            refused: (String::new(), 0),
            states: self.states.clone(),
        };
        Ok(tokio::spawn(line.run(self.wake.subscribe())).abort_handle())
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

/// The way to one receiver.
struct Line {
    endpoint: Endpoint,
    client: reqwest::Client,
    store: Store,
    instance: Arc<str>,
    pace: Pace,
    /// Set while attempts fail.
    backoff: Option<ExponentialBackoff>,
    /// The event that was refused last, and how often.
    refused: (String, u32),
    states: watch::Sender<BTreeMap<ResourceName, Sending>>,
}

impl Line {
    async fn run(mut self, mut wake: watch::Receiver<()>) {
        loop {
            // Before the outbox is read: what is added afterwards will be seen.
            wake.mark_unchanged();
            let step = match self.store.outbox_next(self.endpoint.provider.clone()).await {
                Ok(None) => {
                    // What came since is about to be read.
                    if !wake.has_changed().unwrap_or(false) {
                        self.say(|state| state.idle = true);
                    }
                    match wake.changed().await {
                        Ok(()) => Ok(()),
                        Err(_) => return,
                    }
                }
                Ok(Some(queued)) => self.attempt(queued).await,
                Err(error) => Err(error),
            };
            match step {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(provider = %self.endpoint.provider, error = chain(&error), "the outbox cannot be read or written");
                    self.pause(&chain(&error), None).await;
                }
            }
        }
    }

    /// Tries once, and does what the answer asks for.
    async fn attempt(&mut self, queued: Queued) -> Result<(), StoreError> {
        match send::post(&self.client, &self.endpoint, &queued.event, &self.instance).await {
            Answer::Taken => {
                if self.backoff.take().is_some() {
                    tracing::info!(provider = %self.endpoint.provider, "reports are taken again");
                }
                self.say(|state| {
                    *state = Sending { idle: false, last_sent: Some(Timestamp::now()), failing: None, next_try: None };
                });
                self.take_out(queued).await
            }
            Answer::Later { why, after } => {
                self.pause(&why, after).await;
                Ok(())
            }
            Answer::Refused(why) => {
                if self.refused.0 != queued.event.id {
                    self.refused = (queued.event.id.clone(), 0);
                }
                self.refused.1 += 1;
                if self.refused.1 < REFUSED_TRIES {
                    self.pause(&why, None).await;
                    return Ok(());
                }
                self.set_aside(queued, why).await
            }
        }
    }

    /// Takes a row out that its receiver has. As long as that fails (a full disk), nothing more is sent: the receiver
    /// would get the same again and again.
    async fn take_out(&mut self, sent: Queued) -> Result<(), StoreError> {
        loop {
            match self.store.outbox_done(sent.clone()).await {
                Err(error) if !matches!(error, StoreError::Closed) => {
                    self.pause(&chain(&error), None).await;
                }
                done => return done,
            }
        }
    }

    async fn set_aside(&mut self, refused: Queued, why: String) -> Result<(), StoreError> {
        let provider = &self.endpoint.provider;
        tracing::error!(%provider, event = refused.event.id, why, "a report is set aside: its receiver will not have it");
        let said = Event {
            id: Uuid::now_v7().to_string(),
            about: Resource::new(ResourceKind::Provider, provider.clone()),
            uid: String::new(),
            severity: Severity::Error,
            at: Timestamp::now(),
            reason: REPORT_REFUSED.to_owned(),
            message: format!(
                "the report {} about {} ({}) was set aside after {REFUSED_TRIES} tries: {why}",
                refused.event.id, refused.event.about, refused.event.reason
            ),
            metadata: BTreeMap::new(),
        };
        self.backoff = None;
        self.store.outbox_set_aside(refused, why, said).await
    }

    /// Waits before the next attempt; says why at the first one that failed.
    async fn pause(&mut self, why: &str, asked: Option<Duration>) {
        let pace = self.pace;
        let first = self.backoff.is_none();
        let backoff = self.backoff.get_or_insert_with(|| {
            ExponentialBuilder::new().with_min_delay(pace.first).with_max_delay(pace.most).without_max_times().build()
        });
        let ceiling = backoff.next().unwrap_or(pace.most);
        let wait = asked.unwrap_or_default().max(ceiling.mul_f64(fastrand::f64()));
        let provider = &self.endpoint.provider;
        if first {
            tracing::warn!(%provider, why, "a report could not be sent; it waits in the outbox");
        } else {
            tracing::debug!(%provider, why, ?wait, "still not sent");
        }
        let next_try = Timestamp::now().checked_add(wait).ok();
        self.say(|state| {
            state.failing = Some(why.to_owned());
            state.next_try = next_try;
        });
        tokio::time::sleep(wait).await;
    }

    fn say(&self, change: impl FnOnce(&mut Sending)) {
        self.states.send_modify(|states| change(states.entry(self.endpoint.provider.clone()).or_default()));
    }
}

#[cfg(test)]
mod tests;
