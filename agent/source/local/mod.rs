//! A repository on this node: a directory, bare or with `.git` in it, on a disk or on a medium that somebody plugged in.
//!
//! ```text
//! refs     HEAD, loose and packed references                        the answer to "what is there"
//! select   wants, haves, depth, filter ----> ids                    what a server's upload-pack works out
//! objects  loose objects, packs by their index (packed) ----> pack  the answer to "send it"
//! ```
//!
//! It is the server's side of a conversation, held in this process: what it gives is a stream of pack bytes, and from
//! there on nothing knows that no network was in between. The same floor, signatures, descent and limits hold over it,
//! and what is in the store already is not read again. The git program is not needed, and nothing that the repository
//! says of programs (hooks, filters, helpers, includes) is ever read.
//!
//! **Who may name one.** A `file://` URL reads the disk of the node with the agent's rights. The node's owner writes it in
//! a file of the configuration, and there it may name any path. An object in the cluster may only name what lies in a
//! folder that the node's `NodeConfig` lists in `local-repositories`, and that list is empty until somebody fills it:
//! who may write a GitRepository in some namespace must not be able to read the node. The path is checked as it is
//! written, and again where it leads once links are resolved. Beneath the repository's own directory no link is followed
//! and nothing but plain files is opened, so that a medium cannot point the agent at a device or at a file of the node.
//!
//! **A medium can be pulled out at any moment.** Files are read with `pread` and never mapped into memory: a mapped page
//! that is gone is a signal that ends the process, a read that fails is an error. Every object is hashed as it is read,
//! every size is bounded before a byte is set aside, a chain of deltas is bounded in length and in bytes. A read that
//! never returns (a dead network file system) holds a thread of its own and never the agent: the poll ends by its
//! timeout.
//!
//! Refused in words: SHA-256 repositories, reftable, extensions that are not known, pack indexes of version 1, objects
//! borrowed from another repository (`objects/info/alternates`), a `.git` file that points elsewhere.

mod error;
mod layout;
mod objects;
mod packed;
mod refs;
mod select;
mod send;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

pub use error::LocalError;
use layout::Layout;
use objects::Objects;

use super::body::{Body, Meter, Origin};
use super::protocol::{Capabilities, FetchRequest, Hello, PackStream, Ref, Version};
use super::wire::WireError;
use crate::config::git::{GitSource, Limits};

/// Pieces of a pack that may wait to be taken; then reading has to.
const QUEUE: usize = 4;

/// A repository on this node.
#[derive(Clone, Debug)]
pub(crate) struct LocalTransport {
    path: PathBuf,
    roots: Option<Vec<PathBuf>>,
    limits: Limits,
    timeout: Duration,
}

impl LocalTransport {
    /// The repository of a source at `path`.
    pub(crate) fn new(source: &GitSource, path: PathBuf) -> Self {
        Self { path, roots: source.local_roots.clone(), limits: source.limits, timeout: source.timeout }
    }

    /// What it can do: everything that is asked of a server. Fails if it is no repository that can be read.
    pub(crate) async fn hello(&self) -> Result<Hello, WireError> {
        self.read(|_, _| Ok(())).await?;
        let capabilities =
            Capabilities { version: Version::V2, filter: true, shallow: true, any_object: true, multi_ack: false };
        Ok(Hello { capabilities, refs: None })
    }

    /// The references that begin with one of `prefixes`.
    pub(crate) async fn refs(&self, prefixes: &[String]) -> Result<Vec<Ref>, WireError> {
        let prefixes = prefixes.to_vec();
        self.read(move |layout, limits| {
            let found = refs::list(layout, &prefixes, limits.refs)?;
            refs::peeled(found, &mut Objects::open(layout, limits)?)
        })
        .await
    }

    /// The pack that answers a request.
    pub(crate) async fn fetch(&self, request: &FetchRequest) -> Result<PackStream, WireError> {
        let request = request.clone();
        let (mut objects, selected) = self
            .read(move |layout, limits| {
                let mut objects = Objects::open(layout, limits)?;
                let selected = select::select(&mut objects, &request, limits)?;
                Ok((objects, selected))
            })
            .await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || send::pack(&mut objects, &selected, &sender));
        // Nothing of it is on the network, so nothing of it counts as traffic; a medium may be slower than a link.
        let limits = Limits { silence: self.timeout, slowest: 0, ..self.limits };
        Ok(PackStream::raw(Body::new(Origin::Channel(receiver), Meter::default(), limits)))
    }

    /// Opens the repository and reads in it, on a thread that may wait for a medium.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Layout, Limits) -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T, WireError> {
        let (path, roots, limits) = (self.path.clone(), self.roots.clone(), self.limits);
        let reading = tokio::task::spawn_blocking(move || {
            let layout = Layout::open(&path, roots.as_deref())?;
            read(&layout, limits)
        });
        match reading.await {
            Ok(read) => read.map_err(WireError::Local),
            Err(ended) => Err(WireError::Connection(std::io::Error::other(ended))),
        }
    }
}
