//! What Git names: object ids and Flux's revision strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The SHA-1 id of a Git object. Repositories of SHA-256 objects are refused where a server announces one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; 20]);

impl Oid {
    /// The id whose bytes these are.
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

/// A text that is not a full object id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a Git object id: it takes 40 hexadecimal digits")]
pub struct ParseOidError(String);

impl FromStr for Oid {
    type Err = ParseOidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text).map(Self).ok_or_else(|| ParseOidError(text.to_owned()))
    }
}

/// Exactly `N` bytes of hexadecimal digits, or nothing.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}

/// A commit and the name it was reached by, written as Flux writes it:
/// `main@sha1:<id>` for a branch, `v1.2.0@sha1:<id>` for a tag, `refs/changes/1@sha1:<id>` for a name, `sha1:<id>` for a bare commit.
///
/// Source: Flux RFC-0005, "Artifact Revision format".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    reference: Option<String>,
    commit: Oid,
}

impl Revision {
    /// `commit`, reached by the name `reference` (a branch or tag without its `refs/` prefix).
    pub fn new(reference: Option<String>, commit: Oid) -> Self {
        Self { reference: reference.filter(|name| !name.is_empty()), commit }
    }

    /// The name it was reached by.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// The commit.
    pub fn commit(&self) -> Oid {
        self.commit
    }

    /// The name and the first ten digits, for people.
    pub fn short(&self) -> String {
        match &self.reference {
            Some(name) => format!("{name}@{}", self.commit.short()),
            None => self.commit.short(),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(name) => write!(f, "{name}@sha1:{}", self.commit),
            None => write!(f, "sha1:{}", self.commit),
        }
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({self})")
    }
}

/// A text that is not a revision.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a revision: it is written NAME@sha1:ID or sha1:ID")]
pub struct ParseRevisionError(String);

impl FromStr for Revision {
    type Err = ParseRevisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A reference may itself contain '@', the id cannot: split at the last one.
        let (reference, id) = match text.rsplit_once('@') {
            Some((name, id)) if !name.is_empty() => (Some(name.to_owned()), id),
            Some(_) => return Err(ParseRevisionError(text.to_owned())),
            None => (None, text),
        };
        let commit = id.strip_prefix("sha1:").and_then(|digits| digits.parse().ok());
        match commit {
            Some(commit) => Ok(Self { reference, commit }),
            None => Err(ParseRevisionError(text.to_owned())),
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Oid, Revision);

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4";

    #[test]
    fn revisions_are_written_as_flux_writes_them() {
        for text in [format!("main@sha1:{ID}"), format!("sha1:{ID}"), format!("refs/heads/a@b@sha1:{ID}")] {
            let revision: Revision = text.parse().unwrap();
            assert_eq!(revision.to_string(), text);
            assert_eq!(revision.commit().to_string(), ID);
        }
    }

    #[test]
    fn what_is_not_a_revision_is_refused() {
        for text in ["", "main", "main@", "@sha1:00", "main@sha256:00", &format!("@sha1:{ID}"), &format!("main@{ID}")] {
            assert!(text.parse::<Revision>().is_err(), "{text}");
        }
    }
}
