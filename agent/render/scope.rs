//! Which built-in kinds have no namespace.

/// Whether objects of a kind belong to the whole cluster. Kinds that are not built in are taken to be namespaced, as
/// kustomize does; the API server has the last word.
///
/// Source: the API reference of Kubernetes 1.37.
pub(crate) fn is_cluster_wide(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        ("", "Namespace" | "Node" | "PersistentVolume" | "ComponentStatus")
            | ("admissionregistration.k8s.io", _)
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("apiregistration.k8s.io", "APIService")
            | ("certificates.k8s.io", "CertificateSigningRequest" | "ClusterTrustBundle")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("networking.k8s.io", "IngressClass" | "IPAddress" | "ServiceCIDR")
            | ("node.k8s.io", "RuntimeClass")
            | ("rbac.authorization.k8s.io", "ClusterRole" | "ClusterRoleBinding")
            | ("resource.k8s.io", "DeviceClass" | "ResourceSlice" | "DeviceTaintRule")
            | ("scheduling.k8s.io", "PriorityClass")
            | (
                "storage.k8s.io",
                "StorageClass" | "CSIDriver" | "CSINode" | "VolumeAttachment" | "VolumeAttributesClass"
            )
            | ("storagemigration.k8s.io", "StorageVersionMigration")
            | ("gateway.networking.k8s.io", "GatewayClass")
    )
}
