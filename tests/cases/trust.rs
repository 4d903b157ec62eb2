//! What nobody trusted has signed is never applied; what was believed before stays enforced, and everybody hears why.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use wickie_testbench::{Agent, Fleet, PgpKey, Receiver, Scratch, Signer, SshKey, eventually, need};

use crate::heard::*;
use crate::node::*;

/// A node that runs, and what it must refuse.
struct Watch {
    fleet: Fleet,
    maps: Api<ConfigMap>,
    receiver: Receiver,
    agent: Agent,
    refused: usize,
}

/// How a forgery is offered, and taken back.
struct Forgery<'a> {
    reference: &'a str,
    /// What stands there.
    object: &'a str,
    /// The commit that it leads to.
    commit: &'a str,
    /// What status and report must say of it.
    says: &'a [&'a str],
    reason: &'a str,
}

const SIGNATURE: &str = "InvalidCommitSignature";

impl Watch {
    /// A repository with an honest commit and its tag v1.0.0, and a node that has applied what `reference` names there.
    async fn start(name: &str, reference: &str, mode: &str, signers: &[(&str, String)], signer: &Signer) -> Self {
        let (fleet, client) = fleet(name).await;
        let maps = maps(&fleet, &client);
        fleet.write_map("a.yaml", "a", "1").unwrap();
        let first = fleet.repo.commit("first", signer).unwrap();
        fleet.repo.tag("v1.0.0", &first, "v1.0.0", signer).unwrap();
        let receiver = Receiver::start().unwrap();
        report_to(&fleet, &receiver);
        let keys: String = signers
            .iter()
            .map(|(name, key)| format!("  {name}: |\n    {}\n", key.trim_end().replace('\n', "\n    ")))
            .collect();
        let text = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: fleet}}
