//! A pack becomes objects in the store.
//!
//! Whole objects are stored as they came, without being compressed again. A delta is applied as soon as its base is
//! known: out of this pack, or out of the store, which is what a thin pack counts on. What arrives is stored in batches,
//! also when the pack then breaks off: the next fetch asks for the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use wickie_model::Oid;

use super::error::Fault;
use super::object::{self, Compressor};
use super::pack::{Entry, Form, PackReader};
use super::protocol::PackStream;
use super::wire::WireError;
use crate::config::git::Limits;
use crate::store::{ObjectKind, Store, StoredObject};

/// A batch is written when it holds this many objects, or this many bytes.
const BATCH_OBJECTS: usize = 512;
const BATCH_BYTES: usize = 2 << 20;

/// Inflated objects that are kept at hand, because deltas build upon what came just before.
const CACHE_BYTES: usize = 8 << 20;

/// Deltas that wait for their base are kept in memory; a server that knows ours has no reason for many.
const WAITING_BYTES: usize = 16 << 20;

/// Receives packs into the store.
pub(crate) struct Receiver<'a> {
    store: &'a Store,
    limits: Limits,
    /// Where each entry begins, counted over all packs, and what it turned out to be.
    offsets: Vec<(u64, Oid)>,
    end: u64,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    batch: Vec<StoredObject>,
    batch_bytes: usize,
    cache: Cache,
    /// For what is made from deltas.
    compressor: Compressor,
    made: u64,
}

/// A delta whose base is not known yet.
struct Waiting {
    offset: u64,
    base: Form,
    delta: Vec<u8>,
}

#[derive(Clone)]
struct Inflated {
    oid: Oid,
    kind: ObjectKind,
    bytes: Arc<Vec<u8>>,
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(store: &'a Store, limits: Limits) -> Self {
        Self {
            store,
            limits,
            offsets: Vec::new(),
            end: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            cache: Cache::default(),
            compressor: Compressor::default(),
            made: 0,
        }
    }

    /// Takes a pack in to its end. Gives the bases that are in neither the pack nor the store; once they were received
    /// by this receiver too, the deltas upon them are applied.
    pub(crate) async fn receive(&mut self, mut stream: PackStream) -> Result<Vec<Oid>, Fault> {
        let received = self.pump(&mut stream).await;
        // What is whole is kept, however the rest went.
        self.flush().await?;
        received?;
        self.settle().await
    }

    async fn pump(&mut self, stream: &mut PackStream) -> Result<(), Fault> {
        let mut pack = PackReader::new(self.limits, self.end);
        while let Some(piece) = stream.piece().await? {
            pack.push(&piece);
            while let Some(entry) = pack.next()? {
                self.entry(entry).await?;
            }
        }
        self.end = pack.offset();
        match pack.is_done() {
            true => Ok(()),
            false => Err(WireError::Ended.into()),
        }
    }

    async fn entry(&mut self, entry: Entry) -> Result<(), Fault> {
        if let Form::Whole(kind) = entry.form {
            let oid = object::id(kind, &entry.bytes)?;
            let inflated = Inflated { oid, kind, bytes: Arc::new(entry.bytes) };
            return self.keep(entry.offset, inflated, entry.deflated).await;
        }
        match self.base(entry.form).await? {
            Some(base) => self.apply(entry.offset, &base, &entry.bytes).await,
            None => self.wait(Waiting { offset: entry.offset, base: entry.form, delta: entry.bytes }),
        }
    }

    async fn apply(&mut self, offset: u64, base: &Inflated, delta: &[u8]) -> Result<(), Fault> {
        let bytes = super::delta::apply(&base.bytes, delta, self.limits.object)
            .map_err(|detail| WireError::Pack(detail.to_owned()))?;
        self.made += bytes.len() as u64;
        if self.made > self.limits.inflated {
            return Err(WireError::TooMuch { what: "bytes when inflated", limit: self.limits.inflated }.into());
        }
        let oid = object::id(base.kind, &bytes)?;
        let deflated = self.compressor.deflate(&bytes).map_err(WireError::Connection)?;
        self.keep(offset, Inflated { oid, kind: base.kind, bytes: Arc::new(bytes) }, deflated).await
    }

