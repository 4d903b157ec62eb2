//! A container image from scratch: the static binary of each architecture, the folders that it is given, and nothing else.
//!
//! Reproducible: the same binaries, version and time give the same bytes, whoever makes it and wherever. Files stand in a
//! fixed order, with one owner and one time; the compressor is part of this workspace's lock file.
//!
//! Source: OCI Image Format Specification 1.1 (image layout, index, manifest, config, layer).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Who runs it where nobody says otherwise: nobody in particular.
const USER: u64 = 65532;

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Image {
    /// The binary of each architecture.
    pub binaries: BTreeMap<Architecture, PathBuf>,
    /// The name without its tag, as nodes know it: `docker.io/library/wickie`.
    pub name: String,
    /// The version, which is the tag.
    pub version: String,
    /// The commit it was made from, where that is known.
    pub revision: Option<String>,
    /// The time of everything in it.
    pub created: Timestamp,
}

/// An architecture, as OCI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Architecture {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// As OCI and Go name it.
    pub fn oci(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust and `uname -m` name it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// `e_machine` of its ELF files. Source: System V ABI, and its supplements.
    fn elf(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    fn platform(self) -> Value {
        match self {
            Self::Amd64 => json!({"os": "linux", "architecture": "amd64"}),
            Self::Arm64 => json!({"os": "linux", "architecture": "arm64", "variant": "v8"}),
        }
    }
}

/// An image that was made: what its index is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The digest that the image is pulled by.
    pub digest: String,
    /// Bytes of the layers, by architecture, as they are sent and stored.
    pub layers: BTreeMap<Architecture, u64>,
}

/// The files of a layout, by path.
type Layout = BTreeMap<String, Vec<u8>>;

impl Image {
    /// Writes the image as an OCI layout into `folder`, which must be empty or not be there.
    ///
    /// # Errors
    ///
    /// A binary that is none of the architecture, or not static; a folder that holds something; a disk that takes no more.
    pub fn write(&self, folder: &Path) -> Result<Made> {
        let (layout, made) = self.layout()?;
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let mut there = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        ensure!(there.next().is_none(), "{} is not empty: name a folder that is, or take it away", folder.display());
        for (path, bytes) in &layout {
            let file = folder.join(path);
            let write = || {
                fs::create_dir_all(file.parent().unwrap_or(folder))?;
                fs::write(&file, bytes)
            };
            write().with_context(|| format!("{} cannot be written", file.display()))?;
        }
        Ok(made)
    }

    /// Writes the same as one tar, as `ctr image import` takes it.
    ///
    /// # Errors
    ///
    /// As for [`Image::write`].
    pub fn archive(&self, file: &Path) -> Result<Made> {
        let (layout, made) = self.layout()?;
        let mut tar = tar::Builder::new(Vec::new());
        for (path, bytes) in &layout {
            append(&mut tar, path, 0o644, 0, self.created, bytes)?;
        }
        let bytes = tar.into_inner()?;
        fs::write(file, bytes).with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(made)
    }

