//! Damaged inputs end in an error or in objects, never in a panic, and never in a build without end.
//!
//! The inputs of all cases are damaged at random: bytes are flipped, cut out and doubled, files are swapped.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use fastrand::Rng;
use support::{Case, folders};

#[test]
fn damaged_inputs() {
    let mut rng = Rng::with_seed(5);
    let cases: Vec<Case> = folders("cases").iter().map(|folder| Case::read(folder)).collect();
    let (mut built, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut case = cases[rng.usize(0..cases.len())].clone();
        for _ in 0..rng.usize(1..4) {
            damage(&mut rng, &mut case);
        }
        match case.wickie() {
            Ok(_) => built += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    eprintln!("{built} built, {refused} refused");
    assert!(built > 100 && refused > 100);
}

#[test]
fn growth_is_bounded() {
    // A patch that doubles an object forty times.
    let copies =
        "    - {op: copy, from: /data, path: /data/a}\n    - {op: copy, from: /data, path: /data/b}\n".repeat(40);
    let mut case = Case::default();
    let mut write = |path: &str, text: String| case.files.insert(path.to_owned(), text.into_bytes());
    write("r.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: {y: z}}\n".to_owned());
    write(
        "kustomization.yaml",
        format!("resources: [r.yaml]\npatches:\n- target: {{kind: ConfigMap}}\n  patch: |\n{copies}"),
    );
    assert!(case.wickie().unwrap_err().to_string().contains("grow without measure"));

    // Layers that each name the one below twice.
    let mut case = Case { root: "l20".to_owned(), ..Case::default() };
    let mut write = |path: String, text: String| case.files.insert(path, text.into_bytes());
    write("l0/r.yaml".to_owned(), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n".to_owned());
    write("l0/kustomization.yaml".to_owned(), "resources: [r.yaml]\n".to_owned());
    for layer in 1..=20 {
        for side in ["a", "b"] {
            let below = format!("resources: [../l{}]\nnamePrefix: {side}{layer}-\n", layer - 1);
            write(format!("l{layer}{side}/kustomization.yaml"), below);
        }
        write(format!("l{layer}/kustomization.yaml"), format!("resources: [../l{layer}a, ../l{layer}b]\n"));
    }
    assert!(case.wickie().unwrap_err().to_string().contains("more than 20000 objects"));
}

fn damage(rng: &mut Rng, case: &mut Case) {
    let names: Vec<String> = case.files.keys().cloned().collect();
    let name = &names[rng.usize(0..names.len())];
    let other = case.files[&names[rng.usize(0..names.len())]].clone();
    let content = case.files.get_mut(name).unwrap();
    if content.is_empty() {
        *content = other;
        return;
    }
    let (a, b) = (rng.usize(0..content.len()), rng.usize(0..content.len()));
    let (start, end) = (a.min(b), (a.max(b)).min(a.min(b) + 40));
    match rng.u8(0..6) {
        0 => content[a] = rng.u8(..),
        1 => content[a] = *rng.choice(b"-:{}[]&*|>'\"\n #!%@,?$/").unwrap(),
        2 => drop(content.drain(start..end)),
        3 => {
            let copy = content[start..end].to_vec();
            content.splice(b..b, copy);
        }
        4 => content.truncate(a),
        _ => *content = other,
    }
}
