//! An object on its way through the build, and what the build remembers of it.
//!
//! kustomize keeps this memory in annotations of the object itself and removes them at the end. Here it is a struct; a
//! patch that throws away all annotations throws away the memory too, as it does there
//! ([`Resource::patched`]).

use crate::error::Source;
use crate::id::{Gvk, Id};
use crate::metadata::Origin;
use crate::yaml::{Map, Node, Scalar, Tag};
use std::collections::BTreeMap;

/// An object with its history.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) node: Node,
    pub(crate) memory: Memory,
    /// Where it was read.
    pub(crate) source: Source,
    /// How many numbers of shared values were given out.
    shared_numbers: u32,
}

/// What later steps must know about earlier ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Names it had before, the oldest first.
    pub(crate) previous: Vec<Previous>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) suffixes: Vec<String>,
    /// What a generated object does when one of its name is there.
    pub(crate) behavior: Behavior,
    pub(crate) needs_hash: bool,
    /// Variables that read from it.
    pub(crate) vars: Vec<String>,
    /// For patches: whether they may rename or retype their target.
    pub(crate) may_rename: bool,
    pub(crate) may_change_kind: bool,
    /// Values that stand in several places of the object, by their number.
    pub(crate) shared: BTreeMap<u32, Scalar>,
    pub(crate) origin: Option<Origin>,
    pub(crate) transformations: Vec<Origin>,
}

/// A name that an object no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) kind: String,
}

/// What a generated object does when one of its name is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Behavior {
    #[default]
    Create,
    Replace,
    Merge,
}

/// Stands in for the memory while a patch works on the annotations.
const MARKER: &str = "internal.config.kubernetes.io/previousNames";

impl Resource {
    /// An object as it was read.
    pub(crate) fn new(node: Node, source: Source) -> Resource {
        Resource { node, memory: Memory::default(), source, shared_numbers: 0 }
    }

    /// Its present name.
    pub(crate) fn id(&self) -> Id {
        Id::of(&self.node)
    }

    /// Its first name.
    pub(crate) fn original_id(&self) -> Id {
        self.previous_ids().next().unwrap_or_else(|| self.id())
    }

    /// Names it had before, the oldest first. Group and version are today's; whether the kind is cluster-scoped lies
    /// in the namespace that was stored.
    pub(crate) fn previous_ids(&self) -> impl Iterator<Item = Id> {
        let api_version = crate::id::text_at(&self.node, "apiVersion");
        self.memory.previous.iter().map(move |previous| Id {
            gvk: Gvk::new(api_version, &previous.kind),
            name: previous.name.clone(),
            namespace: previous.namespace.clone(),
            cluster_scoped: false,
        })
    }

    /// Its names, the oldest first, the present one last.
    pub(crate) fn all_ids(&self) -> impl Iterator<Item = Id> {
        self.previous_ids().chain(std::iter::once(self.id()))
    }

    /// Adds the present name to the former ones.
    pub(crate) fn store_name(&mut self) {
        let id = self.id();
        let namespace = id.effective_namespace().to_owned();
        self.memory.previous.push(Previous { name: id.name, namespace, kind: id.gvk.kind });
    }

