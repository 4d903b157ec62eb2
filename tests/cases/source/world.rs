//! What every test here stands in: a repository, a server, an agent's store.

use std::time::Duration;

use jiff::Timestamp;
use wickie::config::git::{GitSource, GitUrl, Limits, RefName, Reference, Verify, VerifyMode};
use wickie::source::{Git, PollOutcome, Polled, Snapshot, SourceError, Verified};
use wickie::store::{DataDir, Store};
use wickie_model::ResourceName;
use wickie_testbench::{GitServer, GitServerOptions, Repo, Scratch, SshKey};

pub(crate) struct World {
    pub(crate) scratch: Scratch,
    pub(crate) repo: Repo,
    pub(crate) server: GitServer,
    pub(crate) ada: SshKey,
    pub(crate) store: Store,
    pub(crate) git: Git,
}

impl World {
    /// An empty repository, served; an empty store.
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, GitServerOptions::default())
    }

    pub(crate) fn with(name: &str, options: GitServerOptions) -> Self {
        let scratch = Scratch::new(name);
        let repo = Repo::create(scratch.path(), "fleet").expect("git makes a repository");
        let server = GitServer::start_with(scratch.path(), options).expect("the server starts");
        let store = open(&scratch);
        Self { git: Git::new(store.clone()), ada: SshKey::named("ada"), scratch, repo, server, store }
    }

    /// A commit with these files, by Ada.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            self.repo.write(path, text).expect("the file is written");
        }
        self.repo.commit("a change", &self.ada.signer()).expect("git commits")
    }

    /// The branch `main`, signed by Ada.
    pub(crate) fn source(&self) -> GitSource {
        GitSource {
            name: ResourceName::new("flux-system", "fleet"),
            url: GitUrl::parse(&self.server.url("fleet")).expect("a URL"),
            reference: branch("main"),
            timeout: Duration::from_secs(30),
            credentials: None,
            ca: self.server.ca().map(|pem| pem.as_bytes().to_vec()),
            client_certificate: None,
            proxy: None,
            local_roots: None,
            verify: Some(signed_by(VerifyMode::Head, &[self.ada.public()])),
            policy: None,
            permits: Vec::new(),
            ignore: None,
            paths: None,
            sparse: Vec::new(),
            submodules: false,
            include: Vec::new(),
            others: Vec::new(),
            limits: Limits::default(),
            history: 3,
        }
    }

    pub(crate) async fn poll(&self, source: &GitSource) -> Polled {
        self.git.poll(source, Timestamp::now()).await
    }

    /// A poll that must find something new.
    pub(crate) async fn accept(&self, source: &GitSource) -> Verified<Snapshot> {
        match self.poll(source).await.outcome {
            Ok(PollOutcome::New(snapshot)) => snapshot,
            other => panic!("something new was expected, not {other:?}"),
        }
    }

    /// A poll that must fail.
    pub(crate) async fn refuse(&self, source: &GitSource) -> SourceError {
        self.poll(source).await.outcome.expect_err("a refusal was expected")
    }

    /// The agent, started again.
    pub(crate) fn restarted(self) -> Self {
        drop(self.git);
        drop(self.store);
        let store = open(&self.scratch);
        Self { git: Git::new(store.clone()), store, ..self }
    }
}

impl World {
    /// An agent with nothing in its store.
    pub(crate) fn emptied(self) -> Self {
        drop(self.git);
        drop(self.store);
        let _ = std::fs::remove_dir_all(self.scratch.path().join("data"));
        let store = open(&self.scratch);
        Self { git: Git::new(store.clone()), store, ..self }
    }
}

fn open(scratch: &Scratch) -> Store {
    let dir = DataDir::new(scratch.path().join("data"));
    dir.create().expect("the data directory is made");
    Store::open(&dir, Timestamp::now()).expect("the store opens").0
}

pub(crate) fn branch(name: &str) -> Reference {
    Reference::Branch(RefName::new(name).expect("a name"))
}

pub(crate) fn tag(name: &str) -> Reference {
    Reference::Tag(RefName::new(name).expect("a name"))
}

pub(crate) fn signed_by(mode: VerifyMode, keys: &[String]) -> Verify {
    let keys = keys.iter().enumerate().map(|(number, key)| (format!("key-{number}"), key.clone().into_bytes()));
    Verify { mode, keys: keys.collect() }
}

/// An error with all its causes, as it is shown.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
