//! What may be believed: who may sign, whether a signature holds, and how far history may move.
//!
//! ```text
//! keys of a Secret --> Signers --\
//! payload, signature, time -------+--> Signer | Refusal
//! floor, candidate ---------------> Step | WentBack
//! permit, step, time -------------> Signer | PermitError
//! ```
//!
//! Everything here is a function of its arguments: no I/O, no clock. Time comes in as [`At`].

mod allowed_signers;
mod floor;
mod known_hosts;
mod permit;
mod pgp;
mod signers;
mod ssh;

pub use floor::{Candidate, Floor, Step, WentBack};
pub use known_hosts::{HostKey, KnownHosts};
pub use permit::{Permit, PermitError, SignedPermit};
pub use signers::{At, Purpose, Refusal, Signer, Signers, SignersError};
