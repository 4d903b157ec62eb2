//! 1,000 objects through three overlays: wickie's build and kustomize's, in one run on one machine.
//!
//! `cargo bench -p wickie-kustomize`. kustomize runs inside the harness, so that starting a process is not counted; its
//! first build, which reads the OpenAPI schema, is shown apart. The peak is that of this process, input included.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::panic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};
use support::{Case, Judge};

const OBJECTS: usize = 1000;
const ROUNDS: usize = 7;

fn main() {
    let case = tree();
    let before = peak();
    let ours = measure(|| drop(case.wickie().unwrap()));
    println!("wickie:    {}, peak {} KiB ({before} before)", shown(&ours), peak());
    let Some(mut judge) = Judge::start() else { return };
    let first = Instant::now();
    let wanted = judge.build(&case).unwrap();
    let first = first.elapsed();
    let theirs = measure(|| drop(judge.build(&case).unwrap()));
    println!("kustomize: {}, first {first:.0?}", shown(&theirs));
    println!("the results are {}", if wanted == case.wickie().unwrap() { "equal" } else { "DIFFERENT" });
    println!("medians: {:.0} times faster", theirs[ROUNDS / 2].as_secs_f64() / ours[ROUNDS / 2].as_secs_f64());
}

fn measure(mut build: impl FnMut()) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            build();
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn shown(times: &[Duration]) -> String {
    format!("min {:.1?}, median {:.1?}, max {:.1?}", times[0], times[ROUNDS / 2], times[ROUNDS - 1])
}

/// The most memory this process had resident so far.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Deployments, Services and ConfigMaps that refer to each other, under three layers of changes.
fn tree() -> Case {
    let mut case = Case { root: "three".to_owned(), legacy: true, ..Case::default() };
    let mut resources = String::from("resources:\n");
    for at in 0..OBJECTS / 4 {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-{at}\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app: app-{at}}}\n  template:\n    metadata:\n      labels: {{app: app-{at}}}\n    spec:\n      serviceAccountName: app-{at}\n      containers:\n      - name: app\n        image: registry.example.com/app:{at}\n        env:\n        - name: MODE\n          valueFrom: {{configMapKeyRef: {{name: app-{at}, key: mode}}}}\n        ports:\n        - containerPort: 80\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: app-{at}\nspec:\n  selector: {{app: app-{at}}}\n  ports:\n  - port: 80\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app-{at}\ndata:\n  mode: prod\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: app-{at}\n"
        );
        case.files.insert(format!("base/r{at}.yaml"), text.into_bytes());
        resources.push_str(&format!("- r{at}.yaml\n"));
    }
    let mut write = |path: &str, text: String| {
        case.files.insert(path.to_owned(), text.into_bytes());
    };
    write("base/kustomization.yaml", resources);
    write("one/kustomization.yaml", "resources: [../base]\nnamePrefix: one-\ncommonLabels: {layer: one}\n".to_owned());
    write(
        "two/kustomization.yaml",
        "resources: [../one]\nnamespace: team\nimages:\n- name: registry.example.com/app\n  newName: mirror.example.com/app\npatches:\n- target: {kind: Deployment}\n  patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: any}\n    spec:\n      template:\n        spec:\n          containers:\n          - name: app\n            resources: {limits: {memory: 64Mi}}\n".to_owned(),
    );
    write(
        "three/kustomization.yaml",
        "resources: [../two]\nnameSuffix: -three\ncommonAnnotations: {by: bench}\nconfigMapGenerator:\n- name: extra\n  literals: [a=b]\n".to_owned(),
    );
    case
}
