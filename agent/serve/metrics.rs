//! What `/metrics` shows, for Prometheus: OpenMetrics text.
//!
//! Names are Flux's where Flux has them (`gotk_*`), so that dashboards go on working; the rest is `wickie_*`. What is
//! counted since the start lives here; everything else is read off the status at each scrape, so that it agrees with
//! `wickie status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use wickie_model::{ConditionStatus, Resource, ResourceKind, ResourceName};

use super::view::Status;
use crate::source::Traffic;
use crate::store::StoreSize;

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Number = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

/// What is counted since the agent's start. Clones count together.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counted>);

#[derive(Default)]
struct Counted {
    durations: Arc<Durations>,
    received: Family<Labels, Counter>,
    sent: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    hooks: Family<Labels, Counter>,
}

/// How long runs and polls took, by object. There may be thousands of them, so each is kept as small as can be.
#[derive(Debug, Default)]
struct Durations(Mutex<BTreeMap<Resource, Histogram>>);

/// How many buckets there are: below 10 ms, 20 ms and so on to 164 s, and above.
const BUCKETS: usize = 16;

#[derive(Clone, Debug, Default)]
struct Histogram {
    sum: f64,
    counts: [u32; BUCKETS],
}

/// The upper bound of a bucket, in seconds.
fn bound(bucket: usize) -> f64 {
    if bucket + 1 < BUCKETS { 0.01 * f64::from(1_u32 << bucket) } else { f64::INFINITY }
}

impl Durations {
    fn note(&self, resource: Resource, seconds: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = all.entry(resource).or_default();
        histogram.sum += seconds;
        if let Some(bucket) = (0..BUCKETS).find(|bucket| seconds <= bound(*bucket)) {
            histogram.counts[bucket] = histogram.counts[bucket].saturating_add(1);
        }
    }

    fn forget(&self, resource: &Resource) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }
}

