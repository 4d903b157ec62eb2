//! Paths into objects with dots and brackets: `spec.containers.[name=app].ports.0`.
//!
//! Replacements and variables use them. A part is a member's name, an index, `-` for the last element, `*` for every
//! element, or `[key=value]`; names that contain dots stand in brackets (kyaml's `SmarterPathSplitter`, `PathGetter`
//! and `PathMatcher`).

use crate::fieldspec::split_path;
use crate::select::Pattern;
use crate::yaml::{self, Dialect, Map, Node, Scalar, Tag};

/// Splits at dots; brackets that hold a `=` stay, others only protect their dots.
pub(crate) fn split(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut pieces = split_path(path, '.').into_iter();
    while let Some(piece) = pieces.next() {
        if !piece.starts_with('[') || piece.ends_with(']') {
            parts.push(piece);
            continue;
        }
        let mut whole = piece;
        for next in pieces.by_ref() {
            whole.push('.');
            whole.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        if whole.contains('=') {
            parts.push(whole);
        } else {
            parts.push(whole.trim_matches(['[', ']']).to_owned());
        }
    }
    parts
}

/// `name[0]` as two parts, as variables write it.
pub(crate) fn split_indices(parts: Vec<String>) -> Vec<String> {
    let mut split = Vec::new();
    for part in parts {
        match part.strip_suffix(']').and_then(|open| open.rsplit_once('[')) {
            Some((name, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
                if !name.is_empty() {
                    split.push(name.to_owned());
                }
                split.push(index.to_owned());
            }
            _ => split.push(part),
        }
    }
    split
}

/// A part that was understood.
enum Part<'p> {
    Index(usize),
    Last,
    Every,
    Element(&'p str, &'p str),
    Member(&'p str),
}

fn read(part: &str) -> Result<Part<'_>, String> {
    if let Ok(index) = part.parse::<i64>() {
        return usize::try_from(index).map(Part::Index).map_err(|_| format!("index {part} is negative"));
    }
    if part == "-" {
        return Ok(Part::Last);
    }
    if part == "*" {
        return Ok(Part::Every);
    }
    if let Some(inner) = part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.split_once('=') {
            Some((key, value)) => Ok(Part::Element(key, value)),
            None => Err(format!("{part} should be [key=value]")),
        };
    }
    Ok(Part::Member(part))
}

fn seq<'n>(node: &'n Node, part: &str) -> Result<&'n [Node], String> {
    match node {
        Node::Seq(items) => Ok(items),
        other if other.is_null() => Ok(&[]),
        other => Err(format!("{part}: expected a sequence, found {}", other.kind_word())),
    }
}

/// The one value at a path; none when a part is not there.
pub(crate) fn lookup<'n>(node: &'n Node, path: &[String]) -> Result<Option<&'n Node>, String> {
    let mut here = node;
    for part in path.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
        let next = match read(part)? {
            Part::Index(index) => seq(here, part)?.get(index),
            Part::Last => seq(here, part)?.last(),
            Part::Every => return Err("* may stand in the target of a replacement only".to_owned()),
            Part::Element(key, value) => seq(here, part)?.iter().find(|item| {
                let found = if key.is_empty() { Some(*item) } else { item.get(key) };
                found.is_some_and(|found| found.as_text().unwrap_or_default() == value)
            }),
            Part::Member(name) => match here {
                Node::Map(map) => map.get(name),
                other if other.is_null() => None,
                other => {
                    return Err(format!("{name}: expected a mapping, found {}", other.kind_word()));
                }
            },
        };
        match next {
            Some(next) => here = next,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// The same, to write.
pub(crate) fn lookup_mut<'n>(node: &'n mut Node, path: &[String]) -> Option<&'n mut Node> {
    let mut here = node;
    for part in path.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
        here = match read(part).ok()? {
            Part::Index(index) => here.as_seq_mut()?.get_mut(index)?,
            Part::Last => here.as_seq_mut()?.last_mut()?,
            Part::Every => return None,
            Part::Element(key, value) => here.as_seq_mut()?.iter_mut().find(|item| {
                let found = if key.is_empty() { Some(&**item) } else { item.get(key) };
                found.is_some_and(|found| found.as_text().unwrap_or_default() == value)
            })?,
            Part::Member(name) => here.as_map_mut()?.get_mut(name)?,
        };
    }
    Some(here)
}

/// What to put where a path leads to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    No,
    Scalar,
    Map,
    Seq,
}

impl Create {
    /// A value of the same kind.
    pub(crate) fn like(node: &Node) -> Create {
        match node {
            Node::Scalar(_) => Create::Scalar,
            Node::Map(_) => Create::Map,
            Node::Seq(_) => Create::Seq,
        }
    }

