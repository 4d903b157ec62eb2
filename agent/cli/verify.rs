//! `wickie verify`: who signed what, and is it to be believed.
//!
//! A source by its name: what the agent's store holds of it, or, with `--revision`, what its server offers, held against
//! the floor of the store. A URL, or a folder on this machine: what it offers, held against nothing. A permit: what it is worth. Nothing is
//! accepted, fetched into the agent's store, or changed. Exit codes: 0 believed, 1 could not be found out, 3 not believed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use wickie_model::{Resource, ResourceKind, ResourceName};
use wickie_trust::{Kept, SignedPermit, Signers};

use super::look::{Look, Tone};
use super::{CliError, Exit, Out, Settings, text};
use crate::chain::chain;
use crate::config::git::{GitSource, GitUrl, RefName, Reference, Verify, VerifyMode};
use crate::config::{DEFAULT_NAMESPACE, GitRepository, files};
use crate::source::{Examined, FloorSeen, Git, Witness};
use crate::store::{FloorsFound, KeptFloor, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A source's name (NAME or NAMESPACE/NAME), the URL of a repository, or a folder (./DIR) that is one
    #[arg(value_name = "SOURCE|URL|DIR", required_unless_present = "permit")]
    target: Option<String>,
    /// Look at this branch, tag, full reference or commit of the server, instead of what the store holds
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Whom to believe: SSH public keys, allowed_signers, OpenPGP key rings; otherwise the signers of the source
    #[arg(long, value_name = "FILE", num_args = 1..)]
    signers: Vec<PathBuf>,
    /// What must be signed, where --signers says by whom
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Show what a permit for a step back is worth
    #[arg(long, value_name = "FILE", conflicts_with = "revision")]
    permit: Option<PathBuf>,
    /// Where sources are declared: YAML files, or folders of them [default: /etc/wickie/conf.d if it is there]
    #[arg(long, value_name = "DIR|FILE")]
    config: Vec<PathBuf>,
}

/// Flux's `verify.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// The commit
    #[default]
    Head,
    /// The annotated tag
    Tag,
    /// Both
    #[value(name = "tag-and-head")]
    TagAndHead,
}

/// What is shown of a revision; these are the fields of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    api_version: &'static str,
    /// Whose: a source, or a URL.
    of: String,
    revision: String,
    believed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    objects: Vec<Witness>,
    floors: Vec<FloorSeen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<String>,
}

/// What is shown of a permit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownPermit {
    api_version: &'static str,
    source: String,
    from: Vec<String>,
    to: String,
    expires: String,
    believed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A longer file holds no signers, and is no permit.
const LONGEST: u64 = 1 << 20;

pub(super) async fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(path) = &args.permit {
        return permit(path, &args, settings, out);
    }
    let target = args.target.clone().unwrap_or_default();
    // A folder is a repository where it is written as a path: `./fleet` is not the source `fleet`.
    let folder = Path::new(&target).canonicalize().ok().filter(|path| target.starts_with(['.', '/']) && path.is_dir());
    let url = match &folder {
        Some(path) => Some(format!("file://{}", path.display())),
        None => Some(target.clone()).filter(|target| target.contains("://")),
    };
    let (of, examined) = match url {
        Some(url) => (target.clone(), of_url(&url, &args, out).await?),
        None => of_source(&target, &args, settings, out).await?,
    };
    let shown = Shown::new(of, examined);
    out.answer(settings.format, &shown, page)?;
    Ok(if shown.believed { Exit::Done } else { Exit::Differs })
}

async fn of_url(target: &str, args: &Args, out: &Out) -> Result<Examined, CliError> {
    let url =
        GitUrl::parse(target).map_err(|error| CliError::Usage(format!("{target:?} is no repository: {error}")))?;
    let name = ResourceName::new(DEFAULT_NAMESPACE, "verify");
    let head = Reference::Name(RefName::new("HEAD").map_err(|error| CliError::Usage(error.to_string()))?);
    let source = GitSource { verify: signers(args)?, ..GitSource::unverified(name, url, head, TIMEOUT) };
    at_server(source, args.revision.as_deref(), Vec::new(), out).await
}

