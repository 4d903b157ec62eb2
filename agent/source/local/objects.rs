//! Objects by their ids: out of the packs, or loose; each hashed as it is read.

use std::collections::HashMap;
use std::sync::Arc;

use wickie_model::Oid;

use super::LocalError;
use super::layout::{Layout, Plain};
use super::packed::{self, Pack};
use crate::config::git::Limits;
use crate::source::object::{self, Commit};
use crate::source::pack::Form;
use crate::source::tree::{self, TreeEntry};
use crate::source::wire::WireError;
use crate::source::{ObjectError, delta};
use crate::store::ObjectKind;

/// More packs than these are refused; `git gc` makes one of them.
const MOST_PACKS: u32 = 1_000;

/// Deltas upon deltas; git makes 50, and 4,095 at most.
const LONGEST_CHAIN: usize = 4_096;

/// Inflated objects that are kept at hand, because deltas build upon what was read just before.
const CACHE_BYTES: usize = 8 << 20;

/// The longest header of a loose object: a kind and a size.
const LONGEST_HEADER: usize = 32;

/// Which pack, and where in it.
type Place = (usize, u64);

/// The objects of a repository.
#[derive(Debug)]
pub(super) struct Objects {
    layout: Layout,
    packs: Vec<Pack>,
    limits: Limits,
    cache: HashMap<Place, (ObjectKind, Arc<Vec<u8>>)>,
    cached: usize,
}

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    pub(super) bytes: Arc<Vec<u8>>,
    /// A zlib stream of its bytes, where one lay there as it is.
    pub(super) deflated: Option<Vec<u8>>,
}

impl Objects {
    /// Opens the packs of a repository.
    pub(super) fn open(layout: &Layout, limits: Limits) -> Result<Self, LocalError> {
        let mut packs = Vec::new();
        let names = layout.names("objects/pack", MOST_PACKS * 8)?;
        for name in names.iter().filter_map(|(name, _)| name.strip_suffix(".idx")) {
            packs.extend(Pack::open(layout, name)?);
            if packs.len() > MOST_PACKS as usize {
                return Err(LocalError::TooMuch { what: "packs", limit: MOST_PACKS.into() });
            }
        }
        Ok(Self { layout: layout.clone(), packs, limits, cache: HashMap::new(), cached: 0 })
    }

    /// An object, shown to be the one that its id names; `None` if it is not here.
    pub(super) fn read(&mut self, oid: Oid) -> Result<Option<Object>, LocalError> {
        let object = match self.find(oid)? {
            Some((pack, offset)) => Some(self.unpack(pack, offset)?),
            None => self.loose(oid)?,
        };
        let Some(object) = object else { return Ok(None) };
        match object::id(object.kind, &object.bytes) {
            Ok(found) if found == oid => Ok(Some(object)),
            Ok(found) => {
                let what =
                    format!("the object {oid} has the bytes of {found}: the medium is damaged, or was tampered with");
                Err(LocalError::Malformed { path: self.layout.path.clone(), what })
            }
            Err(WireError::Collision(detail)) => Err(LocalError::Collision(detail)),
            Err(error) => Err(LocalError::Malformed { path: self.layout.path.clone(), what: error.to_string() }),
        }
    }

    /// An object that must be here.
    pub(super) fn need(&mut self, oid: Oid) -> Result<Object, LocalError> {
        self.read(oid)?.ok_or(LocalError::NoObject(oid))
    }

    /// A commit; `None` if it is not here, as where history was cut off.
    pub(super) fn commit(&mut self, oid: Oid) -> Result<Option<Commit>, LocalError> {
        match self.read(oid)? {
            Some(object) => {
                expect(oid, &object, ObjectKind::Commit)?;
                Ok(Some(Commit::parse(oid, &object.bytes)?))
            }
            None => Ok(None),
        }
    }

    /// The entries of a tree; `None` if it is not here.
    pub(super) fn tree(&mut self, oid: Oid) -> Result<Option<Vec<TreeEntry>>, LocalError> {
        match self.read(oid)? {
            Some(object) => {
                expect(oid, &object, ObjectKind::Tree)?;
                Ok(Some(tree::parse(oid, &object.bytes)?))
            }
            None => Ok(None),
        }
    }

    fn find(&self, oid: Oid) -> Result<Option<Place>, LocalError> {
        for (at, pack) in self.packs.iter().enumerate() {
            if let Some(offset) = pack.find(oid)? {
                return Ok(Some((at, offset)));
            }
        }
        Ok(None)
    }

