//! Git's protocol, version 2: the two commands that a fetch takes.
//!
//! Source: gitprotocol-v2(5). Requests are one message each and answers are streams, so that any transport will do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wickie_model::Oid;

use super::pktline::{Packet, PacketReader, PacketWriter};
use super::wire::{WireError, said};

/// What a server can do, of what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// Whether it leaves out objects on request.
    pub(crate) filter: bool,
    /// Whether it cuts history off on request.
    pub(crate) shallow: bool,
    /// Whether it gives every object that is asked for by its id, and not only the tips of its references.
    pub(crate) any_object: bool,
}

/// More lines than this are no list of capabilities.
const MOST_CAPABILITIES: usize = 100;

impl Capabilities {
    /// Reads the server's side of the handshake.
    pub(crate) async fn read(packets: &mut PacketReader) -> Result<Self, WireError> {
        let mut first = packets.line().await?;
        // Over HTTP, the service is announced first.
        if first.as_deref().is_some_and(|line| line.starts_with("# service=")) {
            packets.line().await?;
            first = packets.line().await?;
        }
        match first.as_deref() {
            Some("version 2") => {}
            Some("version 1") => return Err(WireError::Version { version: "1".to_owned() }),
            Some(_) => return Err(WireError::Version { version: "0".to_owned() }),
            None => return Err(WireError::Protocol("the list of capabilities is empty".to_owned())),
        }
        // In this version of the protocol, every object may be asked for.
        let mut capabilities = Self { any_object: true, ..Self::default() };
        let mut fetches = false;
        for _ in 0..MOST_CAPABILITIES {
            let Some(line) = packets.line().await? else {
                return match fetches {
                    true => Ok(capabilities),
                    false => Err(WireError::Protocol("the server does not offer to fetch".to_owned())),
                };
            };
            let (name, value) = line.split_once('=').unwrap_or((&line, ""));
            match name {
                "object-format" if value != "sha1" => {
                    return Err(WireError::ObjectFormat { format: value.to_owned() });
                }
                "fetch" => {
                    fetches = true;
                    capabilities.filter = value.split(' ').any(|word| word == "filter");
                    capabilities.shallow = value.split(' ').any(|word| word == "shallow");
                }
                _ => {}
            }
        }
        Err(WireError::TooMuch { what: "capabilities", limit: MOST_CAPABILITIES as u64 })
    }
}

/// The head of a request. The agent is named without its version, which is nobody's business and costs bytes.
fn command(name: &str) -> PacketWriter {
    let mut request = PacketWriter::default();
    request.line(&format!("command={name}")).line("agent=wickie").line("object-format=sha1").delimiter();
    request
}

/// A reference as a server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) name: String,
    pub(crate) oid: Oid,
    /// What an annotated tag points at in the end.
    pub(crate) peeled: Option<Oid>,
}

/// Asks for the references that begin with one of `prefixes`.
pub(crate) fn ls_refs(prefixes: &[String]) -> Bytes {
    let mut request = command("ls-refs");
    request.line("peel");
    for prefix in prefixes {
        request.line(&format!("ref-prefix {prefix}"));
    }
    request.flush()
}

/// Reads the answer to [`ls_refs`]; `most` references at most.
pub(crate) async fn read_refs(packets: &mut PacketReader, most: u32) -> Result<Vec<Ref>, WireError> {
    let mut refs = Vec::new();
    while let Some(line) = packets.line().await? {
        if refs.len() >= most as usize {
            return Err(WireError::TooMuch { what: "references", limit: most.into() });
        }
        refs.push(parse_ref(&line).ok_or_else(|| WireError::Protocol(format!("no reference: {line:?}")))?);
    }
    Ok(refs)
}

/// `<oid> <name>[ <attribute>]...`
fn parse_ref(line: &str) -> Option<Ref> {
    let mut words = line.split(' ');
    let oid = words.next()?.parse().ok()?;
    let name = words.next()?.to_owned();
    let mut peeled = None;
    for attribute in words {
        if let Some(target) = attribute.strip_prefix("peeled:") {
            peeled = Some(target.parse().ok()?);
        }
    }
    Some(Ref { name, oid, peeled })
}

/// What to fetch.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchRequest {
    /// Objects to send, with all that they reach as far as the rest does not say otherwise.
    pub(crate) wants: Vec<Oid>,
    /// Commits that are here already, with all they reach: the server leaves that out, and may build upon it.
    pub(crate) haves: Vec<Oid>,
    /// Commits whose parents are not here.
    pub(crate) shallow: Vec<Oid>,
    /// How many commits deep; all where there is none.
    pub(crate) depth: Option<u32>,
    /// Which objects to leave out.
    pub(crate) filter: Option<Filter>,
}

