//! One kustomization and everything below it.
//!
//! ```text
//! resources -> configuration -> generators -> components -> transformers -> validators -> vars
//! ```
//!
//! A base is gathered on its own and then added; a component works on what its parent has gathered so far
//! (`internal/target/kusttarget.go` in kustomize).

use crate::config::{Config, Tables};
use crate::error::{Error, PathProblem, Place};
use crate::files::{LoadError, Loader};
use crate::generate::{self, Kind};
use crate::id::Id;
use crate::kustomization::{Entry, Kustomization, Var};
use crate::metadata::Origin;
use crate::resource::Resource;
use crate::resources::{self, insert_all};
use crate::schema::Schema;
use crate::steps;
use crate::yaml;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What was gathered.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) resources: Vec<Resource>,
    pub(crate) config: Config,
    pub(crate) vars: BTreeMap<String, Var>,
}

impl Gathered {
    pub(crate) fn empty() -> Gathered {
        Gathered { resources: Vec::new(), config: Config::empty(), vars: BTreeMap::new() }
    }

    fn add_var(&mut self, var: &Var) -> Result<(), String> {
        match self.vars.insert(var.name.clone(), var.clone()) {
            None => Ok(()),
            Some(_) => Err(format!("variable {} is defined twice", var.name)),
        }
    }
}

/// A kustomization at work.
pub(crate) struct Target<'f> {
    pub(crate) loader: Loader<'f>,
    pub(crate) kustomization: Kustomization,
    pub(crate) schema: Rc<SchemaInUse>,
    /// Its folder, relative to the one that the build started from; none unless origins are tracked.
    pub(crate) trail: Option<String>,
}

/// The schema for merge keys: the first that a kustomization brings, else the built-in one.
#[derive(Debug, Default)]
pub(crate) struct SchemaInUse {
    own: std::cell::OnceCell<Schema>,
    /// Whether a kustomization's schema adds to the built-in one (Flux) or replaces it (kustomize).
    adds: bool,
}

impl SchemaInUse {
    /// A schema to which those of kustomizations add.
    pub(crate) fn adding() -> SchemaInUse {
        SchemaInUse { adds: true, ..SchemaInUse::default() }
    }

    pub(crate) fn get(&self) -> &Schema {
        self.own.get().unwrap_or_else(|| Schema::built_in())
    }

    fn adopt(&self, schema: Schema) {
        let schema = if self.adds { schema.over_built_in() } else { schema };
        // Only the first schema of a build counts.
        let _ = self.own.set(schema);
    }
}

impl<'f> Target<'f> {
    /// Reads the kustomization of a folder.
    pub(crate) fn open(loader: Loader<'f>, schema: Rc<SchemaInUse>) -> Result<Target<'f>, Error> {
        let kustomization = Kustomization::load(&loader)?;
        Target::with(loader, kustomization, schema)
    }

    /// Takes a kustomization that was read or made elsewhere.
    pub(crate) fn with(
        loader: Loader<'f>,
        kustomization: Kustomization,
        schema: Rc<SchemaInUse>,
    ) -> Result<Target<'f>, Error> {
        let target = Target { loader, kustomization, schema, trail: None };
        target.adopt_schema()?;
        Ok(target)
    }

    fn adopt_schema(&self) -> Result<(), Error> {
        let open_api = &self.kustomization.open_api;
        let fault = |field: &str, problem: String| Err(self.kustomization.fault(field, problem));
        match (open_api.get("path"), open_api.get("version")) {
            (Some(_), Some(_)) if self.schema.own.get().is_none() => {
                fault("openapi", "a version and a schema of its own exclude each other".to_owned())
            }
            (Some(path), _) => {
                let (file, bytes) = self.load("openapi.path", path)?;
                let trees = yaml::trees(&file, &bytes, yaml::Dialect::Kubernetes)?;
                if let Some(tree) = trees.first() {
                    self.schema.adopt(Schema::from_open_api(&tree.root));
                }
                Ok(())
            }
            (None, Some(version)) if version != BUILT_IN_VERSION => {
                fault("openapi.version", format!("{version:?} is not built in; the only one is {BUILT_IN_VERSION}"))
            }
            _ => Ok(()),
        }
    }

    /// Everything this kustomization stands for, added to what its parent has (for a component).
    pub(crate) fn gather(&mut self, mut gathered: Gathered) -> Result<Gathered, Error> {
        let entries = self.kustomization.resources.clone();
        self.add_resources(&mut gathered, &entries)?;
        self.configure(&mut gathered)?;
        self.generate(&mut gathered)?;
        for entry in self.kustomization.components.clone() {
            gathered = self.add_component(gathered, &entry)?;
        }
        let steps = steps::of_kustomization(self, gathered.config.tables())?;
        self.run(&mut gathered, steps)?;
        let steps = self.plugins(&self.kustomization.transformers, "transformers")?;
        self.run(&mut gathered, steps)?;
        self.validate(&mut gathered)?;
        for var in &self.kustomization.vars {
            bind_var(&mut gathered.resources, var)
                .and_then(|()| gathered.add_var(var))
                .map_err(|problem| self.kustomization.fault(&var.field, problem))?;
        }
        Ok(gathered)
    }

