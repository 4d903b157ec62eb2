//! `wickie build`: `kustomize build` in Rust, for the folder on disk.
//!
//! The tree is the whole disk, as it is to kustomize: bases may stand anywhere, files only below the kustomization that
//! names them, unless the restriction is lifted. Nothing is fetched, and no program is run.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use wickie_kustomize::{Error, FluxOverlay, LoadRestrictor, Object, Options, build_flux, file_names, to_yaml};

use super::{CliError, Exit, Format, Out, Settings};
use crate::render::Folder;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the kustomization
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Which files a kustomization may name: those in and below its folder, or any
    #[arg(long, value_enum, value_name = "WHICH", default_value = "LoadRestrictionsRootOnly", conflicts_with = "flux")]
    load_restrictor: LoadRestrictions,
    /// Build as Flux and the agent do: a folder without a kustomization is taken whole, a kustomization may name any
    /// file, and objects keep the order of the files
    #[arg(long)]
    flux: bool,
}

/// As kustomize calls them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LoadRestrictions {
    #[value(name = "LoadRestrictionsRootOnly")]
    RootOnly,
    #[value(name = "LoadRestrictionsNone")]
    None,
}

/// Why nothing was built, or not written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no such folder.
    #[error("{} cannot be built", .folder.display())]
    Folder {
        /// The folder as it was named.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// DIR is a URL.
    #[error("{0} is remote, and a build fetches nothing: clone the repository, and name the folder in it")]
    Remote(String),
    /// The folder holds no kustomization.
    #[error("{0}; with --flux, all manifests in and below it are taken, as Flux and the agent take them")]
    NoKustomization(Error),
    /// The build did not come to an end.
    #[error("{0}")]
    Kustomize(Error),
    /// The result could not be written.
    #[error("{} cannot be written", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Two objects would take one file.
    #[error(
        "two objects would be written to {0}: they differ in upper and lower case alone; write to one file instead"
    )]
    OneFile(String),
    /// An object's name is no file name.
    #[error("{0:?} cannot be the name of a file: write to one file instead")]
    NoFile(String),
}

pub(super) fn execute(args: &Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let objects = build(args)?;
    match (&settings.file, settings.format) {
        (Some(path), _) if path.is_dir() => write_each(path, &objects)?,
        (Some(path), _) => write(path, &to_yaml(&objects))?,
        (None, Format::Table | Format::Yaml) => out.text(&to_yaml(&objects))?,
        (None, Format::Json) => {
            let items: Vec<_> = objects.into_iter().map(|object| object.value).collect();
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
            out.answer(Format::Json, &list, |_, _| String::new())?;
        }
    }
    Ok(Exit::Done)
}

fn build(args: &Args) -> Result<Vec<Object>, BuildError> {
    let named = args.dir.to_string_lossy();
    if wickie_kustomize::is_remote(&named) && !args.dir.exists() {
        return Err(BuildError::Remote(named.into_owned()));
    }
    let fault = |cause| BuildError::Folder { folder: args.dir.clone(), cause };
    let folder = args.dir.canonicalize().map_err(fault)?;
    if !folder.is_dir() {
        return Err(fault(io::ErrorKind::NotADirectory.into()));
    }
    let tree = Folder::at(Path::new("/")).map_err(fault)?;
    let root = folder.strip_prefix(tree.top()).unwrap_or(&folder);
    let root = root.to_str().ok_or_else(|| fault(io::Error::other("its name is not UTF-8")))?;
    let built = match args.flux {
        true => build_flux(&tree, root, &FluxOverlay::default()),
        false => {
            let restrictor = match args.load_restrictor {
                LoadRestrictions::RootOnly => LoadRestrictor::RootOnly,
                LoadRestrictions::None => LoadRestrictor::None,
            };
            wickie_kustomize::build(&tree, root, &Options { restrictor, ..Options::kustomize() })
        }
    };
    built.map_err(|error| match error {
        Error::NoKustomization { .. } => BuildError::NoKustomization(error),
        error => BuildError::Kustomize(error),
    })
}

/// Each object in a file of its own, named as kustomize names it.
fn write_each(folder: &Path, objects: &[Object]) -> Result<(), BuildError> {
    let names = file_names(objects);
    let mut taken = HashMap::new();
    for name in &names {
        if name.contains(['/', '\0']) {
            return Err(BuildError::NoFile(name.clone()));
        }
        if taken.insert(name, ()).is_some() {
            return Err(BuildError::OneFile(name.clone()));
        }
    }
    names
        .iter()
        .zip(objects)
        .try_for_each(|(name, object)| write(&folder.join(name), &to_yaml(std::slice::from_ref(object))))
}

fn write(file: &Path, text: &str) -> Result<(), BuildError> {
    fs::write(file, text).map_err(|cause| BuildError::Write { file: file.to_owned(), cause })
}
