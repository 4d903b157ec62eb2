//! Every folder of `tests/cases` builds to the same bytes as with the real kustomize.
//!
//! `expected.yaml` was recorded from kustomize; `refused` marks inputs that kustomize builds and wickie does not, with
//! the words that its refusal must contain; `expected-error` marks inputs that both refuse. Where the harness can be
//! had, kustomize is asked again, so that a record cannot rot. `WICKIE_RECORD=1` writes the records anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::fs;
use support::{Case, Judge, difference, folders};

#[test]
fn the_same_bytes_as_kustomize() {
    let record = std::env::var_os("WICKIE_RECORD").is_some();
    let only = std::env::var("WICKIE_CASE").unwrap_or_default();
    let mut judge = Judge::start();
    let (mut equal, mut refused, mut failures) = (0, 0, Vec::new());
    for folder in folders("cases") {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.contains(&only) {
            continue;
        }
        let case = Case::read(&folder);
        let got = case.wickie();
        if let Ok(words) = fs::read_to_string(folder.join("refused")) {
            match got {
                Err(error) if error.to_string().contains(words.trim()) => refused += 1,
                Err(error) => failures.push(format!("{name}: refused in other words: {error}")),
                Ok(_) => failures.push(format!("{name}: should be refused")),
            }
            continue;
        }
        let real = judge.as_mut().map(|judge| judge.build(&case));
        if let (true, Some(real)) = (record, &real) {
            let _ = fs::remove_file(folder.join("expected.yaml"));
            let _ = fs::remove_file(folder.join("expected-error"));
            match real {
                Ok(yaml) => fs::write(folder.join("expected.yaml"), yaml).unwrap(),
                Err(_) => fs::write(folder.join("expected-error"), "").unwrap(),
            }
        }
        let wanted = fs::read_to_string(folder.join("expected.yaml")).ok();
        if wanted.is_none() && !folder.join("expected-error").exists() {
            failures.push(format!("{name}: nothing is recorded"));
            continue;
        }
        if let Some(real) = &real
            && real.as_ref().ok() != wanted.as_ref()
        {
            failures.push(format!("{name}: kustomize no longer gives what is recorded: {real:?}"));
            continue;
        }
        match (wanted, got) {
            (Some(wanted), Ok(got)) if wanted == got => equal += 1,
            (None, Err(_)) => equal += 1,
            (Some(wanted), Ok(got)) => failures.push(format!("{name}: {}", difference(&wanted, &got))),
            (Some(_), Err(error)) => failures.push(format!("{name}: kustomize builds it, wickie says: {error}")),
            (None, Ok(got)) => {
                let cause = real.and_then(Result::err).unwrap_or_default();
                failures.push(format!("{name}: kustomize says {cause:?}, wickie builds:\n{got}"));
            }
        }
    }
    eprintln!("{equal} equal, {refused} refused on purpose, {} different", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(equal > 0 || !only.is_empty());
}
