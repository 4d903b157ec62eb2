//! What a Kustomization waits for: others that must be ready first.
//!
//! Ready is what the condition says, or what a `readyExpr` says of the two objects instead. Such an expression may look at
//! anything that is declared or said of them, so that it is asked again whenever one of the two changes.

use serde_json::{Map, Value, json};
use wickie_cel::{Expression, Scope};
use wickie_model::{Resource, ResourceKind, ResourceName};
use wickie_plan::cycle::{self, Cause, Hold};

use super::{KustomizationState, resource};
use crate::config::{Dependency, Kustomization};
use crate::drive::{Drive, records};

/// How often one change may be followed from one Kustomization to the next in one step: expressions that look at each
/// other could go round for ever.
const ROUNDS: usize = 16;

impl Drive {
    /// Why a dependency is not ready. Where both take from one source, it must be ready at its newest revision, as in Flux.
    pub(super) fn unready_dependency(&self, spec: &Kustomization, dependency: &Dependency) -> Option<String> {
        let on = &dependency.on;
        let why = |what: &str| Some(format!("dependency '{on}' {what}"));
        let Some(other) = self.kustomizations.get(on) else { return why("is not declared") };
        let Some(other_spec) = &other.spec else { return why("is not declared, or cannot be followed") };
        // What it is now is good; what it waits with, this one waits with, too (`window`).
        if other.waits_for_window() && self.was_ready(&resource(on)) {
            return None;
        }
        if let Some(ready) = &dependency.ready {
            match self.ready_by(ready, &spec.name, on) {
                Ok(true) if !self.node.additive_ready_expressions => return None,
                Ok(true) => {}
                Ok(false) => return why("is not ready according to readyExpr"),
                Err(error) => return why(&format!("is not ready: its readyExpr cannot be answered: {error}")),
            }
        }
        if !self.is_ready(&resource(on)) {
            return why("is not ready");
        }
        if other_spec.source == spec.source {
            let applied = self.records.get(&resource(on)).and_then(|record| record.status.text("/lastAppliedRevision"));
            let newest = self.sources.get(&spec.source).and_then(|source| source.revision()).map(ToString::to_string);
            if applied != newest {
                return why("is not ready at the newest revision");
            }
        }
        None
    }

    fn ready_by(&self, ready: &Expression, own: &ResourceName, on: &ResourceName) -> Result<bool, wickie_cel::Failure> {
        // An inventory of thousands is only made for who asks for it.
        let whole = ready.text().contains("inventory");
        let (own, dependency) = (self.as_object(own, whole), self.as_object(on, whole));
        ready.holds(Scope::Named(&[("self", &own), ("dep", &dependency)]))
    }

    /// A Kustomization as an object: as it is declared, with the status that it has here.
    fn as_object(&self, name: &ResourceName, whole: bool) -> Value {
        let resource = resource(name);
        let (Some(declared), Some(record)) = (self.declared.get(&resource), self.records.get(&resource)) else {
            return Value::Null;
        };
        let mut metadata = Map::new();
        let mut put = |field: &str, value: Value| metadata.insert(field.to_owned(), value);
        put("name", json!(name.name));
        put("namespace", json!(name.namespace));
        put("generation", json!(record.generation));
        if !declared.uid.is_empty() {
            put("uid", json!(declared.uid));
        }
        // As in the API, what is empty is not there.
        for (field, texts) in [("labels", &declared.labels), ("annotations", &declared.annotations)] {
            if !texts.is_empty() {
                put(field, json!(texts));
            }
        }
        let mut status = record.status.value();
        if let Some(state) = self.kustomizations.get(name).filter(|_| whole) {
            status["inventory"] = records::inventory(&state.inventory);
        }
        json!({
            "apiVersion": ResourceKind::Kustomization.api_version(),
            "kind": ResourceKind::Kustomization.as_str(),
            "metadata": metadata,
            "spec": declared.spec.value(),
            "status": status,
        })
    }

    /// Something of it has changed that an expression may look at.
    pub(in crate::drive) fn note_moved(&mut self, resource: &Resource) {
        if resource.kind == ResourceKind::Kustomization {
            self.moved.insert(resource.name.clone());
        }
    }

    /// Asks the expressions again that look at what has changed.
    pub(in crate::drive) fn look_at_dependencies(&mut self) {
        for _ in 0..ROUNDS {
            let moved = std::mem::take(&mut self.moved);
            if moved.is_empty() {
                return;
            }
            let concerned = |name: &ResourceName, spec: &Kustomization| {
                let expressions = || spec.depends_on.iter().filter(|dependency| dependency.ready.is_some());
                expressions().any(|dependency| moved.contains(name) || moved.contains(&dependency.on))
            };
            let waiting = |name: &ResourceName, state: &KustomizationState| {
                matches!(&state.cycle, cycle::State::Held(Hold::Dependency(_)))
                    && state.spec.as_ref().is_some_and(|spec| concerned(name, spec))
            };
            let names: Vec<_> = self
                .kustomizations
                .iter()
                .filter(|(name, state)| waiting(name, state))
                .map(|(name, _)| name.clone())
                .collect();
            names.iter().for_each(|name| self.admit(name, Cause::Dependency));
        }
    }

    /// Whoever waits for this one may run now.
    pub(super) fn wake_dependents(&mut self, name: &ResourceName) {
        let waiting = |state: &KustomizationState| {
            matches!(&state.cycle, cycle::State::Held(Hold::Dependency(_)) | cycle::State::Idle { waits: true, .. })
                && state.spec.as_ref().is_some_and(|spec| spec.depends_on.iter().any(|on| on.on == *name))
        };
        let dependents: Vec<_> =
            self.kustomizations.iter().filter(|(_, state)| waiting(state)).map(|(name, _)| name.clone()).collect();
        dependents.iter().for_each(|name| self.admit(name, Cause::Dependency));
    }
}
