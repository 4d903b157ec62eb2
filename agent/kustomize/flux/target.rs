//! Whether an object, as it was built, is one of those that a target takes in.

use serde_json::{Map, Value};

use super::{FluxSelector, selector};
use crate::id::{Gvk, Id};
use crate::select::Matcher;

/// A target whose expressions were understood.
#[derive(Debug)]
pub struct FluxTarget(Matcher);

impl FluxTarget {
    /// Reads the expressions of a target.
    ///
    /// # Errors
    /// What is no regular expression, or no label selector.
    pub fn new(target: &FluxSelector) -> Result<Self, String> {
        Matcher::new(&selector(target)).map(Self)
    }

    /// Whether it takes in this object.
    pub fn selects(&self, object: &Value) -> bool {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let api_version = text("/apiVersion");
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let id = Id {
            gvk: Gvk { group: group.to_owned(), version: version.to_owned(), kind: text("/kind") },
            name: text("/metadata/name"),
            namespace: text("/metadata/namespace"),
            cluster_scoped: false,
        };
        let empty = Map::new();
        let texts = |pointer: &str| object.pointer(pointer).and_then(Value::as_object).unwrap_or(&empty);
        self.0.fits_id(&id) && self.0.fits_texts(texts("/metadata/labels"), texts("/metadata/annotations"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_must_fit_and_what_is_not_given_fits() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "till", "namespace": "shop", "labels": {"app": "till"}, "annotations": {"tier": "front"}}
        });
        let selects = |target: FluxSelector| FluxTarget::new(&target).unwrap().selects(&object);
        assert!(selects(FluxSelector::default()));
        type Set = fn(&mut FluxSelector) -> &mut String;
        let parts: [(Set, &str, &str); 7] = [
            (|target| &mut target.group, "apps", "batch"),
            (|target| &mut target.version, "v1", "v2"),
            (|target| &mut target.kind, "Deploy.*", "Deploy"),
            (|target| &mut target.name, "till|door", "til"),
            (|target| &mut target.namespace, "shop", "flux-system"),
            (|target| &mut target.label_selector, "app in (till, door)", "app!=till"),
            (|target| &mut target.annotation_selector, "tier=front", "!tier"),
        ];
        for (part, fits, other) in parts {
            for (text, expected) in [(fits, true), (other, false)] {
                let mut target = FluxSelector::default();
                text.clone_into(part(&mut target));
                assert_eq!(selects(target), expected, "{text}");
            }
        }
        assert!(FluxTarget::new(&FluxSelector { name: "(".to_owned(), ..FluxSelector::default() }).is_err());
    }
}
