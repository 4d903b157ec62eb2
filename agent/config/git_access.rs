//! How a Git host is reached and who we are there: what the Secrets of a GitRepository say.
//!
//! Source: Flux's GitRepository API reference (`spec.secretRef`, `spec.provider`, `spec.proxySecretRef`), and the keys
//! of `fluxcd/pkg`: runtime/secrets, auth/githubapp.

use url::Url;

use super::Invalid;
use super::git::{Credentials, GitUrl};
use super::secret::Secret;
use super::secrets::SecretData;

/// A client certificate (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority, PEM.
    pub certificate: Vec<u8>,
    /// Its private key, PEM.
    pub key: Secret<Vec<u8>>,
}

/// A GitHub App, installed for an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitHubApp {
    /// The App's id.
    pub app: u64,
    /// Where it is installed.
    pub installation: Installation,
    /// Its RSA private key, PEM.
    pub key: Secret<String>,
    /// The address of the API, without a slash at its end.
    pub api: Url,
}

/// Which installation of a GitHub App.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Installation {
    /// By its id.
    Id(u64),
    /// By the organisation or user whose it is.
    Owner(String),
}

/// A proxy, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// `http`, `https`, `socks5` (names are looked up here) or `socks5h` (names are looked up there), host and port.
    pub address: Url,
    /// User name and password.
    pub login: Option<(String, Secret<String>)>,
}

const GITHUB_API: &str = "https://api.github.com";
const SECRET: &str = "spec.secretRef";
const PROXY_SECRET: &str = "spec.proxySecretRef";

/// A longer address of a proxy is a mistake, as in Flux.
const LONGEST_ADDRESS: usize = 2_048;

/// The entry `key` of a Secret as text, without line breaks at its end.
fn text(secret: &SecretData, field: &str, key: &str) -> Result<Option<String>, Invalid> {
    match secret.get(key).map(std::str::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned())),
        Some(Err(_)) => Err(Invalid::field(format!("{field}: the Secret's {key}"), "is not UTF-8 text")),
    }
}

/// Who we are to the server of `url`, by the Secret of `spec.secretRef`. `github` says that the provider is GitHub.
pub(super) fn credentials(secret: &SecretData, url: &GitUrl, github: bool) -> Result<Option<Credentials>, Invalid> {
    let text = |key: &str| text(secret, SECRET, key);
    if github {
        return github_app(secret, url).map(Credentials::GitHubApp).map(Some);
    }
    if secret.get("githubAppID").is_some() {
        let why = "the Secret is a GitHub App's: set spec.provider to github, or name another Secret";
        return Err(Invalid::field(SECRET, why));
    }
    if let Some(identity) = text("identity")? {
        let known_hosts = text("known_hosts")?
            .ok_or_else(|| Invalid::field(SECRET, "the Secret has an identity and no known_hosts"))?;
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
            SECRET,
            "the Secret takes both username and password, or bearerToken, or identity and known_hosts",
        )),
    }
}

/// The certificates of authorities that the Secret brings, under today's name or the one before it.
pub(super) fn authorities(secret: &SecretData) -> Option<Vec<u8>> {
    secret.get("ca.crt").or_else(|| secret.get("caFile")).map(<[u8]>::to_vec)
}

/// The client certificate of the Secret, if it has one.
pub(super) fn client_certificate(secret: &SecretData, url: &GitUrl) -> Result<Option<ClientCertificate>, Invalid> {
    let either = |key: &str, before: &str| secret.get(key).or_else(|| secret.get(before)).map(<[u8]>::to_vec);
    let (certificate, key) = match (either("tls.crt", "certFile"), either("tls.key", "keyFile")) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, Secret::new(key)),
        (Some(_), None) => return Err(Invalid::field(SECRET, "the Secret has tls.crt and no tls.key")),
        (None, Some(_)) => return Err(Invalid::field(SECRET, "the Secret has tls.key and no tls.crt")),
    };
    match url.as_url().scheme() {
        "https" => Ok(Some(ClientCertificate { certificate, key })),
        _ => Err(Invalid::field(SECRET, "the Secret's tls.crt and tls.key are of use for https:// alone")),
    }
}

