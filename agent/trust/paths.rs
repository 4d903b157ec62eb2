//! Which signers may change which paths of a repository.
//!
//! Rules stand in order, and the first one that covers a path decides; a path that none covers may be changed by every
//! believed signer. A rule for `**` at the end closes that.

use std::fmt;

use crate::Signer;

/// A pattern of paths: names parted by `/`, in which `*` and `?` stand for text within a name, and `**` for any number
/// of names. It covers what it matches and all that lies beneath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Vec<String>);

/// Who may change some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The paths.
    pub paths: Vec<PathPattern>,
    /// Names of signers, or of the authority that vouches for them.
    pub signers: Vec<String>,
    /// How many of them must have signed; at least one.
    pub threshold: u32,
}

/// The rules of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathRules(Vec<PathRule>);

/// The most names that a path or pattern may consist of: what matching costs grows with both.
const DEEPEST: usize = 64;

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl PathPattern {
    /// Reads a pattern. A leading `./` or `/` and a trailing `/` mean nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> =
            text.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect();
        match names.as_slice() {
            [] => Err(format!("{text:?} names no path; write ** for all")),
            names if names.iter().any(|name| name == "..") => Err(format!("{text:?} leads out of the repository")),
            names if names.len() > DEEPEST => Err(format!("{text:?} is deeper than {DEEPEST} folders")),
            _ => Ok(Self(names)),
        }
    }

    /// Whether it covers a path, given as its names.
    fn covers(&self, path: &[&str]) -> bool {
        // Which beginnings of the pattern match the names so far.
        let pattern = &self.0;
        let mut reached = vec![false; pattern.len() + 1];
        reached[0] = true;
        skip_stars(pattern, &mut reached);
        for name in path {
            if reached[pattern.len()] {
                return true;
            }
            let mut next = vec![false; pattern.len() + 1];
            for (at, part) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match part.as_str() {
                    "**" => next[at] = true,
                    part if crate::ssh::matches(part, name) => next[at + 1] = true,
                    _ => {}
                }
            }
            reached = next;
            skip_stars(pattern, &mut reached);
        }
        reached[pattern.len()]
    }
}

/// `**` stands for no name too.
fn skip_stars(pattern: &[String], reached: &mut [bool]) {
    for (at, part) in pattern.iter().enumerate() {
        if reached[at] && part == "**" {
            reached[at + 1] = true;
        }
    }
}

impl PathRule {
    /// Whether enough of these signers are among those of the rule.
    pub fn allows(&self, by: &[Signer]) -> bool {
        let ours: Vec<Signer> = by.iter().filter(|signer| signer.is_one_of(&self.signers)).cloned().collect();
        owners(&ours) >= self.threshold.max(1) as usize
    }
}

impl PathRules {
    /// Rules, in order.
    pub fn new(rules: Vec<PathRule>) -> Self {
        Self(rules)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn all(&self) -> &[PathRule] {
        &self.0
    }

    /// The rule that decides on a path.
    pub fn of(&self, path: &str) -> Option<&PathRule> {
        let names: Vec<&str> = path.split('/').collect();
        self.0.iter().find(|rule| rule.paths.iter().any(|pattern| pattern.covers(&names)))
    }
}

/// How many owners some signers are: who signs twice, or with two keys, is one.
pub fn owners(signers: &[Signer]) -> usize {
    let mut owners: Vec<&str> = signers.iter().map(|signer| signer.owner.name.as_str()).collect();
    owners.sort_unstable();
    owners.dedup();
    owners.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Owner;

    fn signer(owner: &str, group: Option<&str>) -> Signer {
        let whose = Owner { name: owner.to_owned(), group: group.map(str::to_owned), issuer: None };
        Signer { key: format!("key of {owner}"), name: None, owner: Box::new(whose) }
    }

    #[test]
    fn a_pattern_covers_what_it_matches_and_what_lies_beneath() {
        for (pattern, path, covers) in [
            ("clusters/prod", "clusters/prod", true),
            ("clusters/prod/", "clusters/prod/a/b.yaml", true),
            ("clusters/prod", "clusters/production/a.yaml", false),
            ("clusters/prod", "clusters/a.yaml", false),
            ("clusters/prod", "clusters", false),
            ("./clusters/*/apps", "clusters/oslo/apps/x", true),
            ("clusters/*/apps", "clusters/oslo/x/apps", false),
            ("**/secret.yaml", "secret.yaml", true),
            ("**/secret.yaml", "a/b/secret.yaml", true),
            ("**/secret.yaml", "a/b/secret.yaml.txt", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z/more", true),
            ("a/**", "b", false),
            ("**", "anything", true),
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a/b.yaml", false),
        ] {
            let read = PathPattern::parse(pattern).unwrap();
            assert_eq!(read.covers(&path.split('/').collect::<Vec<_>>()), covers, "{pattern} {path}");
        }
        for wrong in ["", "/", "./", "a/../b"] {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_rule_decides_and_counts_owners() {
        let rule = |path: &str, signers: &[&str], threshold| PathRule {
            paths: vec![PathPattern::parse(path).unwrap()],
            signers: signers.iter().map(|name| (*name).to_owned()).collect(),
            threshold,
        };
        let rules =
            PathRules::new(vec![rule("prod/shop", &["cy"], 1), rule("prod", &["ada", "team"], 2), rule("**", &[], 1)]);
        let (ada, cy) = (signer("ada", None), signer("cy", None));
        let (one, two) = (signer("team/one", Some("team")), signer("team/two", Some("team")));
        assert!(rules.of("prod/shop/a").unwrap().allows(std::slice::from_ref(&cy)));
        assert!(!rules.of("prod/shop/a").unwrap().allows(std::slice::from_ref(&ada)));
        let prod = rules.of("prod/a").unwrap();
        assert!(!prod.allows(&[ada.clone(), ada.clone()]));
        assert!(!prod.allows(&[ada.clone(), cy]));
        assert!(prod.allows(&[ada, one.clone()]));
        assert!(prod.allows(&[one, two]));
        assert!(!rules.of("readme").unwrap().allows(&[signer("ada", None)]));
    }
}
