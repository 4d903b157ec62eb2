//! Trees: the names in them come from outside and become paths, so each is checked.
//!
//! The rules are those of git's fsck.c and of `verify_path`: no empty name, no `/`, no `.` or `..`, nothing that a
//! file system somewhere takes for `.git` (HFS+ ignores some code points, NTFS has short names), entries sorted and
//! without a name twice. Beyond that, names are UTF-8 without control characters: they appear in statuses and logs.

use std::cmp::Ordering;

use gix_object::TreeRefIter;
use gix_object::bstr::ByteSlice as _;
use gix_object::tree::{EntryKind, name_order};
use gix_validate::path::component;
use wickie_model::Oid;

use super::object::{ObjectError, model_id};

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileMode {
    /// A file.
    Regular,
    /// A file with the right to be run.
    Executable,
    /// A symbolic link: its bytes are the path it points to.
    Symlink,
}

/// What an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Directory,
    File(FileMode),
    /// A commit of another repository, which is not fetched.
    Submodule,
}

/// One entry of a tree, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeEntry {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) oid: Oid,
}

/// The longest name of an entry; file systems allow 255.
const LONGEST_NAME: usize = 255;

/// Reads and checks a tree.
pub(crate) fn parse(oid: Oid, bytes: &[u8]) -> Result<Vec<TreeEntry>, ObjectError> {
    let malformed = |detail: String| ObjectError::Malformed { kind: "tree", oid, detail };
    let mut entries = Vec::new();
    let mut previous: Option<(&[u8], bool)> = None;
    for entry in TreeRefIter::from_bytes(bytes, gix_hash::Kind::Sha1) {
        let entry = entry.map_err(|error| malformed(error.to_string()))?;
        let hostile = |detail: String| {
            let name = entry.filename.to_str_lossy().into_owned();
            ObjectError::Hostile { oid, name, detail }
        };
        let target = match entry.mode.kind() {
            EntryKind::Tree => Target::Directory,
            EntryKind::Blob => Target::File(FileMode::Regular),
            EntryKind::BlobExecutable => Target::File(FileMode::Executable),
            EntryKind::Link => Target::File(FileMode::Symlink),
            EntryKind::Commit => Target::Submodule,
        };
        let directory = target == Target::Directory;
        let name = check_name(entry.filename.as_bytes(), target).map_err(hostile)?;
        match previous.map(|(before, was_directory)| name_order(before, was_directory, entry.filename, directory)) {
            None | Some(Ordering::Less) => {}
            Some(Ordering::Equal) => return Err(hostile("it is there twice".to_owned())),
            Some(Ordering::Greater) => return Err(hostile("it stands out of order".to_owned())),
        }
        previous = Some((entry.filename, directory));
        entries.push(TreeEntry { name, target, oid: model_id(entry.oid) });
    }
    no_name_twice(oid, &entries)?;
    Ok(entries)
}

fn check_name(name: &[u8], target: Target) -> Result<String, String> {
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let mode = matches!(target, Target::File(FileMode::Symlink)).then_some(component::Mode::Symlink);
    gix_validate::path::component(name.into(), mode, options).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(name).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.chars().any(is_invisible) {
        return Err("it holds control or direction-changing characters".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("it is longer than {LONGEST_NAME} bytes"));
    }
    Ok(text.to_owned())
}

/// Control characters, and those that make a text read otherwise than it is written (Unicode TR 36, "bidi spoofing").
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// A file `a` and a directory `a` sort apart, with `a.b` between them: order alone does not find them.
fn no_name_twice(oid: Oid, entries: &[TreeEntry]) -> Result<(), ObjectError> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(ObjectError::Hostile { oid, name: pair[0].to_owned(), detail: "it is there twice".to_owned() })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, &[u8])]) -> Result<Vec<TreeEntry>, ObjectError> {
        let mut bytes = Vec::new();
        for (mode, name) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(&[9; 20]);
        }
        parse(Oid::from_bytes([1; 20]), &bytes)
    }

    #[test]
    fn an_honest_tree_is_read() {
        let entries = tree(&[
            ("100644", b".sourceignore"),
            ("100755", b"a.sh"),
            ("40000", b"deploy"),
            ("120000", b"link"),
            ("160000", b"sub"),
        ])
        .unwrap();
        let targets: Vec<_> = entries.iter().map(|entry| entry.target).collect();
        assert_eq!(
            targets,
            [
                Target::File(FileMode::Regular),
                Target::File(FileMode::Executable),
                Target::Directory,
                Target::File(FileMode::Symlink),
                Target::Submodule
            ]
        );
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            &b"."[..],
            b"..",
            b"",
            b".git",
            b".GIT",
            b".Git",
            b"git~1",
            b"GIT~1",
            b"a/b",
            b".git ",
            b".git.",
            b".git::$INDEX_ALLOCATION",
            b".g\xe2\x80\x8cit",
            b"\xef\xbb\xbf.git",
            b"a\nb",
            b"a\x1b[2J",
            b"a\x00b",
            b"\xff",
            b"x\xe2\x80\xaefdp.exe",
        ] {
            assert!(tree(&[("100644", name)]).is_err(), "{name:?}");
            assert!(tree(&[("40000", name)]).is_err(), "{name:?}");
        }
        assert!(tree(&[("100644", &[b'a'; 256])]).is_err());
        assert!(tree(&[("120000", b".gitmodules")]).is_err());
        assert!(tree(&[("100644", b".gitmodules")]).is_ok());
    }

    #[test]
    fn a_name_is_there_once_and_in_order() {
        for entries in [
            &[("100644", &b"a"[..]), ("100644", b"a")][..],
            &[("100644", b"b"), ("100644", b"a")],
            &[("100644", b"a"), ("100644", b"a.b"), ("40000", b"a")],
            &[("40000", b"a"), ("100644", b"a.b")],
        ] {
            assert!(tree(entries).is_err(), "{entries:?}");
        }
        assert!(tree(&[("100644", b"a.b"), ("40000", b"a")]).is_ok());
    }
}
