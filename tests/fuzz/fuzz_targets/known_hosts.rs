//! known_hosts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = wickie_trust::KnownHosts::parse(text).map(|known| known.check("git.example", 22, b"key"));
    }
});
