//! YAML reads as sigs.k8s.io/yaml, and so kubectl, reads it.
//!
//! Every YAML file of the cases is read by both, and so are texts put together at random.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use fastrand::Rng;
use std::collections::BTreeSet;
use support::{Case, Judge, folders};
use wickie_kustomize::yaml::documents;

/// What stands in a random text, key or value.
const SCALARS: [&str; 64] = [
    "on",
    "No",
    "y",
    "N",
    "true",
    "False",
    "null",
    "~",
    "",
    "0",
    "-1",
    "+2",
    "007",
    "08",
    "0x1f",
    "0o17",
    "0b11",
    "1_000",
    "1.0",
    ".5",
    "5.",
    "1e3",
    "1E-3",
    "-.inf",
    "12:30",
    "1:2:3",
    "2020-01-02",
    "2020-1-2T3:4:5Z",
    "a",
    "a b",
    "'q'",
    "\"d\\n\"",
    "''",
    "\"\"",
    "'it''s'",
    "\"\\u00e9\"",
    "[1, b]",
    "{a: 1}",
    "[]",
    "{}",
    "- x",
    "!!str 1",
    "!!int 2",
    "!!float 3",
    "&a x",
    "*a",
    "|",
    ">",
    "#c",
    "a #c",
    "a#c",
    "@x",
    "%x",
    "`x",
    "<<",
    "=",
    "9223372036854775808",
    "18446744073709551615",
    "1e400",
    "1e30",
    "0.1",
    "-0",
    "é",
    "a: b",
];

#[test]
fn the_same_values_as_kubectl() {
    let Some(mut judge) = Judge::start() else { return };
    let mut texts: BTreeSet<String> = BTreeSet::new();
    for folder in folders("cases") {
        for (path, content) in Case::read(&folder).files {
            if let (true, Ok(text)) = (path.ends_with(".yaml"), String::from_utf8(content)) {
                texts.insert(text);
            }
        }
    }
    let written = texts.len();
    let mut rng = Rng::with_seed(3);
    for _ in 0..5000 {
        texts.insert(random(&mut rng));
    }
    let (mut equal, mut refused, mut stricter, mut failures) = (0, 0, 0, Vec::new());
    for text in &texts {
        let ours = documents("t.yaml", text.as_bytes()).map(|found| {
            found
                .into_iter()
                .find(|document| document.index == 0)
                .map_or(serde_json::Value::Null, |document| document.value)
        });
        match (judge.json(text), ours) {
            (Ok(wanted), Ok(got)) if wanted == got => equal += 1,
            (Err(_), Err(_)) => refused += 1,
            // kubectl reads the first document alone, and takes the last of two keys.
            (Ok(_), Err(error)) if error.document > 0 || error.to_string().contains("given twice") => stricter += 1,
            (wanted, got) => failures.push(format!("{text:?}\n  kubectl: {wanted:?}\n  wickie:  {got:?}")),
        }
        if failures.len() > 20 {
            break;
        }
    }
    eprintln!(
        "{written} files, {equal} equal, {refused} refused by both, {stricter} by wickie, {} different",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn random(rng: &mut Rng) -> String {
    let mut text = String::new();
    let mut keys = BTreeSet::new();
    for _ in 0..rng.usize(1..5) {
        let plain = ["a", "b", "c", "d"];
        let key: &str = if rng.u8(0..4) == 0 { pick(rng, &SCALARS) } else { pick(rng, &plain) };
        // Collections, comments and aliases as keys confuse go-yaml; here they are refused.
        let is_odd = key.starts_with(['[', '{', '*']) || key.contains(" #");
        if !is_odd && keys.insert(key) {
            text.push_str(&format!("{key}: {}\n", pick(rng, &SCALARS)));
        }
    }
    text
}

fn pick<'p>(rng: &mut Rng, pool: &[&'p str]) -> &'p str {
    pool[rng.usize(0..pool.len())]
}
