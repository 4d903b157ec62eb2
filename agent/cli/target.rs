//! How an object is named on the command line: `shop`, `source/fleet`, `kustomization/shop`.

use std::str::FromStr;

use wickie_model::ResourceKind;

/// A name, with its kind where one was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Option<ResourceKind>,
    pub(super) name: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((kind, name)) => (Some(kind_named(kind)?), name),
        };
        if name.is_empty() || name.contains('/') {
            return Err("it is written NAME, or source/NAME; the namespace goes into -n".to_owned());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

/// The kind that a word before the slash means: its name or plural in any case, or what is short for it.
fn kind_named(word: &str) -> Result<ResourceKind, String> {
    let word = word.to_lowercase();
    match word.as_str() {
        "source" | "gitrepo" => return Ok(ResourceKind::GitRepository),
        "ks" => return Ok(ResourceKind::Kustomization),
        _ => {}
    }
    ResourceKind::ALL.into_iter().find(|kind| word == kind.as_str().to_lowercase() || word == kind.plural()).ok_or_else(
        || format!("{word:?} is not a kind: write source/NAME for a GitRepository, NAME for a Kustomization"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, kind) in [
            ("shop", None),
            ("source/shop", Some(ResourceKind::GitRepository)),
            ("GitRepository/shop", Some(ResourceKind::GitRepository)),
            ("ks/shop", Some(ResourceKind::Kustomization)),
            ("providers/shop", Some(ResourceKind::Provider)),
        ] {
            assert_eq!(text.parse(), Ok(Target { kind, name: "shop".to_owned() }), "{text}");
        }
        for text in ["", "source/", "helm/x", "ks/a/b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
