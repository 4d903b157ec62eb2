//! A text with variables in it, strict or not, and the value of one, with the byte 0xff between.
#![no_main]

use wickie_kustomize::Substitution;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0xff);
    let (Some(text), value) = (parts.next(), parts.next().unwrap_or_default()) else { return };
    let (Ok(text), Ok(value)) = (std::str::from_utf8(text), std::str::from_utf8(value)) else { return };
    let mut substitution = Substitution::new();
    for (name, value) in [("a", value), ("b", "some-value"), ("_", "")] {
        substitution.insert(name, value).expect("a name");
    }
    for strict in [false, true] {
        substitution.strict = strict;
        if let Ok(expanded) = substitution.text(text) {
            assert!(expanded.len() <= text.len() + (8 << 20));
        }
    }
});
