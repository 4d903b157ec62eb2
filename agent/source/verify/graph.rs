//! The commits between the last accepted one and the new one, and how they hang together.
//!
//! A commit is new if the new tip reaches it and the last accepted commit does not. A parent that is not in the store may
//! be either: only a chain of commits from the last accepted one down to it shows that it is old. Without that, a server
//! could hide a commit that nobody signed by not sending it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};

use wickie_model::Oid;

use super::{Judge, Missing, Stop};
use crate::source::error::SourceError;
use crate::source::object::{Commit, ObjectError};
use crate::source::snapshot::content_error;

/// Commits, each before its parents.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
}

/// A commit as far as its place goes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) oid: Oid,
    /// Its tree; `None` of an old commit of which only the id is known.
    pub(super) tree: Option<Oid>,
    /// Places in the graph; of an old commit, those that lead to where a new one left it.
    pub(super) parents: Vec<usize>,
    pub(super) is_new: bool,
}

/// What was found of a commit while the graph is made.
struct Found {
    commit: Option<Commit>,
    is_new: bool,
}

impl Judge<'_> {
    /// The graph from the commit of the offer down to what was accepted before.
    pub(super) async fn graph(&mut self, tip: Oid, since: Oid) -> Result<Graph, Stop> {
        let most = self.source.limits.commits as usize;
        let old = self.ancestors(since, most).await?;
        let mut found: HashMap<Oid, Found> = HashMap::new();
        let mut ahead = VecDeque::from([tip]);
        let (mut unknown, mut left) = (Vec::new(), BTreeSet::new());
        let mut seen = HashSet::from([tip]);
        while let Some(oid) = ahead.pop_front() {
            if old.contains_key(&oid) {
                left.insert(oid);
                continue;
            }
            let Some(commit) = self.repository.commit(oid).await.map_err(|fault| self.fault(fault))? else {
                unknown.push(oid);
                continue;
            };
            for parent in &commit.parents {
                if seen.insert(*parent) {
                    ahead.push_back(*parent);
                }
            }
            self.evidence.objects.insert(oid);
            found.insert(oid, Found { commit: Some(slim(commit)), is_new: true });
            if found.len() > most {
                let source = ObjectError::TooMuch { what: "commits since the last accepted one", limit: most as u64 };
                let revision = self.offer.revision.to_string();
                return Err(Stop::from(SourceError::Content { revision, source }));
            }
        }
        if !unknown.is_empty() {
            return Err(Stop::Missing(Missing::Parents { since, parents: unknown }));
        }
        for oid in leading_to(&old, since, &left) {
            let commit = old.get(&oid).cloned().flatten();
            if commit.is_some() {
                self.evidence.objects.insert(oid);
            }
            found.insert(oid, Found { commit, is_new: false });
        }
        Ok(Graph::sorted(found))
    }

    /// The commits that the last accepted one reaches, itself included, as far as they are here; `None` where only the id
    /// is known.
    async fn ancestors(&self, since: Oid, most: usize) -> Result<HashMap<Oid, Option<Commit>>, Stop> {
        let mut reached = HashMap::new();
        let mut ahead = VecDeque::from([since]);
        while let Some(oid) = ahead.pop_front() {
            if reached.len() > most || reached.contains_key(&oid) {
                continue;
            }
            let commit = self.repository.commit(oid).await.map_err(|fault| self.fault(fault))?.map(slim);
            if let Some(commit) = &commit {
                ahead.extend(commit.parents.iter().copied());
            }
            reached.insert(oid, commit);
        }
        Ok(reached)
    }

    /// The old commits that new ones were made upon, without which those cannot be compared.
    pub(super) fn trees_known(&self, graph: &Graph) -> Result<(), Stop> {
        let needed = graph.nodes.iter().filter(|node| node.is_new).flat_map(|node| &node.parents);
        let missing: BTreeSet<Oid> = needed
            .filter_map(|parent| graph.nodes.get(*parent))
            .filter(|node| node.tree.is_none())
            .map(|node| node.oid)
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Stop::Missing(Missing::Commits(missing.into_iter().collect()))),
        }
    }

    pub(super) async fn whole_commit(&self, oid: Oid) -> Result<Commit, Stop> {
        let missing = ObjectError::Missing { kind: "commit", oid };
        let commit = self.repository.commit(oid).await.map_err(|fault| self.fault(fault))?;
        commit.ok_or_else(|| Stop::from(content_error(&self.offer.revision, missing.into())))
    }
}

/// A commit without its bytes: there may be many.
fn slim(mut commit: Commit) -> Commit {
    commit.signed.payload = Vec::new();
    commit.signed.signature = None;
    commit
}

/// The old commits on the ways from the last accepted one to those where new commits left.
fn leading_to(old: &HashMap<Oid, Option<Commit>>, since: Oid, left: &BTreeSet<Oid>) -> HashSet<Oid> {
    let mut children: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for commit in old.values().flatten() {
        for parent in &commit.parents {
            children.entry(*parent).or_default().push(commit.oid);
        }
    }
    let mut on_the_way = HashSet::from([since]);
    let mut ahead: Vec<Oid> = left.iter().copied().collect();
    while let Some(oid) = ahead.pop() {
        if on_the_way.insert(oid) {
            ahead.extend(children.get(&oid).into_iter().flatten().copied());
        }
    }
    on_the_way
}

