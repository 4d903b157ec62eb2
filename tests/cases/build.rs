//! `wickie build` beside the `kustomize` command itself: the same folders on disk, the same bytes on stdout.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use wickie_testbench::{Scratch, need, parts};

const RESTRICTORS: [&str; 2] = ["LoadRestrictionsRootOnly", "LoadRestrictionsNone"];

/// How a command ended: whether well, stdout, stderr.
type Ended = (bool, String, String);

fn run(program: &Path, arguments: &[&str], here: &Path) -> Ended {
    let ended = Command::new(program).args(arguments).current_dir(here).env_remove("WICKIE_LOG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.success(), text(ended.stdout), text(ended.stderr))
}

fn wickie(arguments: &[&str], here: &Path) -> Ended {
    run(Path::new(env!("CARGO_BIN_EXE_wickie")), arguments, here)
}

/// The real one, unless there is nothing to build it with.
fn kustomize() -> Option<PathBuf> {
    if need::program("go").is_none() && !parts::is_here(&parts::KUSTOMIZE).unwrap() {
        need::skip("kustomize is not here, nor Go to build it: https://go.dev/dl");
        return None;
    }
    Some(parts::find(&parts::KUSTOMIZE).unwrap())
}

fn lay(top: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let file = top.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// A case of the kustomize crate on disk; the folder that is built.
fn lay_case(case: &Path, top: &Path) -> PathBuf {
    if let Ok(prefixes) = fs::read_to_string(case.join("shared")) {
        let shared = case.parent().unwrap().with_file_name("shared");
        prefixes.lines().for_each(|prefix| copy(&shared, &top.join(prefix)));
    }
    if case.join("input").is_dir() {
        copy(&case.join("input"), top);
    }
    let named = fs::read_to_string(case.join("root")).ok().map(|root| top.join(root.trim()));
    named.unwrap_or_else(|| Some(top.join("overlay")).filter(|it| it.is_dir()).unwrap_or_else(|| top.to_owned()))
}

/// Nothing where both commands agree on a case, under both restrictors.
fn judge(case: &Path, kustomize: &Path) -> Option<String> {
    let scratch = Scratch::new("build");
    let root = lay_case(case, &scratch.folder("tree"));
    let root = root.to_str().unwrap();
    for restrictor in RESTRICTORS {
        let arguments = ["build", root, "--load-restrictor", restrictor];
        let (built, got, said) = wickie(&arguments, &scratch);
        if let Ok(words) = fs::read_to_string(case.join("refused")) {
            if built || !said.contains(words.trim()) {
                return Some(format!("should be refused with {words:?}: {said}"));
            }
            continue;
        }
        let (real, wanted, cause) = run(kustomize, &arguments, &scratch);
        if (built, &got) != (real, &wanted) {
            return Some(format!("{restrictor}\nkustomize: {wanted}{cause}\nwickie: {got}{said}"));
        }
    }
    None
}

#[test]
fn every_case_builds_to_the_bytes_of_the_kustomize_command() {
    let Some(kustomize) = kustomize() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/kustomize/tests/cases");
    let cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(why) = judge(case, &kustomize) {
                        failures.lock().unwrap().insert(case.file_name().unwrap().to_owned(), why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} differ:\n{failures:#?}", failures.len(), cases.len());
    assert!(cases.len() >= 600);
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\n";
const LIST: &str = "resources: [a.yaml, ../shared/b.yaml]\n";

#[test]
fn links_and_files_above_are_held_to_the_restrictor() {
    let Some(kustomize) = kustomize() else { return };
    let scratch = Scratch::new("restrictor");
    let secret = MAP.replace("name: a", "name: secret");
    lay(
        &scratch,
        &[
            ("above/app/kustomization.yaml", LIST),
            ("above/app/a.yaml", MAP),
            ("above/shared/b.yaml", &MAP.replace("name: a", "name: b")),
            ("link-out/app/kustomization.yaml", "resources: [a.yaml, l.yaml]\n"),
            ("link-out/app/a.yaml", MAP),
            ("link-in/app/kustomization.yaml", "resources: [l.yaml, sub/m.yaml]\n"),
            ("link-in/app/real/a.yaml", MAP),
            ("link-base/app/kustomization.yaml", "resources: [base]\n"),
            ("link-base/deep/base/kustomization.yaml", "resources: [../c]\n"),
            ("link-base/deep/c/kustomization.yaml", "resources: [a.yaml]\n"),
            ("link-base/deep/c/a.yaml", MAP),
            ("link-kustomization/app/a.yaml", MAP),
            ("link-generator/app/kustomization.yaml", "configMapGenerator:\n- name: g\n  files: [k]\n"),
            ("link-circle/app/kustomization.yaml", "resources: [l.yaml]\n"),
            ("secrets/s.yaml", &secret),
            ("secrets/k", "resources: [a.yaml]\n"),
        ],
    );
    let secrets = scratch.join("secrets");
    symlink(secrets.join("s.yaml"), scratch.join("link-out/app/l.yaml")).unwrap();
    symlink("real/a.yaml", scratch.join("link-in/app/l.yaml")).unwrap();
    symlink("../../secrets", scratch.join("link-in/app/sub")).unwrap();
    symlink("../deep/base", scratch.join("link-base/app/base")).unwrap();
    symlink("../../secrets/k", scratch.join("link-kustomization/app/kustomization.yaml")).unwrap();
    symlink(secrets.join("k"), scratch.join("link-generator/app/k")).unwrap();
    symlink("l.yaml", scratch.join("link-circle/app/l.yaml")).unwrap();
    symlink("above/app", scratch.join("link-root")).unwrap();
    for name in [
        "above/app",
        "link-root",
        "link-out/app",
        "link-in/app",
        "link-base/app",
        "link-kustomization/app",
        "link-generator/app",
        "link-circle/app",
    ] {
        for restrictor in RESTRICTORS {
            let arguments = ["build", name, "--load-restrictor", restrictor];
            let (real, wanted, cause) = run(&kustomize, &arguments, &scratch);
            let (built, got, said) = wickie(&arguments, &scratch);
            assert_eq!((built, &got), (real, &wanted), "{name} {restrictor}\nkustomize: {cause}\nwickie: {said}");
            assert!(restrictor == RESTRICTORS[1] || !got.contains("secret"), "{name}: {got}");
            if !built {
                assert!(said.contains(&name.replace("link-root", "above")) && said.contains(".yaml"), "{name}: {said}");
            }
        }
    }
    let (_, _, said) = wickie(&["build", "link-out/app"], &scratch);
    assert!(said.contains("link-out/app/kustomization.yaml:1") && said.contains("--load-restrictor"), "{said}");
}

#[test]
fn the_result_goes_where_kustomize_puts_it() {
    let Some(kustomize) = kustomize() else { return };
    let scratch = Scratch::new("output");
    let objects = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Aa}\n---\napiVersion: apps/v1\nkind: Deployment\n\
        metadata: {name: web, namespace: Team}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n\
        metadata: {name: 'system:a'}\n---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: default}\n";
    lay(&scratch, &[("all/kustomization.yaml", "resources: [r.yaml]\n"), ("all/r.yaml", objects)]);
    lay(&scratch, &[("one/kustomization.yaml", "namespace: team\nresources: [r.yaml]\n"), ("one/r.yaml", MAP)]);
    let read = |folder: &str| -> BTreeMap<String, String> {
        let files = fs::read_dir(scratch.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files
            .map(|it| (it.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&it).unwrap()))
            .collect()
    };
    for case in ["all", "one"] {
        let (ours, theirs) = (format!("ours-{case}"), format!("theirs-{case}"));
        scratch.folder(&ours);
        scratch.folder(&theirs);
        assert_eq!(wickie(&["build", case, "-o", &ours], &scratch), (true, String::new(), String::new()));
        assert!(run(&kustomize, &["build", case, "-o", &theirs], &scratch).0);
        assert_eq!(read(&ours), read(&theirs));

        let (ours, theirs) = (format!("{ours}.yaml"), format!("{theirs}.yaml"));
        assert!(wickie(&["build", case, "--output", &ours], &scratch).0);
        assert!(run(&kustomize, &["build", case, "--output", &theirs], &scratch).0);
        assert_eq!(fs::read(scratch.join(ours)).unwrap(), fs::read(scratch.join(theirs)).unwrap());
    }
    let (_, yaml, _) = wickie(&["build", "all"], &scratch);
    assert_eq!(wickie(&["build", "all", "-o", "yaml"], &scratch).1, yaml);
    assert_eq!(wickie(&["build"], &scratch.join("all")).1, yaml, "without DIR, here");
    let list: Value = serde_json::from_str(&wickie(&["build", "all", "-o", "json"], &scratch).1).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"List".into(), 4));
    let (built, _, said) = wickie(&["build", "all", "-o", "no/such/folder.yaml"], &scratch);
    assert!(!built && said.contains("no/such/folder.yaml cannot be written"), "{said}");
}

#[test]
fn what_cannot_be_built_says_what_and_what_to_do() {
    let scratch = Scratch::new("refused");
    lay(
        &scratch,
        &[
            ("plain/a.yaml", MAP),
            ("plain/sub/b.yaml", &MAP.replace("name: a", "name: b")),
            ("plain/.git/config.yaml", "a: [\n"),
            ("helm/kustomization.yaml", "namePrefix: x-\nhelmCharts:\n- name: redis\n"),
            ("remote/kustomization.yaml", "resources:\n- https://github.com/o/r//base?ref=v1\n"),
            ("names/kustomization.yaml", "resources: [a.yaml, b.yaml]\n"),
            ("names/a.yaml", &MAP.replace("name: a", "name: x-A")),
            ("names/b.yaml", &MAP.replace("name: a", "name: x-a")),
            ("broken/kustomization.yaml", "resources:\n- a.yaml\npatches:\n- path: p.yaml\n"),
            ("broken/a.yaml", MAP),
            ("broken/p.yaml", "a: b\n c: d\n"),
        ],
    );
    let said = |arguments: &[&str]| {
        let (built, shown, said) = wickie(arguments, &scratch);
        assert!(!built && shown.is_empty(), "{arguments:?}: {shown}");
        said
    };
    assert!(said(&["build", "plain"]).contains("--flux"));
    let (built, yaml, _) = wickie(&["build", "--flux", "plain"], &scratch);
    assert!(built && yaml.matches("kind: ConfigMap").count() == 2, "{yaml}");
    assert!(said(&["build", "helm"]).contains("helm/kustomization.yaml:3: helmCharts"));
    assert!(said(&["build", "remote"]).contains("remote/kustomization.yaml:2: resources[0]"));
    assert!(said(&["build", "https://github.com/o/r//base"]).contains("clone the repository"));
    assert!(said(&["build", "no-such"]).contains("no-such cannot be built"));
    assert!(said(&["build", "plain/a.yaml"]).contains("not a directory"));
    assert!(said(&["build", "broken"]).contains("broken/p.yaml"));
    let folder = scratch.folder("into");
    assert!(said(&["build", "names", "-o", folder.to_str().unwrap()]).contains("upper and lower case"));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "nothing is written where not all can be");
    let code =
        |line: &str| Command::new(env!("CARGO_BIN_EXE_wickie")).args(line.split(' ')).output().unwrap().status.code();
    assert_eq!(code("build --load-restrictor none"), Some(2));
    assert_eq!(code("status -o out.yaml"), Some(2));
}
