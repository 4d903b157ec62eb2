//! The kustomize build as a pure function: a tree of files in, objects out. No I/O of its own, no clock, no network.
//!
//! ```text
//! files -> kustomization -> accumulate (resources, generate, transform) -> entry -> objects -> yaml
//! ```
//!
//! The rules are those of kustomize 5.8.1 (`sigs.k8s.io/kustomize/api` v0.21.1, `kyaml` v0.21.1), quirks included: what
//! counts is that a folder builds to the same objects here and there. Each module names the part of kustomize it
//! answers for.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod yaml;

mod accumulate;
mod config;
mod configuration;
mod crds;
mod entry;
mod error;
mod fieldspec;
mod files;
mod flux;
mod generate;
mod id;
mod kustomization;
mod metadata;
mod order;
mod partial;
mod patch;
mod path;
mod resource;
mod resources;
mod schema;
mod select;
mod steps;
mod substitute;
mod transform;

pub use entry::{Object, Options, Order, build, file_names, to_yaml};
pub use error::{Error, PathProblem, Place, Refusal, Source};
pub use files::{Files, Found, LoadRestrictor, Tree, Unreadable, is_repository as is_remote};
pub use flux::{
    Ahead, FluxImage, FluxOverlay, FluxPatch, FluxSelector, FluxTarget, SecretSource, SourceUse, build_flux,
    reach_flux, secret_sources, set_common_metadata,
};
pub use partial::Partial;
pub use substitute::{SubstituteError, Substitution};