/// The filters that are used (git-rev-list(1), `--filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Commits and tags alone.
    NoTrees,
    /// No blobs but those asked for by id.
    NoBlobs,
}

impl FetchRequest {
    /// The request. It always ends the negotiation, so that one answer brings the pack.
    pub(crate) fn encode(&self) -> Bytes {
        let mut request = command("fetch");
        request.line("thin-pack").line("ofs-delta").line("no-progress");
        for oid in &self.wants {
            request.line(&format!("want {oid}"));
        }
        for oid in &self.haves {
            request.line(&format!("have {oid}"));
        }
        for oid in &self.shallow {
            request.line(&format!("shallow {oid}"));
        }
        if let Some(depth) = self.depth {
            request.line(&format!("deepen {depth}"));
        }
        match self.filter {
            Some(Filter::NoTrees) => _ = request.line("filter tree:0"),
            Some(Filter::NoBlobs) => _ = request.line("filter blob:none"),
            None => {}
        }
        request.line("done").flush()
    }
}

/// The answer to a [`FetchRequest`]: a pack, in pieces.
pub(crate) struct PackStream {
    packets: PacketReader,
}

/// Lines before the pack that are looked at: shallow boundaries, acknowledgments.
const MOST_LINES: usize = 100_000;

impl PackStream {
    /// Reads up to the beginning of the pack.
    pub(crate) async fn open(mut packets: PacketReader) -> Result<Self, WireError> {
        for _ in 0..MOST_LINES {
            match packets.expect().await? {
                Packet::Data(line) if line.strip_suffix(b"\n").unwrap_or(&line) == b"packfile" => {
                    return Ok(Self { packets });
                }
                Packet::Data(_) | Packet::Delimiter => {}
                Packet::Flush | Packet::ResponseEnd => {
                    return Err(WireError::Protocol("the answer ends without a pack".to_owned()));
                }
            }
        }
        Err(WireError::TooMuch { what: "lines before the pack", limit: MOST_LINES as u64 })
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            let Packet::Data(mut line) = self.packets.expect().await? else { return Ok(None) };
            let band = line.split_to(line.len().min(1));
            match band.first() {
                Some(1) => return Ok(Some(line)),
                // Progress, and keep-alives in its place.
                Some(2) => {}
                Some(3) => return Err(WireError::Remote(said(&line))),
                _ => return Err(WireError::Protocol("a piece of the pack is on no known band".to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::git::Limits;
    use crate::source::body::Body;

    fn packets(bytes: &'static [u8]) -> PacketReader {
        PacketReader::new(Body::of(vec![Bytes::from_static(bytes)], Limits::default()))
    }

    #[tokio::test]
    async fn capabilities_of_a_git_server() {
        let mut answer = packets(
            b"001e# service=git-upload-pack\n0000000eversion 2\n0015agent=git/2.39.5\n0013ls-refs=unborn\n\
              0020fetch=shallow wait-for-done\n0012server-option\n0017object-format=sha1\n0000",
        );
        let capabilities = Capabilities::read(&mut answer).await.unwrap();
        assert_eq!(capabilities, Capabilities { filter: false, shallow: true, any_object: true });
    }

    #[tokio::test]
    async fn a_downgrade_and_another_hash_are_named() {
        let old = b"003f0123456789012345678901234567890123456789 HEAD\0multi_ack thin\n0000";
        assert!(matches!(
            Capabilities::read(&mut packets(old)).await,
            Err(WireError::Protocol(_) | WireError::Version { .. })
        ));
        let sha256 = b"000eversion 2\n000afetch\n0019object-format=sha256\n0000";
        let error = Capabilities::read(&mut packets(sha256)).await.unwrap_err();
        assert!(error.to_string().contains("sha256"), "{error}");
    }

    #[test]
    fn a_reference_line() {
        let one = "1".repeat(40);
        let two = "2".repeat(40);
        let parsed = parse_ref(&format!("{one} refs/tags/v1 peeled:{two}")).unwrap();
        assert_eq!((parsed.name.as_str(), parsed.peeled.unwrap().to_string()), ("refs/tags/v1", two));
        for line in ["", "unborn HEAD", &one, "12 refs/heads/main"] {
            assert!(parse_ref(line).is_none(), "{line}");
        }
    }
}
