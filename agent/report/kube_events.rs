//! Kubernetes Events for objects that live in the cluster: what `kubectl describe` shows beneath them.
//!
//! Best effort, as everywhere in Kubernetes: the API server forgets them after an hour. What must not be lost goes through
//! the outbox. Source: `fluxcd/pkg/runtime/events/recorder.go` (type, annotations), core/v1 `Event`.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, PostParams};
use wickie_model::{Event, Severity};

use super::CONTROLLER;

/// The longest message; `events.k8s.io` allows no more, and longer ones are cut for both.
const MESSAGE: usize = 1_024;

/// How long writing one may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The Kubernetes Event for `event`; `instance` is the node or pod that reports. Its name is made from the event's id, so
/// that writing it twice makes one.
pub fn kube_event(event: &Event, instance: &str) -> core::Event {
    let name = &event.about.name;
    let at = Time(event.at);
    let group = event.about.kind.group();
    let annotations: BTreeMap<_, _> =
        event.metadata.iter().map(|(key, value)| (format!("{group}/{key}"), value.clone())).collect();
    core::Event {
        metadata: ObjectMeta {
            name: Some(event_name(&name.name, &event.id)),
            namespace: Some(name.namespace.clone()),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        },
        involved_object: core::ObjectReference {
            api_version: Some(event.about.kind.api_version()),
            kind: Some(event.about.kind.as_str().to_owned()),
            namespace: Some(name.namespace.clone()),
            name: Some(name.name.clone()),
            uid: Some(event.uid.clone()).filter(|uid| !uid.is_empty()),
            ..core::ObjectReference::default()
        },
        type_: Some(kubernetes_type(event.severity).to_owned()),
        reason: Some(event.reason.clone()),
        message: Some(cut(&event.message, MESSAGE)),
        count: Some(1),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        source: Some(core::EventSource { component: Some(CONTROLLER.to_owned()), host: Some(instance.to_owned()) }),
        reporting_component: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..core::Event::default()
    }
}

/// Writes an Event; one that is there already is a success. Gives up after ten seconds.
pub async fn send_kube_event(client: kube::Client, event: &core::Event) -> Result<(), kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<core::Event> = Api::namespaced(client, namespace);
    let parameters = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
    match tokio::time::timeout(TIMEOUT, api.create(&parameters, event)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

fn kubernetes_type(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "Normal",
        Severity::Error => "Warning",
    }
}

/// A DNS subdomain of at most 253 characters.
fn event_name(object: &str, id: &str) -> String {
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let room = 253_usize.saturating_sub(id.len() + 1);
    let object = cut(object, room);
    format!("{}.{id}", object.trim_end_matches(['.', '-']))
}

/// The first `most` bytes at the most, never half a character.
fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use wickie_model::{Resource, ResourceKind, ResourceName};

    use super::*;

    #[test]
    fn an_event_becomes_one_that_kubectl_describe_finds() {
        let event = Event {
            id: "0199-AB".to_owned(),
            about: Resource::new(ResourceKind::GitRepository, ResourceName::new("flux-system", "x".repeat(253))),
            uid: "u-1".to_owned(),
            severity: Severity::Error,
            at: "2026-03-01T04:05:06Z".parse().unwrap(),
            reason: "GitOperationFailed".to_owned(),
            message: "ø".repeat(2_000),
            metadata: BTreeMap::from([("revision".to_owned(), "main@sha1:2dd6".to_owned())]),
        };
        let made = kube_event(&event, "node-7");
        let name = made.metadata.name.unwrap();
        assert!(name.len() == 253 && name.ends_with("x.0199ab"), "{name}");
        assert_eq!(made.type_.as_deref(), Some("Warning"));
        assert_eq!(made.message.unwrap().len(), 1_024);
        assert_eq!(made.involved_object.uid.as_deref(), Some("u-1"));
        assert_eq!(made.metadata.annotations.unwrap()["source.toolkit.fluxcd.io/revision"], "main@sha1:2dd6");
    }
}
