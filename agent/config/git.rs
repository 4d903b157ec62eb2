//! A Git source, validated.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use wickie_model::{Oid, ResourceName};
use wickie_trust::Given;

use super::git_access::{ClientCertificate, GitHubApp, Proxy};
use super::secret::Secret;
use super::version_range::VersionRange;
use super::{MaxAge, SigningPolicy};

/// What to fetch, from where, and whom to believe.
#[derive(Clone, Debug)]
pub struct GitSource {
    /// The resource it was written as.
    pub name: ResourceName,
    /// Where the repository is.
    pub url: GitUrl,
    /// Which commit of it.
    pub reference: Reference,
    /// The longest that one operation (a poll with the fetch that follows it) may take.
    pub timeout: Duration,
    /// How to say who we are.
    pub credentials: Option<Credentials>,
    /// PEM certificates of authorities that may vouch for the server, beside the public ones.
    pub ca: Option<Vec<u8>>,
    /// The certificate that this node shows of itself, where a server asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// The proxy that the spec names; where it names none, the environment may.
    pub proxy: Option<Proxy>,
    /// The folders of this node beneath which a `file://` repository must lie; `None` is anywhere.
    pub local_roots: Option<Vec<PathBuf>>,
    /// Whose signatures are believed; `None` takes what comes, as Flux does.
    pub verify: Option<Verify>,
    /// What the node's owner asks for beyond that.
    pub policy: Option<Arc<SigningPolicy>>,
    /// Files, and folders of files, on the node that may hold permits for steps back. They are read when a step back is
    /// offered; those in the repository are found there.
    pub permits: Vec<PathBuf>,
    /// A floor that the node's configuration gives.
    pub given: Option<Given>,
    /// How old a commit may be and still be adopted.
    pub max_age: Option<MaxAge>,
    /// Patterns in `.gitignore` form of what is not part of the snapshot, after Flux's own and `.sourceignore`.
    pub ignore: Option<String>,
    /// The folders that are used, where it is known that no other is: only these are fetched. `None` fetches all.
    pub paths: Option<Vec<String>>,
    /// What the paths of files begin with that are part of the snapshot; anything where it is empty.
    pub sparse: Vec<String>,
    /// Whether submodules are part of the snapshot.
    pub submodules: bool,
    /// Other sources whose snapshots are part of this one.
    pub include: Vec<Include>,
    /// The sources declared beside this one, as far as it may need them: those that it includes, and, for the submodules
    /// that are the same repositories, their signers and credentials.
    pub others: Vec<GitSource>,
    /// How much is taken from a server before it is refused.
    pub limits: Limits,
    /// How many snapshots are kept; at least one.
    pub history: u32,
}

/// Who speaks to which repository, by which way: sources that are equal in this hear the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Party {
    url: GitUrl,
    credentials: Option<Credentials>,
    ca: Option<Vec<u8>>,
    client_certificate: Option<ClientCertificate>,
    proxy: Option<Proxy>,
    local_roots: Option<Vec<PathBuf>>,
}

impl GitSource {
    /// All of a repository that anybody may read, whoever wrote it.
    pub fn unverified(name: ResourceName, url: GitUrl, reference: Reference, timeout: Duration) -> Self {
        Self {
            name,
            url,
            reference,
            timeout,
            credentials: None,
            ca: None,
            client_certificate: None,
            proxy: None,
            local_roots: None,
            verify: None,
            policy: None,
            permits: Vec::new(),
            given: None,
            max_age: None,
            ignore: None,
            paths: None,
            sparse: Vec::new(),
            submodules: false,
            include: Vec::new(),
            others: Vec::new(),
            limits: Limits::default(),
            history: 1,
        }
    }

    /// Whether anybody must have signed what is taken from it.
    pub fn is_verified(&self) -> bool {
        self.verify.is_some() || self.policy.is_some()
    }

    /// Lets it cost this many bytes in one operation, together with the sources beside it.
    pub fn allow(&mut self, bytes: u64) {
        self.limits.allowance = bytes;
        self.others.iter_mut().for_each(|other| other.limits.allowance = bytes);
    }

    /// Who speaks to which repository.
    pub fn party(&self) -> Party {
        Party {
            url: self.url.clone(),
            credentials: self.credentials.clone(),
            ca: self.ca.clone(),
            client_certificate: self.client_certificate.clone(),
            proxy: self.proxy.clone(),
            local_roots: self.local_roots.clone(),
        }
    }

