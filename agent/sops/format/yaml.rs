//! YAML in the order of the file. Source: `stores/yaml/store.go`, over go-yaml version 3.
//!
//! What comes out is the file's own text: each encrypted value replaced where it stands, the metadata cut out. SOPS reads a
//! file into a tree and prints it anew with the same library that printed the encrypted file, so the two agree wherever SOPS
//! wrote the file itself.
//!
//! Anchors are refused: SOPS writes none, and a value that stands in two places cannot be bound to one.

use std::collections::HashSet;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use wickie_kustomize::yaml::{self, Dialect, Resolved};

use super::Format;
use crate::error::Error;
use crate::tree::{Document, Leaf, Node, Place, Places};

/// How deep values may nest.
const DEEPEST: usize = 100;

/// More values than this are not read.
const MOST_VALUES: usize = 500_000;

/// Encrypted comments beyond these stay encrypted.
const MOST_COMMENTS: usize = 1_000;

/// SOPS indents by four.
const STEP: usize = 4;

pub(super) fn read(text: &str) -> Result<Vec<Document>, Error> {
    let options = granit_parser::options! { block_scalar_eof_without_line_feed: true, emit_comments: false };
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        values: 0,
        depth: 0,
        path: Vec::new(),
        places: Places::default(),
        paths: Vec::new(),
        noted: text.contains(COMMENT),
        in_metadata: false,
    };
    let mut documents: Vec<Document> = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(..) => {
                // The metadata of the document before reach up to here, where they stand at its end.
                let start = span.start.byte_offset().unwrap_or(text.len());
                let before = documents.last_mut().and_then(|it| it.places.as_mut()).and_then(|it| it.sops.as_mut());
                if let Some(sops) = before {
                    sops.end = sops.end.min(start);
                }
                documents.extend(reader.document()?);
            }
            _ => {}
        }
    }
}

/// How an encrypted comment begins.
const COMMENT: &str = "#ENC[AES256_GCM,";

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    values: usize,
    depth: usize,
    path: Vec<String>,
    places: Places,
    /// The path of each leaf, where comments need them.
    paths: Vec<Vec<String>>,
    noted: bool,
    in_metadata: bool,
}

/// What stands around a value.
#[derive(Clone, Copy)]
enum Around {
    /// `{}` or `[]`.
    Flow,
    /// The column at which the names of its mapping begin.
    Mapping(usize),
    /// The column at which the dashes of its list stand.
    List(usize),
}

