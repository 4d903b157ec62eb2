//! The build from its first file to its last object.
//!
//! ```text
//! gather (accumulate) -> hash suffixes -> references -> variables -> local objects out -> order -> metadata
//! ```

use crate::accumulate::{Gathered, SchemaInUse, Target};
use crate::error::{Error, Place, Source};
use crate::fieldspec::FieldSpec;
use crate::files::{LoadRestrictor, Loader, Tree};
use crate::id::Id;
use crate::metadata::{self, ORIGIN, TRANSFORMATIONS};
use crate::order::Legacy;
use crate::resource::Resource;
use crate::resources;
use crate::schema::Schema;
use crate::transform::{Action, names, vars};
use crate::yaml::{self, Map, Node};
use serde_json::Value;
use std::collections::BTreeSet;
use std::rc::Rc;

/// How to build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Which files may be named.
    pub restrictor: LoadRestrictor,
    /// The order of the objects when the kustomization does not say.
    pub order: Order,
}

impl Options {
    /// As `kustomize build` has it by default.
    pub fn kustomize() -> Options {
        Options::default()
    }

    /// As Flux builds: files from anywhere in the tree, in their own order.
    pub fn flux() -> Options {
        Options { restrictor: LoadRestrictor::None, order: Order::AsRead }
    }
}

/// An order of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Namespaces and other things that are needed first come first, webhooks last: `kustomize build`.
    #[default]
    Legacy,
    /// As the files name them: Flux.
    AsRead,
}

/// An object of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The object.
    pub value: Value,
    /// Where it was read, before it was changed.
    pub source: Source,
}

/// Annotations of kustomize's own that never leave a build (`resource.BuildAnnotations`).
const INTERNAL: [&str; 19] = [
    "internal.config.kubernetes.io/previousKinds",
    "internal.config.kubernetes.io/previousNames",
    "internal.config.kubernetes.io/prefixes",
    "internal.config.kubernetes.io/suffixes",
    "internal.config.kubernetes.io/previousNamespaces",
    "internal.config.kubernetes.io/allowNameChange",
    "internal.config.kubernetes.io/allowKindChange",
    "internal.config.kubernetes.io/refBy",
    "internal.config.kubernetes.io/generatorBehavior",
    "internal.config.kubernetes.io/needsHashSuffix",
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
    "internal.config.kubernetes.io/helm-generated",
];

const LOCAL: &str = "config.kubernetes.io/local-config";

/// Builds the kustomization in `root`, a folder of the tree (empty for the top).
///
/// # Errors
///
/// The first thing that is wrong, with its file, line and field.
pub fn build(tree: &dyn Tree, root: &str, options: &Options) -> Result<Vec<Object>, Error> {
    let loader = Loader::new(tree, options.restrictor, root).map_err(|problem| Error::Path {
        place: Place::default(),
        path: root.to_owned(),
        problem,
    })?;
    finish(Target::open(loader, Rc::new(SchemaInUse::default()))?, options)
}

/// Builds from an opened kustomization.
pub(crate) fn finish(mut target: Target<'_>, options: &Options) -> Result<Vec<Object>, Error> {
    let wants =
        |target: &Target<'_>, option: &str| target.kustomization.build_metadata.iter().any(|have| have == option);
    if !target.kustomization.build_metadata.is_empty() {
        target.trail = Some(String::new());
    }
    let Gathered { mut resources, config, vars } = target.gather(Gathered::empty())?;
    let own = &target.kustomization;
    let fault = |field: &'static str| move |problem| own.fault(field, problem);
    Action::Hash.apply(&mut resources, Schema::built_in()).map_err(fault("configMapGenerator"))?;
    names::apply(&mut resources, &config.tables().name_reference).map_err(fault(""))?;
    vars::apply(&mut resources, &vars, &config.tables().var_reference).map_err(fault("vars"))?;
    for resource in &resources {
        resources::check(&resource.node).map_err(|problem| Error::Object { at: resource.source.clone(), problem })?;
    }
    resources.retain(|resource| resource.annotation(LOCAL).is_none_or(|value| value == "false"));
    let gathered = std::mem::take(&mut resources);
    resources::insert_all(&mut resources, gathered)?;
    let legacy = match (&own.sort, options.order) {
        (Some(sort), _) => sort.legacy.clone(),
        (None, Order::Legacy) => Some(Legacy::default()),
        (None, Order::AsRead) => None,
    };
    let mut resources = match legacy {
        Some(legacy) => sorted(resources, &legacy),
        None => resources,
    };
    if wants(&target, "managedByLabel") {
        let labels = [("app.kubernetes.io/managed-by".to_owned(), "kustomize-v5.8.1".to_owned())].into();
        let specs = vec![FieldSpec { path: "metadata/labels".to_owned(), create: true, ..FieldSpec::default() }];
        Action::Labels { labels, specs }.apply(&mut resources, Schema::built_in()).map_err(fault("buildMetadata"))?;
    }
    let (origins, transformations) = (wants(&target, "originAnnotations"), wants(&target, "transformerAnnotations"));
    resources.into_iter().map(|resource| object(resource, origins, transformations)).collect()
}

