//! YAML as Kubernetes and kustomize read and print it.
//!
//! ```text
//! bytes --decode--> text --compose--> Tree of Node --json--> serde_json::Value --print--> text
//! ```
//!
//! The parser is `granit-parser`, the one beneath serde-saphyr. It is used directly because kustomize keeps the text of
//! a scalar beside its type (`1.10` stays `1.10` when it is copied into a string), which serde's data model drops.

mod compose;
mod decode;
pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod node;
mod number;
pub use number::general;
pub(crate) use number::shortest_single;
mod natural;
mod print;
mod scalar;
mod timestamp;

pub(crate) use compose::{Tree, trees, watched};
pub use error::{Fault, YamlError};
pub(crate) use node::{Map, Node, Scalar, Tag};
pub use print::{to_yaml, value_text};
pub use scalar::{Dialect, Resolved, resolve};
use serde_json::Value;
pub use timestamp::parse as timestamp;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Counted from nought over all documents of the file, empty ones too.
    pub index: usize,
    /// The line on which its first value stands, from 1.
    pub line: usize,
    /// What it says.
    pub value: Value,
}

/// Reads every document of a file as `kubectl apply -f` would.
///
/// Empty documents are left out; `List` kinds are returned as they stand. Two mappings keys of one name are an error
/// here (kubectl takes the last one in silence).
///
/// # Errors
///
/// The first place at which the file is not YAML, or is YAML that no Kubernetes object can hold.
pub fn documents(file: &str, bytes: &[u8]) -> Result<Vec<Document>, YamlError> {
    trees(file, bytes, Dialect::Kubernetes)?
        .into_iter()
        .map(|tree| {
            let value =
                json::to_value(&tree.root).map_err(|fault| YamlError::new(file, tree.index, tree.line, 1, fault))?;
            Ok(Document { index: tree.index, line: tree.line, value })
        })
        .collect()
}

/// The line of a field such as `patches[0].path` in the first document of a file, or of the nearest member above it;
/// nought when nothing of it is there. Field names are compared without case, as kustomize reads them.
pub(crate) fn line_of(bytes: &[u8], field: &str) -> usize {
    let mut best = (0, 0);
    let mut in_first = true;
    let mut look = |path: &str, line: usize| {
        let is_root = path.is_empty();
        if is_root && best.1 > 0 {
            in_first = false;
        }
        let above = field.get(..path.len()).is_some_and(|start| start.eq_ignore_ascii_case(path))
            && (is_root || matches!(field.as_bytes().get(path.len()), None | Some(b'.' | b'[')));
        if in_first && above && (path.len() > best.0 || best.1 == 0) {
            best = (path.len(), line);
        }
    };
    // The file was read before; a fault in a later document does not matter here.
    let _ = watched("", bytes, Dialect::Kubernetes, Some(&mut look));
    best.1
}

#[cfg(test)]
mod tests;
