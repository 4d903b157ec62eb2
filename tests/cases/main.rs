//! The agent on real parts: one binary, so that all cases share one control plane.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking, also in its helpers")]

mod adoption;
mod api_trouble;
mod cluster_input;
mod doctor;
mod expressions;
mod first_words;
mod floors;
mod flux_command;
mod flux_fields;
mod flux_table;
mod frugal;
mod converges;
mod crash;
mod decryption;
mod heard;
mod install;
mod late_alerts;
mod link;
mod listen;
mod lease;
mod main_job;
mod migration;
mod neighbours;
mod node;
mod objects;
mod own;
mod reach;
mod release;
mod remote;
mod rebuild;
mod reports;
mod restored;
mod rollback;
mod systemd;
mod trust;
mod upgrade;
mod values;
mod ways_in;
mod windows;
