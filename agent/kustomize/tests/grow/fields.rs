//! Random fields of a kustomization.

use super::Grower;
use super::objects::{NAMES, NAMESPACES};

pub(super) const KINDS: [&str; 8] =
    ["Deployment", "StatefulSet", "Service", "ConfigMap", "Secret", "Role", "Widget", "Deploy.*|Cron.*"];

impl Grower {
    /// Some fields, as YAML; `folder` is where files that they name go.
    pub(super) fn fields(&mut self, folder: &str) -> String {
        let mut text = String::new();
        if self.one_in(3) {
            text.push_str(&format!("namePrefix: {:?}\n", self.pick(&["p-", "q-", "x.", "1"])));
        }
        if self.one_in(4) {
            text.push_str(&format!("nameSuffix: {:?}\n", self.pick(&["-s", "-t", "-2"])));
        }
        if self.one_in(4) {
            text.push_str(&format!("namespace: {}\n", self.pick(&NAMESPACES)));
        }
        if self.one_in(5) {
            text.push_str("commonLabels: {owner: me, app: other}\n");
        }
        if self.one_in(4) {
            let selectors = self.rng.bool();
            let templates = self.rng.bool();
            text.push_str(&format!(
                "labels:\n- pairs: {{env: prod, owner: '3'}}\n  includeSelectors: {selectors}\n  includeTemplates: {templates}\n"
            ));
            if self.one_in(3) {
                text.push_str(
                    "- pairs: {place: here}\n  fields:\n  - path: spec/labels\n    kind: Widget\n    create: true\n  - path: spec/template/metadata/labels\n    group: apps\n",
                );
            }
        }
        if self.one_in(5) {
            text.push_str("commonAnnotations: {note: hi, 'on': 'true'}\n");
        }
        if self.one_in(4) {
            let name = self.pick(&["nginx", "r.io:5000/a/nginx", "busybox", "r.io/tools/app"]);
            let change = self.pick(&[
                "newTag: '2'",
                "newName: m.io/x",
                "digest: sha256:00ff",
                "newName: why\n  newTag: v3",
                "tagSuffix: -rc",
            ]);
            text.push_str(&format!("images:\n- name: {name}\n  {change}\n"));
        }
        if self.one_in(8)
            && let Some(name) = self.made_name("Deployment")
        {
            text.push_str(&format!("replicas:\n- name: {name}\n  count: 5\n"));
        }
        if self.one_in(3) {
            text.push_str(&self.generators(folder));
        }
        if self.one_in(3) {
            text.push_str(&self.patches(folder));
        }
        if self.one_in(5) {
            text.push_str(&self.replacements(folder));
        }
        if !self.has_var && !self.made.is_empty() && self.one_in(16) {
            self.has_var = true;
            let (kind, path) = match self.rng.u8(0..3) {
                0 => ("Service", "metadata.name"),
                1 => ("ConfigMap", "data.mode"),
                _ => ("Deployment", "spec.replicas"),
            };
            let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
            text.push_str(&format!(
                "vars:\n- name: VAR\n  objref: {{apiVersion: {version}, kind: {kind}, name: {}}}\n  fieldref: {{fieldPath: {path}}}\n",
                self.made_name(kind).unwrap_or_default()
            ));
        }
        if self.one_in(10) {
            text.push_str(self.pick(&[
                "sortOptions: {order: fifo}\n",
                "sortOptions: {order: legacy}\n",
                "sortOptions: {order: legacy, legacySortOptions: {orderFirst: [Service], orderLast: [ConfigMap]}}\n",
            ]));
        }
        if self.one_in(12) {
            text.push_str("buildMetadata: [originAnnotations, transformerAnnotations]\n");
        }
        if self.one_in(10) {
            self.write(
                format!("{folder}/places.yaml"),
                "namePrefix:\n- path: spec/size\n  kind: Widget\nimages:\n- path: spec/image\n  kind: Widget\nreplicas:\n- path: spec/size\n  kind: Widget\ncommonAnnotations:\n- path: spec/remarks\n  kind: Widget\n  create: true\nvarReference:\n- path: spec/list\n  kind: Widget\nnameReference:\n- kind: ConfigMap\n  version: v1\n  fieldSpecs:\n  - path: spec/list\n    kind: Widget\nnamespace:\n- path: spec/items/ns\n  kind: Widget\n  create: true\ncommonLabels:\n- path: spec/labels\n  kind: Widget\n  create: true\n",
            );
            text.push_str("configurations: [places.yaml]\n");
        }
        text.push_str(&self.more_fields(folder));
        text
    }

