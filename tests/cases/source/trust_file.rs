//! Signers change by what the repository itself carries, and by nothing less than its signers' word.

use serde_json::{Value, json};
use wickie::config::git::GitSource;
use wickie_testbench::{Signer, SshKey};

use crate::policy::{by, commit, note, refused, under};
use crate::world::World;

/// A version of the trust file with its signatures.
#[derive(Clone)]
struct Version {
    number: u64,
    threshold: u32,
    signers: Vec<&'static str>,
    revoked: Vec<&'static str>,
    expires: &'static str,
    by: Vec<&'static str>,
}

impl Version {
    fn new(number: u64, signers: &[&'static str], by: &[&'static str]) -> Self {
        let (signers, by) = (signers.to_vec(), by.to_vec());
        Self { number, threshold: 1, signers, revoked: Vec::new(), expires: "2099-01-01T00:00:00Z", by }
    }

    fn text(&self) -> String {
        let signers: String =
            self.signers.iter().map(|name| format!("  {name}: {}\n", SshKey::named(name).public())).collect();
        let revoked: Vec<String> =
            self.revoked.iter().map(|name| format!("\"{}\"", SshKey::named(name).fingerprint())).collect();
        format!(
            "apiVersion: wickie.dev/v1\nkind: Trust\nversion: {}\nexpires: {}\nthreshold: {}\nsigners:\n{signers}revoked: [{}]\n",
            self.number,
            self.expires,
            self.threshold,
            revoked.join(", ")
        )
    }

    fn files(&self) -> [(String, String); 2] {
        let text = self.text();
        let signatures: String = self
            .by
            .iter()
            .map(|name| SshKey::named(name).sign_for("wickie-trust", text.as_bytes()).unwrap())
            .collect::<Vec<_>>()
            .join("\n");
        [
            (format!(".wickie/trust/{}.yaml", self.number), text),
            (format!(".wickie/trust/{}.sig", self.number), signatures),
        ]
    }
}

/// A commit with these versions, and a file that says which commit it is.
fn carrying(world: &World, parents: &[&str], versions: &[Version], what: &str, signer: &Signer) -> String {
    let mut files: Vec<(String, String)> = versions.iter().flat_map(Version::files).collect();
    files.push(("a.yaml".to_owned(), format!("a: {what}\n")));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    commit(world, parents, &files, signer)
}

fn source(world: &World, more: Value) -> GitSource {
    let mut policy = json!({
        "name": "fleet", "trust-file": true, "signers": {"ada": SshKey::named("ada").public()}
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    under(world, policy)
}

/// The first two of many hands that the trust goes through, each signing over to the next.
fn relay(hands: &[&'static str]) -> Vec<Version> {
    let mut before = "ada";
    let mut versions = Vec::new();
    for (number, hand) in hands.iter().enumerate() {
        versions.push(Version::new(number as u64 + 1, &[hand], &[before, hand]));
        before = hand;
    }
    versions
}

async fn version(world: &World) -> u64 {
    world.store.trusted("fleet").await.unwrap().last_key_value().map_or(0, |(version, _)| *version)
}

#[tokio::test]
async fn signers_are_rotated() {
    let world = World::new("trust-rotated");
    let source = source(&world, json!({}));
    let versions = relay(&["ada", "ben"]);
    let first = carrying(&world, &[], &[], "0", &by("ada"));
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("no trust file yet"), "{words}");
    let second = carrying(&world, &[&first], &versions[..1], "1", &by("ada"));
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("trust file version 1"), "{words}");
    // Ben is not among them before Ada has said so.
    carrying(&world, &[&second], &versions[..1], "2", &by("ben"));
    refused(&world, &source, &["not among the allowed signers"]).await;
    let third = carrying(&world, &[&second], &versions, "2", &by("ben"));
    world.accept(&source).await;
    assert_eq!(version(&world).await, 2);
    carrying(&world, &[&third], &versions, "3", &by("ada"));
    refused(&world, &source, &["not among the allowed signers"]).await;
    // It is remembered, also where the repository does not carry it any more.
    let world = world.restarted();
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), third);
    carrying(&world, &[&third], &[], "4", &by("ada"));
    refused(&world, &source, &["not among the allowed signers"]).await;
    // Nor is it forgotten with the source.
    world.store.forget_source(&source.name).await.unwrap();
    let error = world.refuse(&source).await.to_string();
    assert!(error.contains("not among the allowed signers"), "{error}");
}