async fn of_source(target: &str, args: &Args, settings: &Settings, out: &Out) -> Result<(String, Examined), CliError> {
    let name = match target.split_once('/') {
        Some((namespace, name)) => ResourceName::new(namespace, name),
        None => ResourceName::new(settings.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE), target),
    };
    let mut source = declared(&name, args, settings)?;
    if let Some(verify) = signers(args)? {
        source.verify = Some(verify);
    }
    let of = format!("GitRepository/{name}");
    if !settings.data_dir.database().exists() {
        if args.revision.is_none() {
            let dir = settings.data_dir.path().to_owned();
            return Err(CliError::Agent(crate::serve::AgentError::NoData { dir }));
        }
        return Ok((of, at_server(source, args.revision.as_deref(), Vec::new(), out).await?));
    }
    let store = Store::open_for_reading(&settings.data_dir).map_err(crate::serve::AgentError::Store)?;
    let kept = match settings.data_dir.floors().read() {
        FloorsFound::Whole(floors) => floors,
        FloorsFound::Missing | FloorsFound::Damaged(_) => Vec::new(),
    };
    if let Some(revision) = &args.revision {
        let own = store.floors().await.map_err(crate::serve::AgentError::Store)?;
        // A copy that the store has passed lies behind: the store's own stands for both.
        let passed = |copy: &KeptFloor| own.iter().any(|own| own.passed.contains(&copy.floor.commit));
        let track = source.track();
        let mut copies: Vec<(Kept, KeptFloor)> = own.iter().map(|own| (Kept::Store, own.kept.clone())).collect();
        copies.extend(kept.into_iter().filter(|copy| !passed(copy)).map(|copy| (Kept::File, copy)));
        copies.retain(|(_, copy)| copy.source == name && copy.floor.track == track);
        return Ok((of, at_server(source, Some(revision), copies, out).await?));
    }
    let git = Git::new(store);
    git.note_copies(Kept::File, kept);
    let examined = git.examine_stored(&source, out.now()).await.map_err(|source| CliError::Source(Box::new(source)))?;
    let examined = examined.ok_or_else(|| CliError::NothingStored { of: of.clone() })?;
    Ok((of, examined))
}

/// Asks the server; a name is a branch, and otherwise a tag.
async fn at_server(
    source: GitSource,
    revision: Option<&str>,
    copies: Vec<(Kept, KeptFloor)>,
    out: &Out,
) -> Result<Examined, CliError> {
    let name = |text: &str| RefName::new(text).map_err(|error| CliError::Usage(format!("--revision: {error}")));
    let tries = match revision {
        // A repository on this machine has no HEAD that is offered.
        None => vec![source.reference.clone(), Reference::Branch(name("main")?), Reference::Branch(name("master")?)],
        Some(text) => match text.parse() {
            Ok(oid) => vec![Reference::Commit { oid, branch: None }],
            Err(_) if text.starts_with("refs/") => vec![Reference::Name(name(text)?)],
            Err(_) => vec![Reference::Branch(name(text)?), Reference::Tag(name(text)?)],
        },
    };
    let mut failed = None;
    for reference in tries {
        let source = GitSource { reference, ..source.clone() };
        let git = Git::new(Store::in_memory().map_err(crate::serve::AgentError::Store)?);
        for kept in [Kept::Store, Kept::File] {
            let of_place = copies.iter().filter(|(place, _)| *place == kept).map(|(_, copy)| {
                let mut copy = copy.clone();
                copy.floor.track = source.track();
                copy
            });
            git.note_copies(kept, of_place.collect());
        }
        match git.examine(&source, out.now()).await {
            Err(error @ crate::source::SourceError::NoSuchRef { .. }) => failed = Some(error),
            other => return other.map_err(|source| CliError::Source(Box::new(source))),
        }
    }
    match failed {
        Some(error) => Err(CliError::Source(Box::new(error))),
        None => Err(CliError::Usage("--revision is empty".to_owned())),
    }
}

