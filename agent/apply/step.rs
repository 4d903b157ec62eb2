//! One step: the requests it takes.

use std::io;
use std::time::Duration;

use serde_json::Value;
use wickie_model::{Gvk, Manifest};
use wickie_plan::cycle::backoff;
use wickie_plan::drift::{self, Manager};
use wickie_plan::{Action, Step, ignore, ownership};

use super::outcome::{Done, Failure, Outcome};
use crate::cluster::{ApiError, Class, Cluster, FieldConflict, Kind, MANAGER, Sent};

/// How often a request is sent that the server was too busy for.
const TRIES: u32 = 5;

/// The longest pause between two of them where the server asked for none.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often fields are taken over from former managers of an object that somebody else keeps writing to.
const TAKE_OVERS: u32 = 3;

/// How long a deleted object may take to go before it is made again.
const RECREATE: Duration = Duration::from_secs(60);

/// Runs one step. `manifest` is what was built of its object, where the step applies it.
pub(super) async fn run(cluster: &Cluster, step: &Step, manifest: io::Result<Option<Manifest>>) -> Outcome {
    let wire = Wire { cluster };
    let unbuilt = |why: String| ApiError { tried: format!("apply {}", step.id), why, class: Class::Other };
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => {
            let error = unbuilt(format!("what was built cannot be read from memory: {error}"));
            return Outcome::of(step, Done::Failed(Failure::from(&error)));
        }
    };
    let done = match (&step.action, &manifest) {
        (Action::Hold(why), _) => Ok(Done::Held(why.clone())),
        (Action::Wait(why), _) => Ok(Done::Waiting(why.clone())),
        (Action::Forget(why), _) => Ok(Done::Forgotten(why.clone())),
        (Action::Confirm, _) => Ok(Done::Deleted),
        (Action::Delete, _) => wire.delete(step).await,
        (Action::CreateIfAbsent, Some(manifest)) => wire.create_if_absent(step, manifest).await,
        (_, Some(manifest)) => wire.apply(step, manifest).await,
        (_, None) => Err(unbuilt("the plan names an object that was not built; please report this".to_owned())),
    };
    let secret = manifest.is_some_and(|manifest| manifest.holds_secrets());
    let failed = |error: ApiError| Done::Failed(Failure::from(&if secret { error.hidden() } else { error }));
    Outcome::of(step, done.unwrap_or_else(failed))
}

struct Wire<'a> {
    cluster: &'a Cluster,
}

