//! Trees that were read a moment ago.
//!
//! A thousand Kustomizations lie in one folder, and each goes through it by name several times: for the paths of a new
//! commit, for its build, for what its build looked at. Read from the store each time, such a folder costs them a
//! thousand times its thousand names.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use wickie_model::Oid;

use super::tree::TreeEntry;

/// How many are kept at most: enough for the way down to a folder, and what lies beside it.
const TREES: usize = 16;

/// How many names they may have together, each some 100 bytes in memory.
const NAMES: usize = 4_096;

/// Those that were asked for last. What is found here was hashed and checked when it was read.
#[derive(Clone, Default)]
pub(crate) struct Trees(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The one that was asked for last stands last.
    trees: VecDeque<(Oid, Arc<[TreeEntry]>)>,
    names: usize,
}

impl Trees {
    pub(crate) fn get(&self, oid: Oid) -> Option<Arc<[TreeEntry]>> {
        self.with(|kept| {
            let at = kept.trees.iter().rposition(|(known, _)| *known == oid)?;
            let found = kept.trees.remove(at)?;
            let tree = found.1.clone();
            kept.trees.push_back(found);
            Some(tree)
        })
    }

    pub(crate) fn put(&self, oid: Oid, tree: &Arc<[TreeEntry]>) {
        self.with(|kept| {
            if tree.len() > NAMES || kept.trees.iter().any(|(known, _)| *known == oid) {
                return;
            }
            kept.trees.push_back((oid, tree.clone()));
            kept.names += tree.len();
            while kept.trees.len() > TREES || kept.names > NAMES {
                let Some((_, gone)) = kept.trees.pop_front() else { break };
                kept.names -= gone.len();
            }
        });
    }

    fn with<R>(&self, work: impl FnOnce(&mut Kept) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tree::Target;

    fn oid(number: usize) -> Oid {
        Oid::from_bytes([u8::try_from(number).unwrap(); 20])
    }

    fn tree(names: usize) -> Arc<[TreeEntry]> {
        let entry = |name: usize| TreeEntry { name: name.to_string(), target: Target::Directory, oid: oid(0) };
        (0..names).map(entry).collect()
    }

    fn kept(trees: &Trees) -> Vec<usize> {
        (0..40).filter(|number| trees.with(|kept| kept.trees.iter().any(|(known, _)| *known == oid(*number)))).collect()
    }

    #[test]
    fn those_asked_for_last_are_kept_as_far_as_there_is_room() {
        let trees = Trees::default();
        (0..20).for_each(|number| trees.put(oid(number), &tree(2)));
        assert_eq!(kept(&trees), (4..20).collect::<Vec<_>>());
        assert_eq!(trees.get(oid(4)).map(|found| found.len()), Some(2));
        assert!(trees.get(oid(3)).is_none());
        trees.put(oid(30), &tree(NAMES - 4));
        assert_eq!(kept(&trees), [4, 19, 30], "what was asked for stays before what was put");
        trees.put(oid(31), &tree(NAMES + 1));
        assert_eq!(kept(&trees), [4, 19, 30], "one that is too large displaces nothing");
        trees.put(oid(30), &tree(NAMES - 4));
        assert_eq!(trees.with(|kept| kept.names), NAMES, "it is counted once");
    }
}