fn github_app(secret: &SecretData, url: &GitUrl) -> Result<GitHubApp, Invalid> {
    let text = |key: &str| text(secret, SECRET, key).map(|text| text.filter(|text| !text.is_empty()));
    let entry = |key: &str| format!("{SECRET}: the Secret's {key}");
    if url.as_url().scheme() != "https" {
        return Err(Invalid::field("spec.url", "the provider github takes an https:// URL"));
    }
    let number = |key: &str, text: String| {
        text.parse().map_err(|_| Invalid::field(entry(key), "is not a number; GitHub shows it with the App"))
    };
    let missing = |key: &str| Invalid::field(SECRET, format!("the provider github takes a Secret with {key}"));
    let app = text("githubAppID")?.ok_or_else(|| missing("githubAppID"))?;
    let installation = match (text("githubAppInstallationID")?, text("githubAppInstallationOwner")?) {
        (Some(id), None) => Installation::Id(number("githubAppInstallationID", id)?),
        (None, Some(owner)) => Installation::Owner(owner),
        _ => return Err(missing("one of githubAppInstallationID and githubAppInstallationOwner")),
    };
    let api = text("githubAppBaseURL")?.unwrap_or_else(|| GITHUB_API.to_owned());
    let mut api =
        Url::parse(api.trim_end_matches('/')).map_err(|error| Invalid::field(entry("githubAppBaseURL"), error))?;
    let plain = api.username().is_empty() && api.password().is_none() && api.query().is_none();
    if api.scheme() != "https" || !plain {
        let why = "takes an https:// URL without a user or query, such as https://github.example.com/api/v3";
        return Err(Invalid::field(entry("githubAppBaseURL"), why));
    }
    api.set_fragment(None);
    Ok(GitHubApp {
        app: number("githubAppID", app)?,
        installation,
        key: Secret::new(text("githubAppPrivateKey")?.ok_or_else(|| missing("githubAppPrivateKey"))?),
        api,
    })
}

/// The proxy that the Secret of `spec.proxySecretRef` describes.
pub(super) fn proxy(secret: &SecretData) -> Result<Proxy, Invalid> {
    let text = |key: &str| text(secret, PROXY_SECRET, key);
    let address = text("address")?.filter(|address| !address.is_empty());
    let address = address.ok_or_else(|| Invalid::field(PROXY_SECRET, "the Secret has no address"))?;
    let mut proxy = Proxy::parse(&address).map_err(|why| Invalid::field(PROXY_SECRET, why))?;
    match (text("username")?, text("password")?) {
        (Some(username), password) => proxy.login = Some((username, Secret::new(password.unwrap_or_default()))),
        (None, None) => {}
        (None, Some(_)) => return Err(Invalid::field(PROXY_SECRET, "the Secret has a password and no username")),
    }
    Ok(proxy)
}

