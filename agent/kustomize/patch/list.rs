//! Lists whose elements are told apart by keys.
//!
//! These are the element operations of kyaml (`ElementSetter`, `ElementMatcher` in `yaml/fns.go`, and
//! `yaml/walk/associative_sequence.go`). Their corner cases show in results, so they are kept: an empty value matches
//! any element that has the key, elements without a key are appended, null and `{}` elements vanish.

use crate::yaml::{Node, Tag};

/// The text of a scalar; nothing for null and collections.
fn value_text(node: &Node) -> &str {
    if node.is_null() { "" } else { node.as_text().unwrap_or_default() }
}

/// The text as stored, also of null.
pub(super) fn raw_text(node: &Node) -> &str {
    node.as_text().unwrap_or_default()
}

/// Null or without members.
fn is_missing_or_empty_map(node: &Node) -> bool {
    node.is_null() || node.as_map().is_some_and(|map| map.is_empty())
}

/// Whether `node` matches at one key; an empty `value` matches whatever is there.
fn key_matches(node: &Node, key: &str, value: &str) -> Result<bool, String> {
    if key.is_empty() {
        return match node {
            Node::Scalar(_) => Ok(value_text(node) == value),
            other => Err(format!("a list of plain values holds {}", other.kind_word())),
        };
    }
    match node {
        Node::Map(map) => Ok(map.get(key).is_some_and(|found| value.is_empty() || raw_text(found) == value)),
        other => Err(format!("a list keyed by {key} holds {}", other.kind_word())),
    }
}

/// Replaces the elements that match, or appends; without an element the matches are removed.
pub(super) fn set_element(
    items: &mut Vec<Node>,
    element: Option<&Node>,
    keys: &[String],
    values: &[String],
) -> Result<(), String> {
    let by_key =
        keys.first().is_some_and(|key| !key.is_empty()) && values.first().is_some_and(|value| !value.is_empty());
    let mut kept = Vec::with_capacity(items.len() + 1);
    let mut matched = false;
    for item in items.drain(..) {
        if is_missing_or_empty_map(&item) {
            continue;
        }
        if by_key && item.as_map().is_none() {
            kept.push(item);
            continue;
        }
        let mut found = !values.is_empty();
        for (key, value) in keys.iter().zip(values) {
            if !key_matches(&item, key, value)? {
                found = false;
                break;
            }
        }
        if found {
            matched = true;
            kept.extend(element.cloned());
        } else if !values.is_empty() {
            kept.push(item);
        }
    }
    *items = kept;
    if let Some(element) = element.filter(|element| !element.is_null())
        && !matched
    {
        items.push(element.clone());
    }
    Ok(())
}

/// The first element whose keys have exactly these values.
pub(super) fn find_element(items: &[Node], keys: &[String], values: &[String]) -> Option<usize> {
    if keys.first().is_none_or(String::is_empty) {
        let value = values.first().map_or("", String::as_str);
        return items.iter().position(|item| raw_text(item) == value);
    }
    items.iter().position(|item| {
        item.as_map().is_some_and(|map| {
            keys.iter().zip(values).all(|(key, value)| map.get(key).is_some_and(|found| raw_text(found) == value))
        })
    })
}

/// The values of the keys in one element; empty where it has none.
pub(super) fn key_values(item: &Node, keys: &[String]) -> Vec<String> {
    keys.iter()
        .map(|key| match item.get(key) {
            Some(Node::Scalar(scalar)) if scalar.tag != Tag::Null => scalar.text.as_ref().to_owned(),
            _ => String::new(),
        })
        .collect()
}

/// Appends `from` to `items`, element by element; what is there under the same keys is replaced.
pub(super) fn append_all(items: &mut Vec<Node>, from: &[Node], keys: &[String]) -> Result<(), String> {
    for element in from {
        if keys.first().is_none_or(String::is_empty) {
            let value = raw_text(element).to_owned();
            set_element(items, Some(element), &[String::new()], &[value])?;
            continue;
        }
        let mut values = Vec::new();
        for key in keys {
            match element {
                Node::Map(map) => match map.get(key) {
                    Some(value) => values.push(raw_text(value).to_owned()),
                    None => items.push(element.clone()),
                },
                other if other.is_null() => items.push(element.clone()),
                other => return Err(format!("a list keyed by {key} holds {}", other.kind_word())),
            }
        }
        if keys.len() > 1 {
            set_element(items, None, keys, &values)?;
        }
        set_element(items, Some(element), keys, &values)?;
    }
    Ok(())
}

/// The keys that any of the elements has, with their values; the full set when none has any.
pub(super) fn used_keys(all: &[Vec<String>], values: &[String], keys: &[String]) -> (Vec<String>, Vec<String>) {
    let used: Vec<bool> = (0..keys.len())
        .map(|at| all.iter().any(|values| values.get(at).is_some_and(|value| !value.is_empty())))
        .collect();
    if !used.contains(&true) {
        return (keys.to_vec(), values.to_vec());
    }
    let is_used = |at: usize| used.get(at).copied().unwrap_or(false);
    let keys = keys.iter().enumerate().filter(|(at, _)| is_used(*at)).map(|(_, key)| key.clone()).collect();
    let values = values
        .iter()
        .enumerate()
        .filter(|(at, value)| !value.is_empty() || is_used(*at))
        .map(|(_, value)| value.clone())
        .collect();
    (keys, values)
}

/// Fills gaps in one element's keys from another's that agrees on the rest.
pub(super) fn fill_gaps(all: &mut [Vec<String>]) {
    for first in 0..all.len() {
        let own = all[first].clone();
        for second in 0..all.len() {
            if let Some(both) = agreed(&own, &all[second]) {
                all[first].clone_from(&both);
                all[second] = both;
            }
        }
    }
}

fn agreed(first: &[String], second: &[String]) -> Option<Vec<String>> {
    if first.len() != second.len() {
        return None;
    }
    let mut common = false;
    let mut both = Vec::with_capacity(first.len());
    for (a, b) in first.iter().zip(second) {
        match (a.as_str(), b.as_str()) {
            _ if a == b => {
                common = true;
                both.push(a.clone());
            }
            ("", _) => both.push(b.clone()),
            (_, "") => both.push(a.clone()),
            _ => return None,
        }
    }
    common.then_some(both)
}
