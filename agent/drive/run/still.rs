//! Whether a plan could come out otherwise than the last one, which found all as it should be.
//!
//! Nearly every run of an interval finds nothing to do, and finds that by looking at every object. As long as nothing has
//! moved that a plan looks at, the last one's answer stands.

use std::rc::{Rc, Weak};

use wickie_model::Inventory;
use wickie_plan::Policy;

use super::{Job, Wanted};

/// All that a plan looks at, as it was.
#[derive(Debug)]
pub(in crate::drive) struct Still {
    // They are not kept for this. What is weakly known is never taken for another that came to lie at its place.
    wanted: Weak<Wanted>,
    inventory: Weak<Inventory>,
    policy: Policy,
    /// The connection, and what its watches have told that counts: see [`Live::moves`](crate::drive::live::Live::moves).
    target: u64,
    moves: u64,
    /// See [`Claims::moves`](crate::drive::claims::Claims::moves).
    claims: u64,
}

impl PartialEq for Still {
    fn eq(&self, other: &Self) -> bool {
        self.wanted.ptr_eq(&other.wanted)
            && self.inventory.ptr_eq(&other.inventory)
            && self.policy == other.policy
            && (self.target, self.moves, self.claims) == (other.target, other.moves, other.claims)
    }
}

impl Job {
    /// What this run's plan will look at.
    pub(super) fn still(&self) -> Still {
        Still {
            wanted: Rc::downgrade(&self.wanted),
            inventory: Rc::downgrade(&self.inventory),
            policy: self.policy.clone(),
            target: self.target.serial,
            moves: self.target.live.borrow().moves(),
            claims: self.shared.claims.borrow().moves(),
        }
    }
}