impl Proxy {
    /// Reads the address of a proxy, with a user and password in it if there are any. What is wrong is told without
    /// repeating the text, which may hold a password.
    pub(crate) fn parse(address: &str) -> Result<Self, &'static str> {
        if address.len() > LONGEST_ADDRESS {
            return Err("the proxy's address is longer than 2,048 bytes");
        }
        // Where no scheme is written, http is meant, as everywhere.
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let mut url = Url::parse(&address).map_err(|_| "the proxy's address is not a URL")?;
        if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") {
            return Err("the proxy's address takes http://, https://, socks5:// or socks5h://");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the proxy's address names no host");
        }
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (username, password) = (decoded(url.username()), url.password().map(decoded));
        let login = (!username.is_empty()).then(|| (username, Secret::new(password.unwrap_or_default())));
        // Neither can fail where there is a host.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        if url.port().is_none() && url.scheme().starts_with("socks5") {
            let _ = url.set_port(Some(1080));
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { address: url, login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(entries: &[(&str, &str)]) -> SecretData {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        SecretData::new(entries.collect())
    }

    fn url(text: &str) -> GitUrl {
        GitUrl::parse(text).unwrap()
    }

    #[test]
    fn a_client_certificate_is_a_pair_under_either_name_and_for_tls() {
        let https = url("https://git.example/r");
        for (certificate, key) in [("tls.crt", "tls.key"), ("certFile", "keyFile")] {
            let both = client_certificate(&secret(&[(certificate, "c"), (key, "k")]), &https).unwrap().unwrap();
            assert_eq!((both.certificate.as_slice(), both.key.reveal().as_slice()), (&b"c"[..], &b"k"[..]));
            let error = client_certificate(&secret(&[(certificate, "c")]), &https).unwrap_err();
            assert!(error.to_string().contains("no tls.key"), "{error}");
            let error = client_certificate(&secret(&[(key, "k")]), &https).unwrap_err();
            assert!(error.to_string().contains("no tls.crt"), "{error}");
        }
        assert_eq!(client_certificate(&secret(&[("ca.crt", "c")]), &https).unwrap(), None);
        let pair = secret(&[("tls.crt", "c"), ("tls.key", "hunter2")]);
        assert!(client_certificate(&pair, &url("http://git.example/r")).is_err());
        assert!(!format!("{:?}", client_certificate(&pair, &https)).contains("hunter2"));
    }

    #[test]
    fn a_github_app_names_one_installation() {
        let https = url("https://github.com/acme/fleet");
        let base = [("githubAppID", "12"), ("githubAppPrivateKey", "key\n")];
        let with = |more: &[(&str, &str)]| credentials(&secret(&[&base[..], more].concat()), &https, true);
        let Some(Credentials::GitHubApp(app)) = with(&[("githubAppInstallationID", "34")]).unwrap() else { panic!() };
        assert_eq!(
            (app.app, app.installation, app.api.as_str()),
            (12, Installation::Id(34), "https://api.github.com/")
        );
        let owner = [("githubAppInstallationOwner", "acme"), ("githubAppBaseURL", "https://ghe.example/api/v3/")];
        let Some(Credentials::GitHubApp(app)) = with(&owner).unwrap() else { panic!() };
        assert_eq!(app.installation, Installation::Owner("acme".to_owned()));
        assert_eq!(app.api.as_str(), "https://ghe.example/api/v3");
        for wrong in [
            &[][..],
            &[("githubAppInstallationID", "34"), ("githubAppInstallationOwner", "acme")],
            &[("githubAppInstallationID", "acme")],
            &[("githubAppInstallationID", "34"), ("githubAppBaseURL", "http://ghe.example/api/v3")],
        ] {
            assert!(with(wrong).is_err(), "{wrong:?}");
        }
        let whole = secret(&[&base[..], &[("githubAppInstallationID", "34")]].concat());
        assert!(credentials(&whole, &url("ssh://git@github.com/acme/fleet"), true).is_err());
        let error = credentials(&whole, &https, false).unwrap_err();
        assert!(error.to_string().contains("spec.provider"), "{error}");
    }

    #[test]
    fn addresses_of_proxies() {
        let read = |text: &str| Proxy::parse(text).map(|proxy| (proxy.address.to_string(), proxy.login));
        let login = |name: &str, password: &str| Some((name.to_owned(), Secret::new(password.to_owned())));
        assert_eq!(read("http://proxy.example:3128").unwrap(), ("http://proxy.example:3128/".to_owned(), None));
        assert_eq!(read("proxy.example:3128").unwrap().0, "http://proxy.example:3128/");
        let with = read("socks5h://ada:p%40ss@proxy.example").unwrap();
        assert_eq!(with, ("socks5h://proxy.example:1080".to_owned(), login("ada", "p@ss")));
        for wrong in ["ftp://proxy.example", "socks4://proxy.example", "http://", "http://[", &"x".repeat(3_000)] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let given = proxy(&secret(&[("address", "http://p"), ("username", "u"), ("password", "s")])).unwrap();
        assert_eq!(given.login, login("u", "s"));
        assert!(proxy(&secret(&[("username", "u")])).is_err());
        assert!(proxy(&secret(&[("address", "http://p"), ("password", "s")])).is_err());
    }
}
