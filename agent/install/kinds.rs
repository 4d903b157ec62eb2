//! How kinds are served, without a cluster to ask: those built into the API server, wickie's own, and those whose CRD is at
//! hand.

use std::collections::BTreeMap;

use serde_json::Value;
use wickie_model::{Gvk, ObjectId, ResourceKind};

use crate::render::is_cluster_wide;

/// How a kind is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name in the API's paths, and in rules.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// What is known of kinds, by group and kind.
#[derive(Clone, Debug, Default)]
pub struct KnownKinds(BTreeMap<(String, String), Served>);

/// The groups that the API server itself serves objects of. Source: the API reference of Kubernetes 1.37.
const BUILT_IN: [&str; 20] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

impl KnownKinds {
    /// Takes in what a CustomResourceDefinition says; anything else says nothing.
    pub fn learn(&mut self, id: &ObjectId, body: &Value) {
        if (id.group.as_str(), id.kind.as_str()) != ("apiextensions.k8s.io", "CustomResourceDefinition") {
            return;
        }
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        if let (Some(group), Some(kind), Some(plural), Some(scope)) =
            (text("/spec/group"), text("/spec/names/kind"), text("/spec/names/plural"), text("/spec/scope"))
        {
            let served = Served { plural: plural.to_owned(), namespaced: scope == "Namespaced" };
            self.0.insert((group.to_owned(), kind.to_owned()), served);
        }
    }

    /// Takes in what a cluster has answered.
    pub fn add(&mut self, gvk: &Gvk, served: Served) {
        self.0.insert((gvk.group.clone(), gvk.kind.clone()), served);
    }

    /// How a kind is served; nothing where neither Kubernetes nor a CRD at hand says it.
    pub fn of(&self, group: &str, kind: &str) -> Option<Served> {
        if let Some(ours) = ResourceKind::ALL.into_iter().find(|ours| (ours.group(), ours.as_str()) == (group, kind)) {
            return Some(Served { plural: ours.plural().to_owned(), namespaced: true });
        }
        if BUILT_IN.contains(&group) {
            return Some(Served { plural: plural(kind), namespaced: !is_cluster_wide(group, kind) });
        }
        self.0.get(&(group.to_owned(), kind.to_owned())).cloned()
    }
}

/// The plural of a built-in kind. Source: `meta.UnsafeGuessKindToResource` in k8s.io/apimachinery.
fn plural(kind: &str) -> String {
    let singular = kind.to_lowercase();
    match singular.strip_suffix('y') {
        _ if singular == "endpoints" => singular,
        Some(stem) => format!("{stem}ies"),
        None if singular.ends_with('s') => format!("{singular}es"),
        None => format!("{singular}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_known_from_the_server_itself_from_ours_and_from_their_crds() {
        let mut kinds = KnownKinds::default();
        let of = |kinds: &KnownKinds, group: &str, kind: &str| {
            kinds.of(group, kind).map(|served| (served.plural, served.namespaced))
        };
        let (yes, no) = (|name: &str| Some((name.to_owned(), true)), |name: &str| Some((name.to_owned(), false)));
        assert_eq!(of(&kinds, "networking.k8s.io", "NetworkPolicy"), yes("networkpolicies"));
        assert_eq!(of(&kinds, "networking.k8s.io", "IngressClass"), no("ingressclasses"));
        assert_eq!(of(&kinds, "", "Endpoints"), yes("endpoints"));
        assert_eq!(of(&kinds, "source.toolkit.fluxcd.io", "GitRepository"), yes("gitrepositories"));
        // Served from a CRD, though its group looks like the server's own.
        assert_eq!(of(&kinds, "gateway.networking.k8s.io", "Gateway"), None);
        let id = ObjectId::new("apiextensions.k8s.io", "CustomResourceDefinition", "", "tillies.example.com");
        let names = json!({"kind": "Till", "plural": "tillies"});
        kinds.learn(&id, &json!({"spec": {"group": "example.com", "scope": "Cluster", "names": names}}));
        assert_eq!(of(&kinds, "example.com", "Till"), no("tillies"));
    }
}
