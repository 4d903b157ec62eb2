//! A Kustomization, validated.

use std::collections::BTreeMap;
use std::time::Duration;

use wickie_kustomize::{FluxImage, FluxOverlay, FluxPatch, FluxSelector, Substitution};
use wickie_model::{Gvk, ObjectId, ResourceName, Revision, Window, Windows};
use wickie_plan::course::OnUnhealthy;
use wickie_plan::{DeletionPolicy, HealthRules, Limit, Mode};

use super::declared::{Declared, annotation};
use super::duration;
use super::expressions::{self, Dependency};
use super::flux::{self, KustomizationSpec};
use super::ignore::{self, IgnoreRule, Ignoring};
use super::kube_config::KubeConfigRef;
use super::secrets::{ValuesKind, ValuesName};
use super::{Invalid, NodeConfig};

/// The annotations a Kustomization may carry.
const ANNOTATIONS: [&str; 7] = [
    annotation::APPLY_WINDOW,
    annotation::DRIFT_WINDOW,
    annotation::MANAGED,
    annotation::MODE,
    annotation::ON_UNHEALTHY,
    annotation::PRUNE_APPROVE,
    annotation::PRUNE_LIMIT,
];

/// Flux waits for health at least this long.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What to keep in the cluster, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Kustomization {
    /// The resource it was written as.
    pub name: ResourceName,
    /// The GitRepository it is taken from.
    pub source: ResourceName,
    /// The directory in it: no leading or trailing slash, empty for the root.
    pub path: String,
    /// Whether objects that left Git are deleted.
    pub prune: bool,
    /// What becomes of the objects when the Kustomization is deleted.
    pub deletion_policy: DeletionPolicy,
    /// How often the cluster is held against Git, unasked.
    pub interval: Duration,
    /// How soon a failed run is tried again.
    pub retry_interval: Duration,
    /// How long health is waited for.
    pub timeout: Duration,
    /// Whether the health of every object is waited for.
    pub wait: bool,
    /// Objects whose health is waited for.
    pub health_checks: Vec<HealthCheck>,
    /// How the health of kinds is judged that follow no convention.
    pub health_rules: HealthRules,
    /// Fields that others may change.
    pub ignore: Vec<IgnoreRule>,
    /// Whether objects whose change is refused as immutable are deleted and made again.
    pub force: bool,
    /// The service account, of the same namespace, as which objects are written. Watches and reads stay the agent's own:
    /// they are shared by all Kustomizations, and nothing of what they show goes back to a tenant.
    pub service_account: Option<String>,
    /// Where the kubeconfig stands of the cluster that it is for; nothing: the agent's own.
    pub kube_config: Option<KubeConfigRef>,
    /// Whether it is left alone.
    pub suspend: bool,
    /// What is laid over the folder's own kustomization: targetNamespace, namePrefix, patches and so on.
    pub overlay: FluxOverlay,
    /// Variables that are put in after the build, those of [`Self::substitute_from`] aside; nothing where `postBuild`
    /// is not given.
    pub substitution: Option<Substitution>,
    /// Where more variables come from: a later one wins over an earlier one, the spec's own over all.
    pub substitute_from: Vec<SubstituteFrom>,
    /// How what is encrypted in Git is decrypted.
    pub decryption: Option<Decryption>,
    /// Labels added to every object.
    pub labels: BTreeMap<String, String>,
    /// Annotations added to every object.
    pub annotations: BTreeMap<String, String>,
    /// Kustomizations that must be ready first.
    pub depends_on: Vec<Dependency>,
    /// How many deletions pass unasked.
    pub prune_limit: Option<Limit>,
    /// The revision whose deletions are approved, however many.
    pub prune_approved: Option<Revision>,
    /// Whether to write at all.
    pub mode: Mode,
    /// When changes are made: the node's window and its own.
    pub windows: Windows,
    /// Whether drift from what was applied is repaired outside of them, too.
    pub repairs_at_any_time: bool,
    /// What is done with a new revision that does not become healthy in time; nothing: it is tried again and again.
    pub on_unhealthy: Option<OnUnhealthy>,
}

