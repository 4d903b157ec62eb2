//! Manifests in number.

use std::fmt::Write;

/// `count` objects in `count` files below `apps/`: ConfigMap, Service, Deployment (without replicas) and ServiceAccount in equal parts,
/// about 1.2 KB each. The same count always gives the same text. With a namespace, each names it.
pub fn many(count: usize, namespace: Option<&str>) -> Vec<(String, String)> {
    (0..count)
        .map(|index| {
            let name = format!("app-{index:04}");
            let text = match index % 4 {
                0 => config_map(&name, namespace),
                1 => service(&name, namespace),
                2 => deployment(&name, namespace),
                _ => service_account(&name, namespace),
            };
            (format!("apps/{:02}/{name}.yaml", index / 100), text)
        })
        .collect()
}

fn config_map(name: &str, namespace: Option<&str>) -> String {
    let mut text = head("v1", "ConfigMap", name, namespace);
    text.push_str("data:\n");
    for line in 0..15 {
        let _ = writeln!(text, "  setting-{line:02}: \"{name} line {line} of the settings that it reads at start\"");
    }
    text
}

fn service(name: &str, namespace: Option<&str>) -> String {
    let mut text = head("v1", "Service", name, namespace);
    let _ = write!(text, "spec:\n  clusterIP: None\n  selector:\n    app.kubernetes.io/name: {name}\n  ports:\n");
    for port in 0..9 {
        let _ = write!(
            text,
            "    - name: port-{port}\n      port: {}\n      targetPort: {}\n      protocol: TCP\n",
            8000 + port,
            9000 + port
        );
    }
    text
}

fn deployment(name: &str, namespace: Option<&str>) -> String {
    let mut text = head("apps/v1", "Deployment", name, namespace);
    let _ = write!(
        text,
        "spec:\n  replicas: 0\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: {name}\n  template:\n    metadata:\n      \
         labels:\n        app.kubernetes.io/name: {name}\n    spec:\n      containers:\n        - name: main\n          \
         image: registry.example.com/{name}:1.0.0\n          ports:\n            - containerPort: 8080\n          env:\n"
    );
    for index in 0..6 {
        let _ = write!(text, "            - name: SETTING_{index}\n              value: \"{name} value {index}\"\n");
    }
    text.push_str("          resources:\n            requests:\n              cpu: 10m\n              memory: 16Mi\n");
    text
}

fn service_account(name: &str, namespace: Option<&str>) -> String {
    let mut text = head("v1", "ServiceAccount", name, namespace);
    text.push_str("automountServiceAccountToken: false\nimagePullSecrets:\n");
    for index in 0..24 {
        let _ = writeln!(text, "  - name: {name}-pull-secret-{index:02}");
    }
    text
}

fn head(version: &str, kind: &str, name: &str, namespace: Option<&str>) -> String {
    let mut text = format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n");
    if let Some(namespace) = namespace {
        let _ = writeln!(text, "  namespace: {namespace}");
    }
    let _ = write!(
        text,
        "  labels:\n    app.kubernetes.io/name: {name}\n    app.kubernetes.io/part-of: bench\n  annotations:\n    \
         example.com/description: \"One of many objects of {name}, as a fleet repository holds them: rendered, plain, and a little wordy\"\n    \
         example.com/owner: \"team-{}@example.com\"\n",
        name.len() + usize::from(name.ends_with('7'))
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_are_about_a_megabyte() {
        let files = many(1000, None);
        let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
        assert_eq!(files.len(), 1000);
        assert!((1_000_000..1_400_000).contains(&bytes), "{bytes} bytes");
    }
}
