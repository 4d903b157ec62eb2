//! A repository behind two servers, and those who follow it through relays that count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use wickie::config::git::{GitSource, GitUrl, RefName, Reference, Verify, VerifyMode};
use wickie::source::{Git, Polled};
use wickie::store::{DataDir, Store};
use wickie_model::ResourceName;
use wickie_testbench::repo::isolated;
use wickie_testbench::{GitServer, GitServerOptions, Relay, RelayOptions, Repo, Scratch, Signer, SshKey};

use crate::judge::grouped;

/// The repository and its servers: one without TLS, one with.
pub(crate) struct Stand {
    pub(crate) scratch: Scratch,
    pub(crate) repo: Repo,
    pub(crate) plain: GitServer,
    pub(crate) tls: GitServer,
    key: SshKey,
}

/// What something has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    /// Bytes of answers' bodies.
    pub(crate) bodies: u64,
    /// Bytes in both directions, with headers.
    pub(crate) headers: u64,
    /// Bytes in both directions, with headers and TLS.
    pub(crate) wire: u64,
}

impl Stand {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let repo = Repo::create(scratch.path(), "fleet").unwrap();
        let plain = GitServer::start(scratch.path()).unwrap();
        let options = GitServerOptions { tls: true, ..Default::default() };
        let tls = GitServer::start_with(scratch.path(), options).unwrap();
        std::fs::write(scratch.join("ca.pem"), tls.ca().unwrap()).unwrap();
        Self { scratch, repo, plain, tls, key: SshKey::named("ada") }
    }

    pub(crate) fn signer(&self) -> Signer {
        self.key.signer()
    }

    /// The source `fleet`, by this URL.
    pub(crate) fn source(&self, url: &str) -> GitSource {
        let verify =
            Verify { mode: VerifyMode::Head, keys: vec![("ada.sshpub".into(), self.key.public().into_bytes())] };
        let (url, main) = (GitUrl::parse(url).unwrap(), Reference::Branch(RefName::new("main").unwrap()));
        GitSource {
            ca: Some(self.tls.ca().unwrap().as_bytes().to_vec()),
            verify: Some(verify),
            history: 3,
            ..GitSource::unverified(ResourceName::new("flux-system", "fleet"), url, main, Duration::from_secs(900))
        }
    }
}

/// One way to a server, which counts.
pub(crate) struct Lane {
    pub(crate) relay: Relay,
    pub(crate) url: String,
}

impl Lane {
    pub(crate) fn to(server: &GitServer, options: RelayOptions) -> Self {
        let relay = Relay::start(server.addr(), options).unwrap();
        let scheme = if server.ca().is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/fleet.git", relay.addr());
        Self { relay, url }
    }

    /// What passes while `something` happens.
    async fn passed(&self, something: impl AsyncFnOnce()) -> u64 {
        let before = self.relay.passed();
        something().await;
        // What was written is counted a moment later, on the relay's own thread.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.relay.passed() - before
    }
}

/// wickie's Git stage, once over each server.
pub(crate) struct Wickie {
    plain: Follower,
    tls: Follower,
}

/// One store that follows the repository over one lane.
struct Follower {
    lane: Lane,
    store: Store,
    git: Git,
    source: GitSource,
}

impl Wickie {
    /// With empty stores; `paths` limits what is fetched.
    pub(crate) fn new(stand: &Stand, name: &str, paths: Option<&str>) -> Self {
        let follower = |server: &GitServer, kind: &str| {
            let lane = Lane::to(server, RelayOptions::default());
            let store = store(&stand.scratch.join(format!("{name}-{kind}")));
            let mut source = stand.source(&lane.url);
            source.paths = paths.map(|path| vec![path.to_owned()]);
            Follower { lane, git: Git::new(store.clone()), store, source }
        };
        Self { plain: follower(&stand.plain, "plain"), tls: follower(&stand.tls, "tls") }
    }

    /// Polls over both.
    pub(crate) async fn poll(&self) -> Cost {
        let (headers, _) = self.plain.poll().await;
        let (wire, polled) = self.tls.poll().await;
        polled.outcome.unwrap();
        Cost { requests: polled.traffic.requests, bodies: polled.traffic.received, headers, wire }
    }

