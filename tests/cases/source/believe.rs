//! What does not prove itself is refused with its reason, and the last good snapshot stays.

use wickie::config::git::{GitSource, Reference, VerifyMode};
use wickie::source::{SourceError, SourceErrorClass};
use wickie_testbench::{PgpKey, Signer, SshKey, need};

use crate::world::{World, branch, signed_by, tag};

/// A world with one accepted snapshot.
async fn accepted(name: &str) -> (World, GitSource, String) {
    let world = World::new(name);
    let commit = world.commit(&[("a.yaml", "a: 1\n")]);
    let source = world.source();
    world.accept(&source).await;
    (world, source, commit)
}

/// The poll is refused for a reason that says all of `words`, and what was accepted before is still there.
async fn refused(world: &World, source: &GitSource, class: SourceErrorClass, words: &[&str]) -> SourceError {
    let before = world.git.load(source).await.unwrap().map(|snapshot| snapshot.revision().clone());
    let error = world.refuse(source).await;
    let text = crate::world::chain(&error);
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert_eq!(error.class(), class, "{text}");
    let after = world.git.load(source).await.unwrap().map(|snapshot| snapshot.revision().clone());
    assert_eq!(before, after);
    error
}

#[tokio::test]
async fn unsigned() {
    let (world, source, _) = accepted("believe-unsigned").await;
    world.repo.write("a.yaml", "a: 2\n").unwrap();
    let commit = world.repo.commit("unsigned", &Signer::Nobody).unwrap();
    let words = [commit.as_str(), "is not signed"];
    let error = refused(&world, &source, SourceErrorClass::RefusedSignature, &words).await;
    assert_eq!(error.reason(), "InvalidCommitSignature");
}

#[tokio::test]
async fn by_an_unknown_key() {
    let (world, source, _) = accepted("believe-unknown").await;
    let eve = SshKey::named("eve");
    let commit = world.repo.commit("mine now", &eve.signer()).unwrap();
    let key = eve.fingerprint();
    let words = [commit.as_str(), &key, "not among the allowed signers"];
    refused(&world, &source, SourceErrorClass::RefusedSignature, &words).await;
}

#[tokio::test]
async fn with_a_changed_byte() {
    let (world, source, _) = accepted("believe-changed").await;
    let commit = world.repo.commit("pay 1", &world.ada.signer()).unwrap();
    let forged = world.repo.tampered(&commit, "pay 1", "pay 9").unwrap();
    world.repo.set_ref("refs/heads/main", &forged).unwrap();
    let words = [forged.as_str(), "does not fit its bytes", "ada"];
    refused(&world, &source, SourceErrorClass::RefusedSignature, &words).await;
}

#[tokio::test]
async fn for_another_namespace() {
    let (world, source, _) = accepted("believe-namespace").await;
    let draft = world.repo.draft("refs/heads/main", "a file, not a commit").unwrap();
    let signature = world.ada.sign_for("file", &draft.bytes(None)).unwrap();
    let commit = world.repo.object("commit", &draft.bytes(Some(&signature))).unwrap();
    world.repo.set_ref("refs/heads/main", &commit).unwrap();
    refused(&world, &source, SourceErrorClass::RefusedSignature, &["namespace \"file\""]).await;
}

#[tokio::test]
async fn a_signature_that_is_none() {
    let (world, source, _) = accepted("believe-garbage").await;
    for signature in [
        "garbage",
        "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----",
        "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----",
    ] {
        let draft = world.repo.draft("refs/heads/main", signature.get(..20).unwrap_or("short")).unwrap();
        let commit = world.repo.object("commit", &draft.bytes(Some(signature))).unwrap();
        world.repo.set_ref("refs/heads/main", &commit).unwrap();
        refused(&world, &source, SourceErrorClass::RefusedSignature, &["cannot be read"]).await;
    }
}

#[tokio::test]
async fn outside_the_validity_of_a_key() {
    let (world, mut source, _) = accepted("believe-validity").await;
    let line = format!("ada@example.org valid-before=\"20200101Z\" {}", world.ada.public());
    source.verify = Some(signed_by(VerifyMode::Head, &[line]));
    world.commit(&[("a.yaml", "a: 2\n")]);
    let error = world.refuse(&source).await;
    assert!(error.to_string().contains("ended at 2020-01-01"), "{error}");
    // What git takes for valid is valid here: the commit says it was made before the end.
    let mut draft = world.repo.draft("refs/heads/main", "in time").unwrap();
    draft.when = 1_500_000_000;
    let commit = world.repo.object("commit", &draft.signed(&world.ada.signer()).unwrap()).unwrap();
    world.repo.set_ref("refs/heads/main", &commit).unwrap();
    world.accept(&source).await;
}

