//! From fields to steps: what the transformers of a kustomization, and those in files of their own, have to do.

use crate::accumulate::Target;
use crate::config::Tables;
use crate::error::{Error, Place, Refusal};
use crate::generate::{self, Kind};
use crate::kustomization::decode::{Document, Field, Members};
use crate::kustomization::{
    Entry, Image, Patch, Replacement, ReplacementField, Replica, Sources, field_spec, selector,
};
use crate::metadata::{ConfiguredBy, Origin};
use crate::resource::Resource;
use crate::resources;
use crate::transform::labels::places;
use crate::transform::patches::{self, Text};
use crate::transform::{Action, Step, Subjects, ValueTarget};
use crate::yaml::{self, Dialect};

/// A step, and where it comes from when that is not the kustomization itself.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) step: Step,
    pub(crate) origin: Option<Origin>,
    /// Whether the next step is the second half of the same transformer.
    pub(crate) half: bool,
}

fn planned(field: impl Into<String>, action: Action) -> Planned {
    Planned { step: Step { field: field.into(), place: None, action }, origin: None, half: false }
}

/// The steps of a kustomization's own fields, in kustomize's order.
pub(crate) fn of_kustomization(target: &Target<'_>, tables: &Tables) -> Result<Vec<Planned>, Error> {
    let own = &target.kustomization;
    let mut steps = Vec::new();
    if !own.patches_strategic_merge.is_empty() {
        let mut all = Vec::new();
        for entry in &own.patches_strategic_merge {
            all.extend(legacy_patches(target, entry)?);
        }
        steps.push(planned("patchesStrategicMerge", Action::Patch(patches::Patch::Legacy(all))));
    }
    for patch in &own.patches {
        steps.extend(patch_step(target, patch)?);
    }
    if !own.namespace.is_empty() {
        let action = Action::Namespace {
            namespace: own.namespace.clone(),
            specs: tables.namespace.clone(),
            unset_only: false,
            subjects: Subjects::DefaultOnly,
        };
        steps.push(planned("namespace", action));
    }
    if !own.name_prefix.is_empty() {
        let action = Action::Prefix { prefix: own.name_prefix.clone(), specs: tables.name_prefix.clone() };
        steps.push(planned("namePrefix", action));
    }
    if !own.name_suffix.is_empty() {
        let action = Action::Suffix { suffix: own.name_suffix.clone(), specs: tables.name_suffix.clone() };
        steps.push(planned("nameSuffix", action));
    }
    for label in &own.labels {
        let specs = places(label, tables).map_err(|problem| own.fault(&label.field, problem))?;
        steps.push(planned(label.field.clone(), Action::Labels { labels: label.pairs.clone(), specs }));
    }
    if !own.labels.is_empty() || !own.common_labels.is_empty() {
        let action = Action::Labels { labels: own.common_labels.clone(), specs: tables.common_labels.clone() };
        steps.push(planned("commonLabels", action));
    }
    if !own.common_annotations.is_empty() {
        let annotations = own.common_annotations.clone();
        let action = Action::Annotations { annotations, specs: tables.common_annotations.clone() };
        steps.push(planned("commonAnnotations", action));
    }
    for patch in &own.patches_json6902 {
        steps.push(json_step(target, patch)?);
    }
    for replica in &own.replicas {
        let action = Action::Replicas { replica: replica.clone(), specs: tables.replicas.clone() };
        steps.push(planned(replica.field.clone(), action));
    }
    for image in &own.images {
        let action = Action::Image { image: image.clone(), specs: tables.images.clone() };
        steps.push(planned(image.field.clone(), action));
    }
    if !own.replacements.is_empty() {
        let mut replacements = load_replacements(target, &own.replacements, "replacements")?;
        // One transformer to kustomize; each on its own here, so that an error names the one to blame.
        let last = replacements.pop();
        for (field, replacement) in replacements {
            let half = Planned { half: true, ..planned(field, Action::Replacements(vec![replacement])) };
            steps.push(half);
        }
        let (field, last) = last.map_or(("replacements".to_owned(), None), |(field, last)| (field, Some(last)));
        steps.push(planned(field, Action::Replacements(last.into_iter().collect())));
    }
    Ok(steps)
}

