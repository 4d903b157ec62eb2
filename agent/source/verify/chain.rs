//! Whom to believe: the node's signers, or the source's Secret, or what the repository's own trust file has made of them.
//!
//! The versions of the trust file lie in `.wickie/trust` of the commit that is judged. They are believed by their own
//! signatures and not because the commit is: so they are looked at first, one after the other from the version that is
//! trusted on, and what they say is remembered even if the commit itself is then refused (a revocation must not wait for
//! the next good commit). What was accepted before is judged by the version of then.

use std::collections::BTreeMap;
use std::sync::Arc;

use wickie_model::Oid;
use wickie_trust::{Signers, TrustError, TrustFile};

use super::{Judge, Missing, Stop};
use crate::config::git::{GitSource, Verify};
use crate::source::error::{Fault, SourceError};
use crate::source::object::{self, Commit};
use crate::source::tree::{Target, TreeEntry};
use crate::store::{ObjectKind, TrustSpan};

/// Where the trust file lies.
const FOLDER: [&str; 2] = [".wickie", "trust"];

/// Versions that are taken over at once; who is further behind goes on with the next poll.
const MOST_AT_ONCE: usize = 256;

/// What is trusted when a judgement begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// The version that was trusted before; 0 where none was.
    pub(crate) from: u64,
    /// Trusted versions, `from` to the newest; their bytes.
    pub(crate) documents: BTreeMap<u64, Vec<u8>>,
    /// Whether further versions may be taken over: not where something is judged again that was accepted before.
    pub(crate) grows: bool,
}

/// Whom to believe, by the version of the trust file that a commit carries.
pub(super) struct Trusted {
    from: u64,
    /// By version; 0 is what the node trusts without a trust file.
    signers: BTreeMap<u64, (Option<Oid>, Arc<Signers>)>,
    nobody: Arc<Signers>,
}

impl Trusted {
    /// The version that was trusted last.
    pub(super) fn version(&self) -> u64 {
        self.signers.last_key_value().map_or(0, |(version, _)| *version)
    }

    /// Its signers.
    pub(super) fn newest(&self) -> &Arc<Signers> {
        self.signers.last_key_value().map_or(&self.nobody, |(_, (_, signers))| signers)
    }
}

/// The signers that are believed without a trust file.
fn named_signers(source: &GitSource) -> Result<Signers, SourceError> {
    let policy = source.policy.as_ref().filter(|policy| !policy.signers.is_empty());
    let signers = match (policy, &source.verify) {
        (Some(policy), _) => Signers::named(borrowed(&policy.signers)),
        (None, Some(Verify { keys, .. })) => Signers::parse(borrowed(keys)),
        (None, None) => return Err(SourceError::NoSigners),
    };
    let signers = signers.map_err(SourceError::Signers)?;
    match signers.is_empty() {
        true => Err(SourceError::NoSigners),
        false => Ok(signers),
    }
}

fn borrowed(keys: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &[u8])> {
    keys.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
}

/// The signers that are believed now, for what is signed beside commits.
pub(crate) fn believed_signers(source: &GitSource, trust: &Trust) -> Result<Signers, SourceError> {
    match trust.documents.last_key_value() {
        Some((_, document)) => {
            Ok(TrustFile::parse(document).map_err(|error| SourceError::Trust(Box::new(error)))?.signers().clone())
        }
        None => named_signers(source),
    }
}