impl Collector for Durations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, help) = ("gotk_reconcile_duration_seconds", "How long runs and polls took.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (Resource { kind, name }, Histogram { sum, counts }) in &*all {
            let buckets: Vec<_> = counts.iter().enumerate().map(|(at, count)| (bound(at), u64::from(*count))).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels = of(*kind, name);
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(*sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What is read off at a scrape, beside the status.
#[derive(Clone, Debug, Default)]
pub(super) struct Scraped {
    pub(super) size: StoreSize,
    pub(super) most: u64,
    /// Requests to the API server, by method and status; 0 where there was no answer.
    pub(super) api: Vec<((String, u16), u64)>,
}

impl Metrics {
    /// How long a run or a poll took.
    pub fn took(&self, kind: ResourceKind, name: &ResourceName, duration: Duration) {
        self.0.durations.note(Resource::new(kind, name.clone()), duration.as_secs_f64());
    }

    /// What a poll has cost.
    pub fn spent(&self, name: &ResourceName, traffic: &Traffic) {
        let labels = named(name);
        self.0.received.get_or_create(&labels).inc_by(traffic.received + traffic.received_heads);
        self.0.sent.get_or_create(&labels).inc_by(traffic.sent + traffic.sent_heads);
        self.0.requests.get_or_create(&labels).inc_by(traffic.requests);
    }

    /// A webhook came, and what became of it.
    pub(super) fn hook(&self, receiver: &ResourceName, result: &'static str) {
        let mut labels = named(receiver);
        labels.push(("result", result.to_owned()));
        self.0.hooks.get_or_create(&labels).inc();
    }

    /// An object is no more: neither are its figures.
    pub fn forget(&self, kind: ResourceKind, name: &ResourceName) {
        self.0.durations.forget(&Resource::new(kind, name.clone()));
        if kind == ResourceKind::GitRepository {
            for family in [&self.0.received, &self.0.sent, &self.0.requests] {
                family.remove(&named(name));
            }
        }
    }

    /// The text of a scrape.
    pub(super) fn render(&self, status: &Status, scraped: &Scraped) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let Counted { durations, received, sent, requests, hooks } = &*self.0;
        registry.register_collector(Box::new(durations.clone()));
        registry.register(
            "wickie_source_received_bytes",
            "Bytes received from Git, with heads, without TLS",
            received.clone(),
        );
        registry.register("wickie_source_sent_bytes", "Bytes sent to Git", sent.clone());
        registry.register("wickie_source_requests", "Requests to Git", requests.clone());
        registry.register("wickie_hooks", "Webhooks, and what became of them", hooks.clone());
        objects(&mut registry, status);
        sources(&mut registry, status);
        outbox(&mut registry, status);
        node(&mut registry, status, scraped);
        let mut written = String::new();
        text::encode(&mut written, &registry)?;
        Ok(written)
    }
}

/// Conditions and suspension, as Flux's controllers show them.
fn objects(registry: &mut Registry, status: &Status) {
    let (ready, suspended) = (Family::<Labels, Number>::default(), Family::<Labels, Number>::default());
    let (total, unwell) = (Family::<Labels, Number>::default(), Family::<Labels, Number>::default());
    let of_sources =
        status.sources.iter().map(|one| (ResourceKind::GitRepository, &one.name, one.ready.status, one.suspended));
    let of_rest = status
        .kustomizations
        .iter()
        .map(|one| (ResourceKind::Kustomization, &one.name, one.ready.status, one.suspended));
    for (kind, name, is, is_suspended) in of_sources.chain(of_rest) {
        for state in [ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown] {
            let mut labels = of(kind, name);
            labels.extend([("type", "Ready".to_owned()), ("status", format!("{state:?}"))]);
            ready.get_or_create(&labels).set(u64::from(is == state));
        }
        suspended.get_or_create(&of(kind, name)).set(u64::from(is_suspended));
    }
    for one in &status.kustomizations {
        let Some(objects) = one.objects else { continue };
        total.get_or_create(&named(&one.name)).set(objects.total.into());
        for (state, number) in [("in_progress", objects.in_progress), ("failed", objects.failed)] {
            let mut labels = named(&one.name);
            labels.push(("state", state.to_owned()));
            unwell.get_or_create(&labels).set(number.into());
        }
    }
    registry.register("gotk_reconcile_condition", "The condition of an object: 1 for the status it has", ready);
    registry.register("gotk_suspend_status", "Whether an object is suspended", suspended);
    registry.register("wickie_kustomization_objects", "Objects that a Kustomization has in the cluster", total);
    registry.register("wickie_kustomization_unwell_objects", "Objects of it that are not well", unwell);
}

/// The link.
fn sources(registry: &mut Registry, status: &Status) {
    let (day, held) = (Family::<Labels, Number>::default(), Family::<Labels, Number>::default());
    let (spent, budget) = (Family::<Labels, Number>::default(), Family::<Labels, Number>::default());
    let contact = Family::<Labels, Seconds>::default();
    for source in &status.sources {
        let labels = named(&source.name);
        if let Some(today) = source.live.traffic.days.first() {
            for (direction, bytes) in [("received", today.received), ("sent", today.sent)] {
                let mut labels = labels.clone();
                labels.extend([("day", today.day.to_string()), ("direction", direction.to_owned())]);
                day.get_or_create(&labels).set(bytes);
            }
        }
        if let Some(at) = source.live.last_contact {
            contact.get_or_create(&labels).set(at.as_second() as f64);
        }
        held.get_or_create(&labels).set(u64::from(source.live.held.is_some()));
        if let Some(of) = &source.live.traffic.budget {
            spent.get_or_create(&labels).set(of.spent);
            budget.get_or_create(&labels).set(of.bytes);
        }
    }
    registry.register("wickie_source_day_bytes", "Bytes of the last day on which a source cost any", day);
    let waits = Family::<Labels, Number>::default();
    for one in &status.kustomizations {
        waits.get_or_create(&named(&one.name)).set(u64::from(one.held.is_some()));
    }
    registry.register("wickie_kustomization_held", "Whether something waits for an apply window", waits);
    registry.register("wickie_source_held", "Whether fetch window or budget hold a source back", held);
    registry.register("wickie_source_budget_spent_bytes", "Bytes spent of the budget in its period", spent);
    registry.register("wickie_source_budget_bytes", "The budget", budget);
    registry.register("wickie_source_last_contact_timestamp_seconds", "When the server last answered", contact);
}

fn outbox(registry: &mut Registry, status: &Status) {
    let reports = Family::<Labels, Number>::default();
    let failing = Family::<Labels, Number>::default();
    for provider in &status.providers {
        for (state, number) in
            [("waiting", provider.waiting), ("set_aside", provider.set_aside), ("dropped", provider.dropped)]
        {
            let mut labels = named(&provider.name);
            labels.push(("state", state.to_owned()));
            reports.get_or_create(&labels).set(number);
        }
        let fails = provider.sending.as_ref().is_some_and(|sending| sending.failing.is_some());
        failing.get_or_create(&named(&provider.name)).set(u64::from(fails));
    }
    registry.register("wickie_outbox_reports", "Reports in the outbox, by Provider", reports);
    registry.register("wickie_provider_failing", "Whether the last try to report to a Provider failed", failing);
}

/// The agent itself.
fn node(registry: &mut Registry, status: &Status, scraped: &Scraped) {
    let store = Family::<Labels, Number>::default();
    let StoreSize { file, free, log } = scraped.size;
    for (part, bytes) in [("file", file), ("free", free), ("log", log)] {
        store.get_or_create(&vec![("part", part.to_owned())]).set(bytes);
    }
    let most = Number::default();
    most.set(scraped.most);
    let api = Family::<Labels, Counter>::default();
    for ((method, code), number) in &scraped.api {
        let labels = vec![("method", method.clone()), ("code", code.to_string())];
        api.get_or_create(&labels).inc_by(*number);
    }
    let reachable = Number::default();
    reachable.set(u64::from(status.cluster.as_ref().is_some_and(|cluster| cluster.reachable)));
    let build = Family::<Labels, Number>::default();
    let started = Seconds::default();
    if let Some(agent) = &status.agent {
        build.get_or_create(&vec![("version", agent.version.clone())]).set(1);
        started.set(agent.since.as_second() as f64);
    }
    let resident = Number::default();
    resident.set(resident_bytes().unwrap_or_default());
    registry.register("wickie_store_bytes", "The store: its file, what is free within it, the log beside it", store);
    registry.register("wickie_store_most_bytes", "The most that its file may grow to", most);
    registry.register("wickie_api_requests", "Requests to the API server, by method and status; 0 is no answer", api);
    registry.register("wickie_cluster_reachable", "Whether the API server answers", reachable);
    registry.register("wickie_build_info", "The agent's version", build);
    registry.register("process_start_time_seconds", "When the agent started", started);
    registry.register("process_resident_memory_bytes", "Memory that the agent has", resident);
}

fn named(name: &ResourceName) -> Labels {
    vec![("namespace", name.namespace.clone()), ("name", name.name.clone())]
}

fn of(kind: ResourceKind, name: &ResourceName) -> Labels {
    vec![("kind", kind.to_string()), ("name", name.name.clone()), ("namespace", name.namespace.clone())]
}

/// `VmRSS` of proc(5), which is in KiB.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let durations = Arc::new(Durations::default());
        let shop = Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop"));
        for seconds in [0.01, 0.011, 0.02, 163.84, 1000.0] {
            durations.note(shop.clone(), seconds);
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(durations.clone()));
        let encoded = |registry: &Registry| {
            let mut text = String::new();
            text::encode(&mut text, registry).unwrap();
            text
        };
        let text = encoded(&registry);
        let labels = r#"kind="Kustomization",name="shop",namespace="flux-system""#;
        for (bucket, count) in [("0.01", 1), ("0.02", 3), ("81.92", 3), ("163.84", 4), ("+Inf", 5)] {
            let line = format!("gotk_reconcile_duration_seconds_bucket{{le=\"{bucket}\",{labels}}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains(&format!("gotk_reconcile_duration_seconds_count{{{labels}}} 5\n")), "{text}");
        assert!(text.contains("# TYPE gotk_reconcile_duration_seconds histogram\n"), "{text}");
        durations.forget(&shop);
        assert!(!encoded(&registry).contains("shop"));
    }
}
