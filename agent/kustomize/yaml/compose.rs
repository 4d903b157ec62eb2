//! Parser events become trees.
//!
//! Anchors are expanded and merge keys (`<<`) resolved while composing, so that nothing after this knows them. For
//! kustomize a key that stands beside `<<` wins over the merged one, wherever it stands; for kubectl only if it stands
//! after it. What an input may cost is bounded by [`Budget`]: a file of a few hundred bytes can name billions of nodes
//! through nested aliases.

use super::error::{Fault, YamlError};
use super::node::{Map, Node, Scalar, Tag};
use super::scalar::{Dialect, Resolved, resolve, tag_of};
use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};
use std::collections::{HashMap, HashSet};

/// How much one file may ask for.
pub(crate) struct Budget {
    /// Nodes in all documents of a file.
    nodes: usize,
    /// Nodes that aliases copy.
    alias_nodes: usize,
    /// Bytes of text that aliases copy.
    alias_bytes: usize,
}

/// Well above any manifest seen in the wild (a bundle of every Prometheus CRD is 300,000 nodes).
const BUDGET: Budget = Budget { nodes: 2_000_000, alias_nodes: 400_000, alias_bytes: 32 << 20 };

/// A document with its place in the file.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Counted from nought over all documents of the file, empty ones too.
    pub(crate) index: usize,
    /// The line on which its first node stands, from 1.
    pub(crate) line: usize,
    /// Its root.
    pub(crate) root: Node,
}

/// Called for each node with a path such as `spec.ports[0].name` and its line; used to place errors.
pub(crate) type Watcher<'a> = &'a mut dyn FnMut(&str, usize);

struct Composer<'t, 'w> {
    file: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    dialect: Dialect,
    /// Whether a text in quotes may hold a separator that is not escaped: in single quotes, in double quotes.
    separators: (bool, bool),
    budget: Budget,
    document: usize,
    /// How many collections are open.
    depth: usize,
    anchors: HashMap<usize, (Node, Weight)>,
    path: String,
    watcher: Option<Watcher<'w>>,
}

#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

/// All documents of a file that are not empty.
pub(crate) fn trees(file: &str, bytes: &[u8], dialect: Dialect) -> Result<Vec<Tree>, YamlError> {
    watched(file, bytes, dialect, None)
}

/// The same, telling `watcher` where each node stands.
pub(crate) fn watched(
    file: &str,
    bytes: &[u8],
    dialect: Dialect,
    watcher: Option<Watcher<'_>>,
) -> Result<Vec<Tree>, YamlError> {
    let text = super::decode::text(file, bytes)?;
    let options = granit_parser::options! {
        block_scalar_eof_without_line_feed: true,
        emit_comments: false,
    };
    let parser = Parser::new_from_str_with_options(&text, options);
    let composer = Composer {
        file,
        parser,
        dialect,
        separators: super::decode::separators(&text),
        budget: BUDGET,
        document: 0,
        depth: 0,
        anchors: HashMap::new(),
        path: String::new(),
        watcher,
    };
    composer.run()
}

