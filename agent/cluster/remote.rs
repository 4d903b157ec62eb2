//! A kubeconfig from outside, as a Secret holds it: what it says, and what of it is refused.
//!
//! Whoever may write the Secret must gain nothing on the node by it. So nothing in it may name a file of the node or have a
//! program run there, and the server has to show who it is. Flux drops such fields, or refuses them; here each is refused by
//! its name. Of several contexts the current one counts, and nothing is read that it does not lead to.
//!
//! Source: fluxcd/pkg, `runtime/client/kubeconfig.go`, and client-go, `tools/clientcmd/api/v1`.

use base64::Engine as _;
use http::Uri;
use kube::config::AuthInfo;
use kube::{Client, Config};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Map, Value, json};
use wickie_kustomize::yaml;

use super::connect;
use super::fence::Fence;

/// The largest kubeconfig that is read. One with its certificates takes about 6 KiB.
const LARGEST: usize = 256 << 10;

/// Fields of a cluster that are followed, or say nothing: our client asks for no compression.
const CLUSTER: [&str; 5] =
    ["server", "certificate-authority-data", "tls-server-name", "disable-compression", "extensions"];

/// Fields of a user that are followed.
const USER: [&str; 6] = ["token", "username", "password", "client-certificate-data", "client-key-data", "extensions"];

/// What else stands in kubeconfigs, and what to do about it.
const REFUSED: [(&str, &str); 12] = [
    ("exec", "nothing that it names is run on the node: give a token or a client certificate"),
    ("auth-provider", "nothing is run on the node for it: give a token or a client certificate"),
    ("certificate-authority", "no file of the node is read for it: write its content as certificate-authority-data"),
    ("client-certificate", "no file of the node is read for it: write its content as client-certificate-data"),
    ("client-key", "no file of the node is read for it: write its content as client-key-data"),
    ("tokenFile", "no file of the node is read for it: write its content as token"),
    ("insecure-skip-tls-verify", "the server must show who it is: write its CA as certificate-authority-data"),
    ("proxy-url", "a cluster is reached directly: run an agent where that can be done"),
    ("as", "it is not followed, as in Flux: set spec.serviceAccountName"),
    ("as-uid", "it is not followed, as in Flux: set spec.serviceAccountName"),
    ("as-groups", "it is not followed, as in Flux: set spec.serviceAccountName"),
    ("as-user-extra", "it is not followed, as in Flux: set spec.serviceAccountName"),
];

/// The cluster that a kubeconfig leads to.
#[derive(Clone, Debug)]
pub struct Remote {
    config: Config,
}

/// Why a kubeconfig cannot be used. What stands in it is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeConfigError {
    /// It is no kubeconfig that anybody writes.
    #[error("it has {size} bytes; at most {LARGEST} are read")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
    },
    /// It is not YAML.
    #[error("it is not YAML from line {line} on")]
    Yaml {
        /// The line, from 1.
        line: usize,
    },
    /// A field is missing, or cannot be what it is.
    #[error("{field} {why}")]
    Field {
        /// The field's path.
        field: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A field is not followed.
    #[error("{field} is refused: {why}")]
    Refused {
        /// The field's path.
        field: String,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// No client can be made of it.
    #[error("no client can be made of it: its certificates or its key cannot be used")]
    Client,
}

impl Remote {
    /// Reads a kubeconfig.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or refused.
    pub fn read(bytes: &[u8]) -> Result<Self, KubeConfigError> {
        if bytes.len() > LARGEST {
            return Err(KubeConfigError::TooLarge { size: bytes.len() });
        }
        let documents = yaml::documents("kubeconfig", bytes);
        let documents = documents.map_err(|error| KubeConfigError::Yaml { line: error.line })?;
        let [document] = &documents[..] else { return Err(wrong("it", "must be one YAML document")) };
        let current = text(&document.value, "current-context").ok_or_else(|| wrong("current-context", "is missing"))?;
        let context = named(&document.value, "contexts", "context", current)?;
        let of = |key: &str| context.get(key).and_then(Value::as_str).unwrap_or_default();
        let cluster = Part { list: "clusters", fields: named(&document.value, "clusters", "cluster", of("cluster"))? };
        // As in client-go, a user that is not there is nobody.
        let nobody = Map::new();
        let user = match of("user") {
            "" => &nobody,
            user => named(&document.value, "users", "user", user)?,
        };
        let user = Part { list: "users", fields: user };
        cluster.check(&CLUSTER)?;
        user.check(&USER)?;
        let mut config = Config::new(cluster.server()?);
        config.root_cert = cluster.authority()?;
        config.tls_server_name = cluster.server_name()?;
        config.auth_info = user.auth_info()?;
        Ok(Self { config })
    }

    /// The server's address.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// What tells this cluster from others: the address, and the name that the server must show where it is another.
    pub fn identity(&self) -> String {
        match &self.config.tls_server_name {
            Some(name) => format!("{} ({name})", self.config.cluster_url),
            None => self.server(),
        }
    }

    /// A client. Nothing is sent yet: the API server may be away.
    ///
    /// # Errors
    ///
    /// Where TLS takes the certificates or the key for unusable.
    pub fn client(&self) -> Result<Client, KubeConfigError> {
        self.fenced_client(None)
    }

    /// A client that nothing leaves once `fence` is shut.
    ///
    /// # Errors
    ///
    /// As [`Remote::client`].
    pub(super) fn fenced_client(&self, fence: Option<Fence>) -> Result<Client, KubeConfigError> {
        // What TLS says may repeat parts of the key.
        connect::client(self.config.clone(), None, fence).map_err(|_| KubeConfigError::Client)
    }
}

/// The one cluster or user that counts.
struct Part<'a> {
    list: &'static str,
    fields: &'a Map<String, Value>,
}

