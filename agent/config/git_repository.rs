//! A GitRepository, validated.

use std::time::Duration;

use super::declared::{Declared, annotation};
use super::flux::{self, GitReference, GitRepositorySpec, VerificationMode};
use super::git::{Credentials, GitSource, GitUrl, Limits, RefName, Reference, Verify, VerifyMode};
use super::kustomization::read_duration;
use super::secret::Secret;
use super::secrets::{Named, SecretData, Secrets};
use super::{Invalid, NodeConfig};

/// The annotations a GitRepository may carry.
const ANNOTATIONS: [&str; 1] = [annotation::MANAGED];

/// How many snapshots of a source are kept.
const HISTORY: u32 = 5;

/// Where snapshots come from, and how often to look.
#[derive(Clone, Debug)]
pub struct GitRepository {
    /// What the source stage needs.
    pub source: GitSource,
    /// How often to look.
    pub interval: Duration,
    /// Whether it is left alone.
    pub suspend: bool,
}

/// The Secrets that a declared GitRepository names.
pub(super) fn named(declared: &Declared) -> Vec<Named> {
    ["/secretRef/name", "/verify/secretRef/name"]
        .into_iter()
        .filter_map(|pointer| declared.spec.pointer(pointer)?.as_str())
        .map(|name| Named::secret(&declared.resource.name.namespace, name))
        .collect()
}

impl GitRepository {
    /// Reads a declared GitRepository as it is used. `secrets` holds the Secrets that it names, as far as they are there.
    pub fn new(declared: &Declared, secrets: &Secrets, node: &NodeConfig) -> Result<Self, Invalid> {
        declared.check_annotations(&ANNOTATIONS)?;
        let spec: GitRepositorySpec = flux::read(&declared.spec)?;
        if let Some(provider) = spec.rest.get("provider").and_then(|provider| provider.as_str())
            && provider != "generic"
        {
            let way_out = "use credentials in secretRef, and provider generic";
            return Err(Invalid::Unsupported { field: format!("spec.provider {provider}"), way_out });
        }
        let name = declared.resource.name.clone();
        let find = |field: &str, reference: &flux::LocalReference| {
            secrets.get(&Named::secret(&name.namespace, &reference.name)).ok_or_else(|| Invalid::Missing {
                field: field.to_owned(),
                kind: "Secret",
                name: format!("{}/{}", name.namespace, reference.name),
            })
        };
        let secret = spec.secret_ref.as_ref().map(|reference| find("spec.secretRef", reference)).transpose()?;
        let verify = match &spec.verify {
            None if node.require_verified => {
                let why = "is missing, and this node takes signed commits alone (require-verified: true); name the Secret with the signers' public keys";
                return Err(Invalid::field("spec.verify", why));
            }
            None => None,
            Some(verify) => Some(Verify {
                mode: mode(verify.mode),
                keys: find("spec.verify.secretRef", &verify.secret_ref)?.entries().collect(),
            }),
        };
        let timeout = spec.timeout.as_deref().map(|text| read_duration("spec.timeout", text)).transpose()?;
        let source = GitSource {
            url: GitUrl::parse(&spec.url).map_err(|error| Invalid::field("spec.url", error))?,
            reference: reference(spec.reference.unwrap_or_default())?,
            timeout: timeout.unwrap_or(Duration::from_secs(60)),
            credentials: secret.map(credentials).transpose()?.flatten(),
            ca: secret.and_then(|secret| secret.get("ca.crt").or_else(|| secret.get("caFile"))).map(<[u8]>::to_vec),
            verify,
            permits: Vec::new(),
            ignore: spec.ignore,
            paths: None,
            limits: Limits::default(),
            history: HISTORY,
            name,
        };
        Ok(Self { source, interval: read_duration("spec.interval", &spec.interval)?, suspend: spec.suspend })
    }
}

fn mode(mode: Option<VerificationMode>) -> VerifyMode {
    match mode {
        None | Some(VerificationMode::Head | VerificationMode::LowerCaseHead) => VerifyMode::Head,
        Some(VerificationMode::Tag) => VerifyMode::Tag,
        Some(VerificationMode::TagAndHEAD) => VerifyMode::TagAndHead,
    }
}

