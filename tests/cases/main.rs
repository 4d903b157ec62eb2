//! The agent on real parts: one binary, so that all cases share one control plane.

mod main_job;
mod node;
