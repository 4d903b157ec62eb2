//! Cases on disk, and the real kustomize to judge them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // each test binary uses its part

use base64::Engine;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use wickie_kustomize::{Files, LoadRestrictor, Options, Order};

/// A tree to build, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) root: String,
    pub(crate) unrestricted: bool,
    /// Sorted as `kustomize build` does; otherwise in the order of the files, as Flux has it.
    pub(crate) legacy: bool,
}

impl Case {
    /// A folder of `tests/cases`: `input/` is the tree, `input/overlay` (if there) or the folder that `root` names what is built, `unrestricted` and
    /// `legacy` are switches, and `shared` lists folders of the tree into which `tests/shared` is put.
    pub(crate) fn read(folder: &Path) -> Case {
        let mut case = Case {
            unrestricted: folder.join("unrestricted").exists(),
            legacy: folder.join("legacy").exists(),
            ..Case::default()
        };
        if let Ok(prefixes) = std::fs::read_to_string(folder.join("shared")) {
            let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shared");
            let mut files = BTreeMap::new();
            collect(&shared, &shared, &mut files);
            for prefix in prefixes.lines() {
                let at = prefix.trim_start_matches('.');
                case.files.extend(files.iter().map(|(path, content)| (format!("{at}{path}"), content.clone())));
            }
        }
        let input = folder.join("input");
        collect(&input, &input, &mut case.files);
        if input.join("overlay").is_dir() {
            case.root = "overlay".to_owned();
        }
        if let Ok(root) = std::fs::read_to_string(folder.join("root")) {
            root.trim().clone_into(&mut case.root);
        }
        case
    }

    /// What wickie makes of it.
    pub(crate) fn wickie(&self) -> Result<String, wickie_kustomize::Error> {
        let files: Files = self.files.iter().map(|(path, content)| (path.clone(), content.clone())).collect();
        let options = Options {
            restrictor: if self.unrestricted { LoadRestrictor::None } else { LoadRestrictor::RootOnly },
            order: if self.legacy { Order::Legacy } else { Order::AsRead },
        };
        wickie_kustomize::build(&files, &self.root, &options).map(|objects| wickie_kustomize::to_yaml(&objects))
    }

    /// Writes it down as a folder of `tests/cases`.
    pub(crate) fn write(&self, folder: &Path) {
        for (path, content) in &self.files {
            let path = folder.join("input").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::write(folder.join("root"), &self.root).unwrap();
        if self.unrestricted {
            std::fs::write(folder.join("unrestricted"), "").unwrap();
        }
        if self.legacy {
            std::fs::write(folder.join("legacy"), "").unwrap();
        }
    }
}

fn collect(top: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(top, &path, files);
        } else {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// The folders below `tests/NAME`, in order.
pub(crate) fn folders(name: &str) -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The real kustomize behind a pipe.
pub(crate) struct Judge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Judge {
    /// Starts it, building it with Go when it is not in the cache. None when there is no Go either, unless
    /// `WICKIE_JUDGE=required`.
    pub(crate) fn start() -> Option<Judge> {
        let binary = match binary() {
            Ok(binary) => binary,
            Err(cause) if std::env::var("WICKIE_JUDGE").as_deref() == Ok("required") => {
                panic!("{cause}")
            }
            Err(cause) => {
                eprintln!("without the real kustomize, only recorded results are compared: {cause}");
                return None;
            }
        };
        let mut child =
            Command::new(&binary).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Judge { child, input, output })
    }

    /// What kustomize makes of a case.
    pub(crate) fn build(&mut self, case: &Case) -> Result<String, String> {
        let encoder = base64::engine::general_purpose::STANDARD;
        let files: BTreeMap<&String, String> =
            case.files.iter().map(|(path, content)| (path, encoder.encode(content))).collect();
        self.ask(&json!({
            "files": files, "root": case.root, "unrestricted": case.unrestricted, "legacy": case.legacy
        }))
    }

    /// What Flux makes of a case, with the spec of a Flux Kustomization.
    pub(crate) fn build_flux(&mut self, case: &Case, spec: &Value) -> Result<String, String> {
        let encoder = base64::engine::general_purpose::STANDARD;
        let files: BTreeMap<&String, String> =
            case.files.iter().map(|(path, content)| (path, encoder.encode(content))).collect();
        self.ask(&json!({ "files": files, "root": case.root, "flux": spec }))
    }

    /// What Flux's substitution makes of a text.
    pub(crate) fn substitute(
        &mut self,
        text: &str,
        vars: &BTreeMap<String, String>,
        strict: bool,
    ) -> Result<String, String> {
        self.ask(&json!({ "text": text, "vars": vars, "strict": strict }))
    }

    /// YAML as kubectl turns it into JSON.
    pub(crate) fn json(&mut self, text: &str) -> Result<Value, String> {
        self.ask(&json!({ "text": text, "json": true })).map(|json| serde_json::from_str(&json).unwrap())
    }

    fn ask(&mut self, question: &Value) -> Result<String, String> {
        writeln!(self.input, "{question}").unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).expect("the harness answers each line with one");
        match answer["error"].as_str() {
            None | Some("") => Ok(answer["yaml"].as_str().unwrap_or_default().to_owned()),
            Some(error) => Err(error.to_owned()),
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The harness, from the cache or newly built. Its folder carries the hash of its sources.
fn binary() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/control-plane/kustomize");
    let mut all = Vec::new();
    for file in ["go.mod", "go.sum", "main.go", "tables.go"] {
        all.extend(std::fs::read(source.join(file)).map_err(|error| format!("{file}: {error}"))?);
    }
    let hash: String = {
        use sha2::Digest;
        sha2::Sha256::digest(&all).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    };
    let cache = std::env::var_os("WICKIE_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"))
            .join("wickie")
    });
    let folder = cache.join("control-plane").join(format!("kustomize-{hash}"));
    let binary = folder.join("kustomize");
    if binary.exists() {
        return Ok(binary);
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    // Several test binaries may build at once: each into a name of its own, then moved into place.
    let fresh = folder.join(format!("kustomize.{}", std::process::id()));
    let status = Command::new("go")
        .args([
            "build",
            "-trimpath",
            "-ldflags=-s -w -X sigs.k8s.io/kustomize/api/provenance.version=kustomize/v5.8.1",
            "-o",
        ])
        .arg(&fresh)
        .arg(".")
        .current_dir(&source)
        .status()
        .map_err(|error| format!("the harness is not in {} and go does not run: {error}", folder.display()))?;
    if !status.success() {
        return Err(format!("go build failed in {}", source.display()));
    }
    std::fs::rename(&fresh, &binary).map_err(|error| error.to_string())?;
    Ok(binary)
}

/// A short text for two results that differ.
pub(crate) fn difference(wanted: &str, got: &str) -> String {
    let (wanted, got): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), got.lines().collect());
    let same = wanted.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str]| {
        lines.iter().skip(same.saturating_sub(6)).take(16).map(|line| format!("    {line}\n")).collect::<String>()
    };
    format!("line {}\n  kustomize:\n{}  wickie:\n{}", same + 1, show(&wanted), show(&got))
}
