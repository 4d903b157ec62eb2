//! What a node's policy asks for beyond a signed tip: several signers, each commit signed, and by whom which path.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Value, json};
use wickie::config::Verification;
use wickie::config::git::{GitSource, VerifyMode};
use wickie::source::SourceErrorClass;
use wickie_testbench::{Signer, SshKey};

use crate::world::{World, chain, signed_by, tag};

const NOTES: &str = "refs/notes/wickie/signatures";

/// Ada and Ben, and what else the policy says.
fn policy(more: Value) -> Value {
    let mut policy = json!({
        "name": "fleet",
        "signers": {"ada": SshKey::named("ada").public(), "ben": SshKey::named("ben").public()}
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy
}

/// The source under a policy; the tenant's own Secret believes Eve too, which is to change nothing.
pub(crate) fn under(world: &World, policy: Value) -> GitSource {
    let mut source = world.source();
    let verification: Verification = serde_json::from_value(json!([policy])).unwrap();
    source.policy = verification.of(&source.name, &source.url.to_string());
    assert!(source.policy.is_some());
    let keys = ["ada", "ben", "eve"].map(|name| SshKey::named(name).public());
    source.verify = Some(signed_by(VerifyMode::Head, &keys));
    // Signatures are slow without optimisation, and there are many.
    source.timeout = std::time::Duration::from_secs(300);
    source
}

pub(crate) fn by(name: &str) -> Signer {
    SshKey::named(name).signer()
}

/// A commit that holds exactly these files, with these parents, on `main`.
pub(crate) fn commit(world: &World, parents: &[&str], files: &[(&str, &str)], signer: &Signer) -> String {
    for entry in std::fs::read_dir(world.repo.work()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    for (path, text) in files {
        world.repo.write(path, text).unwrap();
    }
    let mut draft = world.repo.draft("refs/heads/none", "a change").unwrap();
    draft.parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
    let commit = world.repo.object("commit", &draft.signed(signer).unwrap()).unwrap();
    world.repo.set_ref("refs/heads/main", &commit).unwrap();
    commit
}

/// Signs a commit in a note.
pub(crate) fn note(world: &World, commit: &str, signer: &str) {
    let bytes = world.repo.read_object(commit).unwrap();
    let signature = SshKey::named(signer).sign_for("git", &bytes).unwrap();
    note_text(world, commit, &signature);
}

fn note_text(world: &World, commit: &str, text: &str) {
    let file = world.scratch.path().join("note");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let git = ["-c", "user.name=A", "-c", "user.email=a@b", "notes", "--ref", NOTES, "append", "-F", &file, commit];
    world.repo.git(&git).unwrap();
}

/// A refusal that says all of these words and leaves what was accepted.
pub(crate) async fn refused(world: &World, source: &GitSource, words: &[&str]) {
    let before = world.git.load(source).await.unwrap().map(|snapshot| snapshot.commit());
    let error = world.refuse(source).await;
    let text = chain(&error);
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert_eq!(
        (error.class(), error.reason()),
        (SourceErrorClass::RefusedSignature, "InvalidCommitSignature"),
        "{text}"
    );
    assert_eq!(before, world.git.load(source).await.unwrap().map(|snapshot| snapshot.commit()));
}

/// Collected, restarted and with the server gone, it is believed again from what is in the store.
async fn holds_offline(world: World, source: &GitSource, commit: &str) -> World {
    world.git.collect().await.unwrap();
    let world = world.restarted();
    let before = world.server.requests().len();
    let snapshot = world.git.load(source).await.unwrap().expect("what was accepted is there");
    assert_eq!(snapshot.commit().to_string(), commit);
    assert_eq!(world.server.requests().len(), before);
    world
}

#[tokio::test]
async fn it_takes_several_signers_and_counts_each_once() {
    let world = World::new("policy-threshold");
    let source = under(&world, policy(json!({"threshold": 2})));
    let first = commit(&world, &[], &[("a.yaml", "a: 1\n")], &by("ada"));
    refused(&world, &source, &["signed by 1 of the 2 signers", "commit by", "(ada)"]).await;
    // The same signer again, somebody else's, one for another commit, words.
    note(&world, &first, "ada");
    refused(&world, &source, &["signed by 1 of the 2 signers"]).await;
    note(&world, &first, "eve");
    refused(&world, &source, &["signed by 1 of the 2 signers", "not among the allowed signers"]).await;
    let other = commit(&world, &[], &[("a.yaml", "a: 2\n")], &by("ada"));
    let bytes = world.repo.read_object(&other).unwrap();
    note_text(&world, &first, &SshKey::named("ben").sign_for("git", &bytes).unwrap());
    note_text(&world, &first, "looks good to me\n");
    world.repo.set_ref("refs/heads/main", &first).unwrap();
    refused(&world, &source, &["signed by 1 of the 2 signers", "does not fit its bytes"]).await;
    note(&world, &first, "ben");
    let accepted = world.accept(&source).await;
    let words = accepted.signer().unwrap().to_owned();
    assert!(words.contains("note by") && words.contains("(ben)"), "{words}");
    assert!(words.contains("policy fleet, 2 signers of 2"), "{words}");
    let world = holds_offline(world, &source, &first).await;
    // With nothing new it stays so, and costs one request.
    world.server.forget();
    assert!(world.poll(&source).await.outcome.is_ok());
    assert_eq!(world.server.requests().len(), 1);
}

#[tokio::test]
async fn a_signed_tag_counts_as_one_of_them() {
    let world = World::new("policy-tag");
    let mut source = under(&world, policy(json!({"threshold": 2})));
    source.reference = tag("v1");
    let first = commit(&world, &[], &[("a.yaml", "a: 1\n")], &by("ada"));
    world.repo.tag("v1", &first, "one", &by("ada")).unwrap();
    refused(&world, &source, &["signed by 1 of the 2 signers"]).await;
    world.repo.tag("v1", &first, "one", &by("ben")).unwrap();
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.starts_with("tag by") && words.contains("commit by"), "{words}");
}

#[tokio::test]
async fn notes_in_folders_are_found_too() {
    let world = World::new("policy-fanout");
    let source = under(&world, policy(json!({"threshold": 2})));
    let first = commit(&world, &[], &[("a.yaml", "a: 1\n")], &by("ada"));
    note(&world, &first, "ben");
    // As git itself lays them out once there are many.
    let blob = world.repo.git(&["rev-parse", &format!("{NOTES}:{first}")]).unwrap();
    let inner = format!("{}/{}/{}", &first[..2], &first[2..4], &first[4..]);
    let index = world.scratch.path().join("fanout.index");
    let bare = world.repo.bare().display().to_string();
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .env("GIT_INDEX_FILE", &index)
            .args(["--git-dir", &bare])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{inner}")]);
    let tree = git(&["write-tree"]);
    let tip = git(&["-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", &tree, "-m", "notes"]);
    world.repo.set_ref(NOTES, &tip).unwrap();
    world.accept(&source).await;
}

#[tokio::test]
async fn each_commit_since_the_last_accepted_one_is_signed() {
    let world = World::new("policy-history");
    let source = under(&world, policy(json!({"verify-history": "all"})));
    let first = commit(&world, &[], &[("a.yaml", "a: 1\n")], &Signer::Nobody);
    let second = commit(&world, &[&first], &[("a.yaml", "a: 2\n")], &by("ada"));
    // What came before the first contact is not looked at, and that is said.
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("the newest commit alone was judged"), "{words}");

    let hidden = commit(&world, &[&second], &[("a.yaml", "a: evil\n")], &Signer::Nobody);
    let third = commit(&world, &[&hidden], &[("a.yaml", "a: 3\n")], &by("ada"));
    refused(&world, &source, &[&hidden, "came since the last accepted one", "is not signed"]).await;
    // Merged from the side, it is no better.
    let merged = commit(&world, &[&second, &third], &[("a.yaml", "a: 3\n")], &by("ada"));
    refused(&world, &source, &[&hidden, "is not signed"]).await;
    // By Eve, whom the tenant's Secret believes and the node does not.
    let eves = commit(&world, &[&second], &[("a.yaml", "a: eve\n")], &by("eve"));
    commit(&world, &[&eves], &[("a.yaml", "a: 4\n")], &by("ben"));
    refused(&world, &source, &[&eves, "not among the allowed signers"]).await;
    // A signer vouches for it in a note.
    world.repo.set_ref("refs/heads/main", &merged).unwrap();
    note(&world, &hidden, "ben");
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains(&format!("3 commits since {} judged by signer", &second[..10])), "{words}");
    let world = holds_offline(world, &source, &merged).await;

    // What is kept for it is needed for it: without one of the commits, it is believed no more.
    let keep: HashSet<_> = world.store.evidence_objects().await.unwrap().into_iter().collect();
    let lost: wickie_model::Oid = hidden.parse().unwrap();
    assert!(keep.contains(&lost));
    let roots = world.store.roots().await.unwrap();
    let keep = keep.into_iter().chain(roots).filter(|oid| *oid != lost).collect();
    world.store.collect_objects(keep).await.unwrap();
    let error = world.git.load(&source).await.unwrap_err();
    assert!(chain(&error).contains(&hidden), "{}", chain(&error));
    // The next poll brings it back.
    assert!(world.poll(&source).await.outcome.is_ok());
    assert!(world.git.load(&source).await.unwrap().is_some());
}