impl Around {
    /// How far go-yaml indents the lines of a block that stands here.
    fn indent(self) -> Option<usize> {
        match self {
            Around::Flow => None,
            Around::Mapping(column) => Some(STEP * ((column + STEP) / STEP)),
            Around::List(column) => Some(column + 2),
        }
    }
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Error> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(wrong(error.marker().line(), &error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Nothing for an empty document.
    fn document(&mut self) -> Result<Option<Document>, Error> {
        self.places = Places::default();
        self.paths.clear();
        let (event, span) = self.next()?;
        let members = match event {
            Event::DocumentEnd => return Ok(None),
            Event::MappingStart(style, anchor, _) => {
                no_anchor(anchor, span)?;
                self.mapping(style, span, true)?
            }
            Event::Scalar(text, ScalarStyle::Plain, ..)
                if matches!(yaml::resolve(&text, Dialect::Kustomize), Resolved::Null) =>
            {
                return Ok(None);
            }
            _ => return Err(wrong(span.start.line(), "a document is a mapping")),
        };
        let mut document = Document::new(members);
        let mut places = std::mem::take(&mut self.places);
        self.note_comments(&mut places);
        document.places = Some(places);
        Ok(Some(document))
    }

    fn node(&mut self, event: Event<'t>, span: Span, around: Around) -> Result<Node, Error> {
        let line = span.start.line();
        self.values += 1;
        if self.values > MOST_VALUES || self.depth > DEEPEST {
            return Err(wrong(line, "it holds more values, or deeper ones, than are read"));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_anchor(anchor, span)?;
                let text = if span.is_empty() && text == "~" { "".into() } else { text };
                let tag = tag.as_deref().map(|tag| tag.core_suffix().map_or("?".to_owned(), str::to_owned));
                let leaf = leaf(&text, style, tag.as_deref()).map_err(|why| wrong(line, why))?;
                if !self.in_metadata {
                    let bytes = span.byte_range().unwrap_or(0..0);
                    self.places.leaves.push(Place { bytes, indent: around.indent() });
                    if self.noted {
                        self.paths.push(self.path.clone());
                    }
                }
                Ok(Node::Leaf(leaf))
            }
            Event::MappingStart(style, anchor, _) => {
                no_anchor(anchor, span)?;
                self.mapping(style, span, false).map(Node::Map)
            }
            Event::SequenceStart(style, anchor, _) => {
                no_anchor(anchor, span)?;
                let around = match style {
                    StructureStyle::Block => Around::List(span.start.col()),
                    _ => Around::Flow,
                };
                let mut items = Vec::new();
                self.depth += 1;
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        self.depth -= 1;
                        return Ok(Node::List(items));
                    }
                    items.push(self.node(event, span, around)?);
                }
            }
            Event::Alias(_) => Err(wrong(line, "an alias stands in it, and SOPS writes none; write the value out")),
            _ => Err(wrong(line, "a value was expected")),
        }
    }

    fn mapping(&mut self, style: StructureStyle, span: Span, top: bool) -> Result<Vec<(String, Node)>, Error> {
        let mut members = Vec::new();
        let mut names = HashSet::new();
        let block = style == StructureStyle::Block;
        let mut around = Around::Flow;
        let mut open: Option<Range<usize>> = None;
        self.depth += 1;
        loop {
            let (event, at) = self.next()?;
            let start = at.start.byte_offset().unwrap_or(self.text.len());
            if let Some(sops) = open.take() {
                // They end where the next name begins, or with the document.
                let end = if matches!(event, Event::MappingEnd) { self.text.len() } else { start };
                self.places.sops = Some(sops.start..end);
            }
            let line = at.start.line();
            let name = match event {
                Event::MappingEnd => {
                    self.depth -= 1;
                    return Ok(members);
                }
                Event::Scalar(text, style, anchor, None) => {
                    no_anchor(anchor, at)?;
                    let is_text = style != ScalarStyle::Plain
                        || matches!(yaml::resolve(&text, Dialect::Kustomize), Resolved::Str);
                    if !is_text {
                        return Err(wrong(line, "a name is no text; put it in quotes"));
                    }
                    text.into_owned()
                }
                _ => return Err(wrong(line, "a name is no text")),
            };
            if block {
                around = Around::Mapping(at.start.col());
            }
            if !names.insert(name.clone()) {
                return Err(wrong(line, "a name stands twice in one mapping"));
            }
            let metadata = top && name == "sops";
            self.in_metadata |= metadata;
            if metadata && block && span.start.col() == 0 {
                open = Some(start..start);
            }
            let (event, span) = self.next()?;
            self.path.push(name);
            let value = self.node(event, span, around);
            let name = self.path.pop().unwrap_or_default();
            members.push((name, value?));
            if metadata {
                self.in_metadata = false;
            }
        }
    }

    /// Encrypted comments, with the paths that each may be bound to: that of a mapping or list around the value before
    /// it or after it.
    fn note_comments(&self, places: &mut Places) {
        if !self.noted {
            return;
        }
        for (start, _) in self.text.match_indices(COMMENT).take(MOST_COMMENTS) {
            let inside = |range: &Range<usize>| range.contains(&start);
            let after = places.leaves.partition_point(|place| place.bytes.start < start);
            let before = after.checked_sub(1).and_then(|at| places.leaves.get(at));
            if before.is_some_and(|place| inside(&place.bytes)) || places.sops.as_ref().is_some_and(inside) {
                continue;
            }
            let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
            let near = [after.checked_sub(1), Some(after)].into_iter().flatten().filter_map(|at| self.paths.get(at));
            let mut bounds: Vec<Vec<String>> =
                near.flat_map(|path| (0..=path.len()).map(|length| path[..length].to_vec())).collect();
            bounds.sort();
            bounds.dedup();
            places.comments.push(crate::tree::Noted { bytes: start + 1..end, bounds, opened: None });
        }
    }
}

