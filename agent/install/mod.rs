//! The agent's own home in a cluster: the manifests of `wickie install --export`.
//!
//! ```text
//! packaging/manifests/*.yaml ──────────────────────┐
//! repository on disk ─► contents ─► rights ─► roles ┴─► one text of documents, comments and all
//! ```
//!
//! Nothing is sent to a cluster: whoever installs reads it first, commits it, or pipes it into kubectl.

mod kinds;
mod repository;
mod rights;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;

use serde_json::{Value, json};

pub use kinds::{KnownKinds, Served};
pub use repository::{Contents, Kept, RepositoryError, read as read_repository};
pub use rights::{Rights, UnknownKinds};

/// The image that is run unless another is named: the one that `wickie-packaging image` makes of this version.
pub const IMAGE: &str = concat!("wickie:", env!("CARGO_PKG_VERSION"));

/// The label `app.kubernetes.io/part-of` of wickie's own manifests: what carries it is never pruned.
pub const OWN_PART: &str = "wickie";

const NAMESPACE: &str = include_str!("../../packaging/manifests/namespace.yaml");
const SERVICE_ACCOUNT: &str = include_str!("../../packaging/manifests/service-account.yaml");
const CLUSTER_ADMIN: &str = include_str!("../../packaging/manifests/cluster-admin.yaml");
const CONFIG: &str = include_str!("../../packaging/manifests/config.yaml");
const DAEMON_SET: &str = include_str!("../../packaging/manifests/daemonset.yaml");

/// Namespaces that every cluster has.
const ALWAYS_THERE: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// What is installed.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The namespace that the agent lives in.
    pub namespace: Name,
    /// Its image.
    pub image: Image,
    /// Where each node serves metrics and probes.
    pub listen: SocketAddr,
    /// Whether the CRDs go along.
    pub crds: bool,
    /// What it may do; cluster-admin where nothing is said.
    pub rights: Option<Rights>,
}

/// A namespace's name: a label of RFC 1123.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = text.starts_with('-') || text.ends_with('-');
        match !text.is_empty() && text.len() <= 63 && text.chars().all(inside) && !edges {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} cannot be the name of a namespace: a-z, 0-9 and -, 63 at the most")),
        }
    }
}

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An image, as a registry or a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(String);

impl FromStr for Image {
    type Err = String;

    /// What can be one; whether it is there only the node knows.
    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err("it is written like registry.example.com/wickie:1.2.3, or with @sha256:DIGEST".to_owned()),
        }
    }
}

impl Installation {
    /// All of it as YAML documents, in the order in which they are applied.
    ///
    /// # Errors
    ///
    /// An object that YAML does not hold; none of ours is one.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        let mut text = String::new();
        let mut add = |document: &str| {
            text.push_str("---\n");
            text.push_str(document);
        };
        add(&self.filled(NAMESPACE));
        for namespace in self.other_namespaces() {
            add(&format!(
                "# So that the Role below has its place.\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n"
            ));
        }
        if self.crds {
            for crd in crate::config::crds() {
                add(&yaml(&crd)?);
            }
        }
        add(&self.filled(SERVICE_ACCOUNT));
        match &self.rights {
            None => add(&self.filled(CLUSTER_ADMIN)),
            Some(rights) => {
                for role in rights.roles(self.namespace.as_str(), &labels()) {
                    add(&yaml(&role)?);
                }
            }
        }
        add(&self.filled(CONFIG));
        add(&self.filled(DAEMON_SET));
        Ok(text)
    }

    /// Namespaces that must be there before a Role can be.
    fn other_namespaces(&self) -> BTreeSet<&str> {
        let named = self.rights.iter().flat_map(Rights::namespaces);
        named.filter(|name| *name != self.namespace.as_str() && !ALWAYS_THERE.contains(name)).collect()
    }

    fn filled(&self, template: &str) -> String {
        let mut arguments: Vec<_> = ["run", "--lease", "--listen"].map(str::to_owned).into();
        arguments.push(self.listen.to_string());
        if self.rights.is_some() {
            arguments.push("--by-namespace".to_owned());
        }
        let ip = self.listen.ip();
        let host = if ip.is_unspecified() { String::new() } else { format!(", host: {:?}", ip.to_string()) };
        template
            .replace("$NAMESPACE", self.namespace.as_str())
            .replace("$IMAGE", &self.image.0)
            .replace("$VERSION", env!("CARGO_PKG_VERSION"))
            .replace("$ARGS", &json!(arguments).to_string())
            .replace("$PORT", &self.listen.port().to_string())
            .replace("$HOST", &host)
    }
}

/// The labels of everything of ours.
fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": "wickie",
        "app.kubernetes.io/part-of": OWN_PART,
        "app.kubernetes.io/managed-by": crate::config::MANAGED_BY.1,
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
    })
}

fn yaml(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    let text = serde_saphyr::to_string(value)?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> Installation {
        Installation {
            namespace: "flux-system".parse().unwrap(),
            image: IMAGE.parse().unwrap(),
            listen: "127.0.0.1:9797".parse().unwrap(),
            crds: true,
            rights: None,
        }
    }

    #[test]
    fn what_packaging_holds_is_what_the_command_prints() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/wickie.yaml");
        let text = installation().to_yaml().unwrap();
        if std::env::var_os("WICKIE_BLESS").is_some() {
            std::fs::write(file, &text).unwrap();
        }
        let kept = std::fs::read_to_string(file).unwrap();
        assert!(kept == text, "packaging/wickie.yaml is another: wickie install --export > packaging/wickie.yaml");
    }

    #[test]
    fn each_document_is_ours_and_none_is_flux_s() {
        let text = installation().to_yaml().unwrap();
        let documents = wickie_kustomize::yaml::documents("wickie.yaml", text.as_bytes()).unwrap();
        assert_eq!(documents.len(), 5 + 5);
        for document in documents {
            let labels = &document.value["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/managed-by"], "wickie", "{labels}");
            assert_ne!(labels["app.kubernetes.io/part-of"], "flux");
            assert!(!document.value.to_string().contains('$'), "a placeholder is left: {}", document.value);
        }
    }

    #[test]
    fn an_address_that_all_may_reach_is_probed_at_the_node_s() {
        let everywhere = Installation { listen: "[::]:80".parse().unwrap(), ..installation() };
        let text = everywhere.filled(DAEMON_SET);
        assert!(text.contains("port: 80}") && text.contains(r#"["run","--lease","--listen","[::]:80"]"#), "{text}");
        assert!(installation().filled(DAEMON_SET).contains(r#"port: 9797, host: "127.0.0.1"}"#));
    }

    #[test]
    fn names_that_would_break_out_of_their_place_are_refused() {
        for name in ["", "-a", "a\nb", "A", "a: b"] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        for image in ["", "a b", "a\n", "-x", "a#b", "{a}"] {
            assert!(image.parse::<Image>().is_err(), "{image:?}");
        }
        assert!("registry:5000/wickie@sha256:00".parse::<Image>().is_ok());
    }
}
