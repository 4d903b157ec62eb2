//! The keys of a verification Secret: allowed_signers, public keys, OpenPGP key rings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = wickie_trust::Signers::parse([("key", data)]);
});