    /// An empty value for the next part of a path.
    fn made(self, next: Option<&String>) -> Node {
        match next.map(|part| read(part)) {
            Some(Ok(Part::Index(_) | Part::Element(..)) | Err(_)) => Node::Seq(Vec::new()),
            Some(_) => Node::Map(Map::new()),
            None => match self {
                Create::Seq => Node::Seq(Vec::new()),
                Create::Map => Node::Map(Map::new()),
                Create::Scalar | Create::No => Node::plain(""),
            },
        }
    }
}

/// Calls `set` with every value at a path and counts them.
pub(crate) fn visit(
    node: &mut Node,
    path: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<(), String>,
) -> Result<usize, String> {
    let Some((part, rest)) = path.split_first() else {
        return set(node).map(|()| 1);
    };
    match read(part)? {
        Part::Index(index) => {
            seq(node, part)?;
            let Node::Seq(items) = node else {
                return Err(format!("index {index} of an empty list"));
            };
            if items.len() == index && create != Create::No {
                items.push(create.made(rest.first()));
            }
            let length = items.len();
            match items.get_mut(index) {
                Some(item) => visit(item, rest, create, set),
                None => Err(format!("index {index} is outside a list of {length}")),
            }
        }
        Part::Every => {
            seq(node, part)?;
            let Node::Seq(items) = node else { return Ok(0) };
            items.iter_mut().try_fold(0, |count, item| Ok(count + visit(item, rest, create, set)?))
        }
        Part::Element(key, value) => elements(node, part, (key, value), rest, create, set),
        Part::Last => member(node, "-", rest, create, set),
        Part::Member(name) => member(node, name, rest, create, set),
    }
}

fn elements(
    node: &mut Node,
    part: &str,
    (key, value): (&str, &str),
    rest: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<(), String>,
) -> Result<usize, String> {
    seq(node, part)?;
    let pattern = Pattern::anywhere(value)?;
    let Node::Seq(items) = node else { return Ok(0) };
    let mut count = 0;
    for item in items.iter_mut() {
        let found = if key.is_empty() { Some(&*item) } else { item.get(key) };
        if !found.is_some_and(|found| pattern.matches(&shown(found))) {
            continue;
        }
        // An element of a plain list is the value itself, whatever follows in the path.
        count += if key.is_empty() { visit(item, &[], create, set)? } else { visit(item, rest, create, set)? };
    }
    if count > 0 || create == Create::No {
        return Ok(count);
    }
    let mut made = if key.is_empty() {
        Node::plain(value)
    } else {
        let mut map = Map::new();
        map.push(key, Node::plain(value));
        Node::Map(map)
    };
    let rest = if key.is_empty() { &[] } else { rest };
    let count = visit(&mut made, rest, create, set)?;
    items.push(made);
    Ok(count)
}

fn member(
    node: &mut Node,
    name: &str,
    rest: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<(), String>,
) -> Result<usize, String> {
    let map = match node {
        Node::Map(map) => map,
        // Nothing can be put below null, and nothing is said about it.
        other if other.is_null() => return Ok(usize::from(create != Create::No)),
        other => {
            return Err(format!("{name}: expected a mapping, found {}", other.kind_word()));
        }
    };
    if !map.contains(name) {
        if create == Create::No {
            return Ok(0);
        }
        map.push(name, create.made(rest.first()));
    }
    match map.get_mut(name) {
        Some(Node::Scalar(scalar)) if !rest.is_empty() => embedded(scalar, rest, create),
        Some(field) => visit(field, rest, create, set),
        None => Ok(0),
    }
}

/// A path that leads on into text: kyaml looks whether it leads to something there, and changes a copy.
fn embedded(scalar: &Scalar, rest: &[String], create: Create) -> Result<usize, String> {
    let mut trees =
        yaml::trees("text", scalar.text.as_bytes(), Dialect::Kustomize).map_err(|error| error.to_string())?;
    match trees.first_mut() {
        Some(tree) => visit(&mut tree.root, rest, create, &mut |_| Ok(())),
        None if scalar.text.is_empty() => Err("expected a mapping, found nothing".to_owned()),
        None => Ok(usize::from(create != Create::No)),
    }
}

/// A scalar as YAML shows it: text that would read as something else stands in quotes.
fn shown(node: &Node) -> String {
    match node {
        Node::Scalar(Scalar { tag: Tag::Str, quoted, text, .. }) => {
            let quoted = *quoted || Scalar::plain(text.as_ref()).tag != Tag::Str;
            if quoted { format!("\"{text}\"") } else { text.as_ref().to_owned() }
        }
        Node::Scalar(scalar) => scalar.text.as_ref().to_owned(),
        other => crate::yaml::json::to_value(other)
            .map(|value| crate::yaml::to_yaml(&value))
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_protect_dots() {
        assert_eq!(split("metadata.annotations.[a.b/c]"), ["metadata", "annotations", "a.b/c"]);
        assert_eq!(split("spec.[name=a.b].image"), ["spec", "[name=a.b]", "image"]);
        assert_eq!(split(r"data.a\.b"), ["data", "a.b"]);
        assert_eq!(split_indices(split("spec.ports[0].port")), ["spec", "ports", "0", "port"]);
    }
}
