//! Which objects come before which.

use wickie_model::ObjectId;

/// The waves of an apply, in their order. Deletion goes through them backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Namespaces: everything in them needs them.
    Namespace,
    /// CustomResourceDefinitions: the next wave begins when the API serves their kinds.
    Definition,
    /// Classes, priorities and quotas: read when an object that names them is admitted.
    Class,
    /// Accounts, roles and bindings.
    Access,
    /// Configuration, storage, services: what workloads mount and call.
    Config,
    /// Workloads, and every kind that is not known here.
    Workload,
    /// Webhooks and aggregated APIs: they can refuse everything, and need their workload first.
    Webhook,
}

/// The wave that an object belongs to.
pub fn rank(id: &ObjectId) -> Rank {
    match (id.group.as_str(), id.kind.as_str()) {
        ("", "Namespace") => Rank::Namespace,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Rank::Definition,
        ("", "ResourceQuota" | "LimitRange")
        | ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass" | "CSIDriver" | "VolumeAttributesClass")
        | ("node.k8s.io", "RuntimeClass")
        | ("networking.k8s.io", "IngressClass")
        | ("gateway.networking.k8s.io", "GatewayClass") => Rank::Class,
        ("", "ServiceAccount") | ("rbac.authorization.k8s.io", _) => Rank::Access,
        ("", "ConfigMap" | "Secret" | "Service" | "Endpoints" | "PersistentVolume" | "PersistentVolumeClaim")
        | ("networking.k8s.io", "NetworkPolicy")
        | ("policy", _) => Rank::Config,
        ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", "APIService") => Rank::Webhook,
        _ => Rank::Workload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_comes_after_the_workload_that_answers_it() {
        let id = |group: &str, kind: &str| ObjectId::new(group, kind, "", "a");
        let ranks = [
            ("", "Namespace"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("scheduling.k8s.io", "PriorityClass"),
            ("rbac.authorization.k8s.io", "ClusterRole"),
            ("", "Secret"),
            ("example.com", "Till"),
            ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ]
        .map(|(group, kind)| rank(&id(group, kind)));
        assert!(ranks.is_sorted() && ranks.first() < ranks.last());
    }
}
