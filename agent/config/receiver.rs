//! `Receiver` of `notification.toolkit.fluxcd.io/v1`: whose webhooks ask for what.
//!
//! Source: `fluxcd/notification-controller`, `api/v1/receiver_types.go`, `api/v1/reference_types.go`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wickie_model::{ResourceKind, ResourceName};

use super::declared::{Declared, annotation};
use super::flux::{self, LocalReference, RawSpec, Unsupported};
use super::kustomization::read_duration;
use super::secret::Secret;
use super::secrets::{Named, SecretData};
use super::{Invalid, NodeConfig};

/// Where webhooks arrive: `ReceiverWebhookPath`.
pub const HOOK_PATH: &str = "/hook/";

/// `Receiver.spec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceiverSpec {
    /// Who sends, which says how it proves itself.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = RECEIVER_TYPES))]
    type_: String,
    /// How often Flux reads the Secret again; wickie reads it when the Receiver changes, and while it is not there.
    interval: Option<String>,
    /// Events that are heeded, such as `push` of GitHub or `Push Hook` of GitLab; all where it is empty.
    #[serde(default)]
    events: Vec<String>,
    /// What is asked for.
    resources: Vec<ResourceReference>,
    /// The Secret with `token`.
    secret_ref: Option<LocalReference>,
    /// Whether nothing is heeded.
    #[serde(default)]
    suspend: bool,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: BTreeMap<String, Value>,
}

impl RawSpec for ReceiverSpec {
    const UNSUPPORTED: &'static [Unsupported] = &[
        ("resourceFilter", "name the resources, or select them by matchLabels"),
        ("oidcProviders", "use a type with a token, such as generic-hmac"),
    ];

    fn rest(&self) -> &BTreeMap<String, Value> {
        &self.rest
    }
}

/// `Receiver.spec.resources[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ResourceReference {
    /// API version of the referent; not looked at.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the API")]
    api_version: String,
    /// Kind of the referent.
    #[schemars(extend("enum" = RECEIVED_KINDS))]
    kind: String,
    /// Name of the referent, or `*` for those that matchLabels selects.
    #[schemars(length(min = 1, max = 253))]
    name: String,
    /// Namespace of the referent; that of the Receiver where it is not given.
    #[serde(default)]
    #[schemars(length(max = 253))]
    namespace: String,
    /// Labels that the referents must have, where the name is `*`.
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

/// Flux's types, in its order.
pub const RECEIVER_TYPES: &[&str] = &[
    "generic",
    "generic-hmac",
    "generic-oidc",
    "github",
    "gitlab",
    "bitbucket",
    "harbor",
    "dockerhub",
    "quay",
    "gcr",
    "nexus",
    "acr",
    "cdevents",
];

/// The kinds that Flux asks for; wickie has the first two.
const RECEIVED_KINDS: &[&str] = &[
    "GitRepository",
    "Kustomization",
    "Bucket",
    "HelmRelease",
    "HelmChart",
    "HelmRepository",
    "ImageRepository",
    "ImagePolicy",
    "ImageUpdateAutomation",
    "OCIRepository",
    "ArtifactGenerator",
    "ExternalArtifact",
];

/// How a sender proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Flux's names")]
pub enum Sender {
    Generic,
    GenericHmac,
    GitHub,
    GitLab,
    Bitbucket,
    Harbor,
    DockerHub,
    Quay,
    Nexus,
    Acr,
    CdEvents,
}

/// Whose webhooks ask for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Its name.
    pub name: ResourceName,
    /// Who sends.
    pub sender: Sender,
    /// Events that are heeded; all where it is empty.
    pub events: Vec<String>,
    /// What is asked for.
    pub resources: Vec<Wanted>,
    /// The Secret with the token.
    pub secret: Named,
    /// Whether nothing is heeded.
    pub suspend: bool,
}

/// An entry of a Receiver's `resources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The kind: one that can be asked for.
    pub kind: ResourceKind,
    /// The namespace.
    pub namespace: String,
    /// The name, or the labels that select.
    pub which: Which,
}

/// One object, or all with some labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of this name.
    Named(String),
    /// All that have these labels.
    Labelled(BTreeMap<String, String>),
}

