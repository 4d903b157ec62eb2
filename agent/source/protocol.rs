//! Git's protocol: what a server says of itself, and the two questions that a fetch takes.
//!
//! Source: gitprotocol-v2(5); for servers that know nothing newer, gitprotocol-pack(5), here "version 0". Requests are one
//! message each and answers are streams, so that any transport will do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wickie_model::Oid;

use super::body::Body;
use super::pktline::{Packet, PacketReader, PacketWriter};
use super::wire::{WireError, said};

/// Which protocol a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    /// It lists all its references unasked and gives only what those reach.
    V0,
    /// It answers commands.
    #[default]
    V2,
}

/// What a server can do, of what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    pub(crate) version: Version,
    /// Whether it leaves out objects on request.
    pub(crate) filter: bool,
    /// Whether it cuts history off on request.
    pub(crate) shallow: bool,
    /// Whether it gives every object that is asked for by its id, and not only the tips of its references.
    pub(crate) any_object: bool,
    /// Version 0 only: it says more of what both sides have. Azure DevOps answers nobody who cannot listen to that.
    #[serde(default)]
    pub(crate) multi_ack: bool,
}

/// More lines than this are no list of capabilities.
const MOST_CAPABILITIES: usize = 100;

/// How a server greets.
#[derive(Debug)]
pub(crate) struct Hello {
    pub(crate) capabilities: Capabilities,
    /// Its references, which version 0 lists unasked.
    pub(crate) refs: Option<Vec<Ref>>,
}

impl Hello {
    /// Reads the server's side of the handshake; `most_refs` references at most.
    pub(crate) async fn read(packets: &mut PacketReader, most_refs: u32) -> Result<Self, WireError> {
        let mut first = packets.expect().await?;
        // Over HTTP, the service is announced first.
        if matches!(&first, Packet::Data(line) if line.starts_with(b"# service=")) {
            packets.expect().await?;
            first = packets.expect().await?;
        }
        match first {
            Packet::Data(line) if line.strip_suffix(b"\n").unwrap_or(&line) == b"version 2" => {
                Ok(Self { capabilities: Capabilities::read(packets).await?, refs: None })
            }
            // Version 1 is version 0 with this line in front.
            Packet::Data(line) if line.starts_with(b"version 1") => {
                let first = packets.expect().await?;
                read_v0(first, packets, most_refs).await
            }
            first => read_v0(first, packets, most_refs).await,
        }
    }
}

impl Capabilities {
    async fn read(packets: &mut PacketReader) -> Result<Self, WireError> {
        // In version 2, every object may be asked for.
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

    /// The words behind the first reference that version 0 lists.
    fn of_words(words: &str) -> Result<Self, WireError> {
        let has = |name: &str| words.split(' ').any(|word| word == name);
        if let Some(format) = words.split(' ').find_map(|word| word.strip_prefix("object-format="))
            && format != "sha1"
        {
            return Err(WireError::ObjectFormat { format: format.to_owned() });
        }
        if !has("side-band-64k") {
            return Err(WireError::Protocol("the server is too old: it does not offer side-band-64k".to_owned()));
        }
        Ok(Self {
            version: Version::V0,
            filter: has("filter"),
            shallow: has("shallow"),
            any_object: false,
            multi_ack: has("multi_ack_detailed"),
        })
    }
}

/// Reads the list of references that begins with `first`.
async fn read_v0(first: Packet, packets: &mut PacketReader, most_refs: u32) -> Result<Hello, WireError> {
    let not_git = |line: &[u8]| WireError::Protocol(format!("the server greets with {:?}", said(line)));
    let Packet::Data(first) = first else { return Err(not_git(b"nothing")) };
    let nul = first.iter().position(|byte| *byte == 0).ok_or_else(|| not_git(&first))?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| not_git(bytes));
    let words = text(first[nul + 1..].trim_ascii_end())?;
    let capabilities = Capabilities::of_words(&words)?;
    let mut refs: Vec<Ref> = Vec::new();
    let mut line = Some(text(&first[..nul])?);
    while let Some(listed) = line {
        let found = parse_ref(&listed).ok_or_else(|| not_git(listed.as_bytes()))?;
        let full = refs.len() >= most_refs as usize;
        match (found.name.strip_suffix("^{}"), refs.last_mut()) {
            (Some(tag), Some(last)) if last.name == tag => last.peeled = Some(found.oid),
            // An empty repository lists its capabilities under a name that is none.
            (Some(_), _) => {}
            (None, _) if full => return Err(WireError::TooMuch { what: "references", limit: most_refs.into() }),
            (None, _) => refs.push(found),
        }
        line = packets.line().await?.filter(|line| !line.starts_with("shallow "));
    }
    Ok(Hello { capabilities, refs: Some(refs) })
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
    packets.leave().await;
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
    pub(crate) fn encode(&self, server: Capabilities) -> Bytes {
        match server.version {
            Version::V0 => self.encode_v0(server),
            Version::V2 => self.encode_v2(),
        }
    }

    fn encode_v2(&self) -> Bytes {
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
        if let Some(filter) = self.filter {
            request.line(&format!("filter {}", filter.as_str()));
        }
        request.line("done").flush()
    }

