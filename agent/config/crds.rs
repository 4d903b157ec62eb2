//! The CRDs that wickie ships, written from its own types.
//!
//! Fields that Flux has and wickie refuses stand in the schema too: a field that is not in a schema is dropped by the
//! API server before anybody can refuse it. The CRDs carry no `app.kubernetes.io/part-of: flux` label, or `flux
//! uninstall` would delete them, and every object with them.

use kube::core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};
use wickie_model::ResourceKind;

use super::flux::{GitRepositorySpec, KustomizationSpec, RawSpec};
use super::notification::{AlertSpec, ProviderSpec};
use super::receiver::ReceiverSpec;

/// The label that tells our CRDs from Flux's.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "wickie");

/// The CRDs, ready to be applied.
pub fn crds() -> Vec<Value> {
    vec![
        definition(
            ResourceKind::GitRepository,
            &["gitrepo"],
            spec_schema::<GitRepositorySpec>(&[]),
            &[("URL", "string", ".spec.url")],
        ),
        definition(ResourceKind::Kustomization, &["ks"], spec_schema::<KustomizationSpec>(&[]), &[]),
        definition(ResourceKind::Provider, &[], spec_schema::<ProviderSpec>(&[]), &[("Type", "string", ".spec.type")]),
        definition(ResourceKind::Alert, &[], spec_schema::<AlertSpec>(&[]), &[]),
        definition(ResourceKind::Receiver, &[], spec_schema::<ReceiverSpec>(&[]), &[("Type", "string", ".spec.type")]),
    ]
}

fn definition(kind: ResourceKind, short: &[&str], spec: Value, columns: &[(&str, &str, &str)]) -> Value {
    let ready = |field: &str| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    let mut shown: Vec<Value> =
        columns.iter().map(|(name, type_, path)| json!({"name": name, "type": type_, "jsonPath": path})).collect();
    shown.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    shown.push(json!({"name": "Ready", "type": "string", "jsonPath": ready("status")}));
    shown.push(json!({"name": "Status", "type": "string", "jsonPath": ready("message")}));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", kind.plural(), kind.group()),
            "labels": {MANAGED_BY.0: MANAGED_BY.1},
        },
        "spec": {
            "group": kind.group(),
            "names": {
                "kind": kind.as_str(),
                "listKind": format!("{kind}List"),
                "plural": kind.plural(),
                "singular": kind.as_str().to_lowercase(),
                "shortNames": short,
            },
            "scope": "Namespaced",
            "versions": [{
                "name": kind.version(),
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": shown,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

/// The schema of a spec: the type's own, and the fields that are refused, so that they arrive to be refused.
fn spec_schema<T: RawSpec>(more: &[(&str, &str)]) -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(RecursiveTransform(drop_what_kubernetes_refuses))
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("title");
        fields.remove("x-kubernetes-preserve-unknown-fields");
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, why) in T::UNSUPPORTED.iter().chain(more) {
            properties.insert((*field).to_owned(), refused(why));
        }
    }
    schema
}

fn refused(why: &str) -> Value {
    let description = format!("Understood by Flux, refused by wickie: {why}.");
    json!({"description": description, "x-kubernetes-preserve-unknown-fields": true})
}

/// A structural schema has no `additionalProperties: false`, and no default that means "left out".
fn drop_what_kubernetes_refuses(schema: &mut schemars::Schema) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        fields.remove("additionalProperties");
    }
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields == &Map::new(),
        Value::Number(_) | Value::Bool(true) => false,
    };
    if fields.get("default").is_some_and(empty) {
        fields.remove("default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_fields_reach_us_to_be_refused() {
        for (crd, fields) in crds().into_iter().zip([
            ["interval", "serviceAccountName/x-kubernetes-preserve-unknown-fields"],
            ["interval", "kubeConfig/properties/configMapRef/properties/name"],
            ["address", "channel/x-kubernetes-preserve-unknown-fields"],
            ["eventSources", "providerRef"],
            ["resources", "resourceFilter/x-kubernetes-preserve-unknown-fields"],
        ]) {
            let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
            for field in fields {
                assert!(spec.pointer(&format!("/properties/{field}")).is_some(), "{field}");
            }
            assert!(!crd.to_string().contains("additionalProperties\":false"));
        }
    }

    #[test]
    fn flux_uninstall_does_not_know_them() {
        for crd in crds() {
            assert_eq!(crd.pointer("/metadata/labels").unwrap(), &json!({MANAGED_BY.0: MANAGED_BY.1}));
        }
    }
}
