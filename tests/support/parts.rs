//! Where the programs of the bench come from.
//!
//! Looked for in this order: `KUBEBUILDER_ASSETS`, `PATH`, the cache, and then built with Go from the modules that
//! `tests/control-plane/<folder>/go.mod` pins. The cache is `$WICKIE_CACHE`, else `$XDG_CACHE_HOME/wickie`, else `~/.cache/wickie`; it lies
//! outside the checkout, keyed by what is built, so that a fresh clone starts warm. What is found by the first two must be of a version
//! that the tests are made for; another is passed over.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::child::Child;
use crate::need;

/// A program of the bench, and how it is built.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its file name.
    pub program: &'static str,
    /// The folder of its go.mod in `tests/control-plane`.
    pub folder: &'static str,
    /// The Go package to build.
    pub package: &'static str,
    /// Flags for the linker.
    pub ldflags: &'static str,
    /// Build tags.
    pub tags: &'static str,
    /// Whether C is compiled into it.
    pub cgo: bool,
    /// Folders of its module that it reads as it runs; they are put beside it.
    pub data: &'static [&'static str],
    /// What the first line of `--version` contains, for a program that was found and not built; any of these will do. Without any, it is
    /// always built.
    pub versions: &'static [&'static str],
    /// How long a cold build takes on two cores, for the person who waits.
    pub takes: &'static str,
}

const KUBERNETES: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 \
     -X k8s.io/component-base/version.gitMinor=37";

/// etcd.
pub const ETCD: Part = Part {
    program: "etcd",
    folder: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    ldflags: "-s -w",
    tags: "",
    cgo: false,
    data: &[],
    versions: &["etcd Version: 3.6.", "etcd Version: 3.7."],
    takes: "1 minute",
};

/// kube-apiserver.
pub const API_SERVER: Part = Part {
    program: "kube-apiserver",
    folder: "kubernetes",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    ldflags: KUBERNETES,
    tags: "",
    cgo: false,
    data: &[],
    versions: &["Kubernetes v1.37."],
    takes: "6 minutes",
};

/// kube-controller-manager.
pub const CONTROLLER_MANAGER: Part = Part {
    program: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    takes: "3 minutes",
    ..API_SERVER
};

/// kube-scheduler.
pub const SCHEDULER: Part = Part {
    program: "kube-scheduler",
    package: "k8s.io/kubernetes/cmd/kube-scheduler",
    takes: "half a minute",
    ..API_SERVER
};

/// kwok: nodes on which pods become Ready at once and nothing runs.
pub const KWOK: Part = Part {
    program: "kwok",
    folder: "kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    ldflags: "-s -w",
    tags: "",
    cgo: false,
    data: &[],
    versions: &["kwok version v0.7.", "kwok version v0.8."],
    takes: "3 minutes",
};

/// The registry of the CNCF's distribution project.
pub const REGISTRY: Part = Part {
    program: "registry",
    folder: "registry",
    package: "github.com/distribution/distribution/v3/cmd/registry",
    ldflags: "-s -w",
    tags: "",
    cgo: false,
    data: &[],
    versions: &["distribution/v3 v3."],
    takes: "1 minute",
};

/// Flux's own kustomize-controller, for comparison. Its CRDs lie in `config/crd/bases` of its module.
pub const KUSTOMIZE_CONTROLLER: Part = Part {
    program: "kustomize-controller",
    folder: "kustomize-controller",
    package: "github.com/fluxcd/kustomize-controller",
    ldflags: "-s -w",
    tags: "",
    cgo: false,
    data: &[],
    versions: &[],
    takes: "4 minutes",
};

/// A Git host with users, keys, pull requests, commit statuses and webhooks.
pub const GITEA: Part = Part {
    program: "gitea",
    folder: "gitea",
    package: "code.gitea.io/gitea",
    ldflags: "-s -w -X main.Version=1.26.0",
    tags: "sqlite,sqlite_unlock_notify",
    cgo: true,
    data: &["options", "public", "templates"],
    versions: &[],
    takes: "4 minutes",
};

