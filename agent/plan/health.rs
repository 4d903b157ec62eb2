//! Whether a live object is what its spec asks for.
//!
//! The rules are kstatus': for the built-in kinds one by one, for the rest by the conventions for conditions.
//! Source: `fluxcd/cli-utils/pkg/kstatus/status/{core,generic}.go`.

use serde_json::Value;
use wickie_model::{Health, Verdict};

/// The fields of a spec that any of these rules looks at: whoever judges many objects need not read the rest.
pub const SPEC: [&str; 4] = ["clusterIP", "replicas", "type", "updateStrategy"];

/// The types of the conditions that any of them looks at; of each, type, status, reason and message.
pub const CONDITIONS: [&str; 11] = [
    "Available",
    "Complete",
    "Established",
    "Failed",
    "NamesAccepted",
    "Progressing",
    "Ready",
    "Reconciling",
    "ReplicaFailure",
    "Stalled",
    "Suspended",
];

/// The health of `object`, of which group and kind are given.
pub fn health(group: &str, kind: &str, object: &Value) -> Verdict {
    if let Some(verdict) = terminating(object).or_else(|| unobserved(object)) {
        return verdict;
    }
    match (group, kind) {
        ("apps" | "extensions", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") => replica_set(object),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("", "Service") => service(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("policy", "PodDisruptionBudget") | ("batch", "CronJob") => current("it is there"),
        _ => by_conditions(object),
    }
}

fn current(message: &str) -> Verdict {
    Verdict::new(Health::Current, message)
}

fn in_progress(message: impl Into<String>) -> Verdict {
    Verdict::new(Health::InProgress, message)
}

fn failed(message: impl Into<String>) -> Verdict {
    Verdict::new(Health::Failed, message)
}

fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "/type") == type_)
}

fn condition_is(object: &Value, type_: &str, status: &str) -> bool {
    condition(object, type_).is_some_and(|condition| text(condition, "/status") == status)
}

