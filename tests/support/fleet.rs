//! One node with its repository: what most tests of the agent begin with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::control_plane::home;
use crate::{Agent, AgentOptions, GitServer, Repo, Scratch, Signer, SshKey};

/// A signed repository behind a Git server, and the configuration folder of a node that follows it.
pub struct Fleet {
    /// Where everything lies.
    pub scratch: Scratch,
    /// The repository `fleet`.
    pub repo: Repo,
    /// Its server.
    pub git: GitServer,
    /// The key that the node believes.
    pub key: SshKey,
    /// The namespace of the test's objects.
    pub namespace: String,
    /// The namespace that the agent lives in.
    pub home: String,
    kubeconfig: PathBuf,
    binary: PathBuf,
}

impl Fleet {
    /// An empty repository and its server. `binary` is the agent's.
    ///
    /// # Errors
    /// When git is missing or the server cannot be started.
    pub fn new(name: &str, binary: &str, kubeconfig: PathBuf, namespace: String) -> Result<Self> {
        let scratch = Scratch::new(name);
        fs::create_dir_all(scratch.join("conf.d"))?;
        let repo = Repo::create(scratch.path(), "fleet")?;
        let git = GitServer::start(scratch.path())?;
        let key = SshKey::named("ada");
        let home = home(&namespace);
        Ok(Self { scratch, repo, git, key, namespace, home, kubeconfig, binary: binary.into() })
    }

    /// The signer that the node believes.
    pub fn signer(&self) -> Signer {
        self.key.signer()
    }

    /// Writes a file of the configuration folder.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn configure(&self, file: &str, text: &str) -> Result<()> {
        // Renamed into place, as an editor or a tool does: a file that is read half would be another test.
        let path = self.config().join(file);
        let aside = path.with_extension("new");
        fs::write(&aside, text)?;
        fs::rename(aside, path)?;
        Ok(())
    }

    /// The configuration folder.
    pub fn config(&self) -> PathBuf {
        self.scratch.join("conf.d")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// Declares the repository as GitRepository `fleet`, on `main`, with the key's public half; asked every `interval`.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn follow(&self, interval: &str) -> Result<()> {
        let text = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: fleet}}
spec:
  url: {}
  interval: {interval}
  ref: {{branch: main}}
  verify: {{mode: HEAD, secretRef: {{name: signers}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: signers}}
stringData:
  ada.sshpub: {}
",
            self.git.url("fleet"),
            self.key.public()
        );
        self.configure("fleet.yaml", &text)
    }

    /// Declares Kustomization `name` on it; `more` is the rest of its spec, indented by two.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep(&self, name: &str, more: &str) -> Result<()> {
        let mut text = format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}}}
spec:
  prune: true
  sourceRef: {{kind: GitRepository, name: fleet}}
"
        );
        if !more.contains("interval:") {
            text.push_str("  interval: 10m\n");
        }
        if !more.contains("retryInterval:") {
            text.push_str("  retryInterval: 2s\n");
        }
        text.push_str(more);
        self.configure(&format!("{name}.yaml"), &text)
    }

    /// Writes a ConfigMap of the test's namespace into the work tree, with one entry.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write_map(&self, path: &str, name: &str, value: &str) -> Result<()> {
        self.repo.write(path, &config_map(&self.namespace, name, value))
    }

    /// Commits what stands in the work tree, signed by the key that the node believes.
    ///
    /// # Errors
    /// When git does not take it.
    pub fn commit(&self, message: &str) -> Result<String> {
        self.repo.commit(message, &self.signer())
    }

    /// How the agent is started; change what the test wants otherwise.
    pub fn options(&self) -> AgentOptions {
        AgentOptions {
            binary: self.binary.clone(),
            config: Some(self.config()),
            data_dir: self.data_dir(),
            kubeconfig: Some(self.kubeconfig.clone()),
            env: vec![("POD_NAMESPACE".to_owned(), self.home.clone())],
            ..AgentOptions::default()
        }
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn start(&self) -> Result<Agent> {
        Agent::spawn(self.options())
    }

    /// Sends the agent through another way to the API server.
    pub fn through(&mut self, kubeconfig: &Path) {
        self.kubeconfig = kubeconfig.to_owned();
    }
}

/// A ConfigMap with the entry `value`.
pub fn config_map(namespace: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  value: \"{value}\"\n"
    )
}
