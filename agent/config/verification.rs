//! Whom the node's owner believes, over which sources: `NodeConfig.spec.verification`.
//!
//! ```yaml
//! verification:
//! - name: fleet                       # what its trust is remembered under; a new name begins anew
//!   sources: ["flux-system/fleet"]    # patterns of namespace/name, * for any text; all sources without any
//!   urls: ["https://git.example.com/*"]
//!   signers:                          # whose keys; in place of those in the Secret that spec.verify names
//!     ada: ssh-ed25519 AAAA...
//!     staff: '*@example.com cert-authority ssh-ed25519 AAAA...'
//!   threshold: 2                      # how many of them sign what is adopted: commit, tag, notes
//!   verify-history: all               # each commit since the last accepted one is signed; head: the newest alone
//!   trust-file: true                  # signers change as .wickie/trust in the repository says
//!   paths:                            # who may change what; the first rule that covers a path decides
//!   - {paths: [clusters/prod], signers: [ada], threshold: 1}
//! ```
//!
//! The first entry that fits a source is its policy, and no object in the cluster can change that. Rules and thresholds
//! name signers, so they need the signers' keys here (or in the trust file): a Secret is a tenant's to edit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use wickie_model::{Digest, ResourceName};
use wickie_trust::{NAMES, PathPattern, PathRule, PathRules, Signers, is_name};

/// The policies of a node, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Raw>")]
pub struct Verification(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    sources: Vec<String>,
    urls: Vec<String>,
    policy: Arc<SigningPolicy>,
}

/// What must be signed, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningPolicy {
    /// What its trust is remembered under.
    pub name: String,
    /// Keys by their owners' names, in place of the Secret's; those of the Secret where there are none.
    pub signers: Vec<(String, Vec<u8>)>,
    /// How many signers it takes to adopt something; at least one.
    pub threshold: u32,
    /// Whether each commit since the last accepted one must be signed.
    pub history: bool,
    /// Who may change what.
    pub paths: PathRules,
    /// Whether the repository's own trust file is followed.
    pub trust_file: bool,
}

impl SigningPolicy {
    /// Whether the commits between the last accepted one and the new one are looked at.
    pub fn judges_history(&self) -> bool {
        self.history || !self.paths.is_empty()
    }

    /// What history is judged by, as one word: what was accepted under other rules was not judged by these.
    pub fn rules(&self) -> String {
        let rules = self.paths.all().iter().map(|rule| {
            let paths: Vec<String> = rule.paths.iter().map(ToString::to_string).collect();
            json!({"paths": paths, "signers": rule.signers, "threshold": rule.threshold})
        });
        Digest::of_json(&json!({"history": self.history, "paths": rules.collect::<Vec<_>>()})).to_string()
    }
}

impl Verification {
    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The policy of a source, if one fits.
    pub fn of(&self, source: &ResourceName, url: &str) -> Option<Arc<SigningPolicy>> {
        let source = source.to_string();
        let fits = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| wickie_trust::matches(pattern, text))
        };
        let entry = self.0.iter().find(|entry| fits(&entry.sources, &source) && fits(&entry.urls, url))?;
        Some(entry.policy.clone())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    signers: BTreeMap<String, String>,
    #[serde(default = "one")]
    threshold: u32,
    #[serde(default)]
    verify_history: History,
    #[serde(default)]
    trust_file: bool,
    #[serde(default)]
    paths: Vec<RawRule>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum History {
    #[default]
    Head,
    All,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawRule {
    paths: Vec<String>,
    signers: Vec<String>,
    #[serde(default = "one")]
    threshold: u32,
}

fn one() -> u32 {
    1
}

impl TryFrom<Vec<Raw>> for Verification {
    type Error = String;

    fn try_from(raw: Vec<Raw>) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        let mut entries = Vec::new();
        for raw in raw {
            let name = raw.name.clone();
            if !names.insert(name.clone()) {
                return Err(format!("verification: two policies are called {name:?}"));
            }
            entries.push(raw.validated().map_err(|why| format!("verification {name:?}: {why}"))?);
        }
        Ok(Self(entries))
    }
}

