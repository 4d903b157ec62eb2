//! How much one evaluation may do.

use crate::expression::Failure;

/// How many steps one evaluation may take: a node, an item looked at, or 32 bytes of text each is one. On a small machine
/// that is some ten milliseconds, and a few MiB. A condition in a list of twenty costs about two hundred.
pub const BUDGET: u32 = 100_000;

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Budget(u32);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(BUDGET)
    }

    /// Takes so many steps.
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Failure> {
        let left = u32::try_from(steps).ok().and_then(|steps| self.0.checked_sub(steps));
        self.0 = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Failure::Budget)
    }

    /// Takes what going over so many bytes costs.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) -> Result<(), Failure> {
        self.spend(1 + bytes / 32)
    }
}
