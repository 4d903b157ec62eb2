//! What a source is used for: by Kustomizations, and by the sources that include it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use wickie_model::{Digest, ResourceName};

use super::{Drive, run};
use crate::config::git::GitSource;
use crate::source::Further;

impl Drive {
    /// A source as it is fetched and loaded now: with the paths it is used for, and the sources beside it that it needs.
    /// Why not, where it includes itself.
    pub(super) fn git_source(&self, name: &ResourceName) -> Option<GitSource> {
        let mut source = self.source_within(name, &mut Vec::new())?;
        // A build that needs more of a commit asks by itself: as much as window and budget leave.
        let spec = self.sources.get(name)?.spec()?;
        source.allow(self.leave_to_fetch(name, spec, Timestamp::now()).unwrap_or(0));
        Some(source)
    }

    /// The same, made once for all builds that one event begins: it names every path that is used, and those of a thousand
    /// Kustomizations that wait for their turn would each hold them all.
    pub(super) fn shared_source(&mut self, name: &ResourceName) -> Option<Rc<GitSource>> {
        if let Some(known) = self.shared_sources.get(name) {
            return Some(known.clone());
        }
        let source = Rc::new(self.git_source(name)?);
        self.shared_sources.insert(name.clone(), source.clone());
        Some(source)
    }

    fn source_within(&self, name: &ResourceName, within: &mut Vec<ResourceName>) -> Option<GitSource> {
        let spec = self.sources.get(name)?.spec()?;
        let mut source = spec.source.clone();
        source.paths = Some(self.paths_used(name).into_iter().collect());
        within.push(name.clone());
        for include in &source.include {
            if !within.contains(&include.name) && !source.others.iter().any(|other| other.name == include.name) {
                source.others.extend(self.source_within(&include.name, within));
            }
        }
        within.pop();
        if source.submodules {
            let beside = self.sources.iter().filter(|(other, _)| other.namespace == name.namespace && *other != name);
            let known: BTreeSet<_> = source.others.iter().map(|other| other.name.clone()).collect();
            let beside = beside.filter(|(other, _)| !known.contains(*other)).filter_map(|(_, state)| state.spec());
            source.others.extend(beside.map(|spec| spec.source.clone()));
        }
        Some(source)
    }

    /// Whether a source includes itself, by however many steps.
    pub(super) fn includes_itself(&self, name: &ResourceName) -> bool {
        let mut ahead: Vec<&ResourceName> = self.included_by(name).collect();
        let mut seen = BTreeSet::new();
        while let Some(next) = ahead.pop() {
            if next == name {
                return true;
            }
            if seen.insert(next) {
                ahead.extend(self.included_by(next));
            }
        }
        false
    }

    /// The sources that a source includes.
    pub(super) fn included_by(&self, name: &ResourceName) -> impl Iterator<Item = &ResourceName> {
        let spec = self.sources.get(name).and_then(|state| state.spec());
        spec.into_iter().flat_map(|spec| &spec.source.include).map(|include| &include.name)
    }

    /// The sources that include a source, by however many steps.
    pub(super) fn includers(&self, name: &ResourceName) -> BTreeSet<ResourceName> {
        let mut found = BTreeSet::new();
        let mut ahead = vec![name.clone()];
        while let Some(next) = ahead.pop() {
            for other in self.sources.keys() {
                if self.included_by(other).any(|included| *included == next) && found.insert(other.clone()) {
                    ahead.push(other.clone());
                }
            }
        }
        found
    }

    /// The paths of a source that are used: those of the Kustomizations that take from it, whether they run now or not,
    /// and those that other sources include. Where it includes others itself, also the way to where they are put.
    fn paths_used(&self, name: &ResourceName) -> BTreeSet<String> {
        let specs = self.kustomizations.values().filter_map(|state| state.spec());
        let mut paths: BTreeSet<_> = specs.filter(|spec| spec.source == *name).map(|spec| spec.path.clone()).collect();
        for (other, state) in &self.sources {
            for include in state.spec().into_iter().flat_map(|spec| &spec.source.include) {
                if include.name == *name {
                    paths.insert(include.from.clone());
                }
                if other == name {
                    paths.insert(include.to.clone());
                }
            }
        }
        paths
    }

    /// What asks a new commit of a source for the further paths that its Kustomizations build from.
    pub(super) fn further(&self, name: &ResourceName) -> Further {
        let specs = self.kustomizations.values().filter_map(|state| state.spec());
        let specs: Arc<[_]> = specs.filter(|spec| spec.source == *name).collect();
        Further::new(move |snapshot| {
            let specs = specs.clone();
            async move { run::reach(&snapshot, &specs).await }
        })
    }

    /// The digest of all that a build takes from a source besides its revision: its spec, and what it includes.
    pub(super) fn source_digest(&self, name: &ResourceName) -> Option<Digest> {
        let state = self.sources.get(name)?;
        let mut hasher = wickie_model::Hasher::default();
        hasher.field(state.digest().as_bytes());
        let mut ahead: Vec<_> = self.included_by(name).collect();
        let mut seen = BTreeSet::new();
        while let Some(included) = ahead.pop() {
            if !seen.insert(included) {
                continue;
            }
            let Some(other) = self.sources.get(included) else { continue };
            hasher.field(other.digest().as_bytes());
            hasher.field(other.revision().map(ToString::to_string).unwrap_or_default().as_bytes());
            ahead.extend(self.included_by(included));
        }
        match seen.is_empty() {
            true => Some(state.digest()),
            false => Some(hasher.finish()),
        }
    }
}