    fn encode_v0(&self, server: Capabilities) -> Bytes {
        let mut request = PacketWriter::default();
        let mut words = String::from(" side-band-64k thin-pack ofs-delta no-progress agent=wickie");
        if server.multi_ack {
            words.push_str(" multi_ack_detailed");
        }
        if self.filter.is_some() {
            words.push_str(" filter");
        }
        for oid in &self.wants {
            request.line(&format!("want {oid}{words}"));
            words.clear();
        }
        for oid in &self.shallow {
            request.line(&format!("shallow {oid}"));
        }
        if let Some(depth) = self.depth {
            request.line(&format!("deepen {depth}"));
        }
        if let Some(filter) = self.filter {
            request.line(&format!("filter {}", filter.as_str()));
        }
        request.end();
        for oid in &self.haves {
            request.line(&format!("have {oid}"));
        }
        request.line("done").take()
    }
}

impl Filter {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoTrees => "tree:0",
            Self::NoBlobs => "blob:none",
        }
    }
}

/// The answer to a [`FetchRequest`]: a pack, in pieces.
pub(crate) struct PackStream {
    pieces: Pieces,
    /// Version 0 announces no pack: its first piece has been seen when it has begun.
    first: Option<Bytes>,
}

enum Pieces {
    /// In packets, on a band of their own.
    Packets(PacketReader),
    /// As they are: out of a repository on this node.
    Raw(Body),
}

/// Lines before the pack that are looked at: shallow boundaries, acknowledgments.
const MOST_LINES: usize = 100_000;

impl PackStream {
    /// Reads up to the beginning of the pack.
    pub(crate) async fn open(mut packets: PacketReader, version: Version) -> Result<Self, WireError> {
        for _ in 0..MOST_LINES {
            match (packets.expect().await?, version) {
                (Packet::Data(line), Version::V2) if line.strip_suffix(b"\n").unwrap_or(&line) == b"packfile" => {
                    return Ok(Self { pieces: Pieces::Packets(packets), first: None });
                }
                // Shallow boundaries and acknowledgments begin with a letter, pieces of a pack with their band.
                (Packet::Data(line), Version::V0) if matches!(line.first(), Some(1..=3)) => {
                    return Ok(Self { pieces: Pieces::Packets(packets), first: Some(line) });
                }
                (Packet::Data(_) | Packet::Delimiter, _) | (Packet::Flush, Version::V0) => {}
                (Packet::Flush | Packet::ResponseEnd, _) => {
                    return Err(WireError::Protocol("the answer ends without a pack".to_owned()));
                }
            }
        }
        Err(WireError::TooMuch { what: "lines before the pack", limit: MOST_LINES as u64 })
    }

    /// A pack that comes without packets around it.
    pub(crate) fn raw(body: Body) -> Self {
        Self { pieces: Pieces::Raw(body), first: None }
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, WireError> {
        let packets = match &mut self.pieces {
            Pieces::Packets(packets) => packets,
            Pieces::Raw(body) => return body.chunk().await,
        };
        loop {
            let mut line = match self.first.take() {
                Some(line) => line,
                None => match packets.expect().await? {
                    Packet::Data(line) => line,
                    Packet::Flush | Packet::Delimiter | Packet::ResponseEnd => {
                        packets.leave().await;
                        return Ok(None);
                    }
                },
            };
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

    fn packets(bytes: &'static [u8]) -> PacketReader {
        PacketReader::new(Body::of(vec![Bytes::from_static(bytes)], Limits::default()))
    }

    #[tokio::test]
    async fn capabilities_of_a_git_server() {
        let mut answer = packets(
            b"001e# service=git-upload-pack\n0000000eversion 2\n0015agent=git/2.39.5\n0013ls-refs=unborn\n\
              0020fetch=shallow wait-for-done\n0012server-option\n0017object-format=sha1\n0000",
        );
        let hello = Hello::read(&mut answer, 10).await.unwrap();
        let expected = Capabilities { shallow: true, any_object: true, ..Default::default() };
        assert_eq!((hello.capabilities, hello.refs), (expected, None));
    }

    #[tokio::test]
    async fn an_old_server_lists_its_references_at_once() {
        let one = "1".repeat(40);
        let lines = [
            format!("{one} HEAD\0multi_ack side-band-64k shallow multi_ack_detailed filter object-format=sha1\n"),
            format!("{one} refs/heads/main\n"),
            format!("{} refs/tags/v1\n", "2".repeat(40)),
            format!("{one} refs/tags/v1^{{}}\n"),
        ];
        let text: String = lines.iter().map(|line| format!("{:04x}{line}", line.len() + 4)).collect();
        let text: &'static str = Box::leak(format!("{text}0000").into_boxed_str());
        let hello = Hello::read(&mut packets(text.as_bytes()), 10).await.unwrap();
        assert!(hello.capabilities.filter && hello.capabilities.multi_ack && !hello.capabilities.any_object);
        let refs = hello.refs.unwrap();
        assert_eq!(
            refs.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(),
            ["HEAD", "refs/heads/main", "refs/tags/v1"]
        );
        assert_eq!(refs[2].peeled.unwrap().to_string(), one);
        let error = Hello::read(&mut packets(text.as_bytes()), 2).await.unwrap_err();
        assert!(matches!(error, WireError::TooMuch { .. }), "{error}");
    }

    #[tokio::test]
    async fn another_hash_and_no_git_at_all_are_named() {
        let sha256 = b"000eversion 2\n000afetch\n0019object-format=sha256\n0000";
        let error = Hello::read(&mut packets(sha256), 10).await.unwrap_err();
        assert!(error.to_string().contains("sha256"), "{error}");
        for text in [&b"0000"[..], b"000ahello\n0000", b"000ahel\0o\n0000"] {
            assert!(Hello::read(&mut packets(text), 10).await.is_err(), "{text:?}");
        }
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
