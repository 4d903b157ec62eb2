//! Objects and a patch for them, strategic or JSON, with the byte 0xff between: no YAML holds it.
#![no_main]

use wickie_kustomize::{Files, Options, build, to_yaml, yaml};

const KUSTOMIZATION: &str = "resources: [r.yaml]\npatches:\n- path: p.yaml\n  target: {kind: .*}\n  options: {allowNameChange: true, allowKindChange: true}\n";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0xff);
    let (Some(objects), Some(patch)) = (parts.next(), parts.next()) else { return };
    let files = [("kustomization.yaml", KUSTOMIZATION.as_bytes()), ("r.yaml", objects), ("p.yaml", patch)];
    let files: Files = files.into_iter().collect();
    if let Ok(objects) = build(&files, "", &Options::kustomize()) {
        let text = to_yaml(&objects);
        let again = yaml::documents("out.yaml", text.as_bytes()).expect("what is built is YAML");
        assert_eq!(again.len(), objects.len(), "{text}");
    }
});
