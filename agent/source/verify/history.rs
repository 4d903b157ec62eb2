//! Each commit since the last accepted one: is it signed, and may who signed it change what it changed?

use std::collections::{BTreeMap, BTreeSet};

use wickie_trust::{PathRule, Signer, owners};

use super::chain::Trusted;
use super::changes::or_missing;
use super::graph::{Graph, Node};
use super::signed::detail;
use super::{Judge, Stop};
use crate::config::SigningPolicy;
use crate::source::error::SourceError;
use crate::source::object::Commit;

impl Judge<'_> {
    /// Judges the history of the offer's commit, which these have signed; gives what was judged, in words.
    pub(super) async fn history(
        &mut self,
        policy: &SigningPolicy,
        tip: &Commit,
        trusted: &Trusted,
        tip_signers: Vec<Signer>,
    ) -> Result<String, Stop> {
        self.evidence.rules = Some(policy.rules());
        let Some(since) = self.case.since else {
            return Ok("nothing was accepted before by these rules: the newest commit alone was judged".to_owned());
        };
        self.evidence.since = Some(since);
        let graph = self.graph(tip.oid, since).await?;
        let touched = self.touched(policy, &graph).await?;
        for node in graph.new_commits() {
            let rules = touched.get(&node.oid).cloned().unwrap_or_default();
            if !policy.history && rules.is_empty() {
                continue;
            }
            let signers = (node.oid == tip.oid).then(|| tip_signers.clone());
            self.commit_of_history(policy, node, trusted, &rules, signers).await?;
        }
        let count = graph.new_commits().count();
        let what = match (policy.history, policy.paths.is_empty()) {
            (true, true) => "by signer",
            (true, false) => "by signer and path",
            _ => "by path",
        };
        let plural = if count == 1 { "commit" } else { "commits" };
        Ok(format!("{count} {plural} since {} judged {what}", short(since)))
    }

    /// For each new commit, the rules that it touches.
    async fn touched(
        &mut self,
        policy: &SigningPolicy,
        graph: &Graph,
    ) -> Result<BTreeMap<wickie_model::Oid, Touched>, Stop> {
        let mut touched = BTreeMap::new();
        if policy.paths.is_empty() {
            return Ok(touched);
        }
        self.trees_known(graph)?;
        let mut missing = BTreeSet::new();
        for node in graph.new_commits() {
            let rules = self.rules_touched(graph, node, &policy.paths, &mut missing).await?;
            if !rules.is_empty() {
                touched.insert(node.oid, rules);
            }
        }
        or_missing(missing)?;
        Ok(touched)
    }

    async fn commit_of_history(
        &mut self,
        policy: &SigningPolicy,
        node: &Node,
        trusted: &Trusted,
        touched: &Touched,
        known: Option<Vec<Signer>>,
    ) -> Result<(), Stop> {
        let rules: Vec<(&PathRule, &String)> = touched
            .iter()
            .filter_map(|(number, path)| policy.paths.all().get(*number).map(|rule| (rule, path)))
            .collect();
        let enough = |signers: &[Signer]| {
            (!policy.history || owners(signers) > 0) && rules.iter().all(|(rule, _)| rule.allows(signers))
        };
        let mut refusals = Vec::new();
        let mut signers = known.unwrap_or_default();
        if !enough(&signers) {
            let commit = self.whole_commit(node.oid).await?;
            let by = self.trusted_at(&commit, trusted).await?.clone();
            (signers, refusals) = self.commit_signers(&commit, &by, enough).await?;
        }
        if enough(&signers) {
            return Ok(());
        }
        let words: Vec<String> = signers.iter().map(|signer| format!("it is signed by {signer}")).collect();
        let detail = detail(&words, &refusals);
        let refused = rules.iter().find(|(rule, _)| !rule.allows(&signers));
        Err(Stop::from(match refused {
            Some((rule, path)) => SourceError::PathRefused {
                commit: node.oid,
                path: (*path).clone(),
                need: rule.threshold,
                signers: rule.signers.join(", "),
                policy: policy.name.clone(),
                detail,
            },
            None => SourceError::HistoryRefused { commit: node.oid, policy: policy.name.clone(), detail },
        }))
    }
}

/// The rules that a commit touches, by their place, and a path of each.
type Touched = BTreeMap<usize, String>;

fn short(oid: wickie_model::Oid) -> String {
    let mut text = oid.to_string();
    text.truncate(10);
    text
}
