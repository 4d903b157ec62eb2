//! What a plan needs to know of a manifest.

use wickie_model::Manifest;
use wickie_plan::{Desired, Ssa, ignore};

use crate::config::Ignoring;

/// Source of the marks: Flux, "Controlling the apply behavior of resources".
pub(super) fn desired(manifest: &Manifest, ignoring: &Ignoring) -> Desired {
    let mark = |name: &str| manifest.mark(&format!("kustomize.toolkit.fluxcd.io/{name}"));
    let ssa = match mark("ssa").map(str::to_ascii_lowercase).as_deref() {
        Some("merge") => Ssa::Merge,
        Some("ifnotpresent") => Ssa::IfNotPresent,
        Some("ignore") => Ssa::Ignore,
        _ => Ssa::Override,
    };
    let ignored = ignoring.of(manifest.body());
    Desired {
        version: manifest.gvk().version.clone(),
        digest: ignore::digest(manifest.digest(), &ignored),
        ssa,
        force: mark("force").is_some_and(|value| value.eq_ignore_ascii_case("enabled")),
        paused: mark("reconcile").is_some_and(|value| value.eq_ignore_ascii_case("disabled")),
        ignored,
    }
}
