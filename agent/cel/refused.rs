//! Why an expression is not taken.

use crate::expression::{MAX_DEPTH, MAX_LENGTH, MAX_NESTED_MACROS};

/// Why an expression is not taken. The message says where, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is longer than [`MAX_LENGTH`].
    #[error("is {length} bytes long, and at most {MAX_LENGTH} are taken; split it")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is nested deeper than [`MAX_DEPTH`].
    #[error("is nested deeper than {MAX_DEPTH} levels; make it flatter")]
    TooDeep,
    /// Macros stand inside one another more than [`MAX_NESTED_MACROS`] deep.
    #[error("has more than {MAX_NESTED_MACROS} macros such as all() inside one another; make it flatter")]
    TooManyNested,
    /// It is no expression of the language.
    #[error("is not CEL: line {line}, column {column}: {message}")]
    Syntax {
        /// Counted from 1.
        line: isize,
        /// Counted from 1, in bytes.
        column: isize,
        /// What the parser says.
        message: String,
    },
    /// It calls what is not supported.
    #[error("calls {name}(), which is not supported with {arguments} arguments there; {way_out}")]
    Function {
        /// As it is written, its target's name included where that is a library's.
        name: String,
        /// How many it was given.
        arguments: usize,
        /// What to do instead.
        way_out: &'static str,
    },
    /// It names a variable that there is not.
    #[error("names {name}, which is no variable there; there are {known}")]
    Variable {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// A regular expression in it cannot be used.
    #[error("has the pattern {pattern:?}, which cannot be used: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// Syntax that is left out.
    #[error("has {what}, which is not supported")]
    Syntactic {
        /// What it is.
        what: &'static str,
    },
    /// It cannot give true or false.
    #[error("gives {kind}, and must give true or false")]
    NotBoolean {
        /// What it gives.
        kind: &'static str,
    },
}