impl<'t> Composer<'t, '_> {
    fn run(mut self) -> Result<Vec<Tree>, YamlError> {
        let mut trees = Vec::new();
        loop {
            let (event, _) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(trees),
                Event::DocumentStart(..) => {
                    self.anchors.clear();
                    let (event, span) = self.next()?;
                    if matches!(event, Event::DocumentEnd) {
                        self.document += 1;
                        continue;
                    }
                    let line = span.start.line();
                    let root = self.node(event, span)?;
                    if !root.is_null() {
                        trees.push(Tree { index: self.document, line, root });
                    }
                }
                Event::DocumentEnd => self.document += 1,
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.fault(*error.marker(), Fault::Syntax(error.info()))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn fault(&self, at: Marker, fault: Fault) -> YamlError {
        YamlError::new(self.file, self.document, at.line(), at.col() + 1, fault)
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, YamlError> {
        if self.budget.nodes == 0 {
            return Err(self.fault(span.start, Fault::TooLarge));
        }
        self.budget.nodes -= 1;
        if let Some(watcher) = &mut self.watcher {
            watcher(&self.path, span.start.line());
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().and_then(written_tag);
                // The parser shows a missing value as `~`; kustomize tells the two apart.
                let text = if span.is_empty() && text == "~" { "".into() } else { text };
                let scalar = self.scalar(&text, style, tag.as_deref(), span.start)?;
                Ok(self.anchored(anchor, Node::Scalar(scalar)))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.depth += 1;
                let items = self.sequence()?;
                self.depth -= 1;
                Ok(self.anchored(anchor, Node::Seq(items)))
            }
            Event::MappingStart(_, anchor, _) => {
                self.depth += 1;
                let map = self.mapping()?;
                self.depth -= 1;
                Ok(self.anchored(anchor, Node::Map(map)))
            }
            Event::Alias(anchor) => self.alias(anchor, span.start),
            _ => Err(self.fault(span.start, Fault::Syntax("a value was expected here".to_owned()))),
        }
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Node {
        if anchor != 0 {
            let weight = weigh(&node);
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        node
    }

    fn alias(&mut self, anchor: usize, at: Marker) -> Result<Node, YamlError> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(self.fault(at, Fault::Recursive));
        };
        let left =
            (self.budget.alias_nodes.checked_sub(weight.nodes), self.budget.alias_bytes.checked_sub(weight.bytes));
        let (Some(nodes), Some(bytes)) = left else {
            return Err(self.fault(at, Fault::Bomb));
        };
        (self.budget.alias_nodes, self.budget.alias_bytes) = (nodes, bytes);
        Ok(node.clone())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&str>, at: Marker) -> Result<Scalar, YamlError> {
        let folds = match style {
            ScalarStyle::SingleQuoted => self.separators.0,
            ScalarStyle::DoubleQuoted => self.separators.1,
            _ => false,
        };
        let text = &*if folds { super::decode::folded(text) } else { text.into() };
        let wrong = |tag: &str| self.fault(at, Fault::Tag { tag: tag.to_owned(), text: text.to_owned() });
        let tag = match tag {
            None if style == ScalarStyle::Plain => tag_of(&resolve(text, self.dialect)),
            None | Some("!" | "!!str") => Tag::Str,
            Some("!!binary") => {
                // Both readers decode the bytes and take them for text.
                let text = super::decode::binary(text).ok_or_else(|| wrong("!!binary"))?;
                return Ok(Scalar::text(text));
            }
            Some(tag) => {
                let resolved = resolve(text, self.dialect);
                match (tag, tag_of(&resolved)) {
                    ("!!null", Tag::Null) => Tag::Null,
                    ("!!bool", Tag::Bool) => Tag::Bool,
                    ("!!int", Tag::Int) => Tag::Int,
                    ("!!float", Tag::Int | Tag::Float) => Tag::Float,
                    ("!!timestamp", Tag::Timestamp) => Tag::Timestamp,
                    ("!!null" | "!!bool" | "!!int" | "!!float" | "!!timestamp", _) => {
                        return Err(wrong(tag));
                    }
                    // A tag of an application's own: go-yaml hands the text on as text.
                    _ => Tag::Str,
                }
            }
        };
        Ok(Scalar { quoted: style != ScalarStyle::Plain, ..Scalar::new(tag, normal(tag, text, self.dialect)) })
    }

    fn sequence(&mut self) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        let parent = self.path.len();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            if self.watcher.is_some() {
                self.path.push_str(&format!("[{}]", items.len()));
            }
            items.push(self.node(event, span)?);
            self.path.truncate(parent);
        }
    }

    fn mapping(&mut self) -> Result<Map, YamlError> {
        let mut map = Map::new();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        // Each source of a merge with the number of keys that stand before its `<<`.
        let mut merged: Vec<(usize, Map)> = Vec::new();
        let parent = self.path.len();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let at = span.start;
            let key = self.key(event, at)?;
            if self.watcher.is_some() {
                if parent > 0 {
                    self.path.push('.');
                }
                self.path.push_str(key.as_deref().unwrap_or("<<"));
            }
            let (event, span) = self.next()?;
            let value_at = span.start;
            let value = self.node(event, span)?;
            self.path.truncate(parent);
            match key {
                None => {
                    let sources = self.merge_sources(value, value_at)?;
                    merged.extend(sources.into_iter().map(|source| (map.len(), source)));
                }
                Some(key) => {
                    if is_new(&map, &mut seen, &key) {
                        map.push(key, value);
                    } else {
                        return Err(self.fault(at, Fault::Duplicate(key.into())));
                    }
                }
            }
        }
        let mut settled = HashSet::new();
        for (before, source) in merged {
            for (key, value) in source {
                if is_new(&map, &mut seen, &key) {
                    settled.insert(key.clone());
                    map.push(key, value);
                } else if self.dialect != Dialect::Kustomize
                    && map.position(&key).is_some_and(|at| at < before)
                    && settled.insert(key.clone())
                {
                    // go-yaml 2 merges where `<<` stands: over the keys before it, under those after it.
                    map.insert(&key, value);
                }
            }
        }
        Ok(map)
    }

    /// The text of a key; none for the merge key.
    fn key(&mut self, event: Event<'t>, at: Marker) -> Result<Option<Box<str>>, YamlError> {
        if let Event::Scalar(text, ScalarStyle::Plain, 0, None) = &event
            && text == "<<"
        {
            return Ok(None);
        }
        // Keys are not told to the watcher: they have the path of their mapping.
        let watcher = self.watcher.take();
        let node = self.node(event, Span::empty(at));
        self.watcher = watcher;
        match node? {
            Node::Scalar(Scalar { tag: Tag::Str, text, .. }) => Ok(Some(text)),
            Node::Scalar(scalar) => {
                self.key_text(&scalar).map(Some).ok_or_else(|| self.fault(at, Fault::Key(scalar.text.into())))
            }
            _ => Err(self.fault(at, Fault::Key("a collection".to_owned()))),
        }
    }

    /// kubectl turns numbers and booleans in key position into text (`convertToJSONableObject` in sigs.k8s.io/yaml);
    /// kustomize does so at the top of a document only, and fails on them below.
    fn key_text(&self, scalar: &Scalar) -> Option<Box<str>> {
        match self.dialect {
            Dialect::Kubernetes => {}
            Dialect::KustomizationFile => return None,
            Dialect::Kustomize => return (self.depth == 1).then(|| scalar.text.clone()),
        }
        match resolve(&scalar.text, self.dialect) {
            Resolved::Bool(value) => Some(value.to_string().into()),
            Resolved::Int(value) => Some(value.to_string().into()),
            Resolved::Float(value) => Some(super::number::shortest_single(value).into()),
            _ => None,
        }
    }

    fn merge_sources(&self, value: Node, at: Marker) -> Result<Vec<Map>, YamlError> {
        let items = match value {
            Node::Map(map) => return Ok(vec![map]),
            Node::Seq(items) => items,
            Node::Scalar(_) => return Err(self.fault(at, Fault::Merge)),
        };
        items
            .into_iter()
            .map(|item| match item {
                Node::Map(map) => Ok(map),
                _ => Err(self.fault(at, Fault::Merge)),
            })
            .collect()
    }
}

