//! Strategic merge patches.
//!
//! The walk is that of kyaml's `merge2`: mappings merge member by member, a null in the patch removes, lists are
//! replaced unless the schema names a merge strategy. Elements that the patch adds come first. Where only one side has
//! a value, the walk still goes through it, which strips nulls and directives from what a patch brings and empty
//! members (`key:` with nothing) from what is there.

use super::directive::{self, Directive};
use super::list;
use crate::id::text_at;
use crate::schema::{Schema, Shape};
use crate::yaml::{Map, Node};

/// The patch's side at one place.
enum Side {
    /// The patch says nothing.
    Absent,
    /// The patch's value.
    Value(Node),
    /// The value came from the patch: both sides are the same.
    Same,
}

/// Merges `patch` into `target`; none when nothing is left.
pub(crate) fn merge(target: Node, patch: Node, schema: &Schema) -> Result<Option<Node>, String> {
    Walk { schema }.node(Some(target), Side::Value(patch), None)
}

struct Walk<'s> {
    schema: &'s Schema,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Map,
    Seq,
    Scalar,
}

fn kind_of(node: &Node) -> Option<Kind> {
    match node {
        _ if node.is_null() => None,
        Node::Map(_) => Some(Kind::Map),
        Node::Seq(_) => Some(Kind::Seq),
        Node::Scalar(_) => Some(Kind::Scalar),
    }
}

