//! SOPS files, decrypted and checked in memory. No I/O, no clock, no network.
//!
//! ```text
//! bytes --format--> Tree + metadata
//!                     │        └─ keys (age, OpenPGP, Shamir) ──► data key
//!                     └─ walk: each value by AES-256-GCM, bound to its path ──► plain tree, MAC checked ──► bytes
//! ```
//!
//! Source: getsops/sops v3.13.2, as kustomize-controller v1.9 has it. Two things are stricter here. The MAC over all
//! values is always checked: Flux leaves it unchecked for objects, so that a value could be taken out of a file, or brought
//! from an older version of it, and nobody would notice. And what could be written in two ways is taken in one (base64,
//! metadata names), so that no bit of it can be turned without being noticed.
//!
//! What SOPS itself does not protect is not protected here either: the names of members whose values are not encrypted,
//! comments, and, with `mac_only_encrypted`, those values. That is what the commit's signature is for.
//!
//! Keys and data keys are overwritten when they are dropped. No error repeats a value or a key.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod age;
mod cipher;
mod error;
mod format;
mod keys;
mod metadata;
mod openpgp;
mod shamir;
mod tree;
mod walk;

pub use error::{Error, KeyError};
pub use format::{Format, MOST_BYTES, is_encrypted, marked};
pub use keys::Keys;
pub use walk::{check_file, decrypt, decrypt_object, is_encrypted_object};
