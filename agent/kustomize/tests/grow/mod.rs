//! Random trees of kustomizations: bases, overlays and components with objects that refer to each other.
//!
//! Names come from small pools, so that references meet their targets and conflicts happen.

mod fields;
mod objects;
mod plugins;

use crate::support::Case;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// The case that grows from a seed.
pub(crate) fn case(seed: u64) -> Case {
    let mut grower =
        Grower { rng: Rng::with_seed(seed), files: BTreeMap::new(), made: BTreeSet::new(), has_var: false };
    let depth = grower.rng.usize(0..4);
    let root = grower.layer("l", depth);
    Case { files: grower.files, root, unrestricted: false, legacy: grower.rng.bool() }
}

struct Grower {
    rng: Rng,
    files: BTreeMap<String, Vec<u8>>,
    /// Kind, name and namespace of the objects so far: most trees should build.
    made: BTreeSet<(String, String, String)>,
    has_var: bool,
}

impl Grower {
    fn write(&mut self, path: String, text: &str) {
        self.files.insert(path, text.as_bytes().to_vec());
    }

    /// True one time in `n`.
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn pick<'p>(&mut self, pool: &[&'p str]) -> &'p str {
        pool[self.rng.usize(0..pool.len())]
    }

    /// The name of an object of this kind, if there is one.
    fn made_name(&mut self, kind: &str) -> Option<String> {
        let names: Vec<&String> = self.made.iter().filter(|(have, ..)| have == kind).map(|(_, name, _)| name).collect();
        if names.is_empty() { None } else { Some(names[self.rng.usize(0..names.len())].clone()) }
    }

    /// A folder with a kustomization over `depth` layers more; its path.
    fn layer(&mut self, name: &str, depth: usize) -> String {
        let mut resources = Vec::new();
        if depth > 0 {
            for at in 0..self.rng.usize(1..3) {
                let base = self.layer(&format!("{name}{at}"), depth - 1);
                resources.push(format!("../{base}"));
            }
        }
        let count = if depth == 0 { self.rng.usize(1..6) } else { self.rng.usize(0..3) };
        for at in 0..count {
            let text = self.objects();
            self.write(format!("{name}/r{at}.yaml"), &text);
            resources.push(format!("r{at}.yaml"));
        }
        let mut text = String::new();
        if !resources.is_empty() {
            text.push_str("resources:\n");
            for resource in &resources {
                text.push_str(&format!("- {resource}\n"));
            }
        }
        if self.one_in(5) {
            let component = format!("{name}c");
            let fields = self.fields(&component);
            let head = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n";
            self.write(format!("{component}/kustomization.yaml"), &format!("{head}{fields}"));
            text.push_str(&format!("components: [../{component}]\n"));
        }
        text.push_str(&self.fields(name));
        if text.is_empty() {
            text.push_str("namePrefix: x-\n");
        }
        self.write(format!("{name}/kustomization.yaml"), &text);
        name.to_owned()
    }
}
