//! Letting go of an object: its fields and labels become somebody else's, its values stay as they are.

use std::time::Duration;

use serde_json::{Value, json};
use wickie_model::ObjectId;
use wickie_plan::cycle::backoff;
use wickie_plan::drift::Manager;
use wickie_plan::ownership;

use crate::cluster::{ApiError, Class, Cluster, Kind, MANAGER};

/// How often it is tried where somebody else writes at the same time, or the server is busy.
const TRIES: u32 = 6;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// To whom an object goes.
#[derive(Clone, Copy, Debug)]
pub struct Heir<'a> {
    /// The field manager that our fields go to; nothing: they are nobody's.
    pub manager: Option<&'a str>,
    /// Labels of ours, taken off where they have these values.
    pub labels: &'a [(&'a str, &'a str)],
    /// Our finalizer, where the object may carry it.
    pub finalizer: Option<&'a str>,
}

/// What became of an object that was to be let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetGo {
    /// It is its heir's.
    Done,
    /// Nothing of ours was on it.
    NotOurs,
    /// It is not there.
    Absent,
}

/// Lets go of an object, or says what that would be where `dry_run`. To do it twice is to do it once.
pub async fn let_go(
    cluster: &Cluster,
    kind: &Kind,
    id: &ObjectId,
    heir: Heir<'_>,
    dry_run: bool,
) -> Result<LetGo, ApiError> {
    let mut tries = 0;
    loop {
        match once(cluster, kind, id, heir, dry_run).await {
            Err(ApiError { class: Class::Stale | Class::Busy(_), .. }) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(backoff(tries, LONGEST_PAUSE, fastrand::f64())).await;
            }
            Err(ApiError { class: Class::NotFound, .. }) => return Ok(LetGo::Absent),
            other => return other,
        }
    }
}

async fn once(cluster: &Cluster, kind: &Kind, id: &ObjectId, heir: Heir<'_>, dry_run: bool) -> Result<LetGo, ApiError> {
    let Some(object) = cluster.get(kind, id).await? else { return Ok(LetGo::Absent) };
    let Some(patch) = patch(&object, heir) else { return Ok(LetGo::NotOurs) };
    if !dry_run {
        cluster.merge_as(kind, id, &patch, heir.manager.unwrap_or(MANAGER)).await?;
    }
    Ok(LetGo::Done)
}

fn patch(object: &Value, heir: Heir<'_>) -> Option<Value> {
    let fields = ownership::hand_over(object, Manager(MANAGER), heir.manager.map(Manager), heir.labels);
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let ours = |finalizer: &&Value| heir.finalizer.is_some_and(|ours| **finalizer == ours);
    let Some(finalizers) = finalizers.filter(|all| all.iter().any(|it| ours(&it))) else { return fields };
    let version = object.pointer("/metadata/resourceVersion")?;
    let mut patch = fields.unwrap_or_else(|| json!({"metadata": {"resourceVersion": version}}));
    patch["metadata"]["finalizers"] = finalizers.iter().filter(|it| !ours(it)).cloned().collect();
    Some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_finalizer_goes_and_those_of_others_stay() {
        let heir = Heir { manager: None, labels: &[], finalizer: Some("wickie.dev/finalizer") };
        let object = |finalizers: Value| json!({"metadata": {"resourceVersion": "7", "finalizers": finalizers}});
        let both = patch(&object(json!(["a", "wickie.dev/finalizer"])), heir).unwrap();
        assert_eq!(both, json!({"metadata": {"resourceVersion": "7", "finalizers": ["a"]}}));
        assert_eq!(patch(&object(json!(["a"])), heir), None);
    }
}
