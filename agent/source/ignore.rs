//! What of a tree is not part of the snapshot: Flux's defaults, `.sourceignore` files, `spec.ignore`.
//!
//! Source: fluxcd/pkg/sourceignore, and the matcher of its gitignore package: of all patterns the last one that matches
//! a file *or one of its folders* decides. That is git's syntax but not quite git's rule (git never looks into an
//! excluded folder), and `!/deploy` after `/*` relies on it.
//!
//! Where patterns are given, they take the place of Flux's list of extensions and CI files (`SourceIgnoreFilter` in
//! fluxcd/pkg/artifact), and Git's own files are left out all the same. There, a `.sourceignore` anywhere in the tree does
//! that for all of it; here, for its folder and what is beneath, since what lies elsewhere may not have been fetched.

use gix_glob::pattern::Case;
use gix_glob::{Pattern, wildmatch};

/// The file whose lines are patterns for its folder.
pub(crate) const FILE: &str = ".sourceignore";

/// `ExcludeVCS`.
const VCS: &str = ".git/,.gitignore,.gitmodules,.gitattributes";

/// `ExcludeExt`, `ExcludeCI` and `ExcludeExtra`, in their order.
const DEFAULTS: &str = "*.jpg,*.jpeg,*.gif,*.png,*.wmv,*.flv,*.tar.gz,*.zip,\
.github/,.circleci/,.travis.yml,.gitlab-ci.yml,appveyor.yml,.drone.yml,cloudbuild.yaml,codeship-services.yml,codeship-steps.yml,\
**/.goreleaser.yml,**/.sops.yaml,**/.flux.yaml";

/// Longer files are no list of patterns.
const LONGEST: usize = 1 << 20;

/// Patterns that apply within one folder.
#[derive(Clone, Debug)]
pub(crate) struct Patterns {
    /// The folder, with a slash at its end; empty for the root.
    domain: String,
    patterns: Vec<Pattern>,
}

impl Patterns {
    /// Flux's own, where nobody gives any.
    pub(crate) fn defaults() -> Self {
        Self::parse("", &format!("{VCS},{DEFAULTS}").replace(',', "\n"))
    }

    /// Those of Flux's own that stand beside given ones.
    pub(crate) fn beside_given() -> Self {
        Self::parse("", &VCS.replace(',', "\n"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The lines of a file in the folder `domain`, or of `spec.ignore` with an empty one.
    pub(crate) fn parse(domain: &str, text: &str) -> Self {
        let text = text.get(..LONGEST).unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let patterns = lines.filter_map(|line| Pattern::from_bytes(line.as_bytes())).collect();
        Self { domain: domain.to_owned(), patterns }
    }

    /// What the last matching pattern says of a file: `Some(true)` to leave it out, `Some(false)` to keep it.
    fn verdict(&self, path: &str) -> Option<bool> {
        let within = path.strip_prefix(&self.domain)?;
        let matching = self.patterns.iter().rev().find(|pattern| matches_any_part(pattern, within))?;
        Some(!matching.is_negative())
    }
}

/// Whether the pattern matches the path or one of the folders it lies in.
fn matches_any_part(pattern: &Pattern, path: &str) -> bool {
    let folders = path.match_indices('/').map(|(at, _)| (&path[..at], true));
    folders.chain([(path, false)]).any(|(part, is_folder)| {
        let base = part.rfind('/').map(|slash| slash + 1);
        let mode = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
        pattern.matches_repo_relative_path(part.into(), base, Some(is_folder), Case::Sensitive, mode)
    })
}

/// Whether a file is left out, by a list of patterns of which the later ones count more.
pub(crate) fn is_ignored<'a>(lists: impl DoubleEndedIterator<Item = &'a Patterns>, path: &str) -> bool {
    lists.rev().find_map(|list| list.verdict(path)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(lists: &[Patterns], path: &str) -> bool {
        is_ignored(lists.iter(), path)
    }

    #[test]
    fn defaults_are_flux_own() {
        let lists = [Patterns::defaults()];
        for path in [
            ".gitignore",
            "a/.gitattributes",
            "logo.png",
            "a/b.tar.gz",
            ".github/workflows/ci.yaml",
            "a/.github/x",
            "x/.sops.yaml",
        ] {
            assert!(ignored(&lists, path), "{path}");
        }
        for path in ["deploy/app.yaml", ".sourceignore", "png", "a.png.yaml"] {
            assert!(!ignored(&lists, path), "{path}");
        }
    }

    #[test]
    fn the_example_of_flux_documentation_holds() {
        // source-controller, docs/spec/v1/gitrepositories.md, "Ignore spec".
        let spec = Patterns::parse(
            "",
            "# exclude all\n/*\n# include deploy dir\n!/deploy\n# exclude file extensions from deploy dir\n/deploy/**/*.md\n/deploy/**/*.txt\n",
        );
        let lists = [Patterns::beside_given(), spec];
        assert!(ignored(&lists, "README.md"));
        assert!(ignored(&lists, "other/a.yaml"));
        assert!(ignored(&lists, "deploy/a/b.md"));
        assert!(!ignored(&lists, "deploy/a.yaml"));
        assert!(!ignored(&lists, "deploy/a/b.yaml"));
    }

    #[test]
    fn a_file_can_be_kept_out_of_an_excluded_folder() {
        let lists = [Patterns::parse("", "foo/\n!foo/keep.yaml\n")];
        assert!(ignored(&lists, "foo/a.yaml"));
        assert!(!ignored(&lists, "foo/keep.yaml"));
    }

    #[test]
    fn patterns_apply_within_their_folder() {
        let lists = [Patterns::parse("apps/", "/*.md\n"), Patterns::parse("", "!CHANGES.md\n")];
        assert!(ignored(&lists, "apps/README.md"));
        assert!(!ignored(&lists, "apps/x/README.md"));
        assert!(!ignored(&lists, "README.md"));
        assert!(!ignored(&lists, "apps/CHANGES.md"));
    }
}
