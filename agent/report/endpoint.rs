//! A Provider with its Secrets resolved: everything it takes to send.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wickie_model::{Digest, Hasher, ResourceName};

use crate::config::SecretData;
use crate::config::notification::{Form, Provider};

/// Where and how to send to one Provider. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) provider: ResourceName,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) key: Option<Vec<u8>>,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) timeout: Duration,
    /// Of all that it was made from.
    pub(super) digest: Digest,
}

/// Why a Provider cannot be sent to. No variant shows a secret value.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// There is no usable address.
    #[error("the address of the receiver is not a URL with http or https; it comes from {0}")]
    Address(&'static str),
    /// `generic-hmac` without a key.
    #[error("the Secret has no key token, or it is empty: generic-hmac signs with it")]
    Token,
    /// `headers` is not a YAML map of texts with HTTP names.
    #[error("the key headers of the Secret is not a YAML map of HTTP header names to values")]
    Headers,
    /// The Secret asks for a proxy.
    #[error("the key proxy of the Secret is understood by Flux and not by wickie yet")]
    Proxy,
    /// A certificate or key cannot be used.
    #[error("the key {0} of the certificate Secret holds no usable PEM")]
    Pem(&'static str),
    /// Half of a client certificate.
    #[error("a client certificate takes both tls.crt and tls.key in the certificate Secret")]
    HalfPair,
    /// TLS refused what it was given.
    #[error("the certificates of the Secret cannot be used")]
    Tls(#[from] rustls::Error),
}

impl Endpoint {
    /// Puts a Provider and the Secrets it names together.
    pub fn new(
        provider: &Provider,
        secret: Option<&SecretData>,
        certificates: Option<&SecretData>,
    ) -> Result<Self, EndpointError> {
        let value = |key: &str| secret.and_then(|data| data.get(key));
        if value("proxy").is_some() {
            return Err(EndpointError::Proxy);
        }
        let key = match provider.form {
            Form::Generic => None,
            Form::GenericHmac => Some(
                value("token")
                    .map(<[u8]>::trim_ascii)
                    .filter(|token| !token.is_empty())
                    .ok_or(EndpointError::Token)?
                    .to_vec(),
            ),
        };
        Ok(Self {
            provider: provider.name.clone(),
            url: address(provider, value("address"))?,
            headers: value("headers").map_or(Ok(HeaderMap::new()), headers)?,
            key,
            tls: Arc::new(tls(certificates)?),
            timeout: provider.timeout,
            digest: digest(provider, secret, certificates),
        })
    }

    /// The Provider that this is the way to.
    pub fn provider(&self) -> &ResourceName {
        &self.provider
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path and query of a webhook are often its secret.
        let host = self.url.host_str().unwrap_or_default();
        f.debug_struct("Endpoint").field("provider", &self.provider).field("host", &host).finish_non_exhaustive()
    }
}

fn digest(provider: &Provider, secret: Option<&SecretData>, certificates: Option<&SecretData>) -> Digest {
    let mut hasher = Hasher::default();
    hasher.field(format!("{provider:?}").as_bytes());
    for data in [secret, certificates] {
        let entries: Vec<_> = data.into_iter().flat_map(SecretData::entries).collect();
        hasher.field(&(entries.len() as u64).to_le_bytes());
        for (key, value) in entries {
            hasher.field(key.as_bytes());
            hasher.field(&value);
        }
    }
    hasher.finish()
}

/// The Secret's address wins over the spec's, as in Flux.
fn address(provider: &Provider, secret: Option<&[u8]>) -> Result<Url, EndpointError> {
    let (text, from) = match (secret, provider.address.as_deref()) {
        (Some(bytes), _) => (std::str::from_utf8(bytes).unwrap_or_default().trim(), "the key address of the Secret"),
        (None, Some(text)) => (text, "spec.address"),
        (None, None) => ("", "spec.address, or the key address of the Secret"),
    };
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or(EndpointError::Address(from))
}

fn headers(yaml: &[u8]) -> Result<HeaderMap, EndpointError> {
    let text = std::str::from_utf8(yaml).map_err(|_| EndpointError::Headers)?;
    // The parser's error is not passed on: it may quote the value.
    let pairs: BTreeMap<String, String> = serde_saphyr::from_str(text).map_err(|_| EndpointError::Headers)?;
    pairs
        .into_iter()
        .map(|(name, value)| {
            let name = name.parse::<HeaderName>().map_err(|_| EndpointError::Headers)?;
            let mut value = value.parse::<HeaderValue>().map_err(|_| EndpointError::Headers)?;
            value.set_sensitive(true);
            Ok((name, value))
        })
        .collect()
}

/// Flux's `TLSConfigFromSecret`: a CA of one's own replaces the public ones.
fn tls(data: Option<&SecretData>) -> Result<rustls::ClientConfig, EndpointError> {
    let pem = |key: &'static str, legacy: &'static str| {
        let entry = |key: &'static str| Some((key, data?.get(key)?));
        entry(key).or_else(|| entry(legacy))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(pem("ca.crt", "caFile"))?);
    match (pem("tls.crt", "certFile"), pem("tls.key", "keyFile")) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some((name, key))) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| EndpointError::Pem(name))?;
            Ok(builder.with_client_auth_cert(certificates(certificate)?, key)?)
        }
        _ => Err(EndpointError::HalfPair),
    }
}

fn roots(ca: Option<(&'static str, &[u8])>) -> Result<rustls::RootCertStore, EndpointError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate)?;
            }
        }
        None => {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            // What the node trusts beside them; a node without a bundle trusts nothing more.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn certificates((name, pem): (&'static str, &[u8])) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or(EndpointError::Pem(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        Provider {
            name: ResourceName::new("flux-system", "ci"),
            form: Form::GenericHmac,
            address: Some("https://spec.example/hook".to_owned()),
            secret: None,
            cert_secret: None,
            timeout: Duration::from_secs(15),
            suspend: false,
        }
    }

    fn secret(pairs: &[(&str, &str)]) -> SecretData {
        SecretData::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
    }

    #[test]
    fn the_secret_s_address_wins_and_nothing_secret_is_shown() {
        let data = secret(&[
            ("address", " https://hooks.example/T0K3N\n"),
            ("token", "s3cret\n"),
            ("headers", "Authorization: Bearer hunter2\nX-Team: shop\n"),
        ]);
        let endpoint = Endpoint::new(&provider(), Some(&data), None).unwrap();
        assert_eq!(endpoint.url.as_str(), "https://hooks.example/T0K3N");
        assert_eq!(endpoint.key.as_deref(), Some(&b"s3cret"[..]));
        assert_eq!(endpoint.headers["x-team"], "shop");
        let shown = format!("{endpoint:?}");
        for hidden in ["T0K3N", "s3cret", "hunter2"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_sent_with_is_refused_without_showing_it() {
        let refused = |data: &[(&str, &str)], certificates: &[(&str, &str)]| {
            Endpoint::new(&provider(), Some(&secret(data)), Some(&secret(certificates))).unwrap_err().to_string()
        };
        assert!(refused(&[], &[]).contains("token"));
        assert!(refused(&[("token", "t"), ("address", "ftp://hunter2")], &[]).contains("key address"));
        assert!(refused(&[("token", "t"), ("headers", "[hunter2]")], &[]).contains("headers"));
        assert!(refused(&[("token", "t"), ("proxy", "http://hunter2")], &[]).contains("proxy"));
        assert!(refused(&[("token", "t")], &[("ca.crt", "hunter2")]).contains("ca.crt"));
        assert!(refused(&[("token", "t")], &[("tls.crt", "hunter2")]).contains("both"));
    }
}