fn condition_message(object: &Value, type_: &str) -> String {
    let Some(condition) = condition(object, type_) else { return type_.to_owned() };
    match (text(condition, "/reason"), text(condition, "/message")) {
        ("", "") => type_.to_owned(),
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// Its deletion was asked for.
pub(crate) fn terminating(object: &Value) -> Option<Verdict> {
    let going = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    going.then(|| Verdict::new(Health::Terminating, "it is being deleted"))
}

/// The controller has not seen the newest spec.
fn unobserved(object: &Value) -> Option<Verdict> {
    let observed = number(object, "/status/observedGeneration")?;
    let generation = number(object, "/metadata/generation")?;
    (observed < generation)
        .then(|| in_progress(format!("generation {generation} is not observed, the last was {observed}")))
}

fn by_conditions(object: &Value) -> Verdict {
    if condition_is(object, "Stalled", "True") {
        return failed(condition_message(object, "Stalled"));
    }
    if condition_is(object, "Reconciling", "True") {
        return in_progress(condition_message(object, "Reconciling"));
    }
    match condition(object, "Ready").map(|condition| text(condition, "/status")) {
        Some("True") => current("Ready"),
        Some(_) => in_progress(condition_message(object, "Ready")),
        None => current("it is there"),
    }
}

fn deployment(object: &Value) -> Verdict {
    let progressing = condition(object, "Progressing");
    if progressing.is_some_and(|condition| text(condition, "/reason") == "ProgressDeadlineExceeded") {
        return failed(condition_message(object, "Progressing"));
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let count = |name: &str| number(object, &format!("/status/{name}")).unwrap_or(0);
    if let Some(verdict) = short_of(wanted, count("replicas"), "made")
        .or_else(|| short_of(wanted, count("updatedReplicas"), "updated"))
        .or_else(|| {
            (count("replicas") > wanted)
                .then(|| in_progress(format!("{} old replicas are going", count("replicas") - wanted)))
        })
        .or_else(|| short_of(wanted, count("availableReplicas"), "available"))
        .or_else(|| short_of(wanted, count("readyReplicas"), "ready"))
    {
        return verdict;
    }
    if !condition_is(object, "Available", "True") {
        return in_progress("it is not available yet");
    }
    current("all replicas are available")
}

/// `2 of 3 replicas updated`, where there are too few.
fn short_of(wanted: i64, have: i64, what: &str) -> Option<Verdict> {
    (have < wanted).then(|| in_progress(format!("{have} of {wanted} replicas {what}")))
}

fn stateful_set(object: &Value) -> Verdict {
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return current("its strategy is OnDelete");
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let count = |name: &str| number(object, &format!("/status/{name}")).unwrap_or(0);
    if let Some(verdict) = short_of(wanted, count("replicas"), "made")
        .or_else(|| short_of(wanted, count("readyReplicas"), "ready"))
        .or_else(|| (count("replicas") > wanted).then(|| in_progress("old replicas are going")))
    {
        return verdict;
    }
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    if partition > 0 {
        return short_of(wanted - partition, count("updatedReplicas"), "updated")
            .unwrap_or_else(|| current("the partition is updated"));
    }
    if text(object, "/status/currentRevision") != text(object, "/status/updateRevision") {
        return in_progress("replicas of the old revision are left");
    }
    short_of(wanted, count("currentReplicas"), "current").unwrap_or_else(|| current("all replicas are ready"))
}

fn daemon_set(object: &Value) -> Verdict {
    if number(object, "/status/observedGeneration").is_none() {
        return in_progress("its controller has not seen it");
    }
    let count = |name: &str| number(object, &format!("/status/{name}")).unwrap_or(0);
    let wanted = count("desiredNumberScheduled");
    [
        ("currentNumberScheduled", "scheduled"),
        ("updatedNumberScheduled", "updated"),
        ("numberAvailable", "available"),
        ("numberReady", "ready"),
    ]
    .into_iter()
    .find_map(|(name, what)| short_of(wanted, count(name), what))
    .unwrap_or_else(|| current("it is on every node"))
}

fn replica_set(object: &Value) -> Verdict {
    if condition_is(object, "ReplicaFailure", "True") {
        return in_progress(condition_message(object, "ReplicaFailure"));
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let count = |name: &str| number(object, &format!("/status/{name}")).unwrap_or(0);
    [("fullyLabeledReplicas", "labelled"), ("availableReplicas", "available"), ("readyReplicas", "ready")]
        .into_iter()
        .find_map(|(name, what)| short_of(wanted, count(name), what))
        .unwrap_or_else(|| current("all replicas are available"))
}

fn job(object: &Value) -> Verdict {
    if condition_is(object, "Failed", "True") {
        return failed(condition_message(object, "Failed"));
    }
    if condition_is(object, "Complete", "True") {
        return current("it is complete");
    }
    if condition_is(object, "Suspended", "True") {
        return current("it is suspended");
    }
    // kstatus calls a job current once it runs; a health check that waits for a job waits for its end, as Flux does.
    in_progress(format!(
        "{} running, {} succeeded",
        number(object, "/status/active").unwrap_or(0),
        number(object, "/status/succeeded").unwrap_or(0)
    ))
}

fn pod(object: &Value) -> Verdict {
    match text(object, "/status/phase") {
        "Succeeded" => current("it has completed"),
        "Failed" => failed(format!("it has failed: {}", text(object, "/status/message"))),
        _ if condition_is(object, "Ready", "True") => current("it is ready"),
        _ => match crash_loop(object) {
            Some(container) => failed(format!("container {container} keeps crashing")),
            None => in_progress(condition_message(object, "Ready")),
        },
    }
}

fn crash_loop(pod: &Value) -> Option<&str> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|pointer| pod.pointer(pointer)?.as_array())
        .flatten()
        .find(|status| text(status, "/state/waiting/reason") == "CrashLoopBackOff")
        .map(|status| text(status, "/name"))
}

fn claim(object: &Value) -> Verdict {
    match text(object, "/status/phase") {
        "Bound" => current("it is bound"),
        phase => in_progress(format!("its phase is {phase:?}")),
    }
}

fn service(object: &Value) -> Verdict {
    if text(object, "/spec/type") == "LoadBalancer" && text(object, "/spec/clusterIP").is_empty() {
        return in_progress("it has no cluster IP yet");
    }
    current("it is there")
}

fn definition(object: &Value) -> Verdict {
    if condition_is(object, "NamesAccepted", "False") {
        return failed(condition_message(object, "NamesAccepted"));
    }
    if condition_is(object, "Established", "True") {
        return current("it is established");
    }
    match condition(object, "Established") {
        Some(condition) if text(condition, "/reason") != "Installing" => {
            failed(condition_message(object, "Established"))
        }
        _ => in_progress("it is being installed"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(group: &str, kind: &str, mut object: Value) -> Health {
        let verdict = health(group, kind, &object);
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|field, _| SPEC.contains(&field.as_str()));
        }
        if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            conditions.retain(|condition| CONDITIONS.contains(&text(condition, "/type")));
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                condition.retain(|field, _| matches!(field.as_str(), "type" | "status" | "reason" | "message"));
            }
        }
        assert_eq!(health(group, kind, &object), verdict, "judged by a field that is not named");
        verdict.health
    }

    #[test]
    fn a_stateful_set_goes_by_its_strategy() {
        let object = |strategy: Value, updated: i64| {
            json!({
                "spec": {"replicas": 3, "serviceName": "till", "updateStrategy": strategy},
                "status": {"replicas": 3, "readyReplicas": 3, "updatedReplicas": updated, "currentReplicas": 3,
                           "currentRevision": "a", "updateRevision": "b"}
            })
        };
        let of = |strategy, updated| of("apps", "StatefulSet", object(strategy, updated));
        assert_eq!(of(json!({"type": "OnDelete"}), 0), Health::Current);
        assert_eq!(of(json!({"type": "RollingUpdate"}), 3), Health::InProgress);
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        assert_eq!(of(partition.clone(), 0), Health::InProgress);
        assert_eq!(of(partition, 1), Health::Current);
    }

    #[test]
    fn a_load_balancer_is_waited_for_until_it_has_an_address() {
        let service = |ip: &str| json!({"spec": {"type": "LoadBalancer", "clusterIP": ip, "ports": [{"port": 80}]}});
        assert_eq!(of("", "Service", service("")), Health::InProgress);
        assert_eq!(of("", "Service", service("10.0.0.1")), Health::Current);
        assert_eq!(of("", "Service", json!({"spec": {"type": "ClusterIP"}})), Health::Current);
    }

    #[test]
    fn a_deployment_is_current_only_when_every_new_replica_is_available() {
        let mut object = json!({
            "metadata": {"generation": 2}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
                       "conditions": [{"type": "Available", "status": "True"}]}
        });
        assert_eq!(of("apps", "Deployment", object.clone()), Health::Current);
        for (pointer, value) in [
            ("/status/observedGeneration", json!(1)),
            ("/status/replicas", json!(3)),
            ("/status/updatedReplicas", json!(1)),
            ("/status/availableReplicas", json!(1)),
            ("/status/conditions/0/status", json!("False")),
        ] {
            let mut other = object.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert_eq!(of("apps", "Deployment", other), Health::InProgress, "{pointer}");
        }
        object["status"]["conditions"] =
            json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
        assert_eq!(of("apps", "Deployment", object), Health::Failed);
    }

    #[test]
    fn a_job_is_waited_for_until_it_ends() {
        let job = |type_: &str| json!({"status": {"conditions": [{"type": type_, "status": "True"}]}});
        assert_eq!(of("batch", "Job", json!({"status": {"active": 1}})), Health::InProgress);
        assert_eq!(of("batch", "Job", job("Complete")), Health::Current);
        assert_eq!(of("batch", "Job", job("Failed")), Health::Failed);
    }

    #[test]
    fn unknown_kinds_go_by_their_conditions() {
        let with = |type_: &str, status: &str| json!({"status": {"conditions": [{"type": type_, "status": status}]}});
        assert_eq!(of("example.com", "Till", json!({})), Health::Current);
        assert_eq!(of("example.com", "Till", with("Ready", "True")), Health::Current);
        assert_eq!(of("example.com", "Till", with("Ready", "False")), Health::InProgress);
        assert_eq!(of("example.com", "Till", with("Stalled", "True")), Health::Failed);
        assert_eq!(of("example.com", "Till", with("Reconciling", "True")), Health::InProgress);
    }

    #[test]
    fn a_crashing_pod_has_failed() {
        let pod = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "till", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        assert_eq!(of("", "Pod", pod), Health::Failed);
    }

    #[test]
    fn what_is_being_deleted_is_not_healthy() {
        assert_eq!(
            of("", "ConfigMap", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
            Health::Terminating
        );
    }
}
