//! OpenSSH's `known_hosts`: which host has which key.
//!
//! Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": `[marker] hosts keytype base64-key [comment]`. Hosts are patterns
//! joined by commas, or one hashed name `|1|salt|hash`; a host on another port than 22 is written `[host]:port`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use crate::ssh::matches;

/// The lines of a `known_hosts` file.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts(Vec<Line>);

#[derive(Clone, Debug)]
struct Line {
    revoked: bool,
    hosts: Hosts,
    key_type: String,
    key: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Hosts {
    Patterns(String),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// What is known of a key that a host shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKey {
    /// It is the host's.
    Known,
    /// It is not to be used any more, by whomever.
    Revoked,
    /// The host has a key, and it is another one.
    Changed,
    /// Nothing is known of the host.
    Unknown,
}

impl KnownHosts {
    /// Reads the lines. Lines of certificate authorities are passed over: no certificate is asked for.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = parse_line(line).map_err(|detail| format!("line {}: {detail}", number + 1))?;
            lines.extend(parsed);
        }
        match lines.is_empty() {
            true => Err("it holds no host".to_owned()),
            false => Ok(Self(lines)),
        }
    }

    /// What is known of `key`, in SSH's wire format, shown by a host.
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> HostKey {
        let mine = |line: &&Line| line.is_for(host, port);
        if self.0.iter().any(|line| line.revoked && line.key == key) {
            return HostKey::Revoked;
        }
        let mut of_host = self.0.iter().filter(|line| !line.revoked).filter(mine).peekable();
        match (of_host.peek().is_some(), of_host.any(|line| line.key == key)) {
            (_, true) => HostKey::Known,
            (true, false) => HostKey::Changed,
            (false, false) => HostKey::Unknown,
        }
    }

    /// The types of the keys that a host is known by.
    pub fn key_types(&self, host: &str, port: u16) -> Vec<String> {
        let mine = self.0.iter().filter(|line| !line.revoked && line.is_for(host, port));
        mine.map(|line| line.key_type.clone()).collect()
    }
}

impl Line {
    fn is_for(&self, host: &str, port: u16) -> bool {
        let name = match port {
            22 => host.to_ascii_lowercase(),
            port => format!("[{}]:{port}", host.to_ascii_lowercase()),
        };
        match &self.hosts {
            Hosts::Patterns(patterns) => {
                let (denied, allowed): (Vec<_>, Vec<_>) =
                    patterns.split(',').partition(|pattern| pattern.starts_with('!'));
                allowed.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &name))
                    && !denied.iter().any(|pattern| matches(&pattern[1..].to_ascii_lowercase(), &name))
            }
            Hosts::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|hmac| hmac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        }
    }
}

fn parse_line(line: &str) -> Result<Option<Line>, String> {
    let mut words = line.split_ascii_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@'));
    let revoked = match marker {
        None => false,
        Some("@revoked") => true,
        Some("@cert-authority") => return Ok(None),
        Some(other) => return Err(format!("the marker {other} is unknown")),
    };
    let (Some(hosts), Some(key_type), Some(key)) = (words.next(), words.next(), words.next()) else {
        return Err("it lacks a host, a key type or a key".to_owned());
    };
    let decode = |text: &str| BASE64.decode(text).map_err(|error| format!("{text:?} is not base64: {error}"));
    let hosts = match hosts.strip_prefix("|1|") {
        Some(hashed) => {
            let (salt, hash) = hashed.split_once('|').ok_or("a hashed host lacks its hash")?;
            Hosts::Hashed { salt: decode(salt)?, hash: decode(hash)? }
        }
        None => Hosts::Patterns(hosts.to_owned()),
    };
    let key = decode(key)?;
    // A key begins with its own type; a line where the two differ was put together by hand, wrongly.
    let own = key.get(4..4 + key_type.len());
    match own == Some(key_type.as_bytes()) {
        true => Ok(Some(Line { revoked, hosts, key_type: key_type.to_owned(), key })),
        false => Err(format!("the key is not of the type {key_type}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9GAJ4NPFtuxnnPSR2jUZA3xZsdq+nZ8WmWpHFkBQpX";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF3qbSuL9gd3zs8j5Fw0PPS2EZHbLgI912e84z/a/kSW";

    fn bytes(key: &str) -> Vec<u8> {
        BASE64.decode(key.split(' ').nth(1).unwrap()).unwrap()
    }

    #[test]
    fn hosts_are_found_by_name_port_and_pattern() {
        let known =
            KnownHosts::parse(&format!("# ours\ngit.example {KEY}\n[git.example]:2222,*.lab,!bad.lab {OTHER} x\n"))
                .unwrap();
        assert_eq!(known.check("git.example", 22, &bytes(KEY)), HostKey::Known);
        assert_eq!(known.check("GIT.example", 22, &bytes(OTHER)), HostKey::Changed);
        assert_eq!(known.check("git.example", 2222, &bytes(OTHER)), HostKey::Known);
        assert_eq!(known.check("a.lab", 22, &bytes(OTHER)), HostKey::Known);
        assert_eq!(known.check("bad.lab", 22, &bytes(OTHER)), HostKey::Unknown);
        assert_eq!(known.check("git.example.evil", 22, &bytes(KEY)), HostKey::Unknown);
        assert_eq!(known.key_types("git.example", 22), ["ssh-ed25519"]);
    }

    #[test]
    fn a_hashed_host_is_found() {
        let salt = [7; 20];
        let hash = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(b"git.example").finalize().into_bytes();
        let line = format!("|1|{}|{} {KEY}", BASE64.encode(salt), BASE64.encode(hash));
        let known = KnownHosts::parse(&line).unwrap();
        assert_eq!(known.check("git.example", 22, &bytes(KEY)), HostKey::Known);
        assert_eq!(known.check("other.example", 22, &bytes(KEY)), HostKey::Unknown);
    }

    #[test]
    fn a_revoked_key_is_nobodys() {
        let known = KnownHosts::parse(&format!("git.example {KEY}\n@revoked * {KEY}\n")).unwrap();
        assert_eq!(known.check("git.example", 22, &bytes(KEY)), HostKey::Revoked);
    }

    #[test]
    fn broken_lines_are_refused() {
        for text in [
            "",
            "# nothing",
            "git.example",
            "git.example ssh-rsa AAAA",
            "@new git.example ssh-ed25519 AAAA",
            "|1|x ssh-ed25519 AAAA",
        ] {
            assert!(KnownHosts::parse(text).is_err(), "{text}");
        }
        assert!(KnownHosts::parse(&format!("git.example {}", KEY.replace("ssh-ed25519 ", "ssh-rsa "))).is_err());
    }
}