    /// The content of a file that a field names.
    pub(crate) fn load(&self, field: &str, path: &str) -> Result<(String, Arc<[u8]>), Error> {
        self.loader.load(path).map_err(|error| self.load_error(field, path, error))
    }

    fn load_error(&self, field: &str, path: &str, error: LoadError) -> Error {
        error.at(self.kustomization.place(field), path)
    }

    /// Files are read, folders are built. What is neither is an error that says so.
    pub(crate) fn add_resources(&self, gathered: &mut Gathered, entries: &[Entry]) -> Result<(), Error> {
        for entry in entries {
            match self.loader.load(&entry.text) {
                Ok((file, bytes)) => {
                    let mut found = resources::parse(&file, &bytes)?;
                    let origin = self.origin(&entry.text);
                    found.iter_mut().for_each(|resource| resource.memory.origin.clone_from(&origin));
                    insert_all(&mut gathered.resources, found)?;
                }
                Err(error) => self.add_base(gathered, entry, error)?,
            }
            if gathered.resources.len() > MOST_OBJECTS {
                return Err(self.kustomization.fault(&entry.field, format!("more than {MOST_OBJECTS} objects")));
            }
        }
        Ok(())
    }

    fn add_base(&self, gathered: &mut Gathered, entry: &Entry, not_a_file: LoadError) -> Result<(), Error> {
        let is_file =
            self.loader.is_file(&entry.text).map_err(|error| self.load_error(&entry.field, &entry.text, error))?;
        if is_file || matches!(not_a_file, LoadError::Refusal(_)) {
            return Err(self.load_error(&entry.field, &entry.text, not_a_file));
        }
        let loader = self.loader.enter(&entry.text).map_err(|error| {
            let error = match error {
                LoadError::Problem(PathProblem::MissingFolder) => LoadError::Problem(PathProblem::Missing),
                other => other,
            };
            self.load_error(&entry.field, &entry.text, error)
        })?;
        let mut base = self.below(loader, &entry.text)?;
        if base.kustomization.is_component {
            let problem = "this folder is a Component; name it under components";
            return Err(self.kustomization.fault(&entry.field, problem));
        }
        let base = base.gather(Gathered::empty())?;
        insert_all(&mut gathered.resources, base.resources)?;
        gathered.config.merge(&base.config).map_err(|problem| self.kustomization.fault(&entry.field, problem))?;
        for var in base.vars.values() {
            gathered.add_var(var).map_err(|problem| self.kustomization.fault(&entry.field, problem))?;
        }
        Ok(())
    }

    fn add_component(&self, gathered: Gathered, entry: &Entry) -> Result<Gathered, Error> {
        let loader =
            self.loader.enter(&entry.text).map_err(|error| self.load_error(&entry.field, &entry.text, error))?;
        let mut component = self.below(loader, &entry.text)?;
        if !component.kustomization.is_component {
            let problem = "this folder is a Kustomization; name it under resources, or make it kind: Component";
            return Err(self.kustomization.fault(&entry.field, problem));
        }
        let mut gathered = component.gather(gathered)?;
        let all = std::mem::take(&mut gathered.resources);
        insert_all(&mut gathered.resources, all)?;
        Ok(gathered)
    }

