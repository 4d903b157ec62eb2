//! What a repository on disk would have the agent keep: built as the agent builds it, Kustomizations within Kustomizations.
//!
//! The values that a build takes from ConfigMaps and Secrets of the cluster are not at hand. Which objects there are is
//! known without them, unless a variable stands in a kind, a name or a namespace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use wickie_kustomize::yaml;
use wickie_model::{Manifest, Resource, ResourceKind, ResourceName};

use crate::config::{Declared, Invalid, Kustomization, NodeConfig};
use crate::render::{Built, FolderError, Inputs, build_folder, yaml_files};
use crate::store::Origin;

/// What was found in a repository.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The objects, each with the Kustomization whose service account writes it, where one is named.
    pub objects: Vec<Kept>,
    /// The Kustomizations among them.
    pub kustomizations: Vec<Kustomization>,
    /// Objects of wickie's kinds, as written.
    pub declared: Vec<Declared>,
    /// What the agent would refuse or leave alone, and why; it needs no rights for that.
    pub left_out: Vec<String>,
}

/// One object that would be kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The object.
    pub manifest: Manifest,
    /// Whether the agent writes it by its own rights, and not by those of a service account that it acts for.
    pub by_itself: bool,
}

/// Why it cannot be said what a repository holds.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The folder itself does not build, and no Kustomization stands in it.
    #[error("what stands in {} cannot be built as the agent does", .folder.display())]
    Build {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Box<FolderError>,
    },
    /// A Kustomization that stands in it does not build.
    #[error("{kustomization} cannot be built")]
    Kustomization {
        /// Which one.
        kustomization: Box<Resource>,
        /// Why.
        #[source]
        source: Box<FolderError>,
    },
    /// A Kustomization names a folder that is not there.
    #[error("{kustomization} builds {path:?}, which is not in {}, where paths begin: the nearest folder above that has .git, or what --for names; if it stands in another repository, give --for its checkout too", shown(.tops))]
    Elsewhere {
        /// Which one.
        kustomization: Box<Resource>,
        /// What it names.
        path: String,
        /// Where it was looked for.
        tops: Vec<PathBuf>,
    },
    /// What a folder is read as is no Kustomization.
    #[error(transparent)]
    Spec(#[from] Invalid),
    /// A variable stands where it decides which object it is.
    #[error(
        "{0} has a variable in its kind, name or namespace whose value only the cluster knows; write it out, or give it in postBuild.substitute"
    )]
    Variable(String),
    /// What was built cannot be kept in memory.
    #[error("the manifests that were built cannot be read from memory")]
    Packed(#[from] std::io::Error),
}

