//! CEL expressions in a spec: read once, and refused with their place where they cannot be followed.

use wickie_cel::{Expression, Variables};
use wickie_model::{Gvk, ResourceName};
use wickie_plan::{HealthRule, HealthRules};

use super::Invalid;
use super::flux::{DependencyReference, HealthCheckExpressions};

/// How much of an expression a message shows, in characters.
const SHOWN: usize = 120;

/// A Kustomization that must be ready first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Which one.
    pub on: ResourceName,
    /// What says that it is ready, over `self` and `dep`; nothing: its condition Ready.
    pub ready: Option<Expression>,
}

pub(super) fn dependencies(from: &[DependencyReference], of: &ResourceName) -> Result<Vec<Dependency>, Invalid> {
    let read = |(number, on): (usize, &DependencyReference)| {
        let namespace = if on.namespace.is_empty() { &of.namespace } else { &on.namespace };
        let field = || format!("spec.dependsOn[{number}].readyExpr");
        let ready = optional(field, &on.ready_expr, Variables::Only(&["self", "dep"]))?;
        Ok(Dependency { on: ResourceName::new(namespace, &on.name), ready })
    };
    from.iter().enumerate().map(read).collect()
}

pub(super) fn health_rules(from: &[HealthCheckExpressions]) -> Result<HealthRules, Invalid> {
    let rules = from.iter().enumerate().map(|(number, from)| health_rule(number, from));
    HealthRules::new(rules.collect::<Result<_, _>>()?).map_err(|at| {
        let (kind, version) = (&from[at].kind, &from[at].api_version);
        let why = format!("{version} {kind} has an entry before it; one kind is judged by one entry");
        Invalid::field(format!("spec.healthCheckExprs[{at}]"), why)
    })
}

fn health_rule(number: usize, from: &HealthCheckExpressions) -> Result<HealthRule, Invalid> {
    let field = |name: &str| format!("spec.healthCheckExprs[{number}].{name}");
    if from.api_version.is_empty() {
        return Err(Invalid::field(field("apiVersion"), "is missing; write the objects' apiVersion"));
    }
    let group = Gvk::new(&from.api_version, &from.kind).group;
    if (group.as_str(), from.kind.as_str()) == ("batch", "Job") {
        let why = "a Job is judged by its own rule whatever is said here, as in Flux; take the entry out";
        return Err(Invalid::field(field("kind"), why));
    }
    let read = |name: &str, text: &str| optional(|| field(name), text, Variables::Fields);
    let Some(current) = read("current", &from.current)? else {
        return Err(Invalid::field(field("current"), "is missing; write when the object is as it should be"));
    };
    Ok(HealthRule {
        group,
        kind: Some(from.kind.clone()).filter(|kind| !kind.is_empty()),
        in_progress: read("inProgress", &from.in_progress)?,
        failed: read("failed", &from.failed)?,
        current,
    })
}

/// An expression, where one is given.
fn optional(field: impl Fn() -> String, text: &str, names: Variables<'_>) -> Result<Option<Expression>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    Expression::new(text, names).map(Some).map_err(|why| {
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Invalid::field(field(), format!("the expression {shown:?} {why}"))
    })
}