    async fn keep(&mut self, offset: u64, object: Inflated, deflated: Vec<u8>) -> Result<(), Fault> {
        self.offsets.push((offset, object.oid));
        self.batch_bytes += deflated.len();
        self.batch.push(StoredObject { oid: object.oid, kind: object.kind, size: object.bytes.len() as u64, deflated });
        self.cache.put(object);
        if self.batch.len() >= BATCH_OBJECTS || self.batch_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    fn wait(&mut self, delta: Waiting) -> Result<(), Fault> {
        self.waiting_bytes += delta.delta.len();
        if self.waiting_bytes > WAITING_BYTES {
            return Err(
                WireError::TooMuch { what: "bytes of deltas without a base", limit: WAITING_BYTES as u64 }.into()
            );
        }
        self.waiting.push(delta);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        if !self.batch.is_empty() {
            self.batch_bytes = 0;
            self.store.put_objects(std::mem::take(&mut self.batch)).await?;
        }
        Ok(())
    }

    /// Applies the deltas whose bases came after them, round by round; gives the bases that never came.
    async fn settle(&mut self) -> Result<Vec<Oid>, Fault> {
        loop {
            // Bases of what could not be applied in this round.
            self.offsets.sort_unstable_by_key(|(offset, _)| *offset);
            let round = std::mem::take(&mut self.waiting);
            let before = round.len();
            for delta in round {
                match self.base(delta.base).await? {
                    Some(base) => self.apply(delta.offset, &base, &delta.delta).await?,
                    None => self.waiting.push(delta),
                }
            }
            self.flush().await?;
            if self.waiting.is_empty() || self.waiting.len() == before {
                break;
            }
        }
        self.waiting_bytes = self.waiting.iter().map(|delta| delta.delta.len()).sum();
        let mut bases: Vec<Oid> = self
            .waiting
            .iter()
            .filter_map(|delta| match delta.base {
                Form::OnObject(oid) => Some(oid),
                _ => None,
            })
            .collect();
        bases.sort_unstable();
        bases.dedup();
        Ok(bases)
    }

    /// Applies what waited for bases that were received since, and fails if some never came.
    pub(crate) async fn finish(mut self) -> Result<(), Fault> {
        match self.settle().await?.first() {
            Some(base) => Err(WireError::NotSent(*base).into()),
            None if self.waiting.is_empty() => Ok(()),
            None => Err(WireError::Pack("deltas build upon each other in a circle".to_owned()).into()),
        }
    }

    async fn base(&mut self, form: Form) -> Result<Option<Inflated>, Fault> {
        let oid = match form {
            Form::OnObject(oid) => oid,
            Form::OnOffset(offset) => match self.offsets.binary_search_by_key(&offset, |(at, _)| *at) {
                Ok(found) => self.offsets[found].1,
                Err(_) => return Ok(None),
            },
            Form::Whole(_) => return Ok(None),
        };
        if let Some(cached) = self.cache.get(oid) {
            return Ok(Some(cached));
        }
        let stored = match self.batch.iter().rev().find(|object| object.oid == oid) {
            Some(object) => Some(object.clone()),
            None => self.store.object(oid).await?,
        };
        let Some(stored) = stored else { return Ok(None) };
        let bytes = Arc::new(object::open(&stored, stored.kind)?);
        let inflated = Inflated { oid, kind: stored.kind, bytes };
        self.cache.put(inflated.clone());
        Ok(Some(inflated))
    }
}

/// The objects that came last, up to a number of bytes.
#[derive(Default)]
struct Cache {
    objects: HashMap<Oid, Inflated>,
    order: VecDeque<Oid>,
    bytes: usize,
}

impl Cache {
    fn get(&self, oid: Oid) -> Option<Inflated> {
        self.objects.get(&oid).cloned()
    }

    fn put(&mut self, object: Inflated) {
        let (oid, size) = (object.oid, object.bytes.len());
        if size > CACHE_BYTES || self.objects.insert(oid, object).is_some() {
            return;
        }
        self.bytes += size;
        self.order.push_back(oid);
        while self.bytes > CACHE_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            let freed = self.objects.remove(&oldest).map_or(0, |object| object.bytes.len());
            self.bytes -= freed;
        }
    }
}