/// A ConfigMap or Secret whose entries are variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubstituteFrom {
    /// Which object.
    pub values: ValuesName,
    /// Whether it may be missing.
    pub optional: bool,
}

/// `spec.decryption` with the provider `sops`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decryption {
    /// The Secret with the private keys.
    pub secret: Option<ResourceName>,
}

/// An object whose health is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Its kind.
    pub gvk: Gvk,
    /// Which object.
    pub id: ObjectId,
}

impl Kustomization {
    /// Reads a declared Kustomization as it is used.
    pub fn new(declared: &Declared, node: &NodeConfig) -> Result<Self, Invalid> {
        declared.check_annotations(&ANNOTATIONS)?;
        let spec: KustomizationSpec = flux::read(&declared.spec.value())?;
        let name = declared.resource.name.clone();
        let interval = read_duration("spec.interval", &spec.interval)?;
        let optional =
            |field, text: &Option<String>| text.as_deref().map(|text| read_duration(field, text)).transpose();
        let retry_interval = optional("spec.retryInterval", &spec.retry_interval)?.unwrap_or(interval);
        let timeout = optional("spec.timeout", &spec.timeout)?
            .unwrap_or_else(|| interval.saturating_sub(SHORTEST_TIMEOUT))
            .max(SHORTEST_TIMEOUT);
        let common = spec.common_metadata.unwrap_or_default();
        let on_unhealthy = annotated(declared, annotation::ON_UNHEALTHY, on_unhealthy)?;
        if on_unhealthy.is_some() && !spec.wait && spec.health_checks.is_empty() {
            let why = "nothing shows whether a revision is healthy: set spec.wait or spec.healthChecks";
            return Err(Invalid::field(format!("metadata.annotations[{}]", annotation::ON_UNHEALTHY), why));
        }
        let window: Option<Window> = annotated(declared, annotation::APPLY_WINDOW, |text| {
            text.parse().map_err(|error: wickie_model::ParseWindowError| error.to_string())
        })?;
        Ok(Self {
            on_unhealthy,
            windows: node.apply_window.iter().cloned().chain(window).collect(),
            repairs_at_any_time: annotated(declared, annotation::DRIFT_WINDOW, drift_window)?.unwrap_or(true),
            source: source(&spec.source_ref, &name, node)?,
            path: path(&spec.path)?,
            prune: spec.prune,
            deletion_policy: deletion_policy(spec.deletion_policy),
            interval,
            retry_interval,
            timeout,
            wait: spec.wait,
            health_checks: spec.health_checks.iter().map(health_check).collect::<Result<_, _>>()?,
            health_rules: expressions::health_rules(&spec.health_check_exprs)?,
            ignore: ignore::rules(spec.ignore)?,
            force: spec.force,
            service_account: service_account(spec.service_account_name)?,
            kube_config: spec.kube_config.map(|it| KubeConfigRef::new(it, &name)).transpose()?,
            suspend: spec.suspend,
            overlay: FluxOverlay {
                target_namespace: text(spec.target_namespace),
                name_prefix: text(spec.name_prefix),
                name_suffix: text(spec.name_suffix),
                patches: spec.patches.into_iter().map(patch).collect(),
                images: spec.images.into_iter().map(image).collect(),
                components: spec.components,
                ignore_missing_components: spec.ignore_missing_components,
                build_metadata: spec.build_metadata,
            },
            substitute_from: spec.post_build.iter().flat_map(|it| substitute_from(it, &name)).collect(),
            substitution: spec.post_build.map(|it| substitution(it, node)).transpose()?,
            decryption: spec.decryption.map(|it| decryption(it, &name)).transpose()?,
            labels: common.labels,
            annotations: common.annotations,
            depends_on: expressions::dependencies(&spec.depends_on, &name)?,
            prune_limit: annotated(declared, annotation::PRUNE_LIMIT, str::parse)?,
            prune_approved: annotated(declared, annotation::PRUNE_APPROVE, |text| {
                text.parse().map_err(|error: wickie_model::ParseRevisionError| error.to_string())
            })?,
            mode: annotated(declared, annotation::MODE, mode)?.unwrap_or_default(),
            name,
        })
    }