    fn generators(&mut self, folder: &str) -> String {
        let mut text = String::new();
        for field in ["configMapGenerator", "secretGenerator"] {
            if !self.rng.bool() {
                continue;
            }
            text.push_str(&format!("{field}:\n"));
            for _ in 0..self.rng.usize(1..3) {
                let name = self.pick(&["gen", "settings", "creds", "x1"]);
                text.push_str(&format!("- name: {name}\n"));
                let kind = if field == "configMapGenerator" { "ConfigMap" } else { "Secret" };
                let is_new = self.made.insert((kind.to_owned(), name.to_owned(), String::new()));
                if !is_new {
                    text.push_str(&format!("  behavior: {}\n", self.pick(&["merge", "replace"])));
                }
                if self.one_in(20) {
                    text.push_str(&format!("  namespace: {}\n", self.pick(&NAMESPACES)));
                }
                let value = self.rng.u32(0..4);
                text.push_str(&format!("  literals:\n  - mode={value}\n  - q='x=y'\n"));
                if self.one_in(3) {
                    let content = self.pick(&["one\ntwo\n", "", "tab\there", "\u{e9}\u{2028}<&>", "trail  \nx"]);
                    self.write(format!("{folder}/{name}.txt"), content);
                    text.push_str(&format!("  files: [{name}.txt, k={name}.txt]\n"));
                }
                if self.one_in(4) {
                    self.write(format!("{folder}/{name}.env"), "# c\nA=1\n B = 2 \nC\n");
                    text.push_str(&format!("  envs: [{name}.env]\n"));
                }
                if self.one_in(4) {
                    text.push_str(
                        "  options:\n    disableNameSuffixHash: true\n    labels: {g: '1'}\n    annotations: {h: i}\n",
                    );
                }
            }
        }
        if self.one_in(5) {
            text.push_str("generatorOptions:\n  immutable: true\n  labels: {all: yes-please}\n");
        }
        text
    }

    fn patches(&mut self, folder: &str) -> String {
        let mut text = String::new();
        if self.one_in(4) {
            text.push_str(&self.patch_with_options(folder));
        }
        for _ in 0..self.rng.usize(1..3) {
            let target = self.target();
            let which = self.rng.u8(0..9);
            let kind = match which {
                3 => "Deployment",
                5 => "ConfigMap",
                7 => "Service",
                _ => "Widget",
            };
            let version = "apps/v1";
            let name = match self.made_name(kind) {
                Some(name) => name,
                None if matches!(which, 3 | 5 | 7 | 8) => continue,
                None => String::new(),
            };
            match which {
                0 => text.push_str(&format!(
                    "- {target}  patch: |-\n    - {{op: add, path: /metadata/annotations, value: {{j: 'k'}}}}\n"
                )),
                1 => text.push_str(&format!(
                    "- {target}  patch: |-\n    - {{op: replace, path: /spec/replicas, value: 12345678}}\n    - {{op: add, path: /spec/big, value: 9007199254740993}}\n"
                )),
                2 => text.push_str(&format!(
                    "- {target}  patch: |-\n    - {{op: replace, path: /metadata/name, value: new-name}}\n"
                )),
                3 => text.push_str(&format!(
                    "- patch: |-\n    apiVersion: {version}\n    kind: Deployment\n    metadata:\n      name: {name}\n    spec:\n      replicas: null\n      template:\n        spec:\n          containers:\n          - name: c0\n            image: patched:1\n            env:\n            - name: A\n              $patch: delete\n            - name: Z\n              value: '1'\n            ports:\n            - containerPort: 80\n              name: http\n          - name: extra\n            image: e\n"
                )),
                4 => text.push_str(&format!(
                    "- {target}  patch: |-\n    apiVersion: v1\n    kind: Any\n    metadata:\n      name: any\n      labels:\n        app: null\n        new: label\n        owner: patched\n      annotations:\n        more: 'x'\n"
                )),
                5 => text.push_str(&format!(
                    "- patch: |-\n    $patch: delete\n    apiVersion: v1\n    kind: ConfigMap\n    metadata:\n      name: {name}\n"
                )),
                6 => text.push_str(&format!(
                    "- {target}  options: {{allowNameChange: true, allowKindChange: {}}}\n  patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata:\n      name: renamed\n",
                    target.contains("Widget")
                )),
                7 => text.push_str(&format!(
                    "- patch: |-\n    apiVersion: v1\n    kind: Service\n    metadata:\n      name: {name}\n      annotations: null\n    spec:\n      ports:\n      - port: 80\n        name: http\n      - $patch: replace\n"
                )),
                _ => text.push_str(&format!(
                    "- patch: |-\n    apiVersion: example.com/v1\n    kind: Widget\n    metadata:\n      name: {name}\n    spec:\n      list: [z]\n      nothing:\n      fresh: {{a: null, b: {{$patch: delete}}, c: 1}}\n      items:\n      - name: q\n"
                )),
            }
        }
        if text.is_empty() { text } else { format!("patches:\n{text}") }
    }

