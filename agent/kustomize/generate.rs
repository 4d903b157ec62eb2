//! `configMapGenerator` and `secretGenerator`.
//!
//! Values come from env files, literals and files, in this order; a key may come once. What is not UTF-8 goes into
//! `binaryData` of a ConfigMap (`api/kv` and `internal/generators` in kustomize).

use crate::error::Source;
use crate::files::{LoadError, Loader};
use crate::kustomization::{GeneratorOptions, Sources};
use crate::resource::{Behavior, Resource};
use crate::yaml::{Map, Node, Scalar, Tag};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// The kind that a generator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
        }
    }

    /// The name that kustomize gives this generator.
    pub(crate) fn generator(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMapGenerator",
            Kind::Secret => "SecretGenerator",
        }
    }
}

/// Why an entry could not be generated; a fault in loading keeps its path.
pub(crate) enum Fault {
    Load { field: &'static str, at: usize, path: String, error: LoadError },
    Other(String),
}

/// Makes the object of one entry.
pub(crate) fn generate(
    kind: Kind,
    sources: &Sources,
    all: Option<&GeneratorOptions>,
    loader: &Loader<'_>,
    file: &str,
) -> Result<Resource, Fault> {
    if sources.name.is_empty() {
        return Err(Fault::Other(format!("a generated {} needs a name", kind.word())));
    }
    let data = collect(sources, loader)?;
    let options = GeneratorOptions::over(sources.options.clone(), all);
    let mut root = Map::new();
    root.push("apiVersion", Node::text("v1"));
    root.push("kind", Node::text(kind.word()));
    let mut metadata = Map::new();
    metadata.push("name", Node::text(sources.name.as_str()));
    if !sources.namespace.is_empty() {
        metadata.push("namespace", Node::text(sources.namespace.as_str()));
    }
    for (key, texts) in [("labels", &options.labels), ("annotations", &options.annotations)] {
        if !texts.is_empty() {
            let members = texts.iter().map(|(key, text)| (key.as_str().into(), Node::text(text.as_str())));
            metadata.push(key, Node::Map(members.collect()));
        }
    }
    root.push("metadata", Node::Map(metadata));
    match kind {
        Kind::ConfigMap => config_map_data(&mut root, data),
        Kind::Secret => {
            let secret_type = if sources.secret_type.is_empty() { "Opaque" } else { &sources.secret_type };
            root.push("type", Node::text(secret_type));
            let members = data.into_iter().map(|(key, value)| (key.into(), Node::text(encoded(&value))));
            root.push("data", Node::Map(members.collect()));
        }
    }
    if options.immutable {
        root.push("immutable", Node::Scalar(Scalar::new(Tag::Bool, "true")));
    }
    let source = Source { file: file.into(), document: 0, line: 0 };
    let mut resource = Resource::new(Node::Map(root), source);
    resource.memory.needs_hash = !options.disable_name_suffix_hash;
    resource.memory.behavior = match sources.behavior.as_str() {
        "replace" => Behavior::Replace,
        "merge" => Behavior::Merge,
        _ => Behavior::Create,
    };
    Ok(resource)
}

fn config_map_data(root: &mut Map, data: BTreeMap<String, Vec<u8>>) {
    for (key, value) in data {
        let (member, text) = match String::from_utf8(value) {
            Ok(text) => ("data", text),
            Err(error) => ("binaryData", encoded(error.as_bytes())),
        };
        if let Some(map) = root.map_at(member) {
            map.push(key, Node::text(text));
        }
    }
}

/// Base64 as kyaml writes it: in lines of 70 characters, each with a line feed, once there is more than one line.
fn encoded(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let text = STANDARD.encode(bytes);
    if text.len() < LINE {
        return text;
    }
    let mut lines = String::with_capacity(text.len() + text.len() / LINE + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines
}

fn collect(sources: &Sources, loader: &Loader<'_>) -> Result<BTreeMap<String, Vec<u8>>, Fault> {
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    for (at, path) in sources.envs.iter().enumerate() {
        let (file, content) =
            loader.load(path).map_err(|error| Fault::Load { field: "envs", at, path: path.clone(), error })?;
        env_pairs(&file, &content, &mut pairs)?;
    }
    for literal in &sources.literals {
        pairs.push(literal_pair(literal)?);
    }
    for (at, source) in sources.files.iter().enumerate() {
        let (key, path) = file_source(source)?;
        let (_, content) =
            loader.load(path).map_err(|error| Fault::Load { field: "files", at, path: path.to_owned(), error })?;
        pairs.push((key.to_owned(), content.to_vec()));
    }
    let mut data = BTreeMap::new();
    for (key, value) in pairs {
        if data.contains_key(&key) {
            return Err(Fault::Other(format!("key {key:?} is given twice")));
        }
        data.insert(key, value);
    }
    Ok(data)
}

/// `KEY=value` a line; blank lines and those that start with `#` are skipped, a key alone has an empty value.
fn env_pairs(file: &str, content: &[u8], pairs: &mut Vec<(String, Vec<u8>)>) -> Result<(), Fault> {
    for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| Fault::Other(format!("{file}:{}: the line is not UTF-8 text", at + 1)))?;
        let line = if at == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        // A line without a key is taken for an empty one.
        if !key.is_empty() {
            pairs.push((key.to_owned(), value.as_bytes().to_vec()));
        }
    }
    Ok(())
}

