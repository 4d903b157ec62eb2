//! `--keep`: what to try while everything runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;

use crate::scene::Scene;

/// Commands to copy. A script beside the repository commits and signs as the demo does.
pub(crate) fn what_to_try(scene: &Scene<'_>) -> Result<String> {
    let (options, repo) = (scene.agent.options(), &scene.fleet.repo);
    let wickie = format!("{} --data-dir {}", options.binary.display(), options.data_dir.display());
    let kubeconfig = scene.cluster.kubeconfig.display();
    let context = scene.cluster.context.as_ref().map(|context| format!(" --context {context}")).unwrap_or_default();
    let kubectl = format!("kubectl --kubeconfig {kubeconfig}{context} -n {}", scene.fleet.namespace);
    let commit = commit_script(scene)?;
    let lines = [
        ("How it stands, and what happened", format!("{wickie} status\n  {wickie} events\n  {wickie} history shop")),
        (
            "Make drift, and see it repaired",
            format!("{kubectl} edit configmap greeting\n  {kubectl} get configmaps -w"),
        ),
        (
            "Commit, signed (with ssh-keygen) or not; then do it now",
            format!(
                "$EDITOR {}/apps/greeting.yaml\n  {commit} -S -m 'my change'\n  {commit} -m 'not signed'\n  \
                 {wickie} reconcile shop --with-source",
                repo.work().display()
            ),
        ),
        (
            "Pause, see what a run would do, go on",
            format!("{wickie} suspend shop\n  {wickie} diff shop\n  {wickie} resume shop"),
        ),
        (
            "What the node follows, its log, and the repository",
            format!(
                "{}\n  {}\n  git clone {}",
                scene.fleet.config().join("demo.yaml").display(),
                scene.agent.log_file().display(),
                scene.fleet.git.url("fleet"),
            ),
        ),
    ];
    Ok(lines.map(|(what, commands)| format!("{what}:\n  {commands}\n")).join(""))
}

/// `git commit` in the repository of the demo, with the key that the node believes.
fn commit_script(scene: &Scene<'_>) -> Result<String> {
    let (repo, folder) = (&scene.fleet.repo, scene.fleet.scratch.path());
    let (key, script) = (folder.join("ada.key"), folder.join("commit"));
    fs::write(&key, scene.fleet.key.private())?;
    fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let text = format!(
        "#!/bin/sh
# git commit, with ada's key where -S is given.
set -e
export GIT_DIR='{}' GIT_WORK_TREE='{}'
cd \"$GIT_WORK_TREE\"
git add --all
git -c user.name=Ada -c user.email=ada@example.com -c gpg.format=ssh -c user.signingkey='{}' commit \"$@\"
",
        repo.bare().display(),
        repo.work().display(),
        key.display(),
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(script.display().to_string())
}
