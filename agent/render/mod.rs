//! From the files of a verified snapshot to the objects that shall be in the cluster.
//!
//! ```text
//!          ┌─► plain: every YAML file below the path ─┐
//! files ───┤                                          ├─► finished: owner labels, common metadata ─► manifests
//!          └─► kustomize build, substitution ─────────┘
//! ```
//!
//! Plain manifests are read one by one. One that cannot be read does not stop the others: what it would have held is
//! unknown, so nothing is pruned while it stands ([`Built::complete`]). A kustomize build is one whole: it fails or not.

mod decrypt;
mod desired;
mod finish;
mod folder;
mod inputs;
mod packed;
mod scope;
mod seal;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use serde_json::Value;
use wickie_kustomize::{FluxOverlay, Object, Tree, yaml};
use wickie_model::{Manifest, ObjectId, ObjectMap};
use wickie_plan::Desired;

use crate::config::{Ignoring, Kustomization};

use decrypt::Decrypting;
pub use finish::{OWNER_NAME, OWNER_NAMESPACE, is_flux_component};
pub use folder::{Folder, FolderError, build_folder, yaml_files};
pub use inputs::{Found, InputError, Inputs, Values};
pub use packed::Packed;
use packed::Packer;
pub(crate) use scope::is_cluster_wide;
pub use seal::Seal;

/// Files of a snapshot below a Kustomization's path, by their path in the repository.
pub type Files = BTreeMap<String, Bytes>;

/// What a Kustomization is to put into the cluster.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The objects: what plans need to know of each.
    pub desired: ObjectMap<Desired>,
    /// The objects themselves.
    pub manifests: Packed,
    /// What could not be read or must not be applied; the rest stands.
    pub broken: Vec<Broken>,
    /// Objects that are Flux's own: recognised, and left to Flux.
    pub held_back: Vec<ObjectId>,
    /// Objects that hold a value of a Secret which does not stand in Git in clear: never shown, and their digests sealed.
    pub secret: BTreeSet<ObjectId>,
}

/// A file or document that yields no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct Broken {
    /// The file, and the line of the document in it where one is to blame.
    pub file: String,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Nothing can be built.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// There is no such folder in the snapshot.
    #[error("the path {0:?} is not in the snapshot; check spec.path, or whether the folder was moved")]
    NoPath(String),
    /// The way to the folder does not end in one.
    #[error("the path {path:?} cannot be used: {why}")]
    Link {
        /// The path.
        path: String,
        /// What the link on it does.
        why: String,
    },
    /// The kustomize build fails.
    #[error("kustomize build failed: {0}")]
    Kustomize(wickie_kustomize::Error),
    /// The kustomize build fails over what was decrypted for it.
    #[error(
        "kustomize build failed: {place}; why is not shown, because it may repeat what was decrypted: build it by hand to see it"
    )]
    Hidden {
        /// Where.
        place: String,
    },
    /// An object cannot be decrypted.
    #[error("decryption failed for {object}: {why}")]
    Decrypt {
        /// The object.
        object: String,
        /// What is wrong.
        why: wickie_sops::Error,
    },
    /// A variable cannot be put in.
    #[error("substitution in {object} failed: {why}")]
    Substitute {
        /// The object.
        object: String,
        /// What is wrong.
        why: wickie_kustomize::SubstituteError,
    },
    /// What was built cannot be kept in memory.
    #[error("a manifest that was built cannot be packed")]
    Pack(#[from] io::Error),
}

impl Built {
    /// Whether the manifests are all there are: only then has a missing object left Git.
    pub fn complete(&self) -> bool {
        self.broken.is_empty()
    }
}

/// The names that make a folder a kustomization. Source: kustomize, `konfig.RecognizedKustomizationFileNames`.
const KUSTOMIZATION_FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Whether the files below the path take a kustomize build. It may look at files anywhere in the snapshot.
pub fn takes_kustomize<'a>(kustomization: &Kustomization, mut files: impl Iterator<Item = &'a str>) -> bool {
    kustomization.overlay != FluxOverlay::default()
        || kustomization.substitution.is_some()
        || files.any(|file| KUSTOMIZATION_FILES.contains(&file_name(file)))
}

