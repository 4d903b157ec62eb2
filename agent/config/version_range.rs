//! Ranges of versions, as Flux's users write them in `ref.semver`.
//!
//! The grammar is that of Masterminds/semver v3, which Flux uses, and not that of Cargo: groups are joined by `||`, the
//! comparisons within one by a blank or a comma; `1.x`, `~1.2`, `^1.2`, `1.2 - 1.4` and `*` abbreviate. A version with
//! a pre-release part fits only a comparison that itself names one.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, Version};

/// A range of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    groups: Vec<Vec<Comparison>>,
}

/// A text that is not a range of versions.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a range of versions: {detail}; write it like \">=1.2.0 <2.0.0\", \"1.x\" or \"~1.2\"")]
pub struct VersionRangeError {
    text: String,
    detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparison {
    operator: Operator,
    version: Version,
    /// How many of major, minor and patch were written; the others are wild.
    written: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Tilde,
    Caret,
}

/// Longest first, so that none is read as the beginning of another.
const OPERATORS: [(&str, Operator); 13] = [
    (">=", Operator::GreaterEqual),
    ("=>", Operator::GreaterEqual),
    ("<=", Operator::LessEqual),
    ("=<", Operator::LessEqual),
    ("!=", Operator::NotEqual),
    ("~>", Operator::Tilde),
    ("==", Operator::Equal),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
    ("", Operator::Equal),
];

impl VersionRange {
    /// Whether a version lies within the range.
    pub fn contains(&self, version: &Version) -> bool {
        self.groups.iter().any(|group| group.iter().all(|comparison| comparison.holds(version)))
    }

    /// The version that a tag names: three numbers, a leading `v` allowed (fluxcd/pkg/version).
    pub fn version_of_tag(tag: &str) -> Option<Version> {
        Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let failed = |detail: String| VersionRangeError { text: text.to_owned(), detail };
        if text.len() > 256 {
            return Err(failed("it is longer than 256 characters".to_owned()));
        }
        let groups = text.split("||").map(group).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok(Self { text: text.trim().to_owned(), groups })
    }
}

fn group(text: &str) -> Result<Vec<Comparison>, String> {
    if let Some((low, high)) = text.split_once(" - ") {
        return Ok(vec![comparison(&format!(">={}", low.trim()))?, comparison(&format!("<={}", high.trim()))?]);
    }
    let mut comparisons = Vec::new();
    // An operator may stand apart from its version: `>= 1.2`.
    let mut operator = String::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        operator.push_str(word);
        if word.chars().all(|c| "<>=!~^".contains(c)) {
            continue;
        }
        comparisons.push(comparison(&operator)?);
        operator.clear();
    }
    match comparisons.is_empty() || !operator.is_empty() {
        true => Err("a comparison is missing".to_owned()),
        false => Ok(comparisons),
    }
}

fn comparison(text: &str) -> Result<Comparison, String> {
    let (operator, rest) = OPERATORS
        .iter()
        .find_map(|(sign, operator)| text.strip_prefix(sign).map(|rest| (*operator, rest)))
        .unwrap_or((Operator::Equal, text));
    let rest = rest.strip_prefix('v').unwrap_or(rest);
    let (rest, _build) = rest.split_once('+').unwrap_or((rest, ""));
    let (numbers, pre) = rest.split_once('-').unwrap_or((rest, ""));
    let parts: Vec<&str> = numbers.split('.').collect();
    let written = parts.iter().position(|part| matches!(*part, "x" | "X" | "*")).unwrap_or(parts.len());
    if parts.len() > 3 {
        return Err(format!("{text:?} has more than three numbers"));
    }
    let mut values = [0; 3];
    for (value, part) in values.iter_mut().zip(&parts[..written]) {
        *value = part.parse().map_err(|_| format!("{part:?} is no number"))?;
    }
    let pre = Prerelease::new(pre).map_err(|error| format!("{pre:?}: {error}"))?;
    let [major, minor, patch] = values;
    let version = Version { major, minor, patch, pre, build: semver::BuildMetadata::EMPTY };
    Ok(Comparison { operator, version, written: written as u8 })
}

