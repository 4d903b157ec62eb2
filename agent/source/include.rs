//! Included snapshots: other sources, mounted into this one.
//!
//! Source: `spec.include` of Flux's GitRepository (`fetchIncludes`, `reconcileInclude` in source-controller). What is
//! copied there is mounted here: the included source's files as its own ignore patterns and `sparseCheckout` leave them,
//! verified as its own spec says, from `fromPath` (its root) to `toPath` (the name of the source). What stands at `toPath`
//! already is an error, as is a `fromPath` that is not there. The ignore patterns of the including source count for them
//! too. A source that includes itself, by however many steps, is refused.

use super::error::SourceError;
use super::snapshot::{Found, Snapshot};
use super::{Git, scope};
use crate::config::git::{GitSource, Include};

/// An included snapshot.
#[derive(Clone)]
pub(crate) struct Mount {
    /// The folder or file it stands at, as a clean path.
    pub(crate) at: String,
    /// The folder or file of it that is taken.
    pub(crate) from: String,
    pub(crate) snapshot: Snapshot,
}

/// How many includes may lie within each other.
const DEEPEST: usize = 10;

impl Mount {
    /// The path within the included snapshot of something that lies at or below the mount.
    pub(crate) fn within(&self, path: &str) -> Option<String> {
        moved(path, &self.at, &self.from)
    }

    /// The path of something in the included snapshot; `None` for what is not taken of it.
    pub(crate) fn without(&self, path: &str) -> Option<String> {
        moved(path, &self.from, &self.at)
    }

    /// Whether the mount lies below this folder.
    pub(crate) fn lies_in(&self, folder: &str) -> bool {
        moved(&self.at, folder, "").is_some()
    }
}

/// The path from `from` on, below `to`; `None` where it is not below `from`.
fn moved(path: &str, from: &str, to: &str) -> Option<String> {
    let mut path = scope::names(path);
    for name in scope::names(from) {
        if path.next() != Some(name) {
            return None;
        }
    }
    Some(scope::names(to).chain(path).collect::<Vec<_>>().join("/"))
}

impl Include {
    /// The path within the included source of something that lies at or below where it is put.
    pub(crate) fn inside(&self, path: &str) -> Option<String> {
        moved(path, &self.to, &self.from)
    }
}

impl Git {
    /// A snapshot with all that its source includes.
    pub(super) async fn with_includes(&self, source: &GitSource, own: Snapshot) -> Result<Snapshot, SourceError> {
        let mut mounts: Vec<Mount> = Vec::new();
        for include in &source.include {
            let failed = |reason, why: String| SourceError::Include { name: include.name.clone(), reason, why };
            let included = Box::pin(self.included(source, include)).await?;
            let at = scope::names(&include.to).collect::<Vec<_>>().join("/");
            let from = scope::names(&include.from).collect::<Vec<_>>().join("/");
            if at.is_empty() || [&at, &from].iter().any(|path| path.split('/').any(|name| name == "..")) {
                let why = format!("toPath {:?} and fromPath {:?} must stay within", include.to, include.from);
                return Err(failed("IllegalPath", why));
            }
            match included.look(&from).await? {
                Found::File(_) | Found::Folder(_) | Found::NotHere => {}
                Found::Nothing | Found::Link { .. } => {
                    return Err(failed("CopyFailure", format!("there is no {:?} in it to include", include.from)));
                }
            }
            let so_far = own.clone().with_mounts(mounts.clone());
            match so_far.look(&at).await? {
                Found::Nothing | Found::NotHere => {}
                _ => return Err(failed("CopyFailure", format!("something stands at {at:?} already"))),
            }
            mounts.push(Mount { at, from, snapshot: included });
        }
        Ok(own.with_mounts(mounts))
    }

    async fn included(&self, source: &GitSource, include: &Include) -> Result<Snapshot, SourceError> {
        let failed =
            |reason, why: &str| SourceError::Include { name: include.name.clone(), reason, why: why.to_owned() };
        let Some(other) = source.others.iter().find(|other| other.name == include.name) else {
            return Err(failed("NotFound", "it is not declared, or cannot be used"));
        };
        if depth(source) > DEEPEST {
            return Err(failed("IllegalPath", "sources include each other in a circle"));
        }
        match self.load(other).await? {
            Some(snapshot) => Ok((*snapshot).clone()),
            None => Err(failed("NoArtifact", "it has no verified snapshot yet")),
        }
    }
}

/// How many includes lie within each other beneath a source.
fn depth(source: &GitSource) -> usize {
    let included = source.others.iter().filter(|other| source.include.iter().any(|include| include.name == other.name));
    included.map(|other| 1 + depth(other)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::moved;

    #[test]
    fn paths_move_between_a_mount_and_what_is_mounted() {
        assert_eq!(moved("./lib/a/b.yaml", "lib", "deploy").as_deref(), Some("deploy/a/b.yaml"));
        assert_eq!(moved("lib", "lib", "").as_deref(), Some(""));
        assert_eq!(moved("library/a", "lib", ""), None);
        assert_eq!(moved("a", "", "lib").as_deref(), Some("lib/a"));
    }
}
