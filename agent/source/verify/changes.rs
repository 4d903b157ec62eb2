//! Which paths a commit changed itself.
//!
//! A commit with one parent changed what differs from that. A merge changed itself what is not plainly taken over from a
//! parent: of a path that differs between the parents, it may take the version of the side that changed it since the sides
//! parted, and whoever changed it there is judged for it. A version that no parent has is the merge's own, and so is one
//! that undoes a side's change by taking the other side's older version, or that decides between two sides which both
//! changed it. Source: the three-way rule of git-merge(1), path by path, with the merge bases of git-merge-base(1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wickie_model::Oid;
use wickie_trust::PathRules;

use super::graph::{Graph, Node};
use super::{Judge, Missing, Stop};
use crate::source::error::SourceError;
use crate::source::object::ObjectError;
use crate::source::tree::{Target, TreeEntry};

/// What stands at a path in one version.
type Version = Option<(Target, Oid)>;

/// How deep folders may lie within each other.
const DEEPEST: usize = 64;

/// A path in all versions that have a say in it.
struct Place {
    path: String,
    merged: Version,
    parents: Vec<Version>,
    /// For each pair of parents, their merge bases.
    bases: BTreeMap<(usize, usize), Vec<Version>>,
}

impl Judge<'_> {
    /// The rules that are touched by what a commit changed itself, by their place, with one path for each.
    pub(super) async fn rules_touched(
        &mut self,
        graph: &Graph,
        node: &Node,
        rules: &PathRules,
        missing: &mut BTreeSet<Oid>,
    ) -> Result<BTreeMap<usize, String>, Stop> {
        let mut touched = BTreeMap::new();
        let mut ahead = vec![root(graph, node)];
        let mut looked_at: u64 = 0;
        while let Some(place) = ahead.pop() {
            looked_at += 1;
            if looked_at > u64::from(self.source.limits.objects) {
                let source = ObjectError::TooMuch { what: "changed paths", limit: self.source.limits.objects.into() };
                return Err(SourceError::Content { revision: self.offer.revision.to_string(), source }.into());
            }
            if place.is_taken_over() {
                continue;
            }
            if place.leaf().is_own_change()
                && let Some(rule) = rules.of(&place.path)
            {
                let number = rules.all().iter().position(|other| std::ptr::eq(other, rule)).unwrap_or_default();
                touched.entry(number).or_insert_with(|| place.path.clone());
            }
            ahead.extend(self.within(&place, missing).await?);
        }
        Ok(touched)
    }

    /// The paths one step deeper. A folder that is not in the store is noted as missing, and not gone into.
    async fn within(&mut self, place: &Place, missing: &mut BTreeSet<Oid>) -> Result<Vec<Place>, Stop> {
        if place.path.split('/').count() > DEEPEST {
            let source = ObjectError::TooMuch { what: "folders within each other", limit: DEEPEST as u64 };
            return Err(SourceError::Content { revision: self.offer.revision.to_string(), source }.into());
        }
        let versions = || place.parents.iter().chain(place.bases.values().flatten()).chain([&place.merged]);
        let wanted: BTreeSet<Oid> = versions().filter_map(folder).collect();
        let mut folders: BTreeMap<Oid, Arc<Vec<TreeEntry>>> = BTreeMap::new();
        for oid in &wanted {
            match self.tree(*oid).await? {
                Some(tree) => _ = folders.insert(*oid, tree),
                None => _ = missing.insert(*oid),
            }
        }
        if folders.len() < wanted.len() {
            return Ok(Vec::new());
        }
        let entries = |version: &Version| folder(version).and_then(|oid| folders.get(&oid));
        let names: BTreeSet<&str> = place
            .parents
            .iter()
            .chain([&place.merged])
            .filter_map(entries)
            .flat_map(|tree| tree.iter().map(|entry| entry.name.as_str()))
            .collect();
        let at = |version: &Version, name: &str| -> Version {
            let entry = entries(version)?.iter().find(|entry| entry.name == name)?;
            Some((entry.target, entry.oid))
        };
        let deeper = |name: &str| Place {
            path: if place.path.is_empty() { name.to_owned() } else { format!("{}/{name}", place.path) },
            merged: at(&place.merged, name),
            parents: place.parents.iter().map(|version| at(version, name)).collect(),
            bases: place
                .bases
                .iter()
                .map(|(pair, bases)| (*pair, bases.iter().map(|version| at(version, name)).collect()))
                .collect(),
        };
        // Most names of a folder are the same everywhere.
        let differs = |name: &&str| {
            let merged = at(&place.merged, name);
            place.parents.iter().any(|parent| at(parent, name) != merged)
        };
        Ok(names.into_iter().filter(differs).map(deeper).collect())
    }
}

