//! The floor: how low a source's history may never go again.
//!
//! | reference | what may follow what was accepted |
//! |---|---|
//! | branch, name | a commit that descends from it |
//! | tag | the same tag object and commit: a tag never moves |
//! | semver | the same or a higher version; the same version is the same object |
//! | commit | that commit |
//!
//! A floor belongs to a track (the URL and the reference as the spec writes them). A spec that names another track is an
//! order to follow that one, and begins a new floor. First contact is trusted once, unless the node's configuration gives
//! a floor ([`Given`]).
//!
//! A floor is kept in several places ([`Kept`]), and the highest copy counts. A copy never lowers another: whoever
//! forges, damages or deletes one can at most keep a node from going on, and then says so by it. Which of two commits is
//! the higher one is a question to Git that cannot always be answered from what is here; what is not known to lie behind
//! is therefore binding too, and what is offered must satisfy every copy that binds ([`binding`]).

use std::fmt;

use semver::Version;
use wickie_model::Oid;

/// What was accepted last on a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The URL and reference it belongs to.
    pub track: String,
    /// The accepted commit.
    pub commit: Oid,
    /// The annotated tag that it was reached by, if it was.
    pub tag: Option<Oid>,
    /// The version that a semver range chose.
    pub version: Option<Version>,
}

/// Where a copy of a floor is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// In the store, with the snapshot that made it.
    Store,
    /// In a file beside the store.
    File,
    /// In a ConfigMap in the cluster.
    Cluster,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "the store",
            Self::File => "the file beside the store",
            Self::Cluster => "the ConfigMap in the cluster",
        })
    }
}

/// A floor, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloorCopy {
    /// Where.
    pub kept: Kept,
    /// What.
    pub floor: Floor,
}

/// The copies that bind a source on `track`, each floor once, in the order given.
///
/// A copy of another track is void: the spec has changed since. So is one that lies behind: its commit is among
/// `passed`, those that the store moved on from (by descent, or by a permit), or its version is lower than another's.
pub fn binding(copies: &[FloorCopy], track: &str, passed: &[Oid]) -> Vec<FloorCopy> {
    // The store's own copy is where it stands: it is not behind itself.
    let is_passed = |copy: &FloorCopy| copy.kept != Kept::Store && passed.contains(&copy.floor.commit);
    let standing = || copies.iter().filter(|copy| copy.floor.track == track && !is_passed(copy));
    let highest = standing().filter_map(|copy| copy.floor.version.as_ref()).max_by(|one, two| one.cmp_precedence(two));
    let mut binding: Vec<FloorCopy> = Vec::new();
    for copy in standing() {
        let lower =
            |highest: &Version| copy.floor.version.as_ref().is_some_and(|it| it.cmp_precedence(highest).is_lt());
        if !highest.is_some_and(lower) && binding.iter().all(|other| other.floor != copy.floor) {
            binding.push(copy.clone());
        }
    }
    binding
}

/// A floor that the node's configuration gives: nothing is accepted that lies below, on no track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// This commit, or one that descends from it.
    Commit(Oid),
    /// This version, or a higher one.
    Version(Version),
}

/// What the server offers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The tip of a branch or of another moving name.
    Tip(Oid),
    /// A tag: its commit, and the tag object where it is annotated.
    Tag {
        /// The commit.
        commit: Oid,
        /// The tag object.
        tag: Option<Oid>,
        /// The version, where a range chose it.
        version: Option<Version>,
    },
    /// A commit that the spec names.
    Commit(Oid),
}

impl Candidate {
    /// The commit that it leads to.
    pub fn commit(&self) -> Oid {
        match self {
            Self::Tip(commit) | Self::Tag { commit, .. } | Self::Commit(commit) => *commit,
        }
    }
}

/// How a candidate stands to the floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no floor on this track yet.
    First,
    /// It is what was accepted last.
    Same,
    /// It may be accepted if it is shown to descend from this commit.
    IfDescends(Oid),
    /// It is higher.
    Forward,
}

