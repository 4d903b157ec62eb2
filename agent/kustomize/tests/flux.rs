//! Every folder of `tests/flux` comes out as Flux's kustomize-controller would hand it to the API server.
//!
//! `spec.json` is the spec of a Flux Kustomization, `expected.yaml` what fluxcd/pkg/kustomize v1.35.7 made of it. The
//! files are laid out and the records kept as in `tests/cases`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use serde_json::Value;
use std::fs;
use support::{Case, Judge, difference, folders};
use wickie_kustomize::{
    Ahead, Files, FluxImage, FluxOverlay, FluxPatch, FluxSelector, Partial, Substitution, Tree, build_flux, reach_flux,
    to_yaml,
};

#[test]
fn the_same_bytes_as_flux() {
    let record = std::env::var_os("WICKIE_RECORD").is_some();
    let only = std::env::var("WICKIE_CASE").unwrap_or_default();
    let mut judge = Judge::start();
    let (mut equal, mut failures) = (0, Vec::new());
    for folder in folders("flux") {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.contains(&only) {
            continue;
        }
        let case = Case::read(&folder);
        let spec: Value = serde_json::from_str(&fs::read_to_string(folder.join("spec.json")).unwrap()).unwrap();
        let real = judge.as_mut().map(|judge| judge.build_flux(&case, &spec));
        let golden = folder.join("expected.yaml");
        if let (true, Some(real)) = (record, &real) {
            let _ = fs::remove_file(&golden);
            let _ = fs::remove_file(folder.join("expected-error"));
            match real {
                Ok(yaml) => fs::write(&golden, yaml).unwrap(),
                Err(_) => fs::write(folder.join("expected-error"), "").unwrap(),
            }
        }
        let wanted = fs::read_to_string(&golden).ok();
        assert!(wanted.is_some() || folder.join("expected-error").exists(), "{name}: nothing is recorded");
        if let Some(real) = &real
            && real.as_ref().ok() != wanted.as_ref()
        {
            failures.push(format!("{name}: Flux no longer gives what is recorded: {real:?}"));
            continue;
        }
        let whole = wickie(&case, &spec);
        let piecemeal = piecemeal(&case, &spec);
        if piecemeal != whole {
            failures.push(format!("{name}: from a tree known in part: {piecemeal:?}, and from the whole: {whole:?}"));
            continue;
        }
        match (wanted, whole) {
            (Some(wanted), Ok(got)) if wanted == got => equal += 1,
            (None, Err(_)) => equal += 1,
            (Some(wanted), Ok(got)) => failures.push(format!("{name}: {}", difference(&wanted, &got))),
            (Some(_), Err(error)) => failures.push(format!("{name}: Flux builds it, wickie says: {error}")),
            (None, Ok(got)) => {
                failures.push(format!("{name}: Flux says {:?}, wickie builds:\n{got}", real.and_then(Result::err)));
            }
        }
    }
    eprintln!("{equal} equal, {} different", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(equal > 0 || !only.is_empty());
}

fn wickie(case: &Case, spec: &Value) -> Result<String, String> {
    let files: Files = case.files.iter().map(|(path, content)| (path.clone(), content.clone())).collect();
    built(&files, case, spec)
}

/// The same from a tree of which nothing is known at first but the names in the folder that is built.
fn piecemeal(case: &Case, spec: &Value) -> Result<String, String> {
    let mut tree = Partial::new();
    add_folder(&mut tree, case, &case.root);
    for _ in 0..20 {
        for _ in 0..20 {
            reach_flux(&tree, &case.root, &overlay(spec), Ahead::Content);
            if !bring(&mut tree, case) {
                break;
            }
        }
        let built = built(&tree, case, spec);
        if !bring(&mut tree, case) {
            return built;
        }
    }
    panic!("the build wants ever more");
}

/// Brings what is wanted; false where nothing is.
fn bring(tree: &mut Partial, case: &Case) -> bool {
    let wanted = tree.take_wanted();
    for path in &wanted {
        match case.files.get(path) {
            Some(content) => tree.insert(path.as_str(), content.as_slice()),
            None => add_folder(tree, case, path),
        }
    }
    !wanted.is_empty()
}

fn add_folder(tree: &mut Partial, case: &Case, folder: &str) {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    case.files.keys().filter(|path| path.starts_with(&prefix)).for_each(|path| tree.list(path.as_str()));
    tree.know(folder);
}

fn built(tree: &dyn Tree, case: &Case, spec: &Value) -> Result<String, String> {
    let mut objects = build_flux(tree, &case.root, &overlay(spec)).map_err(|error| error.to_string())?;
    if let Some(vars) = spec["postBuild"]["substitute"].as_object() {
        let mut substitution = Substitution::new();
        for (name, value) in vars {
            substitution.insert(name, value.as_str().unwrap()).map_err(|error| error.to_string())?;
        }
        for object in &mut objects {
            substitution.object(object).map_err(|error| error.to_string())?;
        }
    }
    Ok(to_yaml(&objects))
}

fn overlay(spec: &Value) -> FluxOverlay {
    let own = |value: &Value| value.as_str().map(str::to_owned);
    let text = |value: &Value| own(value).unwrap_or_default();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    FluxOverlay {
        target_namespace: own(&spec["targetNamespace"]),
        name_prefix: own(&spec["namePrefix"]),
        name_suffix: own(&spec["nameSuffix"]),
        patches: list(&spec["patches"])
            .iter()
            .map(|patch| FluxPatch {
                patch: text(&patch["patch"]),
                target: patch["target"].is_object().then(|| FluxSelector {
                    group: text(&patch["target"]["group"]),
                    version: text(&patch["target"]["version"]),
                    kind: text(&patch["target"]["kind"]),
                    name: text(&patch["target"]["name"]),
                    namespace: text(&patch["target"]["namespace"]),
                    label_selector: text(&patch["target"]["labelSelector"]),
                    annotation_selector: text(&patch["target"]["annotationSelector"]),
                }),
            })
            .collect(),
        images: list(&spec["images"])
            .iter()
            .map(|image| FluxImage {
                name: text(&image["name"]),
                new_name: text(&image["newName"]),
                new_tag: text(&image["newTag"]),
                digest: text(&image["digest"]),
            })
            .collect(),
        components: list(&spec["components"]).iter().map(text).collect(),
        ignore_missing_components: spec["ignoreMissingComponents"] == true,
        build_metadata: list(&spec["buildMetadata"]).iter().map(text).collect(),
    }
}
