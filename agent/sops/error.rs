//! What can be wrong with an encrypted file, or with a key. No text here repeats a value or a private key.

/// Why a file or an object cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is larger than is read.
    #[error("{0} bytes are more than the 5 MiB that are decrypted; split it")]
    TooLarge(usize),
    /// It is not what its format says.
    #[error("it is not {format} as SOPS writes it: {why}")]
    Format {
        /// The format.
        format: &'static str,
        /// What is wrong, without the text.
        why: String,
    },
    /// The metadata are not there, or say something that they cannot say.
    #[error("its SOPS metadata: {0}")]
    Metadata(String),
    /// None of the keys opens it.
    #[error("none of the keys at hand decrypts it: it is encrypted for {}; {}", .recipients.join(", "), .way_out)]
    NoKey {
        /// For whom it is encrypted.
        recipients: Vec<String>,
        /// What to do.
        way_out: &'static str,
    },
    /// Too few key groups were opened.
    #[error("it takes {needed} of its {groups} key groups, and the keys at hand open {opened}; it is encrypted for {}", .recipients.join(", "))]
    TooFewGroups {
        /// How many must be opened.
        needed: usize,
        /// How many there are.
        groups: usize,
        /// How many were opened.
        opened: usize,
        /// For whom it is encrypted.
        recipients: Vec<String>,
    },
    /// What a key opened is no data key.
    #[error("the data key is damaged: {0}")]
    DataKey(&'static str),
    /// A value does not decrypt.
    #[error("the value at {path}: {why}")]
    Value {
        /// The names on the way to it.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The values are not those that were encrypted together.
    #[error(
        "its MAC does not fit: a value was changed, added, moved or taken out without SOPS, or comes from another version of the file; restore it, or edit it with sops"
    )]
    Mac,
    /// What was decrypted cannot be written in the format that is asked for.
    #[error("what it holds cannot be written as {format}: {why}")]
    Output {
        /// The format.
        format: &'static str,
        /// Why not.
        why: &'static str,
    },
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The entry's name says nothing about what it holds.
    #[error(
        "{0:?} is not a name that keys are looked for under: write NAME.agekey for age identities, NAME.asc for OpenPGP keys"
    )]
    Name(String),
    /// Credentials for a key service in a network.
    #[error(
        "{0:?} holds credentials of a key service, and the agent asks none: it must decrypt without a network. Add an age recipient to the files (sops rotate --add-age RECIPIENT), and take the entry out"
    )]
    Service(String),
    /// It is no key that can be read.
    #[error("{entry:?}, line {line}: {why}")]
    Malformed {
        /// The entry.
        entry: String,
        /// Its line, from 1.
        line: usize,
        /// What is wrong, without the text.
        why: &'static str,
    },
    /// An OpenPGP key that cannot be used.
    #[error("{entry:?}: {why}")]
    OpenPgp {
        /// The entry.
        entry: String,
        /// What is wrong.
        why: String,
    },
}

impl Error {
    pub(crate) fn format(format: crate::Format, why: impl Into<String>) -> Self {
        Self::Format { format: format.name(), why: why.into() }
    }
}
