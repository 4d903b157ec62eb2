//! Patches: strategic merge and RFC 6902.

mod directive;
pub(crate) mod json;
mod list;
mod merge;

pub(crate) use merge::merge;
