//! The steps, in order. Each holds only when what it claims was seen, at the API server, the receiver or `wickie status`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use serde_json::Value;
use wickie_testbench::{Signer, within};

use crate::scene::{HMAC_KEY, MAPS, Scene};

/// How long anything may take on a busy machine before the step does not hold.
const PATIENCE: Duration = Duration::from_secs(90);

/// One thing that wickie promises.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    FirstApply,
    OneObject,
    Unsigned,
    Drift,
    Prune,
    CutOff,
    Killed,
    DriftCutOff,
    Back,
    Reports,
}

impl Step {
    /// In the order in which they are shown.
    pub(crate) const ALL: [Self; 10] = [
        Self::FirstApply,
        Self::OneObject,
        Self::Unsigned,
        Self::Drift,
        Self::Prune,
        Self::CutOff,
        Self::Killed,
        Self::DriftCutOff,
        Self::Back,
        Self::Reports,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FirstApply => "a signed commit is applied",
            Self::OneObject => "a commit changes one object, and no other is written",
            Self::Unsigned => "an unsigned commit is refused",
            Self::Drift => "drift is repaired",
            Self::Prune => "an object that left Git is pruned",
            Self::CutOff => "Git is cut off, and the receiver with it",
            Self::Killed => "the agent is killed, and started again still cut off",
            Self::DriftCutOff => "drift is repaired all the same",
            Self::Back => "Git is back, with a commit made meanwhile",
            Self::Reports => "the reports are delivered, in order",
        }
    }

    /// Does it; gives the evidence.
    pub(crate) async fn show(self, scene: &mut Scene<'_>) -> Result<String> {
        match self {
            Self::FirstApply => first_apply(scene).await,
            Self::OneObject => one_object(scene).await,
            Self::Unsigned => unsigned(scene).await,
            Self::Drift => drift(scene).await,
            Self::Prune => prune(scene).await,
            Self::CutOff => cut_off(scene).await,
            Self::Killed => killed(scene).await,
            Self::DriftCutOff => drift_cut_off(scene).await,
            Self::Back => back(scene).await,
            Self::Reports => reports(scene).await,
        }
    }
}

async fn first_apply(scene: &mut Scene<'_>) -> Result<String> {
    for (name, value) in MAPS {
        becomes(scene, name, Some(value)).await?;
    }
    ensure!(scene.services().get_opt("shop").await?.is_some(), "Service/shop is not there");
    let status = applied(scene).await?;
    let signer = status["sources"][0]["snapshot"]["signer"].as_str().context("the status names no signer")?;
    let objects = &status["kustomizations"][0]["objects"]["total"];
    Ok(format!("{}: {objects} objects exist; signed: {signer}", short(&scene.wanted)))
}

async fn one_object(scene: &mut Scene<'_>) -> Result<String> {
    let before = versions(scene).await?;
    scene.fleet.write_map("apps/greeting.yaml", "greeting", "moin moin")?;
    scene.commit("greet twice")?;
    becomes(scene, "greeting", Some("moin moin")).await?;
    applied(scene).await?;
    let after = versions(scene).await?;
    let written: Vec<_> = after.iter().filter(|one| !before.contains(one)).map(|(name, _)| name.as_str()).collect();
    ensure!(written == ["greeting"], "written were {written:?}");
    Ok(format!(
        "{}: ConfigMap/greeting has changed, the other {} are as they were",
        short(&scene.wanted),
        after.len() - 1
    ))
}

async fn unsigned(scene: &mut Scene<'_>) -> Result<String> {
    scene.fleet.write_map("apps/greeting.yaml", "greeting", "hello from a stranger")?;
    let bad = scene.fleet.repo.commit("not reviewed", &Signer::Nobody)?;
    let refused = seen(scene, |status| {
        let ready = &status["sources"][0]["ready"];
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(ready["status"] == "False" && message.contains(&bad[..10]), "the source says {ready}");
        Ok(format!("{}: {message}", ready["reason"].as_str().unwrap_or_default()))
    });
    let refused = refused.await;
    let status = scene.status()?;
    let value = scene.value("greeting").await?;
    // The branch is put back, as a host that protects it would not have let it go there.
    scene.fleet.repo.set_ref("refs/heads/main", &scene.wanted)?;
    scene.fleet.write_map("apps/greeting.yaml", "greeting", "moin moin")?;
    let refused = refused?;
    ensure!(value.as_deref() == Some("moin moin"), "ConfigMap/greeting is {value:?}");
    let kept = &status["kustomizations"][0];
    ensure!(kept["appliedRevision"] == revision(&scene.wanted), "applied is {}", kept["appliedRevision"]);
    Ok(format!("{refused}\n{} stays enforced", short(&scene.wanted)))
}

