//! Copies of the trust floor outside the store: how one is written, and the file beside the store.
//!
//! A copy is one line of JSON. The file holds one a source, and the digest of them all: what a disk or a person has
//! damaged is not taken for a floor. It is written aside, synced, and moved into place, so that a power cut leaves the
//! old one or the new one; and only when a floor moves.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use wickie_model::{Digest, Oid, ResourceName};
use wickie_trust::Floor;

/// The floor of a source, as it is kept outside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFloor {
    /// Whose.
    pub source: ResourceName,
    /// The floor.
    pub floor: Floor,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// A copy that cannot be read: damaged, or by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no floor: {0}")]
pub struct NoFloor(String);

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    namespace: String,
    name: String,
    track: String,
    commit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    accepted: Timestamp,
}

impl KeptFloor {
    /// The one line of JSON.
    pub fn to_line(&self) -> String {
        let Self { source, floor, accepted_at } = self;
        let written = Written {
            namespace: source.namespace.clone(),
            name: source.name.clone(),
            track: floor.track.clone(),
            commit: floor.commit.to_string(),
            tag: floor.tag.map(|tag| tag.to_string()),
            version: floor.version.as_ref().map(Version::to_string),
            accepted: *accepted_at,
        };
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Reads such a line.
    pub fn from_line(line: &str) -> Result<Self, NoFloor> {
        let refused = |error: &dyn std::fmt::Display| NoFloor(error.to_string());
        let written: Written = serde_json::from_str(line).map_err(|error| refused(&error))?;
        let oid = |text: &str| text.parse::<Oid>().map_err(|error| refused(&error));
        let floor = Floor {
            track: written.track,
            commit: oid(&written.commit)?,
            tag: written.tag.as_deref().map(oid).transpose()?,
            version: written
                .version
                .map(|text| text.parse::<Version>())
                .transpose()
                .map_err(|error| refused(&error))?,
        };
        Ok(Self { source: ResourceName::new(written.namespace, written.name), floor, accepted_at: written.accepted })
    }
}

/// A floor as the store has it.
#[derive(Clone, Debug)]
pub struct OwnFloor {
    /// The floor.
    pub kept: KeptFloor,
    /// What it moved on from on its track.
    pub passed: Vec<Oid>,
}

/// A place takes no more floors than these; of sources that the store does not know the oldest go first.
const MOST: usize = 4_096;

/// Brings a place's copies up to the store's floors, and says whether that changed any. `moved` was accepted just now:
/// copies of its other tracks are void.
///
/// A copy that is not known to lie behind is left as it is, as is one of a source that the store knows nothing of: what
/// is written never lowers.
pub fn merge_floors(copies: &mut Vec<KeptFloor>, own: &[OwnFloor], moved: Option<&ResourceName>) -> bool {
    let before = copies.clone();
    for OwnFloor { kept, passed } in own {
        let moved = moved == Some(&kept.source);
        let of_source = |copy: &KeptFloor| copy.source == kept.source;
        let of_track = |copy: &KeptFloor| of_source(copy) && copy.floor.track == kept.floor.track;
        let behind = |copy: &KeptFloor| passed.contains(&copy.floor.commit);
        copies.retain(|copy| !of_source(copy) || if of_track(copy) { !(moved || behind(copy)) } else { !moved });
        if !copies.iter().any(of_track) {
            copies.push(kept.clone());
        }
    }
    copies.sort_by(|one, two| {
        (&one.source, &one.floor.track, one.floor.commit).cmp(&(&two.source, &two.floor.track, two.floor.commit))
    });
    if copies.len() > MOST {
        let is_own = |copy: &KeptFloor| own.iter().any(|own| own.kept == *copy);
        copies.sort_by_key(|copy| (!is_own(copy), std::cmp::Reverse(copy.accepted_at)));
        copies.truncate(MOST);
    }
    *copies != before
}

/// The file beside the store that holds a copy of every floor.
#[derive(Clone, Debug)]
pub struct FloorFile(PathBuf);

/// How the file was found.
#[derive(Debug)]
pub enum FloorsFound {
    /// Whole.
    Whole(Vec<KeptFloor>),
    /// There is none.
    Missing,
    /// It cannot be read, or not be believed: why.
    Damaged(String),
}

/// What the first line begins with.
const HEAD: &str = "wickie floors 1 sha256:";

/// A longer file was not written here.
const LONGEST: u64 = 16 << 20;

impl FloorFile {
    /// The file at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// What it holds.
    pub fn read(&self) -> FloorsFound {
        let mut text = String::new();
        let read = File::open(&self.0).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        match read {
            Ok(_) => parse(&text).map_or_else(FloorsFound::Damaged, FloorsFound::Whole),
            Err(error) if error.kind() == io::ErrorKind::NotFound => FloorsFound::Missing,
            Err(error) => FloorsFound::Damaged(error.to_string()),
        }
    }