#[tokio::test]
async fn a_node_that_is_five_rotations_behind_catches_up() {
    let world = World::new("trust-behind");
    let source = source(&world, json!({"verify-history": "all"}));
    let hands = ["ada", "ben", "cy", "dee", "eli", "fay"];
    let mut versions = relay(&hands);
    // What expired on the way is no obstacle; the last one must not have.
    for version in &mut versions[1..5] {
        version.expires = "2020-01-01T00:00:00Z";
    }
    let mut tip = carrying(&world, &[], &versions[..1], "0", &by("ada"));
    world.accept(&source).await;
    for (number, hand) in hands.iter().enumerate().skip(1) {
        // Each takes over with a commit of its own, and makes another.
        tip = carrying(&world, &[&tip], &versions[..=number], "rotated", &by(hand));
        tip = carrying(&world, &[&tip], &versions[..=number], &format!("{number}"), &by(hand));
    }
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("trust file version 6") && words.contains("10 commits since"), "{words}");
    world.git.collect().await.unwrap();
    let world = world.restarted();
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), tip);
    // Who was a signer on the way is none now.
    carrying(&world, &[&tip], &versions, "cy again", &by("cy"));
    refused(&world, &source, &["not among the allowed signers"]).await;
    // One who has never seen the repository comes to the same.
    let world = world.emptied();
    world.repo.set_ref("refs/heads/main", &tip).unwrap();
    world.accept(&source).await;
    assert_eq!(version(&world).await, 6);
}

#[tokio::test]
async fn nothing_is_skipped_forged_or_replaced() {
    let world = World::new("trust-attacks");
    let source = source(&world, json!({}));
    let one = Version { threshold: 2, ..Version::new(1, &["ada", "ben", "cy"], &["ada", "ben"]) };
    let first = carrying(&world, &[], std::slice::from_ref(&one), "0", &by("ada"));
    world.accept(&source).await;
    let two = Version { threshold: 2, ..Version::new(2, &["ada", "ben", "eve"], &["ada", "ben"]) };
    let attempts = [
        (vec![one.clone(), Version { by: vec!["ada"], ..two.clone() }], "signed by 1 of the 2 signers that version 1"),
        (vec![one.clone(), Version { by: vec!["ada", "ada"], ..two.clone() }], "signed by 1 of the 2 signers"),
        (
            vec![one.clone(), Version { by: vec!["ada", "eve"], ..two.clone() }],
            "signed by 1 of the 2 signers that version 1",
        ),
        (
            vec![one.clone(), Version { by: vec!["ada", "cy"], ..two.clone() }],
            "signed by 1 of the 2 signers that version 2",
        ),
        (vec![one.clone(), Version { by: vec![], ..two.clone() }], "signed by 0 of the 2"),
        (vec![one.clone(), Version { number: 3, ..two.clone() }], "says version 3 where version 2 belongs"),
        (
            vec![Version { signers: vec!["ada", "eve"], ..one.clone() }],
            "another one than the version 1 that is trusted",
        ),
    ];
    for (versions, words) in attempts {
        carrying(&world, &[&first], &versions, "x", &by("ada"));
        refused(&world, &source, &[words]).await;
        assert_eq!(version(&world).await, 1);
    }
    // A document under another number than its own, and one that is none.
    for (path, text) in [(".wickie/trust/2.yaml", one.text()), (".wickie/trust/2.yaml", "kind: [".to_owned())] {
        let [document, signatures] = one.files();
        let files = [(&document.0, &document.1), (&signatures.0, &signatures.1), (&path.to_owned(), &text)];
        let files: Vec<(&str, &str)> = files.map(|(path, text)| (path.as_str(), text.as_str())).to_vec();
        commit(&world, &[&first], &files, &by("ada"));
        refused(&world, &source, &["the trust file"]).await;
    }
    carrying(&world, &[&first], &[one, two], "1", &by("eve"));
    world.accept(&source).await;
    assert_eq!(version(&world).await, 2);
}