/// Small maps are searched, large ones get a set on the way.
fn is_new(map: &Map, seen: &mut HashSet<Box<str>>, key: &str) -> bool {
    const SMALL: usize = 16;
    if map.len() < SMALL {
        return !map.contains(key);
    }
    if seen.is_empty() {
        seen.extend(map.iter().map(|(key, _)| Box::from(key)));
    }
    seen.insert(key.into())
}

/// `!!int` and the like; none where the tag says nothing.
fn written_tag(tag: &granit_parser::Tag) -> Option<String> {
    if let Some(core) = tag.suffix_in_namespace("tag:yaml.org,2002:") {
        return Some(format!("!!{core}"));
    }
    Some(format!("{}{}", tag.handle(), tag.suffix()))
}

/// YAML 1.1 booleans are kept in the one spelling that every reader shares.
fn normal(tag: Tag, text: &str, dialect: Dialect) -> Box<str> {
    match (tag, dialect) {
        (Tag::Bool, Dialect::Kubernetes | Dialect::KustomizationFile) => match resolve(text, dialect) {
            Resolved::Bool(true) => "true".into(),
            _ => "false".into(),
        },
        _ => text.into(),
    }
}

fn weigh(node: &Node) -> Weight {
    let mut total = Weight { nodes: 1, bytes: 0 };
    let mut add = |weight: Weight| {
        total.nodes += weight.nodes;
        total.bytes += weight.bytes;
    };
    match node {
        Node::Scalar(scalar) => add(Weight { nodes: 0, bytes: scalar.text.len() }),
        Node::Seq(items) => items.iter().for_each(|item| add(weigh(item))),
        Node::Map(map) => map.iter().for_each(|(key, value)| {
            add(Weight { nodes: 0, bytes: key.len() });
            add(weigh(value));
        }),
    }
    total
}
