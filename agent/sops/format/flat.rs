//! Metadata in formats without nesting: `age__list_0__map_enc`. Source: `stores/flatten.go`.

use std::collections::BTreeMap;

use crate::tree::{Leaf, Node};

/// A tree that grows from flat names.
#[derive(Default)]
struct Bud {
    value: Option<String>,
    members: BTreeMap<String, Bud>,
    items: BTreeMap<usize, Bud>,
}

/// More items than this are not read.
const MOST_ITEMS: usize = 1024;

/// The tree that flat names and their values stand for.
pub(super) fn unflatten<'t>(entries: impl Iterator<Item = (&'t str, String)>) -> Result<Node, &'static str> {
    let mut root = Bud::default();
    for (name, value) in entries {
        let mut bud = &mut root;
        for step in steps(name) {
            bud = match step {
                Step::Member(name) => bud.members.entry(name.to_owned()).or_default(),
                Step::Item(at) => bud.items.entry(at.filter(|at| *at < MOST_ITEMS).ok_or(ODD)?).or_default(),
            };
        }
        if bud.value.replace(value).is_some() {
            return Err("the metadata name something twice");
        }
    }
    grow(root)
}

const ODD: &str = "the metadata name something that is not there";

enum Step<'t> {
    Member(&'t str),
    Item(Option<usize>),
}

fn steps(name: &str) -> Vec<Step<'_>> {
    const MAP: &str = "__map_";
    const LIST: &str = "__list_";
    let mut steps = Vec::new();
    let (mut rest, mut is_item) = (name, false);
    loop {
        let next = [MAP, LIST].into_iter().filter_map(|mark| Some((rest.find(mark)?, mark))).min();
        let part = &rest[..next.map_or(rest.len(), |(at, _)| at)];
        steps.push(if is_item { Step::Item(part.parse().ok()) } else { Step::Member(part) });
        let Some((at, mark)) = next else { return steps };
        is_item = mark == LIST;
        rest = &rest[at + mark.len()..];
    }
}

fn grow(bud: Bud) -> Result<Node, &'static str> {
    match (bud.value, bud.members.is_empty(), bud.items.is_empty()) {
        (Some(value), true, true) => Ok(Node::Leaf(Leaf::Text(value))),
        (None, _, true) => {
            let members = bud.members.into_iter().map(|(name, bud)| Ok((name, grow(bud)?)));
            members.collect::<Result<_, _>>().map(Node::Map)
        }
        (None, true, false) if bud.items.keys().copied().eq(0..bud.items.len()) => {
            bud.items.into_values().map(grow).collect::<Result<_, _>>().map(Node::List)
        }
        _ => Err(ODD),
    }
}