spec:
  url: {}
  interval: 1s
  ref: {{{reference}}}
  verify: {{mode: {mode}, secretRef: {{name: signers}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: signers}}
stringData:
{keys}",
            fleet.git.url("fleet"),
        );
        fleet.configure("fleet.yaml", &text).unwrap();
        fleet.keep("apps", "").unwrap();
        let mut agent = fleet.start().unwrap();
        value_becomes(&mut agent, &maps, "a", Some("1")).await;
        Self { fleet, maps, receiver, agent, refused: 0 }
    }

    /// A tree with an object of its own, so that it shows if it was ever applied.
    fn forge(&mut self) -> String {
        self.refused += 1;
        let name = format!("forged-{}", self.refused);
        self.fleet.write_map("a.yaml", "a", &name).unwrap();
        self.fleet.write_map("forged.yaml", &name, "forged").unwrap();
        let tree = self.fleet.repo.draft("refs/heads/main", "forged").unwrap().tree;
        self.fleet.write_map("a.yaml", "a", "1").unwrap();
        self.fleet.repo.remove("forged.yaml").unwrap();
        tree
    }

    /// A commit of [`Watch::forge`], signed so.
    fn forged_commit(&mut self, signer: &Signer) -> String {
        let mut draft = self.fleet.repo.draft("refs/heads/main", "forged").unwrap();
        draft.tree = self.forge();
        self.fleet.repo.object("commit", &draft.signed(signer).unwrap()).unwrap()
    }

    /// Offers a forgery: it must be refused in words, and the old snapshot stay enforced; then it is taken back.
    async fn refuses(&mut self, forgery: Forgery<'_>) {
        let Forgery { reference, object, commit, says, reason } = forgery;
        let repo = &self.fleet.repo;
        let before = repo.id(reference).ok();
        repo.set_ref(reference, object).unwrap();
        let fits = |message: &str| message.contains(commit) && says.iter().all(|say| message.contains(say));
        let what = format!("the source refuses {commit}: {says:?}");
        let status = status_becomes(&self.agent, &what, |status| {
            let ready = &status["sources"][0]["ready"];
            ready["status"] == "False" && ready["message"].as_str().is_some_and(fits)
        })
        .await;
        assert_eq!(status["sources"][0]["ready"]["reason"], reason, "{status:#}");
        assert_eq!(kustomization(&status, "apps")["ready"]["status"], "True", "{status:#}");

        // Drift is still repaired, to what was believed before.
        change_by_hand(&self.maps, "a", "by hand").await;
        value_becomes(&mut self.agent, &self.maps, "a", Some("1")).await;
        assert_eq!(value_of(&self.maps, &format!("forged-{}", self.refused)).await.unwrap(), None);

        let told = eventually(&format!("the report that {commit} is refused"), LONG, || async {
            let heard = heard(&self.receiver).0;
            heard.into_iter().find(|heard| heard.reason == reason && fits(&heard.message)).ok_or("not told yet")
        })
        .await;
        assert_eq!((told.about.as_str(), told.severity.as_str()), ("GitRepository/fleet", "error"));

        match before {
            Some(before) => repo.set_ref(reference, &before).unwrap(),
            None => repo.git(&["update-ref", "-d", reference]).map(drop).unwrap(),
        }
        status_becomes(&self.agent, "the source is ready again", |status| {
            status["sources"][0]["ready"]["status"] == "True"
        })
        .await;
    }

    /// Nothing was ever accepted but these commits.
    async fn ends(mut self, honest: &[&str]) {
        let heard = everything_is_heard(&self.agent, &self.receiver).await;
        let accepted: Vec<_> = heard.iter().filter(|heard| heard.reason == "NewArtifact").collect();
        assert_eq!(accepted.len(), honest.len(), "{accepted:#?}");
        for (heard, commit) in accepted.iter().zip(honest) {
            assert!(heard.revision.ends_with(commit), "{heard:?} is not {commit}");
        }
        assert!(!heard.iter().any(|heard| heard.message.contains("forged-")), "{heard:#?}");
        self.agent.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_that_is_unsigned_foreign_or_changed_is_refused_by_name() {
    let (ada, mallory) = (SshKey::named("ada"), SshKey::named("mallory"));
    let mut watch = Watch::start("trust", "branch: main", "HEAD", &[("ada.pub", ada.public())], &ada.signer()).await;
    let first = watch.fleet.repo.id("refs/heads/main").unwrap();
    let main = "refs/heads/main";
    let (ada_print, mallory_print) = (ada.fingerprint(), mallory.fingerprint());

    let unsigned = watch.forged_commit(&Signer::Nobody);
    let says = &["is not signed"];
    watch.refuses(Forgery { reference: main, object: &unsigned, commit: &unsigned, says, reason: SIGNATURE }).await;

    let foreign = watch.forged_commit(&mallory.signer());
    let says = &[mallory_print.as_str(), "not among the allowed signers"];
    watch.refuses(Forgery { reference: main, object: &foreign, commit: &foreign, says, reason: SIGNATURE }).await;

    // One byte of a signed commit.
    let signed = watch.forged_commit(&ada.signer());
    let changed = watch.fleet.repo.tampered(&signed, "forged\n", "forgeD\n").unwrap();
    let says = &[ada_print.as_str(), "changed after signing"];
    watch.refuses(Forgery { reference: main, object: &changed, commit: &changed, says, reason: SIGNATURE }).await;

    // A believed signature over other files.
    let tree = watch.fleet.repo.id(&format!("{first}^{{tree}}")).unwrap();
    let other = watch.forge();
    let moved = watch.fleet.repo.tampered(&first, &tree, &other).unwrap();
    watch.refuses(Forgery { reference: main, object: &moved, commit: &moved, says, reason: SIGNATURE }).await;

    // Signed by the right key, for another purpose.
    let mut draft = watch.fleet.repo.draft(main, "forged").unwrap();
    draft.tree = watch.forge();
    let signature = ada.sign_for("file", &draft.bytes(None)).unwrap();
    let purpose = watch.fleet.repo.object("commit", &draft.bytes(Some(&signature))).unwrap();
    let says = &[ada_print.as_str(), "namespace \"file\""];
    watch.refuses(Forgery { reference: main, object: &purpose, commit: &purpose, says, reason: SIGNATURE }).await;

    // Nor is it believed by an agent that starts while it is offered; and what is honest goes on from the last good one.
    watch.fleet.repo.set_ref(main, &foreign).unwrap();
    watch.agent.kill9();
    change_by_hand(&watch.maps, "a", "by hand").await;
    watch.agent.restart().unwrap();
    value_becomes(&mut watch.agent, &watch.maps, "a", Some("1")).await;
    watch.fleet.repo.set_ref(main, &first).unwrap();
    watch.fleet.write_map("a.yaml", "a", "2").unwrap();
    let second = watch.fleet.commit("honest").unwrap();
    value_becomes(&mut watch.agent, &watch.maps, "a", Some("2")).await;
    watch.ends(&[&first, &second]).await;
}

#[tokio::test]
async fn a_forged_tag_is_refused_by_name() {
    for (mode, reference) in [("Tag", "tag: v1.0.0"), ("TagAndHEAD", "semver: '>=1.0.0'")] {
        forged_tags(mode, reference).await;
    }
}

async fn forged_tags(mode: &str, reference: &str) {
    let (ada, mallory) = (SshKey::named("ada"), SshKey::named("mallory"));
    let signers = [("ada.pub", ada.public())];
    let mut watch = Watch::start("trust-tags", reference, mode, &signers, &ada.signer()).await;
    let repo = watch.fleet.repo.clone();
    let first = repo.id("refs/heads/main").unwrap();
    let (ada_print, mallory_print) = (ada.fingerprint(), mallory.fingerprint());

    // A tag never moves, whoever signs that it does.
    let commit = watch.forged_commit(&ada.signer());
    let honest = repo.id("refs/tags/v1.0.0").unwrap();
    let moved = repo.tag("v1.0.0", &commit, "moved", &ada.signer()).unwrap();
    repo.set_ref("refs/tags/v1.0.0", &honest).unwrap();
    let (tag, says) = ("refs/tags/v1.0.0", &["history went back", "tag moved"]);
    let reason = "GitOperationFailed";
    watch.refuses(Forgery { reference: tag, object: &moved, commit: &commit, says, reason }).await;

    if mode == "TagAndHEAD" {
        let next = "refs/tags/v1.1.0";
        let made = |target: &str, signer: &Signer| {
            let tag = repo.tag("v1.1.0", target, "v1.1.0", signer).unwrap();
            repo.git(&["update-ref", "-d", next]).unwrap();
            tag
        };
        let commit = watch.forged_commit(&ada.signer());
        let says = &["tag v1.1.0", "is not signed"];
        watch.refuses(Forgery { reference: next, object: &commit, commit: &commit, says, reason: SIGNATURE }).await;
        let object = made(&commit, &Signer::Nobody);
        watch.refuses(Forgery { reference: next, object: &object, commit: &commit, says, reason: SIGNATURE }).await;

        let object = made(&commit, &mallory.signer());
        let says = &["tag v1.1.0", mallory_print.as_str(), "not among the allowed signers"];
        watch.refuses(Forgery { reference: next, object: &object, commit: &commit, says, reason: SIGNATURE }).await;

        let signed = made(&commit, &ada.signer());
        let object = repo.tampered(&signed, "Ada", "Eve").unwrap();
        let says = &["tag v1.1.0", ada_print.as_str(), "changed after signing"];
        watch.refuses(Forgery { reference: next, object: &object, commit: &commit, says, reason: SIGNATURE }).await;

        // A believed tag object under a higher name.
        let says = &["\"v1.1.0\"", "\"v1.0.0\""];
        watch.refuses(Forgery { reference: next, object: &honest, commit: &first, says, reason: SIGNATURE }).await;

        // A believed tag on a commit by somebody else.
        let commit = watch.forged_commit(&mallory.signer());
        let object = made(&commit, &ada.signer());
        let says = &[mallory_print.as_str(), "not among the allowed signers"];
        watch.refuses(Forgery { reference: next, object: &object, commit: &commit, says, reason: SIGNATURE }).await;
    }
    watch.ends(&[&first]).await;
}

#[tokio::test]
async fn pgp_signatures_are_told_apart_too() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let homes = Scratch::new("gpg");
    let key = |name: &str| PgpKey::generate(&homes.join(name), &format!("{name} <{name}@example.com>"), "0").unwrap();
    let (ada, mallory) = (key("ada"), key("mallory"));
    let signers = [("ada.asc", ada.public().unwrap())];
    let mut watch = Watch::start("trust-pgp", "branch: main", "HEAD", &signers, &ada.signer()).await;
    let main = "refs/heads/main";
    let first = watch.fleet.repo.id(main).unwrap();

    let foreign = watch.forged_commit(&mallory.signer());
    let key = mallory.fingerprint().to_owned();
    let says = &[&key[24..], "not among the allowed signers"];
    watch.refuses(Forgery { reference: main, object: &foreign, commit: &foreign, says, reason: SIGNATURE }).await;

    let signed = watch.forged_commit(&ada.signer());
    let changed = watch.fleet.repo.tampered(&signed, "forged\n", "forgeD\n").unwrap();
    let key = ada.fingerprint().to_owned();
    let says = &[&key[24..], "changed after signing"];
    watch.refuses(Forgery { reference: main, object: &changed, commit: &changed, says, reason: SIGNATURE }).await;
    watch.ends(&[&first]).await;
}
