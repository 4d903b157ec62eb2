//! `wickie permit create`: leave for a step back, to be put into the repository or onto a node.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use wickie_model::Oid;
use wickie_trust::{Permit, SignError, sign_permit};

use super::{CliError, Exit, Out, Settings};
use crate::config::git::GitUrl;
use crate::config::{DEFAULT_NAMESPACE, MaxAge};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a permit that lets a source step back from some commits to another
    Create(Create),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The source: NAMESPACE/NAME, or its URL for all sources of that repository
    #[arg(long, value_name = "NS/NAME|URL", value_parser = source)]
    source: String,
    /// A commit that a node may be at; once for each
    #[arg(long, value_name = "COMMIT", required = true)]
    from: Vec<Oid>,
    /// The commit that they are to go to, or to what descends from it
    #[arg(long, value_name = "COMMIT")]
    to: Oid,
    /// How long it is to count (7d, 12h), or until when (2026-03-01T00:00:00Z)
    #[arg(long, value_name = "DURATION|TIME")]
    expires: String,
    /// Sign it with this OpenSSH private key; its passphrase is asked for, or taken from WICKIE_PASSPHRASE
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// A private key is shorter.
const LONGEST_KEY: u64 = 64 << 10;

/// As permits and nodes write it.
fn source(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it holds blanks".to_owned());
    }
    if text.contains("://") {
        return GitUrl::parse(text).map(|url| url.to_string()).map_err(|error| error.to_string());
    }
    match text.split('/').collect::<Vec<_>>()[..] {
        [name] if !name.is_empty() => Ok(format!("{DEFAULT_NAMESPACE}/{name}")),
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("it is written NAMESPACE/NAME, or as the source's spec.url".to_owned()),
    }
}

pub(super) fn execute(args: Args, settings: &Settings, out: &mut Out) -> Result<Exit, CliError> {
    let Command::Create(create) = args.command;
    // What stands in -n is for the commands that name an object; here the namespace is part of what is signed.
    let _ = settings;
    let permit = Permit {
        source: create.source,
        from: create.from,
        to: create.to,
        expires: expires(&create.expires, out.now()).map_err(CliError::Usage)?,
    };
    if permit.from.len() > Permit::MOST_FROM {
        return Err(CliError::Usage(format!("--from is given more than {} times", Permit::MOST_FROM)));
    }
    if permit.from.contains(&permit.to) {
        return Err(CliError::Usage("--from and --to name the same commit: there is no step to allow".to_owned()));
    }
    match &create.key {
        Some(path) => {
            let signed = sign(&permit, path)?;
            out.text(&signed)?;
            out.say(&published(&permit))?;
        }
        None => {
            out.text(&permit.to_string())?;
            out.say(UNSIGNED)?;
            out.say(&published(&permit))?;
        }
    }
    Ok(Exit::Done)
}

const UNSIGNED: &str = "\
It is not signed yet. As a file named permit, unchanged to the byte, one of the source's signers signs it:
  ssh-keygen -Y sign -n wickie-permit -f KEY permit && cat permit permit.sig > signed
  gpg --armor --detach-sign permit && cat permit permit.asc > signed";

fn published(permit: &Permit) -> String {
    format!(
        "Signed, it counts until {} where a node finds it: in the repository
  git push origin $(git hash-object -w signed):refs/wickie/permits/1
or as a file in the folder permits of a node's configuration or data directory.
wickie verify --permit signed --signers FILE shows what it is worth.",
        permit.expires
    )
}

fn expires(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let refused = || format!("--expires {text:?} is neither a duration like 7d nor a time like 2026-03-01T00:00:00Z");
    let end = match MaxAge::parse(text) {
        Ok(age) => now.checked_add(age.limit()).map_err(|_| refused())?,
        Err(_) => text.parse::<Timestamp>().map_err(|_| refused())?,
    };
    let end = Timestamp::from_second(end.as_second()).map_err(|_| refused())?;
    match end > now {
        true => Ok(end),
        false => Err(format!("--expires {text} is over already")),
    }
}

fn sign(permit: &Permit, path: &Path) -> Result<String, CliError> {
    let file = |source| CliError::File { path: path.to_owned(), source };
    let mut key = String::new();
    std::fs::File::open(path).map_err(file)?.take(LONGEST_KEY).read_to_string(&mut key).map_err(file)?;
    let failed = |source| CliError::Key { path: path.to_owned(), source };
    match sign_permit(permit, &key, None) {
        Err(SignError::Locked) => {
            let passphrase = passphrase(path).map_err(file)?.ok_or_else(|| failed(SignError::Locked))?;
            sign_permit(permit, &key, Some(&passphrase)).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// The passphrase, from the environment or from whoever sits there.
fn passphrase(key: &Path) -> io::Result<Option<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    if let Ok(given) = std::env::var("WICKIE_PASSPHRASE") {
        return Ok(Some(given));
    }
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "Passphrase of {}: ", key.display())?;
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes -= LocalModes::ECHO;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = io::BufRead::read_line(&mut io::BufReader::new(&terminal), &mut line);
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    writeln!(terminal)?;
    read?;
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_as_nodes_name_it() {
        for (text, named) in [
            ("apps/fleet", "apps/fleet"),
            ("fleet", "flux-system/fleet"),
            ("https://git.example.com/fleet.git", "https://git.example.com/fleet.git"),
        ] {
            assert_eq!(source(text).as_deref(), Ok(named));
        }
        for text in ["", "/", "a/b/c", "a b", "ftp://x/y"] {
            assert!(source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_is_a_while_or_a_time() {
        let now: Timestamp = "2026-11-24T10:00:00.5Z".parse().unwrap();
        assert_eq!(expires("7d", now).unwrap().to_string(), "2026-12-01T10:00:00Z");
        assert_eq!(expires("2027-01-01T00:00:00Z", now).unwrap().to_string(), "2027-01-01T00:00:00Z");
        for text in ["", "soon", "2026-01-01T00:00:00Z", "0d", "99999999d"] {
            assert!(expires(text, now).is_err(), "{text}");
        }
    }
}