/// An entry of `patchesStrategicMerge` is the patch itself, or else a path.
fn legacy_patches(target: &Target<'_>, entry: &Entry) -> Result<Vec<Resource>, Error> {
    if let Ok(patches) = resources::parse(&target.kustomization.file, entry.text.as_bytes()) {
        return Ok(patches);
    }
    let (file, bytes) = target.load(&entry.field, &entry.text)?;
    resources::parse(&file, &bytes)
}

fn patch_step(target: &Target<'_>, patch: &Patch) -> Result<Option<Planned>, Error> {
    let own = &target.kustomization;
    let inline = patch.patch.trim();
    let (file, text) = match (inline, patch.path.as_str()) {
        ("", "") => return Err(own.fault(&patch.field, "one of path and patch is needed")),
        (_, "") => (own.file.clone(), inline.to_owned()),
        ("", path) => {
            let (file, bytes) = target.load(&format!("{}.path", patch.field), path)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| own.fault(&patch.field, format!("{file} is not UTF-8 text")))?;
            (file, text.to_owned())
        }
        _ => return Err(own.fault(&patch.field, "path and patch exclude each other")),
    };
    let read = patches::read(&file, &text).map_err(|problem| own.fault(&patch.field, format!("{file}: {problem}")))?;
    let action = match read {
        Text::Json(operations) => match &patch.target {
            None => return Err(own.fault(&patch.field, "a JSON patch needs a target")),
            Some(selector) => patches::Patch::Json { operations, target: selector.clone(), tracks_names: true },
        },
        Text::Strategic(mut found) => {
            for resource in &mut found {
                resource.memory.may_rename = patch.allow_name_change;
                resource.memory.may_change_kind = patch.allow_kind_change;
            }
            match (&patch.target, found.len()) {
                (_, 0) => return Ok(None),
                (None, _) => patches::Patch::Named(found),
                (Some(selector), 1) => patches::Patch::Selected(Box::new(found.swap_remove(0)), selector.clone()),
                (Some(_), _) => {
                    return Err(
                        own.fault(&patch.field, "a patch with a target is one document; split it into several entries")
                    );
                }
            }
        }
    };
    Ok(Some(planned(patch.field.clone(), Action::Patch(action))))
}

