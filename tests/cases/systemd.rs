//! The agent as a service of the node: what it tells its service manager, and the units and the script that make it one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use wickie_testbench::{Agent, ApiProxy, ControlPlane, Fleet, Scratch, eventually, need};

use crate::node::*;

/// Half of the watchdog's time: the pace of the signs of life.
const PACE: Duration = Duration::from_secs(1);

/// The end of the socket that systemd has.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn at(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let watchdog = (PACE * 2).as_micros().to_string();
        vec![("NOTIFY_SOCKET".to_owned(), self.path.display().to_string()), ("WATCHDOG_USEC".to_owned(), watchdog)]
    }

    /// What was told since the last look.
    fn heard(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        std::iter::from_fn(|| self.socket.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    /// Waits until a word is told, and gives all up to it.
    async fn hears(&self, agent: &mut Agent, word: &str) -> Vec<String> {
        let heard = std::cell::RefCell::new(Vec::new());
        let agent = std::cell::RefCell::new(agent);
        eventually(&format!("it tells {word:?}"), LONG, || async {
            agent.borrow_mut().check()?;
            heard.borrow_mut().extend(self.heard());
            ensure!(heard.borrow().iter().any(|one: &String| one.contains(word)), "{:?}", heard.borrow());
            anyhow::Ok(())
        })
        .await;
        heard.into_inner()
    }
}

#[tokio::test]
async fn systemd_is_told_how_it_stands_and_gets_signs_of_life_as_long_as_there_are_any() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("systemd").await.unwrap();
    let proxy = ApiProxy::start(control_plane).unwrap();
    let fleet = Fleet::new("systemd", env!("CARGO_BIN_EXE_wickie"), proxy.kubeconfig(), namespace).unwrap();
    fleet.write_map("map.yaml", "map", "one").unwrap();
    let first = fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    let manager = Manager::at(fleet.scratch.join("notify"));

    // The kubeconfig as systemd hands it out, and no API server yet.
    let credentials = fleet.scratch.join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::copy(proxy.kubeconfig(), credentials.join("kubeconfig")).unwrap();
    proxy.down();
    let mut options = fleet.options();
    options.kubeconfig = None;
    options.env.extend(manager.variables());
    options.env.push(("CREDENTIALS_DIRECTORY".to_owned(), credentials.display().to_string()));
    let mut agent = Agent::spawn(options).unwrap();
    let heard = manager.hears(&mut agent, "STATUS=waits for the API server http").await;
    assert_eq!(heard[0], "STATUS=starting: the store is being checked");
    assert_eq!(heard.iter().filter(|word| *word == "READY=1").count(), 1, "{heard:?}");
    assert!(fleet.data_dir().join("wickie.sock").exists(), "when it is ready it can be talked to");

    proxy.up();
    applied(&agent, &first).await;
    manager.hears(&mut agent, "STATUS=1 of 1 Kustomization ready, from 1 source").await;
    fleet.repo.write("map.yaml", "kind: [").unwrap();
    fleet.commit("broken").unwrap();
    manager
        .hears(&mut agent, "0 of 1 Kustomization ready, from 1 source; not ready: Kustomization/flux-system/apps (")
        .await;

    // Signs of life at their pace, and nothing else where nothing changes.
    let signs = |heard: &[String]| heard.iter().filter(|word| *word == "WATCHDOG=1").count();
    fleet.write_map("map.yaml", "map", "two").unwrap();
    fleet.commit("whole again").unwrap();
    manager.hears(&mut agent, "STATUS=1 of 1 Kustomization ready, from 1 source").await;
    manager.heard();
    let began = Instant::now();
    tokio::time::sleep(PACE * 8).await;
    let (heard, passed) = (manager.heard(), began.elapsed());
    let most = passed.as_secs_f64() / PACE.as_secs_f64() + 2.0;
    assert!(signs(&heard) >= 4 && (signs(&heard) as f64) < most, "{heard:?} within {passed:?}");
    assert_eq!(heard.len(), signs(&heard), "{heard:?}");

    agent.freeze();
    tokio::time::sleep(Duration::from_millis(200)).await;
    manager.heard();
    tokio::time::sleep(PACE * 4).await;
    assert_eq!(manager.heard(), Vec::<String>::new(), "who is frozen gives no sign");
    agent.thaw();
    manager.hears(&mut agent, "WATCHDOG=1").await;

    assert_eq!(agent.stop().await.unwrap(), 0);
    let heard = manager.heard();
    assert!(heard.iter().any(|word| word == "STOPPING=1\nSTATUS=stopping"), "{heard:?}");
}

