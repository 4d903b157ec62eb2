//! Trust files: what is read means one thing, and nobody has signed what comes after it.
//!
//! The first two bytes cut the rest into a document and its signatures.
#![no_main]

use std::sync::LazyLock;

use jiff::Timestamp;
use wickie_trust::{Signers, TrustFile};

const FIRST: &[u8] = b"apiVersion: wickie.dev/v1\nkind: Trust\nversion: 1\nexpires: 2099-01-01T00:00:00Z\nthreshold: 1\nsigners:\n  ada: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX\n";

static TRUSTED: LazyLock<TrustFile> = LazyLock::new(|| TrustFile::parse(FIRST).expect("a trust file"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_at_checked(2) else { return };
    let cut = usize::from(u16::from_le_bytes([cut[0], cut[1]])).min(data.len());
    let (document, signatures) = data.split_at(cut);
    if let Ok(file) = TrustFile::parse(document) {
        assert!(file.version > 0 && file.threshold > 0 && !file.signers().is_empty());
    }
    let signatures = String::from_utf8_lossy(signatures);
    let now = Timestamp::UNIX_EPOCH;
    assert!(TRUSTED.next(document, &signatures, now).is_err());
    assert!(TrustFile::first(document, &signatures, &Signers::default(), 1, now).is_err());
});
