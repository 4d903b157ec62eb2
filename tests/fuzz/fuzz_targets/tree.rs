//! Trees and the names in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wickie::source::fuzz::tree(data);
});