    /// What the floor belongs to: the URL and the reference as they are written. A change of either is an order.
    pub fn track(&self) -> String {
        format!("{} {}", self.url, self.reference)
    }
}

/// A source whose snapshot is part of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The source.
    pub name: ResourceName,
    /// The folder or file of it that is taken.
    pub from: String,
    /// Where it stands in the other one.
    pub to: String,
}

/// How to say who we are: over HTTP by password or token, over SSH by a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// HTTP basic authentication.
    Basic {
        /// The user name.
        username: String,
        /// The password, or a token that takes its place.
        password: Secret<String>,
    },
    /// An `Authorization: Bearer` token.
    Bearer(Secret<String>),
    /// An SSH key, and who the server must be.
    Ssh {
        /// A private key, in OpenSSH's format or in PEM.
        identity: Secret<String>,
        /// What the key is encrypted with, if it is.
        passphrase: Option<Secret<String>>,
        /// Lines of OpenSSH's `known_hosts`.
        known_hosts: String,
    },
    /// Tokens of a GitHub App's installation, which are fetched and renewed with its key.
    GitHubApp(GitHubApp),
}

/// Whose signatures are believed, over what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// What must be signed.
    pub mode: VerifyMode,
    /// The keys of the Secret, by name: armored OpenPGP key rings, SSH public keys, `allowed_signers`.
    pub keys: Vec<(String, Vec<u8>)>,
}

/// Flux's `spec.verify.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyMode {
    /// The commit.
    Head,
    /// The annotated tag.
    Tag,
    /// Both.
    TagAndHead,
}

impl VerifyMode {
    /// Whether the commit must be signed.
    pub fn head(self) -> bool {
        matches!(self, Self::Head | Self::TagAndHead)
    }

    /// Whether the tag must be signed.
    pub fn tag(self) -> bool {
        matches!(self, Self::Tag | Self::TagAndHead)
    }
}

/// Which commit of a repository. Where a spec gives several, Flux's order of precedence is commit, name, semver, tag,
/// branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The tip of a branch.
    Branch(RefName),
    /// A tag.
    Tag(RefName),
    /// The highest tag that is a version within a range.
    Semver(VersionRange),
    /// A full reference name, such as `refs/pull/420/head`.
    Name(RefName),
    /// A commit by its id.
    Commit {
        /// The id.
        oid: Oid,
        /// The branch it is reported under.
        branch: Option<RefName>,
    },
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::Semver(range) => write!(f, "semver {range}"),
            Self::Name(name) => write!(f, "name {name}"),
            Self::Commit { oid, .. } => write!(f, "commit {oid}"),
        }
    }
}

/// The name of a reference, or the part of it after `refs/heads/` or `refs/tags/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefName(String);

/// A name that Git does not allow for a reference.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a name that Git allows for a reference")]
pub struct RefNameError(String);

