//! Repositories and steps of history on which figures are taken, by tests and benches alike.

use std::fs;

use anyhow::{Context, Result};

use crate::manifests;
use crate::repo::Repo;
use crate::signer::Signer;

/// `count` manifests of about 1.2 KB, each in a file of its own, as objects of their own.
///
/// # Errors
/// When git fails.
pub fn manifests(repo: &Repo, count: usize, signer: &Signer) -> Result<()> {
    repo.write_all(&manifests::many(count, Some("default")))?;
    repo.commit("many", signer).map(drop)
}

/// `count` files of `size` bytes that do not compress away, as manifests with digests in them, in one pack. Of the same figures always the
/// same bytes.
///
/// # Errors
/// When git fails.
pub fn noise(repo: &Repo, count: usize, size: usize, signer: &Signer) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..count {
        repo.write(&format!("d{}/f{number}.yaml", number % 50), &letters(&mut random, size))?;
    }
    packed(repo, "many", signer)
}

/// One file of `size` bytes that do not compress away; it is not committed yet.
///
/// # Errors
/// When the disk is full.
pub fn large_file(repo: &Repo, size: usize) -> Result<()> {
    repo.write("big.yaml", &letters(&mut fastrand::Rng::with_seed(9), size))
}

/// `clusters/c0` to `c<count - 1>`, of 20 manifests each that no two clusters share, in one pack.
///
/// # Errors
/// When git fails.
pub fn clusters(repo: &Repo, count: usize, signer: &Signer) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    for folder in 0..count {
        for (path, text) in manifests::many(20, Some("default")) {
            // Names, addresses, digests of images.
            repo.write(&format!("clusters/c{folder}/{path}"), &format!("{text}# {}\n", letters(&mut random, 100)))?;
        }
    }
    packed(repo, "many", signer)
}

/// A line more in one manifest.
///
/// # Errors
/// When git fails, or the manifest is not there.
pub fn one_line(repo: &Repo, signer: &Signer) -> Result<String> {
    let path = &manifests::many(10, Some("default"))[3].0;
    repo.write(path, &format!("{}# one more line\n", read(repo, path)?))?;
    repo.commit("one line", signer)
}

/// A branch `feature` forks here, and `commits` commits of one changed line follow on `main`.
///
/// # Errors
/// When git fails.
pub fn fork(repo: &Repo, commits: usize, signer: &Signer) -> Result<()> {
    repo.git(&["branch", "--force", "feature", "main"])?;
    for number in 0..commits {
        repo.write("counter.yaml", &format!("count: {number}\n"))?;
        repo.commit("count", signer)?;
    }
    repo.git(&["repack", "-adq"]).map(drop)
}

/// The branch that [`fork`] made gets a commit of one small file and is merged.
///
/// # Errors
/// When git fails.
pub fn merge(repo: &Repo, signer: &Signer) -> Result<String> {
    let main = repo.id("main")?;
    repo.write("feature.yaml", "a: 1\n")?;
    let mut side = repo.draft("refs/heads/feature", "a feature")?;
    let merged = side.tree.clone();
    // Its own tree is that of the fork, with the new file.
    let old = repo.git(&["ls-tree", "feature"])?;
    let blob = repo.git(&["rev-parse", &format!("{merged}:feature.yaml")])?;
    side.tree = repo.tree(&format!("{old}\n100644 blob {blob}\tfeature.yaml\n"))?;
    let feature = repo.object("commit", &side.signed(signer)?)?;
    side.tree = merged;
    side.parents = vec![main, feature];
    side.message = "merge".to_owned();
    let merge = repo.object("commit", &side.signed(signer)?)?;
    repo.set_ref("refs/heads/main", &merge)?;
    Ok(merge)
}

/// A branch of ten commits, each of a line in another manifest, squashed into one.
///
/// # Errors
/// When git fails.
pub fn squash(repo: &Repo, signer: &Signer) -> Result<String> {
    repo.git(&["branch", "--force", "squashed", "main"])?;
    for (path, _) in manifests::many(200, Some("default")).iter().skip(100).take(10) {
        repo.write(path, &format!("{}# a line of a branch\n", read(repo, path)?))?;
        repo.commit_on("squashed", "a line", signer)?;
    }
    repo.commit("squash", signer)
}

/// What [`squash`] did is undone.
///
/// # Errors
/// When git fails.
pub fn revert(repo: &Repo, signer: &Signer) -> Result<String> {
    for (path, _) in manifests::many(200, Some("default")).iter().skip(100).take(10) {
        let text = read(repo, path)?;
        repo.write(path, text.strip_suffix("# a line of a branch\n").context("a squash went before")?)?;
    }
    repo.commit("revert", signer)
}

/// A folder of 100 manifests gets another name.
///
/// # Errors
/// When git fails.
pub fn rename_folder(repo: &Repo, signer: &Signer) -> Result<String> {
    fs::rename(repo.work().join("apps/05"), repo.work().join("apps/renamed"))?;
    repo.commit("rename", signer)
}

fn read(repo: &Repo, path: &str) -> Result<String> {
    fs::read_to_string(repo.work().join(path)).with_context(|| format!("read {path}"))
}

fn packed(repo: &Repo, message: &str, signer: &Signer) -> Result<()> {
    repo.commit(message, signer)?;
    repo.git(&["repack", "-adq"]).map(drop)
}

fn letters(random: &mut fastrand::Rng, count: usize) -> String {
    std::iter::repeat_with(|| random.alphanumeric()).take(count).collect()
}
