//! Encrypted files in every format, with the key that decrypts the seeds: read, decrypted, checked, written.
#![no_main]

use std::sync::LazyLock;

use wickie_sops::{Format, Keys};

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut keys = Keys::new();
    let entries: [(&str, &[u8]); 2] = [
        ("x25519.agekey", include_bytes!("../../../agent/sops/tests/vectors/x25519.agekey")),
        ("openpgp.asc", include_bytes!("../../../agent/sops/tests/vectors/openpgp.asc")),
    ];
    for (name, entry) in entries {
        keys.add(name, entry).expect("a recorded key is a key");
    }
    keys
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let formats = [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini, Format::Binary];
    for input in formats {
        for output in formats {
            // What fails in one output fails in all, unless it fails to be written.
            if let Err(error) = wickie_sops::decrypt(data, input, output, &KEYS)
                && !matches!(error, wickie_sops::Error::Output { .. })
            {
                break;
            }
        }
    }
    let _ = wickie_sops::check_file(data, Format::Yaml, &KEYS);
    let _ = wickie_sops::check_file(data, Format::Json, &KEYS);
    // As a private key, too.
    let _ = Keys::new().add("a.agekey", data);
    let _ = Keys::new().add("a.asc", data);
});