async fn drift(scene: &mut Scene<'_>) -> Result<String> {
    let start = Instant::now();
    scene.edit("greeting", "edited by hand").await?;
    becomes(scene, "greeting", Some("moin moin")).await?;
    let edited = start.elapsed();
    let start = Instant::now();
    scene.maps().delete("menu", &Default::default()).await?;
    becomes(scene, "menu", Some("fish soup")).await?;
    Ok(format!(
        "ConfigMap/greeting, edited by hand, is put right after {:.2} s; ConfigMap/menu, deleted, is back after {:.2} s",
        edited.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ))
}

async fn prune(scene: &mut Scene<'_>) -> Result<String> {
    scene.fleet.repo.remove("apps/hours.yaml")?;
    scene.commit("no opening hours")?;
    becomes(scene, "hours", None).await?;
    let status = applied(scene).await?;
    let objects = &status["kustomizations"][0]["objects"]["total"];
    Ok(format!("{}: ConfigMap/hours is deleted, {objects} objects are kept", short(&scene.wanted)))
}

async fn cut_off(scene: &mut Scene<'_>) -> Result<String> {
    scene.fleet.git.down();
    scene.receiver.down();
    let said = seen(scene, |status| {
        let ready = &status["sources"][0]["ready"];
        ensure!(ready["status"] == "False" && ready["reason"] == "GitOperationFailed", "the source says {ready}");
        let kept = &status["kustomizations"][0];
        ensure!(kept["ready"]["status"] == "True", "the Kustomization says {}", kept["ready"]);
        Ok(ready["message"].as_str().unwrap_or_default().to_owned())
    });
    let said = said.await?;
    Ok(format!("source/fleet: {said}\n{} stays enforced, and Ready", short(&scene.wanted)))
}

async fn killed(scene: &mut Scene<'_>) -> Result<String> {
    let before = scene.agent.pid();
    scene.agent.kill9();
    scene.edit("greeting", "edited while nobody looked").await?;
    scene.fleet.git.forget();
    let start = Instant::now();
    scene.agent.restart()?;
    becomes(scene, "greeting", Some("moin moin")).await?;
    let repaired = start.elapsed();
    applied(scene).await?;
    let answered = scene.fleet.git.requests().len();
    ensure!(answered == 0, "Git has answered {answered} requests");
    Ok(format!(
        "SIGKILL to {before}, now {}; {:.1} s after the start ConfigMap/greeting, edited meanwhile, is put right, from {} \
         on disk: Git answered no request",
        scene.agent.pid(),
        repaired.as_secs_f64(),
        short(&scene.wanted)
    ))
}

async fn drift_cut_off(scene: &mut Scene<'_>) -> Result<String> {
    scene.edit("greeting", "edited again").await?;
    scene.maps().delete("menu", &Default::default()).await?;
    becomes(scene, "greeting", Some("moin moin")).await?;
    becomes(scene, "menu", Some("fish soup")).await?;
    ensure!(scene.fleet.git.requests().is_empty(), "Git has answered");
    let waiting = scene.status()?["providers"][0]["waiting"].as_u64().unwrap_or_default();
    Ok(format!("one edited, one deleted: both are right again; {waiting} reports wait for the receiver"))
}

async fn back(scene: &mut Scene<'_>) -> Result<String> {
    scene.fleet.write_map("apps/greeting.yaml", "greeting", "welcome back")?;
    scene.commit("made while the node was cut off")?;
    scene.fleet.git.up();
    becomes(scene, "greeting", Some("welcome back")).await?;
    let status = applied(scene).await?;
    let ready = &status["sources"][0]["ready"]["reason"];
    Ok(format!(
        "{}: ConfigMap/greeting has changed; source/fleet says {}",
        short(&scene.wanted),
        ready.as_str().unwrap_or("-")
    ))
}