/// The `kustomize` command, for comparison.
pub const KUSTOMIZE: Part = Part {
    program: "kustomize",
    folder: "kustomize-command",
    package: "sigs.k8s.io/kustomize/kustomize/v5",
    ldflags: "-s -w -X sigs.k8s.io/kustomize/api/provenance.version=kustomize/v5.8.1",
    tags: "",
    cgo: false,
    data: &[],
    versions: &[],
    takes: "1 minute",
};

/// SOPS, at the version that Flux decrypts with. It asks the network for its newest version when it is asked for its own: it is
/// always built.
pub const SOPS: Part = Part {
    program: "sops",
    folder: "sops",
    package: "github.com/getsops/sops/v3/cmd/sops",
    ldflags: "-s -w",
    tags: "",
    cgo: false,
    data: &[],
    versions: &[],
    takes: "3 minutes",
};

/// age's key generator.
pub const AGE_KEYGEN: Part =
    Part { program: "age-keygen", package: "filippo.io/age/cmd/age-keygen", takes: "half a minute", ..SOPS };

/// The path of a program; builds it if it is nowhere, which takes minutes and says so on stderr. Blocks.
///
/// # Errors
/// When it is nowhere and cannot be built. The message names the ways to get it.
pub fn find(part: &Part) -> Result<PathBuf> {
    let passed_over = match look(part)? {
        Looked::Here(file) => return Ok(file),
        Looked::Nowhere { passed_over } => passed_over,
    };
    let Some(go) = need::program("go") else {
        bail!(
            "{program} is needed and is not here. Three ways to get it:\n  \
             1. install Go 1.26 or newer (https://go.dev/dl): it is then built, once, in about {takes}\n  \
             2. set KUBEBUILDER_ASSETS to a folder that holds it\n  \
             3. put it on the PATH{passed_over}",
            program = part.program,
            takes = part.takes,
        )
    };
    let file = cached(part)?;
    build(part, &go, file.parent().context("a cached program lies in a folder")?)?;
    Ok(file)
}

/// Whether [`find`] would have nothing to build.
///
/// # Errors
/// When there is no place for a cache.
pub fn is_here(part: &Part) -> Result<bool> {
    Ok(matches!(look(part)?, Looked::Here(_)))
}

enum Looked {
    Here(PathBuf),
    /// With a line for each that is of another version.
    Nowhere {
        passed_over: String,
    },
}

fn look(part: &Part) -> Result<Looked> {
    let mut passed_over = String::new();
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(part.program));
    for found in assets.filter(|file| file.is_file()).into_iter().chain(need::program(part.program)) {
        let version = version(&found);
        if part.versions.iter().any(|fits| version.contains(fits)) {
            return Ok(Looked::Here(found));
        }
        passed_over.push_str(&format!(
            "\n  ({} was passed over: it says {version:?}, wanted is {:?})",
            found.display(),
            part.versions
        ));
    }
    let file = cached(part)?;
    Ok(if file.is_file() { Looked::Here(file) } else { Looked::Nowhere { passed_over } })
}

/// Where it lies once it is built.
fn cached(part: &Part) -> Result<PathBuf> {
    Ok(cache()?.join(format!("{}-{}", part.folder, key(part)?)).join(part.program))
}

/// Where built programs are kept.
///
/// # Errors
/// When no variable says where.
pub fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = variable("WICKIE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|path| path.join("wickie")))
        .or_else(|| variable("HOME").map(|path| path.join(".cache/wickie")))
        .context("no folder for built programs: set WICKIE_CACHE (or HOME)")?;
    Ok(root.join("control-plane"))
}