    /// Writes it anew, whole or not at all.
    pub fn write(&self, floors: &[KeptFloor]) -> io::Result<()> {
        let lines: String = floors.iter().map(|floor| floor.to_line() + "\n").collect();
        let text = format!("{HEAD}{}\n{lines}", Digest::of(lines.as_bytes()));
        let aside = self.0.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        fs::rename(&aside, &self.0)?;
        // The name is on the disk only once the folder is.
        match self.0.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn parse(text: &str) -> Result<Vec<KeptFloor>, String> {
    let (head, lines) = text.split_once('\n').ok_or("it has no first line")?;
    let digest = head.strip_prefix(HEAD).ok_or("its first line is another one")?;
    if Digest::of(lines.as_bytes()).to_string() != digest {
        return Err("its digest does not fit: it was changed or damaged".to_owned());
    }
    lines.lines().map(KeptFloor::from_line).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> KeptFloor {
        let floor = Floor {
            track: "https://git.example/fleet.git semver 1.x".to_owned(),
            commit: Oid::from_bytes([1; 20]),
            tag: Some(Oid::from_bytes([2; 20])),
            version: Some(Version::new(1, 2, 0)),
        };
        KeptFloor { source: ResourceName::new("apps", name), floor, accepted_at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_copy_is_brought_up_and_never_down() {
        let with = |name: &str, track: &str, byte: u8| {
            let floor =
                Floor { track: track.to_owned(), commit: Oid::from_bytes([byte; 20]), tag: None, version: None };
            KeptFloor { floor, ..kept(name) }
        };
        let own = |kept: KeptFloor, passed: &[u8]| {
            vec![OwnFloor { kept, passed: passed.iter().map(|byte| Oid::from_bytes([*byte; 20])).collect() }]
        };
        let mut copies = Vec::new();
        assert!(merge_floors(&mut copies, &own(with("a", "u", 1), &[]), None));
        assert_eq!(copies, [with("a", "u", 1)]);
        assert!(!merge_floors(&mut copies, &own(with("a", "u", 1), &[]), None));
        assert!(merge_floors(&mut copies, &own(with("a", "u", 2), &[1]), None));
        assert_eq!(copies, [with("a", "u", 2)]);
        // An old store knows nothing of it; nor does it of what is not its own.
        copies.push(with("b", "u", 9));
        assert!(!merge_floors(&mut copies, &own(with("a", "u", 1), &[]), None));
        assert_eq!(copies, [with("a", "u", 2), with("b", "u", 9)]);
        // Another track begins beside it, and takes its place once it is accepted.
        assert!(merge_floors(&mut copies, &own(with("a", "v", 3), &[]), None));
        assert_eq!(copies.len(), 3);
        assert!(merge_floors(&mut copies, &own(with("a", "v", 3), &[]), Some(&with("a", "v", 3).source)));
        assert_eq!(copies, [with("a", "v", 3), with("b", "u", 9)]);
    }

    #[test]
    fn what_was_written_is_read_and_what_was_damaged_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = FloorFile::new(dir.path().join("floors"));
        assert!(matches!(file.read(), FloorsFound::Missing));
        let floors = vec![kept("a"), kept("b")];
        file.write(&floors).unwrap();
        assert!(matches!(file.read(), FloorsFound::Whole(found) if found == floors));
        let good = fs::read(file.path()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(file.path(), &bad).unwrap();
            assert!(matches!(file.read(), FloorsFound::Damaged(_)), "byte {at}");
            fs::write(file.path(), &good[..at]).unwrap();
            assert!(matches!(file.read(), FloorsFound::Damaged(_)), "cut at {at}");
        }
        // What a crash left of the file aside is in nobody's way.
        fs::write(dir.path().join("floors.new"), "torn").unwrap();
        file.write(&[]).unwrap();
        assert!(matches!(file.read(), FloorsFound::Whole(found) if found.is_empty()));
    }
}
