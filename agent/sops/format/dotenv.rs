//! Lines of `NAME=value`; a line feed in a value is written `\n`. Source: `stores/dotenv/store.go`.

use super::{Format, flat, plain};
use crate::error::Error;
use crate::tree::{Document, Leaf, Node};

const PREFIX: &str = "sops_";

pub(super) fn read(text: &str) -> Result<Document, Error> {
    let wrong = |why: String| Error::format(Format::Dotenv, why);
    let mut members: Vec<(String, Node)> = Vec::new();
    let mut metadata: Vec<(&str, String)> = Vec::new();
    for (at, line) in text.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            members.push((String::new(), Node::Leaf(Leaf::Comment(comment.to_owned()))));
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong(format!("line {} has no =", at + 1)))?;
        let value = value.replace("\\n", "\n");
        match name.strip_prefix(PREFIX) {
            Some(name) => metadata.push((name, value)),
            None if name.is_empty() => return Err(wrong(format!("line {} has no name", at + 1))),
            None => members.push((name.to_owned(), Node::Leaf(Leaf::Text(value)))),
        }
    }
    let sops = match metadata.is_empty() {
        true => None,
        false => Some(flat::unflatten(metadata.into_iter()).map_err(|why| wrong(why.to_owned()))?),
    };
    Ok(Document { root: Node::Map(members), sops, places: None })
}

pub(super) fn write(root: &Node) -> Result<String, &'static str> {
    let Node::Map(members) = root else { return Err("it is no mapping") };
    let mut text = String::new();
    for (name, member) in members {
        let Node::Leaf(leaf) = member else { return Err("it has values within values") };
        let value = plain(leaf).ok_or("a value of it is not text")?;
        match leaf {
            Leaf::Comment(_) => text.push_str(&format!("#{value}\n")),
            Leaf::Text(_) => text.push_str(&format!("{name}={}\n", value.replace('\n', "\\n"))),
            _ => text.push_str(&format!("{name}={value}\n")),
        }
    }
    Ok(text)
}