/// The root folder of a commit, of its parents, and of their merge bases.
fn root(graph: &Graph, node: &Node) -> Place {
    let version = |place: usize| -> Version {
        graph.nodes.get(place).and_then(|node| node.tree).map(|tree| (Target::Directory, tree))
    };
    let mut parents: Vec<Version> = node.parents.iter().map(|parent| version(*parent)).collect();
    let mut bases = BTreeMap::new();
    for (one, first) in node.parents.iter().enumerate() {
        for (other, second) in node.parents.iter().enumerate().skip(one + 1) {
            let mut found: Vec<Version> = graph.merge_bases(*first, *second).into_iter().map(version).collect();
            if found.is_empty() {
                // Histories without anything in common parted from nothing.
                found.push(None);
            }
            bases.insert((one, other), found);
        }
    }
    if parents.is_empty() {
        parents.push(None);
    }
    let merged = node.tree.map(|tree| (Target::Directory, tree));
    Place { path: String::new(), merged, parents, bases }
}

fn folder(version: &Version) -> Option<Oid> {
    version.filter(|(target, _)| *target == Target::Directory).map(|(_, oid)| oid)
}

impl Place {
    /// Whether all that stands here, and beneath, was taken over from parents without a decision.
    fn is_taken_over(&self) -> bool {
        let parents = || self.parents.iter().enumerate();
        let same = || parents().filter(|(_, parent)| **parent == self.merged).map(|(number, _)| number);
        parents()
            .filter(|(_, parent)| **parent != self.merged)
            .all(|(number, parent)| same().any(|other| self.left_as_it_was(number, other, *parent)))
    }

    /// Whether the parent `number` has changed nothing here since it and another one parted.
    fn left_as_it_was(&self, number: usize, other: usize, version: Version) -> bool {
        let pair = (number.min(other), number.max(other));
        self.bases.get(&pair).is_some_and(|bases| !bases.is_empty() && bases.iter().all(|base| *base == version))
    }

    /// The same without folders: a folder is what is in it.
    fn leaf(&self) -> Self {
        let leaf = |version: &Version| version.filter(|(target, _)| *target != Target::Directory);
        Self {
            path: String::new(),
            merged: leaf(&self.merged),
            parents: self.parents.iter().map(leaf).collect(),
            bases: self.bases.iter().map(|(pair, bases)| (*pair, bases.iter().map(leaf).collect())).collect(),
        }
    }

    fn is_own_change(&self) -> bool {
        !self.is_taken_over()
    }
}

/// The trees that the new commits cannot be compared without.
pub(super) fn or_missing(missing: BTreeSet<Oid>) -> Result<(), Stop> {
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Stop::Missing(Missing::Objects(missing.into_iter().collect()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u8) -> Version {
        (number != 0).then(|| (Target::File(crate::source::FileMode::Regular), Oid::from_bytes([number; 20])))
    }

    /// Whether a merge that makes `merged` out of two parents with this base has changed it itself; 0 is absence.
    fn own(merged: u8, one: u8, other: u8, base: u8) -> bool {
        let parents = vec![version(one), version(other)];
        let bases = BTreeMap::from([((0, 1), vec![version(base)])]);
        Place { path: "a".to_owned(), merged: version(merged), parents, bases }.is_own_change()
    }

    #[test]
    fn a_merge_answers_for_what_it_decides() {
        for (merged, one, other, base, is_own, what) in [
            (1, 1, 1, 1, false, "nothing changed"),
            (2, 2, 2, 1, false, "both sides made the same change"),
            (2, 2, 1, 1, false, "the change of one side is taken over"),
            (2, 1, 2, 1, false, "the change of the other side is taken over"),
            (1, 2, 1, 1, true, "the change of one side is undone"),
            (1, 1, 2, 1, true, "the change of the other side is undone"),
            (2, 2, 3, 1, true, "both changed it, and one is chosen"),
            (4, 2, 3, 1, true, "both changed it, and something else is made"),
            (4, 1, 1, 1, true, "nobody changed it but the merge"),
            (0, 0, 1, 1, false, "a deletion is taken over"),
            (1, 0, 1, 1, true, "a deletion is undone"),
            (2, 2, 0, 0, false, "a new file is taken over"),
            (0, 2, 0, 0, true, "a new file is left out"),
        ] {
            assert_eq!(own(merged, one, other, base), is_own, "{what}");
        }
    }

    #[test]
    fn with_one_parent_or_none_all_that_differs_is_its_own() {
        let single = |merged, parent| {
            let parents = vec![version(parent)];
            Place { path: "a".to_owned(), merged: version(merged), parents, bases: BTreeMap::new() }.is_own_change()
        };
        assert!(!single(1, 1));
        assert!(single(2, 1) && single(0, 1) && single(1, 0));
    }
}
