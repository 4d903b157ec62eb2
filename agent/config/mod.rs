//! Configuration: what was written becomes what is used, once.

pub mod git;
pub mod secret;
pub mod version_range;
