//! Packet lines, the greeting, lists of references, side bands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wickie::source::fuzz::pktline(data);
});
