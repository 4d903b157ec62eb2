//! The Lease by which the agents of a cluster agree who writes.
//!
//! Every node's agent runs, follows its sources and keeps what it has verified; the Lease's holder alone writes to the
//! cluster and reports. Its identity is the node's name, so that an agent that is started again takes its own Lease back
//! at once. What is enforced never goes back when the Lease moves: whoever gets it begins as after a start, with the trust
//! floors that stand in the cluster.
//!
//! Nothing but an election decides: see [`wickie_plan::lease`]. What is sent late all the same, because a process was
//! stopped for a while, is kept back by the [`Fence`]; what passes even that is drift, which the new holder repairs.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as latest};
use wickie_model::{Gvk, ObjectId, ResourceName};
use wickie_plan::lease::{Elector, Lease, Move, Seen as Means};

use super::Settings;
use crate::cluster::watch::{self, Seen, Selection, Within};
use crate::cluster::{ApiError, Class, Cluster, Fence, Kind, resource_version, since_boot};

/// The Lease's name.
const NAME: &str = "wickie";

/// How much later than it could be the Lease is taken, so that those who wait do not all try at once.
const SPREAD: Duration = Duration::from_millis(500);

/// What an agent may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It writes.
    Writes {
        /// Another may have written since this one did.
        others: bool,
        /// The cluster was restored from a backup since.
        restored: bool,
    },
    /// It stands by, and why.
    StandsBy(String),
}

impl Role {
    /// One that writes, and knows of nobody else who has.
    const ALONE: Self = Self::Writes { others: false, restored: false };

    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Writes { .. })
    }

    /// Whether another may have written since this one did.
    pub(super) fn after_others(&self) -> bool {
        matches!(self, Self::Writes { others: true, .. })
    }
}

/// What this agent may do from now on: with a Lease, as the election goes.
pub(super) fn standing(settings: &Settings, cluster: &Cluster, fence: Option<Fence>) -> latest::Receiver<Role> {
    let (Some(lasts), Some(fence)) = (settings.lease, fence) else {
        return latest::channel(Role::ALONE).1;
    };
    let (sender, role) = latest::channel(Role::StandsBy("the Lease was not looked at yet".to_owned()));
    let (namespace, me) = (settings.namespace.clone(), settings.node.clone());
    tokio::task::spawn_local(elect(cluster.unfenced(), fence, namespace, me, lasts, sender));
    role
}

/// Takes part in the election for as long as the agent lives. The fence is open while the Lease is ours.
async fn elect(
    cluster: Cluster,
    fence: Fence,
    namespace: String,
    me: String,
    lasts: Duration,
    role: latest::Sender<Role>,
) {
    let (kind, id) = place(&namespace);
    let within = Within::Object(ResourceName::new(namespace, NAME));
    let selection = Selection { kind: kind.clone(), labels: String::new(), within, metadata: false };
    let (sender, mut seen) = mpsc::channel(16);
    tokio::task::spawn_local(watch::watch(cluster.clone(), selection, sender, |seen| seen));
    let mut office = Office {
        cluster,
        kind,
        id,
        fence,
        elector: Elector::new(me, lasts),
        version: None,
        restored: false,
        said: None,
    };
    loop {
        let now = since_boot();
        let standing = match office.elector.next(now) {
            Move::Write => office.write().await,
            Move::Wait(until) => {
                let spread = if office.elector.holds(now) { Duration::ZERO } else { SPREAD.mul_f64(fastrand::f64()) };
                let pause = until.saturating_sub(now).saturating_add(spread).min(Duration::from_secs(3600));
                tokio::select! {
                    Some(seen) = seen.recv() => {
                        office.saw(seen).await;
                        None
                    }
                    () = tokio::time::sleep(pause) => None,
                }
            }
        };
        let now = since_boot();
        office.fence.set(office.elector.until());
        let stands_by = || Role::StandsBy(office.why());
        let next = match (office.elector.holds(now), standing) {
            (true, Some(standing)) => standing,
            (true, None) => continue,
            (false, _) => stands_by(),
        };
        role.send_if_modified(|role| {
            // Whoever writes goes on, whether another may have written before or not.
            let same = *role == next || (role.writes() && next == Role::ALONE);
            if !same {
                match &next {
                    Role::Writes { .. } => tracing::info!(lease = %office.id, "the Lease is ours: this agent writes"),
                    Role::StandsBy(why) if role.writes() => {
                        tracing::info!(lease = %office.id, "this agent stands by: {why}");
                    }
                    // The status says why, as that changes.
                    Role::StandsBy(_) => {}
                }
                *role = next;
            }
            !same
        });
    }
}

