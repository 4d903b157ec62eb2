//! Flux's kinds as they are written: the raw types that CRDs are made from and documents are read into.
//!
//! Sources: `kustomize-controller/api/v1/kustomization_types.go` (v1.9),
//! `source-controller/api/v1/gitrepository_types.go` (v1.9).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Invalid;

/// A field of Flux that is refused, and what to do instead.
pub(crate) type Unsupported = (&'static str, &'static str);

/// A raw spec: its fields, and those that are refused by name.
pub(crate) trait RawSpec: DeserializeOwned + JsonSchema {
    /// Fields that Flux has and wickie does not follow.
    const UNSUPPORTED: &'static [Unsupported];

    /// Fields that no type here knows.
    fn rest(&self) -> &BTreeMap<String, Value>;
}

/// Reads a spec, and refuses by name what is not followed.
pub(crate) fn read<T: RawSpec>(spec: &Value) -> Result<T, Invalid> {
    let read: T = T::deserialize(spec).map_err(|error| Invalid::field("spec", error))?;
    for (field, value) in read.rest() {
        let field_path = format!("spec.{field}");
        match T::UNSUPPORTED.iter().find(|(name, _)| name == field) {
            Some(_) if is_empty(value) => {}
            Some((_, way_out)) => return Err(Invalid::Unsupported { field: field_path, way_out }),
            None => return Err(Invalid::Unknown { field: field_path }),
        }
    }
    Ok(read)
}

/// Whether a value asks for nothing: Flux's own defaults must not be refused.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A reference to an object in the same namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocalReference {
    /// Name of the referent.
    pub(crate) name: String,
}

/// `Kustomization.spec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KustomizationSpec {
    /// Labels and annotations added to every object.
    pub(crate) common_metadata: Option<CommonMetadata>,
    /// Kustomizations that must be ready before this one is applied.
    #[serde(default)]
    pub(crate) depends_on: Vec<DependencyReference>,
    /// How often the cluster is held against the source. The node's own watches repair drift sooner.
    pub(crate) interval: String,
    /// How soon a failed reconciliation is tried again; the interval where it is not given.
    pub(crate) retry_interval: Option<String>,
    /// The directory in the source; its root where it is not given.
    #[serde(default)]
    pub(crate) path: String,
    /// Whether objects that left the source are deleted.
    pub(crate) prune: bool,
    /// What becomes of the objects when this is deleted.
    pub(crate) deletion_policy: Option<DeletionPolicy>,
    /// Objects whose health is waited for.
    #[serde(default)]
    pub(crate) health_checks: Vec<HealthCheckReference>,
    /// How the health of kinds is judged whose status follows no convention.
    #[serde(default)]
    pub(crate) health_check_exprs: Vec<HealthCheckExpressions>,
    /// Where the manifests come from.
    pub(crate) source_ref: SourceReference,
    /// The service account, of the same namespace, as which everything is applied and deleted.
    #[serde(default)]
    pub(crate) service_account_name: String,
    /// Whether reconciliation is suspended.
    #[serde(default)]
    pub(crate) suspend: bool,
    /// The namespace that every namespaced object is put into.
    #[serde(default)]
    pub(crate) target_namespace: String,
    /// How long health is waited for; the interval less 30s where it is not given, and never under 30s.
    pub(crate) timeout: Option<String>,
    /// Whether an object whose change is refused as immutable is deleted and made again.
    #[serde(default)]
    pub(crate) force: bool,
    /// Whether the health of every object is waited for.
    #[serde(default)]
    pub(crate) wait: bool,
    /// Put before the name of every object.
    #[serde(default)]
    pub(crate) name_prefix: String,
    /// Put after the name of every object.
    #[serde(default)]
    pub(crate) name_suffix: String,
    /// Strategic merge and JSON patches.
    #[serde(default)]
    pub(crate) patches: Vec<Patch>,
    /// Images that get another name, tag or digest.
    #[serde(default)]
    pub(crate) images: Vec<Image>,
    /// Kustomize components, by their paths from the folder that is built.
    #[serde(default)]
    pub(crate) components: Vec<String>,
    /// Whether a component that is not there is passed over.
    #[serde(default)]
    pub(crate) ignore_missing_components: bool,
    /// Which annotations the build writes of itself: originAnnotations, transformerAnnotations.
    #[serde(default)]
    pub(crate) build_metadata: Vec<String>,
    /// Fields of the objects that others may change.
    #[serde(default)]
    pub(crate) ignore: Vec<IgnoreRule>,
    /// Variables that are put in after the build.
    pub(crate) post_build: Option<PostBuild>,
    /// How what is encrypted in the source is decrypted.
    pub(crate) decryption: Option<Decryption>,
    /// The cluster that everything is applied to, where that is not the agent's own.
    pub(crate) kube_config: Option<KubeConfig>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) rest: BTreeMap<String, Value>,
}

