//! What a broken input is told: every case of `tests/cases` that does not build has its message recorded in `message`.
//!
//! `WICKIE_RECORD=1` writes the messages anew; read them before you keep them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::fs;
use support::{Case, folders};
use wickie_kustomize::Error;

#[test]
fn messages_name_file_line_and_cause() {
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
        // Only what a whole folder or file is to blame for has no line.
        let of_the_whole =
            matches!(error, Error::NoKustomization { .. } | Error::ManyKustomizations { .. } | Error::Empty { .. });
        let names_a_line = case.files.keys().any(|file| {
            let file = format!("{file}:");
            got.split(&file).skip(1).any(|rest| rest.starts_with(|c: char| ('1'..='9').contains(&c)))
        });
        if !of_the_whole && !names_a_line {
            failures.push(format!("{name}: names no file and line: {got}"));
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