#[test]
fn an_agent_that_cannot_start_says_why() {
    let scratch = Scratch::new("no-start");
    let manager = Manager::at(scratch.join("notify"));
    let run = |variable: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wickie"));
        command.args(["run", "--data-dir"]).arg(scratch.join("data")).envs(manager.variables()).env(variable, value);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    run("KUBECONFIG", "/no/such/kubeconfig");
    let heard = manager.heard();
    assert_eq!(heard.last().unwrap(), "STATUS=failed: the kubeconfig /no/such/kubeconfig cannot be used", "{heard:?}");
    assert!(!heard.contains(&"READY=1".to_owned()), "{heard:?}");

    // A manager that cannot be told would wait in vain.
    let said = run("NOTIFY_SOCKET", "vsock:2:9999");
    assert!(said.contains("NOTIFY_SOCKET=\"vsock:2:9999\" names no socket"), "{said}");
    let said = run("WATCHDOG_USEC", "soon");
    assert!(said.contains("WATCHDOG_USEC=\"soon\" is no number"), "{said}");
}

/// The folder `systemd` of the repository.
fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

const NO_SYSTEMD: &str = "systemd-analyze is not installed: apt install systemd";

/// The file system of an image, with the units of this machine's systemd.
struct Image(Scratch);

impl Image {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let units = scratch.join("usr/lib/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        let lib = ["/usr/lib/systemd/system", "/lib/systemd/system"].into_iter().find(|at| Path::new(at).is_dir());
        for entry in std::fs::read_dir(lib.expect("systemd has units")).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), units.join(entry.file_name())).unwrap();
            }
        }
        // What our unit starts must be there.
        scratch_file(&scratch.join("usr/bin/systemctl"), "", 0o755);
        Self(scratch)
    }

    fn install(&self, args: &[&str]) -> String {
        let output =
            Command::new("sh").arg(ours().join("install.sh")).arg("--root").arg(self.0.path()).args(args).output();
        said(&output.unwrap())
    }

    /// A binary of this content.
    fn binary(&self, content: &str) -> PathBuf {
        let path = self.0.join("the-binary");
        scratch_file(&path, content, 0o755);
        path
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join(path)).expect(path)
    }

    /// Every file of ours, and what it holds.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders: Vec<_> = ["etc", "var", "usr/local"].iter().map(|folder| self.0.path().join(folder)).collect();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap_or_default())),
                }
            }
        }
        files
    }
}

fn scratch_file(path: &Path, content: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What a command said that did not fail.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{}: {all}", output.status);
    all
}

