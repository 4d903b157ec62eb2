//! The tree that a document is while it is built.
//!
//! A scalar keeps its text beside its tag, as the YAML library beneath kustomize does: a replacement may copy the
//! text `1.10` out of a float and into a string, and the trailing nought must survive that.

/// One YAML value. Maps keep the order in which they were written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Anything without children, also null.
    Scalar(Scalar),
    /// A mapping with text keys.
    Map(Map),
    /// A sequence.
    Seq(Vec<Node>),
}

/// A scalar: its text as written and what that text is.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// What the text stands for.
    pub(crate) tag: Tag,
    /// Whether it stood in quotes or in a block. kustomize carries this over to some of the values it writes there,
    /// and then it decides whether `12` is text or a number.
    pub(crate) quoted: bool,
    /// Whether the type follows the text: kustomize writes some values without a type.
    pub(crate) untagged: bool,
    /// Places of one object that hold one value: kustomize writes a label into metadata, selector and template as one
    /// node, so that a later change of one changes all. Nought for a value of its own.
    pub(crate) shared: u32,
    /// The text after unquoting.
    pub(crate) text: Box<str>,
}

/// Two scalars are equal when they mean the same, however they are written.
impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.tag == other.tag && self.text == other.text
    }
}

/// The core types of YAML 1.2 and the two that 1.1 adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool,
    /// An integer in any notation.
    Int,
    /// A number with a fraction or an exponent.
    Float,
    /// Text.
    Str,
    /// A date, with or without a time.
    Timestamp,
}

/// A mapping in the order of its keys' first appearance.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Map {
    entries: Vec<(Box<str>, Node)>,
}

impl Scalar {
    /// A scalar of a known type.
    pub(crate) fn new(tag: Tag, text: impl Into<Box<str>>) -> Scalar {
        Scalar { tag, quoted: false, untagged: false, shared: 0, text: text.into() }
    }

    /// Text that is text, whatever it looks like.
    pub(crate) fn text(text: impl Into<Box<str>>) -> Scalar {
        Scalar::new(Tag::Str, text)
    }

    /// Text as it would be read from a file without quotes; whatever is written over it is read the same way.
    pub(crate) fn plain(text: impl Into<Box<str>>) -> Scalar {
        let text = text.into();
        Scalar { untagged: true, ..Scalar::new(super::scalar::plain_tag(&text), text) }
    }

    /// Overwrites the text and lets the new text say what it is, unless the old one stood in quotes. This is how
    /// kustomize sets names and images.
    pub(crate) fn retext(&mut self, text: &str) {
        self.tag = if self.quoted { Tag::Str } else { super::scalar::plain_tag(text) };
        self.untagged = true;
        self.text = text.into();
    }

    /// Overwrites the text alone: a number stays one, whatever the text now says.
    pub(crate) fn overwrite(&mut self, text: &str) {
        if self.untagged {
            self.retext(text);
        } else {
            self.text = text.into();
        }
    }

    /// Makes text of a value that was written over one in quotes: the quotes stay, and the type is read from the result.
    pub(crate) fn keep_quotes(&mut self) {
        if self.quoted && super::scalar::plain_tag(&self.text) == self.tag {
            self.tag = Tag::Str;
        }
    }

    /// Makes text of a value that was written without a type and looks like something else. A strategic merge does so
    /// to every member it passes.
    pub(crate) fn settle(&mut self) {
        if self.untagged && !self.quoted && self.tag != Tag::Str {
            (self.quoted, self.tag) = (true, Tag::Str);
        }
    }

    /// Takes over what another says, in its own place.
    pub(crate) fn assign(&mut self, other: &Scalar) {
        self.tag = other.tag;
        self.untagged = other.untagged;
        self.text.clone_from(&other.text);
    }
}

impl Node {
    /// Text that is text, whatever it looks like.
    pub(crate) fn text(text: impl Into<Box<str>>) -> Node {
        Node::Scalar(Scalar::text(text))
    }

    /// Text as it would be read from a file without quotes.
    pub(crate) fn plain(text: impl Into<Box<str>>) -> Node {
        Node::Scalar(Scalar::plain(text))
    }

    /// An explicit null.
    pub(crate) fn null() -> Node {
        Node::Scalar(Scalar::new(Tag::Null, "null"))
    }

