//! Health by the expressions that a Kustomization gives for a kind, as `spec.healthCheckExprs` has them.
//!
//! Source: `fluxcd/pkg/runtime/cel/status_evaluator.go`, after Flux's RFC 0009. Two things are our own: what is being
//! deleted is not healthy, whatever an expression says, and why an object is not healthy is told.

use serde_json::Value;
use wickie_cel::{Expression, Failure, Scope};
use wickie_model::{Health, Verdict};

use crate::health;

/// The rules of one Kustomization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRules(Vec<HealthRule>);

/// How the objects of a kind, or of a whole group, are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRule {
    /// The API group; empty for the core one.
    pub group: String,
    /// The kind; nothing for every kind of the group that has no rule of its own.
    pub kind: Option<String>,
    /// Says that an object is on its way.
    pub in_progress: Option<Expression>,
    /// Says that it will not get there.
    pub failed: Option<Expression>,
    /// Says that it is there.
    pub current: Expression,
}

impl HealthRules {
    /// Takes the rules; gives the place of the first that another one is for, too.
    pub fn new(rules: Vec<HealthRule>) -> Result<Self, usize> {
        let same = |at: &usize| {
            let rule = &rules[*at];
            rules[..*at].iter().any(|other| (&other.group, &other.kind) == (&rule.group, &rule.kind))
        };
        match (0..rules.len()).find(same) {
            Some(at) => Err(at),
            None => Ok(Self(rules)),
        }
    }

    /// The rule for a kind: its own before that of its group. Jobs have their own rule always, as in Flux.
    pub fn of(&self, group: &str, kind: &str) -> Option<&HealthRule> {
        let in_group = || self.0.iter().filter(|rule| rule.group == group);
        let own = in_group().find(|rule| rule.kind.as_deref() == Some(kind));
        own.or_else(|| in_group().find(|rule| rule.kind.is_none())).filter(|_| (group, kind) != ("batch", "Job"))
    }

    /// The health of `object`, of which group and kind are given: by the rule for its kind, or else as [`health::health`]
    /// judges it.
    pub fn health(&self, group: &str, kind: &str, object: &Value) -> Verdict {
        match self.of(group, kind) {
            Some(rule) => rule.health(object),
            None => health::health(group, kind, object),
        }
    }
}

impl HealthRule {
    fn health(&self, object: &Value) -> Verdict {
        if let Some(verdict) = health::terminating(object).or_else(|| unobserved(object)) {
            return verdict;
        }
        // An expression that can be neither true nor false is waited for: most often a status is not there yet.
        self.judged(object)
            .unwrap_or_else(|(field, why)| Verdict::new(Health::InProgress, format!("healthCheckExprs.{field}: {why}")))
    }

    fn judged(&self, object: &Value) -> Result<Verdict, (&'static str, Failure)> {
        let Some(fields) = object.as_object() else {
            return Ok(Verdict::new(Health::InProgress, "it is not seen as an object"));
        };
        let rules = [
            ("inProgress", self.in_progress.as_ref(), Health::InProgress),
            ("failed", self.failed.as_ref(), Health::Failed),
            ("current", Some(&self.current), Health::Current),
        ];
        for (field, expression, health) in rules {
            let Some(expression) = expression else { continue };
            if expression.holds(Scope::Fields(fields)).map_err(|why| (field, why))? {
                return Ok(Verdict::new(health, format!("healthCheckExprs.{field} holds")));
            }
        }
        Ok(Verdict::new(Health::InProgress, "healthCheckExprs.current does not hold yet"))
    }
}

/// The status is of another spec. A generation that is no whole number is none to go by.
fn unobserved(object: &Value) -> Option<Verdict> {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    let (observed, generation) = (number("/status/observedGeneration")?, number("/metadata/generation")?);
    let message = || format!("generation {generation} is not observed, the last was {observed}");
    (observed != generation).then(|| Verdict::new(Health::InProgress, message()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wickie_cel::Variables;

    use super::*;

    fn expression(text: &str) -> Expression {
        Expression::new(text, Variables::Fields).unwrap()
    }

    fn rule(group: &str, kind: Option<&str>, current: &str) -> HealthRule {
        HealthRule {
            group: group.to_owned(),
            kind: kind.map(str::to_owned),
            in_progress: None,
            failed: None,
            current: expression(current),
        }
    }

    #[test]
    fn the_first_that_holds_decides_in_the_order_of_flux() {
        let rule = HealthRule {
            in_progress: Some(expression("status.phase == 'Pending'")),
            failed: Some(expression("status.phase in ['Pending', 'Broken']")),
            ..rule("example.com", Some("Till"), "status.phase != ''")
        };
        let rules = HealthRules::new(vec![rule]).unwrap();
        let of = |phase: &str| rules.health("example.com", "Till", &json!({"status": {"phase": phase}})).health;
        assert_eq!(
            ["Pending", "Broken", "Open", ""].map(of),
            [Health::InProgress, Health::Failed, Health::Current, Health::InProgress]
        );
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for_and_named() {
        let rules = HealthRules::new(vec![rule("example.com", None, "status.conditions.all(e, true)")]).unwrap();
        let verdict = rules.health("example.com", "Till", &json!({"metadata": {}}));
        assert_eq!(verdict.health, Health::InProgress);
        assert_eq!(verdict.message, "healthCheckExprs.current: status is not there");
    }

    #[test]
    fn a_status_of_another_spec_counts_for_nothing() {
        let rules = HealthRules::new(vec![rule("", None, "true")]).unwrap();
        let with = |metadata: Value, observed: Value| {
            rules.health("", "Thing", &json!({"metadata": metadata, "status": {"observedGeneration": observed}})).health
        };
        assert_eq!(with(json!({"generation": 2}), json!(1)), Health::InProgress);
        assert_eq!(with(json!({"generation": 2}), json!(3)), Health::InProgress);
        assert_eq!(with(json!({"generation": 2}), json!(2)), Health::Current);
        assert_eq!(with(json!({"generation": 2}), json!("1")), Health::Current);
        let going = json!({"generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(with(going, json!(2)), Health::Terminating);
    }

    #[test]
    fn a_kinds_own_rule_comes_before_that_of_its_group() {
        let rules = vec![rule("batch", None, "false"), rule("batch", Some("CronJob"), "true")];
        let rules = HealthRules::new(rules).unwrap();
        assert_eq!(rules.health("batch", "CronJob", &json!({})).health, Health::Current);
        assert_eq!(rules.health("batch", "Other", &json!({})).health, Health::InProgress);
        let done = json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}});
        assert_eq!(rules.health("batch", "Job", &done).health, Health::Current);
        assert_eq!(rules.health("apps", "Other", &json!({})).health, Health::Current);
    }

    #[test]
    fn two_rules_for_one_kind_are_refused() {
        let rules = vec![rule("a", Some("B"), "true"), rule("a", None, "true"), rule("a", Some("B"), "false")];
        assert_eq!(HealthRules::new(rules), Err(2));
    }
}
