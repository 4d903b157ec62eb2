//! The kustomize build as a pure function: a map of files in, objects out. No I/O, no clock, no network.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]
#![allow(dead_code, unused_imports)] // the build that uses the rest of the tree type comes with the next commits

mod base64;
pub mod yaml;