/// The folder of a Go module that a part is made from, as Go's own cache holds it: for files that come with the program. Blocks.
///
/// # Errors
/// When there is no Go, or it cannot be had.
pub fn module_folder(part: &Part, path: &str) -> Result<PathBuf> {
    let go = need::program("go").context("the files of a Go module are needed: install Go 1.26 or newer")?;
    let ask = |args: &[&str]| -> Result<String> {
        let asked = Command::new(&go).arg("-C").arg(module(part)).args(args).output()?;
        anyhow::ensure!(asked.status.success(), "go {args:?}: {}", String::from_utf8_lossy(&asked.stderr));
        Ok(String::from_utf8(asked.stdout)?.trim().to_owned())
    };
    let list = ["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path];
    let mut folder = ask(&list)?;
    // It has no folder where the program was built elsewhere.
    if folder.is_empty() {
        ask(&["mod", "download", path])?;
        folder = ask(&list)?;
    }
    Ok(PathBuf::from(folder))
}

/// The folder of its go.mod.
pub(crate) fn module(part: &Part) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../control-plane").join(part.folder)
}

/// Names everything that the program is made from: the pinned modules and the flags.
fn key(part: &Part) -> Result<String> {
    let mut hash = Sha256::new();
    for name in ["go.mod", "go.sum"] {
        let file = module(part).join(name);
        hash.update(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    hash.update([part.ldflags, part.tags].join("\n"));
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Builds into a file beside the place and renames it, under a lock: test binaries that start together build once.
fn build(part: &Part, go: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let lock = File::create(folder.join(format!("{}.lock", part.program)))?;
    if lock.try_lock().is_err() {
        say(&format!("waiting for another process that builds {}", part.program));
        lock.lock()?;
    }
    let file = folder.join(part.program);
    if file.is_file() {
        return Ok(());
    }
    let unfinished = folder.join(format!("{}.unfinished", part.program));
    let mut command = Command::new(go);
    command.arg("-C").arg(module(part)).args([
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-mod=readonly",
        "-tags",
        part.tags,
        "-ldflags",
    ]);
    command.arg(part.ldflags).arg("-o").arg(&unfinished).arg(part.package);
    command
        .env("CGO_ENABLED", if part.cgo { "1" } else { "0" })
        .env("GOWORK", "off")
        .env_remove("GOFLAGS")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    say(&format!("building {} with Go, once, about {} ...", part.program, part.takes));
    let log = folder.join(format!("{}.log", part.program));
    let _ = fs::remove_file(&log);
    let mut child = Child::spawn("go build", &command, &log)?;
    let (start, mut ticks) = (Instant::now(), 0);
    let code = loop {
        if let Some(code) = child.exit_code() {
            break code;
        }
        std::thread::sleep(Duration::from_millis(100));
        let minutes_half = start.elapsed().as_secs() / 30;
        if minutes_half > ticks {
            ticks = minutes_half;
            say(&format!("building {}: {} s", part.program, start.elapsed().as_secs()));
        }
    };
    if code != 0 {
        bail!("building {} with {} failed:\n{}", part.program, go.display(), child.log_tail(20));
    }
    if !part.data.is_empty() {
        put_data(part, go, folder)?;
    }
    fs::rename(&unfinished, &file)?;
    say(&format!("built {} in {} s: {}", part.program, start.elapsed().as_secs(), file.display()));
    Ok(())
}

/// Puts the folders that a program reads as it runs beside it, out of its module.
fn put_data(part: &Part, go: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new(go);
    command.arg("-C").arg(module(part)).args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", part.package]);
    let output = command.env("GOWORK", "off").env_remove("GOFLAGS").stdin(Stdio::null()).output()?;
    let found = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    anyhow::ensure!(found.is_dir(), "{}: Go does not say where its module lies: {output:?}", part.program);
    part.data.iter().try_for_each(|name| copy(&found.join(name), &folder.join(name)))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true => copy(&from, &to)?,
            // Not `fs::copy`: in Go's cache files may not be written, and here a build that broke off is made again.
            false => fs::write(&to, fs::read(&from)?)?,
        }
    }
    Ok(())
}

/// To the terminal itself: the test harness captures `eprintln!`, and minutes of silence look like a hang.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
