//! What Flux's kustomize-controller adds to a kustomize build.
//!
//! A folder without a kustomization gets one ([`scan`]); the fields of the Flux Kustomization are written over the
//! folder's own (`GenerateManifest` in fluxcd/pkg/kustomize v1.35); files may lie anywhere in the tree; a schema of the
//! user's own adds to the built-in one; objects keep the order of the files.

mod reach;
mod scan;
mod sources;
mod target;

pub use sources::{SecretSource, SourceUse, secret_sources};
pub use target::FluxTarget;

pub use reach::{Ahead, reach_flux};

use crate::accumulate::{SchemaInUse, Target};
use crate::entry::{self, Object, Options};
use crate::error::{Error, Place, Refusal};
use crate::files::{Loader, Tree, is_repository};
use crate::id::{Gvk, Id};
use crate::kustomization::{Entry, Image, Kustomization, Patch};
use crate::select::Selector;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The fields of a Flux Kustomization that change what is built. Empty ones change nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FluxOverlay {
    /// `spec.targetNamespace`.
    pub target_namespace: Option<String>,
    /// `spec.namePrefix`.
    pub name_prefix: Option<String>,
    /// `spec.nameSuffix`.
    pub name_suffix: Option<String>,
    /// `spec.patches`.
    pub patches: Vec<FluxPatch>,
    /// `spec.images`.
    pub images: Vec<FluxImage>,
    /// `spec.components`, relative to the folder that is built.
    pub components: Vec<String>,
    /// `spec.ignoreMissingComponents`.
    pub ignore_missing_components: bool,
    /// `spec.buildMetadata`.
    pub build_metadata: Vec<String>,
}

/// An entry of `spec.patches`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FluxPatch {
    /// A strategic merge patch or a JSON patch, as text.
    pub patch: String,
    /// Which objects it goes to.
    pub target: Option<FluxSelector>,
}

/// `target` of a patch; all parts are optional, and all but the selectors are regular expressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FluxSelector {
    /// The API group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// A label selector.
    pub label_selector: String,
    /// A label selector for annotations.
    pub annotation_selector: String,
}

/// An entry of `spec.images`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FluxImage {
    /// The image, without a tag.
    pub name: String,
    /// Its new name.
    pub new_name: String,
    /// Its new tag.
    pub new_tag: String,
    /// Its new digest.
    pub digest: String,
}

/// Builds the folder `root` of the tree as Flux builds `spec.path`.
///
/// # Errors
///
/// As for [`crate::build`]; besides, an object without a name, kind or version.
pub fn build_flux(tree: &dyn Tree, root: &str, overlay: &FluxOverlay) -> Result<Vec<Object>, Error> {
    let options = Options::flux();
    let loader = Loader::new(tree, options.restrictor, root).map_err(|problem| Error::Path {
        place: Place { file: "spec.path".to_owned(), ..Place::default() },
        path: root.to_owned(),
        problem,
    })?;
    let mut kustomization = match Kustomization::load_lax(&loader)? {
        Some(kustomization) => {
            let mut kustomization = kustomization;
            if !kustomization.resources.iter().any(|entry| entry.field.starts_with("resources")) {
                // So Flux keeps kustomize from calling it empty.
                kustomization.build_metadata = vec!["originAnnotations".to_owned()];
            }
            kustomization
        }
        None => scan::kustomization(&loader)?,
    };
    lay_over(&mut kustomization, overlay, &loader)?;
    let objects = entry::finish(Target::with(loader, kustomization, Rc::new(SchemaInUse::adding()))?, &options)?;
    for object in &objects {
        let has = |path: &str| object.value.pointer(path).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !has("/metadata/name") || !has("/kind") || !has("/apiVersion") {
            let problem = "apiVersion, kind and metadata.name are needed".to_owned();
            return Err(Error::Object { at: object.source.clone(), problem });
        }
    }
    Ok(objects)
}

/// Writes the overlay's fields over the kustomization's.
fn lay_over(own: &mut Kustomization, overlay: &FluxOverlay, loader: &Loader<'_>) -> Result<(), Error> {
    let set = |field: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            field.clone_from(value);
        }
    };
    set(&mut own.namespace, &overlay.target_namespace);
    set(&mut own.name_prefix, &overlay.name_prefix);
    set(&mut own.name_suffix, &overlay.name_suffix);
    for (at, patch) in overlay.patches.iter().enumerate() {
        own.patches.push(Patch {
            field: format!("spec.patches[{at}]"),
            patch: patch.patch.clone(),
            target: patch.target.as_ref().map(selector),
            ..Patch::default()
        });
    }
    for (at, component) in overlay.components.iter().enumerate() {
        let field = format!("spec.components[{at}]");
        if is_repository(component) {
            return Err(Error::Refused { place: own.place(&field), refusal: Refusal::Remote });
        }
        let missing = || loader.is_missing(component).map_err(|error| error.at(own.place(&field), component));
        if !(overlay.ignore_missing_components && missing()?) {
            own.components.push(Entry { field, text: component.clone() });
        }
    }
    for (at, image) in overlay.images.iter().enumerate() {
        lay_over_image(&mut own.images, at, image);
    }
    if !overlay.build_metadata.is_empty() {
        own.build_metadata.clone_from(&overlay.build_metadata);
    }
    Ok(())
}

/// An image of the same name is changed in place: tag and digest together, the name on its own.
fn lay_over_image(images: &mut Vec<Image>, at: usize, image: &FluxImage) {
    match images.iter_mut().find(|have| have.name == image.name) {
        Some(have) => {
            if !image.new_name.is_empty() {
                have.new_name.clone_from(&image.new_name);
            }
            if !image.new_tag.is_empty() || !image.digest.is_empty() {
                have.new_tag.clone_from(&image.new_tag);
                have.digest.clone_from(&image.digest);
            }
        }
        None => images.push(Image {
            field: format!("spec.images[{at}]"),
            name: image.name.clone(),
            new_name: image.new_name.clone(),
            new_tag: image.new_tag.clone(),
            digest: image.digest.clone(),
            ..Image::default()
        }),
    }
}

fn selector(target: &FluxSelector) -> Selector {
    Selector {
        id: Id {
            gvk: Gvk { group: target.group.clone(), version: target.version.clone(), kind: target.kind.clone() },
            name: target.name.clone(),
            namespace: target.namespace.clone(),
            cluster_scoped: false,
        },
        labels: target.label_selector.clone(),
        annotations: target.annotation_selector.clone(),
    }
}

/// `spec.commonMetadata`: sets labels and annotations on every object, after everything else.
pub fn set_common_metadata(
    objects: &mut [Object],
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) {
    for object in objects {
        let Some(root) = object.value.as_object_mut() else {
            continue;
        };
        let metadata = root.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        for (key, texts) in [("labels", labels), ("annotations", annotations)] {
            let Some(metadata) = metadata.as_object_mut().filter(|_| !texts.is_empty()) else {
                continue;
            };
            let members = metadata.entry(key).or_insert(Value::Null);
            if !members.is_object() {
                *members = Value::Object(Map::new());
            }
            for (name, text) in texts {
                members[name] = Value::String(text.clone());
            }
        }
    }
}