#[tokio::test]
async fn a_branch_that_was_rewritten() {
    let (world, source, first) = accepted("believe-rewritten").await;
    world.commit(&[("a.yaml", "a: 2\n")]);
    world.accept(&source).await;
    // Back to an older commit, which is signed well.
    world.repo.set_ref("refs/heads/main", &first).unwrap();
    let error = refused(&world, &source, SourceErrorClass::WentBack, &["does not descend", &first]).await;
    assert_eq!(error.reason(), "GitOperationFailed");
    // And sideways, to one that shares its history.
    world.commit(&[("a.yaml", "a: 3\n")]);
    refused(&world, &source, SourceErrorClass::WentBack, &["does not descend"]).await;
    // It is judged again from what is here, not fetched again.
    world.server.forget();
    refused(&world, &source, SourceErrorClass::WentBack, &["does not descend"]).await;
    assert_eq!(world.server.fetches(), 0);
    // Another branch is another order.
    world.repo.git(&["branch", "again", "main"]).unwrap();
    let mut source = source;
    source.reference = branch("again");
    world.accept(&source).await;
}

#[tokio::test]
async fn many_commits_at_once_descend() {
    let (world, source, _) = accepted("believe-many").await;
    for number in 0..30 {
        world.commit(&[("a.yaml", &format!("a: {number}\n"))]);
    }
    world.accept(&source).await;
}

#[tokio::test]
async fn a_version_that_goes_down_and_a_tag_that_moves() {
    let (world, mut source, first) = accepted("believe-versions").await;
    let signer = world.ada.signer();
    world.repo.tag("v1.0.0", &first, "one", &signer).unwrap();
    let second = world.commit(&[("a.yaml", "a: 2\n")]);
    world.repo.tag("v1.1.0", &second, "two", &signer).unwrap();
    source.reference = Reference::Semver("*".parse().unwrap());
    source.verify = Some(signed_by(VerifyMode::TagAndHead, &[world.ada.public()]));
    let accepted = world.accept(&source).await;
    assert!(accepted.signer().unwrap().starts_with("tag by SHA256:"), "{:?}", accepted.signer());

    world.repo.git(&["tag", "-d", "v1.1.0"]).unwrap();
    refused(&world, &source, SourceErrorClass::WentBack, &["down from 1.1.0 to 1.0.0"]).await;
    world.repo.tag("v1.1.0", &first, "moved", &signer).unwrap();
    refused(&world, &source, SourceErrorClass::WentBack, &["a tag never moves"]).await;
    world.repo.tag("v1.2.0", &second, "three", &signer).unwrap();
    world.accept(&source).await;
}

#[tokio::test]
async fn tags_that_are_forged() {
    let (world, mut source, first) = accepted("believe-tags").await;
    let second = world.commit(&[("a.yaml", "a: 2\n")]);
    let signer = world.ada.signer();
    source.verify = Some(signed_by(VerifyMode::Tag, &[world.ada.public()]));
    let error = world.refuse(&source).await;
    assert_eq!((error.class(), error.reason()), (SourceErrorClass::InvalidSpec, "InvalidVerificationMode"));

    source.reference = tag("v2");
    world.repo.set_ref("refs/tags/v2", &second).unwrap();
    refused(&world, &source, SourceErrorClass::RefusedSignature, &["tag v2", "is not signed"]).await;
    world.repo.tag("v2", &second, "eve's", &SshKey::named("eve").signer()).unwrap();
    refused(&world, &source, SourceErrorClass::RefusedSignature, &["tag v2", "not among the allowed signers"]).await;
    // An old tag, signed well, under a new name.
    let old = world.repo.tag("v1", &first, "old", &signer).unwrap();
    world.repo.set_ref("refs/tags/v2", &old).unwrap();
    refused(&world, &source, SourceErrorClass::RefusedSignature, &["\"v2\"", "\"v1\""]).await;
    world.repo.tag("v2", &second, "right", &signer).unwrap();
    world.accept(&source).await;
}