fn no_anchor(anchor: usize, span: Span) -> Result<(), Error> {
    match anchor {
        0 => Ok(()),
        _ => Err(wrong(span.start.line(), "an anchor stands in it, and SOPS writes none; write the value out")),
    }
}

fn wrong(line: usize, why: &str) -> Error {
    Error::format(Format::Yaml, format!("line {line}: {why}"))
}

/// What a scalar is to go-yaml.
fn leaf(text: &str, style: ScalarStyle, tag: Option<&str>) -> Result<Leaf, &'static str> {
    let resolved = match (tag, style) {
        (None, ScalarStyle::Plain) | (Some("null" | "bool" | "int" | "float" | "timestamp"), _) => {
            yaml::resolve(text, Dialect::Kustomize)
        }
        (None | Some("str"), _) => Resolved::Str,
        _ => return Err("a value has a tag that is not read here"),
    };
    Ok(match resolved {
        Resolved::Null => Leaf::Null,
        Resolved::Bool(value) => Leaf::Bool(value),
        Resolved::Int(value) => Leaf::Int(value),
        Resolved::UInt(_) => return Err("a number is larger than SOPS takes"),
        Resolved::Float(value) if value.is_finite() => Leaf::Float(value),
        Resolved::Float(_) => return Err("a number is not finite"),
        Resolved::Timestamp => Leaf::Time(yaml::timestamp(text).ok_or("a time cannot be read")?),
        Resolved::Str => Leaf::Text(text.to_owned()),
    })
}

/// The text of the file with what was decrypted; nothing where that has no place in it.
pub(super) fn write(text: &str, documents: &[Document]) -> Option<String> {
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for document in documents {
        let places = document.places.as_ref()?;
        let mut leaves = Vec::new();
        gather(&document.root, &mut leaves);
        if leaves.len() != places.leaves.len() {
            return None;
        }
        for (leaf, place) in leaves.iter().zip(&places.leaves) {
            let source = text.get(place.bytes.clone())?;
            // What was not encrypted stays as it stands.
            if source.starts_with("ENC[") {
                let written = written(leaf, place.indent)?;
                changes.push((place.bytes.start..place.bytes.start + source.trim_end().len(), written));
            }
        }
        for comment in &places.comments {
            changes.extend(comment.opened.clone().map(|opened| (comment.bytes.clone(), opened)));
        }
        match (&document.sops, &places.sops) {
            (Some(_), Some(sops)) => changes.push((sops.clone(), String::new())),
            (Some(_), None) => return None,
            (None, _) => {}
        }
    }
    changes.sort_by_key(|(range, _)| range.start);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (range, new) in changes {
        out.push_str(text.get(at..range.start)?);
        out.push_str(&new);
        // A block brings the line feed of its last line.
        at = range.end + usize::from(new.ends_with('\n') && text[range.end..].starts_with('\n'));
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

fn gather<'t>(node: &'t Node, leaves: &mut Vec<&'t Leaf>) {
    match node {
        Node::Leaf(leaf) => leaves.push(leaf),
        Node::List(items) => items.iter().for_each(|item| gather(item, leaves)),
        Node::Map(members) => members.iter().for_each(|(_, member)| gather(member, leaves)),
    }
}

fn written(leaf: &Leaf, indent: Option<usize>) -> Option<String> {
    Some(match leaf {
        Leaf::Null => "null".to_owned(),
        Leaf::Bool(value) => value.to_string(),
        Leaf::Int(value) => value.to_string(),
        Leaf::Float(value) => yaml::general(*value),
        Leaf::Time(time) => time.clone(),
        Leaf::Text(text) => yaml::value_text(text, indent, STEP),
        Leaf::Bytes(_) | Leaf::Comment(_) => return None,
    })
}
