//! YAML as kubectl reads it: what is read can be printed, and reads back as the same.
#![no_main]

use wickie_kustomize::yaml;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for document in yaml::documents("f.yaml", data).unwrap_or_default() {
        let text = yaml::to_yaml(&document.value);
        // They end a line in YAML 1.1, in which it is printed, and are characters like any other to the parser.
        if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
            continue;
        }
        let again = yaml::documents("g.yaml", text.as_bytes()).expect("what is printed is YAML");
        let same = match again.as_slice() {
            // Empty documents are left out.
            [] => document.value.is_null(),
            [one] => one.value == document.value,
            _ => false,
        };
        assert!(same, "{:?} became {again:?} by way of {text:?}", document.value);
    }
});