impl Comparison {
    fn holds(&self, version: &Version) -> bool {
        if !version.pre.is_empty() && self.version.pre.is_empty() {
            return false;
        }
        let order = version.cmp_precedence(&self.version);
        let same_minor = version.major == self.version.major && version.minor == self.version.minor;
        match self.operator {
            Operator::Equal if self.written < 3 => self.tilde(version),
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => match self.written {
                0 => false,
                1 => version.major != self.version.major,
                2 => !same_minor,
                _ => order.is_ne(),
            },
            Operator::Greater => match self.written {
                0 => false,
                1 => version.major > self.version.major,
                2 => order.is_gt() && !same_minor,
                _ => order.is_gt(),
            },
            Operator::GreaterEqual => order.is_ge(),
            Operator::Less => order.is_lt(),
            Operator::LessEqual => match self.written {
                0 => true,
                1 => version.major <= self.version.major,
                2 => order.is_lt() || same_minor,
                _ => order.is_le(),
            },
            Operator::Tilde => self.tilde(version),
            Operator::Caret => self.caret(version),
        }
    }

    /// `~1.2.3` is at least that, below 1.3; `~1` is any of 1.
    fn tilde(&self, version: &Version) -> bool {
        let base = &self.version;
        match self.written {
            0 => true,
            1 => version.major == base.major,
            _ => version.cmp_precedence(base).is_ge() && version.major == base.major && version.minor == base.minor,
        }
    }

    /// `^1.2.3` is at least that, below the next change of its first number that is not zero.
    fn caret(&self, version: &Version) -> bool {
        let base = &self.version;
        if version.cmp_precedence(base).is_lt() {
            return false;
        }
        match (self.written, base.major, base.minor) {
            (0, ..) => true,
            (1, ..) => version.major == base.major,
            (_, major, _) if major > 0 => version.major == major,
            (2, ..) => version.major == 0 && version.minor == base.minor,
            (_, _, minor) if minor > 0 => version.major == 0 && version.minor == minor,
            _ => version.major == 0 && version.minor == 0 && version.patch == base.patch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_masterminds_reads_them() {
        // Out of Masterminds/semver's own table (constraints_test.go) and its README.
        for (range, version, fits) in [
            ("=2.0.0", "1.2.3", false),
            ("=2.0", "2.0.1", true),
            ("4.1", "4.1.9", true),
            ("4.1", "4.2.0", false),
            ("1.x", "1.9.9", true),
            ("1.x", "2.0.0", false),
            ("!=4.1", "4.1.3", false),
            ("!=4.x", "5.1.0", true),
            (">1.1", "1.1.1", false),
            (">1.1", "1.2.0", true),
            (">11", "11.1.0", false),
            (">11", "12.0.0", true),
            ("<1.1", "1.1.0", false),
            ("<=11", "11.9.9", true),
            ("<=1.1", "1.1.9", true),
            ("<=1.1", "1.2.0", false),
            (">= 1.2, < 2.0", "1.9.0", true),
            (">=1.2.0 <2.0.0", "2.0.0", false),
            (">=1.0.0 <1.3.0 || >=2.1.0", "2.1.0", true),
            ("1.2 - 1.4.5", "1.4.5", true),
            ("1.2 - 1.4.5", "1.4.6", false),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("~1", "1.9.0", true),
            ("^1.2.3", "1.9.0", true),
            ("^1.2.3", "2.0.0", false),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("^0", "0.9.0", true),
            ("*", "3.1.4", true),
            ("v1.2.3", "1.2.3", true),
            // A pre-release fits only where one is asked for.
            ("*", "1.0.0-rc.1", false),
            (">=1.0.0", "1.1.0-rc.1", false),
            (">=1.0.0-0", "1.1.0-rc.1", true),
        ] {
            let range: VersionRange = range.parse().unwrap();
            assert_eq!(range.contains(&version.parse().unwrap()), fits, "{range} {version}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "||", "abc", ">=", ">>1", "1.2.3.4", "1.a", "-1", "1.2.3-é"] {
            assert!(text.parse::<VersionRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tag_is_a_version_with_three_numbers() {
        assert_eq!(VersionRange::version_of_tag("v1.2.3"), Some(Version::new(1, 2, 3)));
        assert_eq!(VersionRange::version_of_tag("1.2.3-rc.1").unwrap().pre.as_str(), "rc.1");
        for tag in ["v1.2", "release-1.2.3", "vv1.2.3", "1"] {
            assert!(VersionRange::version_of_tag(tag).is_none(), "{tag}");
        }
    }
}
