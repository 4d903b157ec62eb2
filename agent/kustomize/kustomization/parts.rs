//! The parts of a kustomization that have fields of their own.

use super::decode::{Field, Members};
use super::target;
use crate::error::Error;
use crate::fieldspec::FieldSpec;
use crate::id::{Gvk, Id};
use crate::select::Selector;
use std::collections::BTreeMap;

/// An entry of `labels`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    pub(crate) field: String,
    pub(crate) pairs: BTreeMap<String, String>,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    pub(crate) fields: Vec<FieldSpec>,
}

/// An entry of `patches` or `patchesJson6902`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patch {
    pub(crate) field: String,
    pub(crate) path: String,
    pub(crate) patch: String,
    pub(crate) target: Option<Selector>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
}

/// An entry of `images`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) new_name: String,
    pub(crate) new_tag: String,
    pub(crate) tag_suffix: String,
    pub(crate) digest: String,
}

/// An entry of `replicas`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) count: i64,
}

/// An entry of `configMapGenerator` or `secretGenerator`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) behavior: String,
    pub(crate) literals: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) envs: Vec<String>,
    pub(crate) options: Option<GeneratorOptions>,
    /// A Secret's type.
    pub(crate) secret_type: String,
}

/// `generatorOptions`, for all generators or for one.
#[derive(Debug, Clone, Default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) disable_name_suffix_hash: bool,
    pub(crate) immutable: bool,
}

/// An entry of `vars`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Var {
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) object: Id,
    pub(crate) field_path: String,
}

/// An entry of `replacements`: written in place, or the path of a file of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplacementField {
    pub(crate) path: String,
    pub(crate) replacement: Replacement,
}

/// A value that is copied from one place to others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replacement {
    pub(crate) field: String,
    pub(crate) source: Option<SourceSelector>,
    pub(crate) source_value: Option<String>,
    pub(crate) targets: Vec<ReplacementTarget>,
}

/// Where a replacement reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceSelector {
    pub(crate) id: Id,
    pub(crate) field_path: String,
    pub(crate) options: Option<FieldOptions>,
}

/// Where a replacement writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplacementTarget {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<FieldOptions>,
}

/// How a replacement cuts and joins.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldOptions {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

/// Group, version and kind among other members.
pub(crate) fn gvk(members: &Members<'_>) -> Result<Gvk, Error> {
    Ok(Gvk { group: members.text("group")?, version: members.text("version")?, kind: members.text("kind")? })
}

fn id(members: &Members<'_>) -> Result<Id, Error> {
    Ok(Id {
        gvk: gvk(members)?,
        name: members.text("name")?,
        namespace: members.text("namespace")?,
        cluster_scoped: false,
    })
}

/// A field specification.
pub(crate) fn field_spec(field: &Field<'_>) -> Result<FieldSpec, Error> {
    let members = field.members()?;
    let spec = FieldSpec { gvk: gvk(&members)?, path: members.text("path")?, create: members.boolean("create")? };
    members.finish()?;
    Ok(spec)
}

/// A selector.
pub(crate) fn selector(field: &Field<'_>) -> Result<Selector, Error> {
    let members = field.members()?;
    let selector = Selector {
        id: id(&members)?,
        labels: members.text("labelSelector")?,
        annotations: members.text("annotationSelector")?,
    };
    members.finish()?;
    Ok(selector)
}

impl Label {
    pub(super) fn read(field: &Field<'_>) -> Result<Label, Error> {
        let members = field.members()?;
        let label = Label {
            field: field.path.clone(),
            pairs: members.texts("pairs")?,
            include_selectors: members.boolean("includeSelectors")?,
            include_templates: members.boolean("includeTemplates")?,
            fields: members.list("fields", field_spec)?,
        };
        members.finish()?;
        Ok(label)
    }
}

impl Patch {
    pub(crate) fn read(field: &Field<'_>) -> Result<Patch, Error> {
        let members = field.members()?;
        let options = members.option("options", |field| {
            let members = field.members()?;
            let options = (members.boolean("allowNameChange")?, members.boolean("allowKindChange")?);
            members.finish()?;
            Ok(options)
        })?;
        let (allow_name_change, allow_kind_change) = options.unwrap_or_default();
        let patch = Patch {
            field: field.path.clone(),
            path: members.text("path")?,
            patch: members.text("patch")?,
            target: target(&members, "target")?,
            allow_name_change,
            allow_kind_change,
        };
        members.finish()?;
        Ok(patch)
    }
}

impl Image {
    pub(crate) fn read(field: &Field<'_>) -> Result<Image, Error> {
        let members = field.members()?;
        let image = Image {
            field: field.path.clone(),
            name: members.text("name")?,
            new_name: members.text("newName")?,
            new_tag: members.text("newTag")?,
            tag_suffix: members.text("tagSuffix")?,
            digest: members.text("digest")?,
        };
        members.finish()?;
        Ok(image)
    }
}

impl Replica {
    pub(crate) fn read(field: &Field<'_>) -> Result<Replica, Error> {
        let members = field.members()?;
        let replica =
            Replica { field: field.path.clone(), name: members.text("name")?, count: members.integer("count")? };
        members.finish()?;
        Ok(replica)
    }
}

