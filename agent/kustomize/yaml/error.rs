//! What can be wrong with a file as YAML, and where.

/// A file that cannot be read as YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: document {}: {fault}", .document + 1)]
pub struct YamlError {
    /// The file as it was named by the caller.
    pub file: String,
    /// Which document of the file, from nought.
    pub document: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// The ways in which YAML can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    /// The parser could not go on.
    #[error("{0}")]
    Syntax(String),
    /// One mapping names a key twice.
    #[error("key {0:?} is given twice in one mapping; keep one of them")]
    Duplicate(String),
    /// A key is a collection, or kustomize cannot take it for text.
    #[error("a key must be text, and {0} is not; put it in quotes")]
    Key(String),
    /// `<<` with something else than a mapping or a list of mappings.
    #[error("a merge key (<<) needs a mapping or a list of mappings")]
    Merge,
    /// An alias within the node that its anchor names.
    #[error("an alias refers to a value that contains it")]
    Recursive,
    /// Aliases that expand to more than a manifest can need.
    #[error("the aliases in this file expand to more than wickie will read (400,000 values or 32 MiB)")]
    Bomb,
    /// More nodes than a manifest can need.
    #[error("the file holds more than 2,000,000 values")]
    TooLarge,
    /// A tag that does not fit its text.
    #[error("{text:?} is tagged {tag} and is not one")]
    Tag {
        /// The tag as written.
        tag: String,
        /// The text that it stands before.
        text: String,
    },
    /// A number that JSON cannot carry: infinity or not-a-number.
    #[error("{0} has no form in JSON, so no Kubernetes object can hold it")]
    NotJson(String),
}

impl YamlError {
    pub(crate) fn new(file: &str, document: usize, line: usize, column: usize, fault: Fault) -> YamlError {
        YamlError { file: file.to_owned(), document, line, column, fault }
    }
}
