//! The part of GitHub's API that gives an App its tokens, with a clock of its own. A statement counts only if the App's public key says so.

use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::front::{Answer, Front, lock, text};
use crate::tls::Authority;

/// An App as GitHub knows it.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id.
    pub id: u64,
    /// The organisation it is installed for.
    pub owner: String,
    /// The id of that installation.
    pub installation: u64,
    /// Its private key, as GitHub gives it out: PKCS#1, PEM.
    pub key: String,
    public: Vec<u8>,
}

impl App {
    /// An App with a new key, made by ssh-keygen in `folder`.
    ///
    /// # Errors
    /// When ssh-keygen is not there.
    pub fn generate(folder: &Path) -> Result<Self> {
        let file = folder.join("app");
        let run = |args: &[&str]| {
            let output =
                Command::new("ssh-keygen").args(args).arg("-f").arg(&file).output().context("run ssh-keygen")?;
            ensure!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
            anyhow::Ok(output.stdout)
        };
        run(&["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""])?;
        // PKCS#1 again: what ring takes, and no PEM that rustls knows.
        let pem = String::from_utf8(run(&["-e", "-m", "PEM"])?)?;
        let public = BASE64_STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>())?;
        Ok(Self { id: 4711, owner: "acme".into(), installation: 815, key: std::fs::read_to_string(&file)?, public })
    }

    /// Whether a statement (a JSON Web Token) is this App's at this time, by the rules that GitHub publishes.
    fn stated(&self, statement: &str, now: i64) -> Result<()> {
        let (signed, signature) = statement.rsplit_once('.').context("a token has three parts")?;
        let (header, claims) = signed.split_once('.').context("a token has three parts")?;
        let part = |text: &str| anyhow::Ok(serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(text)?)?);
        ensure!(part(header)? == json!({"alg": "RS256", "typ": "JWT"}), "another algorithm");
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
        ensure!(key.verify(signed.as_bytes(), &signature).is_ok(), "the signature is not the App's");
        let claims = part(claims)?;
        let time = |name: &str| claims[name].as_i64().with_context(|| format!("{name} is not a time"));
        ensure!(claims["iss"] == json!(self.id.to_string()), "another App");
        ensure!(time("iat")? <= now, "'Issued at' claim ('iat') lies in the future");
        ensure!(time("exp")? > now && time("exp")? <= now + 600, "'Expiration time' claim ('exp') is out of range");
        Ok(())
    }
}

/// The API. What it counts and how it fails: see [`Front`], to which it derefs.
pub struct GitHubApi {
    front: Front,
    clock: Arc<Mutex<SignedDuration>>,
    given: Arc<Mutex<Vec<String>>>,
}

impl GitHubApi {
    /// Serves an App over HTTPS, by a certificate of `authority`.
    ///
    /// # Errors
    /// When loopback has no port left.
    pub fn start(app: &App, authority: &Authority) -> Result<Self> {
        let (clock, given) = (Arc::new(Mutex::new(SignedDuration::ZERO)), Arc::new(Mutex::new(Vec::new())));
        let (app, ahead, tokens) = (app.clone(), clock.clone(), given.clone());
        let front = Front::start("GitHub API", Some(authority), move |request| {
            let now = Timestamp::now() + *lock(&ahead);
            let statement = request.headers().get("authorization").and_then(|value| value.to_str().ok());
            let statement = statement.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
            let stated = app.stated(statement, now.as_second());
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            let answer = match stated {
                Err(why) => (401, json!({ "message": why.to_string() })),
                Ok(()) => app.answer(&method, &path, now, &mut lock(&tokens)),
            };
            async move { respond(now, answer) }
        })?;
        Ok(Self { front, clock, given })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("{}/api/v3", self.origin())
    }

    /// How far its clock goes ahead of this machine's from now on.
    pub fn set_clock(&self, ahead: SignedDuration) {
        *lock(&self.clock) = ahead;
    }

    /// The tokens that it gave.
    pub fn given(&self) -> Vec<String> {
        lock(&self.given).clone()
    }
}

impl App {
    fn answer(&self, method: &str, path: &str, now: Timestamp, given: &mut Vec<String>) -> (u16, Value) {
        let path = path.strip_prefix("/api/v3").unwrap_or_default();
        if method == "GET" && path == format!("/orgs/{}/installation", self.owner) {
            return (200, json!({ "id": self.installation }));
        }
        if method == "POST" && path == format!("/app/installations/{}/access_tokens", self.installation) {
            given.push(format!("ghs_{}", given.len()));
            let end = now + SignedDuration::from_hours(1);
            return (201, json!({ "token": given.last(), "expires_at": end.to_string() }));
        }
        (404, json!({ "message": "Not Found" }))
    }
}

fn respond(now: Timestamp, (status, body): (u16, Value)) -> Answer {
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now)?;
    let response = hyper::Response::builder().status(status).header("content-type", "application/json");
    Ok(response.header("date", date).body(text(&body.to_string()))?)
}

impl Deref for GitHubApi {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}
