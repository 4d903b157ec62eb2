//! `Provider` and `Alert` of `notification.toolkit.fluxcd.io/v1beta3`: where reports go, and which.
//!
//! The raw types have Flux's fields, all of them; what wickie cannot do yet is refused by the name of its field.
//! Source: `fluxcd/notification-controller`, `api/v1beta3/{provider,alert}_types.go`, `api/v1/reference_types.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use wickie_model::{ResourceKind, ResourceName, Severity};

use super::declared::{Declared, annotation};
use super::flux::{self, LocalReference, RawSpec, Unsupported};
use super::kustomization::read_duration;
use super::secrets::Named;
use super::{Invalid, NodeConfig};

/// `Provider.spec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProviderSpec {
    /// Which form reports take on their way: `generic`, or `generic-hmac` to sign them.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = PROVIDER_TYPES))]
    pub(crate) type_: String,
    /// Deprecated by Flux, and not used.
    #[expect(dead_code, reason = "part of the API")]
    interval: Option<String>,
    /// Where to: an HTTP or HTTPS address. The key `address` of the Secret overrides it.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    address: String,
    /// How long one attempt may take; 15s where it is not given.
    timeout: Option<String>,
    /// The Secret with `token` (the key of generic-hmac), `address` and `headers`.
    secret_ref: Option<LocalReference>,
    /// The Secret with `ca.crt`, and `tls.crt` and `tls.key` where the receiver asks for a client's certificate.
    cert_secret_ref: Option<LocalReference>,
    /// Whether it is sent nothing.
    #[serde(default)]
    suspend: bool,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: BTreeMap<String, Value>,
}

impl RawSpec for ProviderSpec {
    const UNSUPPORTED: &'static [Unsupported] = &[
        ("channel", "let the receiver of a generic Provider choose the channel"),
        ("username", "let the receiver of a generic Provider choose the name"),
        ("proxy", "set HTTPS_PROXY for the agent"),
        ("proxySecretRef", "set HTTPS_PROXY for the agent"),
        ("serviceAccountName", "give credentials in secretRef"),
        ("commitStatusExpr", "let the receiver of a generic Provider write the text"),
    ];

    fn rest(&self) -> &BTreeMap<String, Value> {
        &self.rest
    }
}

/// `Alert.spec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AlertSpec {
    /// The Provider that is told.
    provider_ref: LocalReference,
    /// `error` for errors alone; `info`, the default, for everything.
    #[serde(default)]
    #[schemars(extend("enum" = ["info", "error"], "default" = "info"))]
    event_severity: String,
    /// What it is told about.
    event_sources: Vec<EventSourceReference>,
    /// Regular expressions: only messages that match one of them.
    #[serde(default)]
    inclusion_list: Vec<String>,
    /// Values that go along with every event, where the event has none of that name.
    #[serde(default)]
    event_metadata: BTreeMap<String, String>,
    /// Regular expressions: no messages that match one of them.
    #[serde(default)]
    exclusion_list: Vec<String>,
    /// Deprecated by Flux: eventMetadata.summary does the same.
    #[serde(default)]
    #[schemars(length(max = 255))]
    summary: String,
    /// Whether it reports nothing.
    #[serde(default)]
    suspend: bool,
    #[serde(flatten)]
    #[schemars(skip)]
    rest: BTreeMap<String, Value>,
}

impl RawSpec for AlertSpec {
    const UNSUPPORTED: &'static [Unsupported] = &[];

    fn rest(&self) -> &BTreeMap<String, Value> {
        &self.rest
    }
}

/// `Alert.spec.eventSources[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventSourceReference {
    /// API version of the referent; not looked at.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the API")]
    api_version: String,
    /// Kind of the referent.
    #[schemars(extend("enum" = SOURCE_KINDS))]
    kind: String,
    /// Name of the referent, or `*` for all of the kind.
    #[schemars(length(min = 1, max = 253))]
    name: String,
    /// Namespace of the referent; that of the Alert where it is not given.
    #[serde(default)]
    #[schemars(length(max = 253))]
    namespace: String,
    /// Labels that the referent must have.
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

/// Flux's provider types, in its order.
pub const PROVIDER_TYPES: &[&str] = &[
    "slack",
    "discord",
    "msteams",
    "rocket",
    "generic",
    "generic-hmac",
    "github",
    "gitlab",
    "gitea",
    "giteapullrequestcomment",
    "bitbucketserver",
    "bitbucket",
    "azuredevops",
    "googlechat",
    "googlepubsub",
    "webex",
    "sentry",
    "azureeventhub",
    "telegram",
    "lark",
    "matrix",
    "opsgenie",
    "alertmanager",
    "grafana",
    "githubdispatch",
    "githubpullrequestcomment",
    "gitlabmergerequestcomment",
    "pagerduty",
    "datadog",
    "nats",
    "zulip",
    "otel",
    "zoom",
    "incident.io",
];

