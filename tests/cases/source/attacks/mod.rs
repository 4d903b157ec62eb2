//! Servers and repositories that mean harm. Each is refused with its own reason, and what was accepted before stays.
//!
//! Elsewhere: forged and replayed signatures and tags, rewritten history, versions that go down (`believe`), redirects,
//! silence, trickles, changed bytes (`transport`).

mod evil;
mod packs;
mod trees;
mod wire;

use wickie::config::git::GitSource;
use wickie::source::{SourceError, SourceErrorClass};

use crate::world::{World, chain};

/// The poll is refused for a reason of this class that says `words`, and what was accepted before still loads.
async fn refused(
    world: &World,
    source: &GitSource,
    good: &GitSource,
    class: SourceErrorClass,
    words: &str,
) -> SourceError {
    let error = world.refuse(source).await;
    let text = chain(&error);
    assert!(text.contains(words), "{words:?} is missing in: {text}");
    assert_eq!(error.class(), class, "{text}");
    assert!(world.git.load(good).await.unwrap().is_some());
    error
}

/// A world with an accepted snapshot.
async fn accepted(name: &str) -> (World, GitSource) {
    let world = World::new(name);
    world.commit(&[("a.yaml", "a: 1\n")]);
    let source = world.source();
    world.accept(&source).await;
    (world, source)
}
