//! What a Kustomization's owner allows.

use std::str::FromStr;

/// What may be done to the cluster on behalf of one Kustomization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether objects that left Git are deleted: `spec.prune`.
    pub prune: bool,
    /// How many may be deleted in one plan without being asked for: `wickie.dev/prune-limit`.
    pub prune_limit: Option<Limit>,
    /// Whether somebody has approved this very plan's deletions: `wickie.dev/prune-approve` names its revision.
    pub prune_approved: bool,
    /// Whether an earlier revision is put back: harm is undone first. Where it would delete more than may be deleted
    /// unasked, those deletions are held, and not the whole plan refused.
    pub undo: bool,
    /// Others that have not said yet what they want, and may want what left Git here; nothing, where all have.
    pub awaited: Option<String>,
    /// Whether the desired objects are all there are. While a file could not be read they are not, and an object that
    /// is missing from them has not left Git: nothing is deleted.
    pub complete: bool,
    /// Whether objects whose change is refused as immutable are deleted and made again: `spec.force`.
    pub force: bool,
    /// Whether to write at all: `wickie.dev/mode`.
    pub mode: Mode,
    /// How much may be done now: `wickie.dev/apply-window`.
    pub extent: Extent,
}

/// How much may be done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Nothing: it is only said what would be done.
    Nothing,
    /// What was applied before is put right; what would change it waits.
    Repairs,
    /// All of it.
    #[default]
    All,
}

/// `wickie.dev/mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Make it so.
    #[default]
    Enforce,
    /// Only say what differs.
    Detect,
}

/// `spec.deletionPolicy`: what becomes of the objects when their Kustomization is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// Deleted where `spec.prune` is set, left otherwise.
    #[default]
    MirrorPrune,
    /// Deleted.
    Delete,
    /// Deleted, and waited for.
    WaitForTermination,
    /// Left.
    Orphan,
}

/// A limit on the number of deletions: a count, or a share of the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many objects.
    Count(usize),
    /// So many hundredths of the inventory, rounded down; at least one object.
    Percent(u8),
}

impl Limit {
    /// How many objects of an inventory of `size` may go.
    pub fn of(self, size: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (size.saturating_mul(usize::from(percent)) / 100).max(1),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not a limit: write a number such as 10, or a share such as 20%");
        match text.strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(refused()),
            },
            None => text.parse().map(Self::Count).map_err(|_| refused()),
        }
    }
}

/// `kustomize.toolkit.fluxcd.io/ssa` on an object: how it is applied.
///
/// Source: Flux, Kustomization, "Controlling the apply behavior of resources".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ssa {
    /// Fields in Git win over every other manager.
    #[default]
    Override,
    /// As `Override`; fields that others added stay.
    Merge,
    /// Created where it is missing, otherwise left alone.
    IfNotPresent,
    /// Not applied at all.
    Ignore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_counts_or_shares() {
        assert_eq!("10".parse::<Limit>().unwrap().of(1000), 10);
        assert_eq!("20%".parse::<Limit>().unwrap().of(1000), 200);
        assert_eq!("20%".parse::<Limit>().unwrap().of(3), 1);
        for text in ["", "-1", "101%", "many", "20 %"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
