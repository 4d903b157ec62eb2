//! Expressions of the [Common Expression Language](https://cel.dev) over Kubernetes objects, as Flux takes them.
//!
//! ```text
//!  text ─► (cel: parse, expand macros) ─► lower: refuse by name what is not supported ─► Expression
//!                                              object ─► Expression::holds ─► true, false, or why neither
//! ```
//!
//! An expression is written by whoever may write a Kustomization, and is evaluated on one thread that everything else
//! waits for. So three things are bounded: the text ([`MAX_LENGTH`]), its nesting ([`MAX_DEPTH`], [`MAX_NESTED_MACROS`]),
//! and the work of one evaluation ([`BUDGET`]), which counts nodes, items and bytes, and so bounds memory too. The crate
//! `cel` has an evaluator, but it counts nothing, and copies an object before it looks at it: its parser alone is taken.
//! Of its two parsers it is the one written by hand, which needs neither a grammar at run time nor its memory; the tests
//! hold it against the other, and this evaluator against that one.
//!
//! The language is that of Flux's environment: the standard macros and operators, comparison across number types,
//! optional values, and the extensions strings, sets and encoders. Left out, and refused by name: times and durations,
//! `optMap`, `optFlatMap`, `format`, `quote`, and the construction of messages. Types are not checked ahead, but for an
//! expression that can be no boolean.
//!
//! Sources: `fluxcd/pkg/runtime/cel/expression.go`, and cel-spec's `doc/langdef.md`.

mod budget;
mod equal;
mod eval;
mod expression;
mod functions;
mod lower;
mod node;
mod operators;
mod refused;
mod strings;
mod value;

pub use budget::BUDGET;
pub use expression::{Expression, Failure, MAX_DEPTH, MAX_LENGTH, MAX_NESTED_MACROS, Scope, Variables};
pub use refused::Refused;

#[cfg(test)]
mod tests;
