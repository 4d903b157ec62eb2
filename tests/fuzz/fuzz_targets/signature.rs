//! Signatures, by signers whose keys are fixed: whatever the bytes are, nobody signed them.
#![no_main]

use std::sync::LazyLock;

use jiff::Timestamp;
use wickie_trust::{At, Signers};

static SIGNERS: LazyLock<Signers> = LazyLock::new(|| {
    let key = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX
        * cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX";
    Signers::parse([("key", key.as_slice())]).expect("a key")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let at = At { now: Timestamp::UNIX_EPOCH, signed: Timestamp::UNIX_EPOCH };
    assert!(SIGNERS.verify(b"payload", Some(data), at).is_err());
});
