//! Proxies: the one that the spec names, else the one of the environment.
//!
//! Source of the environment's rules: Go's golang.org/x/net/http/httpproxy, which Flux goes by: `HTTPS_PROXY` and
//! `HTTP_PROXY` by the scheme of the URL, `NO_PROXY`, each also in lower case, and never for this machine itself.
//! `ALL_PROXY` is what curl and git add to it, and what Go goes by for SSH. A proxy that a spec names is taken for every
//! host, as by Flux. What cannot be used is an error: a request that was to go through a proxy must not go around it.
//!
//! A proxy sees the credentials that are its own, and of those for the server none: over TLS and SSH it sees sealed
//! bytes, and who sends credentials over plain HTTP has chosen a trusted network, the proxy with it.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::net::TcpStream;
use tower_service::Service as _;
use url::{Host, Url};

use super::transport::TransportError;
use super::wire::WireError;
use crate::config::git::GitSource;
use crate::config::git_access::Proxy;

/// The proxies that the environment names, as they are written there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    https: Option<String>,
    http: Option<String>,
    all: Option<String>,
    none_for: Option<String>,
}

impl Environment {
    /// What `variable` says: that of this process, but for tests.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let found = variable(name).or_else(|| variable(&name.to_lowercase()));
            found.filter(|value| !value.trim().is_empty())
        };
        Self {
            https: either("HTTPS_PROXY"),
            http: either("HTTP_PROXY"),
            all: either("ALL_PROXY"),
            none_for: either("NO_PROXY"),
        }
    }

    /// The proxy for requests to a URL.
    fn proxy_for(&self, url: &Url) -> Result<Option<Proxy>, TransportError> {
        let (name, address) = match url.scheme() {
            "https" if self.https.is_some() => ("HTTPS_PROXY", &self.https),
            "http" if self.http.is_some() => ("HTTP_PROXY", &self.http),
            _ => ("ALL_PROXY", &self.all),
        };
        match address {
            Some(address) if !self.goes_direct(url) => match Proxy::parse(address) {
                Ok(proxy) => Ok(Some(proxy)),
                Err(why) => Err(TransportError::ProxyVariable { name, why }),
            },
            _ => Ok(None),
        }
    }

    fn goes_direct(&self, url: &Url) -> bool {
        let here = match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => true,
        };
        let Some(none_for) = &self.none_for else { return here };
        // The matcher knows http and https alone; which hosts are meant is the same for all schemes.
        let target = uri("https", url);
        let matcher = Matcher::builder().all("http://proxy.invalid").no(none_for.as_str()).build();
        here || target.is_some_and(|target| matcher.intercept(&target).is_none())
    }
}

/// The proxy on the way to the server of a source.
pub(crate) fn proxy_for(source: &GitSource, environment: &Environment) -> Result<Option<Proxy>, TransportError> {
    match &source.proxy {
        Some(proxy) => Ok(Some(proxy.clone())),
        None => environment.proxy_for(source.url.as_url()),
    }
}

/// The address of a proxy with who we are there in it, as HTTP clients take it.
pub(crate) fn with_login(proxy: &Proxy) -> Url {
    let mut url = proxy.address.clone();
    if let Some((user, password)) = &proxy.login {
        // Neither fails for a URL with a host.
        let _ = url.set_username(user).and_then(|()| url.set_password(Some(password.reveal())));
    }
    url
}

/// A connection to `host` through a proxy, for what is not HTTP.
pub(crate) async fn connect(proxy: &Proxy, host: &str, port: u16, within: Duration) -> Result<TcpStream, WireError> {
    let failed = |why: String| WireError::Proxy { address: proxy.address.to_string(), why };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let target: Uri = format!("https://{host}:{port}").parse().map_err(|_| failed(format!("{host:?} is no host")))?;
    let address: Uri = proxy.address.as_str().parse().map_err(|_| failed("its address is no URI".to_owned()))?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(within));
    connector.set_nodelay(true);
    let connected = match proxy.address.scheme() {
        "http" => {
            let mut tunnel = Tunnel::new(address, connector);
            if let Some(login) = basic(proxy) {
                tunnel = tunnel.with_auth(login);
            }
            tunnel.call(target).await.map_err(|error| failed(causes(&error)))?
        }
        "socks5" | "socks5h" => {
            let mut socks = SocksV5::new(address, connector).local_dns(proxy.address.scheme() == "socks5");
            if let Some((user, password)) = &proxy.login {
                socks = socks.with_auth(user.clone(), password.reveal().clone());
            }
            socks.call(target).await.map_err(|error| failed(causes(&error)))?
        }
        other => {
            return Err(failed(format!("SSH does not go through a proxy by {other}; use http:// or socks5h://")));
        }
    };
    Ok(connected.into_inner())
}

fn basic(proxy: &Proxy) -> Option<HeaderValue> {
    let (user, password) = proxy.login.as_ref()?;
    HeaderValue::from_str(&format!("Basic {}", BASE64.encode(format!("{user}:{}", password.reveal())))).ok()
}

fn uri(scheme: &str, url: &Url) -> Option<Uri> {
    let host = match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => IpAddr::from(address).to_string(),
        Host::Ipv6(address) => format!("[{address}]"),
    };
    format!("{scheme}://{host}/").parse().ok()
}

/// An error of a crate that has no type of ours, with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn found(environment: &Environment, url: &str) -> Option<String> {
        let proxy = environment.proxy_for(&url.parse().unwrap()).unwrap();
        proxy.map(|proxy| proxy.address.host_str().unwrap().to_owned())
    }

    #[test]
    fn the_environment_is_read_as_go_and_curl_read_it() {
        let both = environment(&[("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2"), ("ALL_PROXY", "socks5://a:3")]);
        assert_eq!(found(&both, "https://git.example/r").as_deref(), Some("s"));
        assert_eq!(found(&both, "http://git.example/r").as_deref(), Some("p"));
        assert_eq!(found(&both, "ssh://git@git.example/r").as_deref(), Some("a"));
        for here in ["https://localhost/r", "https://127.0.0.1:8443/r", "https://[::1]/r", "ssh://localhost/r"] {
            assert_eq!(found(&both, here), None, "{here}");
        }
        assert_eq!(found(&environment(&[]), "https://git.example/r"), None);
        assert_eq!(found(&environment(&[("HTTPS_PROXY", " ")]), "https://git.example/r"), None);
    }

    #[test]
    fn no_proxy_holds_for_every_scheme() {
        let none = environment(&[("ALL_PROXY", "http://a:3"), ("NO_PROXY", "example, 10.0.0.0/8,[fd00::1]")]);
        for direct in ["https://git.example/r", "http://example/r", "ssh://git.example/r", "https://10.1.2.3/r"] {
            assert_eq!(found(&none, direct), None, "{direct}");
        }
        for through in ["https://git.other/r", "https://notexample/r", "ssh://11.1.2.3/r"] {
            assert!(found(&none, through).is_some(), "{through}");
        }
        let all = environment(&[("ALL_PROXY", "http://a:3"), ("NO_PROXY", "*")]);
        assert_eq!(found(&all, "https://git.example/r"), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_not_gone_around() {
        let wrong = environment(&[("HTTPS_PROXY", "ftp://ada:hunter2@p:1")]);
        let error = wrong.proxy_for(&"https://git.example/r".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("HTTPS_PROXY") && !error.to_string().contains("hunter2"), "{error}");
    }
}
