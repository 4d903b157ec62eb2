//! What wickie is told to do: Flux's kinds, from files and from the cluster, as written and then as used.
//!
//! ```text
//! files ──┐
//!         ├─► Declared (raw, as written) ─► validated types (as used)
//! cluster ┘
//! ```
//!
//! After this stage no text is parsed again: durations, references and limits are values. A field that Flux
//! understands and wickie does not is refused by name, never ignored.

mod crds;
mod declared;
pub mod duration;
mod error;
mod expressions;
pub mod files;
mod flux;
pub mod git;
pub mod git_access;
mod git_repository;
mod given_floors;
mod ignore;
mod kube_config;
mod kustomization;
mod max_age;
mod node;
pub mod notification;
pub mod receiver;
pub mod secret;
mod secrets;
mod verification;
pub mod version_range;

pub(crate) use crds::MANAGED_BY;
pub use crds::crds;
pub use declared::{Declared, annotation};
pub use error::Invalid;
pub use expressions::Dependency;
pub use files::{DEFAULT_NAMESPACE, Files, Problem};
pub use git_repository::GitRepository;
pub use given_floors::GivenFloors;
pub use ignore::{IgnoreRule, Ignoring};
pub use kube_config::KubeConfigRef;
pub use kustomization::{Decryption, HealthCheck, Kustomization, SubstituteFrom};
pub use max_age::{MaxAge, ParseMaxAgeError};
pub use node::NodeConfig;
pub use secrets::{Named, SecretData, SecretError, Secrets, ValuesKind, ValuesName, read_secret};
pub use verification::{SigningPolicy, Verification};

/// The Secrets that a declared object names.
pub fn secrets_named(declared: &Declared) -> Vec<Named> {
    match declared.resource.kind {
        wickie_model::ResourceKind::GitRepository => git_repository::named(declared),
        wickie_model::ResourceKind::Provider => notification::named(declared),
        wickie_model::ResourceKind::Receiver => receiver::named(declared),
        _ => Vec::new(),
    }
}