fn literal_pair(literal: &str) -> Result<(String, Vec<u8>), Fault> {
    match literal.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), unquoted(value).as_bytes().to_vec())),
        _ => Err(Fault::Other(format!("literal {literal:?} should be key=value"))),
    }
}

/// One pair of quotes around the whole is dropped.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

/// `[key=]path`; without a key the file's own name is it.
fn file_source(source: &str) -> Result<(&str, &str), Fault> {
    let fault = |cause: &str| Err(Fault::Other(format!("file {source:?}: {cause}")));
    match source.split('=').collect::<Vec<_>>().as_slice() {
        [path] => {
            let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(".");
            Ok((name, path))
        }
        ["", _] => fault("the key before = is missing"),
        [_, ""] => fault("the path after = is missing"),
        [key, path] => Ok((key, path)),
        _ => fault("a key or a path cannot contain ="),
    }
}

/// Adds a generated object, or puts it in the place of one that it merges with or replaces.
pub(crate) fn absorb(list: &mut Vec<Resource>, mut resource: Resource) -> Result<(), String> {
    let id = resource.id();
    let mut found =
        (0..list.len()).filter(|at| !list[*at].is_empty() && list[*at].all_ids().any(|other| id.is_same(&other)));
    let at = match (found.next(), found.next()) {
        (Some(_), Some(_)) => {
            return Err(format!("{id}: more than one object has or had this name"));
        }
        (at, _) => at,
    };
    match (at, resource.memory.behavior) {
        (None, Behavior::Create) => {
            list.push(resource);
            Ok(())
        }
        (None, _) => Err(format!(
            "{id} is not there to be merged with or replaced; use behavior: create, or name it as its base does"
        )),
        (Some(at), Behavior::Create) => {
            Err(format!("{id} is there already ({}); set behavior: merge or replace", list[at].source))
        }
        (Some(at), behavior) => {
            take_over(&mut resource, &list[at]);
            if behavior == Behavior::Merge {
                merge_data(&mut resource, &list[at]);
            }
            if !resource.id().is_same(&list[at].id()) {
                return Err(format!("{id} was {} before, which is of another kind", list[at].id()));
            }
            list[at] = resource;
            Ok(())
        }
    }
}

/// Labels and annotations add up, the new ones win; name, namespace and history are the old one's. The hash suffix
/// stays only if both ask for it.
fn take_over(new: &mut Resource, old: &Resource) {
    for key in ["labels", "annotations"] {
        let texts: BTreeMap<String, String> = old.meta_texts(key).into_iter().chain(new.meta_texts(key)).collect();
        new.set_meta_texts(key, texts.into_iter().collect());
    }
    let id = old.id();
    new.set_name(&id.name);
    new.set_namespace(&id.namespace);
    let needs_hash = new.memory.needs_hash && old.memory.needs_hash;
    let origin = new.memory.origin.take().filter(|_| new.memory.behavior == Behavior::Replace);
    new.memory = old.memory.clone();
    new.memory.needs_hash = needs_hash;
    if origin.is_some() {
        new.memory.origin = origin;
    }
}

fn merge_data(new: &mut Resource, old: &Resource) {
    for member in ["data", "binaryData"] {
        let texts = |resource: &Resource| {
            let map = resource.node.get(member).and_then(Node::as_map).cloned().unwrap_or_default();
            map.into_iter()
                .map(|(key, value)| (key, value.as_text().filter(|_| !value.is_null()).unwrap_or_default().to_owned()))
        };
        let merged: BTreeMap<Box<str>, String> = texts(old).chain(texts(new)).collect();
        if let Some(map) = new.node.as_map_mut() {
            map.remove(member);
            if !merged.is_empty() {
                let members = merged.into_iter().map(|(key, text)| (key, Node::text(text)));
                map.push(member, Node::Map(members.collect()));
            }
        }
    }
}