    fn layout(&self) -> Result<(Layout, Made)> {
        ensure!(!self.binaries.is_empty(), "an image takes at least one binary");
        let mut layout = Layout::new();
        let mut blob = |media_type: &str, bytes: Vec<u8>| {
            let digest = digest(&bytes);
            let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
            layout.insert(format!("blobs/{}", digest.replace(':', "/")), bytes);
            descriptor
        };
        let annotations = self.annotations();
        let (mut manifests, mut layers) = (Vec::new(), BTreeMap::new());
        for (&architecture, file) in &self.binaries {
            let binary = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            check(&binary, architecture).with_context(|| format!("{} does not belong into it", file.display()))?;
            let tar = layer(&binary, self.created)?;
            let diff = digest(&tar);
            let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
            gzip.write_all(&tar)?;
            let layer = blob(LAYER, gzip.finish()?);
            layers.insert(architecture, layer["size"].as_u64().unwrap_or_default());
            let mut config = architecture.platform();
            config["created"] = self.created.to_string().into();
            config["config"] = json!({
                "User": format!("{USER}:{USER}"),
                "Entrypoint": ["/wickie"],
                "Cmd": ["run"],
                "WorkingDir": "/",
                "Labels": annotations,
            });
            config["rootfs"] = json!({"type": "layers", "diff_ids": [diff]});
            config["history"] = json!([{"created": self.created.to_string(), "created_by": "wickie-packaging image"}]);
            let config = blob(CONFIG, serde_json::to_vec(&config)?);
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": annotations,
            });
            let mut manifest = blob(MANIFEST, serde_json::to_vec(&manifest)?);
            manifest["platform"] = architecture.platform();
            manifests.push(manifest);
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations,
        });
        let mut index = blob(INDEX, serde_json::to_vec(&index)?);
        let made = Made { digest: index["digest"].as_str().unwrap_or_default().to_owned(), layers };
        // Both are read: the first by registries' clients, the second by containerd.
        index["annotations"] = json!({
            "org.opencontainers.image.ref.name": self.version,
            "io.containerd.image.name": format!("{}:{}", self.name, self.version),
        });
        let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [index]});
        layout.insert("index.json".to_owned(), serde_json::to_vec(&top)?);
        layout.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        Ok((layout, made))
    }

    /// Source: OCI Image Format Specification, "Annotations", predefined keys.
    fn annotations(&self) -> Value {
        let mut all = json!({
            "org.opencontainers.image.title": "wickie",
            "org.opencontainers.image.description": "Keeps a Kubernetes cluster at the state that signed Git commits describe, also when it is cut off",
            "org.opencontainers.image.version": self.version,
            "org.opencontainers.image.created": self.created.to_string(),
            "org.opencontainers.image.licenses": "Apache-2.0",
        });
        if let Some(revision) = &self.revision {
            all["org.opencontainers.image.revision"] = revision.as_str().into();
        }
        all
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// The root of the file system: the binary, and the folders that a volume and a configuration are put upon.
///
/// No certificates: the public authorities are in the binary, the API server's comes with the pod's account, and one of the
/// user's own with the Secret of a source, or by `SSL_CERT_FILE`.
fn layer(binary: &[u8], time: Timestamp) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode, owner) in [
        ("etc/", 0o755, 0),
        ("etc/wickie/", 0o755, 0),
        ("etc/wickie/conf.d/", 0o755, 0),
        ("var/", 0o755, 0),
        ("var/lib/", 0o755, 0),
        ("var/lib/wickie/", 0o700, USER),
    ] {
        append(&mut tar, folder, mode, owner, time, &[])?;
    }
    append(&mut tar, "wickie", 0o755, 0, time, binary)?;
    Ok(tar.into_inner()?)
}

/// One entry, of which nothing depends on where it is made; a path that ends in a slash is a folder.
fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    owner: u64,
    time: Timestamp,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(u64::try_from(time.as_second()).context("the time is before 1970")?);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

/// An ELF file of the architecture that the kernel starts without a loader.
fn check(binary: &[u8], architecture: Architecture) -> Result<()> {
    let number = |at: usize, bytes: usize| {
        let found = binary.get(at..at + bytes).context("it is cut short")?;
        Ok::<_, anyhow::Error>(found.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    ensure!(binary.starts_with(b"\x7fELF\x02\x01"), "it is no 64-bit little-endian ELF file");
    ensure!(number(18, 2)? == u64::from(architecture.elf()), "it is not built for {}", architecture.oci());
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for entry in 0..count {
        let at = usize::try_from(table + entry * size)?;
        // PT_INTERP
        ensure!(
            number(at, 4)? != 3,
            "it asks for a loader, and there is none in the image: build it with packaging/build-static"
        );
    }
    Ok(())
}
