//! `Provider` and `Alert` of `notification.toolkit.fluxcd.io/v1beta3`: where reports go, and which.
//!
//! The raw types have Flux's fields, all of them; what wickie cannot do yet is refused by the name of its field.
//! Source: `fluxcd/notification-controller`, `api/v1beta3/{provider,alert}_types.go`, `api/v1/reference_types.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wickie_model::{ResourceKind, ResourceName, Severity};

use super::duration;

/// A name in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalReference {
    /// Name of the referent.
    pub name: String,
}

/// The spec of a Provider, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderSpec {
    /// Which form reports take on their way: `generic`, or `generic-hmac` to sign them.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = PROVIDER_TYPES))]
    pub type_: String,
    /// Deprecated by Flux, and not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = duration::PATTERN))]
    pub interval: Option<String>,
    /// The channel that chat providers post to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub channel: String,
    /// The name under which chat providers post.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub username: String,
    /// Where to: an HTTP or HTTPS address. The key `address` of the Secret overrides it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub address: String,
    /// How long one attempt may take; 15s by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$"))]
    pub timeout: Option<String>,
    /// Address of a proxy; deprecated by Flux.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub proxy: String,
    /// Secret with the address and credentials of a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalReference>,
    /// Secret with `token` (the key of generic-hmac), `address` and `headers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// ServiceAccount for workload identity at a cloud.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// Secret with `ca.crt`, and `tls.crt` and `tls.key` where the receiver asks for a client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<LocalReference>,
    /// Whether to send nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// CEL expression for the text of a commit status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit_status_expr: String,
}

/// The spec of an Alert, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertSpec {
    /// The Provider that is told.
    pub provider_ref: LocalReference,
    /// `error` for errors alone; `info`, the default, for everything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = ["info", "error"], "default" = "info"))]
    pub event_severity: String,
    /// What it is told about.
    pub event_sources: Vec<EventSourceSpec>,
    /// Regular expressions: only messages that match one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inclusion_list: Vec<String>,
    /// Values that go along with every event, where the event has none of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub event_metadata: BTreeMap<String, String>,
    /// Regular expressions: no messages that match one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusion_list: Vec<String>,
    /// Deprecated by Flux: `eventMetadata.summary` does the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub summary: String,
    /// Whether to report nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// An entry of an Alert's `eventSources`, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSourceSpec {
    /// API version of the referent; not looked at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind of the referent.
    #[schemars(extend("enum" = SOURCE_KINDS))]
    pub kind: String,
    /// Name of the referent, or `*` for all of the kind.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the referent; by default that of the Alert.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub namespace: String,
    /// Labels that the referent must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
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

/// Why a spec is not taken: every reason, each naming its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

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
    pub secret: Option<ResourceName>,
    /// The Secret with certificates.
    pub cert_secret: Option<ResourceName>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Whether it gets nothing.
    pub suspend: bool,
}

/// Flux's default for one attempt: `Provider.GetTimeout`.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Provider {
    /// Checks what is written.
    pub fn new(name: ResourceName, spec: ProviderSpec) -> Result<Self, Invalid> {
        let mut wrong = not_yet(&spec);
        let form = match spec.type_.as_str() {
            "generic" => Form::Generic,
            "generic-hmac" => Form::GenericHmac,
            other => {
                wrong.push(refused_type(other));
                Form::Generic
            }
        };
        if spec.address.is_empty() && spec.secret_ref.is_none() {
            wrong.push(
                "spec.address is missing: it takes the receiver's URL, or spec.secretRef a Secret with the key address"
                    .to_owned(),
            );
        }
        if form == Form::GenericHmac && spec.secret_ref.is_none() {
            wrong.push("spec.secretRef is missing: generic-hmac signs with the key token of that Secret".to_owned());
        }
        let timeout = spec.timeout.as_deref().map_or(Ok(TIMEOUT), duration::parse).unwrap_or_else(|error| {
            wrong.push(format!("spec.timeout: {error}"));
            TIMEOUT
        });
        if !wrong.is_empty() {
            return Err(Invalid(wrong));
        }
        let beside = |reference: Option<LocalReference>| {
            reference.map(|reference| ResourceName::new(&name.namespace, reference.name))
        };
        Ok(Self {
            form,
            address: Some(spec.address).filter(|address| !address.is_empty()),
            secret: beside(spec.secret_ref),
            cert_secret: beside(spec.cert_secret_ref),
            timeout,
            suspend: spec.suspend,
            name,
        })
    }
}

/// The fields that are set and that Flux would act on, but wickie cannot.
fn not_yet(spec: &ProviderSpec) -> Vec<String> {
    [
        ("channel", !spec.channel.is_empty()),
        ("username", !spec.username.is_empty()),
        ("proxy", !spec.proxy.is_empty()),
        ("proxySecretRef", spec.proxy_secret_ref.is_some()),
        ("serviceAccountName", !spec.service_account_name.is_empty()),
        ("commitStatusExpr", !spec.commit_status_expr.is_empty()),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(field, _)| format!("spec.{field} is understood by Flux and not by wickie yet"))
    .collect()
}

