//! The image: the same bytes each time, whole by its own digests, and enough to run by.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flate2::read::GzDecoder;
use jiff::Timestamp;
use kube::api::Api;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wickie_packaging::{Architecture, Image, Made};
use wickie_testbench::{ControlPlane, Fleet, Options, Scratch, eventually, need};

const LONG: Duration = Duration::from_secs(240);

/// The head of a static ELF file, which is all that is looked at.
fn elf(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0_u8; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes
}

fn image(binaries: BTreeMap<Architecture, PathBuf>) -> Image {
    Image {
        binaries,
        name: "docker.io/library/wickie".to_owned(),
        version: "1.2.3".to_owned(),
        revision: Some("0".repeat(40)),
        created: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

/// An image of heads.
fn small(folder: &Path) -> Image {
    let binaries = [(Architecture::Amd64, 62), (Architecture::Arm64, 183)].map(|(architecture, machine)| {
        let file = folder.join(architecture.machine());
        fs::write(&file, elf(machine)).unwrap();
        (architecture, file)
    });
    image(binaries.into())
}

/// The image of the binaries that packaging/build-static has left.
fn real() -> Option<Image> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top.join("target"), PathBuf::from);
    let built = |one: Architecture| (one, target.join("static").join(one.machine()).join("wickie"));
    let binaries: BTreeMap<_, _> = Architecture::ALL.into_iter().map(built).collect();
    binaries.values().all(|file| file.is_file()).then(|| image(binaries))
}

const NOT_BUILT: &str = "the static binaries are not built: packaging/build-static";

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!(digest, sha256(&bytes));
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn document(layout: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&blob(layout, descriptor)).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// The manifest and the config of an architecture.
fn of(layout: &Path, architecture: Architecture) -> (Value, Value) {
    let top: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let index = document(layout, &top["manifests"][0]);
    let manifests = index["manifests"].as_array().unwrap();
    let ours = |it: &&Value| it["platform"]["architecture"] == architecture.oci();
    let manifest = document(layout, manifests.iter().find(ours).unwrap());
    let config = document(layout, &manifest["config"]);
    (manifest, config)
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().display().to_string();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

#[test]
fn two_builds_are_the_same_bytes_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let made = small(folder.path()).write(&one).unwrap();
    // Other files, at another time, in another place.
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(small(elsewhere.path()).write(&two).unwrap(), made);
    assert_eq!(files(&one), files(&two));
    let archive = folder.path().join("image.tar");
    assert_eq!(small(folder.path()).archive(&archive).unwrap(), made);
    let mut tar = tar::Archive::new(fs::File::open(&archive).unwrap());
    let names: Vec<_> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, files(&one).into_keys().collect::<Vec<_>>());

    assert_eq!(fs::read_to_string(one.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    for (architecture, machine) in [(Architecture::Amd64, 62), (Architecture::Arm64, 183)] {
        let (manifest, config) = of(&one, architecture);
        assert_eq!(config["architecture"], architecture.oci());
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/wickie"]));
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["run"]));
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], "1.2.3");
        let mut layer = Vec::new();
        GzDecoder::new(blob(&one, &manifest["layers"][0]).as_slice()).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], sha256(&layer));
        let mut tar = tar::Archive::new(layer.as_slice());
        let mut paths = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 1_700_000_000);
            let path = entry.path().unwrap().display().to_string();
            if path == "wickie" {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                assert_eq!((bytes, entry.header().mode().unwrap()), (elf(machine), 0o755));
            }
            paths.push(path);
        }
        assert_eq!(
            paths,
            ["etc/", "etc/wickie/", "etc/wickie/conf.d/", "var/", "var/lib/", "var/lib/wickie/", "wickie"]
        );
    }
}