impl Receiver {
    /// Reads a declared Receiver as it is used.
    pub fn new(declared: &Declared, node: &NodeConfig) -> Result<Self, Invalid> {
        declared.check_annotations(&[annotation::MANAGED])?;
        let spec: ReceiverSpec = flux::read(&declared.spec.value())?;
        let name = declared.resource.name.clone();
        let sender = sender(&spec.type_)?;
        spec.interval.as_deref().map(|text| read_duration("spec.interval", text)).transpose()?;
        let secret = spec.secret_ref.ok_or_else(|| {
            Invalid::field("spec.secretRef", "is missing: it names the Secret with the key token, which makes the path")
        })?;
        let resources = spec.resources.into_iter().enumerate();
        let resources = resources.map(|(at, resource)| Wanted::new(at, resource, &name.namespace, node));
        Ok(Self {
            sender,
            events: spec.events,
            resources: resources.collect::<Result<_, _>>()?,
            secret: Named::secret(&name.namespace, &secret.name),
            suspend: spec.suspend,
            name,
        })
    }

    /// Its token, out of its Secret.
    pub fn token(&self, secret: Option<&SecretData>) -> Result<Secret<Vec<u8>>, Invalid> {
        let secret = secret.ok_or_else(|| Invalid::Missing {
            field: "spec.secretRef".to_owned(),
            kind: "Secret",
            name: self.secret.0.to_string(),
        })?;
        match secret.get("token") {
            Some(token) if !token.is_empty() => Ok(Secret::new(token.to_vec())),
            _ => {
                Err(Invalid::field("spec.secretRef", "the Secret has no token: put a long random text under that key"))
            }
        }
    }

    /// Where its webhooks arrive: `GetWebhookPath` of Flux.
    pub fn path(&self, token: &Secret<Vec<u8>>) -> String {
        let mut digest = Sha256::new();
        digest.update(token.reveal());
        digest.update(&self.name.name);
        digest.update(&self.name.namespace);
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{HOOK_PATH}{digest}")
    }
}

impl Wanted {
    fn new(at: usize, resource: ResourceReference, own: &str, node: &NodeConfig) -> Result<Self, Invalid> {
        let field = |field: &str| format!("spec.resources[{at}].{field}");
        let kind = match resource.kind.parse() {
            Ok(kind @ (ResourceKind::GitRepository | ResourceKind::Kustomization)) => kind,
            _ if RECEIVED_KINDS.contains(&resource.kind.as_str()) => {
                let way_out = "name a GitRepository or a Kustomization; wickie has no other kind to ask for";
                return Err(Invalid::Unsupported { field: format!("{} {}", field("kind"), resource.kind), way_out });
            }
            _ => {
                let why = format!("{:?} is not a kind that can be asked for", resource.kind);
                return Err(Invalid::field(field("kind"), why));
            }
        };
        let namespace = if resource.namespace.is_empty() { own.to_owned() } else { resource.namespace };
        if namespace != own && !node.cross_namespace_references {
            return Err(Invalid::field(field("namespace"), "is another namespace, which this node does not allow"));
        }
        let which = match resource.name.as_str() {
            "" => return Err(Invalid::field(field("name"), "is empty: it takes a name, or * with matchLabels")),
            "*" if resource.match_labels.is_empty() => {
                return Err(Invalid::field(
                    field("matchLabels"),
                    "is missing: the name * takes those with these labels",
                ));
            }
            "*" => Which::Labelled(resource.match_labels),
            _ => Which::Named(resource.name),
        };
        Ok(Self { kind, namespace, which })
    }

    /// Whether `declared` is asked for.
    pub fn is(&self, declared: &Declared) -> bool {
        let name = &declared.resource.name;
        let has = |labels: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| declared.labels.get(key) == Some(value))
        };
        declared.resource.kind == self.kind
            && name.namespace == self.namespace
            && match &self.which {
                Which::Named(named) => name.name == *named,
                Which::Labelled(labels) => has(labels),
            }
    }
}

/// The Secrets that a declared Receiver names.
pub(super) fn named(declared: &Declared) -> Vec<Named> {
    let name = declared.spec.text("/secretRef/name");
    name.map(|name| Named::secret(&declared.resource.name.namespace, &name)).into_iter().collect()
}