impl Raw {
    fn validated(self) -> Result<Entry, String> {
        if !is_name(&self.name) {
            return Err(format!("it cannot be called so: {NAMES}"));
        }
        if let Some(name) = self.signers.keys().find(|name| !is_name(name)) {
            return Err(format!("signers: {name:?} is no name: {NAMES}"));
        }
        let keys = self.signers.iter().map(|(name, keys)| (name.as_str(), keys.as_bytes()));
        Signers::named(keys).map_err(|error| format!("signers: {error}"))?;
        if self.signers.is_empty() && !self.trust_file && (self.threshold > 1 || !self.paths.is_empty()) {
            return Err("it counts or names signers, and lists none under signers".to_owned());
        }
        if self.threshold == 0 {
            return Err("threshold is 0; leave the policy out where nobody needs to sign".to_owned());
        }
        let rules = self.paths.iter().map(|rule| self.rule(rule)).collect::<Result<_, String>>()?;
        let signers = self.signers.into_iter().map(|(name, keys)| (name, keys.into_bytes())).collect();
        let policy = SigningPolicy {
            name: self.name,
            signers,
            threshold: self.threshold,
            history: self.verify_history == History::All,
            paths: PathRules::new(rules),
            trust_file: self.trust_file,
        };
        Ok(Entry { sources: self.sources, urls: self.urls, policy: Arc::new(policy) })
    }

    fn rule(&self, rule: &RawRule) -> Result<PathRule, String> {
        if rule.paths.is_empty() || rule.threshold == 0 {
            return Err("paths: a rule names at least one path and takes at least one signer".to_owned());
        }
        let paths = rule.paths.iter().map(|path| PathPattern::parse(path)).collect::<Result<_, _>>();
        let group = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
        // With a trust file, signers come that are not known here.
        let unknown = |name: &&String| !self.trust_file && !self.signers.contains_key(&group(name));
        if let Some(name) = rule.signers.iter().find(unknown) {
            return Err(format!("paths: {name:?} is not listed under signers"));
        }
        let paths = paths.map_err(|why| format!("paths: {why}"))?;
        Ok(PathRule { paths, signers: rule.signers.clone(), threshold: rule.threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX";

    fn read(spec: serde_json::Value) -> Result<Verification, String> {
        serde_json::from_value(spec).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_policy_that_fits_is_a_source_s_own() {
        let read = read(json!([
            {"name": "fleet", "sources": ["flux-system/fleet"], "urls": ["https://git.example.com/*"], "signers": {"ada": KEY}},
            {"name": "tenants", "sources": ["tenant-*/*"], "verify-history": "all"},
            {"name": "rest", "trust-file": true}
        ]))
        .unwrap();
        let policy = |namespace: &str, name: &str, url: &str| {
            read.of(&ResourceName::new(namespace, name), url).map(|policy| policy.name.clone())
        };
        assert_eq!(policy("flux-system", "fleet", "https://git.example.com/a/b").as_deref(), Some("fleet"));
        assert_eq!(policy("flux-system", "fleet", "https://evil.example/a").as_deref(), Some("rest"));
        assert_eq!(policy("tenant-1", "x", "ssh://git@h/x").as_deref(), Some("tenants"));
    }

    #[test]
    fn a_policy_that_would_hold_nothing_is_refused() {
        for (policy, words) in [
            (json!({"name": "a", "threshold": 2}), "lists none"),
            (json!({"name": "a", "threshold": 0}), "threshold is 0"),
            (json!({"name": "a/b"}), "cannot be called so"),
            (json!({"name": "a", "signers": {"ada": "ssh-ed25519 AAAA"}}), "ada"),
            (json!({"name": "a", "signers": {"ada": KEY, "ben": KEY}}), "too"),
            (json!({"name": "a", "signers": {"ada": KEY}, "paths": [{"paths": ["x"], "signers": ["eve"]}]}), "eve"),
            (json!({"name": "a", "signers": {"ada": KEY}, "paths": [{"paths": [], "signers": ["ada"]}]}), "one path"),
            (json!({"name": "a", "signers": {"ada": KEY}, "paths": [{"paths": ["/"], "signers": ["ada"]}]}), "no path"),
            (json!({"name": "a", "verify-histroy": "all"}), "verify-histroy"),
            (json!({"name": "a", "verify-history": "most"}), "most"),
        ] {
            let error = read(json!([policy])).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(read(json!([{"name": "a"}, {"name": "a"}])).is_err());
        assert!(read(json!([{"name": "a", "threshold": 2, "trust-file": true}])).is_ok());
    }
}