#[test]
fn what_would_not_start_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = small(folder.path());
    let refused = |binaries: BTreeMap<Architecture, PathBuf>| {
        format!("{:#}", image(binaries).write(&folder.path().join("out")).unwrap_err())
    };
    let arm = good.binaries[&Architecture::Arm64].clone();
    let wrong = refused([(Architecture::Amd64, arm)].into());
    assert!(wrong.contains("not built for amd64"), "{wrong}");
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    assert!(refused([(Architecture::Amd64, script)].into()).contains("no 64-bit"));
    let missing = refused([(Architecture::Amd64, folder.path().join("nowhere"))].into());
    assert!(missing.contains("nowhere cannot be read"), "{missing}");
    // This test itself asks for a loader.
    let here = Architecture::ALL.into_iter().find(|one| one.machine() == std::env::consts::ARCH).unwrap();
    let dynamic = refused([(here, std::env::current_exe().unwrap())].into());
    assert!(dynamic.contains("asks for a loader"), "{dynamic}");
    // What was there is not written over.
    let taken = good.write(folder.path()).unwrap_err().to_string();
    assert!(taken.contains("is not empty"), "{taken}");
}

/// Ends when the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file system of an image, unpacked.
fn unpacked(image: &Image, folder: &Path) -> PathBuf {
    let layout = folder.join("layout");
    let made = image.write(&layout).unwrap();
    let here = Architecture::ALL.into_iter().find(|one| one.machine() == std::env::consts::ARCH).unwrap();
    for (architecture, bytes) in &made.layers {
        assert!(*bytes < 22 << 20, "{}: {bytes} bytes", architecture.oci());
    }
    let (manifest, _) = of(&layout, here);
    let root = folder.join("root");
    fs::create_dir(&root).unwrap();
    tar::Archive::new(GzDecoder::new(blob(&layout, &manifest["layers"][0]).as_slice())).unpack(&root).unwrap();
    assert!(fs::metadata(root.join("wickie")).unwrap().len() < 22 << 20);
    root
}

#[tokio::test]
async fn it_runs_in_its_own_root_with_nothing_else() {
    let Some(image) = real() else { return need::skip(NOT_BUILT) };
    let Some(chroot) =
        need::program("chroot").or_else(|| Some("/usr/sbin/chroot".into()).filter(|it: &PathBuf| it.is_file()))
    else {
        return need::skip("there is no chroot: apt install coreutils");
    };
    let folder = tempfile::tempdir().unwrap();
    let root = unpacked(&image, folder.path());
    let version = Command::new(&chroot).arg(&root).args(["/wickie", "version"]).output().unwrap();
    let words = String::from_utf8_lossy(&version.stderr).into_owned();
    if words.contains("Operation not permitted") {
        return need::skip("chroot is root's alone, and this is not root");
    }
    assert!(version.status.success(), "{words}");
    assert!(String::from_utf8_lossy(&version.stdout).contains("wickie"), "{version:?}");

    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let namespace = control_plane.namespace("image").await.unwrap();
    let kubeconfig = control_plane.kubeconfig();
    let fleet =
        Fleet::new("image", root.join("wickie").to_str().unwrap(), kubeconfig.clone(), namespace.clone()).unwrap();
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    for entry in fs::read_dir(fleet.config()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), root.join("etc/wickie/conf.d").join(entry.file_name())).unwrap();
    }
    fs::copy(kubeconfig, root.join("kubeconfig")).unwrap();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(chroot);
    command.arg(&root).args(["/wickie", "run", "--kubeconfig", "/kubeconfig"]);
    command.env_clear().env("POD_NAMESPACE", &fleet.home).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let _agent = Running(command.spawn().unwrap());
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(control_plane.client().await, &namespace);
    eventually("it keeps what Git has", LONG, || async {
        let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        anyhow::ensure!(maps.get_opt("a").await?.is_some(), "{}", log());
        anyhow::Ok(())
    })
    .await;
}

/// A containerd of the test's own.
struct Containerd {
    folder: Scratch,
    ctr: PathBuf,
    _running: Running,
}

