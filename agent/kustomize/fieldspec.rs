//! Where in an object a transformer writes: kustomize's field specifications.
//!
//! A path such as `spec/template/spec/containers/image` passes through lists without naming them; `name[]` says that a
//! member must be a list; `\/` is a slash within a name. The walk is that of kustomize's `filters/fieldspec`.

use crate::id::{Gvk, text_at};
use crate::yaml::{Map, Node, Scalar, Tag};

/// One place, in objects of the kinds that `gvk` selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSpec {
    pub(crate) gvk: Gvk,
    pub(crate) path: String,
    /// Whether missing members are made on the way.
    pub(crate) create: bool,
}

/// What to make at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Nothing,
    Text,
    Int,
    Map,
}

/// Called with each value that a path leads to.
pub(crate) type Setter<'s> = &'s mut dyn FnMut(&mut Node) -> Result<(), String>;

/// Applies `set` to every value in `object` that `spec` names.
pub(crate) fn apply(object: &mut Node, spec: &FieldSpec, make: Make, set: Setter<'_>) -> Result<(), String> {
    if !selects(spec, object) {
        return Ok(());
    }
    let path = split_path(&spec.path, '/');
    let make = if spec.create { make } else { Make::Nothing };
    walk(object, &path, make, set).map_err(|cause| format!("field {}: {cause}", spec.path))
}

fn selects(spec: &FieldSpec, object: &Node) -> bool {
    let want = &spec.gvk;
    if !want.kind.is_empty() && want.kind != text_at(object, "kind") {
        return false;
    }
    if want.group.is_empty() && want.version.is_empty() {
        return true;
    }
    Gvk::new(text_at(object, "apiVersion"), text_at(object, "kind")).is_selected_by(want)
}

fn walk(node: &mut Node, path: &[String], make: Make, set: Setter<'_>) -> Result<(), String> {
    let Some((part, rest)) = path.split_first() else {
        return set(node);
    };
    match node {
        _ if node.is_null() => Ok(()),
        Node::Seq(items) => items.iter_mut().try_for_each(|item| walk(item, path, make, set)),
        Node::Map(map) => member(map, part, rest, make, set),
        Node::Scalar(_) => Err(format!("{part}: expected a mapping or a sequence, found a scalar")),
    }
}

fn member(map: &mut Map, part: &str, rest: &[String], make: Make, set: Setter<'_>) -> Result<(), String> {
    let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
    if name.is_empty() {
        return Err("a field name in the path is empty".to_owned());
    }
    let created = match make {
        _ if is_list => None,
        Make::Nothing => None,
        _ if !rest.is_empty() => Some(Node::Map(Map::new())),
        Make::Map => Some(Node::Map(Map::new())),
        Make::Text => Some(Node::Scalar(Scalar::new(Tag::Str, ""))),
        Make::Int => Some(Node::Scalar(Scalar::new(Tag::Int, ""))),
    };
    if let Some(created) = created
        && map.get(name).is_none_or(Node::is_null)
    {
        map.insert(name, created);
    }
    match map.get_mut(name) {
        None => Ok(()),
        Some(value) if is_list && value.is_null() => {
            *value = Node::Seq(Vec::new());
            Ok(())
        }
        Some(value) => walk(value, rest, make, set),
    }
}

/// Splits a path; a backslash keeps the delimiter after it, a leading delimiter is dropped (`utils.PathSplitter`).
pub(crate) fn split_path(path: &str, delimiter: char) -> Vec<String> {
    let mut pieces = path.split(delimiter).peekable();
    if path.contains(delimiter) && pieces.peek() == Some(&"") {
        pieces.next();
    }
    let mut parts: Vec<String> = Vec::new();
    for piece in pieces {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(delimiter);
                last.push_str(piece);
            }
            _ => parts.push(piece.to_owned()),
        }
    }
    parts
}

/// Writes a scalar that is text whatever it looks like.
pub(crate) fn set_text(node: &mut Node, text: &str) -> Result<(), String> {
    set_tagged(node, Tag::Str, text)
}

/// Writes a scalar of a given type.
pub(crate) fn set_tagged(node: &mut Node, tag: Tag, text: &str) -> Result<(), String> {
    match node {
        Node::Scalar(scalar) => {
            scalar.assign(&Scalar::new(tag, text));
            scalar.keep_quotes();
            Ok(())
        }
        other => Err(format!("expected a scalar, found {}", other.kind_word())),
    }
}

/// Writes a scalar that is what its text says.
pub(crate) fn retext(node: &mut Node, text: &str) -> Result<(), String> {
    match node {
        Node::Scalar(scalar) => {
            scalar.retext(text);
            Ok(())
        }
        other => Err(format!("expected a scalar, found {}", other.kind_word())),
    }
}

/// Writes a text member of a mapping; null stays null. A new one is a place of the shared value `shared`; true if so.
pub(crate) fn set_member(node: &mut Node, key: &str, text: &str, shared: u32) -> Result<bool, String> {
    match node {
        Node::Map(map) => match map.get_mut(key) {
            Some(Node::Scalar(scalar)) => {
                scalar.assign(&Scalar::text(text));
                Ok(false)
            }
            Some(other) => {
                *other = Node::text(text);
                Ok(false)
            }
            None => {
                map.push(key, Node::Scalar(Scalar { shared, ..Scalar::text(text) }));
                Ok(true)
            }
        },
        other if other.is_null() => Ok(false),
        other => Err(format!("expected a mapping, found {}", other.kind_word())),
    }
}

#[cfg(test)]
mod tests {
    use super::split_path;

    #[test]
    fn a_backslash_keeps_the_slash() {
        assert_eq!(split_path(r"metadata/annotations/a.io\/b", '/'), ["metadata", "annotations", "a.io/b"]);
        assert_eq!(split_path("/a/b", '/'), ["a", "b"]);
        assert_eq!(split_path("a", '/'), ["a"]);
    }
}
