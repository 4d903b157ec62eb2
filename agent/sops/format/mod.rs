//! The formats of encrypted files.
//!
//! What a Secret is made of must be the bytes that Flux would make it of, or its name, which has their hash, changes
//! when a cluster moves: so JSON, dotenv, INI and binary files are written as SOPS writes them. A YAML file keeps its
//! text, but for what was encrypted.

mod dotenv;
mod flat;
mod ini;
mod json;
mod yaml;

use crate::error::Error;
use crate::tree::{Document, Leaf, Node};

pub(crate) use json::{node_of, value_of};

/// The largest file that is decrypted. Source: kustomize-controller, `maxEncryptedFileSize`.
pub const MOST_BYTES: usize = 5 << 20;

/// A format of encrypted files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Manifests, and anything else that is YAML.
    Yaml,
    /// One object.
    Json,
    /// Lines of `NAME=value`.
    Dotenv,
    /// Sections of `name = value`.
    Ini,
    /// Bytes; encrypted, it is JSON with one value.
    Binary,
}

impl Format {
    /// The format of a file by its name. Source: kustomize-controller, `formatForPath`.
    pub fn of_path(path: &str) -> Self {
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| path.ends_with(suffix));
        match () {
            () if ends(&[".dockerconfigjson", ".json"]) => Self::Json,
            () if ends(&[".yaml", ".yml"]) => Self::Yaml,
            () if ends(&[".env"]) => Self::Dotenv,
            () if ends(&[".ini"]) => Self::Ini,
            () => Self::Binary,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Yaml => "YAML",
            Self::Json => "JSON",
            Self::Dotenv => "dotenv",
            Self::Ini => "INI",
            Self::Binary => "binary",
        }
    }

    /// What tells an encrypted file of this format. Source: kustomize-controller, `sopsFormatToMarkerBytes`.
    fn marker(self) -> &'static [u8] {
        match self {
            Self::Yaml => b"mac: ENC[",
            Self::Json | Self::Binary => b"\"mac\": \"ENC[",
            Self::Dotenv => b"sops_mac=ENC[",
            Self::Ini => b"[sops]",
        }
    }
}

/// Whether a file looks encrypted.
pub fn is_encrypted(bytes: &[u8], format: Format) -> bool {
    let marker = format.marker();
    bytes.windows(marker.len()).any(|part| part == marker)
}

/// The format of what looks like an encrypted file, by its content.
pub fn marked(bytes: &[u8]) -> Option<Format> {
    [Format::Json, Format::Dotenv, Format::Yaml, Format::Ini].into_iter().find(|format| is_encrypted(bytes, *format))
}

/// Reads the documents of a file.
pub(crate) fn read(bytes: &[u8], format: Format) -> Result<Vec<Document>, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::format(format, "it is not UTF-8 text"))?;
    match format {
        Format::Yaml => yaml::read(text),
        Format::Json | Format::Binary => json::read(text).map(|document| vec![document]),
        Format::Dotenv => dotenv::read(text).map(|document| vec![document]),
        Format::Ini => ini::read(text).map(|document| vec![document]),
    }
}

/// Writes what was decrypted. `bytes` are those that the documents were read from.
pub(crate) fn write(bytes: &[u8], input: Format, documents: &[Document], output: Format) -> Result<Vec<u8>, Error> {
    let cannot = |why| Error::Output { format: output.name(), why };
    if output == Format::Yaml {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let kept = if input == Format::Yaml { yaml::write(text, documents) } else { None };
        if let Some(kept) = kept {
            return Ok(kept.into_bytes());
        }
        // JSON is YAML.
        let documents: Vec<String> = documents.iter().map(|document| json::write(&document.root)).collect();
        return Ok(documents.join("---\n").into_bytes());
    }
    let [document] = documents else { return Err(cannot("it is several documents")) };
    match output {
        Format::Json => Ok(json::write(&document.root).into_bytes()),
        Format::Dotenv => dotenv::write(&document.root).map(String::into_bytes).map_err(cannot),
        Format::Ini => ini::write(&document.root).map(String::into_bytes).map_err(cannot),
        Format::Binary => match document.root.get("data") {
            Some(Node::Leaf(Leaf::Text(text))) => Ok(text.clone().into_bytes()),
            Some(Node::Leaf(Leaf::Bytes(bytes))) => Ok(bytes.clone()),
            _ => Err(cannot("it has no text named data")),
        },
        Format::Yaml => Err(cannot("it is YAML")),
    }
}

/// A value without members as dotenv and INI files hold it. Source: `stores.ValToString`.
fn plain(leaf: &Leaf) -> Option<String> {
    Some(match leaf {
        Leaf::Null => "<nil>".to_owned(),
        Leaf::Bool(value) => value.to_string(),
        Leaf::Int(value) => value.to_string(),
        Leaf::Float(value) => {
            let text = value.to_string();
            if text.contains('.') { text } else { format!("{text}.0") }
        }
        Leaf::Time(text) | Leaf::Text(text) | Leaf::Comment(text) => text.clone(),
        Leaf::Bytes(bytes) => String::from_utf8(bytes.clone()).ok()?,
    })
}
