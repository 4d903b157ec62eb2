//! The Git stage against the real git: `git http-backend` serves what the real git made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by failing")]

mod accept;
mod access;
mod attacks;
mod believe;
mod certificates;
mod differential;
mod formats;
mod frugal;
mod gitea;
mod local;
mod include;
mod policy;
mod room;
mod share;
mod ssh;
mod submodules;
mod sparse;
mod transport;
mod trust_file;
mod world;
