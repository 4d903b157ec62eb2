//! `replacements`: a value is read from one object, cut if asked to, and written to places in others.
//!
//! The rules are those of `filters/replacement` in kustomize. A scalar that is overwritten keeps its type: the text `8080`
//! put into a number is a number. A path may lead on into JSON that stands in a text field.

use super::hash::go_json;
use super::of_object;
use crate::id::Id;
use crate::kustomization::{FieldOptions, Replacement, ReplacementTarget, SourceSelector};
use crate::path::{self, Create};
use crate::resource::{Memory, Resource};
use crate::select::{Matcher, Selector};
use crate::yaml::{self, Dialect, Node, json as convert};
use serde_json::Value;

const DEFAULT_PATH: &str = "metadata.name";

/// Does all replacements in their order.
pub(super) fn apply(resources: &mut [Resource], replacements: &[Replacement]) -> Result<(), String> {
    for (at, replacement) in replacements.iter().enumerate() {
        one(resources, replacement).map_err(|cause| match replacement.field.as_str() {
            "" if replacements.len() == 1 => cause,
            "" => format!("replacement {}: {cause}", at + 1),
            field => format!("{field}: {cause}"),
        })?;
    }
    Ok(())
}

fn one(resources: &mut [Resource], replacement: &Replacement) -> Result<(), String> {
    let mut found = match (&replacement.source, &replacement.source_value) {
        (Some(_), Some(_)) => return Err("source and sourceValue exclude each other".to_owned()),
        (None, None) => return Err("a source and at least one target are needed".to_owned()),
        _ if replacement.targets.is_empty() => {
            return Err("a source and at least one target are needed".to_owned());
        }
        (None, Some(text)) => Found { value: Node::plain(text.as_str()), place: None },
        (Some(source), None) => find(resources, source)?,
    };
    replacement.targets.iter().try_for_each(|target| write(resources, &mut found, target))
}

/// A source's value. kustomize holds the very node of the source object: where that is a target as well, the targets
/// after it get what it has become. A value that was cut is a copy.
struct Found {
    value: Node,
    place: Option<(usize, Vec<String>)>,
}

impl Found {
    /// After a change of the object at `changed`.
    fn refresh(&mut self, changed: usize, resource: &Resource) {
        let Some((at, path)) = &self.place else { return };
        if *at == changed
            && let Ok(Some(value)) = path::lookup(&resource.node, path)
        {
            self.value = value.clone();
            self.value.unshare();
        }
    }
}

/// The names under which selectors know an object, today's first. Whether the kind is cluster-scoped plays no part.
fn ids(resource: &Resource) -> Vec<Id> {
    let current = Id { cluster_scoped: false, ..resource.id() };
    std::iter::once(current).chain(resource.previous_ids()).collect()
}

fn find(resources: &[Resource], source: &SourceSelector) -> Result<Found, String> {
    let fits = |resource: &Resource| ids(resource).iter().any(|id| id.is_selected_by(&source.id));
    let mut fitting = resources.iter().enumerate().filter(|(_, resource)| fits(resource));
    let (at, resource) = match (fitting.next(), fitting.next()) {
        (Some(found), None) => found,
        (None, _) => return Err(format!("source: nothing is selected by {}", source.id)),
        (Some((_, first)), Some((_, second))) => {
            return Err(format!("source: {} selects {} and {}; name one", source.id, first.id(), second.id()));
        }
    };
    let field_path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let parts = path::split(field_path);
    let value = path::lookup(&resource.node, &parts).map_err(|cause| of_object(resource, &cause))?;
    let value = value.filter(|node| match node {
        Node::Scalar(_) => !node.is_null(),
        other => !other.is_empty(),
    });
    let Some(value) = value else {
        return Err(of_object(resource, &format!("source: there is no field {field_path}, or it is empty")));
    };
    let mut value = cut(value, source.options.as_ref())?;
    value.unshare();
    let is_cut = source.options.as_ref().is_some_and(|options| !options.delimiter.is_empty());
    Ok(Found { value, place: (!is_cut).then_some((at, parts)) })
}

/// The part of a text between delimiters.
fn cut(value: &Node, options: Option<&FieldOptions>) -> Result<Node, String> {
    let Some(options) = options.filter(|options| !options.delimiter.is_empty()) else {
        return Ok(value.clone());
    };
    let Node::Scalar(scalar) = value else {
        return Err("source: only a scalar can be cut by a delimiter".to_owned());
    };
    let parts: Vec<&str> = scalar.text.split(options.delimiter.as_str()).collect();
    let part = usize::try_from(options.index).ok().and_then(|index| parts.get(index));
    let Some(part) = part else {
        return Err(format!(
            "source: options.index {} is outside the {} parts of the value",
            options.index,
            parts.len()
        ));
    };
    let mut scalar = scalar.clone();
    scalar.text = (*part).into();
    Ok(Node::Scalar(scalar))
}