fn refused_type(type_: &str) -> String {
    if PROVIDER_TYPES.contains(&type_) {
        format!("spec.type {type_:?} is understood by Flux and not by wickie yet; generic and generic-hmac are")
    } else {
        format!("spec.type {type_:?} is not a type of Provider: wickie knows generic and generic-hmac")
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
    /// Checks what is written.
    pub fn new(name: ResourceName, spec: AlertSpec) -> Result<Self, Invalid> {
        let mut wrong = Vec::new();
        if spec.provider_ref.name.is_empty() {
            wrong.push("spec.providerRef.name is missing".to_owned());
        }
        let severity = match spec.event_severity.as_str() {
            "" | "info" => Severity::Info,
            "error" => Severity::Error,
            other => {
                wrong.push(format!("spec.eventSeverity {other:?}: it is info or error"));
                Severity::Info
            }
        };
        for (at, source) in spec.event_sources.iter().enumerate() {
            if !SOURCE_KINDS.contains(&source.kind.as_str()) {
                wrong.push(format!("spec.eventSources[{at}].kind {:?} is not a kind that reports", source.kind));
            }
            if source.name.is_empty() {
                wrong.push(format!("spec.eventSources[{at}].name is missing: it takes a name, or * for all"));
            }
        }
        let inclusion = regexes("inclusionList", &spec.inclusion_list, &mut wrong);
        let exclusion = regexes("exclusionList", &spec.exclusion_list, &mut wrong);
        if !wrong.is_empty() {
            return Err(Invalid(wrong));
        }
        let sources = spec.event_sources.into_iter().map(|source| EventSource::new(source, &name.namespace)).collect();
        let mut metadata = spec.event_metadata;
        // Flux's order of precedence: the summary field wins over the key of that name.
        if !spec.summary.is_empty() {
            metadata.insert("summary".to_owned(), spec.summary);
        }
        let provider = ResourceName::new(&name.namespace, spec.provider_ref.name);
        Ok(Self { name, provider, severity, sources, inclusion, exclusion, metadata, suspend: spec.suspend })
    }

    /// The kinds it asks for that wickie never reports on, because it has none of them.
    pub fn silent_kinds(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.kind.as_str()).filter(|kind| kind.parse::<ResourceKind>().is_err())
    }
}

impl EventSource {
    fn new(spec: EventSourceSpec, namespace: &str) -> Self {
        Self {
            kind: spec.kind,
            namespace: if spec.namespace.is_empty() { namespace.to_owned() } else { spec.namespace },
            name: Some(spec.name).filter(|name| name != "*"),
            labels: spec.match_labels,
        }
    }
}

fn regexes(field: &str, list: &[String], wrong: &mut Vec<String>) -> Vec<Regex> {
    let mut compiled = Vec::new();
    for (at, text) in list.iter().enumerate() {
        match Regex::new(text) {
            Ok(regex) => compiled.push(regex),
            Err(error) => wrong.push(format!("spec.{field}[{at}] is not a regular expression: {error}")),
        }
    }
    compiled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(yaml: &str) -> Result<Provider, Invalid> {
        Provider::new(ResourceName::new("flux-system", "ci"), serde_saphyr::from_str(yaml).unwrap())
    }

    fn alert(yaml: &str) -> Result<Alert, Invalid> {
        Alert::new(ResourceName::new("flux-system", "all"), serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn a_provider_has_flux_s_defaults() {
        let provider = provider("{type: generic, address: 'https://ci.example/hook', interval: 5m}").unwrap();
        assert_eq!(provider.timeout, Duration::from_secs(15));
        assert_eq!((provider.form, provider.suspend, provider.secret), (Form::Generic, false, None));
    }

    #[test]
    fn what_flux_understands_and_wickie_does_not_is_refused_by_name() {
        let refused = provider("{type: slack, channel: ops, proxySecretRef: {name: p}, timeout: soon}").unwrap_err();
        let said = refused.to_string();
        for field in
            ["spec.type \"slack\"", "spec.channel is", "spec.proxySecretRef is", "spec.address", "spec.timeout"]
        {
            assert!(said.contains(field), "{field}: {said}");
        }
        let refused = provider("{type: generic-hmac, address: 'https://ci.example/hook'}").unwrap_err();
        assert!(refused.to_string().contains("spec.secretRef is missing"), "{refused}");
    }

    #[test]
    fn a_field_that_nobody_knows_is_an_error_that_names_it() {
        let error = serde_saphyr::from_str::<ProviderSpec>("{type: generic, adress: x}").unwrap_err();
        assert!(error.to_string().contains("adress"), "{error}");
    }

    #[test]
    fn an_alert_defaults_to_its_own_namespace_and_everything() {
        let alert = alert(
            "{providerRef: {name: ci}, summary: north, eventMetadata: {summary: south, env: prod},
              eventSources: [{kind: Kustomization, name: '*'}, {kind: HelmRelease, name: x, namespace: apps}]}",
        )
        .unwrap();
        assert_eq!(alert.provider, ResourceName::new("flux-system", "ci"));
        assert_eq!((alert.severity, alert.sources[0].name.as_deref()), (Severity::Info, None));
        assert_eq!((&*alert.sources[0].namespace, &*alert.sources[1].namespace), ("flux-system", "apps"));
        assert_eq!(alert.metadata["summary"], "north");
        assert_eq!(alert.silent_kinds().collect::<Vec<_>>(), ["HelmRelease"]);
    }

    #[test]
    fn an_alert_s_mistakes_are_all_named() {
        let refused = alert(
            "{providerRef: {name: ''}, eventSeverity: warn, exclusionList: ['('], eventSources: [{kind: Pod, name: ''}]}",
        )
        .unwrap_err();
        assert_eq!(refused.0.len(), 5, "{refused}");
    }

    #[test]
    fn the_schema_names_flux_s_fields() {
        let schema = serde_json::to_value(schemars::schema_for!(ProviderSpec)).unwrap();
        let fields: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "address",
                "certSecretRef",
                "channel",
                "commitStatusExpr",
                "interval",
                "proxy",
                "proxySecretRef",
                "secretRef",
                "serviceAccountName",
                "suspend",
                "timeout",
                "type",
                "username"
            ]
        );
        assert_eq!(schema["properties"]["type"]["enum"].as_array().unwrap().len(), PROVIDER_TYPES.len());
        assert_eq!(schema["required"], serde_json::json!(["type"]));
    }
}
