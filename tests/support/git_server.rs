//! A real smart-HTTP Git server: `git http-backend` behind a [`Front`].

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;

use crate::cgi::git_http_backend;
use crate::front::{Front, Request, lock, text};
use crate::tls::{Authority, Identity};

/// Who may fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    #[default]
    Open,
    /// Who knows both.
    Basic {
        /// User name.
        user: String,
        /// Password or token.
        password: String,
    },
    /// Who bears this token.
    Bearer(String),
}

/// How a [`GitServer`] is set up.
#[derive(Clone, Debug)]
pub struct GitServerOptions {
    /// HTTPS, by a CA of its own: see [`Front::ca`].
    pub tls: bool,
    /// Who may fetch.
    pub auth: Auth,
    /// Partial clone (`uploadpack.allowFilter`), as the big hosts have it.
    pub filter: bool,
    /// Takes pushes from everybody who may fetch.
    pub push: bool,
    /// Knows protocol version 0 alone, as Azure DevOps and old servers do.
    pub old: bool,
    /// Knows protocol version 1 at most: version 0 with a line in front.
    pub version_one: bool,
    /// Where there is TLS: speaks only to clients with a certificate of its own CA, see [`GitServer::client`].
    pub client_certificates: bool,
}

impl Default for GitServerOptions {
    fn default() -> Self {
        Self {
            tls: false,
            auth: Auth::Open,
            filter: true,
            push: false,
            old: false,
            version_one: false,
            client_certificates: false,
        }
    }
}

/// A Git server. What it counts and how it fails: see [`Front`], to which it derefs.
pub struct GitServer {
    front: Front,
    auth: Arc<Mutex<Auth>>,
    authority: Option<Authority>,
}

impl GitServer {
    /// Serves the bare repositories in `root` over HTTP, to everybody.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start(root: &Path) -> Result<Self> {
        Self::start_with(root, GitServerOptions::default())
    }

    /// Serves the bare repositories in `root`.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start_with(root: &Path, options: GitServerOptions) -> Result<Self> {
        let authority = options.tls.then(|| Authority::new("wickie test git server")).transpose()?;
        let auth = Arc::new(Mutex::new(options.auth));
        let (root, check) = (Arc::new(root.to_owned()), auth.clone());
        let tls = match &authority {
            Some(authority) if options.client_certificates => Some(authority.mutual_config()?),
            authority => authority.as_ref().map(Authority::server_config).transpose()?,
        };
        let ca = authority.as_ref().map(Authority::pem);
        let front = Front::start_tls("git server", tls, ca, move |mut request| {
            if options.old {
                request.headers_mut().remove("git-protocol");
            }
            if options.version_one {
                request.headers_mut().insert("git-protocol", HeaderValue::from_static("version=1"));
            }
            let given = request
                .headers()
                .get("authorization")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let demanded = demanded(&lock(&check), &given);
            let root = root.clone();
            async move {
                if let Some(scheme) = demanded {
                    let response = hyper::Response::builder().status(401).header("www-authenticate", scheme);
                    return Ok(response.body(text("unauthorized\n"))?);
                }
                let settings = [
                    ("uploadpack.allowFilter", if options.filter { "true" } else { "false" }),
                    ("http.receivepack", if options.push { "true" } else { "false" }),
                ];
                git_http_backend(&root, None, &settings, request).await
            }
        })?;
        Ok(Self { front, auth, authority })
    }

    /// The URL of the repository `name`.git.
    pub fn url(&self, name: &str) -> String {
        format!("{}/{name}.git", self.origin())
    }

    /// Who may fetch from now on.
    pub fn set_auth(&self, auth: Auth) {
        *lock(&self.auth) = auth;
    }

    /// Its CA, if it speaks TLS.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// A client certificate that it takes.
    ///
    /// # Errors
    /// When it does not speak TLS.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.authority.as_ref().context("a server without TLS has no clients with certificates")?.client(name, &[])
    }

    /// How often objects were asked for: a look at the tips alone is none.
    pub fn fetches(&self) -> usize {
        self.count(is_fetch)
    }
}

impl Deref for GitServer {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

/// Whether a request asks for objects. In protocol v2 the list of refs is asked for by a POST to the same path, and its body says so.
pub fn is_fetch(request: &Request) -> bool {
    let asks = request.method == "POST" && request.path.ends_with("/git-upload-pack");
    asks && !request.body_start.windows(LS_REFS.len()).any(|window| window == LS_REFS)
}

const LS_REFS: &[u8] = b"command=ls-refs";

/// The scheme to ask for, when what was given is not enough.
fn demanded(auth: &Auth, given: &str) -> Option<&'static str> {
    let (want, scheme) = match auth {
        Auth::Open => return None,
        Auth::Basic { user, password } => {
            (format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))), "Basic realm=\"git\"")
        }
        Auth::Bearer(token) => (format!("Bearer {token}"), "Bearer realm=\"git\""),
    };
    (given != want).then_some(scheme)
}
