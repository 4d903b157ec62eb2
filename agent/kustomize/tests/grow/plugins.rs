//! Random fields that point to files of their own: built-in plugins, schemas, configurations, and the older spellings of
//! patches.

use super::Grower;
use super::fields::KINDS;
use super::objects::{NAMES, NAMESPACES};

impl Grower {
    /// Some of these fields, as YAML.
    pub(super) fn more_fields(&mut self, folder: &str) -> String {
        let mut text = String::new();
        if self.one_in(8) {
            text.push_str(&self.transformers(folder));
        }
        if self.one_in(12) {
            text.push_str(&self.plugin_generators(folder));
        }
        if self.one_in(16) {
            text.push_str(
                "validators:\n- |-\n  apiVersion: builtin\n  kind: LabelTransformer\n  metadata: {name: v}\n  labels: {a: b}\n  fieldSpecs: [{path: spec/nope}]\n",
            );
        }
        if self.one_in(10) {
            text.push_str(&self.legacy_patches(folder));
        }
        if self.one_in(12) {
            text.push_str(&self.crds(folder));
        }
        // Below the top, whether kustomize still knows its own schema depends on what it looked up before.
        if self.one_in(40) && folder == "l" {
            self.write(format!("{folder}/schema.json"), SCHEMA);
            text.push_str("openapi: {path: schema.json}\n");
        }
        text
    }

    fn transformers(&mut self, folder: &str) -> String {
        let mut documents = Vec::new();
        for at in 0..self.rng.usize(1..3) {
            let namespace = self.pick(&NAMESPACES);
            let kind = self.pick(&["Deployment", "Service", "ConfigMap", "Widget"]);
            let create = self.rng.bool();
            let body = match self.rng.u8(0..11) {
                0 => format!(
                    "kind: LabelTransformer\nmetadata: {{name: t{at}}}\nlabels: {{t: x, owner: '7'}}\nfieldSpecs:\n- path: metadata/labels\n  create: {create}\n- path: spec/selector\n  kind: Service\n"
                ),
                1 => format!(
                    "kind: AnnotationsTransformer\nmetadata: {{name: t{at}}}\nannotations: {{a: b, n: '1'}}\nfieldSpecs:\n- path: metadata/annotations\n  create: {create}\n  kind: {kind}\n"
                ),
                2 => format!(
                    "kind: NamespaceTransformer\nmetadata: {{name: t{at}, namespace: {namespace}}}\nunsetOnly: {create}\nsetRoleBindingSubjects: {}\nfieldSpecs:\n- path: metadata/namespace\n  create: true\n",
                    self.pick(&["none", "allServiceAccounts", "defaultOnly"])
                ),
                3 => format!(
                    "kind: PrefixTransformer\nmetadata: {{name: t{at}}}\nprefix: t-\nfieldSpecs:\n- path: metadata/name\n  kind: {kind}\n"
                ),
                4 => format!(
                    "kind: SuffixTransformer\nmetadata: {{name: t{at}}}\nsuffix: -t\nfieldSpecs:\n- path: metadata/name\n"
                ),
                5 => format!(
                    "kind: PrefixSuffixTransformer\nmetadata: {{name: t{at}}}\nprefix: a\nsuffix: b\nfieldSpecs:\n- path: metadata/name\n"
                ),
                6 => format!(
                    "kind: ImageTagTransformer\nmetadata: {{name: t{at}}}\nimageTag: {{name: nginx, newTag: '9'}}\nfieldSpecs:\n- path: spec/template/spec/containers[]/image\n"
                ),
                7 if self.made.iter().any(|(kind, ..)| kind == "Deployment") => format!(
                    "kind: ReplicaCountTransformer\nmetadata: {{name: t{at}}}\nreplica: {{name: {}, count: 8}}\nfieldSpecs:\n- path: spec/replicas\n  create: {create}\n  kind: Deployment\n",
                    self.made_name("Deployment").unwrap_or_else(|| "none".to_owned())
                ),
                8 => format!(
                    "kind: PatchTransformer\nmetadata: {{name: t{at}}}\ntarget: {{kind: {kind}}}\npatch: |-\n  - {{op: add, path: /metadata/labels, value: {{from: plugin}}}}\n"
                ),
                9 => format!(
                    "kind: ValueAddTransformer\nmetadata: {{name: t{at}}}\nvalue: v\ntargets:\n- selector: {{kind: Service}}\n  fieldPath: spec/externalName\n- selector: {{kind: Deployment}}\n  fieldPath: spec/template/spec/serviceAccountName\n  filePathPosition: 1\n"
                ),
                _ => format!("kind: HashTransformer\nmetadata: {{name: t{at}}}\n"),
            };
            documents.push(format!("apiVersion: builtin\n{body}"));
        }
        if self.rng.bool() {
            self.write(format!("{folder}/transform.yaml"), &documents.join("---\n"));
            return "transformers: [transform.yaml]\n".to_owned();
        }
        let inline = documents.iter().map(|document| format!("- |\n{}", indented(document)));
        format!("transformers:\n{}", inline.collect::<String>())
    }

