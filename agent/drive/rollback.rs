//! `wickie rollback`: somebody wants an earlier revision back, or the newest again.

use jiff::Timestamp;
use tokio::sync::oneshot;
use wickie_model::{Resource, ResourceName, Revision};
use wickie_plan::cycle::Cause;
use wickie_trust::Signers;

use super::{Drive, Event};
use crate::chain::chain;
use crate::serve::{Asked, Outcome, Refused};
use crate::store::{Store, StoreError};

/// How many snapshots of a source are searched.
const SEARCHED: u32 = 10_000;

/// So many digits of a commit's id are enough to name it.
const DIGITS: usize = 7;

/// An order, on its way.
pub(super) struct Order {
    pub(super) resource: Resource,
    /// Nothing, to follow the newest again.
    pub(super) to: Option<String>,
    pub(super) permit: Option<String>,
    pub(super) wait: bool,
    pub(super) reply: oneshot::Sender<Asked<Outcome>>,
}

impl Order {
    fn refuse(self, message: String) {
        // Nobody may wait for it any more.
        let _ = self.reply.send(Err(Refused::Not { message }));
    }
}

impl Drive {
    pub(super) fn order_rollback(&mut self, order: Order) {
        if let Err(refused) = self.known(&order.resource) {
            return drop(order.reply.send(Err(refused)));
        }
        let resource = &order.resource;
        let name = resource.name.clone();
        if self.declared.get(resource).is_some_and(|declared| self.is_suspended(declared)) {
            let message = format!("{resource} is suspended; wickie resume takes that back");
            return order.refuse(message);
        }
        let source = self.kustomizations.get(&name).and_then(|state| state.source().cloned());
        let Some(source) = source.filter(|_| self.followed(&name).is_some()) else {
            let message = format!("{resource} has no verified snapshot yet; see wickie status");
            return order.refuse(message);
        };
        if order.to.is_none() {
            return self.follow_newest(order);
        }
        let (store, git) = (self.shared.store.clone(), self.shared.git.clone());
        let spec = self.sources.get(&source).and_then(|state| state.spec()).map(|spec| spec.source.clone());
        self.answer(async move {
            let revisions = stored(&store, &source).await;
            let signers = match spec.filter(|_| order.permit.is_some()) {
                Some(spec) => git.permit_signers(&spec).await.map_err(|error| chain(&error)),
                None => Ok(Signers::default()),
            };
            Event::Stored(order, revisions, signers)
        });
    }

    fn follow_newest(&mut self, order: Order) {
        let name = order.resource.name.clone();
        if !self.acquit(&name) {
            let message = format!("{} follows the newest revision already", order.resource);
            return order.refuse(message);
        }
        self.wait_for(order.resource, order.wait, order.reply);
        // To go on is a change like any other, and waits for the window as one; to go back undoes harm.
        self.admit(&name, Cause::Request);
    }

    /// The stored snapshots are known: what was asked for is among them, or not.
    pub(super) fn order_found(
        &mut self,
        order: Order,
        stored: Result<Vec<Revision>, StoreError>,
        signers: Result<Signers, String>,
    ) {
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => return order.refuse(chain(&error)),
        };
        let wanted = order.to.as_deref().unwrap_or_default();
        let to = match find(&stored, wanted) {
            Ok(to) => to.clone(),
            Err(message) => return order.refuse(message),
        };
        let name = order.resource.name.clone();
        let source = self.kustomizations.get(&name).and_then(|state| state.source().cloned());
        let Some(source) = source.and_then(|source| self.sources.get(&source)) else {
            return order.refuse("its source is gone".to_owned());
        };
        let (Some(newest), Some(spec)) = (source.revision().cloned(), source.spec()) else {
            return order.refuse("its source has no verified snapshot any more; see wickie status".to_owned());
        };
        if to == newest {
            return self.follow_newest(order);
        }
        let why = match &order.permit {
            Some(permit) => {
                let step = (newest.commit(), to.commit());
                let judged = signers.and_then(|signers| {
                    let judged = self.shared.git.permitted(&spec.source, &signers, permit, step, Timestamp::now());
                    judged.map_err(|error| chain(&error))
                });
                match judged {
                    Ok(signer) => format!("somebody asked for that, by a permit of {signer}"),
                    Err(why) => return order.refuse(format!("nothing was put back: {why}")),
                }
            }
            None if self.node.rollback_needs_permit => {
                let (from, to) = (newest.commit(), to.commit());
                let message = format!(
                    "this node takes a rollback only with a permit (rollback-needs-permit): have a signer of {} sign one from {from} to {to}, and give it with --permit",
                    spec.source.name
                );
                return order.refuse(message);
            }
            None => "somebody asked for that".to_owned(),
        };
        self.set_back(&name, to, why);
        self.wait_for(order.resource, order.wait, order.reply);
        self.admit(&name, Cause::Rollback);
    }
}

/// The stored revisions of a source, the newest first.
pub(super) async fn stored(store: &Store, source: &ResourceName) -> Result<Vec<Revision>, StoreError> {
    let rows = store.snapshots(source, SEARCHED).await?;
    Ok(rows.into_iter().map(|row| row.snapshot.revision).collect())
}

/// The revision that a text names: all of it, or the first digits of its commit.
pub(super) fn find<'a>(stored: &'a [Revision], wanted: &str) -> Result<&'a Revision, String> {
    let digits = wanted.rsplit_once("sha1:").map_or(wanted, |(_, digits)| digits);
    let digits = digits.rsplit_once('@').map_or(digits, |(_, digits)| digits);
    let fits = |revision: &&Revision| {
        revision.to_string() == wanted
            || (digits.len() >= DIGITS && revision.commit().to_string().starts_with(&digits.to_ascii_lowercase()))
    };
    let found: Vec<_> = stored.iter().filter(fits).collect();
    let known = || stored.iter().take(10).map(Revision::short).collect::<Vec<_>>().join(", ");
    match found[..] {
        [one] => Ok(one),
        [] => Err(format!("no stored snapshot is {wanted:?}; stored are {}", known())),
        _ => Err(format!("{wanted:?} fits more than one stored snapshot: {}", known())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_whole_or_by_its_first_digits() {
        let stored: Vec<Revision> = [
            "main@sha1:2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4",
            "main@sha1:2dd6d76fffffffffffffffffffffffffffffffff",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        for text in [&stored[0].to_string(), "2dd6d76b", "main@2dd6d76b1c", "main@sha1:2dd6d76b1c", "2DD6D76B"] {
            assert_eq!(find(&stored, text), Ok(&stored[0]), "{text}");
        }
        assert!(find(&stored, "2dd6d76").unwrap_err().contains("more than one"));
        for text in ["", "2dd6", "main", "1111111"] {
            assert!(find(&stored, text).unwrap_err().contains("stored are main@2dd6d76b1c"), "{text}");
        }
    }
}