    /// The ConfigMaps and Secrets that a build takes values from.
    pub fn values_named(&self) -> impl Iterator<Item = ValuesName> {
        let keys = self.decryption.iter().filter_map(|decryption| decryption.secret.clone());
        let keys = keys.map(|name| ValuesName { kind: ValuesKind::Secret, name });
        self.substitute_from.iter().map(|from| from.values.clone()).chain(keys)
    }

    /// All that it names of ConfigMaps and Secrets: those for a build, and the one with the kubeconfig.
    pub fn watched_values(&self) -> impl Iterator<Item = ValuesName> {
        let secret = self.kube_config.iter().map(|it| ValuesName { kind: ValuesKind::Secret, name: it.secret.clone() });
        self.values_named().chain(secret)
    }

    /// What others may change, by object.
    pub fn ignoring(&self) -> Ignoring {
        Ignoring::new(&self.ignore)
    }

    /// Whether anything's health is waited for.
    pub fn waits(&self) -> bool {
        self.wait || !self.health_checks.is_empty()
    }
}

/// A name that can be one: it becomes part of a header.
fn service_account(name: String) -> Result<Option<String>, Invalid> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    match name.chars().all(allowed) && name.len() <= 253 {
        true => Ok(text(name)),
        false => {
            Err(Invalid::field("spec.serviceAccountName", format!("{name:?} is not the name of a service account")))
        }
    }
}

/// A text that is given; an empty one is not.
fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn patch(patch: flux::Patch) -> FluxPatch {
    FluxPatch { patch: patch.patch, target: patch.target.map(FluxSelector::from) }
}

fn image(image: flux::Image) -> FluxImage {
    FluxImage { name: image.name, new_name: image.new_name, new_tag: image.new_tag, digest: image.digest }
}

fn decryption(decryption: flux::Decryption, of: &ResourceName) -> Result<Decryption, Invalid> {
    let flux::Decryption { provider: flux::DecryptionProvider::Sops, secret_ref, service_account_name } = decryption;
    if !service_account_name.is_empty() {
        return Err(Invalid::Unsupported {
            field: "spec.decryption.serviceAccountName".to_owned(),
            way_out: "the agent asks no key service, because it must decrypt without a network: give age or OpenPGP keys in secretRef",
        });
    }
    Ok(Decryption { secret: secret_ref.map(|secret| ResourceName::new(&of.namespace, &secret.name)) })
}

fn substitute_from(post_build: &flux::PostBuild, of: &ResourceName) -> Vec<SubstituteFrom> {
    let read = |from: &flux::SubstituteReference| SubstituteFrom {
        values: ValuesName {
            kind: match from.kind {
                flux::SubstituteKind::ConfigMap => ValuesKind::ConfigMap,
                flux::SubstituteKind::Secret => ValuesKind::Secret,
            },
            name: ResourceName::new(&of.namespace, &from.name),
        },
        optional: from.optional,
    };
    post_build.substitute_from.iter().map(read).collect()
}

fn substitution(post_build: flux::PostBuild, node: &NodeConfig) -> Result<Substitution, Invalid> {
    let mut substitution = Substitution::new();
    substitution.strict = node.strict_substitutions;
    substitution.always = post_build.substitute_strategy == Some(flux::SubstituteStrategy::Always);
    for (name, value) in &post_build.substitute {
        substitution.insert(name, value).map_err(|error| Invalid::field("spec.postBuild.substitute", error))?;
    }
    Ok(substitution)
}

