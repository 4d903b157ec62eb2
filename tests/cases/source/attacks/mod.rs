//! Servers, repositories, disks and clocks that mean harm. Each is refused with its own reason, and what was accepted
//! before stays.
//!
//! What the trusted updaters promise, and where it is tested:
//!
//! | promise | attack | test |
//! |---|---|---|
//! | no rollback | an older commit signed well, over Git | `believe::a_branch_that_was_rewritten`, `rollback::an_old_copy_of_the_store_is_not_enforced` |
//! | | the same from a repository on the node | `local::a_medium_is_followed_as_a_server_is` |
//! | | a store that a peer gave, or a backup | `rollback::the_highest_copy_counts_wherever_it_is_kept`; on the agent `cases floors::an_old_copy_of_the_store_moves_nothing_back` |
//! | | a lost store, so that contact is first again | `rollback::a_lost_store_is_no_first_contact`, `rollback::first_contact_is_held_against_a_floor_that_the_node_gives` |
//! | | a copy of the floor deleted, damaged, lowered | `rollback::a_damaged_or_lost_file_of_floors…`, `cases floors::a_copy_in_the_cluster_that_is_deleted…` |
//! | | a version that goes down, a tag that moves | `believe::a_version_that_goes_down_and_a_tag_that_moves`, `rollback::an_old_copy_of_the_store_knows_no_higher_version` |
//! | | the same on a stick's bundle | when there are bundles; a stick that is a repository is `file://`, above |
//! | no silent freeze | newer commits are kept from the node | `rollback::a_server_that_keeps_new_commits_to_itself_is_noticed`, `cases floors::how_a_floor_began_and_how_old_it_is_are_told` |
//! | | a permit outlives its end | `believe::one_permit_brings_back_a_rewritten_branch`, `rollback::an_expired_permit_stays_expired_when_the_clock_is_set_back` |
//! | rotation and revocation | a revoked, expired, removed key | `believe::pgp_keys_good_expired_and_revoked`, `believe::a_removed_signer_is_not_loaded_again`, `believe::outside_the_validity_of_a_key` |
//! | | a stolen key | `cases floors::a_fleet_whose_key_was_stolen_comes_back_by_one_permit` |
//! | no mix and match, no partial bundle | a pack that is cut, changed, of other objects | `transport::a_changed_byte_on_the_way_is_noticed`, `packs`, `wire::an_answer_without_a_pack` |
//! | | a signature over other files, a tag of another name | `cases trust`, `believe::tags_that_are_forged` |
//! | | chunks of a bundle dropped, swapped, reordered | when there are bundles |
//! | endless or slow data | zlib and delta bombs, 10 GB announced | `packs::an_entry_inflates_to_more_than_it_announces`, `packs::a_delta_makes_a_mountain_of_a_molehill`, `packs::a_blob_of_ten_gigabytes_is_announced` |
//! | | an endless pack, endless progress, endless references | `packs::an_endless_pack`, `packs::progress_without_end`, `wire::references_without_end` |
//! | | one byte a second, silence | `transport::silence_and_trickles_end` |
//! | clock safety | 1970, a year forward and back, one absurd commit date | `rollback::a_year_forward_and_back_bricks_nothing`; `wickie-trust`, `time.rs` |
//! | power loss: old or new, never between | kill -9 at any request, to the API and to Git | `cases crash`, `cases floors::killed_while_it_accepts_it_has_the_old_or_the_new` |
//! | | no room during an acceptance | `rollback::a_full_disk_loses_nothing_that_was_accepted` |
//! | every error can be recovered from | each file of the data directory damaged in turn | `cases floors::every_file_of_the_data_directory_is_damaged_in_turn_and_it_converges_again` |
//!
//! And of Git's own: hostile names, case-folding and Unicode, links out, duplicate entries (`trees`, and the unit tests of
//! `agent/source/tree.rs`); wrong ids, SHAttered files (`packs`, `agent/source/object.rs::a_made_collision_is_noticed`); packet lines, control
//! characters, another hash (`wire`); a redirect to another host (`transport::a_redirect_to_another_host_is_not_followed`); a server that falls
//! back to the older protocol, and one that comes back (`transport::a_server_that_became_newer_is_found_out`);
//! namespaces, subkeys and weak keys (`believe`, `differential`).

mod evil;
mod packs;
mod rollback;
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