    fn below(&self, loader: Loader<'f>, path: &str) -> Result<Target<'f>, Error> {
        let mut target = Target::open(loader, Rc::clone(&self.schema))?;
        target.kustomization.build_metadata.clone_from(&self.kustomization.build_metadata);
        target.trail = self.trail.as_ref().map(|trail| trail_to(trail, path));
        Ok(target)
    }

    /// The origin of a file that a field names; none unless origins are tracked.
    pub(crate) fn origin(&self, path: &str) -> Option<Origin> {
        let trail = self.trail.as_ref()?;
        Some(Origin { path: trail_to(trail, path), ..Origin::default() })
    }

    /// The origin of what a built-in generator or transformer does.
    fn built_in_origin(&self, name: &str) -> Option<Origin> {
        let trail = self.trail.as_ref()?;
        Some(Origin::built_in(&trail_to(trail, &self.kustomization.name), name))
    }

    fn configure(&self, gathered: &mut Gathered) -> Result<(), Error> {
        let mut config = Config::built_in();
        if !self.kustomization.configurations.is_empty() {
            let mut tables = Tables::default();
            for entry in &self.kustomization.configurations {
                let (file, bytes) = self.load(&entry.field, &entry.text)?;
                crate::configuration::read(&file, &bytes, &mut tables)?;
            }
            config.add(&tables).map_err(|problem| self.kustomization.fault("configurations", problem))?;
        }
        let fault = |field: &str, problem: String| self.kustomization.fault(field, problem);
        gathered.config.merge(&config).map_err(|problem| fault("configurations", problem))?;
        for entry in &self.kustomization.crds {
            let (file, bytes) = self.load(&entry.field, &entry.text)?;
            let tables = crate::crds::read(&file, &bytes)?;
            gathered.config.add(&tables).map_err(|problem| fault(&entry.field, problem))?;
        }
        Ok(())
    }

    fn generate(&self, gathered: &mut Gathered) -> Result<(), Error> {
        let own = &self.kustomization;
        let all = own.generator_options.as_ref();
        for (kind, entries) in [(Kind::ConfigMap, &own.config_maps), (Kind::Secret, &own.secrets)] {
            for sources in entries {
                let made = generate::generate(kind, sources, all, &self.loader, &own.file);
                let mut resource = made.map_err(|fault| self.generate_error(&sources.field, fault))?;
                resource.memory.origin = self.built_in_origin(kind.generator());
                generate::absorb(&mut gathered.resources, resource)
                    .map_err(|problem| own.fault(&sources.field, problem))?;
            }
        }
        for resource in steps::generators(self)? {
            generate::absorb(&mut gathered.resources, resource).map_err(|problem| own.fault("generators", problem))?;
        }
        Ok(())
    }

    fn generate_error(&self, entry: &str, fault: generate::Fault) -> Error {
        match fault {
            generate::Fault::Load { field, at, path, error } => {
                self.load_error(&format!("{entry}.{field}[{at}]"), &path, error)
            }
            generate::Fault::Other(problem) => self.kustomization.fault(entry, problem),
        }
    }

    fn plugins(&self, entries: &[Entry], field: &str) -> Result<Vec<steps::Planned>, Error> {
        steps::of_plugins(self, entries, field)
    }

    fn step_fault(&self, field: &str, place: Option<&Place>, problem: String) -> Error {
        match place {
            Some(place) => Error::Step { place: place.clone(), problem },
            None => self.kustomization.fault(field, problem),
        }
    }

    fn run(&self, gathered: &mut Gathered, steps: Vec<steps::Planned>) -> Result<(), Error> {
        for planned in steps {
            planned
                .step
                .action
                .apply(&mut gathered.resources, self.schema.get())
                .map_err(|problem| self.step_fault(&planned.step.field, planned.step.place.as_ref(), problem))?;
            if self.trail.is_some() && !planned.half {
                let origin = planned.origin.or_else(|| self.built_in_origin(planned.step.action.transformer()));
                for resource in &mut gathered.resources {
                    // kustomize writes the annotations anew to note the change: nothing else shares their values then.
                    if let Some(annotations) = resource.node.at_mut(&["metadata", "annotations"]) {
                        annotations.unshare();
                    }
                    match (&mut resource.memory.origin, &origin) {
                        (Some(_), Some(origin)) => resource.memory.transformations.push(origin.clone()),
                        (none, origin) => none.clone_from(origin),
                    }
                }
            }
            gathered.resources.retain(|resource| !resource.is_empty());
        }
        Ok(())
    }

    /// Validators are transformers that must not change anything.
    fn validate(&self, gathered: &mut Gathered) -> Result<(), Error> {
        for planned in self.plugins(&self.kustomization.validators, "validators")? {
            let (field, place) = (planned.step.field, planned.step.place);
            let before: Vec<(Id, yaml::Node)> =
                gathered.resources.iter().map(|resource| (resource.id(), resource.node.clone())).collect();
            let action = planned.step.action;
            action
                .apply(&mut gathered.resources, self.schema.get())
                .map_err(|problem| self.step_fault(&field, place.as_ref(), problem))?;
            let same = before.len() == gathered.resources.len()
                && before.iter().zip(&gathered.resources).all(|((_, node), resource)| *node == resource.node);
            if !same {
                let problem = "a validator must not change objects, and this one does".to_owned();
                return Err(self.step_fault(&field, place.as_ref(), problem));
            }
        }
        Ok(())
    }
}

/// Twice what a cluster of the size wickie is made for holds. Bases that are named twice under different prefixes double
/// the objects with every layer.
const MOST_OBJECTS: usize = 20_000;

/// The Kubernetes release whose schema is built in, as in kustomize 5.8.
const BUILT_IN_VERSION: &str = "v1.21.2";

/// Joins and cleans, keeping `..` at the front.
fn trail_to(trail: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in trail.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Marks the one object that a variable reads from. Without a namespace, any will do.
fn bind_var(resources: &mut [Resource], var: &Var) -> Result<(), String> {
    let wanted = &var.object;
    let mut found: Vec<usize> = Vec::new();
    for (at, resource) in resources.iter().enumerate() {
        let fits = |id: &Id| {
            let named = id.gvk == wanted.gvk && id.name == wanted.name;
            named && (wanted.namespace.is_empty() || wanted.effective_namespace() == id.effective_namespace())
        };
        if !resource.is_empty() && resource.all_ids().any(|id| fits(&id)) {
            found.push(at);
        }
    }
    match found.as_slice() {
        [] => Ok(()),
        [at] => {
            resources[*at].memory.vars.push(var.name.clone());
            Ok(())
        }
        _ => Err(format!("variable {}: {} objects are {}; give objref a namespace", var.name, found.len(), var.object)),
    }
}