fn write(resources: &mut [Resource], found: &mut Found, target: &ReplacementTarget) -> Result<(), String> {
    let Some(select) = &target.select else {
        return Err("targets: select is missing".to_owned());
    };
    let matcher = Matcher::new(select)?;
    let rejects =
        target.reject.iter().map(|reject| Ok((reject, Matcher::new(reject)?))).collect::<Result<Vec<_>, String>>()?;
    let default = [DEFAULT_PATH.to_owned()];
    let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths };
    for (at, resource) in resources.iter_mut().enumerate() {
        let ids = ids(resource);
        if !matcher.fits_labels(&resource.node)
            || rejects.iter().any(|(reject, matcher)| is_rejected(resource, &ids, reject, matcher))
            || !ids.iter().any(|id| matcher.fits_id(id))
        {
            continue;
        }
        for path in paths {
            let options = target.options.as_ref();
            let written = match path.starts_with("metadata.annotations") {
                // To such a path, an object that kustomize remembers something of has annotations.
                true => resource.patched(|resource| into_field(&mut resource.node, path, &found.value, options)).map(
                    |kept| {
                        if !kept {
                            resource.memory = Memory::default()
                        }
                    },
                ),
                false => into_field(&mut resource.node, path, &found.value, options),
            };
            written.map_err(|cause| of_object(resource, &format!("targets: {path}: {cause}")))?;
            resource.sync_shared();
            found.refresh(at, resource);
        }
    }
    Ok(())
}

/// Labels and annotations reject on their own, and so do names.
fn is_rejected(resource: &Resource, ids: &[Id], reject: &Selector, matcher: &Matcher) -> bool {
    let by_labels = !reject.labels.is_empty() || !reject.annotations.is_empty();
    (by_labels && matcher.fits_labels(&resource.node))
        || (reject.id != Id::default() && ids.iter().any(|id| matcher.fits_id(id)))
}

fn into_field(node: &mut Node, path: &str, value: &Node, options: Option<&FieldOptions>) -> Result<(), String> {
    let create = match options {
        Some(options) if options.create => Create::like(value),
        _ => Create::No,
    };
    let parts = path::split(path);
    if into_embedded(node, &parts, value, create).is_ok() {
        return Ok(());
    }
    match path::visit(node, &parts, create, &mut |field| put(field, value, options))? {
        0 if create == Create::No => Err("there is no such field; set options.create to make it".to_owned()),
        0 => Err("the field cannot be made".to_owned()),
        _ => Ok(()),
    }
}

/// Overwrites a field, or one part of its text.
fn put(field: &mut Node, value: &Node, options: Option<&FieldOptions>) -> Result<(), String> {
    let mut text = value.as_text().unwrap_or_default().to_owned();
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        let Node::Scalar(scalar) = field else { return Err("only a scalar can be cut by a delimiter".to_owned()) };
        let new = if value.is_null() { "" } else { &text };
        let mut parts: Vec<&str> = scalar.text.split(options.delimiter.as_str()).collect();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, new),
            Ok(index) if index < parts.len() => parts[index] = new,
            Ok(_) => parts.push(new),
        }
        text = parts.join(&options.delimiter);
    }
    match field {
        Node::Scalar(scalar) => {
            scalar.overwrite(&text);
            Ok(())
        }
        other => {
            *other = value.clone();
            Ok(())
        }
    }
}

/// Writes into YAML or JSON that stands in a text field on the way. An error only says that this is not such a path.
fn into_embedded(node: &mut Node, parts: &[String], value: &Node, create: Create) -> Result<(), String> {
    let outer = (1..parts.len()).find(|count| {
        matches!(path::lookup(node, &parts[..*count]), Ok(Some(Node::Scalar(scalar)))
            if yaml::trees("value", scalar.text.as_bytes(), Dialect::Kustomize).is_ok())
    });
    let Some(outer) = outer else {
        return Err("no text on the way".to_owned());
    };
    let Some(Node::Scalar(scalar)) = path::lookup_mut(node, &parts[..outer]) else {
        return Err("no text on the way".to_owned());
    };
    let mut trees =
        yaml::trees("value", scalar.text.as_bytes(), Dialect::Kustomize).map_err(|error| error.to_string())?;
    let Some(tree) = trees.first_mut() else {
        return Err("the text is empty".to_owned());
    };
    let count = path::visit(&mut tree.root, &parts[outer..], create, &mut |field| match (field, value) {
        (Node::Scalar(field), value) => {
            field.overwrite(value.as_text().unwrap_or_default());
            Ok(())
        }
        (field, value) => {
            *field = value.clone();
            Ok(())
        }
    })?;
    if count == 0 {
        return Err("no such field in the text".to_owned());
    }
    let json = convert::to_value(&tree.root).map_err(|fault| fault.to_string())?;
    scalar.text = embedded_text(&json, &scalar.text).into();
    Ok(())
}

/// JSON stays JSON, indented if it was; anything else becomes YAML.
fn embedded_text(value: &Value, old: &str) -> String {
    if !old.trim_start().starts_with(['{', '[']) {
        return yaml::to_yaml(value).trim().to_owned();
    }
    let mut out = String::new();
    if old.contains('\n') && old.contains("  ") {
        indented(&mut out, value, 0);
    } else {
        go_json(&mut out, value);
    }
    out
}

/// Go's `json.MarshalIndent` with two spaces.
fn indented(out: &mut String, value: &Value, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                indented(out, item, depth + 1);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                go_json(out, &Value::String(key.clone()));
                out.push_str(": ");
                indented(out, value, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
        other => go_json(out, other),
    }
}