impl Part<'_> {
    fn path(&self, field: &str) -> String {
        format!("{}[].{}.{field}", self.list, self.list.trim_end_matches('s'))
    }

    /// Refuses by name what is not followed. What asks for nothing is not refused.
    fn check(&self, followed: &[&str]) -> Result<(), KubeConfigError> {
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        let other = |(field, value): &(&String, &Value)| !followed.contains(&field.as_str()) && !empty(value);
        let Some((field, _)) = self.fields.iter().find(other) else { return Ok(()) };
        let known = REFUSED.iter().find(|(refused, _)| refused == field);
        let why = known.map_or("it is not known here; take it out", |(_, why)| why);
        Err(KubeConfigError::Refused { field: self.path(field), why })
    }

    fn text(&self, field: &str) -> Result<Option<&str>, KubeConfigError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(wrong(self.path(field), "must be a text")),
        }
    }

    /// A field in base64.
    fn data(&self, field: &str) -> Result<Option<Vec<u8>>, KubeConfigError> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
        bytes.map(Some).map_err(|_| wrong(self.path(field), "is not base64"))
    }

    fn server(&self) -> Result<Uri, KubeConfigError> {
        let server = self.text("server")?.ok_or_else(|| wrong(self.path("server"), "is missing"))?;
        let url = server.parse::<Uri>().ok().filter(|url| {
            url.authority().is_some() && matches!(url.scheme_str(), Some("https" | "http")) && url.query().is_none()
        });
        url.ok_or_else(|| wrong(self.path("server"), "is not the address of a server: https://HOST:PORT"))
    }

    fn authority(&self) -> Result<Option<Vec<Vec<u8>>>, KubeConfigError> {
        let field = "certificate-authority-data";
        let Some(pem) = self.data(field)? else { return Ok(None) };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        let certificates = certificates.ok_or_else(|| wrong(self.path(field), "holds no certificates in PEM"))?;
        Ok(Some(certificates.into_iter().map(|certificate| certificate.to_vec()).collect()))
    }

    fn server_name(&self) -> Result<Option<String>, KubeConfigError> {
        let Some(name) = self.text("tls-server-name")? else { return Ok(None) };
        match ServerName::try_from(name.to_owned()) {
            Ok(_) => Ok(Some(name.to_owned())),
            Err(_) => Err(wrong(self.path("tls-server-name"), "is neither a host name nor an address")),
        }
    }

    fn auth_info(&self) -> Result<AuthInfo, KubeConfigError> {
        // The client takes these as they are written, and would name none of them where it cannot.
        for field in ["client-certificate-data", "client-key-data"] {
            self.data(field)?;
        }
        let mut known = Map::new();
        for field in ["token", "username", "password", "client-certificate-data", "client-key-data"] {
            known.extend(self.text(field)?.map(|text| (field.to_owned(), json!(text))));
        }
        for (one, other) in [("client-certificate-data", "client-key-data"), ("username", "password")] {
            for (there, missing) in [(one, other), (other, one)] {
                if known.contains_key(there) && !known.contains_key(missing) {
                    return Err(wrong(self.path(missing), "is missing: one is of no use without the other"));
                }
            }
        }
        serde_json::from_value(Value::Object(known)).map_err(|_| KubeConfigError::Client)
    }
}

