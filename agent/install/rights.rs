//! The rights that the agent needs for what a repository holds, and no more. Pure: objects in, roles out.
//!
//! Each kind is given where its objects are: in a Role of each of their namespaces, or in the ClusterRole where the kind has
//! none. RBAC can neither tell objects apart by their labels nor limit a creation to a name, so a kind is the smallest unit.
//!
//! Nobody may hand out rights that they do not have. What a Role of the repository gives, the agent is given itself; what it
//! binds to without having it is allowed by `bind`, by name. Source: Kubernetes, "Using RBAC Authorization", privilege
//! escalation prevention and bootstrapping.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wickie_model::{ObjectId, ResourceKind};

use super::kinds::KnownKinds;
use super::repository::Contents;
use crate::cluster::Access;
use crate::config::secrets_named;

/// What is asked of an object that is kept.
const KEEPS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];
/// What is asked of one that somebody else's account writes.
const READS: [&str; 3] = ["get", "list", "watch"];

const RBAC: &str = "rbac.authorization.k8s.io";

/// A group, a resource, and the names that it is limited to; none is every name.
type Scope = (String, String, BTreeSet<String>);

/// Rules of one role.
#[derive(Clone, Debug, Default)]
struct Rules {
    verbs: BTreeMap<Scope, BTreeSet<&'static str>>,
    /// Rules that are passed on as they stand in the repository.
    given: Vec<Value>,
}

/// All that is given, by where it holds.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    cluster: Rules,
    namespaces: BTreeMap<String, Rules>,
    /// What whoever gives these rights should know.
    pub remarks: Vec<String>,
}

/// Kinds whose rights cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "how these are served is not known, because their CRD is not in the repository: {}; ask a cluster that has them with --kubeconfig FILE",
    .0.iter().cloned().collect::<Vec<_>>().join(", ")
)]
pub struct UnknownKinds(pub BTreeSet<String>);

impl Rules {
    fn allow(&mut self, group: &str, resource: &str, names: &[&str], verbs: &[&'static str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.verbs.entry((group.to_owned(), resource.to_owned(), names)).or_default().extend(verbs);
    }

    /// As RBAC has them: what is alike stands in one rule.
    fn to_json(&self) -> Vec<Value> {
        type Alike<'a> = (&'a str, Vec<&'a str>, Vec<&'static str>);
        let mut alike: BTreeMap<Alike<'_>, Vec<&str>> = BTreeMap::new();
        for ((group, resource, names), verbs) in &self.verbs {
            let order =
                ["bind", "create", "delete", "escalate", "get", "impersonate", "list", "patch", "update", "watch"];
            let verbs = order.into_iter().filter(|verb| verbs.contains(verb)).collect();
            let names = names.iter().map(String::as_str).collect();
            alike.entry((group, names, verbs)).or_default().push(resource);
        }
        let rule = |((group, names, verbs), resources): (Alike<'_>, Vec<&str>)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            if !names.is_empty() {
                rule["resourceNames"] = json!(names);
            }
            rule
        };
        alike.into_iter().map(rule).chain(self.given.iter().cloned()).collect()
    }
}

impl Rights {
    /// What the agent needs in its namespace `home` for `contents`. Where the CRDs are not its own (`foreign`), it must be
    /// able to see whether a Flux controller runs.
    ///
    /// # Errors
    ///
    /// Kinds of which nobody says how they are served.
    pub fn new(contents: &Contents, kinds: &KnownKinds, home: &str, foreign: bool) -> Result<Self, UnknownKinds> {
        let mut rights = Self::own(home, foreign);
        let mut unknown = BTreeSet::new();
        for kept in &contents.objects {
            let verbs: &[_] = if kept.by_itself { &KEEPS } else { &READS };
            let (id, body) = (kept.manifest.id(), kept.manifest.body());
            if !rights.object(kinds, id, verbs) {
                unknown.insert(format!("{} ({})", id.kind, id.group));
            }
            if kept.by_itself {
                rights.hands_out(contents, id, body);
            }
        }
        for kustomization in &contents.kustomizations {
            let namespace = &kustomization.name.namespace;
            if let Some(account) = &kustomization.service_account {
                rights.within(namespace).allow("", "serviceaccounts", &[account], &["impersonate"]);
            }
            for values in kustomization.values_named() {
                rights.within(&values.name.namespace).allow("", values.kind.plural(), &[&values.name.name], &READS);
            }
            for check in &kustomization.health_checks {
                if !rights.checked(kinds, &check.id) {
                    unknown.insert(format!("{} ({})", check.id.kind, check.id.group));
                }
            }
        }
        for secret in contents.declared.iter().flat_map(secrets_named) {
            rights.within(&secret.0.namespace).allow("", "secrets", &[&secret.0.name], &["get"]);
        }
        if unknown.is_empty() { Ok(rights) } else { Err(UnknownKinds(unknown)) }
    }

