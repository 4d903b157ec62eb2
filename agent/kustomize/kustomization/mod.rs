//! The kustomization file: as written, with types.
//!
//! Fields and their defaults are those of `types.Kustomization` in kustomize's api module. Deprecated spellings
//! (`bases`, `imageTags`, `env`) are folded into today's while reading, as kustomize does.

pub(crate) mod decode;
mod parts;

use crate::error::{Error, Place, Refusal};
use crate::files::{Content, Loader};
use crate::select::Selector;
use crate::yaml::{self, Dialect};
use decode::{Document, Field, Members};
pub(crate) use parts::{
    FieldOptions, GeneratorOptions, Image, Label, Patch, Replacement, ReplacementField, ReplacementTarget, Replica,
    SourceSelector, Sources, Var, field_spec, gvk, selector,
};
use std::collections::BTreeMap;

/// The names a kustomization may have.
pub(crate) const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A kustomization with everything it asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kustomization {
    /// Its path from the top of the tree.
    pub(crate) file: String,
    /// Its own file name.
    pub(crate) name: String,
    pub(crate) is_component: bool,
    pub(crate) name_prefix: String,
    pub(crate) name_suffix: String,
    pub(crate) namespace: String,
    pub(crate) common_labels: BTreeMap<String, String>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_annotations: BTreeMap<String, String>,
    pub(crate) patches_strategic_merge: Vec<Entry>,
    pub(crate) patches_json6902: Vec<Patch>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) images: Vec<Image>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) replacements: Vec<ReplacementField>,
    pub(crate) vars: Vec<Var>,
    pub(crate) sort: Option<SortOptions>,
    pub(crate) resources: Vec<Entry>,
    pub(crate) components: Vec<Entry>,
    pub(crate) crds: Vec<Entry>,
    pub(crate) config_maps: Vec<Sources>,
    pub(crate) secrets: Vec<Sources>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) configurations: Vec<Entry>,
    pub(crate) generators: Vec<Entry>,
    pub(crate) transformers: Vec<Entry>,
    pub(crate) validators: Vec<Entry>,
    pub(crate) build_metadata: Vec<String>,
    pub(crate) open_api: BTreeMap<String, String>,
    /// Whether it asks for nothing at all.
    is_empty: bool,
    bytes: Vec<u8>,
}

/// A text with the field it stands in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) field: String,
    pub(crate) text: String,
}

/// `sortOptions`.
#[derive(Debug, Clone)]
pub(crate) struct SortOptions {
    /// `legacy`, or else `fifo`.
    pub(crate) legacy: Option<crate::order::Legacy>,
}

impl Kustomization {
    /// Reads the kustomization of the folder that the loader stands in.
    pub(crate) fn load(loader: &Loader<'_>) -> Result<Kustomization, Error> {
        let Some((name, bytes)) = Kustomization::file_in(loader)? else {
            return Err(Error::NoKustomization { directory: shown(loader) });
        };
        let read = Kustomization::parse(&loader.shown_file(name), name, &bytes, true)?;
        if read.is_empty {
            return Err(Error::Empty { file: read.file });
        }
        Ok(read)
    }

    /// The same as Flux reads it: unknown fields are ignored, numbers are taken for text. None if there is no file.
    pub(crate) fn load_lax(loader: &Loader<'_>) -> Result<Option<Kustomization>, Error> {
        let Some((name, bytes)) = Kustomization::file_in(loader)? else {
            return Ok(None);
        };
        Kustomization::parse(&loader.shown_file(name), name, &bytes, false).map(Some)
    }