/// Builds the objects of a Kustomization by kustomize, from the folder `root` of a snapshot; it may reach for files
/// anywhere in that.
pub fn build_kustomize(
    kustomization: &Kustomization,
    inputs: &Inputs,
    tree: &dyn Tree,
    root: &str,
) -> Result<Built, RenderError> {
    let overlay = &kustomization.overlay;
    let mut building = Building::new(kustomization, inputs);
    let Some(keys) = &inputs.keys else {
        let objects = wickie_kustomize::build_flux(tree, root, overlay).map_err(RenderError::Kustomize)?;
        objects.into_iter().try_for_each(|object| building.add_object(object, false))?;
        return Ok(building.finish());
    };
    let tree = Decrypting::new(tree, keys, root, overlay).map_err(RenderError::Kustomize)?;
    let objects = wickie_kustomize::build_flux(&tree, root, overlay).map_err(|error| tree.hide(error))?;
    for mut object in objects {
        let decrypted = tree.object(&mut object.value, &object.source.file).map_err(|why| {
            let text = |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let object = format!("{} {} ({})", text("/kind"), text("/metadata/name"), object.source);
            RenderError::Decrypt { object, why }
        })?;
        building.add_object(object, decrypted)?;
    }
    Ok(building.finish())
}

/// Puts the variables in. Whether the object now may hold a Secret's value.
fn substitute(inputs: &Inputs, object: &mut Object, decrypted: bool) -> Result<bool, RenderError> {
    let Some(substitution) = &inputs.substitution else { return Ok(false) };
    match substitution.object(object) {
        Ok(expanded) => Ok(expanded && inputs.secret_variables),
        Err(why) => {
            let why = match (decrypted, inputs.secret_variables) {
                (true, _) => why.without_text(),
                (false, true) => why.without_values(),
                (false, false) => why,
            };
            Err(RenderError::Substitute { object: object.source.to_string(), why })
        }
    }
}

/// Builds the objects of a Kustomization from the plain manifests below its path.
pub fn build_plain(kustomization: &Kustomization, inputs: &Inputs, files: &Files) -> Result<Built, RenderError> {
    let mut plain = Plain::new(kustomization, inputs);
    files.iter().try_for_each(|(file, bytes)| plain.file(file, bytes))?;
    plain.finish()
}

/// A build of plain manifests, file by file: no more than one of them has to be held.
pub struct Plain<'k> {
    building: Building<'k>,
    empty: bool,
}

impl<'k> Plain<'k> {
    /// A build without a file.
    pub fn new(kustomization: &'k Kustomization, inputs: &'k Inputs) -> Self {
        Self { building: Building::new(kustomization, inputs), empty: true }
    }

    /// Takes a file in. One that is no YAML by its name only counts.
    ///
    /// # Errors
    /// When what it holds cannot be kept; what it holds that is wrong is noted, and told with the rest.
    pub fn file(&mut self, file: &str, bytes: &[u8]) -> Result<(), RenderError> {
        self.empty = false;
        if !is_yaml(file) {
            return Ok(());
        }
        let Self { building, .. } = self;
        let inputs = building.inputs;
        let documents = match yaml::documents(file, bytes) {
            Ok(documents) => documents,
            Err(error) => {
                let place = format!("{}:{}:{}", error.file, error.line, error.column);
                building.broken(place, error.fault.to_string());
                return Ok(());
            }
        };
        if let Some(why) = damage(inputs, file, bytes, &documents) {
            building.broken(file.to_owned(), why);
            return Ok(());
        }
        for mut document in documents {
            let origin = format!("{file}, line {}", document.line);
            let decrypted = match &inputs.keys {
                Some(keys) if !decrypt::is_left(&document.value) => decrypt::decrypt(&mut document.value, keys),
                _ => Ok(false),
            };
            match decrypted {
                Ok(decrypted) => building.add(document.value, decrypted, &origin)?,
                Err(why) => building.broken(origin, format!("decryption failed: {why}")),
            }
        }
        Ok(())
    }

