//! The tree of the benches: 1,000 Deployments, Services, ConfigMaps and ServiceAccounts that refer to each other, under three
//! layers of changes.

use std::collections::BTreeMap;

/// The folder that is built.
pub(crate) const ROOT: &str = "three";

const OBJECTS: usize = 1000;

/// Files by their path.
pub(crate) fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut resources = String::from("resources:\n");
    for at in 0..OBJECTS / 4 {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-{at}\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app: app-{at}}}\n  template:\n    metadata:\n      labels: {{app: app-{at}}}\n    spec:\n      serviceAccountName: app-{at}\n      containers:\n      - name: app\n        image: registry.example.com/app:{at}\n        env:\n        - name: MODE\n          valueFrom: {{configMapKeyRef: {{name: app-{at}, key: mode}}}}\n        ports:\n        - containerPort: 80\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: app-{at}\nspec:\n  selector: {{app: app-{at}}}\n  ports:\n  - port: 80\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app-{at}\ndata:\n  mode: prod\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: app-{at}\n"
        );
        files.insert(format!("base/r{at}.yaml"), text);
        resources.push_str(&format!("- r{at}.yaml\n"));
    }
    let mut write = |path: &str, text: String| {
        files.insert(path.to_owned(), text);
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
    files
}
