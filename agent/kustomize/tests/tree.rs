//! What a build asks of the tree that it reads: only what is reached, nothing that the restrictor forbids, and a tree
//! that cannot say is no tree without the file.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use wickie_kustomize::{Error, Files, FluxOverlay, Found, LoadRestrictor, Options, Tree, Unreadable};

/// Files, links between paths, and paths of which nothing can be found out; remembers what was read.
#[derive(Default)]
struct Watched {
    files: Files,
    links: Vec<(&'static str, &'static str)>,
    unreadable: Vec<&'static str>,
    read: RefCell<BTreeSet<String>>,
}

impl Watched {
    fn new(files: &[(&str, &str)]) -> Watched {
        let files = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        Watched { files, ..Watched::default() }
    }

    fn read(&self) -> Vec<String> {
        self.read.borrow().iter().cloned().collect()
    }
}

impl Tree for Watched {
    fn find(&self, path: &str) -> Result<Option<Found>, Unreadable> {
        if self.unreadable.contains(&path) {
            return Err(Unreadable("permission denied".to_owned()));
        }
        let target = self.links.iter().find(|(link, _)| *link == path).map_or(path, |(_, target)| target);
        self.files.find(target)
    }

    fn read(&self, file: &str) -> Result<Arc<[u8]>, Unreadable> {
        self.read.borrow_mut().insert(file.to_owned());
        self.files.read(file)
    }

    fn below(&self, directory: &str) -> Result<Vec<String>, Unreadable> {
        self.files.below(directory)
    }
}

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
}

#[test]
fn only_what_is_reached_is_read() {
    let (a, b) = (map("a"), map("b"));
    let tree = Watched::new(&[
        ("app/kustomization.yaml", "resources: [../base, a.yaml]\n"),
        ("app/a.yaml", &a),
        ("app/not-named.yaml", "a: [\n"),
        ("base/kustomization.yaml", "resources: [b.yaml]\n"),
        ("base/b.yaml", &b),
        ("other/kustomization.yaml", "resources: [gone.yaml]\n"),
    ]);
    wickie_kustomize::build(&tree, "app", &Options::kustomize()).unwrap();
    assert_eq!(tree.read(), ["app/a.yaml", "app/kustomization.yaml", "base/b.yaml", "base/kustomization.yaml"]);

    let overlay = FluxOverlay::default();
    let tree = Watched { read: RefCell::default(), ..tree };
    wickie_kustomize::build_flux(&tree, "base", &overlay).unwrap();
    assert_eq!(tree.read(), ["base/b.yaml", "base/kustomization.yaml"]);
}

#[test]
fn a_link_out_of_the_root_is_not_read_under_the_restrictor() {
    let secret = map("secret");
    let mut tree =
        Watched::new(&[("app/kustomization.yaml", "resources: [link.yaml]\n"), ("secrets/key.yaml", &secret)]);
    tree.links = vec![("app/link.yaml", "secrets/key.yaml")];
    let error = wickie_kustomize::build(&tree, "app", &Options::kustomize()).unwrap_err();
    assert!(error.to_string().contains("load-restrictor"), "{error}");
    assert_eq!(tree.read(), ["app/kustomization.yaml"]);
    let lifted = Options { restrictor: LoadRestrictor::None, ..Options::kustomize() };
    assert_eq!(wickie_kustomize::build(&tree, "app", &lifted).unwrap().len(), 1);

    // The kustomization itself may be such a link.
    let mut tree = Watched::new(&[("app/a.yaml", "a: b\n"), ("secrets/k", "resources: [a.yaml]\n")]);
    tree.links = vec![("app/kustomization.yaml", "secrets/k")];
    let error = wickie_kustomize::build(&tree, "app", &Options::kustomize()).unwrap_err();
    assert!(error.to_string().contains("load-restrictor"), "{error}");
    assert!(tree.read().is_empty());
}

#[test]
fn a_base_behind_a_link_stands_where_the_link_leads() {
    let a = map("a");
    let mut tree = Watched::new(&[
        ("app/kustomization.yaml", "resources: [base]\n"),
        ("deep/base/kustomization.yaml", "resources: [../a]\n"),
        ("deep/a/kustomization.yaml", "resources: [a.yaml]\n"),
        ("deep/a/a.yaml", &a),
    ]);
    tree.links = vec![("app/base", "deep/base")];
    assert_eq!(wickie_kustomize::build(&tree, "app", &Options::kustomize()).unwrap().len(), 1);
    tree.links = vec![("app/base", "")];
    let error = wickie_kustomize::build(&tree, "app", &Options::kustomize()).unwrap_err();
    assert!(error.to_string().contains("never end"), "{error}");
}

#[test]
fn what_cannot_be_found_out_is_not_taken_for_absent() {
    let mut tree = Watched::new(&[("app/kustomization.yaml", "namePrefix: x-\nresources: []\ncomponents: [../c]\n")]);
    tree.unreadable = vec!["c"];
    let overlay =
        FluxOverlay { components: vec!["../c".to_owned()], ignore_missing_components: true, ..FluxOverlay::default() };
    for (root, unreadable) in [("app", "c"), ("app", "app/kustomization.yml"), ("app", "app")] {
        tree.unreadable = vec![unreadable];
        let errors = [
            wickie_kustomize::build(&tree, root, &Options::kustomize()).unwrap_err(),
            wickie_kustomize::build_flux(&tree, root, &overlay).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Path { .. }) && error.to_string().contains("permission denied"), "{error}");
        }
    }
}
