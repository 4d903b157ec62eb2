//! Reading objects from files, and the list of those gathered so far.
//!
//! No two objects in the list have one name. Order is that of reading (`resource/factory.go`, `resmap/reswrangler.go`).

use crate::error::{Error, Source};
use crate::id::{Gvk, Id, meta_text, text_at};
use crate::resource::Resource;
use crate::yaml::{self, Dialect, Node, Tree};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Two objects of one name.
#[derive(Debug)]
pub(crate) struct Clash {
    pub(crate) id: Id,
    pub(crate) first: Source,
    pub(crate) second: Source,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: both {} and {} define it", self.id, self.first, self.second)
    }
}

impl From<Box<Clash>> for Error {
    fn from(clash: Box<Clash>) -> Error {
        Error::Conflict { id: clash.id.to_string(), first: clash.first, second: clash.second }
    }
}

type Key = (Gvk, String, String);

fn key(id: Id) -> Key {
    let namespace = id.effective_namespace().to_owned();
    (id.gvk, id.name, namespace)
}

/// Appends objects, refusing a name that is there.
pub(crate) fn insert_all(list: &mut Vec<Resource>, more: Vec<Resource>) -> Result<(), Box<Clash>> {
    let mut taken: HashMap<Key, usize> =
        list.iter().enumerate().map(|(at, resource)| (key(resource.id()), at)).collect();
    for resource in more {
        let id = resource.id();
        if let Some(first) = taken.insert(key(id.clone()), list.len()) {
            return Err(Box::new(Clash { id, first: list[first].source.clone(), second: resource.source }));
        }
        list.push(resource);
    }
    Ok(())
}

/// All objects of a file. Empty documents are skipped, lists are unfolded.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Resource>, Error> {
    let name: Arc<str> = file.into();
    let trees = yaml::trees(file, bytes, Dialect::Kustomize)?;
    let mut found = Vec::new();
    let only = trees.len() == 1 && trees.iter().all(|tree| tree.index == 0);
    for tree in trees {
        let source = Source { file: Arc::clone(&name), document: tree.index, line: tree.line };
        for node in unwrapped(tree, only) {
            if is_nothing(&node) {
                continue;
            }
            check(&node).map_err(|problem| Error::Object { at: source.clone(), problem })?;
            found.push((node, source.clone()));
        }
    }
    unfold(found)
}

/// A file that is one `List` is taken for its items.
fn unwrapped(tree: Tree, only: bool) -> Vec<Node> {
    let is_list = matches!(text_at(&tree.root, "kind"), "List" | "ResourceList");
    match tree.root {
        Node::Map(mut map) if only && is_list && (map.contains("items") || map.contains("functionConfig")) => {
            match map.remove("items") {
                Some(Node::Seq(items)) => items,
                _ => Vec::new(),
            }
        }
        root => vec![root],
    }
}

fn is_nothing(node: &Node) -> bool {
    match node {
        Node::Map(map) => map.is_empty(),
        Node::Seq(items) => items.is_empty(),
        Node::Scalar(_) => node.is_null(),
    }
}

/// An object needs a kind and, unless it is a list, a name.
pub(crate) fn check(node: &Node) -> Result<(), String> {
    if node.as_map().is_none() {
        return Err(format!(
            "a Kubernetes object is a mapping with apiVersion, kind and metadata; this is {}",
            node.kind_word()
        ));
    }
    match text_at(node, "kind") {
        "" => Err("kind is missing".to_owned()),
        kind if kind.ends_with("List") => Ok(()),
        kind if meta_text(node, "name").is_empty() => Err(format!("metadata.name is missing in this {kind}")),
        _ => Ok(()),
    }
}

/// Kinds that end in `List` and have items stand for their items, which move to the end.
fn unfold(found: Vec<(Node, Source)>) -> Result<Vec<Resource>, Error> {
    let mut queue: std::collections::VecDeque<(Node, Source)> = found.into();
    let mut resources = Vec::new();
    while let Some((node, source)) = queue.pop_front() {
        let fault = |problem| Error::Object { at: source.clone(), problem };
        if !text_at(&node, "kind").ends_with("List") {
            resources.push(Resource::new(node, source));
            continue;
        }
        match node.get("items") {
            None => resources.push(Resource::new(node, source)),
            Some(items) if items.is_null() => {}
            Some(Node::Seq(items)) => {
                for item in items {
                    let value = yaml::json::to_value(item)
                        .map_err(|fault| Error::Object { at: source.clone(), problem: fault.to_string() })?;
                    let item = yaml::json::from_value(&value);
                    let inner = Tree { index: source.document, line: source.line, root: item };
                    for item in unwrapped(inner, true).into_iter().filter(|item| !is_nothing(item)) {
                        check(&item).map_err(fault)?;
                        queue.push_back((item, source.clone()));
                    }
                }
            }
            Some(other) => {
                return Err(fault(format!("items should be a sequence, it is {}", other.kind_word())));
            }
        }
    }
    Ok(resources)
}
