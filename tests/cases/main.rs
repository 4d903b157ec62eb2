//! The agent on real parts: one binary, so that all cases share one control plane.

#![allow(clippy::unwrap_used, reason = "tests")]

mod api_trouble;
mod crash;
mod heard;
mod main_job;
mod node;
mod reports;
mod trust;
