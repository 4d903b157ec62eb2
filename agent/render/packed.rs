//! The manifests of a build, compressed: what a repair sends is taken from here, and nothing is built again for it.
//!
//! Kept in memory and nowhere else, because what was decrypted stands in it. Manifests are much like their neighbours, so
//! a block of them takes about a tenth of their length, and one is found by unpacking its block alone.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::Value;
use wickie_model::{Digest, Manifest, ObjectId};

/// How many manifests a block holds.
const BLOCK: usize = 64;

/// The manifests of a build, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Packed(Vec<Block>);

#[derive(Clone, Debug)]
struct Block {
    first: ObjectId,
    deflated: Box<[u8]>,
}

/// A manifest as it is written in a block: its document, and its digest where that is not the document's.
type Written<B> = (B, Option<Digest>);

impl Packed {
    /// Packs `manifests`.
    ///
    /// # Errors
    /// None that a disk or a link could cause: writing to memory fails with the process.
    pub fn new(manifests: &BTreeMap<ObjectId, Manifest>) -> io::Result<Self> {
        let all: Vec<_> = manifests.values().collect();
        let blocks = all.chunks(BLOCK).map(|manifests| {
            let mut deflated = ZlibEncoder::new(Vec::new(), Compression::fast());
            for manifest in manifests {
                let sealed = manifest.holds_secrets().then(|| manifest.digest());
                let written: Written<&Value> = (manifest.body(), sealed);
                serde_json::to_writer(&mut deflated, &written)?;
                deflated.write_all(b"\n")?;
            }
            Ok(Block { first: manifests[0].id().clone(), deflated: deflated.finish()?.into_boxed_slice() })
        });
        blocks.collect::<io::Result<_>>().map(Self)
    }

    /// The manifests of `ids`, as far as they were built.
    ///
    /// # Errors
    /// When a block cannot be read, which takes memory that fails.
    pub fn get<'a>(&self, ids: impl IntoIterator<Item = &'a ObjectId>) -> io::Result<BTreeMap<ObjectId, Manifest>> {
        let mut wanted: BTreeMap<usize, Vec<&ObjectId>> = BTreeMap::new();
        for id in ids {
            let after = self.0.partition_point(|block| block.first <= *id);
            if let Some(block) = after.checked_sub(1) {
                wanted.entry(block).or_default().push(id);
            }
        }
        let mut found = BTreeMap::new();
        for (block, mut ids) in wanted {
            ids.sort();
            let manifests = self.0[block].unpack()?.into_iter();
            found.extend(manifests.filter(|(id, _)| ids.binary_search(&id).is_ok()));
        }
        Ok(found)
    }

    /// All manifests.
    ///
    /// # Errors
    /// As [`Packed::get`].
    pub fn all(&self) -> io::Result<BTreeMap<ObjectId, Manifest>> {
        let mut all = BTreeMap::new();
        for block in &self.0 {
            all.extend(block.unpack()?);
        }
        Ok(all)
    }
}

impl Block {
    fn unpack(&self) -> io::Result<Vec<(ObjectId, Manifest)>> {
        let mut text = Vec::new();
        ZlibDecoder::new(&*self.deflated).read_to_end(&mut text)?;
        let mut manifests = Vec::with_capacity(BLOCK);
        for written in serde_json::Deserializer::from_slice(&text).into_iter::<Written<Value>>() {
            let (body, sealed) = written?;
            let manifest = Manifest::new(body).map_err(io::Error::other)?;
            let manifest = match sealed {
                Some(digest) => manifest.with_secrets(digest),
                None => manifest,
            };
            manifests.push((manifest.id().clone(), manifest));
        }
        Ok(manifests)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(name: &str, kind: &str) -> Manifest {
        let body = json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
            "data": {"big": 9_007_199_254_740_993_u64, "text": "ä\u{2028}\n"}
        });
        Manifest::new(body).unwrap()
    }

    fn many(count: usize) -> BTreeMap<ObjectId, Manifest> {
        let plain = (0..count).map(|index| manifest(&format!("till-{index:05}"), "ConfigMap"));
        let sealed = manifest("keys", "Secret").with_secrets(Digest::of(b"sealed"));
        plain.chain([sealed]).map(|manifest| (manifest.id().clone(), manifest)).collect()
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        for count in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7] {
            let manifests = many(count);
            let packed = Packed::new(&manifests).unwrap();
            assert_eq!(packed.all().unwrap(), manifests);
            for (id, manifest) in &manifests {
                assert_eq!(packed.get([id]).unwrap(), BTreeMap::from([(id.clone(), manifest.clone())]));
            }
            assert_eq!(packed.get(manifests.keys()).unwrap(), manifests);
        }
        assert_eq!(Packed::default().all().unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_was_not_built_is_not_found() {
        let packed = Packed::new(&many(200)).unwrap();
        for (name, kind) in [("a", "Aardvark"), ("till-00064x", "ConfigMap"), ("zzz", "Zebra")] {
            let stranger = manifest(name, kind);
            assert_eq!(packed.get([stranger.id()]).unwrap(), BTreeMap::new());
        }
    }

    #[test]
    fn it_takes_a_tenth_of_the_room() {
        let manifests = many(1000);
        let length: usize = manifests.values().map(|manifest| manifest.body().to_string().len()).sum();
        let packed: usize = Packed::new(&manifests).unwrap().0.iter().map(|block| block.deflated.len()).sum();
        assert!(packed * 10 < length, "{packed} of {length}");
    }
}
