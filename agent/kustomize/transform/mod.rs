//! What a kustomization does to the objects it has gathered, one file a transformer.
//!
//! A [`Step`] is one entry of a field; [`Action`] says what it does. Steps run in the order in which kustomize runs its
//! built-in transformers, whatever the order of the fields (`configureBuiltinTransformers` in its api module), and
//! empty objects are dropped after each.

mod annotations;
mod images;
pub(crate) mod labels;
mod namespace;
mod prefix;
mod replicas;
mod value_add;

pub(crate) mod hash;
pub(crate) mod names;
pub(crate) mod patches;
pub(crate) mod replacements;
pub(crate) mod vars;

pub(crate) use namespace::Subjects;
pub(crate) use value_add::ValueTarget;

use crate::error::Place;
use crate::fieldspec::FieldSpec;
use crate::kustomization::{Image, Replacement, Replica};
use crate::resource::Resource;
use crate::schema::Schema;
use std::collections::BTreeMap;

/// One thing to do, and the field that asks for it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) field: String,
    /// The place of that field, where it is not one of the kustomization itself.
    pub(crate) place: Option<Place>,
    pub(crate) action: Action,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Action {
    Patch(patches::Patch),
    Namespace { namespace: String, specs: Vec<FieldSpec>, unset_only: bool, subjects: Subjects },
    Prefix { prefix: String, specs: Vec<FieldSpec> },
    Suffix { suffix: String, specs: Vec<FieldSpec> },
    Labels { labels: BTreeMap<String, String>, specs: Vec<FieldSpec> },
    Annotations { annotations: BTreeMap<String, String>, specs: Vec<FieldSpec> },
    Replicas { replica: Replica, specs: Vec<FieldSpec> },
    Image { image: Image, specs: Vec<FieldSpec> },
    Replacements(Vec<Replacement>),
    ValueAdd { value: String, targets: Vec<ValueTarget> },
    Hash,
}

impl Action {
    /// The name that kustomize gives this transformer.
    pub(crate) fn transformer(&self) -> &'static str {
        match self {
            Action::Patch(patch) => patch.transformer(),
            Action::Namespace { .. } => "NamespaceTransformer",
            Action::Prefix { .. } => "PrefixTransformer",
            Action::Suffix { .. } => "SuffixTransformer",
            Action::Labels { .. } => "LabelTransformer",
            Action::Annotations { .. } => "AnnotationsTransformer",
            Action::Replicas { .. } => "ReplicaCountTransformer",
            Action::Image { .. } => "ImageTagTransformer",
            Action::Replacements(_) => "ReplacementTransformer",
            Action::ValueAdd { .. } => "ValueAddTransformer",
            Action::Hash => "HashTransformer",
        }
    }

    /// Does it.
    pub(crate) fn apply(&self, resources: &mut Vec<Resource>, schema: &Schema) -> Result<(), String> {
        match self {
            Action::Patch(patch) => patch.apply(resources, schema),
            Action::Namespace { namespace, specs, unset_only, subjects } => {
                namespace::apply(resources, namespace, specs, *unset_only, *subjects)
            }
            Action::Prefix { prefix, specs } => prefix::apply(resources, prefix::Side::Front, prefix, specs),
            Action::Suffix { suffix, specs } => prefix::apply(resources, prefix::Side::Back, suffix, specs),
            Action::Labels { labels, specs } => labels::apply(resources, labels, specs),
            Action::Annotations { annotations, specs } => annotations::apply(resources, annotations, specs),
            Action::Replicas { replica, specs } => replicas::apply(resources, replica, specs),
            Action::Image { image, specs } => images::apply(resources, image, specs),
            Action::Replacements(replacements) => replacements::apply(resources, replacements),
            Action::ValueAdd { value, targets } => value_add::apply(resources, value, targets),
            Action::Hash => hash::apply(resources),
        }
    }
}

/// Puts the object's name before a cause.
pub(crate) fn of_object(resource: &Resource, cause: &str) -> String {
    format!("{} ({}): {cause}", resource.id(), resource.source)
}
