//! What a broken input is told: every case of `tests/cases` that does not build has its message recorded in `message`.
//!
//! `WICKIE_RECORD=1` writes the messages anew; read them before you keep them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::fs;
use support::{Case, folders};

#[test]
fn messages_name_file_and_cause() {
    let record = std::env::var_os("WICKIE_RECORD").is_some();
    let mut count = 0;
    let mut failures = Vec::new();
    for folder in folders("cases") {
        if !folder.join("expected-error").exists() && !folder.join("refused").exists() {
            continue;
        }
        count += 1;
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let case = Case::read(&folder);
        let Err(error) = case.wickie() else {
            failures.push(format!("{name}: builds"));
            continue;
        };
        let got = format!("{error}\n");
        let names_a_file = case.files.keys().any(|file| got.contains(file.as_str())) || got.contains("folder");
        if !names_a_file {
            failures.push(format!("{name}: names no file: {got}"));
        }
        // A fault in a field is placed on a line.
        if matches!(&error, wickie_kustomize::Error::Field { place, .. } | wickie_kustomize::Error::Step { place, .. } if place.line == 0)
        {
            failures.push(format!("{name}: names no line: {got}"));
        }
        let golden = folder.join("message");
        if record {
            fs::write(&golden, &got).unwrap();
        }
        let wanted = fs::read_to_string(&golden).unwrap_or_default();
        if wanted != got {
            failures.push(format!("{name}:\n  recorded: {wanted}  now:      {got}"));
        }
    }
    eprintln!("{count} messages");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 60);
}
