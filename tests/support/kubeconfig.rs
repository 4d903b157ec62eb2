//! Kubeconfig files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::tls::Identity;

/// How a kubeconfig proves who it is.
pub(crate) enum Proof<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
    None,
}

/// The text of a kubeconfig: JSON, which is YAML.
pub(crate) fn text(server: &str, ca: Option<&str>, proof: &Proof<'_>) -> String {
    let mut cluster = json!({ "server": server });
    if let Some(ca) = ca {
        cluster["certificate-authority-data"] = encoded(ca);
    }
    let user = match proof {
        Proof::Certificate(identity) => {
            json!({ "client-certificate-data": encoded(&identity.cert), "client-key-data": encoded(&identity.key) })
        }
        Proof::Token(token) => json!({ "token": token }),
        Proof::None => json!({}),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "bench", "cluster": cluster }],
        "users": [{ "name": "bench", "user": user }],
        "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        "current-context": "bench",
    });
    format!("{config:#}\n")
}

pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// A client from a kubeconfig file, on the runtime that calls.
///
/// # Errors
/// When the file is none.
pub async fn client(file: &Path) -> Result<kube::Client> {
    client_in(file, None).await
}

/// [`client`] for another context than the file's own choice.
///
/// # Errors
/// When the file is none, or has no such context.
pub async fn client_in(file: &Path, context: Option<&str>) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(file)?;
    let options = kube::config::KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

fn encoded(pem: &str) -> Value {
    Value::String(BASE64_STANDARD.encode(pem))
}