/// The Lease, and what one agent knows of it.
struct Office {
    cluster: Cluster,
    kind: Kind,
    id: ObjectId,
    fence: Fence,
    elector: Elector,
    /// The Lease's version, where it is there.
    version: Option<String>,
    /// The cluster was set back, which was not told yet.
    restored: bool,
    /// What was last said of what is wrong.
    said: Option<String>,
}

impl Office {
    /// Why this agent does not write.
    fn why(&self) -> String {
        match (&self.said, self.elector.holder()) {
            (Some(why), _) => why.clone(),
            (None, Some(holder)) => format!("{holder} holds {}", self.id),
            (None, None) => format!("nobody holds {} yet", self.id),
        }
    }

    /// Takes or renews it; what that makes of us.
    async fn write(&mut self) -> Option<Role> {
        let sent = since_boot();
        let (lease, others) = self.elector.proposal(micro_time(Timestamp::now()));
        let document = document(&self.id, &lease, self.version.as_deref());
        // A renewal that does not come back must leave time for another.
        let limit = lease.lasts / 3;
        let written = tokio::time::timeout(limit, self.cluster.put(&self.kind, &self.id, &document)).await;
        let written = written.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", limit.as_secs_f32());
            Err(ApiError { tried: format!("write {}", self.id), why, class: Class::Unreachable })
        });
        match written {
            Ok(object) => {
                self.said = None;
                self.version = resource_version(&object).map(str::to_owned);
                let lease = read(&object).unwrap_or(lease);
                self.elector.written(lease, sent);
                Some(Role::Writes { others, restored: std::mem::take(&mut self.restored) })
            }
            Err(error) => {
                match error.class {
                    // A server or what stands before it may fail with what it has done already.
                    Class::Unreachable | Class::Busy(_) => self.elector.unanswered((lease, others), sent, since_boot()),
                    _ => self.elector.failed(since_boot()),
                }
                match error.class {
                    // Somebody else was faster, or it was deleted. The watch will tell, and perhaps late.
                    Class::Stale | Class::NotFound => self.look().await,
                    _ => self.trouble(&error),
                }
                None
            }
        }
    }

    /// Reads it.
    async fn look(&mut self) {
        match self.cluster.get(&self.kind, &self.id).await {
            Ok(object) if is_older(object.as_ref(), self.version.as_ref()) => {
                tracing::warn!(
                    lease = %self.id,
                    "the cluster was set back, as by a restore from a backup: the Lease is one from before"
                );
                self.version = object.as_ref().and_then(resource_version).map(str::to_owned);
                self.restored = true;
                self.elector.set_back(object.as_ref().and_then(read), since_boot());
            }
            Ok(object) => self.take(object.as_ref()),
            Err(error) => self.trouble(&error),
        }
    }

    async fn saw(&mut self, seen: Seen) {
        match seen {
            Seen::All(objects, _) => self.take(objects.first()),
            Seen::Here(object) => self.take(Some(&object)),
            Seen::Gone(_) => self.take(None),
            Seen::Blind(error) => self.trouble(&error),
            Seen::Again => self.said = None,
            Seen::SetBack => self.look().await,
        }
    }

    /// Takes in what was seen, unless something newer is known.
    fn take(&mut self, object: Option<&Value>) {
        if is_older(object, self.version.as_ref()) {
            return;
        }
        self.version = object.and_then(resource_version).map(str::to_owned);
        if self.elector.saw(object.and_then(read), since_boot()) == Means::Twin {
            let why = format!(
                "another agent renews {} in the name of this node: give each its own NODE_NAME, or stop one of them",
                self.id
            );
            tracing::error!("{why}");
        }
    }

    fn trouble(&mut self, error: &ApiError) {
        let why = format!("{} cannot be used: {error}", self.id);
        if self.said.as_ref() != Some(&why) && !error.class.is_transient() {
            tracing::warn!("{why}");
        }
        self.said = Some(why);
    }
}

