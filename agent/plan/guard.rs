//! The audit that every plan passes before anything is done.
//!
//! It knows nothing of how the plan was made: it holds the finished plan against the request and refuses what must
//! never happen, whatever the reasoning that led there.

use std::collections::BTreeSet;
use std::ops::Deref;

use wickie_model::{EntryState, ObjectId};

use crate::decide::{Action, Observed, Plan, Request};
use crate::policy::{Extent, Mode};

/// Something that the guard let pass. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<T>(T);

impl<T> Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a plan must not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Git wants nothing any more, which is more often an accident than an order.
    #[error(
        "Git has no object left for this Kustomization, and {count} are in the cluster: nothing was deleted; if that is meant, set the annotation wickie.dev/prune-approve to the revision, or delete the Kustomization"
    )]
    Empty {
        /// How many would have been deleted.
        count: usize,
    },
    /// More deletions than the owner allows without being asked.
    #[error(
        "{count} objects left Git and wickie.dev/prune-limit allows {limit}: nothing was changed; set the annotation wickie.dev/prune-approve to the revision to let them go"
    )]
    TooManyDeletions {
        /// How many would have been deleted.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// The plan breaks a rule that no plan may break: a defect of ours, kept from doing harm.
    #[error("the plan for {id} breaks the rule that {rule}: nothing was done; please report this")]
    Broken {
        /// The object.
        id: ObjectId,
        /// The rule.
        rule: &'static str,
    },
}

pub(crate) fn check(plan: Plan, request: &Request<'_>) -> Result<Checked<Plan>, Refusal> {
    let wanted = request.wanted_ids();
    let mut seen = BTreeSet::new();
    let mut deletions = 0;
    for step in plan.steps() {
        let broken = |rule| Refusal::Broken { id: step.id.clone(), rule };
        if !seen.insert(&step.id) {
            return Err(broken("an object appears once"));
        }
        if step.action.applies() && !wanted.contains(&step.id) {
            return Err(broken("only what Git wants is applied"));
        }
        if step.action.applies() && request.claimed.contains_key(&step.id) {
            return Err(broken("no two Kustomizations own one object"));
        }
        let going = request.inventory.get(&step.id).is_some_and(|entry| entry.state == EntryState::Deleting);
        if step.action.deletes() {
            deletions += 1;
        }
        if step.action == Action::Delete {
            if request.policy.awaited.is_some() && !going {
                return Err(broken("nothing is deleted that may have moved to another Kustomization"));
            }
            if !request.inventory.contains_key(&step.id) {
                return Err(broken("only what we put there is deleted"));
            }
            if wanted.contains(&step.id) {
                return Err(broken("nothing that Git wants is deleted"));
            }
            if matches!(request.observed.get(&step.id), Some(Observed::Kept(_))) {
                return Err(broken("what is marked prune: disabled, the agent's own or Flux's is kept"));
            }
            if !request.policy.complete {
                return Err(broken("nothing is deleted while a file cannot be read"));
            }
        }
        let within = match request.policy.extent {
            Extent::All => true,
            Extent::Repairs => !step.action.applies() || request.is_as_applied(&step.id),
            Extent::Nothing => !step.action.applies(),
        };
        if !within || (request.policy.extent != Extent::All && step.action.deletes() && !going) {
            return Err(broken("nothing is changed while the window is shut"));
        }
        if request.policy.mode == Mode::Detect && (step.action.applies() || step.action == Action::Delete) {
            return Err(broken("mode detect writes nothing"));
        }
    }
    match excess(request, deletions) {
        Some(refusal) => Err(refusal),
        None => Ok(Checked(plan)),
    }
}

/// Why so many deletions must not be made unasked, if they must not.
pub(crate) fn excess(request: &Request<'_>, deletions: usize) -> Option<Refusal> {
    if deletions == 0 || request.policy.prune_approved {
        return None;
    }
    if request.desired.is_empty() {
        return Some(Refusal::Empty { count: deletions });
    }
    let limit = request.policy.prune_limit?.of(request.inventory.len());
    (deletions > limit).then_some(Refusal::TooManyDeletions { count: deletions, limit })
}
