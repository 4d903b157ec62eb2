//! Flux's event as it goes over the wire to `generic` and `generic-hmac`.
//!
//! Source: `fluxcd/pkg/apis/event/v1beta1` (`Event`, with `corev1.ObjectReference` and `metav1.Time`) and
//! `fluxcd/notification-controller`, `internal/notifier/forwarder.go`.

use std::collections::BTreeMap;

use serde::Serialize;
use wickie_model::{Event, Severity};

use super::CONTROLLER;

/// The header with the event's id.
pub const EVENT_ID_HEADER: &str = "Wickie-Event-Id";

/// The metadata key with the event's id, for receivers that see only the body.
pub const EVENT_ID_KEY: &str = "wickie.dev/event-id";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEvent<'a> {
    involved_object: InvolvedObject<'a>,
    severity: Severity,
    timestamp: String,
    message: &'a str,
    reason: &'a str,
    metadata: BTreeMap<&'a str, &'a str>,
    reporting_controller: &'static str,
    reporting_instance: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvolvedObject<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    api_version: String,
}

/// The body of the request that reports `event`; `instance` is the node or pod that reports.
pub(super) fn body(event: &Event, instance: &str) -> Result<Vec<u8>, serde_json::Error> {
    let mut metadata: BTreeMap<&str, &str> =
        event.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    metadata.insert(EVENT_ID_KEY, &event.id);
    serde_json::to_vec(&WireEvent {
        involved_object: InvolvedObject {
            kind: event.about.kind.as_str(),
            namespace: &event.about.name.namespace,
            name: &event.about.name.name,
            uid: &event.uid,
            api_version: event.about.kind.api_version(),
        },
        severity: event.severity,
        // metav1.Time: RFC 3339 in whole seconds.
        timestamp: event.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        message: &event.message,
        reason: &event.reason,
        metadata,
        reporting_controller: CONTROLLER,
        reporting_instance: instance,
    })
}

#[cfg(test)]
mod tests {
    use wickie_model::{Resource, ResourceKind, ResourceName};

    use super::*;

    #[test]
    fn the_body_is_flux_s_event_with_our_id() {
        let event = Event {
            id: "0199".to_owned(),
            about: Resource::new(ResourceKind::Kustomization, ResourceName::new("flux-system", "shop")),
            uid: "u-1".to_owned(),
            severity: Severity::Error,
            at: "2026-03-01T04:05:06.789Z".parse().unwrap(),
            reason: "HealthCheckFailed".to_owned(),
            message: "Deployment/shop/till: 1 of 3 ready".to_owned(),
            metadata: BTreeMap::from([("revision".to_owned(), "main@sha1:2dd6".to_owned())]),
        };
        assert_eq!(
            String::from_utf8(body(&event, "node-7").unwrap()).unwrap(),
            r#"{"involvedObject":{"kind":"Kustomization","namespace":"flux-system","name":"shop","uid":"u-1","apiVersion":"kustomize.toolkit.fluxcd.io/v1"},"severity":"error","timestamp":"2026-03-01T04:05:06Z","message":"Deployment/shop/till: 1 of 3 ready","reason":"HealthCheckFailed","metadata":{"revision":"main@sha1:2dd6","wickie.dev/event-id":"0199"},"reportingController":"wickie","reportingInstance":"node-7"}"#
        );
    }
}