impl Walk<'_> {
    fn node(&self, target: Option<Node>, patch: Side, shape: Option<Shape>) -> Result<Option<Node>, String> {
        let shape = shape.or_else(|| self.shape_by_kind(target.as_ref(), &patch));
        let target_kind = target.as_ref().and_then(kind_of);
        let patch_kind = match &patch {
            Side::Value(node) => kind_of(node),
            _ => None,
        };
        if let (Some(have), Some(want)) = (target_kind, patch_kind)
            && have != want
        {
            let words = (target.as_ref().map_or("nothing", Node::kind_word), side_word(&patch));
            return Err(format!("the patch has {} where the object has {}", words.1, words.0));
        }
        match target_kind.or(patch_kind) {
            None => Ok(self.nothing(target, patch)),
            Some(Kind::Scalar) => Ok(match patch {
                Side::Value(node) => Some(node),
                Side::Absent | Side::Same => target,
            }),
            Some(Kind::Map) => self.map(target, patch, shape),
            Some(Kind::Seq) => match shape {
                Some(shape) if shape.is_merged_list() => self.list(target, patch, &shape),
                _ => Ok(match patch {
                    Side::Value(node) => Some(node),
                    Side::Absent | Side::Same => target,
                }),
            },
        }
    }

    /// Neither side has more than null. A null that was written out stays; an empty member goes.
    fn nothing(&self, target: Option<Node>, patch: Side) -> Option<Node> {
        match patch {
            Side::Absent => target.filter(|node| node.as_text().is_some_and(|text| !text.is_empty())),
            Side::Value(_) | Side::Same => None,
        }
    }

    /// Within values of unknown kind, an object of a known kind has that kind's lists.
    fn shape_by_kind(&self, target: Option<&Node>, patch: &Side) -> Option<Shape> {
        let patch = match patch {
            Side::Value(node) => Some(node),
            _ => None,
        };
        target
            .into_iter()
            .chain(patch)
            .find_map(|node| self.schema.of_kind(text_at(node, "apiVersion"), text_at(node, "kind")))
    }

    fn map(&self, target: Option<Node>, patch: Side, shape: Option<Shape>) -> Result<Option<Node>, String> {
        let (mut map, patch) = match (target, patch) {
            (Some(Node::Map(map)), Side::Value(Node::Map(mut patch))) => match directive::of_map(&mut patch)? {
                Directive::Delete => return Ok(None),
                Directive::Replace => (patch, None),
                Directive::Merge => (map, Some(patch)),
            },
            // A null in the patch removes what is there.
            (Some(Node::Map(_)), Side::Value(_)) => return Ok(None),
            (Some(Node::Map(map)), Side::Absent) => (map, Some(Map::new())),
            (Some(Node::Map(mut map)), Side::Same) => match directive::of_map(&mut map)? {
                Directive::Delete => return Ok(None),
                Directive::Replace | Directive::Merge => (map, None),
            },
            // The patch adds a mapping; an unknown directive in it stays as it is.
            (_, Side::Value(Node::Map(mut patch))) => match directive::of_map(&mut patch) {
                Ok(Directive::Delete) => return Ok(None),
                _ => (patch, None),
            },
            (target, _) => return Ok(target),
        };
        match patch {
            Some(patch) => self.members(&mut map, patch, shape.as_ref())?,
            None => self.settle_members(&mut map, shape.as_ref())?,
        }
        Ok(Some(Node::Map(map)))
    }

    /// Merges a patch's members into a mapping's.
    fn members(&self, map: &mut Map, patch: Map, shape: Option<&Shape>) -> Result<(), String> {
        let mut patch: Vec<(Box<str>, Option<Node>)> =
            patch.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let old = std::mem::take(map);
        for (key, value) in old {
            let theirs = patch.iter_mut().find(|(name, _)| *name == key).and_then(|(_, value)| value.take());
            let place = match &value {
                Node::Scalar(scalar) => Some((scalar.quoted, scalar.shared)),
                _ => None,
            };
            let absent = theirs.is_none();
            let side = theirs.map_or(Side::Absent, Side::Value);
            let inner = shape.and_then(|shape| self.schema.field(shape, &key));
            match self.node(Some(value), side, inner).map_err(|cause| within(&key, cause))? {
                Some(node) if node.is_null() && !absent => {}
                Some(mut node) => {
                    if let (Node::Scalar(scalar), Some(place)) = (&mut node, place) {
                        (scalar.quoted, scalar.shared) = place;
                        scalar.keep_quotes();
                        scalar.settle();
                    }
                    map.push(key, node);
                }
                None => {}
            }
        }
        for (key, value) in patch {
            let Some(value) = value else { continue };
            let inner = shape.and_then(|shape| self.schema.field(shape, &key));
            match self.node(None, Side::Value(value), inner).map_err(|cause| within(&key, cause))? {
                Some(node) if !node.is_null() => map.push(key, node),
                _ => {}
            }
        }
        Ok(())
    }

    /// Strips nulls and directives from what a patch brought.
    fn settle_members(&self, map: &mut Map, shape: Option<&Shape>) -> Result<(), String> {
        for (key, value) in std::mem::take(map) {
            let inner = shape.and_then(|shape| self.schema.field(shape, &key));
            match self.node(Some(value), Side::Same, inner).map_err(|cause| within(&key, cause))? {
                Some(node) if !node.is_null() => map.push(key, node),
                _ => {}
            }
        }
        Ok(())
    }

    fn list(&self, target: Option<Node>, patch: Side, shape: &Shape) -> Result<Option<Node>, String> {
        let (items, patch) = match (target, patch) {
            (Some(Node::Seq(items)), Side::Value(Node::Seq(mut patch))) => match directive::of_list(&mut patch)? {
                Directive::Delete => return Ok(None),
                Directive::Replace => (patch, Some(None)),
                Directive::Merge => (items, Some(Some(patch))),
            },
            (Some(Node::Seq(_)), Side::Value(_)) => return Ok(None),
            (Some(Node::Seq(items)), Side::Absent) => (items, None),
            (Some(Node::Seq(mut items)), Side::Same) => match directive::of_list(&mut items)? {
                Directive::Delete => return Ok(None),
                Directive::Replace | Directive::Merge => (items, Some(None)),
            },
            (_, Side::Value(Node::Seq(patch))) => (patch, Some(None)),
            (target, _) => return Ok(target),
        };
        self.elements(items, patch, shape).map(|items| Some(Node::Seq(items)))
    }

    /// Merges elements by key. `patch` is none when there is no patch, `Some(None)` when `items` came from it.
    fn elements(&self, items: Vec<Node>, patch: Option<Option<Vec<Node>>>, shape: &Shape) -> Result<Vec<Node>, String> {
        let keys = match shape {
            Shape::List { keys, .. } if !keys.is_empty() => keys.clone(),
            _ => vec![String::new()],
        };
        let mut all = Vec::new();
        let patched = match &patch {
            Some(Some(patch)) => patch.as_slice(),
            _ => &[],
        };
        for item in patched.iter().chain(&items) {
            let values =
                if keys[0].is_empty() { vec![list::raw_text(item).to_owned()] } else { list::key_values(item, &keys) };
            if !all.contains(&values) {
                all.push(values);
            }
        }
        if keys.len() > 1 {
            list::fill_gaps(&mut all);
        }
        let element = self.schema.element(shape);
        let mut items = items;
        let mut merged = Vec::new();
        let mut last_keys = Vec::new();
        for values in &all {
            let (used, values) = list::used_keys(&all, values, &keys);
            let (value, place) = self.element(&items, &patch, &used, &values, element.clone())?;
            last_keys.clone_from(&used);
            match value {
                Some(mut node) if !node.is_null() && node.as_map().is_none_or(|map| !map.is_empty()) => {
                    complete(&mut node, &used, &values);
                    list::set_element(&mut merged, Some(&node), &used, &values)?;
                    if let Some(place) = place {
                        items[place] = node;
                    }
                }
                _ => list::set_element(&mut items, None, &used, &values)?,
            }
        }
        if all.is_empty() {
            return Ok(items);
        }
        list::append_all(&mut merged, &items, &last_keys)?;
        Ok(merged)
    }

    /// The merged element with these keys, and where it stands in the object's list. An element that the patch
    /// replaces has no such place: kyaml then lets the old one win.
    fn element(
        &self,
        items: &[Node],
        patch: &Option<Option<Vec<Node>>>,
        keys: &[String],
        values: &[String],
        shape: Option<Shape>,
    ) -> Result<(Option<Node>, Option<usize>), String> {
        let (keys, values) = list::used_keys(&[values.to_vec()], values, keys);
        let find = |items: &[Node]| list::find_element(items, &keys, &values);
        let place = find(items);
        let target = place.map(|at| items[at].clone());
        let side = match patch {
            None => Side::Absent,
            Some(None) if target.is_some() => Side::Same,
            Some(None) => Side::Absent,
            Some(Some(patch)) => find(patch).map_or(Side::Absent, |at| Side::Value(patch[at].clone())),
        };
        let replaced = matches!(&side, Side::Value(node) if text_at(node, "$patch") == "replace");
        let name = values.first().cloned().unwrap_or_default();
        let value = self.node(target, side, shape).map_err(|cause| within(&format!("[{name}]"), cause))?;
        Ok((value, place.filter(|_| !replaced)))
    }
}

/// Makes sure that an element holds its keys.
fn complete(node: &mut Node, keys: &[String], values: &[String]) {
    let Node::Map(map) = node else { return };
    for (key, value) in keys.iter().zip(values) {
        if !value.is_empty() && !map.contains(key) {
            map.push(key.as_str(), Node::text(value.as_str()));
        }
    }
}

fn side_word(side: &Side) -> &'static str {
    match side {
        Side::Value(node) => node.kind_word(),
        _ => "nothing",
    }
}

/// Puts a member's name before the cause, the outermost first.
fn within(key: &str, cause: String) -> String {
    match cause.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') => format!("{key}.{path}: {rest}"),
        _ => format!("{key}: {cause}"),
    }
}
