//! An expression as it is evaluated: names are resolved, macros are what they were written as.

use crate::functions::Function;
use crate::operators::Operator;

#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// A variable, or the name of a type where there is no such variable.
    Root(String),
    /// The variable of a macro: how many of them stand between.
    Local(usize),
    Select {
        of: Box<Node>,
        field: String,
    },
    /// `has(of.field)`
    Has {
        of: Box<Node>,
        field: String,
    },
    /// `of.?field`, `of[?key]`
    OptionalIndex {
        of: Box<Node>,
        key: Box<Node>,
    },
    Not(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    Operation(Operator, Box<[Node; 2]>),
    Negate(Box<Node>),
    Call(Function, Vec<Node>),
    /// `matches` with a pattern that was known ahead.
    Matches(Box<Node>, Box<regex::Regex>),
    /// The flag of an item: whether it is an optional one, `[?a]`.
    List(Vec<(Node, bool)>),
    /// The flag of an entry: whether it is an optional one, `{?'a': b}`.
    Map(Vec<(Node, Node, bool)>),
    Fold(Box<Fold>),
}

/// `over.kind(x, test, item)`
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) over: Node,
    pub(crate) test: Option<Node>,
    /// What `map` makes of an item; nothing for `filter`, which takes it as it is.
    pub(crate) item: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `map` and `filter`
    Collect,
}

impl Node {
    /// What it gives, where that is certain.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Null => Some("null"),
            Self::Bool(_) | Self::Has { .. } | Self::Not(_) | Self::And(_) | Self::Or(_) | Self::Matches(..) => {
                Some("a bool")
            }
            Self::Int(_) => Some("an int"),
            Self::Uint(_) => Some("a uint"),
            Self::Double(_) => Some("a double"),
            Self::Text(_) => Some("a string"),
            Self::Bytes(_) => Some("bytes"),
            Self::OptionalIndex { .. } => Some("an optional"),
            Self::Operation(operator, _) => operator.kind(),
            Self::Negate(_) => Some("a number"),
            Self::Call(function, _) => function.kind(),
            Self::List(_) => Some("a list"),
            Self::Map(_) => Some("a map"),
            Self::Fold(fold) if fold.kind == FoldKind::Collect => Some("a list"),
            Self::Fold(_) => Some("a bool"),
            Self::Conditional(nodes) => nodes[1].kind().filter(|kind| nodes[2].kind() == Some(kind)),
            Self::Root(_) | Self::Local(_) | Self::Select { .. } => None,
        }
    }
}
