//! `tests/flux-fields.md`, held against Flux's own CRD, against ours, and against the tests that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use wickie_testbench::parts;

const MODULE: &str = "github.com/fluxcd/kustomize-controller";

/// The marks that Flux reads on objects: those of `fluxcd/pkg/ssa`, of its kustomize build and its decryptor, and the request.
const MARKS: [&str; 7] = [
    "kustomize.toolkit.fluxcd.io/decrypt",
    "kustomize.toolkit.fluxcd.io/force",
    "kustomize.toolkit.fluxcd.io/prune",
    "kustomize.toolkit.fluxcd.io/reconcile",
    "kustomize.toolkit.fluxcd.io/ssa",
    "kustomize.toolkit.fluxcd.io/substitute",
    "reconcile.fluxcd.io/requestedAt",
];

/// The schema of `spec`, version v1.
fn spec_of(crd: &Value) -> &Value {
    let versions = crd["spec"]["versions"].as_array().unwrap();
    let version = versions.iter().find(|version| version["name"] == "v1").unwrap();
    &version["schema"]["openAPIV3Schema"]["properties"]["spec"]
}

/// The paths of all fields that have no fields of their own.
fn leaves(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let Some(items) = schema.get("items") else {
        return match schema.get("properties").and_then(Value::as_object) {
            Some(fields) => fields.iter().for_each(|(name, field)| leaves(field, &format!("{path}.{name}"), into)),
            None => drop(into.insert(path.to_owned())),
        };
    };
    match items.get("properties") {
        Some(_) => leaves(items, &format!("{path}[]"), into),
        None => drop(into.insert(path.to_owned())),
    }
}

/// Whether an API server with this schema keeps the field.
fn keeps(schema: &Value, path: &[&str]) -> bool {
    let Some((name, rest)) = path.split_first() else { return true };
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return true;
    }
    let inner = &schema["properties"][name.trim_end_matches("[]")];
    let inner = if name.ends_with("[]") && inner.get("items").is_some() { &inner["items"] } else { inner };
    inner.is_object() && keeps(inner, rest)
}

/// Each field with what becomes of it and the test that shows it.
fn table() -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flux-fields.md")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| spec.") || line.contains("fluxcd.io/") && line.starts_with("| "));
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect();
    let table: BTreeMap<_, _> = rows.iter().map(|row| (row[0].clone(), (row[1].clone(), row[2].clone()))).collect();
    assert_eq!(table.len(), rows.len(), "a field has two lines");
    table
}

#[test]
fn every_field_of_flux_is_in_the_table() {
    let module = parts::module_folder(&parts::KUSTOMIZE_CONTROLLER, MODULE).unwrap();
    let file = module.join("config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let flux: Value = serde_saphyr::from_str(&text).unwrap();
    let mut fields = BTreeSet::new();
    leaves(spec_of(&flux), "spec", &mut fields);
    assert!(fields.len() > 50, "{} fields are not all", fields.len());
    fields.extend(MARKS.map(str::to_owned));
    let table = table();
    let listed: BTreeSet<_> = table.keys().cloned().collect();
    assert_eq!(listed, fields, "the table and Flux's CRD differ");

    let ours = wickie::config::crds().into_iter().find(|crd| crd["spec"]["names"]["kind"] == "Kustomization").unwrap();
    for (field, (becomes, test)) in &table {
        assert!(["followed", "refused"].contains(&becomes.as_str()), "{field}: {becomes}");
        if let Some(path) = field.strip_prefix("spec.") {
            let path: Vec<_> = path.split('.').collect();
            assert!(keeps(spec_of(&ours), &path), "our CRD drops {field}");
        }
        let (module, name) = test.split_once("::").unwrap_or_else(|| panic!("{field}: {test} names no test"));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/{module}.rs"));
        let source =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{field}: {}: {error}", file.display()));
        let declared = format!("#[tokio::test]\nasync fn {name}()");
        assert!(source.contains(&declared), "{field}: there is no test {test}");
    }
}
