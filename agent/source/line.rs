//! Lines: sources that speak to the same repository as the same party take turns, and share what they hear.
//!
//! Two GitRepositories on one URL that are due together cost one listing: the second finds what was listed for the first,
//! and in the store what was fetched for it. Each still verifies for itself, and has a floor of its own.
//!
//! A listing serves others only while it is fresh, and never one who asked after it was made: somebody has just pushed,
//! and wants that seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::Instant;
use wickie_model::ResourceName;

use super::protocol::Ref;
use crate::config::git::{GitSource, Party};

/// How old a listing may be to serve one who was due anyway: those who are due together do not begin in one instant.
const FRESH: Duration = Duration::from_millis(50);

/// A longer listing is not kept: it would be for a range of tags, and long.
const MOST_REFS: usize = 1_000;

/// So many references are asked for at once, beside one's own.
const MOST_PREFIXES: usize = 16;

/// A source that was not asked for so long asks for nothing any more.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// All lines.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<HashMap<Party, Arc<Line>>>>);

#[derive(Default)]
struct Line {
    turn: Arc<AsyncMutex<Heard>>,
    /// What each of its sources asks for, and when it last did.
    wanted: Mutex<HashMap<ResourceName, (Vec<String>, Instant)>>,
}

/// What was heard on a line.
#[derive(Default)]
struct Heard {
    listing: Option<Listing>,
    /// What the server was found to be able to do.
    server: Option<String>,
}

struct Listing {
    /// Whom it was made for: one who asks again wants news.
    by: ResourceName,
    prefixes: Vec<String>,
    refs: Vec<Ref>,
    at: Instant,
}

/// A source's turn on its line: until it is dropped, nobody else asks there.
pub(crate) struct Turn {
    heard: OwnedMutexGuard<Heard>,
    line: Arc<Line>,
    name: ResourceName,
    /// A listing from before this serves no more.
    since: Instant,
}

impl Lines {
    /// Waits for a source's turn. `asked` is when somebody asked for it, if somebody did.
    pub(crate) async fn turn(&self, source: &GitSource, asked: Option<Instant>) -> Turn {
        let begun = Instant::now();
        let line = self.line(source.party());
        let heard = line.turn.clone().lock_owned().await;
        let since = asked.unwrap_or_else(|| begun.checked_sub(FRESH).unwrap_or(begun));
        Turn { heard, line, name: source.name.clone(), since }
    }

    fn line(&self, party: Party) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= 64 {
            // Sources come and go; what nobody is on is forgotten.
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        lines.entry(party).or_default().clone()
    }
}

impl Turn {
    /// What was listed under these prefixes for another source, if that still serves.
    pub(crate) fn listed(&self, prefixes: &[String]) -> Option<Vec<Ref>> {
        let listing =
            self.heard.listing.as_ref().filter(|listing| listing.at >= self.since && listing.by != self.name)?;
        let covered = prefixes.iter().all(|prefix| listing.prefixes.iter().any(|listed| prefix.starts_with(listed)));
        covered.then(|| listing.refs.clone())
    }

    /// What to ask for: `own`, and what the others on the line ask for where it is single references.
    pub(crate) fn prefixes(&self, own: &[String], now: Instant) -> Vec<String> {
        let mut wanted = self.wanted();
        wanted.retain(|_, (_, at)| now.duration_since(*at) < FORGOTTEN);
        wanted.insert(self.name.clone(), (own.to_vec(), now));
        let mut prefixes = own.to_vec();
        let others = wanted.values().flat_map(|(prefixes, _)| prefixes).filter(|prefix| !prefix.ends_with('/'));
        for prefix in others.take(MOST_PREFIXES) {
            if !prefixes.contains(prefix) {
                prefixes.push(prefix.clone());
            }
        }
        prefixes
    }

    /// Keeps a listing for the others on the line. `at` is when it was asked for.
    pub(crate) fn hear(&mut self, prefixes: Vec<String>, refs: &[Ref], at: Instant) {
        let alone = self.wanted().len() <= 1;
        let kept = !alone && refs.len() <= MOST_REFS;
        self.heard.listing = kept.then(|| Listing { by: self.name.clone(), prefixes, refs: refs.to_vec(), at });
    }

    /// What is known of the server: `own`, or what another source has learnt.
    pub(crate) fn server<'a>(&'a self, own: Option<&'a str>) -> Option<&'a str> {
        own.or(self.heard.server.as_deref())
    }

    /// Notes what the server was found to be able to do.
    pub(crate) fn learn(&mut self, server: &str) {
        self.heard.server = Some(server.to_owned());
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<ResourceName, (Vec<String>, Instant)>> {
        self.line.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wickie_model::Oid;

    use super::*;
    use crate::config::git::{GitUrl, Reference};

    fn source(name: &str) -> GitSource {
        let url = GitUrl::parse("https://git.example/fleet").unwrap();
        let reference = Reference::Commit { oid: Oid::from_bytes([1; 20]), branch: None };
        GitSource::unverified(ResourceName::new("flux-system", name), url, reference, Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_serves_who_is_due_for_a_moment_and_who_asked_later_never() {
        let (lines, main) = (Lines::default(), vec!["refs/heads/main".to_owned()]);
        let listing = [Ref { name: main[0].clone(), oid: Oid::from_bytes([1; 20]), peeled: None }];
        let hear = |turn: &mut Turn| {
            let (prefixes, now) = (turn.prefixes(&main, Instant::now()), Instant::now());
            turn.hear(prefixes, &listing, now);
        };
        let mut one = lines.turn(&source("one"), None).await;
        hear(&mut one);
        drop(one);
        let mut other = lines.turn(&source("other"), None).await;
        assert_eq!(other.listed(&main).map(|refs| refs.len()), None, "nothing is kept where there is only one");
        hear(&mut other);
        drop(other);

        let again = lines.turn(&source("one"), None).await;
        assert_eq!(again.listed(&main).map(|refs| refs.len()), Some(1));
        assert!(again.listed(&["refs/tags/".to_owned()]).is_none(), "that was not asked for");
        drop(again);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(
            lines.turn(&source("one"), Some(Instant::now())).await.listed(&main).is_none(),
            "it was asked for later"
        );
        tokio::time::advance(FRESH).await;
        assert!(lines.turn(&source("one"), None).await.listed(&main).is_none(), "it is too old");
    }

    #[tokio::test(start_paused = true)]
    async fn single_references_are_asked_for_together_and_ranges_alone() {
        let lines = Lines::default();
        let prefixes = |name: &'static str, own: &'static str| {
            let lines = lines.clone();
            async move { lines.turn(&source(name), None).await.prefixes(&[own.to_owned()], Instant::now()) }
        };
        assert_eq!(prefixes("tags", "refs/tags/").await, ["refs/tags/"]);
        assert_eq!(prefixes("main", "refs/heads/main").await, ["refs/heads/main"]);
        assert_eq!(prefixes("next", "refs/heads/next").await, ["refs/heads/next", "refs/heads/main"]);
        assert_eq!(prefixes("tags", "refs/tags/").await.len(), 3);
        tokio::time::advance(FORGOTTEN).await;
        assert_eq!(prefixes("main", "refs/heads/main").await, ["refs/heads/main"]);
    }
}
