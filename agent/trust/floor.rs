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
//! order to follow that one, and begins a new floor. First contact is trusted once.

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
}
