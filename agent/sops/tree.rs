//! A document as SOPS sees it: values in the order of the file, which the MAC depends on.

use std::ops::Range;

/// A value of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// Anything without members.
    Leaf(Leaf),
    /// Members by name. A comment has no name.
    Map(Vec<(String, Node)>),
    /// Items.
    List(Vec<Node>),
}

/// A value without members.
#[derive(Clone, PartialEq)]
pub(crate) enum Leaf {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// In RFC 3339.
    Time(String),
    Text(String),
    Bytes(Vec<u8>),
    Comment(String),
}

/// Nothing of a value is printed but its type.
impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Leaf::Null => "null",
            Leaf::Bool(_) => "bool",
            Leaf::Int(_) => "int",
            Leaf::Float(_) => "float",
            Leaf::Time(_) => "time",
            Leaf::Text(_) => "text",
            Leaf::Bytes(_) => "bytes",
            Leaf::Comment(_) => "comment",
        })
    }
}

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its members, the metadata aside.
    pub(crate) root: Node,
    /// The metadata.
    pub(crate) sops: Option<Node>,
    /// For YAML: where each of its leaves stands, in their order, and where the metadata do.
    pub(crate) places: Option<Places>,
}

/// Where the parts of a YAML document stand in its text.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// One for each leaf of the root.
    pub(crate) leaves: Vec<Place>,
    /// Encrypted comments.
    pub(crate) comments: Vec<Noted>,
    /// The bytes of the metadata, whole lines.
    pub(crate) sops: Option<Range<usize>>,
}

/// An encrypted comment.
#[derive(Debug)]
pub(crate) struct Noted {
    /// Its bytes, after the `#`.
    pub(crate) bytes: Range<usize>,
    /// The paths that it may be bound to.
    pub(crate) bounds: Vec<Vec<String>>,
    /// What it says, once it is decrypted.
    pub(crate) opened: Option<String>,
}

/// Where a leaf stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its bytes.
    pub(crate) bytes: Range<usize>,
    /// How far the lines of a block in its place would be indented; nothing inside `{}` and `[]`.
    pub(crate) indent: Option<usize>,
}

impl Node {
    /// The member of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match self {
            Node::Map(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Node::Leaf(Leaf::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The items, where it is a list.
    pub(crate) fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }
}

impl Document {
    /// Takes the metadata out of a document's members.
    pub(crate) fn new(mut members: Vec<(String, Node)>) -> Self {
        let at = members.iter().position(|(name, _)| name == "sops");
        let sops = at.map(|at| members.remove(at).1);
        Self { root: Node::Map(members), sops, places: None }
    }
}
