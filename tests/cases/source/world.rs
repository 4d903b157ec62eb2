//! What every test here stands in: a repository, a server, an agent's store.

use std::time::Duration;

use jiff::Timestamp;
use wickie::config::git::{GitSource, GitUrl, RefName, Reference, Verify, VerifyMode};
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
        let (store, git) = open(&scratch);
        Self { git, ada: SshKey::named("ada"), scratch, repo, server, store }
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
        let url = GitUrl::parse(&self.server.url("fleet")).expect("a URL");
        GitSource {
            ca: self.server.ca().map(|pem| pem.as_bytes().to_vec()),
            verify: Some(signed_by(VerifyMode::Head, &[self.ada.public()])),
            permits: vec![self.scratch.join("permits")],
            history: 3,
            ..GitSource::unverified(named("fleet"), url, branch("main"), Duration::from_secs(30))
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
        let (store, git) = open(&self.scratch);
        Self { git, store, ..self }
    }
}

impl World {
    /// An agent with nothing in its data directory.
    pub(crate) fn emptied(self) -> Self {
        self.changed(|dir| drop(std::fs::remove_dir_all(dir.path())))
    }

    /// The agent, started again after somebody did something to its data directory.
    pub(crate) fn changed(self, change: impl FnOnce(&DataDir)) -> Self {
        drop(self.git);
        drop(self.store);
        let dir = data_dir(&self.scratch);
        // The log goes with the last connection, and that with the store's thread.
        let log = dir.path().join("wickie.db-wal");
        for _ in 0..1_000 {
            if !log.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        change(&dir);
        let (store, git) = open(&self.scratch);
        Self { git, store, ..self }
    }

    pub(crate) fn data_dir(&self) -> DataDir {
        data_dir(&self.scratch)
    }

    /// A permit for `flux-system/fleet`, signed by `key`.
    pub(crate) fn permit(&self, key: &SshKey, from: &[&str], to: &str, expires: &str) -> String {
        let from: String = from.iter().map(|from| format!("from {from}\n")).collect();
        let text = format!("wickie permit 1\nsource flux-system/fleet\n{from}to {to}\nexpires {expires}\n");
        let signature = key.sign_for("wickie-permit", text.as_bytes()).expect("ssh-keygen signs, or its like");
        format!("{text}{signature}")
    }

    /// Puts a permit into the repository.
    pub(crate) fn publish_permit(&self, permit: &str) {
        let blob = self.repo.object("blob", permit.as_bytes()).expect("git takes it");
        self.repo.set_ref("refs/wickie/permits/1", &blob).expect("git takes it");
    }
}

fn data_dir(scratch: &Scratch) -> DataDir {
    DataDir::new(scratch.path().join("data"))
}

fn open(scratch: &Scratch) -> (Store, Git) {
    let dir = data_dir(scratch);
    dir.create().expect("the data directory is made");
    let store = Store::open(&dir, Timestamp::now()).expect("the store opens").0;
    let git = Git::new(store.clone()).with_file(dir.floors());
    // Every test here has a runtime already, of one thread: this one is only to wait in.
    let git = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(git).0
    });
    (store, git.join().expect("the copies are read"))
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

/// The name of a source.
pub(crate) fn named(name: impl Into<String>) -> ResourceName {
    ResourceName::new("flux-system", name)
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