impl RefName {
    /// Checks a name by the rules of git-check-ref-format(1).
    pub fn new(name: &str) -> Result<Self, RefNameError> {
        let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
        let allowed = name.split('/').all(component)
            && !name.contains("..")
            && !name.contains("@{")
            && !name.chars().any(forbidden)
            && !name.ends_with('.')
            && name != "@"
            && name.len() <= 1_024;
        match allowed {
            true => Ok(Self(name.to_owned())),
            false => Err(RefNameError(name.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a repository is: `http`, `https` or `ssh`, a host, a path, for `ssh` a user, and nothing else; or `file` and an
/// absolute path on this node, which may also be written without the scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitUrl(Url);

/// A URL that cannot be fetched from.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum GitUrlError {
    #[error("the URL cannot be read")]
    Unreadable(#[source] url::ParseError),
    #[error(
        "the scheme {0:?} is not supported: write https:// or ssh://, file:// for a repository on this node, or http:// within a trusted network"
    )]
    Scheme(String),
    #[error("the URL names no host")]
    NoHost,
    #[error("the URL carries a user name or password: put them into the Secret that secretRef names")]
    Credentials,
    #[error("the URL carries a query or fragment, which a repository's address does not have")]
    Query,
    #[error("a file:// URL takes an absolute path on this node and no host: file:///media/stick/fleet.git")]
    NoPath,
}

impl GitUrl {
    /// Reads and checks a URL.
    pub fn parse(text: &str) -> Result<Self, GitUrlError> {
        let url = match text.starts_with('/') {
            true => Url::from_file_path(text).map_err(|()| GitUrlError::NoPath)?,
            false => Url::parse(text).map_err(GitUrlError::Unreadable)?,
        };
        if !matches!(url.scheme(), "http" | "https" | "ssh" | "file") {
            return Err(GitUrlError::Scheme(url.scheme().to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(GitUrlError::Query);
        }
        if url.scheme() == "file" {
            let path = url.to_file_path().ok().filter(|_| url.host().is_none());
            let plain = |path: &PathBuf| path.parent().is_some() && !path.to_string_lossy().contains(char::is_control);
            return path.filter(plain).map(|_| Self(url)).ok_or(GitUrlError::NoPath);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(GitUrlError::NoHost);
        }
        let user = url.scheme() != "ssh" && !url.username().is_empty();
        if user || url.password().is_some() {
            return Err(GitUrlError::Credentials);
        }
        Ok(Self(url))
    }

    /// The URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Host and port: what may be down as one. Of a repository on this node, its path.
    pub fn authority(&self) -> &str {
        if self.0.scheme() == "file" {
            return self.0.path();
        }
        let authority = self.0.authority();
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }

    /// The host, for people; of a repository on this node, its path.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_else(|| self.0.path())
    }

    /// Where the repository lies on this node, if it does.
    pub fn local(&self) -> Option<PathBuf> {
        self.0.to_file_path().ok().filter(|_| self.0.scheme() == "file")
    }
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// How much is taken from a server before it is refused. Every figure is generous for a repository of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes received in one operation.
    pub received: u64,
    /// Bytes sent and received in one operation, heads included: what is left of a budget.
    pub allowance: u64,
    /// Bytes of one object, inflated.
    pub object: u64,
    /// Bytes of all objects of one operation, inflated.
    pub inflated: u64,
    /// Objects in one operation.
    pub objects: u32,
    /// References listed by the server.
    pub refs: u32,
    /// Commits between the last accepted one and the new one.
    pub commits: u32,
    /// The longest that a server may take to accept a connection.
    pub connect: Duration,
    /// The longest that a server may stay silent.
    pub silence: Duration,
    /// Slower than this many bytes a second over [`Limits::silence`] is as good as silent.
    pub slowest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            received: 512 << 20,
            allowance: u64::MAX,
            object: 64 << 20,
            inflated: 1 << 30,
            objects: 1_000_000,
            refs: 100_000,
            commits: 20_000,
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            slowest: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_hide_something_are_refused() {
        for url in [
            "https://user@git.example/r",
            "ssh://git:pass@git.example/r",
            "https://user:pass@git.example/r",
            "https://git.example/r?x=1",
            "https://git.example/r#x",
            "ext::sh -c id",
            "javascript:1",
            "--upload-pack=id",
            "https://",
            "file://",
            "file:///",
            "file://host/srv/r.git",
            "file:///srv/r.git?x=1",
            "file:///srv/r%0a.git",
            "srv/r.git",
            "/",
        ] {
            assert!(GitUrl::parse(url).is_err(), "{url}");
        }
        for url in ["file:///media/stick/fleet.git", "/media/stick/fleet.git", "file:///media/x/../stick/fleet.git"] {
            assert_eq!(GitUrl::parse(url).unwrap().local(), Some("/media/stick/fleet.git".into()), "{url}");
        }
        assert_eq!(GitUrl::parse("https://git.example/r").unwrap().local(), None);
        assert_eq!(GitUrl::parse("https://git.example:8443/a/b.git").unwrap().host(), "git.example");
    }

    #[test]
    fn reference_names_follow_git() {
        for name in ["main", "release/1.x", "refs/pull/420/head", "v1.2.3+build", "ä"] {
            assert!(RefName::new(name).is_ok(), "{name}");
        }
        for name in [
            "", "/a", "a/", "a//b", ".a", "a/.b", "a..b", "a.lock", "a b", "a\nb", "a^", "a~1", "a:b", "@", "a@{1}",
            "a\\b", "a*", "a.",
        ] {
            assert!(RefName::new(name).is_err(), "{name:?}");
        }
    }
}
