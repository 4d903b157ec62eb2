//! A real Git host: Gitea, over HTTPS and SSH, with one user who may do everything.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::child::Child;
use crate::parts;
use crate::port::Port;
use crate::signer::SshKey;
use crate::tls::Authority;
use crate::wait::within;

/// The user.
pub const USER: &str = "ada";

/// A running Gitea; killed when dropped.
pub struct Gitea {
    https: Port,
    ssh: Port,
    ca: String,
    host_key: SshKey,
    token: String,
    client: reqwest::Client,
    child: Child,
}

impl Gitea {
    /// Starts one with its files in `folder`. The first start on a machine builds it.
    ///
    /// # Errors
    /// When it cannot be built, or does not come up.
    pub async fn start(folder: &Path) -> Result<Self> {
        let program = parts::find(&parts::GITEA)?;
        std::fs::create_dir_all(folder)?;
        let authority = Authority::new("wickie test Gitea")?;
        let identity = authority.server(&["127.0.0.1", "localhost"])?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            anyhow::Ok(file)
        };
        let host_key = SshKey::named("gitea host");
        let (https, ssh) = (Port::free()?, Port::free()?);
        let paths = Paths {
            cert: write("cert.pem", &identity.cert)?,
            key: write("key.pem", &identity.key)?,
            host_key: write("host", &host_key.private())?,
            statics: program.parent().context("a program lies in a folder")?.to_owned(),
            folder: folder.to_owned(),
        };
        let config = write("app.ini", &paths.config(https.number(), ssh.number()))?;
        let command = || {
            let mut command = Command::new(&program);
            command.current_dir(folder).env("HOME", folder).env_remove("SSH_AUTH_SOCK");
            command.arg("--config").arg(&config).arg("--work-path").arg(folder);
            command
        };
        let password = format!("{:032x}", fastrand::u128(..));
        run(command().arg("migrate"))?;
        let user = ["admin", "user", "create", "--admin", "--must-change-password=false"];
        run(command().args(user).args(["--username", USER, "--email", "ada@example.com", "--password", &password]))?;
        let token = ["admin", "user", "generate-access-token", "--raw", "--scopes", "all", "--token-name", "bench"];
        // Behind what its log has to say.
        let said = run(command().args(token).args(["--username", USER]))?;
        let token = said.lines().last().context("Gitea gives a token")?.to_owned();
        let child = Child::spawn("gitea", command().arg("web"), &folder.join("gitea.log"))?;
        let client = client(&authority)?;
        let gitea = Self { https, ssh, ca: authority.pem(), host_key, token, client, child };
        let answers = within(Duration::from_secs(120), || gitea.api("GET", "/version", None)).await;
        answers.with_context(|| format!("Gitea does not answer; its log:\n{}", gitea.log_tail()))?;
        Ok(gitea)
    }

    /// `https://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        format!("https://{}", self.https.addr())
    }

    /// The URL of a repository of the user, over HTTPS.
    pub fn https_url(&self, name: &str) -> String {
        format!("{}/{USER}/{name}.git", self.origin())
    }

    /// The URL of a repository of the user, over SSH.
    pub fn ssh_url(&self, name: &str) -> String {
        format!("ssh://git@{}/{USER}/{name}.git", self.ssh.addr())
    }

    /// The line of `known_hosts` that its SSH server is known by.
    pub fn known_hosts(&self) -> String {
        format!("[127.0.0.1]:{} {}\n", self.ssh.number(), self.host_key.public())
    }

    /// The CA to trust, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// A token of the user, for all of the API and for Git.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.child.log_tail(40)
    }

    /// Asks the API, by a path beneath `/api/v1`.
    ///
    /// # Errors
    /// When it does not answer with success; with what it says.
    pub async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.origin()));
        request = request.header("authorization", format!("token {}", self.token));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Makes a private repository of the user, empty.
    ///
    /// # Errors
    /// As [`Gitea::api`].
    pub async fn create_repository(&self, name: &str) -> Result<()> {
        let body = json!({ "name": name, "private": true, "auto_init": false, "default_branch": "main" });
        self.api("POST", "/user/repos", Some(body)).await.map(drop)
    }

    /// Lets an SSH key of the user in, for reading and writing.
    ///
    /// # Errors
    /// As [`Gitea::api`].
    pub async fn add_key(&self, title: &str, key: &SshKey) -> Result<()> {
        let body = json!({ "title": title, "key": key.public(), "read_only": false });
        self.api("POST", "/user/keys", Some(body)).await.map(drop)
    }

    /// The commit statuses of a commit, the newest first.
    ///
    /// # Errors
    /// As [`Gitea::api`].
    pub async fn statuses(&self, repository: &str, commit: &str) -> Result<Vec<Value>> {
        let found = self.api("GET", &format!("/repos/{USER}/{repository}/statuses/{commit}"), None).await?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// Calls a URL at every push, signed with `secret`.
    ///
    /// # Errors
    /// As [`Gitea::api`].
    pub async fn add_webhook(&self, repository: &str, url: &str, secret: &str) -> Result<()> {
        let config = json!({ "url": url, "content_type": "json", "secret": secret });
        let body = json!({ "type": "gitea", "active": true, "events": ["push"], "config": config });
        self.api("POST", &format!("/repos/{USER}/{repository}/hooks"), Some(body)).await.map(drop)
    }
}