/// The kinds that Flux reports on. wickie knows all of the names, so that an Alert that is used with both is taken; it has
/// itself only the first two.
pub const SOURCE_KINDS: &[&str] = &[
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

/// The form that reports take on their way to a Provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Flux's event as JSON.
    Generic,
    /// The same, signed with the key `token` of the Secret.
    GenericHmac,
}

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name.
    pub name: ResourceName,
    /// The form of what it gets.
    pub form: Form,
    /// Where to, unless its Secret says.
    pub address: Option<String>,
    /// The Secret with token, address and headers.
    pub secret: Option<Named>,
    /// The Secret with certificates.
    pub cert_secret: Option<Named>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Whether it gets nothing.
    pub suspend: bool,
}

/// Flux's default for one attempt: `Provider.GetTimeout`.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Provider {
    /// Reads a declared Provider as it is used.
    pub fn new(declared: &Declared) -> Result<Self, Invalid> {
        declared.check_annotations(&[annotation::MANAGED])?;
        let spec: ProviderSpec = flux::read(&declared.spec.value())?;
        let form = form(&spec.type_)?;
        if spec.address.is_empty() && spec.secret_ref.is_none() {
            let why = "is missing: it takes the receiver's URL, or secretRef a Secret with the key address";
            return Err(Invalid::field("spec.address", why));
        }
        if form == Form::GenericHmac && spec.secret_ref.is_none() {
            let why = "is missing: generic-hmac signs with the key token of that Secret";
            return Err(Invalid::field("spec.secretRef", why));
        }
        let timeout = spec.timeout.as_deref().map(|text| read_duration("spec.timeout", text)).transpose()?;
        let name = declared.resource.name.clone();
        let beside = |reference: Option<LocalReference>| {
            reference.map(|reference| Named::secret(&name.namespace, &reference.name))
        };
        Ok(Self {
            form,
            address: Some(spec.address).filter(|address| !address.is_empty()),
            secret: beside(spec.secret_ref),
            cert_secret: beside(spec.cert_secret_ref),
            timeout: timeout.unwrap_or(TIMEOUT),
            suspend: spec.suspend,
            name,
        })
    }
}

/// The Secrets that a declared Provider names.
pub(super) fn named(declared: &Declared) -> Vec<Named> {
    ["/secretRef/name", "/certSecretRef/name"]
        .into_iter()
        .filter_map(|pointer| declared.spec.text(pointer))
        .map(|name| Named::secret(&declared.resource.name.namespace, &name))
        .collect()
}

fn form(type_: &str) -> Result<Form, Invalid> {
    match type_ {
        "generic" => Ok(Form::Generic),
        "generic-hmac" => Ok(Form::GenericHmac),
        other if PROVIDER_TYPES.contains(&other) => {
            let way_out = "send to a receiver of your own with the type generic or generic-hmac";
            Err(Invalid::Unsupported { field: format!("spec.type {other}"), way_out })
        }
        other => Err(Invalid::field("spec.type", format!("{other:?} is not a type: write generic or generic-hmac"))),
    }
}

/// Which reports go to a Provider.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its name.
    pub name: ResourceName,
    /// The Provider that is told.
    pub provider: ResourceName,
    /// What is at least this severe.
    pub severity: Severity,
    /// What it is told about.
    pub sources: Vec<EventSource>,
    /// If there are any, one of them must match the message.
    pub inclusion: Vec<Regex>,
    /// None of them may match the message.
    pub exclusion: Vec<Regex>,
    /// Goes along with every event, where the event has no value of that name; a `summary` is among it.
    pub metadata: BTreeMap<String, String>,
    /// Whether it reports nothing.
    pub suspend: bool,
}

/// An entry of an Alert's `eventSources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// The kind; one of [`SOURCE_KINDS`].
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name; none for all.
    pub name: Option<String>,
    /// Labels that the object must have.
    pub labels: BTreeMap<String, String>,
}

impl Alert {
    /// Reads a declared Alert as it is used.
    pub fn new(declared: &Declared, node: &NodeConfig) -> Result<Self, Invalid> {
        declared.check_annotations(&[annotation::MANAGED])?;
        let spec: AlertSpec = flux::read(&declared.spec.value())?;
        let name = declared.resource.name.clone();
        let severity = match spec.event_severity.as_str() {
            "" | "info" => Severity::Info,
            "error" => Severity::Error,
            other => {
                return Err(Invalid::field("spec.eventSeverity", format!("{other:?} is neither info nor error")));
            }
        };
        let sources = spec.event_sources.into_iter().enumerate();
        let sources = sources.map(|(at, source)| EventSource::new(at, source, &name.namespace, node));
        let mut metadata = spec.event_metadata;
        // Flux's order of precedence: the summary field wins over the key of that name.
        if !spec.summary.is_empty() {
            metadata.insert("summary".to_owned(), spec.summary);
        }
        Ok(Self {
            provider: ResourceName::new(&name.namespace, spec.provider_ref.name),
            severity,
            sources: sources.collect::<Result<_, _>>()?,
            inclusion: regexes("inclusionList", &spec.inclusion_list)?,
            exclusion: regexes("exclusionList", &spec.exclusion_list)?,
            metadata,
            suspend: spec.suspend,
            name,
        })
    }

