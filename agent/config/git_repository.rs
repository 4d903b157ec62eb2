//! A GitRepository, validated.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use wickie_model::{Budget, ResourceName, Window, Windows};

use super::declared::{Declared, annotation};
use super::flux::{self, GitProvider, GitReference, GitRepositorySpec, VerificationMode};
use super::git::{GitSource, GitUrl, Include, Limits, RefName, Reference, Verify, VerifyMode};
use super::git_access;
use super::kustomization::{annotated, read_duration};
use super::secrets::{Named, Secrets};
use super::{Invalid, MaxAge, NodeConfig};
use crate::store::Origin;

/// The annotations a GitRepository may carry.
const ANNOTATIONS: [&str; 5] =
    [annotation::FETCH_BUDGET, annotation::FETCH_WINDOW, annotation::HISTORY, annotation::MANAGED, annotation::MAX_AGE];

/// How many snapshots of a source are kept, unless it says otherwise; what a Kustomization needs is kept beside them.
const HISTORY: u32 = 5;

/// More are not kept: each is walked when what nobody needs is cleared away.
const LONGEST_HISTORY: u32 = 1_000;

/// Where snapshots come from, and how often to look.
#[derive(Clone, Debug)]
pub struct GitRepository {
    /// What the source stage needs.
    pub source: GitSource,
    /// How often to look.
    pub interval: Duration,
    /// Whether it is left alone.
    pub suspend: bool,
    /// When it may be asked unasked: the node's window and its own.
    pub windows: Windows,
    /// How much it may cost. The node's budget is for all sources together, and not here.
    pub budget: Option<Budget>,
}

/// The Secrets that a declared GitRepository names.
pub(super) fn named(declared: &Declared) -> Vec<Named> {
    ["/secretRef/name", "/proxySecretRef/name", "/verify/secretRef/name"]
        .into_iter()
        .filter_map(|pointer| declared.spec.text(pointer))
        .map(|name| Named::secret(&declared.resource.name.namespace, &name))
        .collect()
}

