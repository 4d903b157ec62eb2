//! Why there is no new snapshot.

use std::time::Duration;

use jiff::Timestamp;
use wickie_model::{Oid, ResourceName, reason};
use wickie_trust::{Kept, Refusal, Signer, SignersError, TrustError, WentBack};

use super::object::ObjectError;
use super::transport::TransportError;
use super::wire::WireError;
use crate::config::MaxAge;
use crate::store::StoreError;

/// A poll or a load that failed. The last good snapshot stays what it is.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum SourceError {
    #[error("could not {operation} at {host}")]
    Exchange { operation: &'static str, host: String, source: WireError },
    #[error("{host} did not finish within the timeout of {} seconds; what arrived is kept, the next try asks for the rest", after.as_secs_f32())]
    TimedOut { host: String, after: Duration },
    #[error("{host} did not answer lately, and is not asked again for {} seconds", after.as_secs())]
    HostDown { host: String, after: Duration },
    #[error("{host} has no {reference}; check spec.ref, or push it")]
    NoSuchRef { host: String, reference: String },
    #[error("the revision {revision} cannot be used")]
    Content { revision: String, source: ObjectError },
    #[error("signature verification failed: the {object} {refusal}")]
    Refused { object: String, refusal: Refusal },
    #[error(
        "signature verification failed: the tag {offered:?} on commit {commit} holds a tag object named {named:?}, which {signer} signed for that name and not for this one"
    )]
    OtherTag { offered: String, commit: Oid, named: String, signer: Signer },
    #[error(
        "signature verification failed: the commit {commit} is signed by {have} of the {need} signers that the policy {policy:?} of this node asks for{detail}; sign it again in a note under refs/notes/wickie/signatures"
    )]
    TooFewSigners { commit: Oid, have: usize, need: u32, policy: String, detail: String },
    #[error(
        "signature verification failed: the commit {commit} changes {path:?}, which by the policy {policy:?} of this node takes {need} of the signers [{signers}]{detail}; let one of them sign the commit in a note, or revert it"
    )]
    PathRefused { commit: Oid, path: String, need: u32, signers: String, policy: String, detail: String },
    #[error(
        "signature verification failed: the commit {commit}, which came since the last accepted one, is not signed by anybody whom the policy {policy:?} of this node believes{detail}; let a signer sign it in a note"
    )]
    HistoryRefused { commit: Oid, policy: String, detail: String },
    #[error(
        "signature verification failed: {object} is not here, without which the commits since the last accepted one cannot be judged; {host} must be able to give it"
    )]
    Unproven { object: String, host: String },
    #[error("signature verification failed: {0}")]
    Trust(Box<TrustError>),
    #[error(
        "cannot verify a tag's signature where spec.ref names no tag; name a tag or semver, or set verify.mode to HEAD"
    )]
    VerifyWithoutTag,
    #[error("the verification keys cannot be used")]
    Signers(#[source] SignersError),
    #[error("the verification Secret holds no key; put an OpenPGP key ring or SSH public keys into it")]
    NoSigners,
    #[error(
        "the revision {revision} was refused: history went back ({reason}); if that is intended, sign a permit for it, or point the source at another branch, tag or URL{permits}"
    )]
    WentBack { revision: String, reason: Box<WentBack>, permits: String },
    #[error(
        "failed to sparse checkout directories: sparse checkout dir {path:?} does not exist in {revision}; check spec.sparseCheckout"
    )]
    NoSparse { path: String, revision: String },
    #[error("the include {name} cannot be used: {why}")]
    Include { name: ResourceName, reason: &'static str, why: String },
    #[error("the submodule {path:?} at {url} cannot be used, of which commit {commit} is wanted")]
    Submodule { path: String, url: String, commit: Oid, source: Box<SourceError> },
    #[error("the submodule {path:?} has the URL {url:?}, which is refused: {why}")]
    SubmoduleUrl { path: String, url: String, why: String },
    #[error("the revision {revision} was refused: {reason}")]
    BelowGiven { revision: String, reason: Box<WentBack> },
    #[error(
        "the stored snapshot {revision} is not enforced: by {kept}, {commit} was accepted after it, and nothing here shows that it descends from that; the store is an older copy of itself. The cluster is left as it is until Git or a stick brings a commit that descends from both"
    )]
    Behind { revision: String, kept: Kept, commit: Oid },
    #[error(
        "the revision {revision} was refused: it was committed at {committed}, and max-age is {max_age}: either Git has had nothing new for so long, or somebody keeps newer commits from this node. What was accepted before stays enforced"
    )]
    TooOld { revision: String, committed: Timestamp, max_age: MaxAge },
    #[error("the credentials and certificates of the Secret cannot be used")]
    Transport(#[source] TransportError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What kind of failure it is: what to do about it, and whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorClass {
    /// It may be gone next time: try again, later each time.
    Transient,
    /// The server does not know us: somebody must mend the Secret.
    Auth,
    /// What the server offers is not signed by whom it should be.
    RefusedSignature,
    /// What the server offers is older than what was accepted.
    WentBack,
    /// What the server offers was made too long ago.
    TooOld,
    /// What the server offers is not what Git allows, or larger than the limits.
    BadContent,
    /// The spec or a Secret of it must be mended.
    InvalidSpec,
    /// This node's own store failed.
    Store,
}