    /// What was built.
    ///
    /// # Errors
    /// Where there was no file.
    pub fn finish(self) -> Result<Built, RenderError> {
        match self.empty {
            true => Err(RenderError::NoPath(self.building.kustomization.path.clone())),
            false => Ok(self.building.finish()),
        }
    }
}

/// Why the encrypted documents of a file cannot be decrypted, if there are any and they cannot.
fn damage(inputs: &Inputs, file: &str, bytes: &[u8], documents: &[yaml::Document]) -> Option<String> {
    let keys = inputs.keys.as_ref()?;
    let encrypted = |document: &yaml::Document| {
        wickie_sops::is_encrypted_object(&document.value) && !decrypt::is_left(&document.value)
    };
    let checked = documents.iter().any(encrypted).then(|| decrypt::check(bytes, file, keys))?;
    checked.err().map(|why| format!("decryption failed: {why}"))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml")
}

/// A build that is under way.
struct Building<'k> {
    kustomization: &'k Kustomization,
    inputs: &'k Inputs,
    ignoring: Ignoring,
    built: Built,
    /// Each object once, in the order of the files.
    desired: Vec<(ObjectId, Desired)>,
    packer: Packer,
    /// Where each object stands.
    origins: BTreeMap<ObjectId, String>,
}

impl<'k> Building<'k> {
    fn new(kustomization: &'k Kustomization, inputs: &'k Inputs) -> Self {
        let (ignoring, packer) = (kustomization.ignoring(), Packer::default());
        let (built, desired, origins) = (Built::default(), Vec::new(), BTreeMap::new());
        Self { kustomization, inputs, ignoring, built, desired, packer, origins }
    }

    fn finish(self) -> Built {
        Built { manifests: self.packer.finish(), desired: self.desired.into_iter().collect(), ..self.built }
    }

    fn broken(&mut self, file: String, why: String) {
        self.built.broken.push(Broken { file, why });
    }

    /// Adds an object of a kustomize build, with its variables put in.
    fn add_object(&mut self, mut object: Object, decrypted: bool) -> Result<(), RenderError> {
        let substituted = substitute(self.inputs, &mut object, decrypted)?;
        let origin = object.source.to_string();
        self.add(object.value, decrypted || substituted, &origin)
    }

    /// Adds what one document holds: an object, or a list of them. `secret` tells whether values stand in it that do not
    /// stand in Git in clear.
    fn add(&mut self, document: Value, secret: bool, origin: &str) -> Result<(), RenderError> {
        let mut document = match list_items(document) {
            Ok(items) => return items.into_iter().try_for_each(|item| self.add(item, secret, origin)),
            Err(document) => document,
        };
        let mut broken = |why: String| {
            self.built.broken.push(Broken { file: origin.to_owned(), why });
            Ok(())
        };
        if let Some(why) = finish::refusal(&document, self.inputs.unread) {
            return broken(why.to_owned());
        }
        finish::finish(&mut document, self.kustomization);
        let manifest = match Manifest::new(document) {
            Ok(manifest) => manifest,
            Err(error) => return broken(error.to_string()),
        };
        let manifest = match self.inputs.seal.as_ref().filter(|_| secret) {
            Some(seal) => {
                let digest = seal.digest(manifest.digest());
                self.built.secret.insert(manifest.id().clone());
                manifest.with_secrets(digest)
            }
            None => manifest,
        };
        if is_flux_component(|key| manifest.label(key)) {
            self.built.held_back.push(manifest.id().clone());
            return Ok(());
        }
        if let Some(before) = self.origins.insert(manifest.id().clone(), origin.to_owned()) {
            return broken(format!("{} stands in {before} too; take one of the two out", manifest.id()));
        }
        self.packer.add(&manifest)?;
        self.desired.push((manifest.id().clone(), desired::desired(&manifest, &self.ignoring)));
        Ok(())
    }
}

/// The items of a `List`; anything else comes back as it was.
fn list_items(mut document: Value) -> Result<Vec<Value>, Value> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    let is_list = kind.ends_with("List") && document.get("metadata").and_then(|it| it.get("name")).is_none();
    match document.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => Ok(items),
        Some(other) => {
            document["items"] = other;
            Err(document)
        }
        None => Err(document),
    }
}

#[cfg(test)]
mod tests;