#[tokio::test]
async fn keys_that_cannot_be_used() {
    let (world, mut source, _) = accepted("believe-keys").await;
    world.commit(&[("a.yaml", "a: 2\n")]);
    for (key, word) in [("", "no key"), ("ssh-ed25519 AAAA broken", "line 1"), ("hello world", "line 1")] {
        source.verify = Some(signed_by(VerifyMode::Head, &[key.to_owned()]));
        let error = world.refuse(&source).await;
        assert_eq!((error.class(), error.reason()), (SourceErrorClass::InvalidSpec, "VerificationError"));
        assert!(crate::world::chain(&error).contains(word), "{}", crate::world::chain(&error));
    }
    source.verify = Some(signed_by(VerifyMode::Head, &[]));
    assert_eq!(world.refuse(&source).await.reason(), "VerificationError");
}

#[tokio::test]
async fn a_removed_signer_is_not_loaded_again() {
    let (world, mut source, _) = accepted("believe-removed").await;
    source.verify = Some(signed_by(VerifyMode::Head, &[SshKey::named("eve").public()]));
    let error = world.git.load(&source).await.unwrap_err();
    assert_eq!(error.class(), SourceErrorClass::RefusedSignature, "{error}");
}

#[tokio::test]
async fn pgp_keys_good_expired_and_revoked() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let (world, mut source, _) = accepted("believe-pgp").await;
    let home = world.scratch.path();
    let good = PgpKey::generate(&home.join("g1"), "Bo <bo@example.org>", "0").unwrap();
    let brief = PgpKey::generate(&home.join("g2"), "Cy <cy@example.org>", "seconds=600").unwrap();
    let keys = [world.ada.public(), good.public().unwrap(), brief.public().unwrap()];
    source.verify = Some(signed_by(VerifyMode::Head, &keys));

    world.repo.write("a.yaml", "a: 2\n").unwrap();
    world.repo.commit("by bo", &good.signer()).unwrap();
    let snapshot = world.accept(&source).await;
    let signer = snapshot.signer().unwrap();
    assert!(signer.contains(good.fingerprint()) && signer.contains("Bo <bo@example.org>"), "{signer}");

    world.repo.write("a.yaml", "a: 3\n").unwrap();
    let commit = world.repo.commit("by cy", &brief.signer()).unwrap();
    world.accept(&source).await;
    let late = world.repo.commit("by cy, too late", &brief.signer()).unwrap();
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(20);
    let error = world.git.poll(&source, later).await.outcome.unwrap_err();
    assert!(error.to_string().contains(&late) && error.to_string().contains("validity ended"), "{error}");
    // Nor is it once the clock is set back. Taken over while the key was good, the other stays what is enforced.
    assert!(world.refuse(&source).await.to_string().contains("validity ended"));
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), commit);

    good.revoke().unwrap();
    source.verify = Some(signed_by(VerifyMode::Head, &[good.public().unwrap(), brief.public().unwrap()]));
    // What the key signed before it was revoked is no longer believed either.
    world.repo.git(&["branch", "bo", "main~2"]).unwrap();
    source.reference = branch("bo");
    let error = world.refuse(&source).await;
    assert!(error.to_string().contains("revoked"), "{error}");
}

#[tokio::test]
async fn one_permit_brings_back_a_rewritten_branch() {
    let (world, source, first) = accepted("believe-permit").await;
    let second = world.commit(&[("a.yaml", "a: secret that leaked\n")]);
    world.accept(&source).await;
    world.repo.set_ref("refs/heads/main", &first).unwrap();
    let third = world.commit(&[("a.yaml", "a: 3\n")]);
    refused(&world, &source, SourceErrorClass::WentBack, &["sign a permit"]).await;

    let permit = |key: &SshKey, to: &str, expires: &str| {
        world.publish_permit(&world.permit(key, &[&second], to, expires));
    };
    permit(&SshKey::named("eve"), &third, "2099-01-01T00:00:00Z");
    refused(&world, &source, SourceErrorClass::WentBack, &["the permit is signed by the key", "not among"]).await;
    permit(&world.ada, &third, "2020-01-01T00:00:00Z");
    refused(&world, &source, SourceErrorClass::WentBack, &["the permit expired at 2020"]).await;
    permit(&world.ada, &second, "2099-01-01T00:00:00Z");
    refused(&world, &source, SourceErrorClass::WentBack, &["does not descend from that"]).await;
    permit(&world.ada, &third, "2099-01-01T00:00:00Z");
    assert_eq!(world.accept(&source).await.commit().to_string(), third);
    // It was for this step alone.
    world.repo.set_ref("refs/heads/main", &first).unwrap();
    refused(&world, &source, SourceErrorClass::WentBack, &["the permit is for the step from"]).await;
}