impl RawSpec for KustomizationSpec {
    const UNSUPPORTED: &'static [Unsupported] = &[];

    fn rest(&self) -> &BTreeMap<String, Value> {
        &self.rest
    }
}

/// `Kustomization.spec.kubeConfig`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KubeConfig {
    /// The Secret, of the same namespace, with the kubeconfig.
    pub(crate) secret_ref: Option<SecretKeyReference>,
    /// A ConfigMap that describes a cloud provider's cluster. Understood by Flux, refused by wickie: it takes the provider.
    pub(crate) config_map_ref: Option<LocalReference>,
}

/// A Secret of the same namespace, and one of its keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretKeyReference {
    /// Name of the Secret.
    pub(crate) name: String,
    /// The key in it; `value`, or else `value.yaml`, where it is not given.
    #[serde(default)]
    pub(crate) key: String,
}

/// `Kustomization.spec.commonMetadata`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommonMetadata {
    /// Annotations added to every object.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Labels added to every object.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// `Kustomization.spec.patches[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Patch {
    /// A strategic merge patch or a JSON patch, as text.
    pub(crate) patch: String,
    /// Which objects it goes to.
    pub(crate) target: Option<Selector>,
}

/// `Kustomization.spec.ignore[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IgnoreRule {
    /// JSON pointers to the fields.
    pub(crate) paths: Vec<String>,
    /// Which objects it goes for; all where it is not given.
    pub(crate) target: Option<Selector>,
}

/// `Kustomization.spec.patches[].target`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Selector {
    /// The API group, a regular expression.
    pub(crate) group: String,
    /// The API version, a regular expression.
    pub(crate) version: String,
    /// The kind, a regular expression.
    pub(crate) kind: String,
    /// The name, a regular expression.
    pub(crate) name: String,
    /// The namespace, a regular expression.
    pub(crate) namespace: String,
    /// A label selector.
    pub(crate) label_selector: String,
    /// A selector of annotations.
    pub(crate) annotation_selector: String,
}

/// `Kustomization.spec.images[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Image {
    /// The image, without a tag.
    pub(crate) name: String,
    /// Its new name.
    #[serde(default)]
    pub(crate) new_name: String,
    /// Its new tag.
    #[serde(default)]
    pub(crate) new_tag: String,
    /// Its new digest.
    #[serde(default)]
    pub(crate) digest: String,
}

/// `Kustomization.spec.decryption`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Decryption {
    /// How it is encrypted: sops.
    pub(crate) provider: DecryptionProvider,
    /// The Secret with the private keys: age identities under names that end in .agekey, OpenPGP keys under .asc.
    pub(crate) secret_ref: Option<LocalReference>,
    /// An account for key services in a network: refused, for there may be none.
    #[serde(default)]
    pub(crate) service_account_name: String,
}

/// `Kustomization.spec.decryption.provider`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) enum DecryptionProvider {
    #[serde(rename = "sops")]
    Sops,
}

/// `Kustomization.spec.postBuild`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PostBuild {
    /// Variables and their values.
    #[serde(default)]
    pub(crate) substitute: BTreeMap<String, String>,
    /// ConfigMaps and Secrets with variables. A later one wins over an earlier one, `substitute` over all.
    #[serde(default)]
    pub(crate) substitute_from: Vec<SubstituteReference>,
    /// Whether to substitute even where there are no variables.
    pub(crate) substitute_strategy: Option<SubstituteStrategy>,
}

/// `Kustomization.spec.postBuild.substituteFrom[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubstituteReference {
    /// ConfigMap or Secret, of the Kustomization's namespace.
    pub(crate) kind: SubstituteKind,
    /// Its name.
    pub(crate) name: String,
    /// Whether it may be missing.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// `Kustomization.spec.postBuild.substituteFrom[].kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum SubstituteKind {
    Secret,
    ConfigMap,
}

/// `Kustomization.spec.postBuild.substituteStrategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum SubstituteStrategy {
    WithVariables,
    Always,
}

/// `Kustomization.spec.dependsOn[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DependencyReference {
    /// Name of the Kustomization.
    pub(crate) name: String,
    /// Its namespace; that of the referring object where it is not given.
    #[serde(default)]
    pub(crate) namespace: String,
    /// A CEL expression that says when it is ready, over `self` and `dep`; instead of its Ready condition.
    #[serde(default)]
    pub(crate) ready_expr: String,
}

/// `Kustomization.spec.deletionPolicy`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) enum DeletionPolicy {
    MirrorPrune,
    Delete,
    WaitForTermination,
    Orphan,
}

