//! Which part of a repository is used: the rest need not be paid for.
//!
//! Two things limit it. The paths that are used decide what is transferred; they name folders or files, and every part of
//! a path is a whole name. `spec.sparseCheckout` decides besides what is part of the snapshot at all, and its rule is
//! Flux's: a file is taken if its path *begins with* one of the texts (go-git, `Index.SkipUnless`), so that `apps` takes
//! `apps-2/a.yaml` too. A `.sourceignore` that is not taken counts for nothing, also as there.

use std::collections::BTreeSet;

use crate::store::Extent;

/// The part of a folder that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Each is the rest of a path, its first name last; nothing where all of the folder is used.
    used: Option<Vec<Vec<String>>>,
    /// What the paths of files from here begin with; nothing where each will do.
    sparse: Option<Vec<String>>,
    /// Whether this is the root of a project whose submodules are used.
    modules: bool,
}

impl Scope {
    /// All there is.
    pub(crate) const WHOLE: Self = Self { used: None, sparse: None, modules: false };

    /// The scope of a list of paths; the whole without one.
    pub(crate) fn new(paths: Option<&[String]>) -> Self {
        let names = |path: &String| names(path).rev().map(str::to_owned).collect::<Vec<_>>();
        let used = paths.and_then(|paths| rest(paths.iter().map(names).collect()));
        Self { used, ..Self::WHOLE }
    }

    /// The scope of what was, or is to be, accepted of a source.
    pub(crate) fn of(extent: &Extent) -> Self {
        let modules = extent.submodules;
        Self { modules, ..Self::new(extent.paths.as_deref()).limited_to(&extent.sparse) }
    }

    /// Of this, the files whose paths begin with one of these texts, if there are any.
    pub(crate) fn limited_to(self, sparse: &[String]) -> Self {
        let all = sparse.is_empty() || sparse.iter().any(|text| from_root(text).is_empty());
        let sparse = sparse.iter().map(|text| from_root(text).to_owned());
        Self { sparse: (!all).then(|| sparse.collect()), ..self }
    }

    /// All of what is taken of a source, whether it is used or not.
    pub(crate) fn shown(extent: &Extent) -> Self {
        Self { modules: extent.submodules, ..Self::WHOLE.limited_to(&extent.sparse) }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.used.is_none() && self.sparse.is_none()
    }

    /// The same, as the root of a project whose submodules are used.
    pub(crate) fn with_modules(self) -> Self {
        Self { modules: true, ..self }
    }

    /// Whether the submodules of this folder count: it is the root of a project.
    pub(crate) fn has_modules(&self) -> bool {
        self.modules
    }

    /// The scope within the folder `name`; `None` if nothing in it is used.
    pub(crate) fn enter(&self, name: &str) -> Option<Self> {
        let used = match &self.used {
            None => None,
            Some(paths) => {
                let within = paths.iter().filter_map(|path| match path.split_last() {
                    Some((first, rest)) if first == name => Some(rest.to_vec()),
                    _ => None,
                });
                let within: Vec<_> = within.collect();
                if within.is_empty() {
                    return None;
                }
                rest(within)
            }
        };
        let sparse = match &self.sparse {
            None => None,
            Some(texts) => {
                let folder = format!("{name}/");
                match texts.iter().any(|text| folder.starts_with(text.as_str())) {
                    true => None,
                    false => {
                        let within = texts.iter().filter_map(|text| text.strip_prefix(&folder)).map(str::to_owned);
                        Some(within.collect::<Vec<_>>()).filter(|within| !within.is_empty()).map(Some)?
                    }
                }
            }
        };
        Some(Self { used, sparse, modules: false })
    }

    /// Whether a file of this very folder is part of the snapshot.
    pub(crate) fn shows(&self, name: &str) -> bool {
        self.sparse.as_ref().is_none_or(|texts| texts.iter().any(|text| name.starts_with(text.as_str())))
    }

    /// Whether a file of this very folder is used.
    pub(crate) fn takes(&self, name: &str) -> bool {
        let alone = |paths: &Vec<Vec<String>>| paths.iter().any(|path| path.len() == 1 && path[0] == name);
        self.shows(name) && self.used.as_ref().is_none_or(alone)
    }

    /// Whether all that is used at `path` is used here.
    fn covers(&self, path: &str) -> bool {
        let mut at = self.clone();
        for name in names(path) {
            if at.used.is_none() || at.used.as_ref().is_some_and(|used| used.contains(&vec![name.to_owned()])) {
                return true;
            }
            match at.enter(name) {
                Some(within) => at = within,
                None => return false,
            }
        }
        at.used.is_none()
    }
}

