//! From what a spec asks for to an object id.

use semver::Version;
use wickie_model::{Oid, Revision};
use wickie_trust::Candidate;

use super::protocol::Ref;
use crate::config::git::{RefName, Reference};
use crate::config::version_range::VersionRange;

/// What a server offers for a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// How the floor sees it.
    pub(crate) candidate: Candidate,
    /// How it is written in statuses.
    pub(crate) revision: Revision,
    /// The tag's name, where it was reached by a tag.
    pub(crate) tag_name: Option<String>,
}

impl Offer {
    pub(crate) fn commit(&self) -> Oid {
        self.revision.commit()
    }

    /// The annotated tag, if it was reached by one.
    pub(crate) fn tag(&self) -> Option<Oid> {
        match self.candidate {
            Candidate::Tag { tag, .. } => tag,
            _ => None,
        }
    }

    pub(crate) fn version(&self) -> Option<Version> {
        match &self.candidate {
            Candidate::Tag { version, .. } => version.clone(),
            _ => None,
        }
    }

    /// What is offered without asking: a commit that the spec names.
    pub(crate) fn fixed(reference: &Reference) -> Option<Self> {
        let Reference::Commit { oid, branch } = reference else { return None };
        let revision = Revision::new(branch.as_ref().map(RefName::to_string), *oid);
        Some(Self { candidate: Candidate::Commit(*oid), revision, tag_name: None })
    }

    /// The one that `reference` asks for out of those that a server lists.
    pub(crate) fn choose(reference: &Reference, refs: Vec<Ref>) -> Option<Self> {
        match reference {
            Reference::Commit { .. } => Self::fixed(reference),
            Reference::Branch(name) => {
                let full = format!("refs/heads/{name}");
                refs.into_iter().find(|found| found.name == full).map(|found| Self::tip(name.as_str(), &found))
            }
            Reference::Tag(name) => {
                let full = format!("refs/tags/{name}");
                let found = refs.into_iter().find(|found| found.name == full)?;
                Some(Self::tagged(name.as_str(), name.as_str(), None, &found))
            }
            Reference::Name(name) => {
                let found = refs.into_iter().find(|found| found.name == name.as_str())?;
                Some(match name.as_str().strip_prefix("refs/tags/") {
                    Some(tag) => Self::tagged(name.as_str(), tag, None, &found),
                    None => Self::tip(name.as_str(), &found),
                })
            }
            Reference::Semver(range) => {
                let versions = refs.into_iter().filter_map(|found| {
                    let version = VersionRange::version_of_tag(found.name.strip_prefix("refs/tags/")?)?;
                    range.contains(&version).then_some((version, found))
                });
                // Of tags that differ in build metadata or a leading v alone, always the same one.
                let (version, found) =
                    versions.max_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.name.cmp(&other.1.name)))?;
                let tag = found.name.strip_prefix("refs/tags/")?.to_owned();
                Some(Self::tagged(&tag, &tag, Some(version), &found))
            }
        }
    }

    fn tip(name: &str, found: &Ref) -> Self {
        let commit = found.peeled.unwrap_or(found.oid);
        Self {
            candidate: Candidate::Tip(commit),
            revision: Revision::new(Some(name.to_owned()), commit),
            tag_name: None,
        }
    }

    fn tagged(shown: &str, tag: &str, version: Option<Version>, found: &Ref) -> Self {
        let commit = found.peeled.unwrap_or(found.oid);
        let annotated = found.peeled.map(|_| found.oid);
        Self {
            candidate: Candidate::Tag { commit, tag: annotated, version },
            revision: Revision::new(Some(shown.to_owned()), commit),
            tag_name: Some(tag.to_owned()),
        }
    }
}

/// What a server is asked to list for `reference`.
pub(crate) fn prefixes(reference: &Reference) -> Vec<String> {
    match reference {
        Reference::Branch(name) => vec![format!("refs/heads/{name}")],
        Reference::Tag(name) => vec![format!("refs/tags/{name}")],
        Reference::Semver(_) => vec!["refs/tags/".to_owned()],
        Reference::Name(name) => vec![name.to_string()],
        Reference::Commit { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, byte: u8, peeled: Option<u8>) -> Ref {
        let oid = |byte| Oid::from_bytes([byte; 20]);
        Ref { name: name.to_owned(), oid: oid(byte), peeled: peeled.map(oid) }
    }

    #[test]
    fn a_prefix_is_not_the_name() {
        let main = Reference::Branch(RefName::new("main").unwrap());
        assert_eq!(Offer::choose(&main, vec![reference("refs/heads/main-2", 1, None)]), None);
        let found =
            Offer::choose(&main, vec![reference("refs/heads/main-2", 1, None), reference("refs/heads/main", 2, None)]);
        assert_eq!(found.unwrap().revision.to_string(), format!("main@sha1:{}", "02".repeat(20)));
    }

    #[test]
    fn the_highest_version_in_the_range_is_chosen() {
        let range = Reference::Semver("1.x".parse().unwrap());
        let offer = Offer::choose(
            &range,
            vec![
                reference("refs/tags/v1.2.0", 1, Some(11)),
                reference("refs/tags/v1.10.0", 2, Some(12)),
                reference("refs/tags/v1.11.0-rc.1", 3, None),
                reference("refs/tags/v2.0.0", 4, None),
                reference("refs/tags/nightly", 5, None),
            ],
        )
        .unwrap();
        assert_eq!(offer.revision.to_string(), format!("v1.10.0@sha1:{}", "0c".repeat(20)));
        assert_eq!((offer.tag(), offer.version()), (Some(Oid::from_bytes([2; 20])), Some(Version::new(1, 10, 0))));
    }

    #[test]
    fn a_full_name_keeps_its_prefix_in_the_revision() {
        let name = Reference::Name(RefName::new("refs/pull/1/head").unwrap());
        let offer = Offer::choose(&name, vec![reference("refs/pull/1/head", 1, None)]).unwrap();
        assert_eq!(offer.revision.reference(), Some("refs/pull/1/head"));
    }
}