fn wrong(field: impl Into<String>, why: &'static str) -> KubeConfigError {
    KubeConfigError::Field { field: field.into(), why }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The entry of a list of named things.
fn named<'a>(
    document: &'a Value,
    list: &'static str,
    inner: &str,
    name: &str,
) -> Result<&'a Map<String, Value>, KubeConfigError> {
    let mut entries = document.get(list).and_then(Value::as_array).into_iter().flatten();
    let entry = entries.find(|entry| text(entry, "name").unwrap_or_default() == name);
    let fields = entry.and_then(|entry| entry.get(inner)).and_then(Value::as_object);
    fields.ok_or_else(|| wrong(list, "has no entry of the name that current-context leads to"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: Value, user: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "edge",
            "contexts": [
                {"name": "other", "context": {"cluster": "other", "user": "other"}},
                {"name": "edge", "context": {"cluster": "edge", "user": "edge", "namespace": "shop"}},
            ],
            "clusters": [{"name": "edge", "cluster": cluster}],
            "users": [{"name": "other", "user": {"exec": {"command": "aws"}}}, {"name": "edge", "user": user}],
        })
    }

    fn read(cluster: Value, user: Value) -> Result<Remote, KubeConfigError> {
        Remote::read(kubeconfig(cluster, user).to_string().as_bytes())
    }

    fn with(field: &str, value: Value) -> Value {
        let mut cluster = json!({"server": "https://edge.example:6443"});
        cluster[field] = value;
        cluster
    }

    #[test]
    fn the_current_context_counts_and_no_other() {
        let remote = read(with("tls-server-name", json!("edge")), json!({"token": "hunter2"})).unwrap();
        assert_eq!(remote.server(), "https://edge.example:6443/");
        assert_eq!(remote.identity(), "https://edge.example:6443/ (edge)");
        assert!(!format!("{remote:?}").contains("hunter2"));
        assert!(remote.config.root_cert.is_none() && !remote.config.accept_invalid_certs);
    }

    #[test]
    fn what_would_reach_the_node_is_refused_by_name() {
        let good = || with("extensions", json!([]));
        for (user, field) in [
            (json!({"exec": {"command": "/bin/sh", "apiVersion": "client.authentication.k8s.io/v1"}}), "user.exec is"),
            (json!({"auth-provider": {"name": "gcp"}}), "user.auth-provider"),
            (json!({"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}), "user.tokenFile"),
            (json!({"client-certificate": "/etc/kubernetes/pki/admin.crt"}), "user.client-certificate is"),
            (json!({"client-key": "/etc/kubernetes/pki/admin.key"}), "user.client-key is"),
            (json!({"token": "t", "as": "admin"}), "user.as is"),
            (json!({"token": "t", "as-groups": ["system:masters"]}), "user.as-groups"),
            (json!({"impersonate": "x"}), "user.impersonate is refused: it is not known"),
        ] {
            let error = read(good(), user).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains("/bin") && !error.contains("pki"), "{error}");
        }
        for (field, value) in [
            ("certificate-authority", json!("/etc/kubernetes/pki/ca.crt")),
            ("insecure-skip-tls-verify", json!(true)),
            ("proxy-url", json!("http://proxy.example")),
        ] {
            let error = read(with(field, value), json!({})).unwrap_err().to_string();
            assert!(error.starts_with(&format!("clusters[].cluster.{field} is refused: ")), "{error}");
        }
        assert!(read(with("insecure-skip-tls-verify", json!(false)), json!({"exec": null, "as": ""})).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_repeated() {
        let good = || with("extensions", json!([]));
        for (cluster, user, field) in [
            (json!({}), json!({}), "cluster.server is missing"),
            (with("server", json!("edge.example:6443")), json!({}), "cluster.server"),
            (with("server", json!("unix:///run/docker.sock")), json!({}), "cluster.server"),
            (with("certificate-authority-data", json!("hunter2!")), json!({}), "is not base64"),
            (with("certificate-authority-data", json!("aHVudGVyMg==")), json!({}), "no certificates"),
            (with("tls-server-name", json!("a b")), json!({}), "tls-server-name"),
            (good(), json!({"token": ["hunter2"]}), "user.token must be a text"),
            (good(), json!({"client-certificate-data": "aHVudGVyMg=="}), "user.client-key-data is missing"),
            (good(), json!({"password": "hunter2"}), "user.username is missing"),
        ] {
            let error = read(cluster, user).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains("hunter2"), "{error}");
        }
        for (text, said) in [
            ("", "one YAML document"),
            ("a: hunter2\n---\nb: 1\n", "one YAML document"),
            ("current-context: hunter2\nhunter2", "not YAML from line 2"),
            ("kind: Config\n", "current-context is missing"),
            ("current-context: hunter2\n", "contexts has no entry"),
        ] {
            let error = Remote::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text:?}: {error}");
        }
        let error = Remote::read(&vec![b' '; LARGEST + 1]).unwrap_err();
        assert_eq!(error, KubeConfigError::TooLarge { size: LARGEST + 1 });
    }

    /// Honest ones with a few bytes changed: they must return, and trust nobody more than before.
    #[test]
    fn whatever_the_bytes_are_it_returns() {
        let cluster = with("tls-server-name", json!("edge"));
        let honest = kubeconfig(cluster, json!({"token": "t", "username": "u", "password": "p"})).to_string();
        let mut chance = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let mut bytes = honest.clone().into_bytes();
            for _ in 0..chance.usize(1..4) {
                let at = chance.usize(0..bytes.len());
                bytes[at] = chance.u8(..);
            }
            if let Ok(remote) = Remote::read(&bytes) {
                let config = remote.config;
                assert!(!config.accept_invalid_certs && config.proxy_url.is_none() && config.auth_info.exec.is_none());
                assert!(config.auth_info.token_file.is_none() && config.auth_info.impersonate.is_none());
            }
        }
    }
}