    /// Whether this is a null scalar.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Node::Scalar(Scalar { tag: Tag::Null, .. }))
    }

    /// Null, or a map or sequence without members, or empty text.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Node::Scalar(scalar) => scalar.tag == Tag::Null || scalar.text.is_empty(),
            Node::Map(map) => map.is_empty(),
            Node::Seq(items) => items.is_empty(),
        }
    }

    /// The mapping, if it is one.
    pub(crate) fn as_map(&self) -> Option<&Map> {
        match self {
            Node::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The mapping, if it is one.
    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Node::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The sequence, if it is one.
    pub(crate) fn as_seq(&self) -> Option<&[Node]> {
        match self {
            Node::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// The sequence, if it is one.
    pub(crate) fn as_seq_mut(&mut self) -> Option<&mut Vec<Node>> {
        match self {
            Node::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a scalar of any tag.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Node::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Calls `see` with every scalar, members in the order of their names.
    pub(crate) fn scalars(&self, see: &mut dyn FnMut(&Scalar)) {
        match self {
            Node::Scalar(scalar) => see(scalar),
            Node::Seq(items) => items.iter().for_each(|item| item.scalars(see)),
            Node::Map(map) => {
                let mut members: Vec<_> = map.iter().collect();
                members.sort_by_key(|(key, _)| *key);
                members.into_iter().for_each(|(_, value)| value.scalars(see));
            }
        }
    }

    /// Calls `change` with every scalar.
    pub(crate) fn scalars_mut(&mut self, change: &mut dyn FnMut(&mut Scalar)) {
        match self {
            Node::Scalar(scalar) => change(scalar),
            Node::Seq(items) => items.iter_mut().for_each(|item| item.scalars_mut(change)),
            Node::Map(map) => map.iter_mut().for_each(|(_, value)| value.scalars_mut(change)),
        }
    }

    /// Makes every value one of its own: what is copied elsewhere shares nothing.
    pub(crate) fn unshare(&mut self) {
        self.scalars_mut(&mut |scalar| scalar.shared = 0);
    }

    /// A word for messages.
    pub(crate) fn kind_word(&self) -> &'static str {
        match self {
            Node::Scalar(scalar) if scalar.tag == Tag::Null => "null",
            Node::Scalar(_) => "a scalar",
            Node::Map(_) => "a mapping",
            Node::Seq(_) => "a sequence",
        }
    }

    /// The value under `key`, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// The value at the end of `path`, through mappings only.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The value at the end of `path`, through mappings only.
    pub(crate) fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, key| node.as_map_mut()?.get_mut(key))
    }
}

impl Map {
    /// A mapping without members.
    pub(crate) fn new() -> Map {
        Map::default()
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    /// The value under `key`.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    /// The place of a member.
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(name, _)| &**name == key)
    }

    /// Whether there is a member of this name.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets `key`, in its place if it was there and else at the end.
    pub(crate) fn insert(&mut self, key: &str, value: Node) {
        match self.get_mut(key) {
            Some(old) => *old = value,
            None => self.entries.push((key.into(), value)),
        }
    }

    /// Adds a member that is known to be new.
    pub(crate) fn push(&mut self, key: impl Into<Box<str>>, value: Node) {
        self.entries.push((key.into(), value));
    }

    /// Takes the member out.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.entries.iter().position(|(name, _)| &**name == key)?;
        Some(self.entries.remove(at).1)
    }

    /// The mapping under `key`, made when it is missing or null; none if something else stands there.
    pub(crate) fn map_at(&mut self, key: &str) -> Option<&mut Map> {
        if self.get(key).is_none_or(Node::is_null) {
            self.insert(key, Node::Map(Map::new()));
        }
        self.get_mut(key)?.as_map_mut()
    }

    /// The members in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// The members in order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.entries.iter_mut().map(|(key, value)| (&**key, value))
    }
}

impl IntoIterator for Map {
    type Item = (Box<str>, Node);
    type IntoIter = std::vec::IntoIter<(Box<str>, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl FromIterator<(Box<str>, Node)> for Map {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Node)>>(members: I) -> Map {
        Map { entries: members.into_iter().collect() }
    }
}