    /// What the agent needs in `home` to keep these objects, each by its own rights or, where it is false, by those of an
    /// account that it acts for.
    ///
    /// # Errors
    ///
    /// Kinds of which nobody says how they are served.
    pub fn to_keep<'a>(
        objects: impl Iterator<Item = (&'a ObjectId, bool)>,
        kinds: &KnownKinds,
        home: &str,
        foreign: bool,
    ) -> Result<Self, UnknownKinds> {
        let mut rights = Self::own(home, foreign);
        let mut unknown = BTreeSet::new();
        for (id, by_itself) in objects {
            if !rights.object(kinds, id, if by_itself { &KEEPS } else { &READS }) {
                unknown.insert(format!("{} ({})", id.kind, id.group));
            }
        }
        if unknown.is_empty() { Ok(rights) } else { Err(UnknownKinds(unknown)) }
    }

    /// Each single thing that is given.
    pub fn accesses(&self) -> Vec<Access> {
        let cluster = std::iter::once(("", &self.cluster));
        let all = cluster.chain(self.namespaces.iter().map(|(namespace, rules)| (namespace.as_str(), rules)));
        let mut accesses = Vec::new();
        for (namespace, rules) in all {
            for ((group, resource, names), verbs) in &rules.verbs {
                let any = names.is_empty().then(String::new);
                for name in names.iter().cloned().chain(any) {
                    accesses.extend(verbs.iter().map(|verb| Access {
                        namespace: namespace.to_owned(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        verb,
                    }));
                }
            }
        }
        accesses
    }

    /// What it needs for itself, whatever it keeps.
    fn own(home: &str, foreign: bool) -> Self {
        let mut rights = Self::default();
        let cluster = &mut rights.cluster;
        cluster.allow("apiextensions.k8s.io", "customresourcedefinitions", &[], &READS);
        for kind in ResourceKind::ALL {
            // The finalizer, `suspend` and requests are written into the object itself.
            cluster.allow(kind.group(), kind.plural(), &[], &["get", "list", "watch", "patch"]);
            cluster.allow(kind.group(), &format!("{}/status", kind.plural()), &[], &["patch"]);
        }
        // Beside the object that they tell of, wherever somebody declares one.
        cluster.allow("", "events", &[], &["create"]);
        if foreign {
            cluster.allow("apps", "deployments", &[], &["list"]);
        }
        let own = rights.within(home);
        own.allow("", "configmaps", &["wickie-floors"], &["get", "create", "patch"]);
        // Those of the sources that are declared by hand, beside the agent, or in its files.
        own.allow("", "secrets", &[], &["get"]);
        own.allow("coordination.k8s.io", "leases", &[], &["create"]);
        own.allow("coordination.k8s.io", "leases", &["wickie"], &["get", "list", "update", "watch"]);
        rights
    }

    fn within(&mut self, namespace: &str) -> &mut Rules {
        self.namespaces.entry(namespace.to_owned()).or_default()
    }

    /// Gives what an object of a kind takes; whether the kind is known.
    fn object(&mut self, kinds: &KnownKinds, id: &ObjectId, verbs: &[&'static str]) -> bool {
        let Some(served) = kinds.of(&id.group, &id.kind) else { return false };
        match (served.namespaced, id.namespace.as_str()) {
            (false, _) => self.cluster.allow(&id.group, &served.plural, &[], verbs),
            (true, "") => self.remarks.push(format!("{id} names no namespace: the API server will refuse it")),
            (true, namespace) => self.within(namespace).allow(&id.group, &served.plural, &[], verbs),
        }
        true
    }

    fn checked(&mut self, kinds: &KnownKinds, id: &ObjectId) -> bool {
        let Some(served) = kinds.of(&id.group, &id.kind) else { return false };
        let rules = if served.namespaced { self.within(&id.namespace) } else { &mut self.cluster };
        rules.allow(&id.group, &served.plural, &[&id.name], &["get"]);
        true
    }

    /// What it takes to apply a role or a binding.
    fn hands_out(&mut self, contents: &Contents, id: &ObjectId, body: &Value) {
        if id.group != RBAC {
            return;
        }
        let rules = body.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        match id.kind.as_str() {
            "Role" => add_new(&mut self.within(&id.namespace).given, rules),
            "ClusterRole" if body.get("aggregationRule").is_some_and(|rule| !rule.is_null()) => {
                self.cluster.allow(RBAC, "clusterroles", &[&id.name], &["escalate"]);
                self.remarks.push(format!(
                    "{id} gathers the rules of other roles: to apply it, the agent may put any rule into it (escalate)"
                ));
            }
            "ClusterRole" => add_new(&mut self.cluster.given, rules),
            "RoleBinding" | "ClusterRoleBinding" => {
                let to = |field: &str| body.pointer(&format!("/roleRef/{field}")).and_then(Value::as_str);
                let (kind, name) = (to("kind").unwrap_or_default(), to("name").unwrap_or_default());
                let namespace = if kind == "Role" { id.namespace.as_str() } else { "" };
                let same = |role: &ObjectId| (role.kind.as_str(), role.namespace.as_str()) == (kind, namespace);
                // Its rules are given already, unless it gathers them from elsewhere.
                let known = contents.objects.iter().any(|kept| {
                    let (role, body) = (kept.manifest.id(), kept.manifest.body());
                    role.group == RBAC && same(role) && role.name == name && body.get("aggregationRule").is_none()
                });
                if known {
                    return;
                }
                let resource = if kind == "Role" { "roles" } else { "clusterroles" };
                let rules = if id.kind == "RoleBinding" { self.within(&id.namespace) } else { &mut self.cluster };
                rules.allow(RBAC, resource, &[name], &["bind"]);
                self.remarks.push(format!("{id} binds {kind} {name}, whose rights whoever may commit can so hand out"));
            }
            _ => {}
        }
    }

    /// The namespaces that get a Role.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// The roles and what binds them to the service account `wickie` in `home`, all with these labels.
    pub fn roles(&self, home: &str, labels: &Value) -> Vec<Value> {
        let object = |kind: &str, namespace: Option<&str>, rest: Value| {
            let mut object = json!({
                "apiVersion": format!("{RBAC}/v1"),
                "kind": kind,
                "metadata": {"name": "wickie", "labels": labels},
            });
            if let Some(namespace) = namespace {
                object["metadata"]["namespace"] = namespace.into();
            }
            if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
                object.extend(rest);
            }
            object
        };
        let binding = |kind: &str| {
            json!({
                "roleRef": {"apiGroup": RBAC, "kind": kind, "name": "wickie"},
                "subjects": [{"kind": "ServiceAccount", "name": "wickie", "namespace": home}],
            })
        };
        let mut roles = vec![
            object("ClusterRole", None, json!({"rules": self.cluster.to_json()})),
            object("ClusterRoleBinding", None, binding("ClusterRole")),
        ];
        for (namespace, rules) in &self.namespaces {
            roles.push(object("Role", Some(namespace), json!({"rules": rules.to_json()})));
            roles.push(object("RoleBinding", Some(namespace), binding("Role")));
        }
        roles
    }
}

fn add_new(given: &mut Vec<Value>, rules: Vec<Value>) {
    for rule in rules {
        if !given.contains(&rule) {
            given.push(rule);
        }
    }
}

#[cfg(test)]
mod tests;
