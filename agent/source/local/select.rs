//! Which objects answer a request: what a server's `git upload-pack` works out with `git rev-list --objects`.
//!
//! What is asked for by its id is always given. Of the rest, what the known commits hold is left out.

use std::collections::{BinaryHeap, HashMap, HashSet};

use wickie_model::Oid;

use super::LocalError;
use super::objects::Objects;
use crate::config::git::Limits;
use crate::source::object::{Commit, Tag};
use crate::source::protocol::{FetchRequest, Filter};
use crate::source::tree::Target;
use crate::store::ObjectKind;

/// Tags of tags that are followed.
const DEEPEST_TAG: usize = 5;

/// The answer in the making.
struct Selection<'a> {
    objects: &'a mut Objects,
    filter: Option<Filter>,
    most: usize,
    /// What the other side has.
    known: HashSet<Oid>,
    seen: HashSet<Oid>,
    chosen: Vec<Oid>,
}

/// The ids that answer `request`: commits and tags first, then trees and files.
pub(super) fn select(objects: &mut Objects, request: &FetchRequest, limits: Limits) -> Result<Vec<Oid>, LocalError> {
    let mut selection = Selection {
        objects,
        filter: request.filter,
        most: limits.objects as usize,
        known: HashSet::new(),
        seen: HashSet::new(),
        chosen: Vec::new(),
    };
    let (mut commits, mut trees) = (Vec::new(), Vec::new());
    for want in &request.wants {
        let kind = selection.want(*want)?;
        match kind {
            Wanted::Commit(commit) => commits.push(commit),
            Wanted::Tree => trees.push(*want),
            Wanted::Blob => {}
        }
    }
    let commits = match request.depth {
        Some(depth) => selection.levels(commits, depth)?,
        None => selection.newer(commits, &request.haves)?,
    };
    if request.filter == Some(Filter::NoTrees) {
        return Ok(selection.chosen);
    }
    if !(commits.is_empty() && trees.is_empty()) {
        selection.learn(&request.haves)?;
    }
    for commit in commits {
        if selection.seen.insert(commit.tree) && !selection.known.contains(&commit.tree) {
            selection.choose(commit.tree)?;
            trees.push(commit.tree);
        }
    }
    selection.descend(trees)?;
    Ok(selection.chosen)
}

/// What an id that is asked for names.
enum Wanted {
    Commit(Commit),
    Tree,
    Blob,
}

