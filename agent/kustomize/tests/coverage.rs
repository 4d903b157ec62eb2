//! Which cases cover what: each field of a kustomization on its own and with each other one, each option of a field,
//! each plugin, each directive, each refusal. A field without a case fails here.
//!
//! What a case covers is read from its files, not from its name.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use support::{Case, folders};
use wickie_kustomize::yaml;

/// The fields that change what is built. Each has a case alone, beside `resources`, and one with each other of them.
const FIELDS: [&str; 26] = [
    "bases",
    "buildMetadata",
    "commonAnnotations",
    "commonLabels",
    "components",
    "configMapGenerator",
    "configurations",
    "crds",
    "generatorOptions",
    "generators",
    "images",
    "labels",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "openapi",
    "patches",
    "patchesJson6902",
    "patchesStrategicMerge",
    "replacements",
    "replicas",
    "secretGenerator",
    "sortOptions",
    "transformers",
    "validators",
    "vars",
];

/// Options of fields, as paths into a kustomization; `[]` is any element. A value after `=` is one that it has.
const OPTIONS: &[&str] = &[
    "buildMetadata[]=managedByLabel",
    "buildMetadata[]=originAnnotations",
    "buildMetadata[]=transformerAnnotations",
    "configMapGenerator[].behavior=merge",
    "configMapGenerator[].behavior=replace",
    "configMapGenerator[].envs",
    "configMapGenerator[].files",
    "configMapGenerator[].literals",
    "configMapGenerator[].namespace",
    "configMapGenerator[].options.annotations",
    "configMapGenerator[].options.disableNameSuffixHash",
    "configMapGenerator[].options.immutable",
    "configMapGenerator[].options.labels",
    "generatorOptions.annotations",
    "generatorOptions.disableNameSuffixHash",
    "generatorOptions.immutable",
    "generatorOptions.labels",
    "images[].digest",
    "images[].newName",
    "images[].newTag",
    "images[].tagSuffix",
    "imageTags",
    "labels[].fields",
    "labels[].includeSelectors",
    "labels[].includeTemplates",
    "labels[].pairs",
    "openapi.path",
    "openapi.version",
    "patches[].options.allowKindChange",
    "patches[].options.allowNameChange",
    "patches[].patch",
    "patches[].path",
    "patches[].target.annotationSelector",
    "patches[].target.group",
    "patches[].target.kind",
    "patches[].target.labelSelector",
    "patches[].target.name",
    "patches[].target.namespace",
    "patches[].target.version",
    "patchesJson6902[].patch",
    "patchesJson6902[].path",
    "replacements[].path",
    "replacements[].source.fieldPath",
    "replacements[].source.options.delimiter",
    "replacements[].source.options.index",
    "replacements[].sourceValue",
    "replacements[].targets[].fieldPaths",
    "replacements[].targets[].options.create",
    "replacements[].targets[].options.delimiter",
    "replacements[].targets[].options.index",
    "replacements[].targets[].reject",
    "replacements[].targets[].select.annotationSelector",
    "replacements[].targets[].select.labelSelector",
    "replicas[].count",
    "secretGenerator[].behavior=merge",
    "secretGenerator[].behavior=replace",
    "secretGenerator[].envs",
    "secretGenerator[].files",
    "secretGenerator[].literals",
    "secretGenerator[].options",
    "secretGenerator[].type",
    "sortOptions.legacySortOptions.orderFirst",
    "sortOptions.legacySortOptions.orderLast",
    "sortOptions.order=fifo",
    "sortOptions.order=legacy",
    "vars[].fieldref.fieldPath",
    "vars[].objref.namespace",
];

/// Tables of a file that `configurations` names.
const TABLES: [&str; 9] = [
    "commonAnnotations",
    "commonLabels",
    "images",
    "namePrefix",
    "nameReference",
    "nameSuffix",
    "namespace",
    "replicas",
    "varReference",
];

/// The built-in generators and transformers.
const PLUGINS: [&str; 16] = [
    "AnnotationsTransformer",
    "ConfigMapGenerator",
    "HashTransformer",
    "ImageTagTransformer",
    "LabelTransformer",
    "NamespaceTransformer",
    "PatchJson6902Transformer",
    "PatchStrategicMergeTransformer",
    "PatchTransformer",
    "PrefixSuffixTransformer",
    "PrefixTransformer",
    "ReplacementTransformer",
    "ReplicaCountTransformer",
    "SecretGenerator",
    "SuffixTransformer",
    "ValueAddTransformer",
];

/// Directives and operations of patches, and the forms of resources, as a text of some file.
const TEXTS: [&str; 18] = [
    "$patch: delete",
    "$patch: merge",
    "$patch: replace",
    "$retainKeys",
    "$setElementOrder/",
    "$deleteFromPrimitiveList/",
    "op: add",
    "op: copy",
    "op: move",
    "op: remove",
    "op: replace",
    "op: test",
    "kind: Component",
    "kind: List",
    "x-kubernetes-object-ref-name-key",
    "x-kubernetes-patch-merge-key",
    "config.kubernetes.io/local-config",
    "internal.config.kubernetes.io/",
];

