//! Which folders of a repository are used: the others need not be paid for.

/// The part of a folder that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Whole,
    /// Of the folders in it, those on the way to these; each is the rest of a path, its first name last.
    Paths(Vec<Vec<String>>),
}

impl Scope {
    /// The scope of a list of folders; the whole without one.
    pub(crate) fn new(paths: Option<&[String]>) -> Self {
        let Some(paths) = paths else { return Self::Whole };
        let names = |path: &String| {
            let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
            names.rev().map(str::to_owned).collect::<Vec<_>>()
        };
        Self::of(paths.iter().map(names).collect())
    }

    fn of(paths: Vec<Vec<String>>) -> Self {
        match paths.iter().any(Vec::is_empty) {
            true => Self::Whole,
            false => Self::Paths(paths),
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// The scope within the folder `name`; `None` if nothing in it is used.
    pub(crate) fn enter(&self, name: &str) -> Option<Self> {
        let Self::Paths(paths) = self else { return Some(Self::Whole) };
        let within = paths.iter().filter_map(|path| match path.split_last() {
            Some((first, rest)) if first == name => Some(rest.to_vec()),
            _ => None,
        });
        let within: Vec<_> = within.collect();
        (!within.is_empty()).then(|| Self::of(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(paths: &[&str]) -> Scope {
        Scope::new(Some(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>()))
    }

    #[test]
    fn only_the_way_to_what_is_used_is_in_scope() {
        let clusters = scope(&["./clusters/a/", "clusters/b/apps"]).enter("clusters").unwrap();
        assert_eq!(clusters.enter("a"), Some(Scope::Whole));
        assert_eq!(clusters.enter("c"), None);
        assert_eq!(clusters.enter("b").unwrap().enter("apps"), Some(Scope::Whole));
        assert_eq!(scope(&["clusters"]).enter("apps"), None);
        assert_eq!(Scope::Whole.enter("anything"), Some(Scope::Whole));
    }

    #[test]
    fn the_root_and_a_folder_above_take_all_in() {
        for paths in [&["."][..], &[""], &["/"], &["a", "./"]] {
            assert!(scope(paths).is_whole(), "{paths:?}");
        }
        assert!(scope(&["a/b", "a"]).enter("a").unwrap().is_whole());
        assert_eq!(scope(&[]).enter("a"), None);
    }
}
