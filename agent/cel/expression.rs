//! An expression that gives true or false.

use std::fmt;
use std::sync::Arc;

use cel::parser::PrattParser;
use serde_json::{Map, Value as Json};

use crate::eval::Evaluation;
use crate::lower;
use crate::node::Node;
use crate::refused::Refused;
use crate::value::Value;

/// The longest text, in bytes.
pub const MAX_LENGTH: usize = 4096;

/// How deep one thing may stand inside another.
pub const MAX_DEPTH: usize = 48;

/// How many macros may stand inside one another.
pub const MAX_NESTED_MACROS: usize = 4;

/// Which names an expression may use.
#[derive(Clone, Copy, Debug)]
pub enum Variables<'a> {
    /// The fields of an object, which are not known ahead.
    Fields,
    /// These alone.
    Only(&'a [&'a str]),
}

/// What the names stand for.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// The fields of this object.
    Fields(&'a Map<String, Json>),
    /// Each name with what it stands for.
    Named(&'a [(&'a str, &'a Json)]),
}

/// Why an evaluation gave neither true nor false.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such field: often only not yet.
    #[error("{0} is not there")]
    Missing(String),
    /// An operation that its operands do not have, or that failed.
    #[error("{0}")]
    Operation(String),
    /// It was more work than [`BUDGET`](crate::BUDGET).
    #[error("it is more work on this object than an expression may be; look at fewer items")]
    Budget,
}

impl Failure {
    pub(crate) fn overload(what: &str, operands: &[&Value<'_>]) -> Self {
        let types: Vec<_> = operands.iter().map(|value| value.type_name()).collect();
        Self::Operation(format!("{what} cannot be had of {}", types.join(" and ")))
    }
}

/// An expression that gives true or false, ready to be evaluated any number of times. A clone is the same expression.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    text: String,
    root: Node,
}

impl Expression {
    /// Reads an expression.
    pub fn new(text: &str, variables: Variables<'_>) -> Result<Self, Refused> {
        if text.len() > MAX_LENGTH {
            return Err(Refused::TooLong { length: text.len() });
        }
        let depth = u16::try_from(MAX_DEPTH).unwrap_or(u16::MAX);
        let parser = PrattParser::new().max_recursion_depth(depth).enable_optional_syntax(true);
        let parsed = parser.parse(text).map_err(|errors| {
            let first = errors.errors.into_iter().next();
            let (line, column) = first.as_ref().map_or((1, 1), |error| error.pos);
            Refused::Syntax { line, column, message: first.map(|error| error.msg).unwrap_or_default() }
        })?;
        let root = lower::lower(&parsed, variables)?;
        match root.kind() {
            None | Some("a bool") => Ok(Self(Arc::new(Inner { text: text.to_owned(), root }))),
            Some(kind) => Err(Refused::NotBoolean { kind }),
        }
    }

    /// Whether it is true in `scope`.
    ///
    /// # Errors
    ///
    /// It is neither true nor false: a field is not there, an operation is not one of its operands, or it is too much work.
    pub fn holds(&self, scope: Scope<'_>) -> Result<bool, Failure> {
        match Evaluation::new(scope).of(&self.0.root)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Failure::Operation(format!("it gives {}, and must give true or false", other.type_name()))),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0.text
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text).finish()
    }
}