impl Sources {
    pub(crate) fn read(field: &Field<'_>, secret: bool) -> Result<Sources, Error> {
        let members = field.members()?;
        let mut envs = members.text_list("envs")?;
        let env = members.text("env")?;
        if !env.is_empty() {
            envs.push(env);
        }
        let sources = Sources {
            field: field.path.clone(),
            name: members.text("name")?,
            namespace: members.text("namespace")?,
            behavior: members.text("behavior")?,
            literals: members.text_list("literals")?,
            files: members.text_list("files")?,
            envs,
            options: members.option("options", GeneratorOptions::read)?,
            secret_type: if secret { members.text("type")? } else { String::new() },
        };
        members.finish()?;
        Ok(sources)
    }
}

impl GeneratorOptions {
    pub(super) fn read(field: &Field<'_>) -> Result<GeneratorOptions, Error> {
        let members = field.members()?;
        let options = GeneratorOptions {
            labels: members.texts("labels")?,
            annotations: members.texts("annotations")?,
            disable_name_suffix_hash: members.boolean("disableNameSuffixHash")?,
            immutable: members.boolean("immutable")?,
        };
        members.finish()?;
        Ok(options)
    }

    /// A generator's own options over those for all: labels and annotations of its own win, switches add up.
    pub(crate) fn over(own: Option<GeneratorOptions>, all: Option<&GeneratorOptions>) -> GeneratorOptions {
        let mut merged = own.unwrap_or_default();
        if let Some(all) = all {
            for (mine, theirs) in [(&mut merged.labels, &all.labels), (&mut merged.annotations, &all.annotations)] {
                for (key, value) in theirs {
                    mine.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            merged.disable_name_suffix_hash |= all.disable_name_suffix_hash;
            merged.immutable |= all.immutable;
        }
        merged
    }
}

impl Var {
    pub(super) fn read(field: &Field<'_>) -> Result<Var, Error> {
        let members = field.members()?;
        let object = members.option("objref", |field| {
            let members = field.members()?;
            let mut id = id(&members)?;
            let api_version = members.text("apiVersion")?;
            // A version without a group leaves the group as it was given.
            match api_version.split('/').collect::<Vec<_>>().as_slice() {
                [""] => {}
                [version] => id.gvk.version = (*version).to_owned(),
                [group, version] => (id.gvk.group, id.gvk.version) = ((*group).to_owned(), (*version).to_owned()),
                _ => {}
            }
            members.finish()?;
            Ok(id)
        })?;
        let field_path = members.option("fieldref", |field| {
            let members = field.members()?;
            let path = members.text("fieldPath")?;
            members.finish()?;
            Ok(path)
        })?;
        let var = Var {
            field: field.path.clone(),
            name: members.text("name")?,
            object: object.unwrap_or_default(),
            field_path: field_path.filter(|path| !path.is_empty()).unwrap_or_else(|| "metadata.name".to_owned()),
        };
        members.finish()?;
        Ok(var)
    }
}

impl ReplacementField {
    pub(crate) fn read(field: &Field<'_>) -> Result<ReplacementField, Error> {
        let members = field.members()?;
        let read = ReplacementField {
            path: members.text("path")?,
            replacement: Replacement::from_members(&members, &field.path)?,
        };
        members.finish()?;
        let inline = &read.replacement;
        if !read.path.is_empty() && (inline.source.is_some() || !inline.targets.is_empty()) {
            return Err(field.fault("path and an inline replacement exclude each other"));
        }
        Ok(read)
    }
}

impl Replacement {
    /// A replacement from a file of its own.
    pub(crate) fn read(field: &Field<'_>) -> Result<Replacement, Error> {
        let members = field.members()?;
        let read = Replacement::from_members(&members, &field.path)?;
        members.finish()?;
        Ok(read)
    }

    fn from_members(members: &Members<'_>, path: &str) -> Result<Replacement, Error> {
        Ok(Replacement {
            field: path.to_owned(),
            source: members.option("source", |field| {
                let members = field.members()?;
                let source = SourceSelector {
                    id: id(&members)?,
                    field_path: members.text("fieldPath")?,
                    options: members.option("options", FieldOptions::read)?,
                };
                members.finish()?;
                Ok(source)
            })?,
            source_value: members.option("sourceValue", Field::text)?,
            targets: members.list("targets", |field| {
                let members = field.members()?;
                let target = ReplacementTarget {
                    select: target(&members, "select")?,
                    reject: members.list("reject", selector)?,
                    field_paths: members.text_list("fieldPaths")?,
                    options: members.option("options", FieldOptions::read)?,
                };
                members.finish()?;
                Ok(target)
            })?,
        })
    }
}

impl FieldOptions {
    fn read(field: &Field<'_>) -> Result<FieldOptions, Error> {
        let members = field.members()?;
        members.text("encoding")?;
        let options = FieldOptions {
            delimiter: members.text("delimiter")?,
            index: members.integer("index")?,
            create: members.boolean("create")?,
        };
        members.finish()?;
        Ok(options)
    }
}
