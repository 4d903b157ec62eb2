//! Providers and Alerts: where reports go, and which.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use wickie_model::{ConditionStatus, JsonText, Resource, ResourceKind, ResourceName, condition_type, reason};

use super::Drive;
use crate::chain::chain;
use crate::config::notification::{Alert, Provider};
use crate::config::{Declared, Secrets};
use crate::report::Endpoint;
use crate::store::Origin;

/// How often the Secrets of a Provider are looked for again that cannot be used without.
const AGAIN: Duration = Duration::from_secs(30);

/// A Provider.
pub(super) struct ProviderState {
    endpoint: Option<Endpoint>,
    due: Option<Duration>,
}

impl Drive {
    pub(super) fn provider_declared(&mut self, declared: &Declared) {
        let name = declared.resource.name.clone();
        self.providers.entry(name).or_insert(ProviderState { endpoint: None, due: None });
        self.find_secrets(&declared.resource);
    }

    pub(super) fn provider_secrets(&mut self, declared: &Declared, secrets: &Secrets) {
        let name = declared.resource.name.clone();
        let (endpoint, closed, wrong) = match Provider::new(declared) {
            Err(error) => (None, true, Some(error.to_string())),
            Ok(provider) if provider.suspend || self.is_suspended(declared) => (None, true, None),
            Ok(provider) => {
                let find = |named: &Option<crate::config::Named>| named.as_ref().and_then(|named| secrets.get(named));
                match Endpoint::new(&provider, find(&provider.secret), find(&provider.cert_secret)) {
                    Ok(endpoint) => (Some(endpoint), false, None),
                    Err(error) => (None, false, Some(chain(&error))),
                }
            }
        };
        {
            let mut announcer = self.shared.announcer.borrow_mut();
            if closed {
                announcer.closed.insert(name.clone())
            } else {
                announcer.closed.remove(&name)
            };
        }
        let due = (wrong.is_some() && !closed).then(|| self.clock.now() + AGAIN);
        self.providers.insert(name, ProviderState { endpoint, due });
        self.say_usable(&declared.resource, wrong);
        self.serve_endpoints();
    }

    pub(super) fn provider_without_secrets(&mut self, name: &ResourceName, why: String) {
        if let Some(state) = self.providers.get_mut(name) {
            state.due = Some(self.clock.now() + AGAIN);
        }
        tracing::debug!(provider = %name, why, "its Secrets cannot be read");
    }

    pub(super) fn provider_removed(&mut self, name: &ResourceName) {
        self.providers.remove(name);
        self.shared.announcer.borrow_mut().closed.remove(name);
        self.serve_endpoints();
    }

    pub(super) fn alert_declared(&mut self, declared: &Declared) {
        let name = declared.resource.name.clone();
        let wrong = match Alert::new(declared, &self.node) {
            Ok(alert) => {
                self.shared.announcer.borrow_mut().alerts.insert(name, alert);
                None
            }
            Err(error) => {
                self.shared.announcer.borrow_mut().alerts.remove(&name);
                Some(error.to_string())
            }
        };
        self.say_usable(&declared.resource, wrong);
    }

    /// Until the cluster has been read, the Alerts that it declared before the restart serve, and its Providers that were
    /// suspended get nothing.
    pub(super) fn remember_alerts(&mut self) {
        let mut announcer = self.shared.announcer.borrow_mut();
        for record in self.records.values().filter(|record| record.origin == Origin::Cluster) {
            let Some(spec) = record.seen.as_ref().map(JsonText::value) else { continue };
            let (kind, name) = (record.resource.kind, record.resource.name.clone());
            let head = json!({"apiVersion": kind.api_version(), "metadata": {"name": name.name}, "spec": spec});
            let Ok(declared) = Declared::new(kind, &head, Origin::Cluster, &name.namespace) else { continue };
            match kind {
                ResourceKind::Alert => {
                    if let Ok(alert) = Alert::new(&declared, &self.node) {
                        announcer.alerts.entry(name).or_insert(alert);
                    }
                }
                ResourceKind::Provider if declared.suspended() || record.suspended => {
                    announcer.closed.insert(name);
                }
                _ => {}
            }
        }
    }

    /// Once the cluster has been read, what was said before that reaches those who were not known.
    pub(super) fn route_early(&mut self) {
        if self.cluster_input.is_read() {
            let late = self.shared.announcer.borrow().route_early();
            self.batch.late.extend(late);
        }
    }

    pub(super) fn tick_providers(&mut self, now: Duration) {
        let due = |state: &ProviderState| state.due.is_some_and(|due| due <= now);
        let names: Vec<_> =
            self.providers.iter().filter(|(_, state)| due(state)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(state) = self.providers.get_mut(&name) {
                state.due = None;
            }
            self.find_secrets(&Resource::new(ResourceKind::Provider, name));
        }
    }

    pub(super) fn providers_wake(&self) -> Option<Duration> {
        self.providers.values().filter_map(|state| state.due).min()
    }

    fn serve_endpoints(&mut self) {
        let endpoints: Vec<_> = self.providers.values().filter_map(|state| state.endpoint.clone()).collect();
        if let Err(error) = self.reporter.serve(endpoints) {
            tracing::error!(%error, "reports cannot be sent");
        }
    }

    pub(super) fn say_usable(&mut self, resource: &Resource, wrong: Option<String>) {
        let now = Timestamp::now();
        let before = self.records.get(resource).map(|record| record.status.clone());
        self.set_status(resource, |conditions, _, generation| match &wrong {
            None => conditions.set(
                condition_type::READY,
                ConditionStatus::True,
                reason::SUCCEEDED,
                "Initialized",
                generation,
                now,
            ),
            Some(why) => {
                conditions.set(
                    condition_type::READY,
                    ConditionStatus::False,
                    reason::INVALID_SPEC,
                    why,
                    generation,
                    now,
                );
            }
        });
        if let (Some(why), true) = (wrong, self.records.get(resource).map(|record| &record.status) != before.as_ref()) {
            tracing::error!(%resource, "{why}");
        }
    }
}
