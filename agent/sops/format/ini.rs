//! Sections of `name = value`. Source: `stores/ini/store.go`, over gopkg.in/ini.v1, whose way of writing this is.
//!
//! What is read is what SOPS writes when it encrypts. INI has as many ways to quote as it has readers: an unencrypted value
//! in quotes is refused.

use super::{Format, flat, plain};
use crate::error::Error;
use crate::tree::{Document, Leaf, Node};

/// What stands before the first section.
const FIRST: &str = "DEFAULT";

pub(super) fn read(text: &str) -> Result<Document, Error> {
    let mut sections: Vec<(String, Vec<(String, Node)>)> = vec![(FIRST.to_owned(), Vec::new())];
    let mut comment: Vec<&str> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |why: &str| Error::format(Format::Ini, format!("line {} {why}", at + 1));
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some(text) = line.strip_prefix([';', '#']) {
            comment.push(text.trim_start_matches([';', '#', ' ']));
            continue;
        }
        let said = (!comment.is_empty()).then(|| (String::new(), Node::Leaf(Leaf::Comment(comment.join("\n")))));
        comment.clear();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if sections.iter().any(|(section, _)| section == name) {
                return Err(wrong("begins a section that was there before"));
            }
            sections.push((name.to_owned(), said.into_iter().collect()));
            continue;
        }
        let (name, value) = line.split_once(['=', ':']).ok_or_else(|| wrong("is neither a section nor a value"))?;
        let (name, value) = (name.trim_end(), value.trim());
        if name.is_empty() || name.contains(['"', '`']) || value.starts_with(['"', '\'', '`']) {
            return Err(wrong("has quotes, which SOPS encrypts and this does not read in clear"));
        }
        if value.contains(" ;") || value.contains(" #") || value.ends_with('\\') {
            return Err(wrong("has more than a value"));
        }
        let Some((_, members)) = sections.last_mut() else { continue };
        if members.iter().any(|(before, _)| before == name) {
            return Err(wrong("names a value that was there before"));
        }
        members.push((name.to_owned(), Node::Leaf(Leaf::Text(value.to_owned()))));
        members.extend(said);
    }
    let metadata = sections.iter().position(|(name, _)| name == "sops").map(|at| sections.remove(at).1);
    let sops = metadata.map(|members| {
        let entries =
            members.iter().filter_map(|(name, value)| Some((name.as_str(), value.text()?.replace("\\n", "\n"))));
        flat::unflatten(entries).map_err(|why| Error::format(Format::Ini, why))
    });
    let sections = sections.into_iter().map(|(name, members)| (name, Node::Map(members)));
    Ok(Document { root: Node::Map(sections.collect()), sops: sops.transpose()?, places: None })
}

pub(super) fn write(root: &Node) -> Result<String, &'static str> {
    const NOT: &str = "its members are not sections of values";
    let Node::Map(sections) = root else { return Err(NOT) };
    let mut text = String::new();
    for (at, (name, section)) in sections.iter().enumerate() {
        let Node::Map(members) = section else { return Err(NOT) };
        let mut members = members.iter().peekable();
        if let Some((_, Node::Leaf(Leaf::Comment(comment)))) = members.peek() {
            text.push_str(&comment_lines(comment));
            members.next();
        }
        let entries = entries(members)?;
        if at == 0 && name.eq_ignore_ascii_case(FIRST) {
            if entries.is_empty() {
                continue;
            }
        } else {
            text.push_str(&format!("[{name}]\n"));
        }
        let widest = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
        for Entry { name, value, comment } in entries {
            text.push_str(&comment.map(comment_lines).unwrap_or_default());
            text.push_str(&format!("{name:widest$} = {}\n", quoted(&value)));
        }
        if at + 1 < sections.len() {
            text.push('\n');
        }
    }
    Ok(text)
}

struct Entry<'t> {
    name: &'t str,
    value: String,
    comment: Option<&'t str>,
}

/// A comment stands after the value that it is said of.
fn entries<'t>(members: impl Iterator<Item = &'t (String, Node)>) -> Result<Vec<Entry<'t>>, &'static str> {
    let mut entries: Vec<Entry<'t>> = Vec::new();
    for (name, member) in members {
        match (member, entries.last_mut()) {
            (Node::Leaf(Leaf::Comment(comment)), last) => {
                if let Some(last) = last {
                    last.comment = Some(comment);
                }
            }
            (Node::Leaf(leaf), _) => {
                let value = plain(leaf).ok_or("a value of it is not text")?;
                entries.push(Entry { name, value, comment: None });
            }
            _ => return Err("it has values within values"),
        }
    }
    Ok(entries)
}

fn comment_lines(comment: &str) -> String {
    comment.split('\n').map(|line| format!("; {}\n", line.trim())).collect()
}

fn quoted(value: &str) -> String {
    if value.contains(['\n', '`']) {
        format!("\"\"\"{value}\"\"\"")
    } else if value.contains(['#', ';']) {
        format!("`{value}`")
    } else if value.trim().len() != value.len() {
        format!("\"{value}\"")
    } else {
        value.to_owned()
    }
}
