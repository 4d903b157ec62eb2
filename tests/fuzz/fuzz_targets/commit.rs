//! Commits and tags, and what their signatures cover.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wickie::source::fuzz::commit(data);
});
