//! Polls and steps of history in a repository of 1,000 manifests (1.2 MB).

use wickie_testbench::{Signer, histories};

use crate::judge::Judge;
use crate::stand::{RealGit, Stand, Wickie, heading, row};

/// Those who follow the repository: wickie, a git that keeps all of it, and one that keeps the last commit alone.
struct Followers<'a> {
    stand: &'a Stand,
    wickie: Wickie,
    whole: RealGit<'a>,
    shallow: RealGit<'a>,
}

impl Followers<'_> {
    /// Lets all of them take a step, and says what it cost each.
    async fn step(&self, what: &str, step: impl Fn(&wickie_testbench::Repo, &Signer)) -> u64 {
        step(&self.stand.repo, &self.stand.signer());
        let cost = self.wickie.poll().await;
        heading(what);
        row("wickie", cost);
        row("git fetch in a full clone", self.whole.run(&["fetch", "--quiet", "origin", "main"]).await);
        row("git fetch --depth 1 in a shallow clone", self.shallow.run(SHALLOW).await);
        row("git clone --depth 1, anew for each commit", RealGit::new(self.stand, "anew").clone(&["--depth=1"]).await);
        cost.bodies
    }
}

const SHALLOW: &[&str] = &["fetch", "--quiet", "--depth=1", "origin", "main"];

pub(crate) async fn run(judge: &mut Judge) {
    let stand = Stand::new("thin-link");
    histories::manifests(&stand.repo, 1_000, &stand.signer()).unwrap();
    stand.repo.git(&["repack", "-adq"]).unwrap();
    let wickie = Wickie::new(&stand, "wickie", None);
    let followers = Followers {
        wickie,
        whole: RealGit::new(&stand, "whole"),
        shallow: RealGit::new(&stand, "shallow"),
        stand: &stand,
    };
    heading("First fetch of 1,000 manifests (1.2 MB)");
    row("wickie", followers.wickie.poll().await);
    row("git clone", followers.whole.clone(&[]).await);
    row("git clone --depth 1", followers.shallow.clone(&["--depth=1"]).await);

    heading("A poll with nothing new");
    let kept = followers.wickie.poll().await;
    row("wickie, connection kept", kept);
    followers.wickie.disconnect();
    row("wickie, new connection, TLS session resumed", followers.wickie.poll().await);
    let followers = Followers { wickie: followers.wickie.restarted(), ..followers };
    row("wickie, new connection and session", followers.wickie.poll().await);
    row("git ls-remote", followers.whole.run(&["ls-remote", "URL", "refs/heads/main"]).await);
    judge.at_most("requests of a poll with nothing new", kept.requests as f64, 1.0);
    judge.at_most("bytes of a poll with nothing new", kept.bodies as f64, 200.0);

    let one =
        followers.step("One line more in one manifest", |repo, by| drop(histories::one_line(repo, by).unwrap())).await;
    judge.at_most("bytes of a one-line commit", one as f64, 1_500.0);
    let fork = |repo: &_, by: &_| histories::fork(repo, 250, by).unwrap();
    followers.step("250 commits of one line each, at once", fork).await;
    let merge = |repo: &_, by: &_| drop(histories::merge(repo, by).unwrap());
    let merged = followers.step("A branch of one line, forked 250 commits ago, is merged", merge).await;
    judge.at_most("bytes of a merge of a branch from long ago", merged as f64, 10_240.0);
    followers.step("Ten commits squashed into one", |repo, by| drop(histories::squash(repo, by).unwrap())).await;
    followers.step("The squash is reverted", |repo, by| drop(histories::revert(repo, by).unwrap())).await;
    let rename = |repo: &_, by: &_| drop(histories::rename_folder(repo, by).unwrap());
    followers.step("A folder of 100 manifests is renamed", rename).await;
}