impl Containerd {
    /// Nothing, with the reason, where none can be had.
    fn start() -> Result<Self, &'static str> {
        let (Some(containerd), Some(ctr)) = (need::program("containerd"), need::program("ctr")) else {
            return Err("containerd is not installed: apt install containerd");
        };
        let folder = Scratch::new("containerd");
        // Without the plugin that wants a network of its own.
        let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(folder.join("config.toml"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new(containerd);
        for (flag, name) in
            [("--config", "config.toml"), ("--root", "root"), ("--state", "state"), ("--address", "sock")]
        {
            command.arg(flag).arg(folder.join(name));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let started = Self { folder, ctr, _running: Running(command.spawn().unwrap()) };
        for _ in 0..600 {
            if started.ask(&["version"]).0 {
                return Ok(started);
            }
            if started.log().contains("ermission denied") {
                return Err("containerd may not be started here, by this user");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(started.ask(&["version"]).0, "containerd does not answer:\n{}", started.log());
        Ok(started)
    }

    /// Whether a command succeeded, what it said, and what was wrong.
    fn ask(&self, args: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(self.folder.join("sock")).args(["-n", "k8s.io"]).args(args);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    fn import(&self, image: &Image) -> Made {
        let archive = self.folder.join("image.tar");
        let made = image.archive(&archive).unwrap();
        let (done, said, wrong) = self.ask(&["images", "import", "--snapshotter", "native", archive.to_str().unwrap()]);
        assert!(done, "{said}{wrong}\n{}", self.log());
        made
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

#[test]
fn containerd_takes_it() {
    let containerd = match Containerd::start() {
        Ok(started) => started,
        Err(why) => return need::skip(why),
    };
    let folder = tempfile::tempdir().unwrap();
    let made = containerd.import(&real().unwrap_or_else(|| small(folder.path())));
    let (_, images, _) = containerd.ask(&["images", "ls"]);
    let line = images.lines().find(|line| line.starts_with("docker.io/library/wickie:1.2.3 ")).expect(&images);
    for wanted in [made.digest.as_str(), "linux/amd64", "linux/arm64"] {
        assert!(line.contains(wanted), "{line}");
    }
    // Every blob is there, by its digest.
    let (_, checked, _) = containerd.ask(&["images", "check"]);
    assert!(checked.contains("complete"), "{checked}");
}

/// As the image has it, and more strictly than the DaemonSet: as nobody in particular, without a capability, on a root that
/// cannot be written.
#[tokio::test]
async fn it_keeps_a_cluster_from_a_container_that_may_nothing() {
    let Some(image) = real() else { return need::skip(NOT_BUILT) };
    let containerd = match Containerd::start() {
        Ok(started) => started,
        Err(why) => return need::skip(why),
    };
    containerd.import(&image);
    let control_plane = ControlPlane::start(Options::api_only()).await.unwrap();
    let namespace = control_plane.namespace("image").await.unwrap();
    let fleet = Fleet::new("container", "/wickie", control_plane.kubeconfig(), namespace.clone()).unwrap();
    fleet.write_map("a.yaml", "a", "1").unwrap();
    fleet.commit("first").unwrap();
    fleet.follow("1s").unwrap();
    fleet.keep("apps", "").unwrap();
    // It is no YAML by its name, so it is not read as configuration.
    fs::copy(control_plane.kubeconfig(), fleet.config().join("kubeconfig")).unwrap();
    fs::create_dir(fleet.data_dir()).unwrap();
    let files = fs::read_dir(fleet.config()).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([fleet.config(), fleet.data_dir()]) {
        std::os::unix::fs::chown(path, Some(65532), Some(65532)).unwrap();
    }
    let mount =
        |from: PathBuf, to: &str, how: &str| format!("type=bind,src={},dst={to},options=rbind:{how}", from.display());
    let config = mount(fleet.config(), "/etc/wickie/conf.d", "ro");
    let store = mount(fleet.data_dir(), "/var/lib/wickie", "rw");
    let home = format!("POD_NAMESPACE={}", fleet.home);
    // What containerd gives unless it is told otherwise.
    let capabilities = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ];
    let capabilities: Vec<String> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    let mut args = vec!["run", "--rm", "--snapshotter", "native", "--read-only", "--net-host"];
    args.extend(capabilities.iter().flat_map(|name| ["--cap-drop", name]));
    args.extend(["--mount", &config, "--mount", &store, "--env", &home]);
    args.extend(["docker.io/library/wickie:1.2.3", "agent"]);
    args.extend(["/wickie", "run", "--once", "--kubeconfig", "/etc/wickie/conf.d/kubeconfig"]);
    let (done, said, wrong) = containerd.ask(&args);
    if ["cgroup", "operation not permitted"].iter().any(|why| wrong.contains(why)) {
        return need::skip("no container can be run here, in what this system allows");
    }
    assert!(done, "{said}{wrong}\n{}", containerd.log());
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(control_plane.client().await, &namespace);
    assert!(maps.get_opt("a").await.unwrap().is_some(), "{said}{wrong}");
}
