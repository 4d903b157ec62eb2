//! What to do next, for whoever has just been woken up.

use wickie_model::{ObjectId, ResourceKind, ResourceName, reason};

use crate::config::DEFAULT_NAMESPACE;

/// The next step for an object that is not ready, if there is one to take. `named` is how the command line names it.
pub(super) fn next_step(kind: ResourceKind, name: &ResourceName, reason: &str, suspended: bool) -> Option<String> {
    let named = named(kind, name);
    if suspended {
        return Some(format!("wickie resume {named}"));
    }
    let step = match (kind, reason) {
        (ResourceKind::GitRepository, reason::GIT_OPERATION_FAILED) => {
            format!("Check the network and spec.url, then: wickie reconcile {named}")
        }
        (ResourceKind::GitRepository, reason::AUTHENTICATION_FAILED) => {
            format!("Check the Secret that spec.secretRef names, then: wickie reconcile {named}")
        }
        (ResourceKind::GitRepository, reason::INVALID_COMMIT_SIGNATURE | reason::VERIFICATION_ERROR) => {
            "Nothing of that commit was applied. Have it signed by a key that spec.verify names, or revert it in Git"
                .to_owned()
        }
        (ResourceKind::GitRepository, reason::ARTIFACT_FAILED) => {
            format!("It goes on by itself; to have it asked now: wickie reconcile {named}")
        }
        (_, reason::INVALID_SPEC | reason::ACCESS_DENIED) => {
            format!("Mend the spec of {named}: the message names the field")
        }
        (_, reason::OUTSIDE_WINDOW) => {
            format!("It is applied by itself when its window opens. See: wickie diff {named}")
        }
        (_, reason::DEPENDENCY_NOT_READY) => "It goes on by itself when what it depends on is ready".to_owned(),
        (_, reason::ARTIFACT_FAILED) => "It waits for its source: see there".to_owned(),
        (_, reason::BUILD_FAILED) => {
            format!("Mend the manifest in Git; what was applied before stays. See: wickie events {named}")
        }
        (_, reason::HEALTH_CHECK_FAILED) => {
            format!("See what keeps them from it with kubectl describe, then: wickie reconcile {named}")
        }
        (_, reason::ROLLED_BACK) => format!(
            "Mend it in Git with a newer commit; or, to follow the newest revision all the same: wickie rollback {named} --resume"
        ),
        (_, reason::PRUNE_FAILED) => format!("Nothing more is deleted until then. See: wickie diff {named}"),
        (_, reason::RECONCILIATION_FAILED) => format!("It is tried again by itself. See: wickie events {named}"),
        _ => return None,
    };
    Some(step)
}

/// The command that shows what is wrong with an object.
pub(super) fn look_at(object: &ObjectId) -> String {
    let namespace = if object.namespace.is_empty() { String::new() } else { format!(" -n {}", object.namespace) };
    let group = if object.group.is_empty() { String::new() } else { format!(".{}", object.group) };
    format!("kubectl{namespace} describe {}{group} {}", object.kind.to_lowercase(), object.name)
}

/// How the command line names an object: `shop`, `source/fleet`, `-n apps shop`.
pub(crate) fn named(kind: ResourceKind, name: &ResourceName) -> String {
    let prefix = match kind {
        ResourceKind::Kustomization => String::new(),
        ResourceKind::GitRepository => "source/".to_owned(),
        other => format!("{}/", other.as_str().to_lowercase()),
    };
    let namespace = if name.namespace == DEFAULT_NAMESPACE { String::new() } else { format!("-n {} ", name.namespace) };
    format!("{namespace}{prefix}{}", name.name)
}