/// A candidate that would move history back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum WentBack {
    #[error("{to} does not descend from {from}, which was accepted before: the branch was rewritten")]
    Rewritten { from: Oid, to: Oid },
    #[error("within {most} commits nothing shows that {to} descends from {from}, which was accepted before")]
    Unproven { from: Oid, to: Oid, most: u32 },
    #[error("the tag moved from {from} to {to}: a tag never moves")]
    TagMoved { from: Oid, to: Oid },
    #[error("the version went down from {from} to {to}")]
    VersionDown { from: Version, to: Version },
    #[error("nothing shows that {to} descends from {from}, which this node's configuration asks for")]
    NotGiven { from: Oid, to: Oid },
    #[error("the version {version} is lower than {least}, the least that this node's configuration allows")]
    BelowGiven { version: Version, least: Version },
    #[error("this node's configuration allows no version below {least}, and what spec.ref names has no version")]
    NoVersion { least: Version },
}

impl Given {
    /// How `candidate` stands to it.
    pub fn step(&self, candidate: &Candidate) -> Result<Step, WentBack> {
        match (self, candidate) {
            (Self::Commit(least), candidate) if candidate.commit() == *least => Ok(Step::Same),
            (Self::Commit(least), _) => Ok(Step::IfDescends(*least)),
            (Self::Version(least), Candidate::Tag { version: Some(version), .. }) => {
                match version.cmp_precedence(least).is_lt() {
                    true => Err(WentBack::BelowGiven { version: version.clone(), least: least.clone() }),
                    false => Ok(Step::Forward),
                }
            }
            (Self::Version(least), _) => Err(WentBack::NoVersion { least: least.clone() }),
        }
    }
}

impl Floor {
    /// How `candidate`, offered on `track`, stands to this floor.
    pub fn step(floor: Option<&Self>, track: &str, candidate: &Candidate) -> Result<Step, WentBack> {
        let Some(floor) = floor.filter(|floor| floor.track == track) else { return Ok(Step::First) };
        match candidate {
            Candidate::Tip(tip) if *tip == floor.commit => Ok(Step::Same),
            Candidate::Tip(_) => Ok(Step::IfDescends(floor.commit)),
            Candidate::Commit(commit) if *commit == floor.commit => Ok(Step::Same),
            // The track names the commit, so another one cannot be on it.
            Candidate::Commit(to) => Err(WentBack::TagMoved { from: floor.commit, to: *to }),
            Candidate::Tag { commit, tag, version } => match (&floor.version, version) {
                (Some(from), Some(to)) if to.cmp_precedence(from).is_lt() => {
                    Err(WentBack::VersionDown { from: from.clone(), to: to.clone() })
                }
                (Some(from), Some(to)) if to.cmp_precedence(from).is_gt() => Ok(Step::Forward),
                _ => floor.unmoved(*commit, *tag),
            },
        }
    }

