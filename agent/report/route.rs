//! Which Providers must hear of an event.
//!
//! Source: `fluxcd/notification-controller`, `internal/server/event_handlers.go` (`filterAlertsForEvent`,
//! `eventMatchesAlertSource`, `combineEventMetadata`).

use std::collections::{BTreeMap, BTreeSet};

use wickie_model::{Event, ResourceName};

use crate::config::notification::{Alert, EventSource};
use crate::store::Delivery;

/// What is known of the object that an event is about, beside its name.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its labels, for the `matchLabels` of an Alert.
    pub labels: &'a BTreeMap<String, String>,
    /// Its annotations: those under `event.toolkit.fluxcd.io/` go along with its events.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Annotations of an object that go along with its events.
const EVENT_ANNOTATION: &str = "event.toolkit.fluxcd.io/";

/// Who must hear of `event`, each Provider once, in the order of the Alerts.
///
/// `closed` are the Providers that are suspended or that wickie cannot serve: nothing is kept for them, as in Flux. A
/// Provider that is merely missing is kept for: it may be there again in a minute.
///
/// Where several Alerts lead to one Provider, Flux sends the same event several times; here it is sent once, with the
/// metadata of all of them, the first Alert's value where they differ.
pub fn route<'a>(
    event: &Event,
    subject: Subject<'_>,
    alerts: impl IntoIterator<Item = &'a Alert>,
    closed: &BTreeSet<ResourceName>,
) -> Vec<Delivery> {
    let mut deliveries: Vec<Delivery> = Vec::new();
    for alert in alerts {
        if closed.contains(&alert.provider) || !selects(alert, event, subject) {
            continue;
        }
        let at = deliveries.iter().position(|delivery| delivery.provider == alert.provider).unwrap_or_else(|| {
            deliveries.push(Delivery { provider: alert.provider.clone(), event: event.clone() });
            deliveries.len() - 1
        });
        add_missing(&mut deliveries[at].event.metadata, &alert.metadata);
    }
    // The object's own annotations come last: Flux lets an Alert's value win over them.
    let own: BTreeMap<_, _> = subject
        .annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(EVENT_ANNOTATION)?.to_owned(), value.clone())))
        .collect();
    for delivery in &mut deliveries {
        add_missing(&mut delivery.event.metadata, &own);
    }
    deliveries
}

/// Whether an Alert asks for an event.
fn selects(alert: &Alert, event: &Event, subject: Subject<'_>) -> bool {
    !alert.suspend
        && event.severity >= alert.severity
        && alert.sources.iter().any(|source| is_about(source, event, subject))
        && (alert.inclusion.is_empty() || alert.inclusion.iter().any(|regex| regex.is_match(&event.message)))
        && !alert.exclusion.iter().any(|regex| regex.is_match(&event.message))
}

fn is_about(source: &EventSource, event: &Event, subject: Subject<'_>) -> bool {
    source.kind == event.about.kind.as_str()
        && source.namespace == event.about.name.namespace
        && source.name.as_ref().is_none_or(|name| *name == event.about.name.name)
        && source.labels.iter().all(|(key, value)| subject.labels.get(key) == Some(value))
}

fn add_missing(metadata: &mut BTreeMap<String, String>, more: &BTreeMap<String, String>) {
    for (key, value) in more {
        metadata.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use wickie_model::{Resource, ResourceKind, Severity};

    use super::*;
    use crate::config::{Declared, NodeConfig};
    use crate::store::Origin;

    fn event(severity: Severity, message: &str) -> Event {
        Event {
            id: "1".to_owned(),
            about: Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop")),
            uid: String::new(),
            severity,
            at: Timestamp::UNIX_EPOCH,
            reason: "Progressing".to_owned(),
            message: message.to_owned(),
            metadata: map(&[("revision", "main@sha1:1")]),
        }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn alert(yaml: &str) -> Alert {
        let spec: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
        let (kind, metadata) = (ResourceKind::Alert, json!({"name": "alert"}));
        let document = json!({"apiVersion": kind.api_version(), "metadata": metadata, "spec": spec});
        let declared = Declared::new(kind, &document, Origin::File, "flux-system").unwrap();
        Alert::new(&declared, &NodeConfig::default()).unwrap()
    }

    const ALL: &str = "providerRef: {name: ci}, eventSources: [{kind: Kustomization, name: '*'}]";

    fn routed(event: &Event, alerts: &[Alert]) -> Vec<Delivery> {
        let (labels, annotations) = (map(&[("team", "shop")]), map(&[("event.toolkit.fluxcd.io/env", "annotated")]));
        let subject = Subject { labels: &labels, annotations: &annotations };
        route(event, subject, alerts, &BTreeSet::from([ResourceName::new("flux-system", "closed")]))
    }

    #[test]
    fn an_alert_selects_by_kind_name_namespace_labels_severity_and_message() {
        let info = event(Severity::Info, "applied shop");
        for (yaml, selected) in [
            (format!("{{{ALL}}}"), true),
            (format!("{{{ALL}, suspend: true}}"), false),
            (format!("{{{ALL}, eventSeverity: error}}"), false),
            (format!("{{{ALL}, inclusionList: ['^applied', nothing]}}"), true),
            (format!("{{{ALL}, inclusionList: [nothing]}}"), false),
            (format!("{{{ALL}, exclusionList: ['shop$']}}"), false),
            ("{providerRef: {name: closed}, eventSources: [{kind: Kustomization, name: '*'}]}".to_owned(), false),
            ("{providerRef: {name: ci}, eventSources: [{kind: Kustomization, name: shop}]}".to_owned(), true),
            ("{providerRef: {name: ci}, eventSources: [{kind: Kustomization, name: till}]}".to_owned(), false),
            ("{providerRef: {name: ci}, eventSources: [{kind: GitRepository, name: shop}]}".to_owned(), false),
            ("{providerRef: {name: ci}, eventSources: [{kind: Kustomization, name: '*', namespace: apps}]}".to_owned(), false),
            ("{providerRef: {name: ci}, eventSources: [{kind: Kustomization, name: '*', matchLabels: {team: shop}}]}".to_owned(), true),
            ("{providerRef: {name: ci}, eventSources: [{kind: Kustomization, name: '*', matchLabels: {team: till}}]}".to_owned(), false),
        ] {
            assert_eq!(!routed(&info, &[alert(&yaml)]).is_empty(), selected, "{yaml}");
        }
        let error = event(Severity::Error, "");
        assert_eq!(routed(&error, &[alert(&format!("{{{ALL}, eventSeverity: error}}"))]).len(), 1);
    }

    #[test]
    fn two_alerts_to_one_provider_are_one_report_with_the_metadata_of_both() {
        let alerts = [
            alert(&format!("{{{ALL}, summary: north, eventMetadata: {{revision: overridden}}}}")),
            alert(&format!("{{{ALL}, eventMetadata: {{summary: south, env: prod}}}}")),
        ];
        let deliveries = routed(&event(Severity::Info, ""), &alerts);
        assert_eq!(deliveries.len(), 1);
        let want = map(&[("revision", "main@sha1:1"), ("summary", "north"), ("env", "prod")]);
        assert_eq!(deliveries[0].event.metadata, want);
        let alone = routed(&event(Severity::Info, ""), &[alert(&format!("{{{ALL}}}"))]);
        assert_eq!(alone[0].event.metadata["env"], "annotated");
    }
}
