//! How often the API server was asked, and what it answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Requests, by method and status; 0 where there was no answer.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<BTreeMap<(String, u16), u64>>);

impl Counted {
    pub(super) fn count(&self, method: &str, status: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((method.to_owned(), status)).or_default() += 1;
    }

    pub(super) fn read(&self) -> Vec<((String, u16), u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, number)| (key.clone(), *number)).collect()
    }
}