fn json_step(target: &Target<'_>, patch: &Patch) -> Result<Planned, Error> {
    let own = &target.kustomization;
    let fault = |problem: &str| own.fault(&patch.field, problem);
    let Some(selector) = patch.target.as_ref().filter(|target| !target.id.name.is_empty()) else {
        return Err(fault("the target needs a name"));
    };
    let text = match (patch.patch.as_str(), patch.path.as_str()) {
        ("", "") => return Err(fault("one of path and patch is needed")),
        (inline, "") => inline.to_owned(),
        ("", path) => {
            let (_, bytes) = target.load(&format!("{}.path", patch.field), path)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return Err(fault("path and patch exclude each other")),
    };
    let operations = patches::read_json(&text).map_err(|problem| own.fault(&patch.field, problem))?;
    if operations.is_empty() {
        return Err(fault("the patch is empty"));
    }
    let action = patches::Patch::Json { operations, target: selector.clone(), tracks_names: false };
    Ok(planned(patch.field.clone(), Action::Patch(action)))
}

/// Replacements in place, and those in files that hold one or a list, each with the field that asks for it.
fn load_replacements(
    target: &Target<'_>,
    fields: &[ReplacementField],
    name: &str,
) -> Result<Vec<(String, Replacement)>, Error> {
    let mut all = Vec::new();
    for (at, entry) in fields.iter().enumerate() {
        if entry.path.is_empty() {
            all.push((format!("{name}[{at}]"), Replacement { field: String::new(), ..entry.replacement.clone() }));
            continue;
        }
        let field = format!("{name}[{at}].path");
        let (file, bytes) = target.load(&field, &entry.path)?;
        let document = Document { file: &file, bytes: &bytes, strict: false };
        let trees = yaml::trees(&file, &bytes, Dialect::Kubernetes)?;
        let Some(tree) = trees.first() else {
            return Err(document.fault("", "the file is empty"));
        };
        let value = yaml::json::to_value(&tree.root).map_err(|fault| document.fault("", fault.to_string()))?;
        let root = Field::root(document, &value);
        let mut read = if value.is_array() {
            root.elements()?.iter().map(Replacement::read).collect::<Result<Vec<_>, _>>()?
        } else {
            vec![Replacement::read(&root)?]
        };
        for replacement in &mut read {
            replacement.field = document.place(&replacement.field).to_string();
        }
        all.extend(read.into_iter().map(|replacement| (field.clone(), replacement)));
    }
    Ok(all)
}

/// The configurations that an entry of `transformers`, `generators` or `validators` stands for: YAML in place, a file,
/// or a folder that is built.
fn plugin_configs(target: &Target<'_>, entries: &[Entry]) -> Result<Vec<Resource>, Error> {
    let mut gathered = crate::accumulate::Gathered::empty();
    let mut paths = Vec::new();
    for entry in entries {
        match resources::parse(&target.kustomization.file, entry.text.as_bytes()) {
            Ok(mut found) => {
                let origin = target.origin(&target.kustomization.name);
                let line = target.kustomization.place(&entry.field).line;
                for resource in &mut found {
                    resource.memory.origin.clone_from(&origin);
                    resource.source.line = line;
                }
                resources::insert_all(&mut gathered.resources, found)?;
            }
            Err(_) => paths.push(entry.clone()),
        }
    }
    target.add_resources(&mut gathered, &paths)?;
    Ok(gathered.resources)
}

fn origin_of(resource: &Resource) -> Option<Origin> {
    let origin = resource.memory.origin.as_ref()?;
    let id = resource.id();
    Some(Origin {
        path: String::new(),
        configured_in: origin.path.clone(),
        configured_by: Some(ConfiguredBy {
            api_version: id.gvk.api_version(),
            kind: id.gvk.kind,
            name: id.name,
            namespace: id.namespace,
        }),
    })
}

/// Refuses what is not one of kustomize's built-in plugins.
fn built_in(resource: &Resource) -> Result<String, Error> {
    let id = resource.id();
    let refuse = |refusal| Err(Error::Refused { place: place_of(resource), refusal });
    match (id.gvk.api_version().as_str(), id.gvk.kind.as_str()) {
        ("builtin", "HelmChartInflationGenerator") => refuse(Refusal::Helm),
        ("builtin", kind) => Ok(kind.to_owned()),
        _ => refuse(Refusal::Plugin),
    }
}

/// Where the configuration of a plugin stands.
fn place_of(config: &Resource) -> Place {
    Place { file: config.source.file.to_string(), line: config.source.line, field: config.id().gvk.kind }
}

/// A fault of a plugin is one of its configuration.
fn blame(config: &Resource, error: Error) -> Error {
    match error {
        Error::Step { problem, .. } => Error::Step { place: place_of(config), problem },
        Error::Field { place, problem } if place.file == *config.source.file && place.line == 0 => {
            Error::Field { place: Place { line: config.source.line, ..place }, problem }
        }
        error => error,
    }
}

/// What the entries of `generators` make.
pub(crate) fn generators(target: &Target<'_>) -> Result<Vec<Resource>, Error> {
    let mut made = Vec::new();
    for config in plugin_configs(target, &target.kustomization.generators)? {
        let kind = match built_in(&config)?.as_str() {
            "ConfigMapGenerator" => Kind::ConfigMap,
            "SecretGenerator" => Kind::Secret,
            other => {
                let problem = format!("{other} is not a generator");
                return Err(Error::Step { place: place_of(&config), problem });
            }
        };
        let sources = with_members(&config, |field, members| {
            let mut sources = Sources::read(field, kind == Kind::Secret)?;
            let metadata = members.option("metadata", |field| {
                let members = field.members()?;
                Ok((members.text("name")?, members.text("namespace")?))
            })?;
            let (name, namespace) = metadata.unwrap_or_default();
            if sources.name.is_empty() {
                sources.name = name;
            }
            if sources.namespace.is_empty() {
                sources.namespace = namespace;
            }
            Ok(sources)
        })
        .map_err(|error| blame(&config, error))?;
        let made_one = generate::generate(kind, &sources, None, &target.loader, &config.source.file);
        let mut resource = made_one.map_err(|fault| match fault {
            generate::Fault::Load { path, error, .. } => error.at(place_of(&config), &path),
            generate::Fault::Other(problem) => Error::Step { place: place_of(&config), problem },
        })?;
        resource.memory.origin = origin_of(&config);
        made.push(resource);
    }
    Ok(made)
}

fn with_members<T>(
    config: &Resource,
    read: impl FnOnce(&Field<'_>, &Members<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let document = Document { file: &config.source.file, bytes: b"", strict: false };
    let value = yaml::json::to_value(&config.node).map_err(|fault| document.fault("", fault.to_string()))?;
    let root = Field::root(document, &value);
    let members = root.members()?;
    read(&root, &members)
}

/// The steps of `transformers` or `validators`.
pub(crate) fn of_plugins(target: &Target<'_>, entries: &[Entry], field: &str) -> Result<Vec<Planned>, Error> {
    let mut steps = Vec::new();
    for config in plugin_configs(target, entries)? {
        let kind = built_in(&config)?;
        let origin = origin_of(&config);
        let actions = with_members(&config, |root, members| plugin_actions(target, field, &kind, root, members))
            .map_err(|error| blame(&config, error))?;
        let last = actions.len();
        for (at, action) in actions.into_iter().enumerate() {
            let step = Step { field: field.to_owned(), place: Some(place_of(&config)), action };
            steps.push(Planned { step, origin: origin.clone(), half: at + 1 < last });
        }
    }
    Ok(steps)
}

fn plugin_actions(
    target: &Target<'_>,
    field: &str,
    kind: &str,
    root: &Field<'_>,
    members: &Members<'_>,
) -> Result<Vec<Action>, Error> {
    let specs = || members.list("fieldSpecs", field_spec);
    let named = |action| vec![action];
    let own = &target.kustomization;
    Ok(match kind {
        "AnnotationsTransformer" => {
            named(Action::Annotations { annotations: members.texts("annotations")?, specs: specs()? })
        }
        "LabelTransformer" => named(Action::Labels { labels: members.texts("labels")?, specs: specs()? }),
        "NamespaceTransformer" => {
            let namespace = members.option("metadata", |field| field.members()?.text("namespace"))?.unwrap_or_default();
            let mode = members.text("setRoleBindingSubjects")?;
            let Some(subjects) = Subjects::parse(&mode) else {
                return Err(own.fault(
                    field,
                    format!("setRoleBindingSubjects: {mode:?} should be defaultOnly, allServiceAccounts or none"),
                ));
            };
            named(Action::Namespace { namespace, specs: specs()?, unset_only: members.boolean("unsetOnly")?, subjects })
        }
        "PrefixTransformer" => {
            named(Action::Prefix { prefix: members.text("prefix")?, specs: needed(target, field, members)? })
        }
        "SuffixTransformer" => {
            named(Action::Suffix { suffix: members.text("suffix")?, specs: needed(target, field, members)? })
        }
        "PrefixSuffixTransformer" => {
            let specs = needed(target, field, members)?;
            vec![
                Action::Prefix { prefix: members.text("prefix")?, specs: specs.clone() },
                Action::Suffix { suffix: members.text("suffix")?, specs },
            ]
        }
        "ReplicaCountTransformer" => {
            let replica = members.option("replica", Replica::read)?.unwrap_or_default();
            named(Action::Replicas { replica, specs: specs()? })
        }
        "ImageTagTransformer" => {
            let image = members.option("imageTag", Image::read)?.unwrap_or_default();
            named(Action::Image { image, specs: specs()? })
        }
        "ReplacementTransformer" => {
            let fields = members.list("replacements", ReplacementField::read)?;
            let replacements = load_replacements(target, &fields, field)?;
            named(Action::Replacements(replacements.into_iter().map(|(_, replacement)| replacement).collect()))
        }
        "PatchTransformer" => {
            let mut patch = Patch::read(root)?;
            field.clone_into(&mut patch.field);
            patch_step(target, &patch)?.map(|planned| planned.step.action).into_iter().collect()
        }
        "PatchJson6902Transformer" => {
            let mut patch = Patch::read(root)?;
            field.clone_into(&mut patch.field);
            patch.patch = members.text("jsonOp")?;
            named(json_step(target, &patch)?.step.action)
        }
        "PatchStrategicMergeTransformer" => {
            let mut all = Vec::new();
            for path in members.text_list("paths")? {
                all.extend(legacy_patches(target, &Entry { field: field.to_owned(), text: path })?);
            }
            let inline = members.text("patches")?;
            all.extend(resources::parse(&own.file, inline.as_bytes())?);
            if all.is_empty() {
                return Err(own.fault(field, "the patch is empty"));
            }
            named(Action::Patch(patches::Patch::Legacy(all)))
        }
        "HashTransformer" => named(Action::Hash),
        "ValueAddTransformer" => named(value_add(target, field, members)?),
        other => return Err(own.fault(field, format!("there is no built-in transformer {other}"))),
    })
}

fn needed(target: &Target<'_>, field: &str, members: &Members<'_>) -> Result<Vec<crate::fieldspec::FieldSpec>, Error> {
    match members.get("fieldSpecs") {
        Some(list) => list.elements()?.iter().map(field_spec).collect(),
        None => {
            Err(target.kustomization.fault(field, "fieldSpecs are needed; for names they are [{path: metadata/name}]"))
        }
    }
}

fn value_add(target: &Target<'_>, field: &str, members: &Members<'_>) -> Result<Action, Error> {
    let own = &target.kustomization;
    let read = |members: &Members<'_>| {
        members.list("targets", |field| {
            let members = field.members()?;
            Ok(ValueTarget {
                selector: members.option("selector", selector)?,
                field_path: members.text("fieldPath")?,
                file_path_position: members.integer("filePathPosition")?,
            })
        })
    };
    let mut value = members.text("value")?.trim().to_owned();
    if value.is_empty() {
        value = target.loader.directory().rsplit('/').next().unwrap_or_default().to_owned();
    }
    let mut targets = read(members)?;
    let path = members.text("targetFilePath")?;
    if !path.is_empty() {
        let (file, bytes) = target.load(field, &path)?;
        let document = Document { file: &file, bytes: &bytes, strict: false };
        for tree in yaml::trees(&file, &bytes, Dialect::Kubernetes)?.iter().take(1) {
            let found = yaml::json::to_value(&tree.root).map_err(|fault| document.fault("", fault.to_string()))?;
            targets.extend(read(&Field::root(document, &found).members()?)?);
        }
    }
    if targets.is_empty() {
        return Err(own.fault(field, "at least one target is needed"));
    }
    if targets.iter().any(|target| target.field_path.is_empty()) {
        return Err(own.fault(field, "a target needs a fieldPath"));
    }
    if targets.iter().any(|target| target.file_path_position < 0) {
        return Err(own.fault(field, "filePathPosition cannot be negative"));
    }
    Ok(Action::ValueAdd { value, targets })
}