#[tokio::test]
async fn history_is_bounded() {
    let world = World::new("policy-bounded");
    let mut source = under(&world, policy(json!({"verify-history": "all"})));
    source.limits.commits = 5;
    let mut tip = commit(&world, &[], &[("a.yaml", "a: 0\n")], &by("ada"));
    world.accept(&source).await;
    for number in 1..=7 {
        tip = commit(&world, &[&tip], &[("a.yaml", &format!("a: {number}\n"))], &by("ada"));
    }
    let error = chain(&world.refuse(&source).await);
    assert!(error.contains("more than 5 commits since the last accepted one"), "{error}");
}

/// A history that a server says is cut off: it does not send what lies before the merge.
#[tokio::test]
async fn a_commit_that_the_server_hides_is_not_taken_for_an_old_one() {
    let world = World::new("policy-hidden");
    let source = under(&world, policy(json!({"verify-history": "all"})));
    let first = commit(&world, &[], &[("a.yaml", "a: 1\n")], &by("ada"));
    world.accept(&source).await;
    let hidden = commit(&world, &[&first], &[("a.yaml", "a: evil\n")], &Signer::Nobody);
    let tip = commit(&world, &[&first, &hidden], &[("a.yaml", "a: evil\n")], &by("ada"));
    // The server holds the side branch back: as far as it goes, the history ends at `hidden`.
    let object = world.repo.bare().join(format!("objects/{}/{}", &hidden[..2], &hidden[2..]));
    let bytes = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    world.repo.set_ref("refs/heads/main", &tip).unwrap();
    let error = world.refuse(&source).await;
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), first, "{}", chain(&error));
    // A shallow repository serves such a history without complaint.
    std::fs::write(world.repo.bare().join("shallow"), format!("{tip}\n")).unwrap();
    refused(&world, &source, &["is not here"]).await;
    // Honest again, it is refused for what it is.
    std::fs::remove_file(world.repo.bare().join("shallow")).unwrap();
    std::fs::write(&object, bytes).unwrap();
    refused(&world, &source, &[&hidden, "is not signed"]).await;
}