impl Selection<'_> {
    fn choose(&mut self, oid: Oid) -> Result<(), LocalError> {
        if self.chosen.len() >= self.most {
            return Err(LocalError::TooMuch { what: "objects", limit: self.most as u64 });
        }
        self.chosen.push(oid);
        Ok(())
    }

    /// Chooses what is asked for: a tag with what it points at.
    fn want(&mut self, want: Oid) -> Result<Wanted, LocalError> {
        let mut oid = want;
        for _ in 0..=DEEPEST_TAG {
            let object = self.objects.need(oid)?;
            match object.kind {
                // Commits are chosen as they are walked.
                ObjectKind::Commit => return Ok(Wanted::Commit(Commit::parse(oid, &object.bytes)?)),
                kind => {
                    if self.seen.insert(oid) {
                        self.choose(oid)?;
                    }
                    match kind {
                        ObjectKind::Tag => oid = Tag::parse(oid, &object.bytes)?.target,
                        ObjectKind::Tree => return Ok(Wanted::Tree),
                        _ => return Ok(Wanted::Blob),
                    }
                }
            }
        }
        Err(LocalError::TooMuch { what: "tags of tags", limit: DEEPEST_TAG as u64 })
    }

    /// These commits and their parents, `depth` commits deep.
    fn levels(&mut self, tips: Vec<Commit>, depth: u32) -> Result<Vec<Commit>, LocalError> {
        let (mut level, mut all) = (tips, Vec::new());
        for left in (0..depth).rev() {
            let mut next = Vec::new();
            for commit in level {
                if !self.seen.insert(commit.oid) {
                    continue;
                }
                self.choose(commit.oid)?;
                for parent in commit.parents.iter().filter(|_| left > 0) {
                    next.extend(self.objects.commit(*parent)?);
                }
                all.push(commit);
            }
            level = next;
        }
        Ok(all)
    }

    /// These commits and their parents, as far as they are not reached from `haves`.
    ///
    /// The newest first, from both sides, as git walks: once everything that is left is reached from `haves`, it ends. A
    /// clock that went wrong in some commit may let it give more than is needed, never less.
    fn newer(&mut self, tips: Vec<Commit>, haves: &[Oid]) -> Result<Vec<Commit>, LocalError> {
        let mut walk = Walk::default();
        for commit in tips {
            walk.add(commit, false);
        }
        for have in haves {
            // One that is not here was never given by this repository.
            if let Some(commit) = self.objects.commit(*have)? {
                walk.add(commit, true);
            }
        }
        while let Some((commit, known)) = walk.next() {
            for parent in &commit.parents {
                match walk.reached.get(parent).copied() {
                    Some(before) if before || !known => {}
                    _ => walk.queue(*parent, known, self.objects)?,
                }
            }
            if walk.reached.len() > self.most {
                return Err(LocalError::TooMuch { what: "commits", limit: self.most as u64 });
            }
            walk.order.push(commit);
        }
        let Walk { order, reached, .. } = walk;
        let mut newer = Vec::new();
        for commit in order.into_iter().filter(|commit| reached.get(&commit.oid) == Some(&false)) {
            if self.seen.insert(commit.oid) {
                self.choose(commit.oid)?;
                newer.push(commit);
            }
        }
        Ok(newer)
    }

    /// Notes what the trees of the known commits hold.
    fn learn(&mut self, haves: &[Oid]) -> Result<(), LocalError> {
        let mut ahead = Vec::new();
        for have in haves {
            ahead.extend(self.objects.commit(*have)?.map(|commit| commit.tree));
        }
        self.known.extend(&ahead);
        while let Some(oid) = ahead.pop() {
            for entry in self.objects.tree(oid)?.unwrap_or_default() {
                let new = entry.target != Target::Submodule && self.known.insert(entry.oid);
                if new && entry.target == Target::Directory {
                    ahead.push(entry.oid);
                }
            }
            self.bounded(self.known.len())?;
        }
        Ok(())
    }

    /// Chooses what is beneath these trees.
    fn descend(&mut self, mut ahead: Vec<Oid>) -> Result<(), LocalError> {
        while let Some(oid) = ahead.pop() {
            for entry in self.objects.tree(oid)?.ok_or(LocalError::NoObject(oid))? {
                let is_tree = entry.target == Target::Directory;
                let left_out = entry.target == Target::Submodule
                    || (!is_tree && self.filter == Some(Filter::NoBlobs))
                    || self.known.contains(&entry.oid);
                if !left_out && self.seen.insert(entry.oid) {
                    self.choose(entry.oid)?;
                    ahead.extend(is_tree.then_some(entry.oid));
                }
            }
        }
        Ok(())
    }

    fn bounded(&self, count: usize) -> Result<(), LocalError> {
        match count > self.most {
            true => Err(LocalError::TooMuch { what: "objects", limit: self.most as u64 }),
            false => Ok(()),
        }
    }
}

/// A walk through history from two sides.
#[derive(Default)]
struct Walk {
    /// By time, the newest first.
    ahead: BinaryHeap<(i64, Oid)>,
    waiting: HashMap<Oid, Commit>,
    /// Every commit that was come by, and whether the other side has it.
    reached: HashMap<Oid, bool>,
    /// How many of those ahead the other side does not have.
    unknown: usize,
    order: Vec<Commit>,
}

impl Walk {
    fn add(&mut self, commit: Commit, known: bool) {
        let before = self.reached.insert(commit.oid, known);
        if before == Some(known) || before == Some(true) {
            self.reached.insert(commit.oid, before.unwrap_or(known));
            return;
        }
        let waits = self.waiting.contains_key(&commit.oid);
        match (waits, known) {
            (true, true) => self.unknown -= 1,
            (false, false) => self.unknown += 1,
            _ => {}
        }
        if !waits {
            self.ahead.push((commit.committed.as_second(), commit.oid));
            self.waiting.insert(commit.oid, commit);
        }
    }

    /// Comes by a parent. One that was passed already and turns out to be known is walked again, so that what is
    /// behind it is known too.
    fn queue(&mut self, oid: Oid, known: bool, objects: &mut Objects) -> Result<(), LocalError> {
        match objects.commit(oid)? {
            Some(commit) => self.add(commit, known),
            // Here history was cut off.
            None => {
                self.reached.insert(oid, known);
            }
        }
        Ok(())
    }

    /// The next commit, unless the other side has all that is left.
    fn next(&mut self) -> Option<(Commit, bool)> {
        if self.unknown == 0 {
            return None;
        }
        let (_, oid) = self.ahead.pop()?;
        let commit = self.waiting.remove(&oid)?;
        let known = self.reached.get(&oid).copied().unwrap_or_default();
        self.unknown -= usize::from(!known);
        Some((commit, known))
    }
}