    fn unmoved(&self, commit: Oid, tag: Option<Oid>) -> Result<Step, WentBack> {
        if commit == self.commit && tag == self.tag {
            return Ok(Step::Same);
        }
        Err(WentBack::TagMoved { from: self.tag.unwrap_or(self.commit), to: tag.unwrap_or(commit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; 20] = [1; 20];
    const TWO: [u8; 20] = [2; 20];

    fn oid(bytes: [u8; 20]) -> Oid {
        Oid::from_bytes(bytes)
    }

    fn floor(version: Option<&str>) -> Floor {
        let version = version.map(|text| text.parse().unwrap());
        Floor { track: "u main".to_owned(), commit: oid(ONE), tag: Some(oid(ONE)), version }
    }

    fn tag(commit: [u8; 20], tag: [u8; 20], version: Option<&str>) -> Candidate {
        let version = version.map(|text| text.parse().unwrap());
        Candidate::Tag { commit: oid(commit), tag: Some(oid(tag)), version }
    }

    #[test]
    fn a_branch_moves_only_to_descendants() {
        let floor = floor(None);
        let step = |candidate| Floor::step(Some(&floor), "u main", &candidate);
        assert_eq!(step(Candidate::Tip(oid(ONE))), Ok(Step::Same));
        assert_eq!(step(Candidate::Tip(oid(TWO))), Ok(Step::IfDescends(oid(ONE))));
    }

    #[test]
    fn another_track_begins_another_floor() {
        let floor = floor(None);
        assert_eq!(Floor::step(Some(&floor), "u other", &Candidate::Tip(oid(TWO))), Ok(Step::First));
        assert_eq!(Floor::step(None, "u main", &Candidate::Tip(oid(TWO))), Ok(Step::First));
    }

    #[test]
    fn a_tag_never_moves() {
        let floor = floor(None);
        let step = |candidate| Floor::step(Some(&floor), "u main", &candidate);
        assert_eq!(step(tag(ONE, ONE, None)), Ok(Step::Same));
        // The commit alone, and the tag object alone: the same commit under a new signature is a moved tag too.
        assert!(matches!(step(tag(TWO, ONE, None)), Err(WentBack::TagMoved { .. })));
        assert!(matches!(step(tag(ONE, TWO, None)), Err(WentBack::TagMoved { .. })));
    }

    #[test]
    fn a_version_never_goes_down_nor_changes_its_bytes() {
        let floor = floor(Some("1.2.0"));
        let step = |candidate| Floor::step(Some(&floor), "u main", &candidate);
        assert_eq!(step(tag(TWO, TWO, Some("1.10.0"))), Ok(Step::Forward));
        assert_eq!(step(tag(ONE, ONE, Some("1.2.0"))), Ok(Step::Same));
        assert!(matches!(step(tag(TWO, TWO, Some("1.2.0"))), Err(WentBack::TagMoved { .. })));
        assert!(matches!(step(tag(TWO, TWO, Some("1.2.0-rc.1"))), Err(WentBack::VersionDown { .. })));
    }

    fn copy(kept: Kept, commit: [u8; 20], version: Option<&str>) -> FloorCopy {
        FloorCopy { kept, floor: Floor { commit: oid(commit), tag: None, ..floor(version) } }
    }

    #[test]
    fn a_copy_binds_until_it_is_known_to_lie_behind() {
        let copies = [copy(Kept::Store, ONE, None), copy(Kept::File, ONE, None), copy(Kept::Cluster, TWO, None)];
        // The same floor in two places is one; another binds too, in whichever order they were found.
        assert_eq!(binding(&copies, "u main", &[]), [copies[0].clone(), copies[2].clone()]);
        let turned: Vec<_> = copies.iter().rev().cloned().collect();
        assert_eq!(binding(&turned, "u main", &[]).len(), 2);
        assert_eq!(binding(&copies, "u main", &[oid(TWO)]), [copies[0].clone()]);
        // The store may come back to a commit that it once moved on from: a permit allowed it.
        assert_eq!(binding(&copies, "u main", &[oid(ONE)]), [copies[0].clone(), copies[2].clone()]);
        assert_eq!(binding(&copies, "u other", &[]), []);
    }

    #[test]
    fn of_versions_the_highest_copy_binds() {
        let copies = [copy(Kept::Store, ONE, Some("1.2.0")), copy(Kept::Cluster, TWO, Some("1.10.0"))];
        assert_eq!(binding(&copies, "u main", &[]), [copies[1].clone()]);
        // A permit brought the store down from what the cluster's copy still says.
        assert_eq!(binding(&copies, "u main", &[oid(TWO)]), [copies[0].clone()]);
        // The same version with another object is a contradiction, and both bind.
        let copies = [copy(Kept::Store, ONE, Some("1.2.0")), copy(Kept::Cluster, TWO, Some("1.2.0"))];
        assert_eq!(binding(&copies, "u main", &[]).len(), 2);
    }

    #[test]
    fn a_given_floor_binds_first_contact_too() {
        let commit = Given::Commit(oid(ONE));
        assert_eq!(commit.step(&Candidate::Tip(oid(ONE))), Ok(Step::Same));
        assert_eq!(commit.step(&Candidate::Tip(oid(TWO))), Ok(Step::IfDescends(oid(ONE))));
        assert_eq!(commit.step(&tag(TWO, TWO, Some("0.1.0"))), Ok(Step::IfDescends(oid(ONE))));
        let version = Given::Version("1.2.0".parse().unwrap());
        assert_eq!(version.step(&tag(TWO, TWO, Some("1.2.0"))), Ok(Step::Forward));
        assert!(matches!(version.step(&tag(TWO, TWO, Some("1.2.0-rc.1"))), Err(WentBack::BelowGiven { .. })));
        assert!(matches!(version.step(&Candidate::Tip(oid(ONE))), Err(WentBack::NoVersion { .. })));
    }
}