async fn reports(scene: &mut Scene<'_>) -> Result<String> {
    let before = scene.receiver.deliveries().len();
    scene.receiver.up();
    seen(scene, |status| {
        let provider = &status["providers"][0];
        ensure!(provider["waiting"] == 0, "{} reports wait: {}", provider["waiting"], provider["sending"]);
        Ok(())
    })
    .await?;
    let deliveries = scene.receiver.deliveries();
    if let Some(forged) = deliveries.iter().position(|delivery| !delivery.signed_with(HMAC_KEY.as_bytes())) {
        bail!("report {forged} does not carry the right signature");
    }
    let id = |delivery: &wickie_testbench::Delivery| {
        Ok(delivery.header("wickie-event-id").context("a report has no id")?.to_owned())
    };
    let delivered = deliveries.iter().map(id).collect::<Result<Vec<_>>>()?;
    let happened = happened(scene)?;
    let lost: Vec<_> =
        happened.iter().filter(|(id, _)| !delivered.contains(id)).map(|(_, what)| what.as_str()).collect();
    ensure!(lost.is_empty(), "{} of {} events were not reported:\n{}", lost.len(), happened.len(), lost.join("\n"));
    let in_order = happened.iter().map(|(id, _)| id).eq(&delivered);
    ensure!(in_order, "{} events, {} reports, and not in the same order", happened.len(), delivered.len());
    Ok(format!(
        "{} events, {} reports: each once, in the order in which it happened, signed; {} of them after the cut",
        happened.len(),
        delivered.len(),
        delivered.len() - before
    ))
}

/// Id and short description of all events of the objects that the Alert selects, the oldest first.
fn happened(scene: &Scene<'_>) -> Result<Vec<(String, String)>> {
    let answered = scene.agent.cli(&["events", "-o", "json", "--limit", "10000"])?;
    let events: Vec<Value> = serde_json::from_str(&answered.stdout).context("wickie events")?;
    let about = |event: &&Value| matches!(event["about"]["kind"].as_str(), Some("GitRepository" | "Kustomization"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |event: &Value| {
        let what = format!("{} {}: {}", text(&event["about"]["kind"]), text(&event["reason"]), text(&event["message"]));
        (text(&event["id"]), what)
    };
    Ok(events.iter().filter(about).map(told).collect())
}

/// Waits until a ConfigMap has a value; nothing for one that shall be gone.
async fn becomes(scene: &mut Scene<'_>, name: &str, value: Option<&str>) -> Result<()> {
    scene.agent.check()?;
    let scene = &*scene;
    let probe = || async move {
        let found = scene.value(name).await?;
        ensure!(found.as_deref() == value, "ConfigMap/{name} is {found:?}, wanted {value:?}");
        Ok(())
    };
    within(PATIENCE, probe).await.map_err(anyhow::Error::from)
}

/// Waits until `wickie status` says that the wanted commit is applied and ready.
async fn applied(scene: &Scene<'_>) -> Result<Value> {
    let wanted = revision(&scene.wanted);
    seen(scene, |status| {
        let one = &status["kustomizations"][0];
        let held = one["appliedRevision"] == wanted && one["ready"]["status"] == "True" && one["phase"] == "idle";
        ensure!(held, "the Kustomization says {one}");
        Ok(status.clone())
    })
    .await
}

/// Waits until `wickie status` says what `probe` wants.
async fn seen<T>(scene: &Scene<'_>, probe: impl Fn(&Value) -> Result<T>) -> Result<T> {
    within(PATIENCE, || std::future::ready(scene.status().and_then(|status| probe(&status)))).await.map_err(Into::into)
}

/// Each object of the demo with its resourceVersion.
async fn versions(scene: &Scene<'_>) -> Result<Vec<(String, String)>> {
    let mut versions = Vec::new();
    for (name, _) in MAPS {
        let map = scene.maps().get(name).await?;
        versions.push((name.to_owned(), map.resource_version().unwrap_or_default()));
    }
    versions.push(("shop".to_owned(), scene.services().get("shop").await?.resource_version().unwrap_or_default()));
    Ok(versions)
}

/// As Flux writes it.
fn revision(commit: &str) -> String {
    format!("main@sha1:{commit}")
}

/// As `wickie status` shortens it.
fn short(commit: &str) -> String {
    format!("main@{}", &commit[..10])
}
