//! The agent on real parts: one binary, so that all cases share one control plane.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking, also in its helpers")]

mod adoption;
mod api_trouble;
mod cluster_input;
mod first_words;
mod floors;
mod frugal;
mod crash;
mod decryption;
mod heard;
mod late_alerts;
mod link;
mod listen;
mod main_job;
mod neighbours;
mod node;
mod objects;
mod reach;
mod rebuild;
mod reports;
mod rollback;
mod trust;
mod values;
mod ways_in;