impl Graph {
    /// Puts each commit before its parents.
    fn sorted(found: HashMap<Oid, Found>) -> Self {
        let mut waiting: HashMap<Oid, usize> = found.keys().map(|oid| (*oid, 0)).collect();
        let parents = |oid: &Oid| {
            let commit = found.get(oid).and_then(|found| found.commit.as_ref());
            let known: BTreeSet<Oid> = commit.into_iter().flat_map(|commit| commit.parents.iter().copied()).collect();
            known.into_iter().filter(|parent| found.contains_key(parent)).collect::<Vec<_>>()
        };
        for oid in found.keys() {
            for parent in parents(oid) {
                *waiting.entry(parent).or_default() += 1;
            }
        }
        // In the order of their ids where nothing else decides, so that it is always the same.
        let mut ready: BinaryHeap<Oid> =
            waiting.iter().filter(|(_, children)| **children == 0).map(|(oid, _)| *oid).collect();
        let mut order = Vec::with_capacity(found.len());
        while let Some(oid) = ready.pop() {
            order.push(oid);
            for parent in parents(&oid) {
                if let Some(children) = waiting.get_mut(&parent) {
                    *children -= 1;
                    if *children == 0 {
                        ready.push(parent);
                    }
                }
            }
        }
        let place: HashMap<Oid, usize> = order.iter().enumerate().map(|(place, oid)| (*oid, place)).collect();
        let node = |oid: &Oid| {
            let found = found.get(oid)?;
            let commit = found.commit.as_ref();
            let parents = commit.into_iter().flat_map(|commit| &commit.parents);
            Some(Node {
                oid: *oid,
                tree: commit.map(|commit| commit.tree),
                parents: parents.filter_map(|parent| place.get(parent).copied()).collect(),
                is_new: found.is_new,
            })
        };
        Self { nodes: order.iter().filter_map(node).collect() }
    }

    /// The new commits, each before its parents.
    pub(super) fn new_commits(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_new)
    }

    /// The best common ancestors of two commits (git-merge-base(1)): those that no other common ancestor reaches.
    pub(super) fn merge_bases(&self, one: usize, other: usize) -> Vec<usize> {
        const ONE: u8 = 1;
        const OTHER: u8 = 2;
        const BEHIND: u8 = 4;
        let mut marks: HashMap<usize, u8> = HashMap::new();
        let mut ahead = BinaryHeap::new();
        for (place, mark) in [(one, ONE), (other, OTHER)] {
            *marks.entry(place).or_default() |= mark;
            ahead.push(Reverse(place));
        }
        let mut bases = Vec::new();
        // Places grow towards the parents, so a commit comes when all its marks are known.
        let mut last = None;
        let mut undecided: HashSet<usize> = [one, other].into();
        while let Some(Reverse(place)) = ahead.pop() {
            undecided.remove(&place);
            if last.replace(place) == Some(place) {
                continue;
            }
            let mut mark = marks.get(&place).copied().unwrap_or_default();
            if mark == ONE | OTHER {
                bases.push(place);
                mark |= BEHIND;
            }
            for parent in self.nodes.get(place).into_iter().flat_map(|node| &node.parents) {
                *marks.entry(*parent).or_default() |= mark;
                if marks.get(parent).is_some_and(|mark| mark & BEHIND == 0) {
                    undecided.insert(*parent);
                } else {
                    undecided.remove(parent);
                }
                ahead.push(Reverse(*parent));
            }
            if undecided.is_empty() {
                break;
            }
        }
        bases
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// A graph of commits by number: each with its parents.
    fn graph(commits: &[(u8, &[u8])]) -> Graph {
        let oid = |number: u8| Oid::from_bytes([number; 20]);
        let found = commits.iter().map(|(number, parents)| {
            let commit = Commit {
                oid: oid(*number),
                tree: oid(0),
                parents: parents.iter().map(|parent| oid(*parent)).collect(),
                committed: Timestamp::UNIX_EPOCH,
                signed: crate::source::object::Signed { payload: Vec::new(), signature: None },
            };
            (oid(*number), Found { commit: Some(commit), is_new: true })
        });
        Graph::sorted(found.collect())
    }

    fn bases(graph: &Graph, one: u8, other: u8) -> Vec<u8> {
        let place = |number: u8| graph.nodes.iter().position(|node| node.oid.as_bytes()[0] == number).unwrap();
        let mut found: Vec<u8> = graph
            .merge_bases(place(one), place(other))
            .into_iter()
            .map(|place| graph.nodes[place].oid.as_bytes()[0])
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn each_commit_stands_before_its_parents() {
        let graph = graph(&[(1, &[]), (9, &[5, 1]), (5, &[3]), (3, &[1]), (7, &[9, 5])]);
        for (place, node) in graph.nodes.iter().enumerate() {
            assert!(node.parents.iter().all(|parent| *parent > place), "{graph:?}");
        }
        assert_eq!(graph.nodes.len(), 5);
    }

    #[test]
    fn merge_bases_are_git_s() {
        // 1 - 2 - 3 - 4        and a criss-cross: 5 and 6 are merged into each other as 7 and 8
        //      \- 5 ...
        let line = graph(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[3]), (5, &[2])]);
        assert_eq!(bases(&line, 4, 5), [2]);
        assert_eq!(bases(&line, 4, 3), [3]);
        assert_eq!(bases(&line, 4, 4), [4]);
        let cross = graph(&[(1, &[]), (5, &[1]), (6, &[1]), (7, &[5, 6]), (8, &[6, 5])]);
        assert_eq!(bases(&cross, 7, 8), [5, 6]);
        let apart = graph(&[(1, &[]), (2, &[])]);
        assert!(bases(&apart, 1, 2).is_empty());
        // A base that another base reaches is none.
        let long = graph(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[3, 1]), (5, &[3])]);
        assert_eq!(bases(&long, 4, 5), [3]);
    }
}