fn shown(tops: &[PathBuf]) -> String {
    tops.iter().map(|top| top.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// Reads what the folders hold. `home` is the namespace of Kustomizations that name none.
///
/// A folder is taken as the path of a Kustomization, as the first one that an agent is given names it. Where that does not
/// build, as the top of a repository for many clusters may not, the Kustomizations that stand anywhere in it are taken.
///
/// # Errors
///
/// What does not build, and objects that cannot be told.
pub fn read(folders: &[PathBuf], home: &str) -> Result<Contents, RepositoryError> {
    let mut reading = Reading { home, tops: Vec::new(), seen: BTreeSet::new(), contents: Contents::default() };
    for folder in folders {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let top = real.ancestors().find(|above| above.join(".git").exists()).unwrap_or(&real);
        reading.tops.push(top.to_owned());
    }
    for folder in folders {
        reading.folder(folder)?;
    }
    Ok(reading.contents)
}

struct Reading<'a> {
    home: &'a str,
    /// Where the paths of Kustomizations begin.
    tops: Vec<PathBuf>,
    seen: BTreeSet<ResourceName>,
    contents: Contents,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &Path) -> Result<(), RepositoryError> {
        let written = json!({
            "apiVersion": ResourceKind::Kustomization.api_version(), "kind": "Kustomization",
            "metadata": {"name": "repository"},
            "spec": {"interval": "10m", "prune": true, "path": "./", "sourceRef": {"kind": "GitRepository", "name": "repository"}},
        });
        let declared = Declared::new(ResourceKind::Kustomization, &written, Origin::Cluster, self.home)?;
        let first = Kustomization::new(&declared, &NodeConfig::default())?;
        match build_folder(&first, &Inputs::without_values(&first), folder) {
            Ok(built) if built.complete() => self.take(built, true),
            other => match self.declared_anywhere(folder)? {
                declared if declared.is_empty() => {
                    let failed = |error| RepositoryError::Build { folder: folder.to_owned(), source: Box::new(error) };
                    self.take(other.map_err(failed)?, true)
                }
                declared => declared.iter().try_for_each(|one| self.kustomization(one)),
            },
        }
    }

    /// The Kustomizations that stand anywhere in a folder, as written.
    fn declared_anywhere(&self, folder: &Path) -> Result<Vec<Declared>, RepositoryError> {
        let failed = |error| RepositoryError::Build { folder: folder.to_owned(), source: Box::new(error) };
        let mut found = Vec::new();
        for (file, bytes) in yaml_files(folder).map_err(failed)? {
            let documents = yaml::documents(&file, &bytes).unwrap_or_default();
            let ours = documents.iter().filter(|document| {
                let text = |key: &str| document.value.get(key).and_then(serde_json::Value::as_str);
                text("kind") == Some("Kustomization")
                    && text("apiVersion") == Some(ResourceKind::Kustomization.api_version().as_str())
            });
            let declared = ours.filter_map(|it| {
                Declared::new(ResourceKind::Kustomization, &it.value, Origin::Cluster, self.home).ok()
            });
            found.extend(declared);
        }
        Ok(found)
    }

    fn take(&mut self, built: Built, by_itself: bool) -> Result<(), RepositoryError> {
        let left = &mut self.contents.left_out;
        left.extend(built.broken.iter().map(|broken| broken.to_string()));
        left.extend(built.held_back.iter().map(|id| format!("{id} is Flux's own, and left to Flux")));
        for (id, manifest) in built.manifests.all()? {
            if [&id.kind, &id.name, &id.namespace].into_iter().any(|text| text.contains("${")) {
                return Err(RepositoryError::Variable(id.to_string()));
            }
            let ours =
                ResourceKind::ALL.into_iter().find(|kind| (kind.group(), kind.as_str()) == (&id.group, &id.kind));
            let declared = ours.map(|kind| Declared::new(kind, manifest.body(), Origin::Cluster, self.home));
            self.contents.objects.push(Kept { manifest, by_itself });
            match declared {
                Some(Ok(declared)) if declared.resource.kind == ResourceKind::Kustomization => {
                    self.kustomization(&declared)?;
                }
                Some(Ok(declared)) => self.contents.declared.push(declared),
                Some(Err(error)) => self.contents.left_out.push(format!("{id}: {error}")),
                None => {}
            }
        }
        Ok(())
    }

    fn kustomization(&mut self, declared: &Declared) -> Result<(), RepositoryError> {
        if !self.seen.insert(declared.resource.name.clone()) {
            return Ok(());
        }
        let spec = match Kustomization::new(declared, &NodeConfig::default()) {
            Ok(spec) => spec,
            Err(error) => {
                self.contents.left_out.push(format!("{}: {error}", declared.resource));
                return Ok(());
            }
        };
        let Some(folder) = self.tops.iter().map(|top| top.join(&spec.path)).find(|folder| folder.is_dir()) else {
            let kustomization = Box::new(declared.resource.clone());
            return Err(RepositoryError::Elsewhere { kustomization, path: spec.path, tops: self.tops.clone() });
        };
        let built = build_folder(&spec, &Inputs::without_values(&spec), &folder);
        let built = built.map_err(|error| {
            let kustomization = Box::new(declared.resource.clone());
            RepositoryError::Kustomization { kustomization, source: Box::new(error) }
        })?;
        let by_itself = spec.service_account.is_none();
        self.contents.kustomizations.push(spec);
        self.take(built, by_itself)
    }
}