    fn target(&mut self) -> String {
        let kind = self.pick(&KINDS);
        let mut text = format!("target:\n    kind: {kind}\n");
        if self.one_in(3) {
            text.push_str(&format!("    name: {}\n", self.pick(&["web", ".*b", "p-web", "settings|db"])));
        }
        if self.one_in(4) {
            text.push_str("    labelSelector: app=web,tier\n");
        }
        if self.one_in(6) {
            text.push_str(&format!("    namespace: {}\n", self.pick(&NAMESPACES)));
        }
        text
    }

    fn replacements(&mut self, folder: &str) -> String {
        let mut text = String::new();
        for at in 0..self.rng.usize(0..3) {
            text.push_str(&self.replacement_with_options(folder, at));
        }
        for _ in 0..self.rng.usize(0..3) {
            let (kind, path) = match self.rng.u8(0..5) {
                0 => ("ConfigMap", "data.mode"),
                1 => ("ConfigMap", "metadata.name"),
                2 => ("Deployment", "spec.replicas"),
                3 => ("Widget", "spec.ratio"),
                _ => ("Widget", "spec.list"),
            };
            let Some(name) = self.made_name(kind) else { continue };
            text.push_str(&format!("- source:\n    kind: {kind}\n    fieldPath: {path}\n    name: {name}\n"));
            if self.one_in(6) {
                text.push_str("    options: {delimiter: e, index: 0}\n");
            }
            let target = self.pick(&KINDS);
            let field = self.pick(&[
                "metadata.name",
                "metadata.annotations.note",
                "spec.template.spec.containers.[name=c0].image",
                "spec.template.spec.containers.*.env.[name=A].value",
                "spec.replicas",
                "spec.list",
                "data.mode",
                "spec.items.0.value",
                "metadata.labels.owner",
                "spec.template.metadata.labels.env",
            ]);
            text.push_str(&format!("  targets:\n  - select:\n      kind: {target}\n    fieldPaths: [\"{field}\"]\n"));
            if !self.one_in(8) {
                text.push_str(self.pick(&[
                    "    options: {create: true}\n",
                    "    options: {delimiter: \":\", index: 1, create: true}\n",
                    "    options: {delimiter: \"-\", index: -1, create: true}\n",
                    "    options: {delimiter: \"/\", index: 9, create: true}\n",
                ]));
            }
            if self.one_in(4) {
                text.push_str(&format!("    reject:\n    - name: {}\n", self.pick(&NAMES)));
            }
        }
        if text.is_empty() { text } else { format!("replacements:\n{text}") }
    }
}