#[tokio::test]
async fn a_revoked_signer_is_refused_from_then_on() {
    let world = World::new("trust-revoked");
    let source = source(&world, json!({"verify-history": "all"}));
    let one = Version::new(1, &["ada", "ben"], &["ada"]);
    let first = carrying(&world, &[], std::slice::from_ref(&one), "0", &by("ada"));
    world.accept(&source).await;
    let second = carrying(&world, &[&first], std::slice::from_ref(&one), "1", &by("ben"));
    world.accept(&source).await;
    // Ben's key was stolen. The revocation is taken over even though the commit that brings it is refused.
    let two = Version { revoked: vec!["ben"], ..Version::new(2, &["ada"], &["ada"]) };
    let bens = carrying(&world, &[&second], &[one.clone(), two.clone()], "2", &by("ben"));
    refused(&world, &source, &["whose key was revoked"]).await;
    assert_eq!(version(&world).await, 2);
    // What was accepted by his word before goes on to be enforced, also after a restart.
    let world = world.restarted();
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), second);
    // Behind a good commit it is refused too, also if it carries the old version.
    let old = carrying(&world, &[&second], std::slice::from_ref(&one), "3", &by("ben"));
    carrying(&world, &[&old], &[one.clone(), two.clone()], "4", &by("ada"));
    refused(&world, &source, &[&old, "whose key was revoked"]).await;
    let third = carrying(&world, &[&second], &[one.clone(), two.clone()], "5", &by("ada"));
    world.accept(&source).await;
    // A revocation is not taken back.
    let three = Version::new(3, &["ada", "ben"], &["ada"]);
    carrying(&world, &[&third], &[one, two, three], "6", &by("ada"));
    refused(&world, &source, &["takes back the revocation"]).await;
    let _ = bens;
}

#[tokio::test]
async fn what_a_revoked_signer_left_on_the_way_is_vouched_for_by_another() {
    let world = World::new("trust-vouched");
    let source = source(&world, json!({"verify-history": "all"}));
    let one = Version::new(1, &["ada", "ben"], &["ada"]);
    let first = carrying(&world, &[], std::slice::from_ref(&one), "0", &by("ada"));
    world.accept(&source).await;
    // A node that was away sees Ben's honest commit and his revocation at once.
    let honest = carrying(&world, &[&first], std::slice::from_ref(&one), "1", &by("ben"));
    let two = Version { revoked: vec!["ben"], ..Version::new(2, &["ada"], &["ada"]) };
    carrying(&world, &[&honest], &[one, two], "2", &by("ada"));
    refused(&world, &source, &[&honest, "whose key was revoked", "sign it in a note"]).await;
    note(&world, &honest, "ada");
    world.accept(&source).await;
}

#[tokio::test]
async fn an_expired_trust_file_adopts_nothing_and_takes_nothing_away() {
    let world = World::new("trust-expired");
    let source = source(&world, json!({}));
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let soon: &'static str = Box::leak(soon.to_string().into_boxed_str());
    let one = Version { expires: soon, ..Version::new(1, &["ada"], &["ada"]) };
    let first = carrying(&world, &[], std::slice::from_ref(&one), "0", &by("ada"));
    world.accept(&source).await;
    let second = carrying(&world, &[&first], std::slice::from_ref(&one), "1", &by("ada"));
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let error = world.git.poll(&source, later).await.outcome.unwrap_err().to_string();
    assert!(error.contains("version 1 of the trust file expired at"), "{error}");
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), first);
    // The next version mends it.
    let two = Version::new(2, &["ada"], &["ada"]);
    carrying(&world, &[&second], &[one, two], "2", &by("ada"));
    assert!(world.git.poll(&source, later).await.outcome.is_ok());
}

#[tokio::test]
async fn the_first_version_needs_those_whom_the_node_trusts() {
    let world = World::new("trust-first");
    let source = source(&world, json!({}));
    carrying(&world, &[], &[Version::new(1, &["eve"], &["eve"])], "0", &by("eve"));
    refused(&world, &source, &["of the 1 signers that the node's configuration asks for"]).await;
    // A node that was set up later knows the signers of a later version alone.
    let versions = [Version::new(1, &["zoe"], &["zoe"]), Version::new(2, &["ada"], &["zoe", "ada"])];
    carrying(&world, &[], &versions, "1", &by("ada"));
    world.accept(&source).await;
    assert_eq!(version(&world).await, 2);
}