fn sorted(resources: Vec<Resource>, legacy: &Legacy) -> Vec<Resource> {
    let mut named: Vec<(Id, Resource)> = resources.into_iter().map(|resource| (resource.id(), resource)).collect();
    named.sort_by(|(a, _), (b, _)| legacy.compare(a, b));
    named.into_iter().map(|(_, resource)| resource).collect()
}

/// Settles the annotations and turns the tree into a value.
fn object(mut resource: Resource, origins: bool, transformations: bool) -> Result<Object, Error> {
    settle_annotations(&mut resource, origins, transformations);
    match yaml::json::to_value(&resource.node) {
        Ok(mut value) => {
            fold_next_lines(&mut value);
            Ok(Object { value, source: resource.source })
        }
        Err(fault) => Err(Error::Output { id: resource.id().to_string(), at: resource.source, fault }),
    }
}

/// kustomize prints each object and reads it again on the way out. U+0085 ends a line in the YAML 1.1 that it reads, so
/// one in a text is folded: with the blanks around it, it becomes a space, and a row of them line feeds, one less.
fn fold_next_lines(value: &mut Value) {
    const NEXT_LINE: char = '\u{85}';
    match value {
        Value::String(text) if text.contains(NEXT_LINE) => {
            let mut folded = String::with_capacity(text.len());
            let mut breaks = 0;
            for piece in text.split(NEXT_LINE) {
                if breaks > 0 {
                    folded.truncate(folded.trim_end_matches([' ', '\t']).len());
                }
                let piece = if breaks > 0 { piece.trim_start_matches([' ', '\t']) } else { piece };
                if !piece.is_empty() {
                    match breaks {
                        0 => {}
                        1 => folded.push(' '),
                        more => folded.extend(std::iter::repeat_n('\n', more - 1)),
                    }
                    breaks = 0;
                }
                folded.push_str(piece);
                breaks += 1;
            }
            *text = folded;
        }
        Value::Array(items) => items.iter_mut().for_each(fold_next_lines),
        Value::Object(members) => members.values_mut().for_each(fold_next_lines),
        _ => {}
    }
}

/// Every annotation becomes text, kustomize's own go, and an empty set goes too.
fn settle_annotations(resource: &mut Resource, origins: bool, transformations: bool) {
    let mut texts = resource.meta_texts("annotations");
    texts.retain(|(key, _)| !INTERNAL.contains(&key.as_str()) && key != ORIGIN && key != TRANSFORMATIONS);
    resource.set_meta_texts("annotations", texts);
    let mut extra = Vec::new();
    if let Some(origin) = resource.memory.origin.as_ref().filter(|_| origins) {
        extra.push((ORIGIN, metadata::origin_text(origin)));
    }
    if transformations && !resource.memory.transformations.is_empty() {
        extra.push((TRANSFORMATIONS, metadata::transformations_text(&resource.memory.transformations)));
    }
    if extra.is_empty() {
        return;
    }
    if let Some(metadata) = resource.metadata() {
        if metadata.get("annotations").and_then(Node::as_map).is_none() {
            metadata.insert("annotations", Node::Map(Map::new()));
        }
        if let Some(annotations) = metadata.map_at("annotations") {
            for (key, text) in extra {
                annotations.insert(key, text);
            }
        }
    }
}

/// A file name for each object, as `kustomize build --output FOLDER` gives them (`commands/build/writer.go`): group,
/// version, kind and name in lower case, after the namespace where there is more than one.
pub fn file_names(objects: &[Object]) -> Vec<String> {
    let ids: Vec<Id> = objects.iter().map(|object| Id::of(&yaml::json::from_value(&object.value))).collect();
    let namespaces: BTreeSet<&str> = ids.iter().filter(|id| !id.cluster_scoped).map(Id::effective_namespace).collect();
    let name = |id: &Id| {
        let namespace = (!id.cluster_scoped && namespaces.len() > 1).then(|| id.effective_namespace());
        let gvk = [&id.gvk.group, &id.gvk.version, &id.gvk.kind].map(String::as_str);
        let parts =
            namespace.into_iter().chain(gvk.into_iter().filter(|part| !part.is_empty())).chain([id.name.as_str()]);
        parts.collect::<Vec<_>>().join("_").to_lowercase() + ".yaml"
    };
    ids.iter().map(name).collect()
}

/// The objects as one YAML stream, as `kustomize build` prints it.
pub fn to_yaml(objects: &[Object]) -> String {
    let documents: Vec<String> = objects.iter().map(|object| yaml::to_yaml(&object.value)).collect();
    documents.join("---\n")
}
