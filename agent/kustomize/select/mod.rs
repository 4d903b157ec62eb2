//! Choosing objects: the selectors of patches, replacements and other transformers.
//!
//! Group, version, kind, name and namespace are regular expressions that must match the whole text; labels and
//! annotations are Kubernetes label selectors (`types.Selector` in kustomize).

mod labels;
mod pattern;

pub(crate) use labels::LabelSelector;
pub(crate) use pattern::Pattern;

use crate::id::{Gvk, Id};
use crate::resource::Resource;
use crate::yaml::Node;

/// A selector as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) id: Id,
    pub(crate) labels: String,
    pub(crate) annotations: String,
}

/// A selector whose parts were understood.
#[derive(Debug)]
pub(crate) struct Matcher {
    group: Option<Pattern>,
    version: Option<Pattern>,
    kind: Option<Pattern>,
    name: Option<Pattern>,
    namespace: Option<Pattern>,
    labels: LabelSelector,
    annotations: LabelSelector,
}

impl Matcher {
    /// Reads the expressions of a selector.
    pub(crate) fn new(selector: &Selector) -> Result<Matcher, String> {
        let whole = |text: &str| match text {
            "" => Ok(None),
            text => Pattern::whole(text).map(Some),
        };
        let id = &selector.id;
        Ok(Matcher {
            group: whole(&id.gvk.group)?,
            version: whole(&id.gvk.version)?,
            kind: whole(&id.gvk.kind)?,
            name: whole(&id.name)?,
            namespace: whole(&id.namespace)?,
            labels: LabelSelector::parse(&selector.labels)?,
            annotations: LabelSelector::parse(&selector.annotations)?,
        })
    }

    /// Whether a patch's target takes in this object, by its first or its present name.
    pub(crate) fn selects(&self, resource: &Resource) -> bool {
        let (current, original) = (resource.id(), resource.original_id());
        (self.fits_namespace(original.effective_namespace()) || self.fits_namespace(current.effective_namespace()))
            && (self.fits_name(&original.name) || self.fits_name(&current.name))
            && self.fits_gvk(&current.gvk)
            && self.fits_labels(&resource.node)
    }

    /// Whether an identifier fits; an empty namespace is taken as it stands.
    pub(crate) fn fits_id(&self, id: &Id) -> bool {
        self.fits_gvk(&id.gvk) && self.fits_name(&id.name) && self.fits_namespace(&id.namespace)
    }

    /// Whether labels and annotations fit.
    pub(crate) fn fits_labels(&self, node: &Node) -> bool {
        let of = |key| node.at(&["metadata", key]).and_then(Node::as_map);
        self.labels.matches(of("labels")) && self.annotations.matches(of("annotations"))
    }

    /// The same for an object that is no document.
    pub(crate) fn fits_texts(
        &self,
        labels: &serde_json::Map<String, serde_json::Value>,
        annotations: &serde_json::Map<String, serde_json::Value>,
    ) -> bool {
        let of = |texts: &serde_json::Map<String, serde_json::Value>, selector: &LabelSelector| {
            selector.fits(|key| texts.get(key).map(|value| value.as_str().unwrap_or_default()))
        };
        of(labels, &self.labels) && of(annotations, &self.annotations)
    }

    fn fits_gvk(&self, gvk: &Gvk) -> bool {
        fits(&self.group, &gvk.group) && fits(&self.version, &gvk.version) && fits(&self.kind, &gvk.kind)
    }

    fn fits_name(&self, name: &str) -> bool {
        fits(&self.name, name)
    }

    fn fits_namespace(&self, namespace: &str) -> bool {
        fits(&self.namespace, namespace)
    }
}

fn fits(pattern: &Option<Pattern>, text: &str) -> bool {
    pattern.as_ref().is_none_or(|pattern| pattern.matches(text))
}
