//! Hash suffixes equal kustomize's on random ConfigMaps and Secrets.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use fastrand::Rng;
use support::{Case, Judge, difference};

const COUNT: usize = 1000;

#[test]
fn random_maps() {
    let Some(mut judge) = Judge::start() else { return };
    let mut rng = Rng::with_seed(11);
    let mut case = Case::default();
    let mut text = String::new();
    for (field, from) in [("configMapGenerator", 0), ("secretGenerator", COUNT / 2)] {
        text.push_str(&format!("{field}:\n"));
        for at in from..from + COUNT / 2 {
            text.push_str(&format!("- name: m{at}\n  files:\n"));
            for key in 0..rng.usize(0..5) {
                let path = format!("f{at}-{key}");
                text.push_str(&format!("  - key.{}_{key}={path}\n", rng.u8(0..3)));
                case.files.insert(path, content(&mut rng));
            }
            if rng.bool() {
                text.push_str(&format!("  literals: [\"l=<{}>&\\u2028\"]\n", rng.u32(..)));
            }
        }
    }
    case.files.insert("kustomization.yaml".to_owned(), text.into_bytes());
    let (wanted, got) = (judge.build(&case).unwrap(), case.wickie().unwrap());
    assert!(wanted == got, "{}", difference(&wanted, &got));
    let names = got.lines().filter(|line| line.starts_with("  name: m")).count();
    assert_eq!(names, COUNT);
}

/// Text, text that needs escapes, or bytes.
fn content(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(0..200);
    match rng.u8(0..3) {
        0 => (0..length).map(|_| rng.u8(b' '..=b'~')).collect(),
        1 => (0..length)
            .map(|_| *rng.choice(&['<', '\t', '\n', '"', '\\', 'é', '€', '\u{1}', '😀']).unwrap())
            .collect::<String>()
            .into_bytes(),
        _ => (0..length).map(|_| rng.u8(..)).collect(),
    }
}
