//! Where leave for a step back is found: on the node, or in the repository under `refs/wickie/permits/`.
//!
//! Nobody looks for one until a step back is offered. One permit in the repository brings back a whole fleet whose branch
//! had to be rewritten:
//!
//! ```text
//! wickie permit 1 ...                                        > permit      (crate wickie-trust, permit.rs)
//! ssh-keygen -Y sign -n wickie-permit -f KEY permit && cat permit permit.sig > signed
//! git update-ref refs/wickie/permits/1 $(git hash-object -w signed) && git push origin refs/wickie/permits/1
//! ```

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

/// More permits than these are not looked at.
const MOST: usize = 16;

/// The step that leave is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepBack {
    pub(crate) from: Oid,
    pub(crate) to: Oid,
    pub(crate) now: Timestamp,
}

/// What became of asking.
pub(crate) enum Leave {
    /// Given by this signer.
    Given(Signer),
    /// Not given; why each permit that there is does not give it, as the end of a sentence.
    None(String),
}

/// Asks whether `step` is permitted. A source without signers can have no permits.
pub(crate) async fn ask(
    source: &GitSource,
    trust: &Trust,
    fetch: &mut Fetch<'_>,
    step: StepBack,
) -> Result<Leave, SourceError> {
    if !source.is_verified() {
        return Ok(Leave::None(String::new()));
    }
    let signers = verify::believed_signers(source, trust)?;
    let mut texts = source.permits.clone();
    // A repository whose permits cannot be had is one without: what is refused stays refused.
    texts.extend(in_repository(fetch).await.unwrap_or_default());
    let mut reasons = String::new();
    for text in texts.iter().take(MOST) {
        match judge(source, text, step, &signers) {
            Ok(signer) => return Ok(Leave::Given(signer)),
            Err(reason) => reasons.push_str(&format!("; {reason}")),
        }
    }
    Ok(Leave::None(said(reasons.as_bytes())))
}

/// Who permits that a Kustomization of `source` is set back so, by this permit.
pub(super) fn given(source: &GitSource, signers: &Signers, text: &str, step: StepBack) -> Result<Signer, PermitError> {
    judge(source, text, step, signers)
}

fn judge(source: &GitSource, text: &str, step: StepBack, signers: &Signers) -> Result<Signer, PermitError> {
    let (name, url) = (source.name.to_string(), source.url.to_string());
    text.parse::<SignedPermit>()?.allows(&[&name, &url], step.from, step.to, signers, step.now)
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