impl GitRepository {
    /// Reads a declared GitRepository as it is used. `secrets` holds the Secrets that it names, as far as they are there.
    pub fn new(declared: &Declared, secrets: &Secrets, node: &NodeConfig) -> Result<Self, Invalid> {
        declared.check_annotations(&ANNOTATIONS)?;
        let spec: GitRepositorySpec = flux::read(&declared.spec.value())?;
        if spec.provider == Some(GitProvider::Azure) {
            let way_out = "use credentials in secretRef, and provider generic";
            return Err(Invalid::Unsupported { field: "spec.provider azure".to_owned(), way_out });
        }
        let url = GitUrl::parse(&spec.url).map_err(|error| Invalid::field("spec.url", error))?;
        let local_roots = local_roots(declared, &url, node)?;
        if let Some(why) = &node.unreadable {
            let why = format!(
                "cannot be followed: the node's configuration cannot be read, so what it asks for is not known ({why})"
            );
            return Err(Invalid::field("spec", why));
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
        let github = spec.provider == Some(GitProvider::Github);
        if github && secret.is_none() {
            return Err(Invalid::field(
                "spec.secretRef",
                "is missing: the provider github takes a Secret with the App",
            ));
        }
        if url.local().is_some() && (spec.secret_ref.is_some() || spec.proxy_secret_ref.is_some()) {
            let why = "is a repository on this node, which takes neither credentials nor a proxy: take them out";
            return Err(Invalid::field("spec.url", why));
        }
        let proxy =
            spec.proxy_secret_ref.as_ref().map(|reference| find("spec.proxySecretRef", reference)).transpose()?;
        let policy = node.verification.of(&name, &url.to_string());
        let signers_known = policy.as_ref().is_some_and(|policy| !policy.signers.is_empty());
        let verify = match &spec.verify {
            None if signers_known => None,
            None if policy.is_some() => {
                let why = "is missing, and the node's verification policy lists no signers; name the Secret with the signers' public keys";
                return Err(Invalid::field("spec.verify", why));
            }
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
            reference: reference(spec.reference.unwrap_or_default())?,
            timeout: timeout.unwrap_or(Duration::from_secs(60)),
            credentials: secret.map(|secret| git_access::credentials(secret, &url, github)).transpose()?.flatten(),
            ca: secret.and_then(git_access::authorities),
            client_certificate: secret
                .map(|secret| git_access::client_certificate(secret, &url))
                .transpose()?
                .flatten(),
            proxy: proxy.map(git_access::proxy).transpose()?,
            local_roots,
            url,
            verify,
            policy,
            permits: node.permits.clone(),
            given: node.floors.of(&name).cloned(),
            max_age: max_age(declared, node)?,
            ignore: spec.ignore,
            paths: None,
            sparse: spec.sparse_checkout,
            submodules: spec.recurse_submodules,
            include: spec.include.into_iter().map(|include| included(&name, include)).collect(),
            others: Vec::new(),
            limits: Limits::default(),
            history: annotated(declared, annotation::HISTORY, history)?.unwrap_or(HISTORY),
            name,
        };
        let window: Option<Window> = annotated(declared, annotation::FETCH_WINDOW, parsed)?;
        let budget: Option<Budget> = annotated(declared, annotation::FETCH_BUDGET, parsed)?;
        let local = source.url.local().is_some();
        if local && (window.is_some() || budget.is_some()) {
            let field = format!("metadata.annotations[{}...]", annotation::FETCH);
            return Err(Invalid::field(field, "a repository on this node's own disk costs no link; take it out"));
        }
        let node_window = node.fetch_window.iter().filter(|_| !local).cloned();
        Ok(Self {
            source,
            interval: read_duration("spec.interval", &spec.interval)?,
            suspend: spec.suspend,
            windows: node_window.chain(window).collect(),
            budget,
        })
    }
}

/// The folders beneath which a repository on this node must lie; none where the node's owner has written the object.
fn local_roots(declared: &Declared, url: &GitUrl, node: &NodeConfig) -> Result<Option<Vec<PathBuf>>, Invalid> {
    let Some(path) = url.local().filter(|_| declared.origin != Origin::File) else { return Ok(None) };
    match node.allows_local(&path) {
        true => Ok(Some(node.local_repositories.clone())),
        false => Err(Invalid::field(
            "spec.url",
            "names the disk of this node, which an object in the cluster may not: declare the source in a file on the \
             node, or let the node's NodeConfig name the folder in local-repositories",
        )),
    }
}

/// Flux's defaults: all of the other one, under its name.
fn included(name: &ResourceName, include: flux::GitRepositoryInclude) -> Include {
    let to = if include.to_path.is_empty() { include.repository.name.clone() } else { include.to_path };
    Include { name: ResourceName::new(&name.namespace, &include.repository.name), from: include.from_path, to }
}

fn history(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count @ 1..=LONGEST_HISTORY) => Ok(count),
        _ => Err(format!("{text:?} is not a number of snapshots from 1 to {LONGEST_HISTORY}")),
    }
}

fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// The tighter one of what the annotation and the node say.
fn max_age(declared: &Declared, node: &NodeConfig) -> Result<Option<MaxAge>, Invalid> {
    let written = declared.annotations.get(annotation::MAX_AGE);
    let own = written.map(|text| MaxAge::parse(text)).transpose();
    let own = own.map_err(|error| Invalid::field(format!("metadata.annotations[{}]", annotation::MAX_AGE), error))?;
    Ok(own.into_iter().chain(node.max_age).min())
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wickie_model::ResourceKind;

    use super::super::git::Credentials;
    use super::super::secret::Secret;
    use super::super::secrets::SecretData;
    use super::*;

    fn read(spec: Value, secrets: &Secrets, node: &NodeConfig) -> Result<GitRepository, Invalid> {
        read_from(Origin::File, spec, secrets, node)
    }

    fn read_from(origin: Origin, spec: Value, secrets: &Secrets, node: &NodeConfig) -> Result<GitRepository, Invalid> {
        let document = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": "shop"}, "spec": spec
        });
        let declared = Declared::new(ResourceKind::GitRepository, &document, origin, "flux-system").unwrap();
        GitRepository::new(&declared, secrets, node)
    }

    #[test]
    fn the_link_is_spared_as_node_and_object_say() {
        let document = |annotations: Value| {
            json!({
                "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                "metadata": {"name": "shop", "annotations": annotations}, "spec": spec(json!({}))
            })
        };
        let node = NodeConfig { fetch_window: Some("20:00-06:00".parse().unwrap()), ..NodeConfig::default() };
        let read = |annotations| {
            let document = document(annotations);
            let declared = Declared::new(ResourceKind::GitRepository, &document, Origin::File, "flux-system").unwrap();
            GitRepository::new(&declared, &Secrets::new(), &node)
        };
        let plain = read(json!({})).unwrap();
        assert_eq!((plain.windows.to_string(), plain.budget), ("20:00-06:00".to_owned(), None));
        let own = json!({annotation::FETCH_WINDOW: "Sat 22:00-23:00", annotation::FETCH_BUDGET: "1Mi/day"});
        let both = read(own).unwrap();
        assert_eq!(both.windows.to_string(), "20:00-06:00, and Sat 22:00-23:00");
        assert_eq!(both.budget.unwrap().bytes, 1 << 20);
        let error = read(json!({annotation::FETCH_BUDGET: "much"})).unwrap_err().to_string();
        assert!(error.contains("wickie.dev/fetch-budget") && error.contains("much"), "{error}");
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
    fn how_many_snapshots_are_kept_is_its_owner_s_choice() {
        let read = |history: &str| {
            let document = json!({
                "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "spec": spec(json!({})),
                "metadata": {"name": "shop", "annotations": {"wickie.dev/history": history}}
            });
            let declared = Declared::new(ResourceKind::GitRepository, &document, Origin::File, "flux-system").unwrap();
            GitRepository::new(&declared, &Secrets::new(), &NodeConfig::default())
        };
        assert_eq!(read("12").unwrap().source.history, 12);
        for text in ["0", "-1", "many", "1001"] {
            assert!(read(text).unwrap_err().to_string().contains("wickie.dev/history"), "{text}");
        }
    }

    #[test]
    fn a_node_that_wants_signatures_refuses_a_source_without() {
        let node = NodeConfig { require_verified: true, ..NodeConfig::default() };
        let error = read(spec(json!({})), &Secrets::new(), &node).unwrap_err();
        assert!(error.to_string().contains("spec.verify"), "{error}");
    }

    #[test]
    fn the_cluster_reads_no_disk_of_the_node_unless_the_node_lets_it() {
        let at = |url: &str| spec(json!({"url": url}));
        let open = NodeConfig { local_repositories: vec!["/media".into()], ..NodeConfig::default() };
        let (closed, none) = (NodeConfig::default(), Secrets::new());
        let stick = at("file:///media/stick/fleet.git");
        assert_eq!(read_from(Origin::File, stick.clone(), &none, &closed).unwrap().source.local_roots, None);
        let error = read_from(Origin::Cluster, stick.clone(), &none, &closed).unwrap_err();
        assert!(error.to_string().contains("local-repositories"), "{error}");
        let allowed = read_from(Origin::Cluster, stick, &none, &open).unwrap();
        assert_eq!(allowed.source.local_roots, Some(vec!["/media".into()]));
        for url in ["file:///etc/kubernetes", "file:///media/../etc", "file:///media", "file:///mediator/x", "/etc/x"] {
            assert!(read_from(Origin::Cluster, at(url), &none, &open).is_err(), "{url}");
        }
    }

    #[test]
    fn a_provider_that_is_not_followed_is_named() {
        let none = Secrets::new();
        for (provider, words) in [("azure", "spec.provider azure"), ("github", "spec.secretRef"), ("gitlab", "gitlab")]
        {
            let error = read(spec(json!({"provider": provider})), &none, &NodeConfig::default()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(read(spec(json!({"provider": "generic"})), &none, &NodeConfig::default()).is_ok());
    }

    #[test]
    fn of_two_ages_the_tighter_counts() {
        let read = |written: Option<&str>, node: Option<&str>| {
            let mut document = json!({
                "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                "metadata": {"name": "shop"}, "spec": spec(json!({}))
            });
            if let Some(written) = written {
                document["metadata"]["annotations"] = json!({"wickie.dev/max-age": written});
            }
            let declared = Declared::new(ResourceKind::GitRepository, &document, Origin::File, "flux-system").unwrap();
            let node = NodeConfig { max_age: node.map(|age| MaxAge::parse(age).unwrap()), ..NodeConfig::default() };
            GitRepository::new(&declared, &Secrets::new(), &node).map(|read| read.source.max_age)
        };
        let age = |text| Some(MaxAge::parse(text).unwrap());
        assert_eq!(read(None, None).unwrap(), None);
        assert_eq!(read(Some("30d"), None).unwrap(), age("30d"));
        assert_eq!(read(Some("30d"), Some("7d")).unwrap(), age("7d"));
        assert_eq!(read(Some("1d"), Some("7d")).unwrap(), age("1d"));
        assert!(read(Some("a month"), None).unwrap_err().to_string().contains("wickie.dev/max-age"));
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