/// Flux's order of precedence: commit, name, semver, tag, branch; the branch master where nothing is given.
fn reference(reference: GitReference) -> Result<Reference, Invalid> {
    let name = |field: &str, text: &str| RefName::new(text).map_err(|error| Invalid::field(field, error));
    if !reference.commit.is_empty() {
        let oid = reference.commit.parse().map_err(|error| Invalid::field("spec.ref.commit", error))?;
        let branch = Some(reference.branch).filter(|branch| !branch.is_empty());
        return Ok(Reference::Commit { oid, branch: branch.map(|text| name("spec.ref.branch", &text)).transpose()? });
    }
    if !reference.name.is_empty() {
        return Ok(Reference::Name(name("spec.ref.name", &reference.name)?));
    }
    if !reference.semver.is_empty() {
        let range = reference.semver.parse().map_err(|error| Invalid::field("spec.ref.semver", error))?;
        return Ok(Reference::Semver(range));
    }
    if !reference.tag.is_empty() {
        return Ok(Reference::Tag(name("spec.ref.tag", &reference.tag)?));
    }
    let branch = if reference.branch.is_empty() { "master" } else { &reference.branch };
    Ok(Reference::Branch(name("spec.ref.branch", branch)?))
}

fn credentials(secret: &SecretData) -> Result<Option<Credentials>, Invalid> {
    let text = |key: &str| match secret.get(key).map(std::str::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim_end_matches('\n').to_owned())),
        Some(Err(_)) => Err(Invalid::field(format!("spec.secretRef: the Secret's {key}"), "is not UTF-8 text")),
    };
    if let Some(identity) = text("identity")? {
        let known_hosts = text("known_hosts")?
            .ok_or_else(|| Invalid::field("spec.secretRef", "the Secret has an identity and no known_hosts"))?;
        let passphrase = text("password")?.map(Secret::new);
        return Ok(Some(Credentials::Ssh { identity: Secret::new(identity), passphrase, known_hosts }));
    }
    if let Some(token) = text("bearerToken")? {
        return Ok(Some(Credentials::Bearer(Secret::new(token))));
    }
    match (text("username")?, text("password")?) {
        (Some(username), Some(password)) => Ok(Some(Credentials::Basic { username, password: Secret::new(password) })),
        (None, None) => Ok(None),
        _ => Err(Invalid::field(
            "spec.secretRef",
            "the Secret takes both username and password, or bearerToken, or identity and known_hosts",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wickie_model::ResourceKind;

    use super::*;
    use crate::store::Origin;

    fn read(spec: Value, secrets: &Secrets, node: &NodeConfig) -> Result<GitRepository, Invalid> {
        let document = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": "shop"}, "spec": spec
        });
        let declared = Declared::new(ResourceKind::GitRepository, &document, Origin::File, "flux-system").unwrap();
        GitRepository::new(&declared, secrets, node)
    }

    fn spec(more: Value) -> Value {
        let mut spec = json!({"url": "https://git.example/shop", "interval": "1m"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    #[test]
    fn references_win_in_flux_s_order() {
        let id = "2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4";
        for (reference, shown) in [
            (json!({}), "branch master".to_owned()),
            (json!({"branch": "main"}), "branch main".to_owned()),
            (json!({"branch": "main", "tag": "v1"}), "tag v1".to_owned()),
            (json!({"tag": "v1", "semver": "1.x"}), "semver 1.x".to_owned()),
            (json!({"semver": "1.x", "name": "refs/pull/1/head"}), "name refs/pull/1/head".to_owned()),
            (json!({"name": "refs/pull/1/head", "commit": id}), format!("commit {id}")),
        ] {
            let read = read(spec(json!({"ref": reference})), &Secrets::new(), &NodeConfig::default()).unwrap();
            assert_eq!(read.source.reference.to_string(), shown);
        }
    }

    #[test]
    fn a_node_that_wants_signatures_refuses_a_source_without() {
        let node = NodeConfig { require_verified: true, ..NodeConfig::default() };
        let error = read(spec(json!({})), &Secrets::new(), &node).unwrap_err();
        assert!(error.to_string().contains("spec.verify"), "{error}");
    }

    #[test]
    fn credentials_come_from_the_secret() {
        let with = |entries: &[(&str, &str)]| {
            let data = entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
            Secrets::from([(Named::secret("flux-system", "auth"), SecretData::new(data.collect()))])
        };
        let spec = spec(json!({"secretRef": {"name": "auth"}}));
        let node = NodeConfig::default();
        let basic = read(spec.clone(), &with(&[("username", "u"), ("password", "p\n")]), &node).unwrap();
        let expected = Credentials::Basic { username: "u".into(), password: Secret::new("p".into()) };
        assert_eq!(basic.source.credentials, Some(expected));
        assert!(read(spec.clone(), &with(&[("username", "u")]), &node).is_err());
        let missing = read(spec, &Secrets::new(), &node).unwrap_err();
        assert!(missing.to_string().contains("Secret flux-system/auth"), "{missing}");
    }
}
