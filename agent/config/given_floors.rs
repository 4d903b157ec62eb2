//! `floors`: how low a source's history may begin, as the node's owner says.
//!
//! ```yaml
//! floors:
//!   flux-system/fleet: {commit: 2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4}
//!   apps/shop: {version: 1.4.0}
//! ```
//!
//! It holds for whatever URL and reference the source names: one that leads to another history is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};
use wickie_model::ResourceName;
use wickie_trust::Given;

/// The floor given for each source, by `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenFloors(BTreeMap<(String, String), Given>);

/// As written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    commit: Option<String>,
    version: Option<String>,
}

impl GivenFloors {
    /// The floor that is given for a source.
    pub fn of(&self, source: &ResourceName) -> Option<&Given> {
        self.0.get(&(source.namespace.clone(), source.name.clone()))
    }

    /// Takes over the floors of sources that have none here.
    pub(super) fn add_missing(&mut self, more: &Self) {
        for (source, given) in &more.0 {
            self.0.entry(source.clone()).or_insert_with(|| given.clone());
        }
    }
}

impl<'de> Deserialize<'de> for GivenFloors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
        let read = |(source, written): (String, Written)| {
            let refused = |why: &str| de::Error::custom(format!("floors[{source}] {why}"));
            let (namespace, name) = source
                .split_once('/')
                .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
                .ok_or_else(|| refused("is not written namespace/name"))?;
            let given = match (written.commit, written.version) {
                (Some(commit), None) => {
                    Given::Commit(commit.parse().map_err(|_| refused("names no commit: 40 hexadecimal digits"))?)
                }
                (None, Some(version)) => {
                    Given::Version(version.parse().map_err(|_| refused("names no version, like 1.4.0"))?)
                }
                _ => return Err(refused("takes a commit or a version")),
            };
            Ok(((namespace.to_owned(), name.to_owned()), given))
        };
        written.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floors_are_read_by_source() {
        let commit = "2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4";
        let floors = json!({"flux-system/fleet": {"commit": commit}, "apps/shop": {"version": "1.4.0"}});
        let floors: GivenFloors = serde_json::from_value(floors).unwrap();
        assert_eq!(
            floors.of(&ResourceName::new("flux-system", "fleet")),
            Some(&Given::Commit(commit.parse().unwrap()))
        );
        let version = Given::Version("1.4.0".parse().unwrap());
        assert_eq!(floors.of(&ResourceName::new("apps", "shop")), Some(&version));
        assert_eq!(floors.of(&ResourceName::new("apps", "fleet")), None);
    }

    #[test]
    fn a_floor_that_says_nothing_is_refused_by_name() {
        for bad in [
            json!({"fleet": {"version": "1.4.0"}}),
            json!({"a/b/c": {"version": "1.4.0"}}),
            json!({"apps/shop": {}}),
            json!({"apps/shop": {"commit": "main"}}),
            json!({"apps/shop": {"version": "1"}}),
            json!({"apps/shop": {"versoin": "1.4.0"}}),
        ] {
            assert!(serde_json::from_value::<GivenFloors>(bad.clone()).is_err(), "{bad}");
        }
    }
}