/// What is refused, by a word of the refusal.
const REFUSALS: [&str; 3] = ["Helm charts", "run a program or a container", "remote bases"];

/// What one case holds.
struct Covered {
    name: String,
    kustomizations: Vec<Value>,
    documents: Vec<Value>,
    text: String,
}

fn covered() -> &'static [Covered] {
    static ALL: OnceLock<Vec<Covered>> = OnceLock::new();
    ALL.get_or_init(read_all)
}

fn read_all() -> Vec<Covered> {
    let mut all = Vec::new();
    for folder in folders("cases") {
        let case = Case::read(&folder);
        let is_kustomization =
            |path: &str| path.rsplit('/').next().unwrap().to_lowercase().starts_with("kustomization");
        let read = |path: &str, bytes: &[u8]| yaml::documents(path, bytes).unwrap_or_default();
        let mut covered = Covered {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            kustomizations: Vec::new(),
            documents: Vec::new(),
            text: std::fs::read_to_string(folder.join("message")).unwrap_or_default(),
        };
        for (path, bytes) in &case.files {
            covered.text.push_str(&String::from_utf8_lossy(bytes));
            let values = read(path, bytes).into_iter().map(|document| document.value);
            match is_kustomization(path) {
                true => covered.kustomizations.extend(values),
                false => covered.documents.extend(values),
            }
        }
        all.push(covered);
    }
    all
}

impl Covered {
    /// Which of the fields its kustomizations name.
    fn fields(&self) -> BTreeSet<&'static str> {
        let has = |field: &&str| self.kustomizations.iter().any(|one| one.get(*field).is_some());
        FIELDS.iter().copied().filter(has).collect()
    }

    /// Whether it builds; one that fails covers no more than its error.
    fn builds(&self) -> bool {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(&self.name);
        folder.join("expected.yaml").exists()
    }
}

/// Whether a path leads to something.
fn reaches(value: &Value, path: &str) -> bool {
    let (path, wanted) = path.split_once('=').map_or((path, None), |(path, wanted)| (path, Some(wanted)));
    let mut values = vec![value];
    for part in path.split('.') {
        let (name, each) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        values = values.into_iter().filter_map(|value| value.get(name)).collect();
        if each {
            values = values.into_iter().filter_map(Value::as_array).flatten().collect();
        }
    }
    values.iter().any(|value| wanted.is_none_or(|wanted| value.as_str() == Some(wanted)))
}

#[test]
fn every_field_has_cases_alone_and_in_pairs() {
    let cases: Vec<&Covered> = covered().iter().filter(|case| case.builds()).collect();
    let fields: Vec<BTreeSet<&str>> = cases.iter().map(|case| case.fields()).collect();
    let mut missing = Vec::new();
    for (at, field) in FIELDS.iter().enumerate() {
        if !fields.iter().any(|have| have.len() == 1 && have.contains(field)) {
            missing.push(format!("{field} alone"));
        }
        for other in &FIELDS[at + 1..] {
            if !fields.iter().any(|have| have.contains(field) && have.contains(other)) {
                missing.push(format!("{field} with {other}"));
            }
        }
    }
    eprintln!("{} cases that build, {} pairs", cases.len(), FIELDS.len() * (FIELDS.len() - 1) / 2);
    assert!(missing.is_empty(), "no case has {}", missing.join(", "));
    assert!(cases.len() >= 400);
}

#[test]
fn every_option_plugin_directive_and_refusal_has_a_case() {
    let cases = covered();
    let mut missing: Vec<String> = Vec::new();
    let mut want = |what: &str, has: &dyn Fn(&Covered) -> bool| {
        if !cases.iter().any(has) {
            missing.push(what.to_owned());
        }
    };
    for option in OPTIONS {
        want(option, &|case| case.builds() && case.kustomizations.iter().any(|one| reaches(one, option)));
    }
    for table in TABLES {
        let is_table = |value: &Value| value.get("kind").is_none() && value.get(table).is_some_and(Value::is_array);
        want(&format!("configurations: {table}"), &|case| case.builds() && case.documents.iter().any(is_table));
    }
    for plugin in PLUGINS {
        want(plugin, &|case| case.builds() && case.text.contains(&format!("kind: {plugin}\n")));
    }
    for text in TEXTS {
        let spaced = format!("\"{}\"", text.replacen(": ", "\": \"", 1));
        want(text, &|case| case.builds() && (case.text.contains(text) || case.text.contains(&spaced)));
    }
    for words in REFUSALS {
        want(words, &|case| case.text.contains(words));
    }
    assert!(missing.is_empty(), "no case has {}", missing.join(", "));
}