#[test]
fn the_script_installs_upgrades_and_takes_away_and_leaves_what_is_not_its_own() {
    if need::program("systemctl").is_none() {
        return need::skip(NO_SYSTEMD);
    }
    let image = Image::new("install");
    let first = image.binary("first");
    let binary = ["--binary", first.to_str().unwrap()];
    let told = image.install(&binary);
    for path in ["/usr/local/bin/wickie", "/etc/systemd/system/wickie.service", "/etc/wickie/conf.d/node.yaml"] {
        assert!(told.contains(&format!("installed   {path}\n")), "{told}");
    }
    assert_eq!(image.read("usr/local/bin/wickie"), "first");
    assert!(image.read("etc/wickie/conf.d/node.yaml").contains("require-verified: true"));
    let wanted = image.0.path().join("etc/systemd/system/multi-user.target.wants/wickie.service");
    assert!(wanted.symlink_metadata().unwrap().is_symlink());
    let mode = |path: &str| image.0.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("etc/wickie/wickie.env"), mode("usr/local/bin/wickie")), (0o640, 0o755));

    // Again: nothing is other than it was.
    let before = image.files();
    let told = image.install(&binary);
    assert!(!told.contains("installed") && !told.contains("upgraded"), "{told}");
    assert_eq!(image.files(), before);

    // An upgrade, beside data, a configuration and variables of the node's own.
    image.binary("second");
    scratch_file(&image.0.join("var/lib/wickie/wickie.db"), "data", 0o600);
    scratch_file(&image.0.join("etc/wickie/wickie.env"), "WICKIE_ARGS=--all", 0o600);
    scratch_file(&image.0.join("etc/wickie/conf.d/node.yaml"), "mine", 0o600);
    scratch_file(&image.0.join("etc/systemd/system/wickie.service.d/mine.conf"), "mine", 0o644);
    let told = image.install(&binary);
    assert!(told.contains("upgraded   /usr/local/bin/wickie\n"), "{told}");
    assert_eq!(image.read("usr/local/bin/wickie"), "second");
    let mine = |image: &Image| {
        assert_eq!(image.read("var/lib/wickie/wickie.db"), "data");
        assert_eq!(image.read("etc/wickie/wickie.env"), "WICKIE_ARGS=--all");
        assert_eq!(image.read("etc/wickie/conf.d/node.yaml"), "mine");
        assert_eq!(image.read("etc/systemd/system/wickie.service.d/mine.conf"), "mine");
    };
    mine(&image);

    let told = image.install(&["--uninstall"]);
    assert!(told.contains("kept        /var/lib/wickie"), "{told}");
    mine(&image);
    let ours = |path: &PathBuf| path.strip_prefix(image.0.path()).unwrap().to_string_lossy().contains("wickie");
    let left: Vec<_> = image.files().into_keys().filter(ours).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(wanted.symlink_metadata().is_err());

    // A node that has a policy gets none beside it.
    std::fs::rename(image.0.join("etc/wickie/conf.d/node.yaml"), image.0.join("etc/wickie/conf.d/mine.yaml")).unwrap();
    image.install(&binary);
    assert!(!image.0.join("etc/wickie/conf.d/node.yaml").exists());
}

#[test]
fn the_script_refuses_what_it_cannot_do() {
    let run = |args: &[&str]| {
        let output = Command::new("sh").arg(ours().join("install.sh")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for args in [&["--root"][..], &["--root", "/no/such/image"], &["--root", "/", "--binary", "/no/such/binary"]] {
        let (code, said) = run(args);
        assert!(code == Some(1) && said.starts_with("install.sh: "), "{args:?}: {code:?} {said}");
    }
    assert_eq!(run(&["--force"]).0, Some(2));
}

#[test]
fn the_units_are_clean_and_give_little_away() {
    if need::program("systemd-analyze").is_none() {
        return need::skip(NO_SYSTEMD);
    }
    let image = Image::new("units");
    image.install(&["--binary", image.binary("it").to_str().unwrap()]);
    // The other way to the kubeconfig is held to the same.
    for drop_in in [None, Some("kubeconfig.conf")] {
        if let Some(name) = drop_in {
            let place = image.0.join("etc/systemd/system/wickie.service.d").join(name);
            let text = std::fs::read_to_string(ours().join("drop-in").join(name)).unwrap();
            scratch_file(&place, &text, 0o644);
        }
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", "--recursive-errors=no", "--root"]).arg(image.0.path());
        verify.args(["wickie.service", "wickie-kubeconfig.path", "wickie-kubeconfig.service"]);
        let told = said(&verify.output().unwrap());
        assert_eq!(told, "", "nothing is to be said of them");
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--threshold=40", "--no-pager", "--root"]).arg(image.0.path());
        let told = said(&security.arg("wickie.service").output().unwrap());
        assert!(told.contains("Overall exposure level for wickie.service"), "{told}");
        println!("{}", told.trim_end().lines().last().unwrap());
    }
}

/// What is shipped as an example is read without a complaint, and refuses what nobody signed.
#[test]
fn the_example_configuration_can_be_followed() {
    let scratch = Scratch::new("example");
    for name in ["node.yaml", "fleet.yaml.example"] {
        std::fs::copy(ours().join("conf.d").join(name), scratch.join(name.trim_end_matches(".example"))).unwrap();
    }
    let read = wickie::config::files::read(&[scratch.path().to_owned()]);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    assert!(read.node.require_verified);
    assert_eq!(read.declared.len(), 2, "{:?}", read.declared.keys());
}
