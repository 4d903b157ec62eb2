//! A kustomization, objects, and one file more that either may name, with the byte 0xff between.
#![no_main]

use wickie_kustomize::{Files, FluxOverlay, Options, build, build_flux};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let names = ["kustomization.yaml", "r.yaml", "f.yaml"];
    let files: Files = names.into_iter().zip(data.splitn(3, |byte| *byte == 0xff)).collect();
    let _ = build(&files, "", &Options::kustomize());
    let _ = build_flux(&files, "", &FluxOverlay::default());
});