/// The names of a path.
pub(crate) fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

/// As Flux trims the entries of `sparseCheckout`.
pub(crate) fn from_root(text: &str) -> &str {
    text.strip_prefix("./").unwrap_or(text)
}

/// What is left of paths: nothing, if one of them is at its end.
fn rest(paths: Vec<Vec<String>>) -> Option<Vec<Vec<String>>> {
    paths.iter().all(|path| !path.is_empty()).then_some(paths)
}

/// Whether `held` has all of `wanted`, and shows the same of it.
pub(crate) fn covers(held: &Extent, wanted: &Extent) -> bool {
    let scope = Scope::new(held.paths.as_deref());
    // Most are the very same, and there may be a thousand.
    let same: BTreeSet<&String> = held.paths.iter().flatten().collect();
    let paths = match &wanted.paths {
        None => scope.used.is_none(),
        Some(paths) => paths.iter().all(|path| same.contains(path) || scope.covers(path)),
    };
    paths && held.sparse == wanted.sparse && held.submodules == wanted.submodules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    fn scope(paths: &[&str]) -> Scope {
        Scope::new(Some(&owned(paths)))
    }

    #[test]
    fn only_the_way_to_what_is_used_is_in_scope() {
        let clusters = scope(&["./clusters/a/", "clusters/b/apps"]).enter("clusters").unwrap();
        assert_eq!(clusters.enter("a"), Some(Scope::WHOLE));
        assert_eq!(clusters.enter("c"), None);
        assert_eq!(clusters.enter("b").unwrap().enter("apps"), Some(Scope::WHOLE));
        assert_eq!(scope(&["clusters"]).enter("apps"), None);
        assert_eq!(Scope::WHOLE.enter("anything"), Some(Scope::WHOLE));
    }

    #[test]
    fn the_root_and_a_folder_above_take_all_in() {
        for paths in [&["."][..], &[""], &["/"], &["a", "./"]] {
            assert!(scope(paths).is_whole(), "{paths:?}");
        }
        assert!(scope(&["a/b", "a"]).enter("a").unwrap().is_whole());
        assert_eq!(scope(&[]).enter("a"), None);
    }

    #[test]
    fn a_path_may_name_a_file() {
        let scope = scope(&["common.yaml", "a/b.yaml"]);
        assert!(scope.takes("common.yaml") && !scope.takes("a") && !scope.takes("x"));
        assert!(scope.enter("a").unwrap().takes("b.yaml"));
    }

    #[test]
    fn sparse_checkout_is_flux_own_rule() {
        let scope = |texts: &[&str]| Scope::WHOLE.limited_to(&owned(texts));
        let apps = scope(&["./apps", "infra/net/"]);
        assert!(apps.enter("apps").unwrap().is_whole() && apps.enter("apps-2").unwrap().is_whole());
        assert!(apps.shows("apps.yaml") && !apps.shows("README.md") && apps.enter("docs").is_none());
        let infra = apps.enter("infra").unwrap();
        assert!(!infra.shows("a.yaml") && infra.enter("net").unwrap().is_whole() && infra.enter("net2").is_none());
        for all in [&[][..], &["./"], &["", "apps"]] {
            assert!(scope(all).is_whole(), "{all:?}");
        }
        for nothing in [&["/apps"][..], &["../x"], &["././apps"]] {
            assert!(scope(nothing).enter("apps").is_none(), "{nothing:?}");
        }
        // What is used is used as far as it is there.
        let both = Scope::new(Some(&owned(&["apps/a", "docs"]))).limited_to(&owned(&["apps"]));
        let apps = both.enter("apps").unwrap();
        assert!(apps.enter("a").unwrap().is_whole() && apps.enter("b").is_none() && both.enter("docs").is_none());
    }

    #[test]
    fn what_is_held_may_be_more_than_what_is_wanted() {
        let extent = |paths: &[&str]| Extent { paths: Some(owned(paths)), ..Extent::default() };
        let whole = Extent::default();
        for (held, wanted, is) in [
            (whole.clone(), extent(&["a"]), true),
            (extent(&["a", "b"]), extent(&["./b/c", "a/"]), true),
            (extent(&["a/b"]), extent(&["a"]), false),
            (extent(&["a"]), whole.clone(), false),
            (extent(&["."]), whole.clone(), true),
            (extent(&[]), extent(&[]), true),
            (whole.clone(), Extent { submodules: true, ..Extent::default() }, false),
            (whole, Extent { sparse: owned(&["a"]), ..Extent::default() }, false),
        ] {
            assert_eq!(covers(&held, &wanted), is, "{held:?} {wanted:?}");
        }
    }
}