/// Reads the duration that stands in `field`.
pub(super) fn read_duration(field: &str, text: &str) -> Result<Duration, Invalid> {
    duration::parse(text).map_err(|error| Invalid::field(field, error))
}

pub(super) fn annotated<T>(
    declared: &Declared,
    key: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Invalid> {
    let read = declared.annotations.get(key).map(|text| read(text)).transpose();
    read.map_err(|why| Invalid::field(format!("metadata.annotations[{key}]"), why))
}

fn on_unhealthy(text: &str) -> Result<OnUnhealthy, String> {
    match text {
        "rollback" => Ok(OnUnhealthy::Rollback),
        "stop" => Ok(OnUnhealthy::Stop),
        _ => Err(format!("{text:?} is not known: write rollback or stop")),
    }
}

fn drift_window(text: &str) -> Result<bool, String> {
    match text {
        "always" => Ok(true),
        "apply-window" => Ok(false),
        _ => Err(format!("{text:?} is not known: write always or apply-window")),
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "detect" => Ok(Mode::Detect),
        _ => Err(format!("{text:?} is not a mode: write enforce or detect")),
    }
}

fn source(reference: &flux::SourceReference, name: &ResourceName, node: &NodeConfig) -> Result<ResourceName, Invalid> {
    if reference.kind != "GitRepository" {
        let why = format!("{:?} is not a source that wickie serves: use a GitRepository", reference.kind);
        return Err(Invalid::field("spec.sourceRef.kind", why));
    }
    if !reference.api_version.is_empty() && !reference.api_version.starts_with("source.toolkit.fluxcd.io/") {
        let why = format!("{:?} has no GitRepository: write source.toolkit.fluxcd.io/v1", reference.api_version);
        return Err(Invalid::field("spec.sourceRef.apiVersion", why));
    }
    let namespace = if reference.namespace.is_empty() { &name.namespace } else { &reference.namespace };
    if *namespace != name.namespace && !node.cross_namespace_references {
        let why = "names another namespace, and this node does not allow that (cross-namespace-references: false)";
        return Err(Invalid::field("spec.sourceRef.namespace", why));
    }
    Ok(ResourceName::new(namespace, &reference.name))
}

/// A path inside the repository, cleaned. Flux joins it securely, so that `..` cannot leave; here it is refused.
fn path(text: &str) -> Result<String, Invalid> {
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Invalid::field("spec.path", format!("{text:?} leaves the repository"))),
            _ => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn deletion_policy(policy: Option<flux::DeletionPolicy>) -> DeletionPolicy {
    match policy {
        None | Some(flux::DeletionPolicy::MirrorPrune) => DeletionPolicy::MirrorPrune,
        Some(flux::DeletionPolicy::Delete) => DeletionPolicy::Delete,
        Some(flux::DeletionPolicy::WaitForTermination) => DeletionPolicy::WaitForTermination,
        Some(flux::DeletionPolicy::Orphan) => DeletionPolicy::Orphan,
    }
}

fn health_check(check: &flux::HealthCheckReference) -> Result<HealthCheck, Invalid> {
    if check.api_version.is_empty() {
        return Err(Invalid::field("spec.healthChecks[].apiVersion", "is missing; write the object's apiVersion"));
    }
    let gvk = Gvk::new(&check.api_version, &check.kind);
    let id = ObjectId::new(gvk.group.clone(), check.kind.clone(), check.namespace.clone(), check.name.clone());
    Ok(HealthCheck { gvk, id })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wickie_model::ResourceKind;

    use super::*;
    use crate::config::secrets::SecretData;
    use crate::store::Origin;

    fn read(spec: Value, annotations: Value) -> Result<Kustomization, Invalid> {
        let document = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "shop", "annotations": annotations}, "spec": spec
        });
        let declared = Declared::new(ResourceKind::Kustomization, &document, Origin::File, "flux-system").unwrap();
        Kustomization::new(&declared, &NodeConfig::default())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut spec =
            json!({"interval": "10m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "shop"}});
        spec[field] = value;
        spec
    }

    #[test]
    fn defaults_are_those_of_flux() {
        let read = read(with("path", json!("./clusters/oslo/")), json!({})).unwrap();
        assert_eq!(read.path, "clusters/oslo");
        assert_eq!(read.retry_interval, Duration::from_secs(600));
        assert_eq!(read.timeout, Duration::from_secs(570));
        assert_eq!(read.source, ResourceName::new("flux-system", "shop"));
        assert_eq!(read.deletion_policy, DeletionPolicy::MirrorPrune);
    }

    #[test]
    fn what_is_not_followed_is_refused_by_name() {
        for (field, value, named) in [
            ("postBuild", json!({"substituteFrom": [{"kind": "Pod", "name": "vars"}]}), "Pod"),
            ("postBuild", json!({"substitute": {"1a": "b"}}), "spec.postBuild.substitute"),
            ("patches", json!([{"patch": "", "options": {}}]), "options"),
            ("decryption", json!({"provider": "vault"}), "vault"),
            (
                "decryption",
                json!({"provider": "sops", "serviceAccountName": "a"}),
                "spec.decryption.serviceAccountName",
            ),
            ("serviceAccountName", json!("Tenant:x"), "spec.serviceAccountName"),
            ("kubeConfig", json!({"configMapRef": {"name": "a"}}), "spec.kubeConfig.configMapRef"),
            ("kubeConfig", json!({"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}), "exactly one"),
            ("kubeConfig", json!({}), "exactly one"),
            ("kubeConfig", json!({"secretRef": {"name": "a", "context": "b"}}), "context"),
            ("intervall", json!("1m"), "spec.intervall"),
            ("interval", json!("often"), "spec.interval"),
            ("path", json!("../other"), "spec.path"),
            ("sourceRef", json!({"kind": "Bucket", "name": "b"}), "spec.sourceRef.kind"),
            (
                "dependsOn",
                json!([{"name": "a", "readyExpr": "dep.x &&"}]),
                "spec.dependsOn[0].readyExpr: the expression",
            ),
            (
                "dependsOn",
                json!([{"name": "a"}, {"name": "b", "readyExpr": "other.x == 1"}]),
                "spec.dependsOn[1].readyExpr",
            ),
            ("healthCheckExprs", json!([{"apiVersion": "a/v1", "kind": "B"}]), "current"),
            (
                "healthCheckExprs",
                json!([{"apiVersion": "a/v1", "kind": "B", "current": ""}]),
                "spec.healthCheckExprs[0].current",
            ),
            (
                "healthCheckExprs",
                json!([{"apiVersion": "a/v1", "kind": "B", "current": "true", "failed": "now() == 1"}]),
                "spec.healthCheckExprs[0].failed: the expression \"now() == 1\" calls now()",
            ),
            (
                "healthCheckExprs",
                json!([{"apiVersion": "a/v1", "current": "true"}, {"apiVersion": "a/v2", "current": "true"}]),
                "spec.healthCheckExprs[1]",
            ),
            (
                "healthCheckExprs",
                json!([{"apiVersion": "batch/v1", "kind": "Job", "current": "true"}]),
                "spec.healthCheckExprs[0].kind",
            ),
            ("healthChecks", json!([{"kind": "Deployment", "name": "a"}]), "apiVersion"),
            ("ignore", json!([{"paths": ["/spec/a"]}, {"paths": ["spec.b"]}]), "spec.ignore[1].paths"),
            ("ignore", json!([{"paths": ["/metadata/name"]}]), "spec.ignore[0].paths"),
            ("ignore", json!([{"paths": [], "target": {"name": "("}}]), "spec.ignore[0].target"),
        ] {
            let error = read(with(field, value), json!({})).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_kubeconfig_is_looked_for_where_flux_does() {
        let reference = |secret: Value| {
            let read = read(with("kubeConfig", json!({"secretRef": secret})), json!({})).unwrap();
            assert_eq!(read.watched_values().count(), 1);
            assert_eq!(read.values_named().count(), 0, "a build takes nothing from it");
            read.kube_config.unwrap()
        };
        let entries = |keys: &[&str]| {
            SecretData::new(keys.iter().map(|key| ((*key).to_owned(), key.as_bytes().to_vec())).collect())
        };
        let plain = reference(json!({"name": "edge"}));
        assert_eq!(plain.secret, ResourceName::new("flux-system", "edge"));
        assert_eq!(plain.of(&entries(&["value.yaml", "value"])), Ok(&b"value"[..]));
        assert_eq!(plain.of(&entries(&["value.yaml"])), Ok(&b"value.yaml"[..]));
        assert_eq!(plain.of(&entries(&["config"])), Err("value"));
        let named = reference(json!({"name": "edge", "key": "config"}));
        assert_eq!(named.of(&entries(&["value", "config"])), Ok(&b"config"[..]));
        assert_eq!(named.of(&entries(&["value"])), Err("config"));
        let document = json!({"spec": {"kubeConfig": {"secretRef": {"name": "edge", "key": "config"}}}});
        assert_eq!(KubeConfigRef::in_spec(&document["spec"], "flux-system"), Some(named));
        assert_eq!(KubeConfigRef::in_spec(&json!({"path": "edge"}), "flux-system"), None);
    }

    #[test]
    fn a_default_that_asks_for_nothing_is_not_refused() {
        assert!(read(with("ignoreMissingComponents", json!(false)), json!({})).is_ok());
        assert!(read(with("patches", json!([])), json!({})).is_ok());
    }

    #[test]
    fn a_misspelt_safeguard_is_an_error() {
        let error = read(with("wait", json!(true)), json!({"wickie.dev/prune-limits": "10%"})).unwrap_err();
        assert!(error.to_string().contains("wickie.dev/prune-limits"), "{error}");
        let blind = read(with("wait", json!(false)), json!({"wickie.dev/on-unhealthy": "rollback"})).unwrap_err();
        assert!(blind.to_string().contains("spec.wait"), "{blind}");
        let undone = read(with("wait", json!(true)), json!({"wickie.dev/on-unhealthy": "rollback"})).unwrap();
        assert_eq!(undone.on_unhealthy, Some(OnUnhealthy::Rollback));
        for (key, value) in [("wickie.dev/apply-window", "Mon-Fry 22:00-04:00"), ("wickie.dev/drift-window", "never")] {
            let error = read(with("wait", json!(true)), json!({ key: value })).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
        let limited = read(with("wait", json!(true)), json!({"wickie.dev/prune-limit": "10%"})).unwrap();
        assert_eq!(limited.prune_limit, Some(Limit::Percent(10)));
    }

    #[test]
    fn changes_are_made_as_node_and_object_say() {
        let node = NodeConfig { apply_window: Some("20:00-06:00".parse().unwrap()), ..NodeConfig::default() };
        let read = |annotations: Value, node: &NodeConfig| {
            let document = json!({
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                "metadata": {"name": "shop", "annotations": annotations}, "spec": with("wait", json!(true))
            });
            let declared = Declared::new(ResourceKind::Kustomization, &document, Origin::File, "flux-system").unwrap();
            Kustomization::new(&declared, node).unwrap()
        };
        let free = read(json!({}), &NodeConfig::default());
        assert!(free.windows.is_empty() && free.repairs_at_any_time);
        assert_eq!(read(json!({}), &node).windows.to_string(), "20:00-06:00");
        let own = json!({annotation::APPLY_WINDOW: "Sat 22:00-23:00", annotation::DRIFT_WINDOW: "apply-window"});
        let both = read(own, &node);
        assert_eq!(both.windows.to_string(), "20:00-06:00, and Sat 22:00-23:00");
        assert!(!both.repairs_at_any_time);
    }
}