    /// The kinds it asks for that wickie never reports on, because it has none of them.
    pub fn silent_kinds(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.kind.as_str()).filter(|kind| kind.parse::<ResourceKind>().is_err())
    }
}

impl EventSource {
    fn new(at: usize, source: EventSourceReference, own: &str, node: &NodeConfig) -> Result<Self, Invalid> {
        let field = |field: &str| format!("spec.eventSources[{at}].{field}");
        if !SOURCE_KINDS.contains(&source.kind.as_str()) {
            return Err(Invalid::field(field("kind"), format!("{:?} is not a kind that reports", source.kind)));
        }
        if source.name.is_empty() {
            return Err(Invalid::field(field("name"), "is empty: it takes a name, or * for all"));
        }
        let namespace = if source.namespace.is_empty() { own.to_owned() } else { source.namespace };
        if namespace != own && !node.cross_namespace_references {
            return Err(Invalid::field(field("namespace"), "is another namespace, which this node does not allow"));
        }
        let name = Some(source.name).filter(|name| name != "*");
        Ok(Self { kind: source.kind, namespace, name, labels: source.match_labels })
    }
}

fn regexes(field: &str, list: &[String]) -> Result<Vec<Regex>, Invalid> {
    let compile = |(at, text): (usize, &String)| {
        Regex::new(text).map_err(|error| Invalid::field(format!("spec.{field}[{at}]"), error))
    };
    list.iter().enumerate().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Origin;

    fn declared(kind: ResourceKind, spec: Value) -> Declared {
        let document =
            json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": "ci"}, "spec": spec});
        Declared::new(kind, &document, Origin::File, "flux-system").unwrap()
    }

    fn provider(spec: Value) -> Result<Provider, Invalid> {
        Provider::new(&declared(ResourceKind::Provider, spec))
    }

    fn alert(spec: Value) -> Result<Alert, Invalid> {
        let node = NodeConfig { cross_namespace_references: false, ..NodeConfig::default() };
        Alert::new(&declared(ResourceKind::Alert, spec), &node)
    }

    #[test]
    fn a_provider_has_flux_s_defaults() {
        let provider = provider(json!({"type": "generic", "address": "https://ci.example", "interval": "5m"})).unwrap();
        assert_eq!(provider.timeout, Duration::from_secs(15));
        assert_eq!((provider.form, provider.suspend, provider.secret), (Form::Generic, false, None));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (spec, field) in [
            (json!({"type": "slack", "address": "https://a"}), "spec.type slack"),
            (json!({"type": "smoke", "address": "https://a"}), "spec.type"),
            (json!({"type": "generic", "address": "https://a", "channel": "ops"}), "spec.channel"),
            (
                json!({"type": "generic", "address": "https://a", "proxySecretRef": {"name": "p"}}),
                "spec.proxySecretRef",
            ),
            (json!({"type": "generic", "adress": "https://a"}), "spec.adress"),
            (json!({"type": "generic"}), "spec.address"),
            (json!({"type": "generic-hmac", "address": "https://a"}), "spec.secretRef"),
            (json!({"type": "generic", "address": "https://a", "timeout": "soon"}), "spec.timeout"),
        ] {
            let error = provider(spec).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn an_alert_defaults_to_its_own_namespace_and_everything() {
        let alert = alert(json!({
            "providerRef": {"name": "ci"}, "summary": "north", "eventMetadata": {"summary": "south", "env": "prod"},
            "eventSources": [{"kind": "Kustomization", "name": "*"}, {"kind": "HelmRelease", "name": "x"}],
        }))
        .unwrap();
        assert_eq!(alert.provider, ResourceName::new("flux-system", "ci"));
        assert_eq!((alert.severity, alert.sources[0].name.as_deref()), (Severity::Info, None));
        assert_eq!(alert.sources[0].namespace, "flux-system");
        assert_eq!(alert.metadata["summary"], "north");
        assert_eq!(alert.silent_kinds().collect::<Vec<_>>(), ["HelmRelease"]);
    }

    #[test]
    fn an_alert_s_mistakes_are_named() {
        for (field, value, named) in [
            ("eventSeverity", json!("warn"), "spec.eventSeverity"),
            ("exclusionList", json!(["ok", "("]), "spec.exclusionList[1]"),
            ("eventSources", json!([{"kind": "Pod", "name": "x"}]), "spec.eventSources[0].kind"),
            ("eventSources", json!([{"kind": "Kustomization", "name": ""}]), "spec.eventSources[0].name"),
            (
                "eventSources",
                json!([{"kind": "Kustomization", "name": "*", "namespace": "apps"}]),
                "spec.eventSources[0].namespace",
            ),
        ] {
            let mut spec = json!({"providerRef": {"name": "ci"}, "eventSources": []});
            spec[field] = value;
            let error = alert(spec).unwrap_err().to_string();
            assert!(error.starts_with(named), "{named}: {error}");
        }
    }
}