    /// The one kustomization file of a folder.
    fn file_in(loader: &Loader<'_>) -> Result<Option<(&'static str, Content)>, Error> {
        let mut found = Vec::new();
        for name in FILE_NAMES {
            let place = || Place { file: loader.shown_file(name), ..Place::default() };
            if let Some(bytes) = loader.own_file(name).map_err(|error| error.at(place(), name))? {
                found.push((name, bytes));
            }
        }
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(Error::ManyKustomizations {
                directory: shown(loader),
                names: found.iter().map(|(name, _)| (*name).to_owned()).collect(),
            }),
        }
    }

    /// A kustomization that no file holds.
    pub(crate) fn made(file: String, resources: Vec<Entry>, namespace: &str) -> Kustomization {
        Kustomization {
            file,
            name: FILE_NAMES[0].to_owned(),
            resources,
            namespace: namespace.to_owned(),
            ..Kustomization::default()
        }
    }

    /// Reads a kustomization from its bytes; `name` is the last part of its path.
    fn parse(file: &str, name: &str, bytes: &[u8], strict: bool) -> Result<Kustomization, Error> {
        let document = Document { file, bytes, strict };
        let trees = yaml::trees(file, bytes, Dialect::KustomizationFile)?;
        let Some(tree) = trees.first() else {
            return Ok(Kustomization {
                is_empty: true,
                file: file.to_owned(),
                name: name.to_owned(),
                ..Kustomization::default()
            });
        };
        let value = yaml::json::to_value(&tree.root).map_err(|fault| document.fault("", fault.to_string()))?;
        let members = Field::root(document, &value).members()?;
        let mut read = Kustomization::from_members(&members, document)?;
        members.finish()?;
        read.is_empty = value.as_object().is_none_or(|map| {
            map.iter().all(|(key, value)| {
                value.is_null()
                    || value.as_str() == Some("")
                    || key.eq_ignore_ascii_case("kind")
                    || key.eq_ignore_ascii_case("apiVersion")
            })
        });
        read.file = file.to_owned();
        read.name = name.to_owned();
        read.bytes = bytes.to_vec();
        Ok(read)
    }

    fn from_members(members: &Members<'_>, document: Document<'_>) -> Result<Kustomization, Error> {
        let is_component = check_type(members, document)?;
        for refused in ["helmCharts", "helmChartInflationGenerator"] {
            if let Some(field) = members.get(refused)
                && field.value.as_array().is_none_or(|items| !items.is_empty())
            {
                return Err(Error::Refused { place: document.place(&field.path), refusal: Refusal::Helm });
            }
        }
        members.get("helmGlobals");
        if let Some(metadata) = members.get("metadata") {
            let metadata = metadata.members()?;
            for name in ["name", "namespace"] {
                metadata.text(name)?;
            }
            for name in ["labels", "annotations"] {
                metadata.texts(name)?;
            }
            metadata.finish()?;
        }
        Ok(Kustomization {
            is_component,
            name_prefix: members.text("namePrefix")?,
            name_suffix: members.text("nameSuffix")?,
            namespace: members.text("namespace")?,
            common_labels: members.texts("commonLabels")?,
            labels: members.list("labels", Label::read)?,
            common_annotations: members.texts("commonAnnotations")?,
            patches_strategic_merge: entries(members, "patchesStrategicMerge")?,
            patches_json6902: members.list("patchesJson6902", Patch::read)?,
            patches: members.list("patches", Patch::read)?,
            images: joined(members.list("images", Image::read)?, members.list("imageTags", Image::read)?),
            replicas: members.list("replicas", Replica::read)?,
            replacements: members.list("replacements", ReplacementField::read)?,
            vars: members.list("vars", Var::read)?,
            sort: members.option("sortOptions", sort_options)?,
            resources: joined(entries(members, "resources")?, entries(members, "bases")?),
            components: entries(members, "components")?,
            crds: entries(members, "crds")?,
            config_maps: members.list("configMapGenerator", |field| Sources::read(field, false))?,
            secrets: members.list("secretGenerator", |field| Sources::read(field, true))?,
            generator_options: members.option("generatorOptions", GeneratorOptions::read)?,
            configurations: entries(members, "configurations")?,
            generators: entries(members, "generators")?,
            transformers: entries(members, "transformers")?,
            validators: entries(members, "validators")?,
            build_metadata: members.text_list("buildMetadata")?,
            open_api: members.texts("openapi")?,
            ..Kustomization::default()
        })
    }

    /// The place of one of its fields.
    pub(crate) fn place(&self, field: &str) -> Place {
        if field.starts_with("spec.") {
            // A field of the Flux Kustomization, which is no file of the tree.
            return Place { file: "Kustomization".to_owned(), line: 0, field: field.to_owned() };
        }
        Document { file: &self.file, bytes: &self.bytes, strict: true }.place(field)
    }

    /// A step that could not be done for one of its fields.
    pub(crate) fn fault(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Step { place: self.place(field), problem: problem.into() }
    }
}

/// A folder for messages.
fn shown(loader: &Loader<'_>) -> String {
    let shown = loader.shown();
    if shown.is_empty() { ".".to_owned() } else { shown }
}

/// Checks `apiVersion` and `kind`; true for a component.
fn check_type(members: &Members<'_>, document: Document<'_>) -> Result<bool, Error> {
    let (version, kind) = (members.text("apiVersion")?, members.text("kind")?);
    let wanted = match kind.as_str() {
        "" | "Kustomization" => "kustomize.config.k8s.io/v1beta1",
        "Component" => "kustomize.config.k8s.io/v1alpha1",
        _ => {
            return Err(document.fault("kind", format!("{kind:?} should be Kustomization or Component")));
        }
    };
    if !version.is_empty() && version != wanted {
        return Err(document.fault("apiVersion", format!("{version:?} should be {wanted} for this kind")));
    }
    Ok(kind == "Component")
}

fn entries(members: &Members<'_>, name: &'static str) -> Result<Vec<Entry>, Error> {
    members.list(name, |field| Ok(Entry { field: field.path.clone(), text: field.text()? }))
}

fn joined<T>(mut first: Vec<T>, second: Vec<T>) -> Vec<T> {
    first.extend(second);
    first
}

fn sort_options(field: &Field<'_>) -> Result<SortOptions, Error> {
    let members = field.members()?;
    let order = members.text("order")?;
    let lists = members.option("legacySortOptions", |field| {
        let members = field.members()?;
        let lists =
            crate::order::Legacy { first: members.text_list("orderFirst")?, last: members.text_list("orderLast")? };
        members.finish()?;
        Ok(lists)
    })?;
    let legacy = match (order.as_str(), lists) {
        ("legacy", lists) => Some(lists.unwrap_or_default()),
        ("fifo", None) => None,
        ("fifo", Some(_)) => {
            return Err(field.fault("legacySortOptions are given, but order is fifo; set order: legacy"));
        }
        (other, _) => return Err(field.fault(format!("order {other:?} should be legacy or fifo"))),
    };
    members.finish()?;
    Ok(SortOptions { legacy })
}

/// A selector that may be absent.
pub(crate) fn target(members: &Members<'_>, name: &'static str) -> Result<Option<Selector>, Error> {
    members.option(name, selector)
}
