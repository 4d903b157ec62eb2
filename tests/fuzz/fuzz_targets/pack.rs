//! Packs as they arrive.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wickie::source::fuzz::pack(data);
});
