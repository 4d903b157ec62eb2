//! Where things lie in a repository, and how its files are opened.
//!
//! Source: gitrepository-layout(5); gitformat-index's `extensions` in git-config(1) and repository-version(5).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::LocalError;

/// A `config` larger than this is none.
const LARGEST_CONFIG: u64 = 1 << 20;

/// Extensions of the repository's format that change nothing of what is read here.
const HARMLESS: [&str; 6] =
    ["noop", "noop-v1", "preciousobjects", "partialclone", "worktreeconfig", "relativeworktrees"];

/// The directory that holds `HEAD`, `objects` and `refs`, with all links on the way to it resolved.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) path: PathBuf,
}

/// A file that is read in places.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) path: PathBuf,
    pub(super) length: u64,
    file: File,
}

impl Layout {
    /// Finds the repository at `path` and refuses what cannot be read; with `roots`, it must lie beneath one of them.
    pub(super) fn open(path: &Path, roots: Option<&[PathBuf]>) -> Result<Self, LocalError> {
        let absent = |what| LocalError::Absent { path: path.to_owned(), what };
        let found = match fs::canonicalize(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent("nothing is there")),
            Err(source) => return Err(LocalError::Io { path: path.to_owned(), source }),
        };
        let beneath = |root: &PathBuf| fs::canonicalize(root).is_ok_and(|root| found.starts_with(root));
        if !roots.is_none_or(|roots| roots.iter().any(beneath)) {
            return Err(LocalError::Outside { path: path.to_owned() });
        }
        let inner = found.join(".git");
        let layout = match fs::symlink_metadata(&inner) {
            Ok(there) if there.is_dir() => Self { path: inner },
            Ok(there) if there.is_file() => {
                let what = "is a work tree or a submodule of another one: name the repository itself".to_owned();
                return Err(LocalError::Unsupported { path: found, what });
            }
            Ok(_) => return Err(LocalError::NotPlain { path: inner }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self { path: found },
            Err(source) => return Err(LocalError::Io { path: inner, source }),
        };
        if layout.file("HEAD")?.is_none() || !layout.has_folder("objects")? {
            return Err(absent("HEAD or objects is missing there"));
        }
        layout.check_format()?;
        Ok(layout)
    }

    fn check_format(&self) -> Result<(), LocalError> {
        let unsupported = |what: &str| LocalError::Unsupported { path: self.path.clone(), what: what.to_owned() };
        if self.file("commondir")?.is_some() {
            return Err(unsupported("is a work tree of another one: name the repository itself"));
        }
        if self.file("objects/info/alternates")?.is_some() {
            return Err(unsupported(
                "borrows objects from another one, which is not followed: run `git repack -ad` there",
            ));
        }
        if let Some(config) = self.file("config")? {
            let text = String::from_utf8_lossy(&config.whole(LARGEST_CONFIG)?).into_owned();
            unreadable(&text).map_or(Ok(()), |what| Err(unsupported(&what)))?;
        }
        match self.has_folder("reftable")? {
            true => Err(unsupported(REFTABLE)),
            false => Ok(()),
        }
    }

    /// Opens a file by its path in the repository; `None` if it is not there.
    pub(super) fn file(&self, relative: &str) -> Result<Option<Plain>, LocalError> {
        let path = self.path.join(relative);
        let Some(there) = self.look(relative)? else { return Ok(None) };
        if !there.is_file() {
            return Err(LocalError::NotPlain { path });
        }
        let failed = |source| LocalError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let length = file.metadata().map_err(failed)?.len();
        Ok(Some(Plain { path, length, file }))
    }