impl SourceError {
    /// What kind of failure it is.
    pub fn class(&self) -> SourceErrorClass {
        use SourceErrorClass as Class;
        match self {
            Self::Exchange { source, .. } => match source {
                about if is_about_identity(about) => Class::Auth,
                WireError::Collision(_) | WireError::TooMuch { .. } => Class::BadContent,
                WireError::ObjectFormat { .. } | WireError::Redirect { .. } => Class::InvalidSpec,
                WireError::Local(error) => error.class(),
                _ => Class::Transient,
            },
            Self::TimedOut { .. } | Self::HostDown { .. } | Self::NoSuchRef { .. } => Class::Transient,
            Self::Content { .. } | Self::SubmoduleUrl { .. } => Class::BadContent,
            Self::Submodule { source, .. } => source.class(),
            // It goes when the other source, or the folder in it, comes.
            Self::Include { .. } | Self::NoSparse { .. } => Class::Transient,
            Self::Refused { .. }
            | Self::OtherTag { .. }
            | Self::TooFewSigners { .. }
            | Self::PathRefused { .. }
            | Self::HistoryRefused { .. }
            | Self::Unproven { .. }
            | Self::Trust(_) => Class::RefusedSignature,
            Self::WentBack { .. } | Self::BelowGiven { .. } | Self::Behind { .. } => Class::WentBack,
            Self::TooOld { .. } => Class::TooOld,
            Self::VerifyWithoutTag | Self::Signers(_) | Self::NoSigners | Self::Transport(_) => Class::InvalidSpec,
            Self::Store(_) => Class::Store,
        }
    }

    /// Whether something was found out and not believed, rather than not found out.
    pub fn is_refusal(&self) -> bool {
        use SourceErrorClass as Class;
        matches!(self.class(), Class::RefusedSignature | Class::WentBack | Class::TooOld | Class::BadContent)
    }

    /// The reason for the status, as Flux spells it (source-controller, gitrepository_controller.go).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Exchange { source, .. } if is_about_identity(source) => reason::AUTHENTICATION_FAILED,
            Self::Refused { .. }
            | Self::OtherTag { .. }
            | Self::TooFewSigners { .. }
            | Self::PathRefused { .. }
            | Self::HistoryRefused { .. }
            | Self::Unproven { .. }
            | Self::Trust(_) => reason::INVALID_COMMIT_SIGNATURE,
            Self::VerifyWithoutTag => "InvalidVerificationMode",
            Self::Signers(_) | Self::NoSigners => reason::VERIFICATION_ERROR,
            Self::Transport(_) => reason::AUTHENTICATION_FAILED,
            Self::Include { reason, .. } => reason,
            Self::Submodule { source, .. } => source.reason(),
            _ => reason::GIT_OPERATION_FAILED,
        }
    }

    /// Whether the server said nothing at all, as one does that is down or out of reach.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Exchange { source, .. } => match source {
                WireError::Connection(_)
                | WireError::Http(_)
                | WireError::Ssh(_)
                | WireError::Proxy { .. }
                | WireError::Slow { .. } => true,
                WireError::Status { status, .. } => matches!(status, 502..=504),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether what was left of the link's budget did not suffice.
    pub fn is_over_budget(&self) -> bool {
        matches!(self, Self::Exchange { source: WireError::Budget { .. }, .. })
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Exchange { source: WireError::Status { retry_after, .. }, .. } => *retry_after,
            Self::Exchange { source: WireError::App { retry_after, .. }, .. } => *retry_after,
            Self::HostDown { after, .. } => Some(*after),
            Self::Submodule { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}

/// Whether one side does not believe who the other one is.
fn is_about_identity(error: &WireError) -> bool {
    match error {
        WireError::Unauthorized { .. } | WireError::SshIdentity { .. } | WireError::HostKey { .. } => true,
        WireError::ProxyLogin { .. } => true,
        // A limit of the API's rate is told by the same codes, and by when to come back.
        WireError::App { status: Some(401 | 403 | 404 | 422), retry_after: None, .. } => true,
        _ => false,
    }
}

/// A failure within an operation, before it is said which operation of which source it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