/// A source as the configuration files declare it.
fn declared(name: &ResourceName, args: &Args, settings: &Settings) -> Result<GitSource, CliError> {
    let config = super::run::config(&args.config);
    let read = files::read(&config);
    let resource = Resource::new(ResourceKind::GitRepository, name.clone());
    let Some(declared) = read.declared.get(&resource) else {
        return Err(CliError::NotDeclared { resource: Box::new(resource), problems: read.problems });
    };
    let mut node = read.node.clone();
    node.permits.push(settings.data_dir.permits());
    // With --signers, the Secret need not be at hand.
    let mut declared = (**declared).clone();
    if !args.signers.is_empty() {
        let mut spec = declared.spec.value();
        spec.as_object_mut().map(|spec| spec.remove("verify"));
        declared.spec = (&spec).into();
        node.require_verified = false;
    }
    let read = GitRepository::new(&declared, &read.secrets, &node);
    read.map(|repository| repository.source)
        .map_err(|invalid| CliError::Spec { resource: Box::new(resource), source: Box::new(invalid) })
}

fn signers(args: &Args) -> Result<Option<Verify>, CliError> {
    if args.signers.is_empty() {
        return Ok(None);
    }
    let mode = match args.mode {
        Mode::Head => VerifyMode::Head,
        Mode::Tag => VerifyMode::Tag,
        Mode::TagAndHead => VerifyMode::TagAndHead,
    };
    let keys = args.signers.iter().map(|path| Ok((path.display().to_string(), read(path)?)));
    Ok(Some(Verify { mode, keys: keys.collect::<Result<_, CliError>>()? }))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LONGEST), &mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn permit(path: &Path, args: &Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    let permit: SignedPermit =
        text.parse().map_err(|source| CliError::Permit { path: path.to_owned(), source: Box::new(source) })?;
    let says = permit.permit();
    let keys = match signers(args)? {
        Some(verify) => Some(verify),
        None => match (&args.target, says.source.contains("://")) {
            (None, true) => None,
            (target, _) => {
                let named = target.clone().unwrap_or_else(|| says.source.clone());
                let (namespace, name) = named.split_once('/').unwrap_or((DEFAULT_NAMESPACE, &named));
                declared(&ResourceName::new(namespace, name), args, settings)?.verify
            }
        },
    };
    let keys = keys.ok_or_else(|| {
        CliError::Usage("name whom to believe with --signers FILE, or a source that names its signers".to_owned())
    })?;
    let parsed = Signers::parse(keys.keys.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    let signers = parsed.map_err(|error| CliError::Usage(format!("--signers: {error}")))?;
    let judged = match permit.signer(&signers, out.now()) {
        Ok(_) if out.now() >= says.expires => Err(format!("the permit expired at {}", says.expires)),
        Ok(signer) => Ok(signer.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let (signer, why) = match judged {
        Ok(signer) => (Some(signer), None),
        Err(why) => (None, Some(why)),
    };
    let shown = ShownPermit {
        api_version: crate::serve::view::API_VERSION,
        source: says.source.clone(),
        from: says.from.iter().map(ToString::to_string).collect(),
        to: says.to.to_string(),
        expires: says.expires.to_string(),
        believed: why.is_none(),
        signer,
        why,
    };
    out.answer(settings.format, &shown, permit_page)?;
    Ok(if shown.believed { Exit::Done } else { Exit::Differs })
}

impl Shown {
    fn new(of: String, examined: Examined) -> Self {
        let Examined { revision, objects, floors, permitted, verdict } = examined;
        Self {
            api_version: crate::serve::view::API_VERSION,
            of,
            revision: revision.to_string(),
            believed: verdict.is_ok(),
            why: verdict.err().map(|error| chain(&error)),
            objects,
            floors,
            permit: permitted.map(|(from, signer)| format!("a step back from {from} is permitted by {signer}")),
        }
    }
}

/// A paragraph behind a mark.
fn marked(look: &Look, tone: Tone, mark: &str, words: &str) -> String {
    let lines = text::wrap(words, look.width.saturating_sub(2));
    format!("{} {}\n", look.paint(tone, mark), lines.join("\n  "))
}

fn page(shown: &Shown, look: &Look) -> String {
    let mut page = String::new();
    let verdict = match &shown.why {
        None => marked(look, Tone::Good, "●", &format!("{}: {} is believed", shown.of, shown.revision)),
        Some(why) => marked(look, Tone::Bad, "✗", &format!("{}: {} is not believed: {why}", shown.of, shown.revision)),
    };
    page.push_str(&verdict);
    if !shown.objects.is_empty() {
        page.push_str(&format!("\n{}\n", look.paint(Tone::Strong, "SIGNATURES")));
    }
    for object in &shown.objects {
        let title = format!("{} {} of {}", object.kind, object.id, object.made);
        page.push_str(&match (&object.signer, &object.refusal) {
            (Some(signer), _) => marked(look, Tone::Good, "●", &format!("{title}: signed by {signer}")),
            (None, refusal) => {
                marked(look, Tone::Bad, "✗", &format!("{title}: {}", refusal.as_deref().unwrap_or_default()))
            }
        });
    }
    page.push_str(&format!("\n{}\n", look.paint(Tone::Strong, "HISTORY")));
    if shown.floors.is_empty() {
        page.push_str(&marked(look, Tone::Warn, "○", "nothing was accepted before that it could be held against"));
    }
    for floor in &shown.floors {
        let version = floor.version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default();
        let words = format!("it may not go behind {}{version}: so says {}", floor.commit, floor.kept);
        page.push_str(&marked(look, Tone::Dim, "○", &words));
    }
    if let Some(permit) = &shown.permit {
        page.push_str(&marked(look, Tone::Warn, "○", permit));
    }
    page
}

fn permit_page(shown: &ShownPermit, look: &Look) -> String {
    let mut page = match (&shown.signer, &shown.why) {
        (Some(signer), _) => {
            marked(look, Tone::Good, "●", &format!("it gives leave until {}: signed by {signer}", shown.expires))
        }
        (None, why) => {
            marked(look, Tone::Bad, "✗", &format!("it gives no leave: {}", why.as_deref().unwrap_or_default()))
        }
    };
    page.push_str(&marked(look, Tone::Dim, "○", &format!("for {}", shown.source)));
    for from in &shown.from {
        page.push_str(&marked(look, Tone::Dim, "○", &format!("from {from}")));
    }
    page.push_str(&marked(look, Tone::Dim, "○", &format!("to {} and what descends from it", shown.to)));
    page
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::cli::golden;

    fn look() -> Look {
        Look { color: false, width: 80, now: Timestamp::UNIX_EPOCH }
    }

    fn witness(kind: &'static str, byte: &str, refusal: Option<&str>) -> Witness {
        Witness {
            kind,
            id: byte.repeat(20),
            made: Timestamp::from_second(1_790_000_000).unwrap(),
            signer: refusal.is_none().then(|| "SHA256:v+Z9Bij3pxnpCD8xaUcKuhjk2z7FtDukNEPFJxgGhh0 (ada)".to_owned()),
            refusal: refusal.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_believed_and_what_is_not() {
        let floor = |commit: &str, version: Option<&str>| FloorSeen {
            kept: Kept::Store.to_string(),
            commit: commit.repeat(20),
            version: version.map(str::to_owned),
        };
        let good = Shown {
            api_version: crate::serve::view::API_VERSION,
            of: "GitRepository/flux-system/fleet".to_owned(),
            revision: format!("v1.2.0@sha1:{}", "2d".repeat(20)),
            believed: true,
            why: None,
            objects: vec![witness("tag", "1c", None), witness("commit", "2d", None)],
            floors: vec![floor("7e", Some("1.1.0"))],
            permit: Some(format!("a step back from {} is permitted by SHA256:abc (ada)", "7e".repeat(20))),
        };
        golden("verify_believed", &page(&good, &look()));
        let bad = Shown {
            believed: false,
            why: Some("signature verification failed: the commit 2d2d is signed by the key SHA256:eve, which is not among the allowed signers\u{1b}[2J".to_owned()),
            objects: vec![witness("commit", "2d", Some("it is signed by the key SHA256:eve, which is not among the allowed signers"))],
            floors: Vec::new(),
            permit: None,
            of: "https://git.example.com/fleet.git".to_owned(),
            ..good
        };
        golden("verify_refused", &page(&bad, &look()));
        let permit = ShownPermit {
            api_version: crate::serve::view::API_VERSION,
            source: "flux-system/fleet".to_owned(),
            from: vec!["7e".repeat(20), "7f".repeat(20)],
            to: "2d".repeat(20),
            expires: "2026-12-01T10:00:00Z".to_owned(),
            believed: true,
            signer: Some("SHA256:abc (ada)".to_owned()),
            why: None,
        };
        golden("verify_permit", &permit_page(&permit, &look()));
    }
}