struct Paths {
    folder: PathBuf,
    statics: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    host_key: PathBuf,
}

impl Paths {
    /// Everything beside Git is off: no queue of mails, no indexer, nothing from the network.
    fn config(&self, https: u16, ssh: u16) -> String {
        let Self { folder, statics, cert, key, host_key } = self;
        let (folder, statics) = (folder.display(), statics.display());
        let root = rustix::process::getuid().is_root();
        let user = Command::new("id").arg("-un").output().map(|output| output.stdout).unwrap_or_default();
        let user = String::from_utf8_lossy(&user).trim().to_owned();
        let secret = || format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        format!(
            "APP_NAME = bench\nRUN_MODE = prod\nRUN_USER = {user}\nWORK_PATH = {folder}\n\
             I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = {root}\n\
             [server]\nPROTOCOL = https\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {https}\n\
             ROOT_URL = https://127.0.0.1:{https}/\nCERT_FILE = {}\nKEY_FILE = {}\nSTATIC_ROOT_PATH = {statics}\n\
             APP_DATA_PATH = {folder}/data\nOFFLINE_MODE = true\nLFS_START_SERVER = false\n\
             START_SSH_SERVER = true\nBUILTIN_SSH_SERVER_USER = git\nSSH_DOMAIN = 127.0.0.1\nSSH_PORT = {ssh}\n\
             SSH_LISTEN_HOST = 127.0.0.1\nSSH_LISTEN_PORT = {ssh}\nSSH_SERVER_HOST_KEYS = {}\n\
             [database]\nDB_TYPE = sqlite3\nPATH = {folder}/gitea.db\n\
             [repository]\nROOT = {folder}/repositories\n\
             [security]\nINSTALL_LOCK = true\nSECRET_KEY = {}\nPASSWORD_HASH_ALGO = pbkdf2_v1\n\
             [oauth2]\nENABLED = false\n[service]\nDISABLE_REGISTRATION = true\n\
             [webhook]\nALLOWED_HOST_LIST = *\nSKIP_TLS_VERIFY = true\n\
             [indexer]\nISSUE_INDEXER_TYPE = db\n[actions]\nENABLED = false\n[packages]\nENABLED = false\n\
             [session]\nPROVIDER = memory\n[log]\nMODE = console\nLEVEL = Warn\n",
            cert.display(),
            key.display(),
            host_key.display(),
            secret()
        )
    }
}

fn client(authority: &Authority) -> Result<reqwest::Client> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{:?} failed:\n{out}{error}", command.get_args().collect::<Vec<_>>());
    Ok(out.into_owned())
}
