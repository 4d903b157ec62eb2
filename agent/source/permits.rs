//! Where leave for a step back is found: on the node, or in the repository under `refs/wickie/permits/`.
//!
//! Nobody looks for one until a step back is offered. One permit brings back a whole fleet whose branch had to be
//! rewritten; the README beside this file is the drill:
//!
//! ```text
//! wickie permit create --source flux-system/fleet --from OLD --to NEW --expires 7d --key KEY > permit
//! git push origin $(git hash-object -w permit):refs/wickie/permits/1     # or put the file into NODE:/var/lib/wickie/permits
//! ```

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use wickie_model::Oid;
use wickie_trust::{PermitError, SignedPermit, Signer, Signers};

use super::error::{Fault, SourceError};
use super::fetch::Fetch;
use super::verify::{self, Trust};
use super::wire::said;
use crate::config::git::GitSource;

/// Where permits lie in a repository.
const PREFIX: &str = "refs/wickie/permits/";

/// More permits than these are not looked at, in each of the two places.
const MOST: usize = 16;

/// A longer file is no permit.
const LONGEST: u64 = 64 << 10;

/// A permit that gives leave.
pub(crate) struct Leave {
    pub(crate) signer: Signer,
    /// Where to: to this commit or what descends from it.
    pub(crate) to: Oid,
}

/// What became of asking.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) leave: Vec<Leave>,
    /// Why each of the other permits gives none, as the end of a sentence.
    pub(crate) reasons: String,
    /// The latest end of those that have expired.
    pub(crate) expired: Option<Timestamp>,
}

/// Asks who permits a step back from `from`. A source without signers can have no permits.
pub(crate) async fn ask(
    source: &GitSource,
    trust: &Trust,
    fetch: &mut Fetch<'_>,
    from: Oid,
    now: Timestamp,
) -> Result<Answer, SourceError> {
    let mut answer = Answer::default();
    if !source.is_verified() {
        return Ok(answer);
    }
    let signers = verify::believed_signers(source, trust)?;
    let places = source.permits.clone();
    let mut texts = tokio::task::spawn_blocking(move || on_node(&places)).await.unwrap_or_default();
    // A repository whose permits cannot be had is one without: what is refused stays refused.
    texts.extend(in_repository(fetch).await.unwrap_or_default());
    for text in &texts {
        match judge(source, text, from, &signers, now) {
            Ok(leave) => answer.leave.push(leave),
            Err(reason) => {
                if let PermitError::Expired(end) = &reason {
                    answer.expired = answer.expired.max(Some(*end));
                }
                answer.reasons.push_str(&format!("; {reason}"));
            }
        }
    }
    answer.reasons = said(answer.reasons.as_bytes());
    Ok(answer)
}

/// Who permits that a Kustomization of `source` is set back so, by this permit.
pub(super) fn given(
    source: &GitSource,
    signers: &Signers,
    text: &str,
    (from, to): (Oid, Oid),
    now: Timestamp,
) -> Result<Signer, PermitError> {
    let leave = judge(source, text, from, signers, now)?;
    match leave.to == to {
        true => Ok(leave.signer),
        false => Err(PermitError::OtherStep { from: from.to_string(), to: leave.to }),
    }
}

fn judge(source: &GitSource, text: &str, from: Oid, signers: &Signers, now: Timestamp) -> Result<Leave, PermitError> {
    let (name, url) = (source.name.to_string(), source.url.to_string());
    let permit = text.parse::<SignedPermit>()?;
    let signer = permit.allows(&[&name, &url], from, signers, now)?;
    Ok(Leave { signer, to: permit.permit().to })
}

/// The permits that lie on the node, by name.
fn on_node(places: &[PathBuf]) -> Vec<String> {
    let mut files: Vec<PathBuf> = Vec::new();
    for place in places {
        match std::fs::read_dir(place) {
            Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| is_visible(path))),
            // A file, or nothing.
            Err(_) => files.push(place.clone()),
        }
    }
    files.sort();
    let whole = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        let text = (metadata.is_file() && metadata.len() <= LONGEST).then(|| std::fs::read_to_string(path))?;
        text.inspect_err(|error| tracing::warn!(file = %path.display(), %error, "a permit cannot be read")).ok()
    };
    files.iter().filter_map(whole).take(MOST).collect()
}

/// Editors and mounted ConfigMaps leave hidden names about.
fn is_visible(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

async fn in_repository(fetch: &mut Fetch<'_>) -> Result<Vec<String>, Fault> {
    let refs = fetch.session.ls_refs(&[PREFIX.to_owned()]).await?;
    let mut oids: Vec<Oid> =
        refs.into_iter().filter(|found| found.name.starts_with(PREFIX)).map(|found| found.oid).collect();
    oids.truncate(MOST);
    fetch.objects(&oids).await?;
    let mut texts = Vec::new();
    for oid in oids {
        if let Some(bytes) = fetch.repository.blob(oid).await? {
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(texts)
}