impl Judge<'_> {
    /// Whom to believe, after the versions of the trust file that a commit brings.
    pub(super) async fn trusted(&mut self, commit: &Commit) -> Result<Trusted, Stop> {
        let source = self.source;
        let Some(policy) = source.policy.as_ref().filter(|policy| policy.trust_file) else {
            let signers = Arc::new(named_signers(source)?);
            let signers = BTreeMap::from([(0, (None, signers))]);
            return Ok(Trusted { from: 0, signers, nobody: Arc::default() });
        };
        let mut files = BTreeMap::new();
        for (version, document) in &self.case.trust.documents {
            files.insert(*version, (blob_id(document)?, TrustFile::parse(document).map_err(trust)?));
        }
        if self.case.trust.grows {
            let (learnt, more) = self.grow(commit, &mut files).await?;
            if !learnt.is_empty() {
                let kept = self.repository.store.trust(&policy.name, learnt).await;
                kept.map_err(|error| Stop::from(SourceError::from(error)))?;
            }
            if more {
                return Err(trust(TrustError::Malformed(format!(
                    "more than {MOST_AT_ONCE} versions are new; the next poll goes on"
                ))));
            }
        }
        if let Some((_, (_, newest))) = files.last_key_value() {
            newest.is_fresh(self.case.adopted).map_err(trust)?;
        }
        let from = self.case.trust.from;
        let upto = files.last_key_value().map_or(0, |(version, _)| *version);
        self.evidence.trust = Some(TrustSpan { domain: policy.name.clone(), from, upto });
        self.by_version(from, files)
    }

    fn by_version(&self, from: u64, files: BTreeMap<u64, (Oid, TrustFile)>) -> Result<Trusted, Stop> {
        let revoked = files.last_key_value().map(|(_, (_, newest))| newest.revoked().clone()).unwrap_or_default();
        let mut signers = BTreeMap::new();
        if from == 0 {
            let named = match named_signers(self.source) {
                // The trust file is there: nobody else needs to be named any more.
                Err(SourceError::NoSigners) if !files.is_empty() => Signers::default(),
                named => named?,
            };
            signers.insert(0, (None, Arc::new(named.without(&revoked))));
        }
        for (version, (blob, file)) in files {
            signers.insert(version, (Some(blob), Arc::new(file.signers().clone().without(&revoked))));
        }
        Ok(Trusted { from, signers, nobody: Arc::default() })
    }

    /// Takes over the versions that follow the trusted one; gives those that are new, and whether there are still more.
    async fn grow(
        &mut self,
        commit: &Commit,
        files: &mut BTreeMap<u64, (Oid, TrustFile)>,
    ) -> Result<(Vec<(u64, Vec<u8>)>, bool), Stop> {
        let Some(folder) = self.folder(commit.tree, &FOLDER).await? else { return Ok((Vec::new(), false)) };
        let offered = versions(&folder);
        let mut last = files.last_key_value().map(|(version, (blob, _))| (*version, *blob));
        if let Some((version, blob)) = last
            && offered.get(&version).is_some_and(|(document, _)| *document != blob)
        {
            let why = format!("version {version} is another one than the version {version} that is trusted");
            return Err(trust(TrustError::Malformed(why)));
        }
        let new: Vec<_> =
            offered.into_iter().filter(|(version, _)| last.is_none_or(|(last, _)| *version > last)).collect();
        let wanted =
            new.iter().take(MOST_AT_ONCE).flat_map(|(_, (document, signatures))| [Some(*document), *signatures]);
        self.need(wanted.flatten().collect()).await?;
        let more = new.len() > MOST_AT_ONCE;
        let mut learnt = Vec::new();
        let mut why = None;
        for (version, (document, signatures)) in new.into_iter().take(MOST_AT_ONCE) {
            let text = self.blob(document).await?.ok_or(Stop::Missing(Missing::Objects(vec![document])))?;
            let signatures = match signatures {
                Some(oid) => self.blob(oid).await?.ok_or(Stop::Missing(Missing::Objects(vec![oid])))?,
                None => Vec::new(),
            };
            let signatures = String::from_utf8_lossy(&signatures);
            let read = match last.and_then(|(last, _)| files.get(&last)) {
                Some((_, trusted)) => trusted.next(&text, &signatures, self.case.adopted).map_err(trust)?,
                None => match self.first(&text, &signatures)? {
                    Ok(first) if first.version == version => first,
                    Ok(first) => {
                        return Err(trust(TrustError::OtherVersion { found: first.version, expected: version }));
                    }
                    // The node may know the signers of a later version alone.
                    Err(error) => {
                        why = Some(error);
                        continue;
                    }
                },
            };
            last = Some((version, document));
            files.insert(version, (document, read));
            learnt.push((version, text));
        }
        match (files.is_empty(), why) {
            (true, Some(why)) => Err(trust(why)),
            _ => Ok((learnt, more)),
        }
    }

    fn first(&self, document: &[u8], signatures: &str) -> Result<Result<TrustFile, TrustError>, Stop> {
        let signers = named_signers(self.source)?;
        let threshold = self.source.policy.as_ref().map_or(1, |policy| policy.threshold);
        // Counted among those whom a Secret lists without names, a threshold would have no meaning.
        let named = self.source.policy.as_ref().is_some_and(|policy| !policy.signers.is_empty());
        let threshold = if named { threshold } else { 1 };
        Ok(TrustFile::first(document, signatures, &signers, threshold, self.case.adopted))
    }

    /// Asks for all of some blobs at once that are not there.
    async fn need(&mut self, oids: Vec<Oid>) -> Result<(), Stop> {
        let missing = self.repository.absent(oids).await.map_err(|fault| self.fault(fault))?;
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Stop::Missing(Missing::Objects(missing))),
        }
    }

    /// Whom to believe about one of the commits between the last accepted one and the new one: the signers of the version
    /// that it carries itself, and of none before the version that was trusted when they came.
    pub(super) async fn trusted_at<'t>(
        &mut self,
        commit: &Commit,
        trusted: &'t Trusted,
    ) -> Result<&'t Arc<Signers>, Stop> {
        if trusted.signers.len() <= 1 {
            return Ok(trusted.newest());
        }
        let carried = match self.folder(commit.tree, &FOLDER).await? {
            Some(folder) => versions(&folder),
            None => BTreeMap::new(),
        };
        let same = |version: &u64, blob: &Option<Oid>| {
            *version == trusted.from || carried.get(version).is_some_and(|(document, _)| Some(*document) == *blob)
        };
        // A version counts with all before it.
        let mut found = &trusted.nobody;
        for (version, (blob, signers)) in &trusted.signers {
            if !same(version, blob) {
                break;
            }
            found = signers;
        }
        Ok(found)
    }
}

/// The versions in a folder: each document, and its signatures.
fn versions(folder: &[TreeEntry]) -> BTreeMap<u64, (Oid, Option<Oid>)> {
    let number = |name: &str, suffix: &str| -> Option<u64> {
        let digits = name.strip_suffix(suffix)?;
        // One way to write a number: 1, not 01.
        let number: u64 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    };
    let files = || folder.iter().filter(|entry| matches!(entry.target, Target::File(_)));
    let signatures: BTreeMap<u64, Oid> =
        files().filter_map(|entry| Some((number(&entry.name, ".sig")?, entry.oid))).collect();
    files()
        .filter_map(|entry| number(&entry.name, ".yaml").map(|version| (version, entry.oid)))
        .map(|(version, document)| (version, (document, signatures.get(&version).copied())))
        .collect()
}

fn trust(error: TrustError) -> Stop {
    Stop::from(SourceError::Trust(Box::new(error)))
}

fn blob_id(bytes: &[u8]) -> Result<Oid, Stop> {
    object::id(ObjectKind::Blob, bytes).map_err(|error| {
        let detail = Fault::from(error).to_string();
        trust(TrustError::Malformed(detail))
    })
}