/// `Kustomization.spec.healthChecks[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HealthCheckReference {
    /// API version of the object.
    #[serde(default)]
    pub(crate) api_version: String,
    /// Its kind.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    #[serde(default)]
    pub(crate) namespace: String,
}

/// `Kustomization.spec.healthCheckExprs[]`: CEL expressions over the fields of the object.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HealthCheckExpressions {
    /// API version of the objects; its group alone counts.
    pub(crate) api_version: String,
    /// Their kind; every kind of the group where it is not given.
    #[serde(default)]
    pub(crate) kind: String,
    /// Says that the object is as it should be.
    pub(crate) current: String,
    /// Says that it is on its way; asked first.
    #[serde(default)]
    pub(crate) in_progress: String,
    /// Says that it has failed; asked second.
    #[serde(default)]
    pub(crate) failed: String,
}

/// `Kustomization.spec.sourceRef`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceReference {
    /// API version of the source.
    #[serde(default)]
    pub(crate) api_version: String,
    /// Its kind: GitRepository.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// Its namespace; that of the Kustomization where it is not given.
    #[serde(default)]
    pub(crate) namespace: String,
}

/// `GitRepository.spec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GitRepositorySpec {
    /// The repository.
    pub(crate) url: String,
    /// The Secret with the credentials: username and password, bearerToken, identity and known_hosts, or those of a
    /// GitHub App; ca.crt for a CA of your own, tls.crt and tls.key for a client certificate.
    pub(crate) secret_ref: Option<LocalReference>,
    /// How to get credentials: generic takes them from the Secret, github gets tokens with the App in it.
    pub(crate) provider: Option<GitProvider>,
    /// The Secret with the proxy to go through: address, username, password.
    pub(crate) proxy_secret_ref: Option<LocalReference>,
    /// How often the repository is asked for something new.
    pub(crate) interval: String,
    /// How long one Git operation may take; 60s where it is not given.
    pub(crate) timeout: Option<String>,
    /// What to follow; the branch master where it is not given.
    #[serde(rename = "ref")]
    pub(crate) reference: Option<GitReference>,
    /// Whose signature a commit must carry.
    pub(crate) verify: Option<Verification>,
    /// Patterns of files to leave out, as in .sourceignore.
    pub(crate) ignore: Option<String>,
    /// Whether the repository is left alone.
    #[serde(default)]
    pub(crate) suspend: bool,
    /// Whether submodules are part of the snapshot.
    #[serde(default)]
    pub(crate) recurse_submodules: bool,
    /// Other GitRepositories whose snapshots are part of this one.
    #[serde(default)]
    pub(crate) include: Vec<GitRepositoryInclude>,
    /// The directories that are part of the snapshot; all where it is not given.
    #[serde(default)]
    pub(crate) sparse_checkout: Vec<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(crate) rest: BTreeMap<String, Value>,
}

impl RawSpec for GitRepositorySpec {
    const UNSUPPORTED: &'static [Unsupported] = &[("serviceAccountName", "give credentials in secretRef")];

    fn rest(&self) -> &BTreeMap<String, Value> {
        &self.rest
    }
}

/// `GitRepository.spec.provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GitProvider {
    Generic,
    Github,
    /// Flux gets tokens of Azure DevOps here, with the identity of a cloud's machine: refused by name.
    Azure,
}

/// `GitRepository.spec.include[]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GitRepositoryInclude {
    /// The GitRepository, in the same namespace.
    pub(crate) repository: LocalReference,
    /// The path of it that is taken; its root where it is not given.
    #[serde(default)]
    pub(crate) from_path: String,
    /// Where it is put; under the name of the GitRepository where it is not given.
    #[serde(default)]
    pub(crate) to_path: String,
}

/// `GitRepository.spec.ref`. `name` wins over `semver`, that over `tag`, that over `branch`; `commit` wins over all.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GitReference {
    /// A branch.
    #[serde(default)]
    pub(crate) branch: String,
    /// A tag.
    #[serde(default)]
    pub(crate) tag: String,
    /// A range of tags that are versions: the highest is taken.
    #[serde(default)]
    pub(crate) semver: String,
    /// A full reference name.
    #[serde(default)]
    pub(crate) name: String,
    /// A commit's full id.
    #[serde(default)]
    pub(crate) commit: String,
}

/// `GitRepository.spec.verify`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Verification {
    /// What must be signed: the commit (HEAD), the tag, or both.
    pub(crate) mode: Option<VerificationMode>,
    /// The Secret with the public keys: PGP key rings under names that end in .asc, SSH keys under .sshpub.
    pub(crate) secret_ref: LocalReference,
}

/// `GitRepository.spec.verify.mode`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) enum VerificationMode {
    #[serde(rename = "head")]
    LowerCaseHead,
    #[serde(rename = "HEAD")]
    Head,
    Tag,
    TagAndHEAD,
}
