//! Random objects.

use super::Grower;

pub(super) const NAMES: [&str; 8] = ["web", "db", "settings", "creds", "a-b", "gen", "x1", "web.db"];
pub(super) const NAMESPACES: [&str; 3] = ["team", "default", "ops"];
pub(super) const IMAGES: [&str; 5] =
    ["nginx", "nginx:1.25", "r.io:5000/a/nginx:v1", "busybox@sha256:abcd", "r.io/tools/app:1.0@sha256:ffff"];

impl Grower {
    fn name(&mut self) -> &'static str {
        self.pick(&NAMES)
    }

    /// One to three objects in one file.
    pub(super) fn objects(&mut self) -> String {
        let texts: Vec<String> = (0..self.rng.usize(1..4)).map(|_| self.new_object()).collect();
        texts.join("---\n")
    }

    /// An object whose name is not taken yet, but for one in a hundred.
    fn new_object(&mut self) -> String {
        loop {
            let text = self.object();
            let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
            if self.made.insert((of("kind: "), of("  name: "), of("  namespace: "))) || self.one_in(100) {
                return text;
            }
        }
    }

    fn metadata(&mut self) -> String {
        let mut text = format!("metadata:\n  name: {}\n", self.name());
        if self.one_in(4) {
            text.push_str(&format!("  namespace: {}\n", self.pick(&NAMESPACES)));
        }
        if self.one_in(3) {
            text.push_str("  labels:\n    app: web\n    tier: \"1\"\n");
        }
        if self.one_in(5) {
            text.push_str(&format!("  annotations: {{note: {}, local: \"x\"}}\n", self.name()));
        }
        text
    }

    fn object(&mut self) -> String {
        let metadata = self.metadata();
        let (a, b, c) = (self.name(), self.name(), self.name());
        let replicas = self.rng.u8(0..4);
        let pod = self.pod();
        match self.rng.u32(0..14) {
            0..=2 => format!(
                "apiVersion: apps/v1\nkind: Deployment\n{metadata}spec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{app: web}}\n  template:\n    metadata:\n      labels: {{app: web}}\n    spec:\n{pod}"
            ),
            3 => format!(
                "apiVersion: apps/v1\nkind: StatefulSet\n{metadata}spec:\n  serviceName: {a}\n  selector:\n    matchLabels: {{app: db}}\n  template:\n    metadata:\n      labels: {{app: db}}\n    spec:\n{pod}  volumeClaimTemplates:\n  - metadata:\n      name: {b}\n    spec:\n      storageClassName: fast\n"
            ),
            4 => format!(
                "apiVersion: batch/v1\nkind: CronJob\n{metadata}spec:\n  schedule: '@daily'\n  jobTemplate:\n    spec:\n      template:\n        spec:\n{}",
                pod.lines().map(|line| format!("    {line}\n")).collect::<String>()
            ),
            5 => format!(
                "apiVersion: v1\nkind: Service\n{metadata}spec:\n  selector: {{app: web}}\n  ports:\n  - {{port: 80, targetPort: http}}\n  - port: 443\n    protocol: UDP\n"
            ),
            6..=7 => format!(
                "apiVersion: v1\nkind: ConfigMap\n{metadata}data:\n  mode: {a}\n  \"no\": \"on\"\n  num: \"012\"\n  text: |\n    {b}\n    two\n"
            ),
            8 => format!("apiVersion: v1\nkind: Secret\n{metadata}type: Opaque\ndata:\n  key: YQ==\n"),
            9 => format!("apiVersion: v1\nkind: ServiceAccount\n{metadata}imagePullSecrets:\n- name: {a}\n"),
            10 => format!(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: {}\n{metadata}rules:\n- apiGroups: ['']\n  resources: [secrets]\n  resourceNames: [{a}, {b}]\n  verbs: [get]\n",
                if replicas.is_multiple_of(2) { "Role" } else { "ClusterRole" }
            ),
            11 => format!(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: {}\n{metadata}roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {}\n  name: {a}\nsubjects:\n- kind: ServiceAccount\n  name: {b}\n- kind: ServiceAccount\n  name: {c}\n  namespace: {}\n- kind: ServiceAccount\n  name: default\n",
                if replicas.is_multiple_of(2) { "RoleBinding" } else { "ClusterRoleBinding" },
                if replicas < 2 { "Role" } else { "ClusterRole" },
                self.pick(&NAMESPACES)
            ),
            12 => format!(
                "apiVersion: networking.k8s.io/v1\nkind: Ingress\n{metadata}spec:\n  tls:\n  - secretName: {a}\n  rules:\n  - http:\n      paths:\n      - backend:\n          service: {{name: {b}, port: {{number: 80}}}}\n"
            ),
            _ => format!(
                "apiVersion: example.com/v1\nkind: Widget\n{metadata}spec:\n  size: {replicas}\n  ratio: 1.50\n  when: 2020-01-02\n  empty:\n  nothing: null\n  image: nginx:1\n  configName: {{key: {b}}}\n  configRef: {a}\n  sel: {{app: web}}\n  list: [{a}, {b}]\n  items:\n  - name: {a}\n    value: 1\n  template:\n    spec:\n{pod}"
            ),
        }
    }

    /// A pod's spec at six spaces.
    fn pod(&mut self) -> String {
        let mut text = String::new();
        if self.one_in(3) {
            text.push_str(&format!("      serviceAccountName: {}\n", self.name()));
        }
        text.push_str("      containers:\n");
        for at in 0..self.rng.usize(1..3) {
            let image = self.pick(&IMAGES);
            let (a, b) = (self.name(), self.name());
            text.push_str(&format!("      - name: c{at}\n        image: {image}\n"));
            if self.one_in(2) {
                text.push_str(&format!(
                    "        env:\n        - name: A\n          value: \"{a} $(VAR) $$(VAR)\"\n        - name: B\n          valueFrom:\n            configMapKeyRef: {{name: {a}, key: mode}}\n"
                ));
            }
            if self.one_in(2) {
                text.push_str(&format!(
                    "        envFrom:\n        - secretRef: {{name: {b}}}\n        - configMapRef:\n            name: {a}\n"
                ));
            }
            if self.one_in(3) {
                text.push_str("        ports:\n        - containerPort: 80\n        - containerPort: 80\n          protocol: UDP\n        args: [--x, $(VAR)]\n");
            }
        }
        if self.one_in(3) {
            let (a, b) = (self.name(), self.name());
            text.push_str(&format!(
                "      volumes:\n      - name: v\n        configMap: {{name: {a}}}\n      - name: w\n        projected:\n          sources:\n          - secret: {{name: {b}}}\n"
            ));
        }
        text
    }
}
