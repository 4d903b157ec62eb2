//! What may be believed: who may sign, whether a signature holds, and how far history may move.
//!
//! ```text
//! keys of a Secret --> Signers --\
//! payload, signature, time -------+--> Signer | Refusal
//! floor, candidate ---------------> Step | WentBack
//! clock, what was seen before ----> TimeFloor: what time it is at least
//! permit, step, time -------------> Signer | PermitError
//! trusted version, next, time ----> TrustFile | TrustError
//! path, rules --------------------> who may change it
//! ```
//!
//! Everything here is a function of its arguments: no I/O, no clock. Time comes in as [`At`].

mod allowed_signers;
mod certificate;
mod floor;
mod known_hosts;
mod paths;
mod permit;
mod pgp;
mod sign;
mod signers;
mod ssh;
mod sshsig;
mod time;
mod trust_file;
mod wire;

pub use floor::{Candidate, Floor, FloorCopy, Given, Kept, Step, WentBack, binding};
pub use known_hosts::{HostKey, KnownHosts};
pub use paths::{PathPattern, PathRule, PathRules, owners};
pub use permit::{Permit, PermitError, SignedPermit};
pub use sign::{SignError, sign_permit};
pub use signers::{At, Owner, Purpose, Refusal, Signer, Signers, SignersError};
pub use ssh::matches;
pub use time::TimeFloor;
pub use trust_file::{LONGEST_TRUST_FILE, NAMES, TrustError, TrustFile, is_name};