const PROD: &str = "clusters/prod/a.yaml";
const DEV: &str = "clusters/dev/a.yaml";

fn teams() -> Value {
    policy(json!({"paths": [{"paths": ["clusters/prod"], "signers": ["ada"]}]}))
}

#[tokio::test]
async fn only_its_team_changes_a_path() {
    let world = World::new("policy-paths");
    let source = under(&world, teams());
    let first = commit(&world, &[], &[(PROD, "a: 1\n"), (DEV, "a: 1\n")], &by("ada"));
    world.accept(&source).await;

    let dev = commit(&world, &[&first], &[(PROD, "a: 1\n"), (DEV, "a: 2\n")], &by("ben"));
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("1 commit since") && words.contains("judged by path"), "{words}");

    for (files, what) in [
        (&[(PROD, "a: 9\n"), (DEV, "a: 2\n")][..], "changed"),
        (&[(DEV, "a: 2\n")], "deleted"),
        (&[(PROD, "a: 1\n"), (DEV, "a: 2\n"), ("clusters/prod/deep/down/new.yaml", "b\n")], "added"),
        (&[("clusters/prod", "now a file"), (DEV, "a: 2\n")], "replaced"),
    ] {
        let bens = commit(&world, &[&dev], files, &by("ben"));
        refused(&world, &source, &[&bens, "clusters/prod", "takes 1 of the signers [ada]", what_is_said(what)]).await;
        // Not even if Ada has signed what came after it.
        commit(&world, &[&bens], files, &by("ada"));
        refused(&world, &source, &[&bens, "clusters/prod"]).await;
    }
    // A permission that is changed is a change.
    commit(&world, &[&dev], &[(PROD, "a: 1\n"), (DEV, "a: 2\n")], &by("ben"));
    std::fs::set_permissions(world.repo.work().join(PROD), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let mut draft = world.repo.draft("refs/heads/none", "executable").unwrap();
    draft.parents = vec![dev.clone()];
    let bens = world.repo.object("commit", &draft.signed(&by("ben")).unwrap()).unwrap();
    world.repo.set_ref("refs/heads/main", &bens).unwrap();
    refused(&world, &source, &[&bens, PROD]).await;

    let prod = commit(&world, &[&dev], &[(PROD, "a: 2\n"), (DEV, "a: 2\n")], &by("ada"));
    world.accept(&source).await;
    // By Ben, and by Ada in a note.
    let both = commit(&world, &[&prod], &[(PROD, "a: 3\n"), (DEV, "a: 3\n")], &by("ben"));
    refused(&world, &source, &[&both, PROD]).await;
    note(&world, &both, "ada");
    world.accept(&source).await;
    holds_offline(world, &source, &both).await;
}