    /// The names in a folder, as far as they are text; none where there is no such folder. At most `most`.
    pub(super) fn names(&self, relative: &str, most: u32) -> Result<Vec<(String, bool)>, LocalError> {
        let path = self.path.join(relative);
        let failed = |source| LocalError::Io { path: path.clone(), source };
        match self.look(relative)? {
            None => return Ok(Vec::new()),
            Some(there) if !there.is_dir() => return Err(LocalError::NotPlain { path }),
            Some(_) => {}
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if names.len() >= most as usize {
                return Err(LocalError::TooMuch { what: "files in one folder", limit: most.into() });
            }
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, entry.file_type().map_err(failed)?.is_dir()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn has_folder(&self, relative: &str) -> Result<bool, LocalError> {
        Ok(self.look(relative)?.is_some_and(|there| there.is_dir()))
    }

    /// What lies at a path in the repository; no link is followed on the way to it.
    fn look(&self, relative: &str) -> Result<Option<fs::Metadata>, LocalError> {
        let mut path = self.path.clone();
        let mut found = None;
        for part in relative.split('/') {
            path.push(part);
            match fs::symlink_metadata(&path) {
                Ok(there) if there.is_symlink() => return Err(LocalError::NotPlain { path }),
                Ok(there) => found = Some(there),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(None);
                }
                Err(source) => return Err(LocalError::Io { path, source }),
            }
        }
        Ok(found)
    }
}

impl Plain {
    /// Fills `buffer` from `offset` on.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), LocalError> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|source| LocalError::Io { path: self.path.clone(), source })
    }

    /// All of it, if it is no longer than `most`.
    pub(super) fn whole(&self, most: u64) -> Result<Vec<u8>, LocalError> {
        if self.length > most {
            return Err(self.malformed(format!("it is longer than {most} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// A reader of the bytes from `offset` on.
    pub(super) fn from(&self, offset: u64) -> From<'_> {
        From { plain: self, offset }
    }

    pub(super) fn malformed(&self, what: impl Into<String>) -> LocalError {
        LocalError::Malformed { path: self.path.clone(), what: what.into() }
    }
}

/// Reads a file from somewhere on, place by place.
pub(super) struct From<'a> {
    plain: &'a Plain,
    offset: u64,
}

impl io::Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

const REFTABLE: &str =
    "keeps its references in a reftable, which is not read: run `git refs migrate --ref-format=files` there";

/// Why a repository with this `config` cannot be read.
fn unreadable(config: &str) -> Option<String> {
    let (mut section, mut version) = (String::new(), 0);
    for line in config.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').trim().to_lowercase();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, "true"));
        let (key, value) = (key.trim().to_lowercase(), value.trim().trim_matches('"').to_lowercase());
        match (section.as_str(), key.as_str(), value.as_str()) {
            ("core", "repositoryformatversion", number) => version = number.parse().unwrap_or(u32::MAX),
            ("extensions", "objectformat", "sha1") | ("extensions", "refstorage", "files") => {}
            ("extensions", "objectformat", format) => {
                return Some(format!("uses {format} object ids; only sha1 is supported"));
            }
            ("extensions", "refstorage", "reftable") => return Some(REFTABLE.to_owned()),
            ("extensions", "", _) => {}
            ("extensions", name, _) if !HARMLESS.contains(&name) => {
                return Some(format!("uses the extension {name:?} of its format, which is not known here"));
            }
            _ => {}
        }
    }
    (version > 1).then(|| format!("has the format version {version}; 0 and 1 are supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_would_be_misread_are_refused() {
        let words = |config: &str| unreadable(config).unwrap_or_default();
        assert_eq!(words("[core]\n\trepositoryformatversion = 0\n\tbare = true\n"), "");
        assert_eq!(words("[core]\nrepositoryFormatVersion=1\n[extensions]\n\tobjectFormat = sha1 ; ours\n"), "");
        assert!(words("[extensions]\n\tobjectformat = sha256\n").contains("sha256"));
        assert!(words("[Extensions]\nrefStorage = \"reftable\"\n").contains("git refs migrate"));
        assert!(words("[extensions]\n\tcompatobjectformat = sha256\n").contains("compatobjectformat"));
        assert!(words("[core]\nrepositoryformatversion = 2\n").contains('2'));
    }
}