    /// Breaks the connections: the next poll makes new ones, and takes TLS sessions up again.
    pub(crate) fn disconnect(&self) {
        for follower in [&self.plain, &self.tls] {
            follower.lane.relay.down();
            follower.lane.relay.up();
        }
    }

    /// As after a restart: nothing is remembered but what the store holds.
    pub(crate) fn restarted(self) -> Self {
        let again = |follower: Follower| Follower { git: Git::new(follower.store.clone()), ..follower };
        Self { plain: again(self.plain), tls: again(self.tls) }
    }
}

impl Follower {
    async fn poll(&self) -> (u64, Polled) {
        let mut polled = None;
        let passed =
            self.lane.passed(async || polled = Some(self.git.poll(&self.source, Timestamp::now()).await)).await;
        (passed, polled.unwrap())
    }
}

/// An empty store in `folder`.
pub(crate) fn store(folder: &Path) -> Store {
    let dir = DataDir::new(folder.to_owned());
    dir.create().unwrap();
    Store::open(&dir, Timestamp::now()).unwrap().0
}

/// The real git, once over each server.
pub(crate) struct RealGit<'a> {
    stand: &'a Stand,
    name: String,
    plain: Lane,
    tls: Lane,
}

impl<'a> RealGit<'a> {
    pub(crate) fn new(stand: &'a Stand, name: &str) -> Self {
        let lane = |server| Lane::to(server, RelayOptions::default());
        Self { stand, name: name.to_owned(), plain: lane(&stand.plain), tls: lane(&stand.tls) }
    }

    /// Clones, with these options; a clone that is there is thrown away.
    pub(crate) async fn clone(&self, options: &[&str]) -> Cost {
        let clone = ["clone", "--quiet", "--no-checkout"];
        self.measured(async |lane: &Lane, folder: &Path| {
            let _ = std::fs::remove_dir_all(folder);
            let folder = folder.display().to_string();
            git(self.stand, Path::new("/"), &[&clone[..], options, &[&lane.url, &folder]].concat()).await;
        })
        .await
    }

    /// Runs git in the clone; `URL` stands for the repository's.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Cost {
        self.measured(async |lane: &Lane, folder: &Path| {
            let arguments: Vec<&str> =
                arguments.iter().map(|word| if *word == "URL" { lane.url.as_str() } else { word }).collect();
            git(self.stand, folder, &arguments).await;
        })
        .await
    }

    async fn measured(&self, action: impl AsyncFn(&Lane, &Path)) -> Cost {
        let folder = |kind: &str| -> PathBuf { self.stand.scratch.join(format!("git-{}-{kind}", self.name)) };
        let headers = self.plain.passed(async || action(&self.plain, &folder("plain")).await).await;
        self.stand.tls.forget();
        let wire = self.tls.passed(async || action(&self.tls, &folder("tls")).await).await;
        let requests = self.stand.tls.requests();
        let bodies = requests.iter().map(|request| request.response_bytes).sum();
        Cost { requests: requests.len() as u64, bodies, headers, wire }
    }
}

/// Runs the real git on a thread of its own; servers and relays have theirs.
pub(crate) async fn git(stand: &Stand, folder: &Path, arguments: &[&str]) {
    let ended = try_git(stand, folder, arguments).await;
    assert!(ended.0, "git {arguments:?}: {}", ended.1);
}

/// Runs the real git; gives whether it succeeded, and what it said.
pub(crate) async fn try_git(stand: &Stand, folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = isolated(&stand.scratch.join("home"));
    command.arg("-C").arg(folder).arg("-c").arg(format!("http.sslCAInfo={}", stand.scratch.join("ca.pem").display()));
    command.args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

pub(crate) fn heading(what: &str) {
    println!("\n{what}\n");
    println!("| | requests | bytes of answers | with headers, both ways | with TLS, both ways |");
    println!("|---|---|---|---|---|");
}

pub(crate) fn row(what: &str, cost: Cost) {
    let Cost { requests, bodies, headers, wire } = cost;
    println!("| {what} | {requests} | {} | {} | {} |", grouped(bodies), grouped(headers), grouped(wire));
}