fn what_is_said(what: &str) -> &'static str {
    match what {
        "deleted" | "changed" => "clusters/prod/a.yaml",
        "added" => "clusters/prod/deep/down/new.yaml",
        _ => "clusters/prod",
    }
}

#[tokio::test]
async fn a_merge_answers_for_what_it_changes_itself() {
    let world = World::new("policy-merge");
    let source = under(&world, teams());
    let base = commit(&world, &[], &[(PROD, "a: 1\n"), (DEV, "a: 1\n")], &by("ada"));
    world.accept(&source).await;
    let adas = commit(&world, &[&base], &[(PROD, "a: 2\n"), (DEV, "a: 1\n")], &by("ada"));
    let bens = commit(&world, &[&base], &[(PROD, "a: 1\n"), (DEV, "a: 2\n")], &by("ben"));

    // An evil merge: what neither parent has.
    let evil = commit(&world, &[&bens, &adas], &[(PROD, "a: 666\n"), (DEV, "a: 2\n")], &by("ben"));
    refused(&world, &source, &[&evil, PROD]).await;
    // Another one: Ada's change is undone by taking the older version that Ben's side has, whichever parent is first.
    for parents in [[&bens, &adas], [&adas, &bens]] {
        let parents = parents.map(String::as_str);
        let undone = commit(&world, &parents, &[(PROD, "a: 1\n"), (DEV, "a: 2\n")], &by("ben"));
        refused(&world, &source, &[&undone, PROD]).await;
    }
    // An honest one, by the one who may not change the path: Ada's commit is judged for it.
    let honest = commit(&world, &[&bens, &adas], &[(PROD, "a: 2\n"), (DEV, "a: 2\n")], &by("ben"));
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("3 commits since"), "{words}");

    // A merge that changes nothing against its first parent, and takes an old commit's version of everything.
    let old = commit(&world, &[&honest, &base], &[(PROD, "a: 1\n"), (DEV, "a: 2\n")], &by("ben"));
    refused(&world, &source, &[&old, PROD]).await;
    // Ada may undo her own.
    commit(&world, &[&honest, &base], &[(PROD, "a: 1\n"), (DEV, "a: 2\n")], &by("ada"));
    world.accept(&source).await;
}