impl Wire<'_> {
    async fn kind(&self, step: &Step) -> Result<Kind, ApiError> {
        let gvk = Gvk { group: step.id.group.clone(), version: step.version.clone(), kind: step.id.kind.clone() };
        let kind = self.patiently(|| self.cluster.kind(&gvk)).await?;
        let refused =
            |why: &str| ApiError { tried: format!("apply {}", step.id), why: why.to_owned(), class: Class::Invalid };
        match (kind.namespaced(), step.id.namespace.is_empty()) {
            (true, true) => Err(refused("no namespace is given: set metadata.namespace, or spec.targetNamespace")),
            (false, false) => {
                Err(refused("objects of this kind belong to the whole cluster: take metadata.namespace out"))
            }
            _ => Ok(kind),
        }
    }

    async fn apply(&self, step: &Step, manifest: &Manifest) -> Result<Done, ApiError> {
        let kind = self.kind(step).await?;
        let mut taken = Vec::new();
        let settled = self.settled(&kind, step, manifest).await?;
        let body = settled.as_ref().unwrap_or(manifest.body());
        let mut sent = self.send(&kind, step, body, &mut taken).await;
        if let Err(error) = &sent
            && error.class == Class::Immutable
            && step.recreate
        {
            self.remove(&kind, step).await?;
            sent = self.send(&kind, step, manifest.body(), &mut taken).await;
        }
        let mut sent = sent?;
        if step.take_over && !sent.created && self.take_over(&kind, step, &sent.object).await? {
            sent = self.send(&kind, step, body, &mut taken).await?;
        }
        Ok(Done::Applied {
            created: sent.created,
            manifest: ignore::digest(manifest.digest(), &step.ignored),
            fingerprint: drift::fingerprint(&sent.object, Manager(MANAGER), &step.ignored),
            resource_version: drift::version(&sent.object["metadata"]),
            taken,
        })
    }

    /// The manifest with the fields that others may change as they are now; nothing where there are none, or no object.
    async fn settled(&self, kind: &Kind, step: &Step, manifest: &Manifest) -> Result<Option<Value>, ApiError> {
        if step.ignored.is_empty() {
            return Ok(None);
        }
        let live = self.patiently(|| self.cluster.get(kind, &step.id)).await?;
        Ok(live.map(|live| ignore::settled(manifest.body(), &live, &step.ignored, Manager(MANAGER))))
    }

    /// Sends without force first, so that a field that somebody else owns is seen, and then takes it: what stands in
    /// Git is Git's (Flux's rule), but never silently.
    async fn send(
        &self,
        kind: &Kind,
        step: &Step,
        body: &Value,
        taken: &mut Vec<FieldConflict>,
    ) -> Result<Sent, ApiError> {
        let once = |force| self.patiently(move || self.cluster.apply(kind, &step.id, body, force));
        match once(false).await {
            Err(ApiError { class: Class::Conflict(conflicts), .. }) => {
                taken.extend(conflicts);
                once(true).await
            }
            other => other,
        }
    }

    /// Makes the fields that former managers own our own, so that the next apply removes what Git no longer has. Tells
    /// whether there were any.
    async fn take_over(&self, kind: &Kind, step: &Step, adopted: &Value) -> Result<bool, ApiError> {
        let mut object = adopted.clone();
        for _ in 0..TAKE_OVERS {
            let Some(patch) = ownership::take_over(&object, Manager(MANAGER)) else { return Ok(false) };
            match self.patiently(|| self.cluster.merge(kind, &step.id, &patch)).await {
                Err(ApiError { class: Class::Stale, .. }) => {}
                other => return other.map(|_| true),
            }
            match self.patiently(|| self.cluster.get(kind, &step.id)).await? {
                Some(newer) => object = newer,
                None => return Ok(true),
            }
        }
        Err(ApiError {
            tried: format!("take over the fields of {}", step.id),
            why: "it was written by somebody else each time; it is tried again".to_owned(),
            class: Class::Stale,
        })
    }

    async fn create_if_absent(&self, step: &Step, manifest: &Manifest) -> Result<Done, ApiError> {
        let kind = self.kind(step).await?;
        match self.patiently(|| self.cluster.get(&kind, &step.id)).await? {
            Some(_) => Ok(Done::Left),
            None => self.apply(step, manifest).await,
        }
    }

    async fn delete(&self, step: &Step) -> Result<Done, ApiError> {
        let kind = match self.kind(step).await {
            // The kind is gone, and its objects with it.
            Err(ApiError { class: Class::NoSuchKind, .. }) => return Ok(Done::Deleted),
            other => other?,
        };
        match self.patiently(|| self.cluster.delete(&kind, &step.id, None)).await? {
            None => Ok(Done::Deleted),
            // The answer is a Status, or for some kinds (Service, ServiceAccount) the object as it was. What is held
            // up comes back with the time at which its deletion began.
            Some(answer) if answer.pointer("/metadata/deletionTimestamp").is_some() => Ok(Done::Deleting),
            Some(_) => Ok(Done::Deleted),
        }
    }

    /// Deletes an object that cannot be changed, and waits until it is gone.
    async fn remove(&self, kind: &Kind, step: &Step) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + RECREATE;
        self.patiently(|| self.cluster.delete(kind, &step.id, None)).await?;
        while self.patiently(|| self.cluster.get(kind, &step.id)).await?.is_some() {
            if tokio::time::Instant::now() >= deadline {
                return Err(ApiError {
                    tried: format!("recreate {}", step.id),
                    why: "its deletion is held up, by a finalizer perhaps".to_owned(),
                    class: Class::Other,
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Sends, and sends again what the server was too busy for, when it may be asked again.
    async fn patiently<T, F>(&self, request: impl Fn() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut tries = 0;
        loop {
            let answer = request().await;
            let Err(ApiError { class: Class::Busy(asked), .. }) = &answer else { return answer };
            tries += 1;
            if tries >= TRIES {
                return answer;
            }
            // Where the server asked for a pause, the next request waits for its end by itself.
            if asked.is_none() {
                tokio::time::sleep(backoff(tries, LONGEST_PAUSE, fastrand::f64())).await;
            }
        }
    }
}