    fn plugin_generators(&mut self, folder: &str) -> String {
        let name = self.pick(&["gen", "plug"]);
        let behavior = match self.made.insert(("ConfigMap".to_owned(), name.to_owned(), String::new())) {
            true => "create",
            false => "merge",
        };
        let mut text = format!(
            "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {{name: {name}}}\nbehavior: {behavior}\nliterals: [p=q, mode=x]\n"
        );
        if self.rng.bool() && self.made.insert(("Secret".to_owned(), "plugged".to_owned(), String::new())) {
            text.push_str("---\napiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: plugged}\ntype: a/b\nliterals: [s=t]\noptions: {disableNameSuffixHash: true}\n");
        }
        self.write(format!("{folder}/generate.yaml"), &text);
        "generators: [generate.yaml]\n".to_owned()
    }

    fn legacy_patches(&mut self, folder: &str) -> String {
        let mut text = String::new();
        if let Some(name) = self.made_name("Service") {
            self.write(
                format!("{folder}/merge.yaml"),
                &format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  ports:\n  - port: 443\n    protocol: UDP\n    name: quic\n"
                ),
            );
            text.push_str("patchesStrategicMerge:\n- merge.yaml\n");
            if let (true, Some(name)) = (self.rng.bool(), self.made_name("Secret")) {
                text.push_str(&format!(
                    "- |-\n  apiVersion: v1\n  kind: Secret\n  metadata: {{name: {name}, labels: {{legacy: 'yes'}}}}\n  data: {{key: null}}\n"
                ));
            }
        }
        if let Some(name) = self.made_name("StatefulSet") {
            self.write(
                format!("{folder}/ops.json"),
                r#"[{"op": "replace", "path": "/spec/serviceName", "value": "db"}]"#,
            );
            text.push_str(&format!(
                "patchesJson6902:\n- target: {{group: apps, version: v1, kind: StatefulSet, name: {name}}}\n  path: ops.json\n"
            ));
            if self.rng.bool() {
                text.push_str(&format!(
                    "- target: {{group: apps, version: v1, kind: StatefulSet, name: {name}}}\n  patch: |-\n    - op: add\n      path: /metadata/annotations\n      value: {{legacy: '1'}}\n"
                ));
            }
        }
        text
    }

    fn crds(&mut self, folder: &str) -> String {
        self.write(format!("{folder}/crd.json"), CRD);
        "crds: [crd.json]\n".to_owned()
    }

    /// A patch of every form that the options and targets of `patches` know.
    pub(super) fn patch_with_options(&mut self, folder: &str) -> String {
        let (rename, change) = (self.rng.bool(), self.rng.bool());
        let kind = self.pick(&KINDS);
        let selector = self.pick(&[
            "labelSelector: 'tier in (1, 2), !env'",
            "labelSelector: 'app notin (db)'",
            "annotationSelector: note=hi",
            "annotationSelector: 'note, local=x'",
            "name: '^(web|db)$'",
            "namespace: 'te.*'",
            "group: apps, version: v1",
            "name: .*",
        ]);
        let name = self.pick(&NAMES);
        self.write(
            format!("{folder}/patch.yaml"),
            &format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}-p\n  annotations:\n    note: null\n    patched: 'true'\nspec:\n  minReadySeconds: 3\n  strategy:\n    $retainKeys: [type]\n    type: Recreate\n  template:\n    spec:\n      $setElementOrder/containers: [{{name: c1}}, {{name: c0}}]\n      containers:\n      - name: c0\n        imagePullPolicy: Always\n"
            ),
        );
        format!(
            "- path: patch.yaml\n  target: {{kind: '{kind}', {selector}}}\n  options: {{allowNameChange: {rename}, allowKindChange: {}}}\n",
            change && kind == "Widget"
        )
    }

    /// A replacement with any of the options, its source or itself in a file, to several targets.
    pub(super) fn replacement_with_options(&mut self, folder: &str, at: usize) -> String {
        let source = match self.rng.u8(0..4) {
            0 => "sourceValue: fixed-value\n".to_owned(),
            which => {
                let (kind, path) =
                    [("ConfigMap", "data.mode"), ("Service", "spec.ports.0.port"), ("Deployment", "metadata.name")]
                        [usize::from(which) - 1];
                let Some(name) = self.made_name(kind) else { return String::new() };
                let options = self.pick(&[
                    "",
                    "  options: {delimiter: '-', index: 0}\n",
                    "  options: {delimiter: '.', index: 1}\n",
                ]);
                format!("source:\n  kind: {kind}\n  name: {name}\n  fieldPath: {path}\n{options}")
            }
        };
        let mut text = format!("{source}targets:\n");
        for _ in 0..self.rng.usize(1..3) {
            let select = self.pick(&[
                "{kind: Deployment}",
                "{kind: ConfigMap}",
                "{labelSelector: app=web}",
                "{annotationSelector: note}",
                "{group: example.com, kind: Widget}",
                "{version: v1, kind: Service}",
                "{name: web}",
            ]);
            let paths = self.pick(&[
                "[metadata.annotations.from, metadata.labels.from]",
                "[data.mode]",
                "[data.text, data.num]",
                "['metadata.annotations.[name=x]']",
                "['spec.template.spec.containers.[name=c0].env.[name=NEW].value']",
                "['spec.template.spec.containers.*.image']",
                "['spec.ports.[port=80].name']",
                "['spec.items.*.value', 'spec.list.0']",
                "['spec.list.-']",
                r"['metadata.annotations.a\.b/c']",
            ]);
            text.push_str(&format!("- select: {select}\n  fieldPaths: {paths}\n"));
            text.push_str(self.pick(&[
                "",
                "  options: {create: true}\n",
                "  options: {create: true, delimiter: ':', index: 0}\n",
                "  options: {create: true, delimiter: '/', index: -1}\n",
                "  options: {delimiter: 'e', index: 1}\n",
            ]));
            if self.one_in(3) {
                text.push_str(self.pick(&[
                    "  reject: [{kind: Deployment, name: web}]\n",
                    "  reject: [{name: 'w.*'}]\n",
                    "  reject: [{namespace: team}, {labelSelector: tier}]\n",
                ]));
            }
        }
        if self.one_in(3) {
            self.write(format!("{folder}/replace{at}.yaml"), &text);
            return format!("- path: replace{at}.yaml\n");
        }
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        format!("- {first}\n{}", lines.map(|line| format!("  {line}\n")).collect::<String>())
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// A widget's `spec.items` merge by name.
const SCHEMA: &str = r##"{"definitions":{"v1.Widget":{"type":"object","properties":{"apiVersion":{"type":"string"},"kind":{"type":"string"},"spec":{"$ref":"#/definitions/v1.WidgetSpec"}},"x-kubernetes-group-version-kind":[{"group":"example.com","kind":"Widget","version":"v1"}]},"v1.WidgetSpec":{"type":"object","properties":{"items":{"type":"array","items":{"type":"object"},"x-kubernetes-patch-merge-key":"name","x-kubernetes-patch-strategy":"merge"}}}}}"##;

/// A widget's references, in the form of a `crds` file.
const CRD: &str = r#"{"github.com/x/pkg.Widget":{"Schema":{"properties":{"apiVersion":{"type":"string"},"kind":{"type":"string"},"metadata":{"$ref":"m"},"spec":{"$ref":"github.com/x/pkg.WidgetSpec"}}}},"github.com/x/pkg.WidgetSpec":{"Schema":{"properties":{"configRef":{"x-kubernetes-object-ref-api-version":"v1","x-kubernetes-object-ref-kind":"ConfigMap"},"configName":{"x-kubernetes-object-ref-api-version":"v1","x-kubernetes-object-ref-kind":"ConfigMap","x-kubernetes-object-ref-name-key":"key"},"sel":{"x-kubernetes-label-selector":""},"notes":{"x-kubernetes-annotation":""},"ident":{"x-kubernetes-identity":""}}}}}"#;
