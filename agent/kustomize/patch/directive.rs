//! `$patch: delete | replace | merge` in mappings and lists.

use super::list::set_element;
use crate::yaml::{Map, Node};

const KEY: &str = "$patch";

/// What a patch asks for at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    Merge,
    Replace,
    Delete,
}

fn read(text: &str) -> Result<Directive, String> {
    match text {
        "merge" => Ok(Directive::Merge),
        "replace" => Ok(Directive::Replace),
        "delete" => Ok(Directive::Delete),
        other => Err(format!("$patch is {other:?}; it may be delete, replace or merge")),
    }
}

/// Takes the directive out of a mapping.
pub(super) fn of_map(map: &mut Map) -> Result<Directive, String> {
    let Some(value) = map.get(KEY) else {
        return Ok(Directive::Merge);
    };
    let directive = read(value.as_text().unwrap_or_default())?;
    map.remove(KEY);
    Ok(directive)
}

/// Takes the directive out of a list: an element that holds nothing but `$patch`.
pub(super) fn of_list(items: &mut Vec<Node>) -> Result<Directive, String> {
    let element = items.iter().filter_map(Node::as_map).find(|map| map.contains(KEY));
    let Some(map) = element.filter(|map| map.len() == 1) else {
        return Ok(Directive::Merge);
    };
    let text = map.get(KEY).and_then(Node::as_text).unwrap_or_default().to_owned();
    let directive = read(&text)?;
    set_element(items, None, &[KEY.to_owned()], &[text])?;
    Ok(directive)
}
