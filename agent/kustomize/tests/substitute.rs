//! Substitution forms give what Flux's envsubst gives.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use fastrand::Rng;
use std::collections::BTreeMap;
use support::Judge;
use wickie_kustomize::Substitution;

/// Pieces that random texts are made of, so that forms are met often, whole and broken.
const PIECES: [&str; 46] = [
    "${",
    "}",
    "$",
    "$$",
    "{",
    "name",
    "path",
    "empty",
    "none",
    "a_1",
    "9",
    ":",
    ":=",
    ":-",
    ":+",
    ":?",
    "=",
    "-",
    "#",
    "##",
    "%",
    "%%",
    "/",
    "//",
    "/#",
    "/%",
    "^",
    "^^",
    ",",
    ",,",
    "*",
    "?",
    "[a-c]",
    "[^x]",
    "\\",
    "\\/",
    "1",
    "2",
    "-1",
    " ",
    "x",
    "é",
    "\n",
    "a/b",
    "${name}",
    "${none:=d}",
];

#[test]
fn random_forms() {
    let Some(mut judge) = Judge::start() else { return };
    let vars: BTreeMap<String, String> = [("name", "hello"), ("path", "a/b/c.tar.gz"), ("empty", ""), ("a_1", "Ünï x")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut rng = Rng::with_seed(7);
    let (mut equal, mut failures) = (0, Vec::new());
    for round in 0..20_000 {
        let mut text = String::new();
        // Half of the texts start a form, or nearly all would be plain.
        if rng.bool() {
            text.push_str("${");
            text.push_str(rng.choice(["name", "path", "empty", "none", "a_1"]).unwrap());
        }
        for _ in 0..rng.usize(1..7) {
            text.push_str(rng.choice(PIECES).unwrap());
        }
        if rng.bool() {
            text.push('}');
        }
        let strict = rng.bool();
        let mut ours = Substitution::new();
        ours.strict = strict;
        for (name, value) in &vars {
            ours.insert(name, value).unwrap();
        }
        match (judge.substitute(&text, &vars, strict), ours.text(&text)) {
            (Ok(wanted), Ok(got)) if wanted == got => equal += 1,
            (Err(_), Err(_)) => equal += 1,
            // Go cuts a character in two and prints what is left of it.
            (Ok(wanted), Err(_)) if wanted.contains('\u{fffd}') => equal += 1,
            (wanted, got) => failures.push(format!("{round}: {text:?} strict={strict}: {wanted:?} / {got:?}")),
        }
        if failures.len() > 20 {
            break;
        }
    }
    eprintln!("{equal} equal, {} different", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