    /// The object that begins at `offset` of a pack: a whole one, with all the deltas upon it.
    fn unpack(&mut self, pack: usize, offset: u64) -> Result<Object, LocalError> {
        let (mut at, mut deltas, mut held) = ((pack, offset), Vec::new(), 0);
        let (kind, mut bytes) = loop {
            if let Some((kind, bytes)) = self.cache.get(&at) {
                break (*kind, bytes.clone());
            }
            let entry = self.packs[at.0].entry(at.1, self.limits.object)?;
            let base = match entry.form {
                Form::Whole(kind) if deltas.is_empty() => {
                    let bytes = Arc::new(entry.bytes);
                    self.keep(at, kind, &bytes);
                    return Ok(Object { kind, bytes, deflated: Some(entry.deflated) });
                }
                Form::Whole(kind) => {
                    let bytes = Arc::new(entry.bytes);
                    self.keep(at, kind, &bytes);
                    break (kind, bytes);
                }
                Form::OnOffset(base) => (at.0, base),
                Form::OnObject(base) => self.find(base)?.ok_or(LocalError::NoObject(base))?,
            };
            held += entry.bytes.len() as u64;
            deltas.push((at, entry.bytes));
            if deltas.len() > LONGEST_CHAIN || held > self.limits.object {
                return Err(LocalError::TooMuch { what: "deltas upon each other", limit: LONGEST_CHAIN as u64 });
            }
            at = base;
        };
        let mut made = 0;
        for (at, delta) in deltas.iter().rev() {
            let applied = delta::apply(&bytes, delta, self.limits.object);
            bytes = Arc::new(applied.map_err(|what| self.malformed(what))?);
            self.keep(*at, kind, &bytes);
            made += bytes.len() as u64;
            if made > self.limits.inflated {
                return Err(LocalError::TooMuch { what: "bytes when inflated", limit: self.limits.inflated });
            }
        }
        Ok(Object { kind, bytes, deflated: None })
    }

    fn keep(&mut self, at: Place, kind: ObjectKind, bytes: &Arc<Vec<u8>>) {
        if bytes.len() > CACHE_BYTES / 4 {
            return;
        }
        if self.cached + bytes.len() > CACHE_BYTES {
            self.cache.clear();
            self.cached = 0;
        }
        if self.cache.insert(at, (kind, bytes.clone())).is_none() {
            self.cached += bytes.len();
        }
    }

    fn loose(&self, oid: Oid) -> Result<Option<Object>, LocalError> {
        let name = oid.to_string();
        let file = self.layout.file(&format!("objects/{}/{}", &name[..2], &name[2..]))?;
        file.map(|file| unwrap(&file, self.limits.object)).transpose()
    }

    fn malformed(&self, what: impl Into<String>) -> LocalError {
        LocalError::Malformed { path: self.layout.path.clone(), what: what.into() }
    }
}

fn expect(oid: Oid, object: &Object, kind: ObjectKind) -> Result<(), LocalError> {
    match object.kind == kind {
        true => Ok(()),
        false => {
            let (found, expected) = (object.kind.as_str(), kind.as_str());
            Err(ObjectError::WrongKind { oid, found, expected }.into())
        }
    }
}

/// A loose object: `<kind> <size>`, a zero byte, and the object's bytes, in one zlib stream.
fn unwrap(file: &Plain, most: u64) -> Result<Object, LocalError> {
    let (mut bytes, _) = packed::inflate(file, 0, most + LONGEST_HEADER as u64)?;
    let zero = bytes.iter().take(LONGEST_HEADER).position(|byte| *byte == 0);
    let zero = zero.ok_or_else(|| file.malformed("it does not begin like an object"))?;
    let header = std::str::from_utf8(&bytes[..zero]).unwrap_or_default();
    let (kind, size) = header.split_once(' ').unwrap_or_default();
    let kinds = [ObjectKind::Commit, ObjectKind::Tree, ObjectKind::Blob, ObjectKind::Tag];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind);
    let (Some(kind), Ok(size)) = (kind, size.parse::<u64>()) else {
        return Err(file.malformed("it does not begin like an object"));
    };
    if size > most || bytes.len() as u64 > most + zero as u64 + 1 {
        return Err(LocalError::TooMuch { what: "bytes in one object", limit: most });
    }
    bytes.drain(..=zero);
    match bytes.len() as u64 == size {
        true => Ok(Object { kind, bytes: Arc::new(bytes), deflated: None }),
        false => Err(file.malformed("it is not as long as it announces")),
    }
}
