//! What a person can ask of the running agent. The control socket puts the question to the loop and waits for its answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use wickie_model::{ObjectId, Resource, ResourceKind, ResourceName, Severity};

use super::Live;
use crate::config::KubeConfigRef;
use crate::store::Origin;

/// An order, with the way back for its answer. An answer that nobody waits for any more is no failure.
#[derive(Debug)]
pub enum Command {
    /// Do it now.
    Reconcile {
        /// A Kustomization or a GitRepository.
        resource: Resource,
        /// Whether a Kustomization's source is asked first.
        with_source: bool,
        /// Whether the answer comes only when the work is done, in health or failure; otherwise as soon as it is begun.
        wait: bool,
        /// The way back.
        reply: oneshot::Sender<Asked<Outcome>>,
    },
    /// Leave it alone until [`Command::Resume`], across restarts.
    Suspend {
        /// What.
        resource: Resource,
        /// The way back.
        reply: oneshot::Sender<Asked<Outcome>>,
    },
    /// Go on with it.
    Resume {
        /// What.
        resource: Resource,
        /// Whether the answer comes only when the run that follows has ended.
        wait: bool,
        /// The way back.
        reply: oneshot::Sender<Asked<Outcome>>,
    },
    /// Put an earlier revision back, until a newer one comes; or follow the newest again.
    Rollback {
        /// A Kustomization.
        resource: Resource,
        /// The revision to put back, or the first digits of its commit; nothing, to follow the newest again.
        to: Option<String>,
        /// A signed permit for the step, where the node asks for one.
        permit: Option<String>,
        /// Whether the answer comes only when the run that follows has ended.
        wait: bool,
        /// The way back.
        reply: oneshot::Sender<Asked<Outcome>>,
    },
    /// Let go of Kustomizations, of all where none are named: from now on nothing of them is done, until
    /// [`Command::Resume`]. The answer comes when nothing is under way any more.
    Release {
        /// Which; nothing, for all of them, and all sources.
        names: Option<Vec<ResourceName>>,
        /// Whether only to say what that would be.
        dry_run: bool,
        /// The way back.
        reply: oneshot::Sender<Asked<Vec<Released>>>,
    },
    /// What was released is handed over, and its inventory no longer needed.
    Forget {
        /// The Kustomization.
        name: ResourceName,
        /// The way back.
        reply: oneshot::Sender<Asked<()>>,
    },
    /// What a run would change now, for people: a unified diff of each object.
    Diff {
        /// The Kustomization.
        name: ResourceName,
        /// What is compared with the cluster.
        against: Against,
        /// The way back.
        reply: oneshot::Sender<Asked<String>>,
    },
    /// A webhook came that is believed: what its Receiver names is asked for.
    Hook {
        /// The Receiver.
        receiver: ResourceName,
        /// The way back; what could not be asked for, for the log.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// What only the agent knows.
    Live {
        /// The way back.
        reply: oneshot::Sender<Live>,
    },
}

impl Command {
    /// The order, where an agent can carry it out that writes nothing to the cluster; otherwise it is refused, and `why`
    /// says who writes.
    pub fn unless_writing(self, why: &str) -> Option<Self> {
        let refused = || {
            let message = format!(
                "this agent stands by, so it changes nothing: {why}; say it on the node of the one that writes"
            );
            Refused::Not { message }
        };
        match self {
            Self::Reconcile { resource, reply, .. } if resource.kind == ResourceKind::Kustomization => {
                drop(reply.send(Err(refused())));
            }
            Self::Suspend { reply, .. } | Self::Resume { reply, .. } | Self::Rollback { reply, .. } => {
                drop(reply.send(Err(refused())));
            }
            Self::Release { reply, .. } => drop(reply.send(Err(refused()))),
            Self::Forget { reply, .. } => drop(reply.send(Err(refused()))),
            other => return Some(other),
        }
        None
    }
}

/// A Kustomization that was let go of, and what is to be handed over of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// Its name.
    #[serde(flatten)]
    pub name: ResourceName,
    /// Where it is declared; nothing where it no longer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Where the kubeconfig stands of the cluster that its objects are in, where that is not the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_config: Option<KubeConfigRef>,
    /// Its objects, each with the version of its API.
    pub objects: Vec<(ObjectId, String)>,
}

/// What a diff compares with the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Against {
    /// The revision that is followed.
    Followed,
    /// A stored revision, named whole or by the first digits of its commit.
    Revision(String),
    /// A folder on the agent's disk.
    Folder(PathBuf),
}

/// The answer to an order, or why it was not followed.
pub type Asked<T> = Result<T, Refused>;

/// How it stands after an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Whether the work is done; not, where the answer did not wait for it.
    pub done: bool,
    /// [`Severity::Error`] where it failed.
    pub severity: Severity,
    /// One of [`wickie_model::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// The revision that it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether something new waits for the window for changes, and was not applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// What was passed over because somebody asked: a fetch window, a budget; what was not: a window for changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why an order was not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", tag = "refused")]
pub enum Refused {
    /// The agent has no such object.
    #[error("the agent has no {resource}{}", one_of(.known))]
    Unknown {
        /// What was asked for.
        resource: Resource,
        /// Those of the same kind that it has.
        known: Vec<ResourceName>,
    },
    /// It cannot be done as things are.
    #[error("{message}")]
    Not {
        /// Why, and what to do.
        message: String,
    },
}

fn one_of(known: &[ResourceName]) -> String {
    match known {
        [] => String::new(),
        [one] => format!("; it has {one}"),
        many => {
            let names: Vec<_> = many.iter().take(5).map(ResourceName::to_string).collect();
            format!("; it has {}{}", names.join(", "), if many.len() > 5 { " and more" } else { "" })
        }
    }
}