    /// Nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.node {
            Node::Map(map) => map.is_empty(),
            Node::Seq(items) => items.is_empty(),
            Node::Scalar(scalar) => scalar.tag == Tag::Null,
        }
    }

    /// `metadata`, made when missing.
    pub(crate) fn metadata(&mut self) -> Option<&mut Map> {
        self.node.as_map_mut()?.map_at("metadata")
    }

    /// Gives it a name; a name that stood in quotes stays text.
    pub(crate) fn set_name(&mut self, name: &str) {
        if let Some(metadata) = self.metadata() {
            set_plain(metadata, "name", name);
        }
    }

    /// Puts it into a namespace, or out of any.
    pub(crate) fn set_namespace(&mut self, namespace: &str) {
        let Some(metadata) = self.metadata() else {
            return;
        };
        if namespace.is_empty() {
            metadata.remove("namespace");
        } else {
            set_plain(metadata, "namespace", namespace);
        }
    }

    /// Gives it a kind.
    pub(crate) fn set_kind(&mut self, kind: &str) {
        if let Some(map) = self.node.as_map_mut() {
            set_plain(map, "kind", kind);
        }
    }

    /// Gives it a group and version.
    pub(crate) fn set_api_version(&mut self, api_version: &str) {
        if let Some(map) = self.node.as_map_mut() {
            set_plain(map, "apiVersion", api_version);
        }
    }

    /// Members of `metadata.labels` or `metadata.annotations` as text.
    pub(crate) fn meta_texts(&self, key: &str) -> Vec<(String, String)> {
        let map = self.node.at(&["metadata", key]).and_then(Node::as_map);
        let texts = map.into_iter().flat_map(Map::iter);
        texts.map(|(key, value)| (key.to_owned(), value.as_text().unwrap_or_default().to_owned())).collect()
    }

    /// Replaces `metadata.labels` or `metadata.annotations`; an empty set removes the member.
    pub(crate) fn set_meta_texts(&mut self, key: &str, mut texts: Vec<(String, String)>) {
        texts.sort();
        let Some(metadata) = self.metadata() else {
            return;
        };
        metadata.remove(key);
        if !texts.is_empty() {
            let members = texts.into_iter().map(|(key, text)| (key.into(), Node::text(text)));
            metadata.push(key, Node::Map(members.collect()));
        }
    }

    /// One annotation's text.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.node.at(&["metadata", "annotations", key])?.as_text()
    }

    /// Runs a patch with a stand-in for the memory among the annotations, and says whether it is still there. kustomize
    /// keeps that memory in annotations, so a patch that throws them away throws it away.
    pub(crate) fn patched(&mut self, patch: impl FnOnce(&mut Resource) -> Result<(), String>) -> Result<bool, String> {
        let memory = &self.memory;
        if memory.previous.is_empty() && !memory.needs_hash && memory.origin.is_none() {
            return patch(self).map(|()| true);
        }
        if let Some(annotations) = self.metadata().and_then(|metadata| metadata.map_at("annotations")) {
            annotations.insert(MARKER, Node::text(""));
        }
        patch(self)?;
        if self.is_empty() {
            return Ok(true);
        }
        let annotations = self.node.at_mut(&["metadata", "annotations"]).and_then(Node::as_map_mut);
        let kept = annotations.is_some_and(|annotations| annotations.remove(MARKER).is_some());
        self.drop_empty_annotations();
        Ok(kept)
    }

    /// A number for a value that may come to stand in several places.
    pub(crate) fn next_shared(&mut self) -> u32 {
        self.shared_numbers += 1;
        self.shared_numbers
    }

    /// Remembers that the value of this number stands in several places.
    pub(crate) fn share(&mut self, shared: u32, text: &str) {
        self.memory.shared.insert(shared, Scalar::text(text));
    }

    /// After a change: where one place of a shared value differs now, all places follow.
    pub(crate) fn sync_shared(&mut self) {
        if self.memory.shared.is_empty() {
            return;
        }
        let mut changed: BTreeMap<u32, Scalar> = BTreeMap::new();
        let known = &self.memory.shared;
        self.node.scalars(&mut |scalar| {
            if known.get(&scalar.shared).is_some_and(|value| value != scalar) {
                changed.insert(scalar.shared, scalar.clone());
            }
        });
        if changed.is_empty() {
            return;
        }
        self.node.scalars_mut(&mut |scalar| {
            if let Some(value) = changed.get(&scalar.shared) {
                scalar.assign(value);
            }
        });
        self.memory.shared.append(&mut changed);
    }

    fn drop_empty_annotations(&mut self) {
        if let Some(metadata) = self.node.at_mut(&["metadata"]).and_then(Node::as_map_mut)
            && metadata.get("annotations").and_then(Node::as_map).is_some_and(Map::is_empty)
        {
            metadata.remove("annotations");
        }
    }
}

/// Sets a member to text that stands without quotes unless what was there stood in them.
fn set_plain(map: &mut Map, key: &str, text: &str) {
    match map.get_mut(key) {
        Some(Node::Scalar(scalar)) if scalar.tag != Tag::Null => scalar.retext(text),
        Some(other) => *other = Node::Scalar(Scalar::plain(text)),
        None => {
            let quoted = Scalar::plain(text).tag != Tag::Str;
            map.push(key, Node::Scalar(Scalar { quoted, untagged: true, ..Scalar::text(text) }));
        }
    }
}