#[tokio::test]
async fn a_branch_that_left_long_ago_is_merged() {
    let world = World::new("policy-old-branch");
    let source = under(
        &world,
        policy(json!({
            "verify-history": "all",
            "paths": [{"paths": ["clusters/prod"], "signers": ["ada"]}]
        })),
    );
    let root = commit(&world, &[], &[(PROD, "a: 0\n"), (DEV, "a: 0\n")], &Signer::Nobody);
    let mut main = root.clone();
    for number in 1..=30 {
        let (prod, dev) = (format!("a: {number}\n"), format!("a: {number}\n"));
        main = commit(&world, &[&main], &[(PROD, &prod), (DEV, &dev)], &Signer::Nobody);
    }
    let accepted = commit(&world, &[&main], &[(PROD, "a: 31\n"), (DEV, "a: 31\n")], &by("ada"));
    world.accept(&source).await;
    // It left at the root, long before what was accepted first; what lies between is shown, and not judged.
    let side = commit(&world, &[&root], &[(PROD, "a: 0\n"), (DEV, "a: 0\n"), ("new.yaml", "b\n")], &by("ben"));
    let whole = [(PROD, "a: 31\n"), (DEV, "a: 31\n"), ("new.yaml", "b\n")];
    let undoes = [(PROD, "a: 0\n"), (DEV, "a: 31\n"), ("new.yaml", "b\n")];
    let evil = commit(&world, &[&side, &accepted], &undoes, &by("ben"));
    refused(&world, &source, &[&evil, PROD]).await;
    let merged = commit(&world, &[&accepted, &side], &whole, &by("ben"));
    let words = world.accept(&source).await.signer().unwrap().to_owned();
    assert!(words.contains("2 commits since"), "{words}");
    let world = holds_offline(world, &source, &merged).await;
    // And so on from there.
    let next = commit(&world, &[&merged], &[(PROD, "a: 31\n"), (DEV, "a: 32\n"), ("new.yaml", "b\n")], &by("ben"));
    world.accept(&source).await;
    holds_offline(world, &source, &next).await;
}

#[tokio::test]
async fn folders_that_are_not_fetched_are_judged_all_the_same() {
    let world = World::new("policy-scope");
    let mut source = under(&world, teams());
    source.paths = Some(vec!["clusters/dev".to_owned()]);
    let first = commit(&world, &[], &[(PROD, "a: 1\n"), (DEV, "a: 1\n")], &by("ada"));
    world.accept(&source).await;
    let bens = commit(&world, &[&first], &[(PROD, "a: 2\n"), (DEV, "a: 2\n")], &by("ben"));
    refused(&world, &source, &[&bens, PROD]).await;
    let adas = commit(&world, &[&first], &[(PROD, "a: 2\n"), (DEV, "a: 2\n")], &by("ada"));
    world.accept(&source).await;
    holds_offline(world, &source, &adas).await;
}

#[tokio::test]
async fn a_policy_that_comes_later_does_not_take_away_what_is_enforced() {
    let world = World::new("policy-later");
    let first = commit(&world, &[], &[(PROD, "a: 1\n")], &by("ada"));
    world.accept(&world.source()).await;
    let second = commit(&world, &[&first], &[(PROD, "a: 2\n")], &by("ada"));
    world.accept(&world.source()).await;
    let source = under(&world, policy(json!({"verify-history": "all"})));
    assert_eq!(world.git.load(&source).await.unwrap().unwrap().commit().to_string(), second);
    // But its signers hold at once.
    let strict = under(&world, json!({"name": "fleet", "signers": {"ben": SshKey::named("ben").public()}}));
    assert!(world.git.load(&strict).await.is_err());
    let third = commit(&world, &[&second], &[(PROD, "a: 3\n")], &Signer::Nobody);
    commit(&world, &[&third], &[(PROD, "a: 4\n")], &by("ada"));
    refused(&world, &source, &[&third, "is not signed"]).await;
}

#[tokio::test]
async fn a_tenant_s_signer_gives_no_leave_for_a_step_back() {
    let world = World::new("policy-permit");
    let source = under(&world, policy(json!({})));
    let first = commit(&world, &[], &[("a.yaml", "a: 1\n")], &by("ada"));
    let second = commit(&world, &[&first], &[("a.yaml", "a: 2\n")], &by("ada"));
    world.accept(&source).await;
    world.repo.set_ref("refs/heads/main", &first).unwrap();
    let permit = |signer: &str| {
        let text = format!(
            "wickie permit 1\nsource flux-system/fleet\nfrom {second}\nto {first}\nexpires 2099-01-01T00:00:00Z\n"
        );
        let signature = SshKey::named(signer).sign_for("wickie-permit", text.as_bytes()).unwrap();
        let blob = world.repo.object("blob", format!("{text}{signature}").as_bytes()).unwrap();
        world.repo.set_ref("refs/wickie/permits/1", &blob).unwrap();
    };
    permit("eve");
    let error = world.git.poll(&source, Timestamp::now()).await.outcome.unwrap_err();
    assert_eq!(error.class(), SourceErrorClass::WentBack, "{error}");
    permit("ben");
    world.accept(&source).await;
}