fn place(namespace: &str) -> (Kind, ObjectId) {
    let gvk = Gvk::new("coordination.k8s.io/v1", "Lease");
    let id = ObjectId::new(gvk.group.clone(), gvk.kind.clone(), namespace, NAME);
    (Kind::new(gvk, "leases", true), id)
}

fn document(id: &ObjectId, lease: &Lease, version: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": id.name, "namespace": id.namespace,
        "labels": {"app.kubernetes.io/managed-by": "wickie"},
    });
    if let Some(version) = version {
        metadata["resourceVersion"] = version.into();
    }
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": {
            "holderIdentity": lease.holder,
            "leaseDurationSeconds": lease.lasts.as_secs(),
            "renewTime": lease.renewed,
            "leaseTransitions": lease.transitions,
        }
    })
}

/// A time as a Lease holds it: with six digits below the second, no fewer and no more.
fn micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Whether a Lease that is there is an earlier one than that of a version.
fn is_older(object: Option<&Value>, known: Option<&String>) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    object.is_some_and(|object| resource_version(object).and_then(number) < known.map(String::as_str).and_then(number))
}

/// The Lease as an object holds it.
fn read(object: &Value) -> Option<Lease> {
    let spec = object.get("spec")?;
    let text = |name: &str| spec.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| spec.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(Lease {
        holder: text("holderIdentity"),
        lasts: Duration::from_secs(number("leaseDurationSeconds")),
        renewed: text("renewTime"),
        transitions: number("leaseTransitions"),
    })
}

/// The longest that a Lease may last: its holder may be gone for so long before another goes on.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long a Lease lasts, as it is written: whole seconds, for that is what a Lease holds.
///
/// # Errors
/// Where it is none, too short for a renewal to be tried three times, or too long.
pub fn parse_lease(text: &str) -> Result<Duration, String> {
    let duration = crate::config::duration::parse(text).map_err(|error| error.to_string())?;
    match duration {
        _ if duration.subsec_nanos() != 0 => Err("it is counted in whole seconds".to_owned()),
        _ if duration < Duration::from_secs(3) => Err("less than 3s leaves no time to renew it".to_owned()),
        _ if duration > LONGEST => Err("more than 1h: nobody would write for so long after its holder went".to_owned()),
        _ => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_digits_whatever_it_is() {
        for (nanos, written) in [(0, "000000"), (120_000_000, "120000"), (953_731_427, "953731")] {
            let time = "2026-11-24T13:59:59Z".parse::<Timestamp>().unwrap() + Duration::from_nanos(nanos);
            assert_eq!(micro_time(time), format!("2026-11-24T13:59:59.{written}Z"));
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (_, id) = place("wickie");
        let lease = Lease {
            holder: "node-1".to_owned(),
            lasts: Duration::from_secs(15),
            renewed: "a".to_owned(),
            transitions: 3,
        };
        assert_eq!(read(&document(&id, &lease, Some("7"))), Some(lease));
        assert_eq!(read(&json!({"spec": {}})).unwrap().holder, "");
    }

    #[test]
    fn a_lease_lasts_whole_seconds_and_not_too_few() {
        assert_eq!(parse_lease("15s"), Ok(Duration::from_secs(15)));
        for wrong in ["2s", "1500ms", "2h", "soon"] {
            assert!(parse_lease(wrong).is_err(), "{wrong}");
        }
    }
}
