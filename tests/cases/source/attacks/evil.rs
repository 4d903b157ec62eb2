//! A server that answers as it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wickie::config::git::{GitSource, GitUrl};

use crate::world::{World, named};

/// What it answers to the requests after the greeting, one after the other.
pub(super) struct Evil {
    addr: SocketAddr,
}

/// One answer's body: these bytes, and then, if there are any, these for ever.
#[derive(Clone, Default)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) endlessly: Vec<u8>,
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, endlessly: Vec::new() }
    }
}

impl Evil {
    /// Starts one. Requests beyond the answers get none.
    pub(super) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let answers: Arc<Mutex<VecDeque<Answer>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answers.clone()));
            }
        });
        Self { addr }
    }

    /// One that offers a commit and gives this pack when it is asked for its files.
    pub(super) async fn with_files(commit: &[u8], pack: Vec<u8>) -> Self {
        let answers = [refs(&id("commit", commit)), fetched(&pack_of(&[(1, commit)])), fetched(&pack)];
        Self::start(answers.map(Answer::from)).await
    }

    pub(super) fn source(&self, world: &World) -> GitSource {
        let mut source = world.source();
        source.name = named("evil");
        source.url = GitUrl::parse(&format!("http://{}/evil.git", self.addr)).unwrap();
        source
    }
}

/// Answers one request, and closes the connection.
async fn serve(mut stream: TcpStream, answers: Arc<Mutex<VecDeque<Answer>>>) {
    let Some(greeting) = request(&mut stream).await else { return };
    let answer = match greeting {
        true => Some(Answer::from(hello())),
        false => answers.lock().unwrap().pop_front(),
    };
    let Some(answer) = answer else { return };
    let kind = if greeting { "advertisement" } else { "result" };
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/x-git-upload-pack-{kind}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&answer.bytes).await;
    while !answer.endlessly.is_empty() {
        if stream.write_all(&answer.endlessly).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Reads a request to its end; whether it asked for the greeting.
async fn request(stream: &mut TcpStream) -> Option<bool> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => read.extend_from_slice(&chunk[..length]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut left = length.map_or(0, |length| length.trim().parse().unwrap()) + end - read.len();
    while left > 0 {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(length) if length > 0 => left -= length.min(left),
            _ => return None,
        }
    }
    Some(head.starts_with("get "))
}

pub(super) fn line(bytes: &[u8]) -> Vec<u8> {
    [format!("{:04x}", bytes.len() + 4).as_bytes(), bytes].concat()
}

fn hello() -> Vec<u8> {
    let lines = [&b"version 2\n"[..], b"ls-refs\n", b"fetch=shallow filter\n", b"object-format=sha1\n"];
    [lines.map(line).concat(), b"0000".to_vec()].concat()
}

/// The list of references: `main` alone.
pub(super) fn refs(commit: &str) -> Vec<u8> {
    [line(format!("{commit} refs/heads/main\n").as_bytes()), b"0000".to_vec()].concat()
}

/// The beginning of an answer with a pack.
pub(super) fn packfile() -> Vec<u8> {
    line(b"packfile\n")
}

/// An answer with this pack.
pub(super) fn fetched(pack: &[u8]) -> Vec<u8> {
    let pieces = pack.chunks(60_000).map(|piece| line(&[&[1], piece].concat()));
    [packfile(), pieces.collect::<Vec<_>>().concat(), b"0000".to_vec()].concat()
}

/// A pack of whole objects, by their kinds' numbers.
pub(super) fn pack_of(objects: &[(u8, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> = objects.iter().map(|(kind, bytes)| entry(*kind, bytes.len() as u64, &[], bytes)).collect();
    pack(entries.len() as u32, &entries.concat())
}

/// A pack that says it holds `count` entries.
pub(super) fn pack(count: u32, entries: &[u8]) -> Vec<u8> {
    let mut bytes = [b"PACK\0\0\0\x02", &count.to_be_bytes()[..], entries].concat();
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(&bytes);
    bytes.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    bytes
}

/// An entry that says it is `size` bytes long; `base` stands before the bytes of a delta.
pub(super) fn entry(kind: u8, size: u64, base: &[u8], bytes: &[u8]) -> Vec<u8> {
    let (mut first, mut rest) = (kind << 4 | (size & 0x0f) as u8, size >> 4);
    let mut head = Vec::new();
    while rest > 0 {
        head.push(first | 0x80);
        (first, rest) = ((rest & 0x7f) as u8, rest >> 7);
    }
    head.push(first);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    [head, base.to_vec(), encoder.finish().unwrap()].concat()
}

/// The id of an object, in hexadecimal.
pub(super) fn id(kind: &str, bytes: &[u8]) -> String {
    let mut hasher = gix_hash::hasher(gix_hash::Kind::Sha1);
    hasher.update(format!("{kind} {}\0", bytes.len()).as_bytes());
    hasher.update(bytes);
    hasher.try_finalize().unwrap().to_string()
}

/// The 20 bytes of an id.
pub(super) fn raw(id: &str) -> Vec<u8> {
    id.parse::<wickie_model::Oid>().unwrap().as_bytes().to_vec()
}

/// A commit of this tree, signed by Ada: only the files behind it are evil.
pub(super) fn commit(world: &World, tree: &str) -> Vec<u8> {
    let mut draft = world.repo.draft("refs/heads/none", "evil").unwrap();
    draft.tree = tree.to_owned();
    draft.signed(&world.ada.signer()).unwrap()
}

/// A tree of one file.
pub(super) fn tree(name: &str, blob: &str) -> Vec<u8> {
    [format!("100644 {name}\0").as_bytes(), &raw(blob)].concat()
}
