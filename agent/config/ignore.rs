//! Fields of the objects that others may change: `spec.ignore`.

use std::sync::Arc;

use serde_json::Value;
use wickie_kustomize::{FluxSelector, FluxTarget};
use wickie_plan::ignore::Pointer;

use super::{Invalid, flux};

/// Fields that others may change, of the objects that a target takes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoreRule {
    paths: Vec<Pointer>,
    /// Nothing: every object.
    target: Option<FluxSelector>,
}

/// The rules of a Kustomization, ready to be held against objects.
pub struct Ignoring(Vec<(Option<FluxTarget>, Vec<Pointer>)>);

impl Ignoring {
    pub(super) fn new(rules: &[IgnoreRule]) -> Self {
        // What cannot be understood was refused when it was read.
        let ready = |rule: &IgnoreRule| {
            let target = rule.target.as_ref().map(FluxTarget::new).transpose().ok()?;
            Some((target, rule.paths.clone()))
        };
        Self(rules.iter().filter_map(ready).collect())
    }

    /// Which fields of an object, as it was built, are not held against what is in the cluster.
    pub fn of(&self, object: &Value) -> Arc<[Pointer]> {
        let fits = |target: &Option<FluxTarget>| target.as_ref().is_none_or(|target| target.selects(object));
        let mut paths: Vec<Pointer> = Vec::new();
        for path in self.0.iter().filter(|(target, _)| fits(target)).flat_map(|(_, paths)| paths) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths.into()
    }
}

pub(super) fn rules(from: Vec<flux::IgnoreRule>) -> Result<Vec<IgnoreRule>, Invalid> {
    let read = |(number, from): (usize, flux::IgnoreRule)| {
        let field = |name: &str| format!("spec.ignore[{number}].{name}");
        let paths =
            from.paths.iter().map(|path| path.parse().map_err(|why: String| Invalid::field(field("paths"), why)));
        let paths = paths.collect::<Result<_, _>>()?;
        let target = from.target.map(FluxSelector::from);
        if let Some(target) = &target {
            FluxTarget::new(target).map_err(|why| Invalid::field(field("target"), why))?;
        }
        Ok(IgnoreRule { paths, target })
    };
    from.into_iter().enumerate().map(read).collect()
}

impl From<flux::Selector> for FluxSelector {
    fn from(target: flux::Selector) -> Self {
        Self {
            group: target.group,
            version: target.version,
            kind: target.kind,
            name: target.name,
            namespace: target.namespace,
            label_selector: target.label_selector,
            annotation_selector: target.annotation_selector,
        }
    }
}
