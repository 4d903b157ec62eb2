//! Kubeconfigs that a Secret brings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = wickie::cluster::Remote::read(data);
});