fn sender(type_: &str) -> Result<Sender, Invalid> {
    Ok(match type_ {
        "generic" => Sender::Generic,
        "generic-hmac" => Sender::GenericHmac,
        "github" => Sender::GitHub,
        "gitlab" => Sender::GitLab,
        "bitbucket" => Sender::Bitbucket,
        "harbor" => Sender::Harbor,
        "dockerhub" => Sender::DockerHub,
        "quay" => Sender::Quay,
        "nexus" => Sender::Nexus,
        "acr" => Sender::Acr,
        "cdevents" => Sender::CdEvents,
        "gcr" | "generic-oidc" => {
            let way_out = "who sends is checked by asking a server elsewhere; use generic-hmac";
            return Err(Invalid::Unsupported { field: format!("spec.type {type_}"), way_out });
        }
        other => {
            let why = format!("{other:?} is not a type: they are {}", RECEIVER_TYPES.join(", "));
            return Err(Invalid::field("spec.type", why));
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Origin;

    fn declared(kind: ResourceKind, labels: Value, spec: Value) -> Declared {
        let document = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(),
            "metadata": {"name": "hook", "labels": labels}, "spec": spec});
        Declared::new(kind, &document, Origin::File, "flux-system").unwrap()
    }

    fn receiver(more: Value) -> Result<Receiver, Invalid> {
        let mut spec = json!({"type": "github", "secretRef": {"name": "t"}, "resources": [{"kind": "GitRepository", "name": "fleet"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let node = NodeConfig { cross_namespace_references: false, ..NodeConfig::default() };
        Receiver::new(&declared(ResourceKind::Receiver, json!({}), spec), &node)
    }

    #[test]
    fn the_path_is_flux_s() {
        // echo -n tokenhookflux-system | sha256sum
        let path = receiver(json!({})).unwrap().path(&Secret::new(b"token".to_vec()));
        assert_eq!(path, "/hook/972cfccde884c3c9f7e679bd3637a6c3a8c5b326aed2853ddaea8b0ce0aa1cea");
    }

    #[test]
    fn labels_select_within_a_namespace() {
        let resources = json!([{"kind": "GitRepository", "name": "*", "matchLabels": {"team": "north"}}]);
        let wanted = receiver(json!({ "resources": resources })).unwrap().resources.remove(0);
        let source = |labels| declared(ResourceKind::GitRepository, labels, json!({}));
        assert!(wanted.is(&source(json!({"team": "north", "x": "y"}))));
        assert!(!wanted.is(&source(json!({"team": "south"}))) && !wanted.is(&source(json!({}))));
        assert!(!wanted.is(&declared(ResourceKind::Kustomization, json!({"team": "north"}), json!({}))));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (more, field) in [
            (json!({"type": "gcr"}), "spec.type gcr"),
            (json!({"type": "generic-oidc"}), "spec.type generic-oidc"),
            (json!({"type": "pigeon"}), "spec.type"),
            (json!({"resourceFilter": "true"}), "spec.resourceFilter"),
            (json!({"oidcProviders": [{}]}), "spec.oidcProviders"),
            (json!({"secretRef": null}), "spec.secretRef"),
            (json!({"interval": "soon"}), "spec.interval"),
            (json!({"resources": [{"kind": "ImageRepository", "name": "x"}]}), "spec.resources[0].kind"),
            (json!({"resources": [{"kind": "Pod", "name": "x"}]}), "spec.resources[0].kind"),
            (json!({"resources": [{"kind": "GitRepository", "name": "*"}]}), "spec.resources[0].matchLabels"),
            (json!({"resources": [{"kind": "GitRepository", "name": ""}]}), "spec.resources[0].name"),
            (
                json!({"resources": [{"kind": "GitRepository", "name": "x", "namespace": "apps"}]}),
                "spec.resources[0].namespace",
            ),
        ] {
            let error = receiver(more).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn a_secret_without_a_token_is_refused() {
        let receiver = receiver(json!({})).unwrap();
        assert!(receiver.token(None).unwrap_err().to_string().contains("flux-system/t"));
        let empty = SecretData::new([("token".to_owned(), Vec::new())].into());
        assert!(receiver.token(Some(&empty)).is_err());
    }
}
