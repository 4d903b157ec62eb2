//! Permits: leave, signed and expiring, for one step back of one source.
//!
//! A permit is a text of five lines, or of more where it is for several commits to step back from, and, right behind
//! them, an armored signature over exactly those bytes:
//!
//! ```text
//! wickie permit 1
//! source flux-system/fleet
//! from 2dd6d76b1c7e4f0a9f3c8a1b5e6d7f8091a2b3c4
//! to 7c1f0a9f3c8a1b5e6d7f8091a2b3c42dd6d76b1c
//! expires 2026-03-01T00:00:00Z
//! -----BEGIN SSH SIGNATURE-----
//! ```
//!
//! It is signed by one of the source's own signers: `ssh-keygen -Y sign -n wickie-permit`, or `gpg --armor --detach-sign`.
//! The namespace of its own keeps a signature over a commit from ever being one over a permit, and lets `allowed_signers`
//! say who may give leave.
//!
//! `from` stands once for each commit that a node may be at: the nodes of a fleet that was cut off are not all at the
//! same. `to` is where they go, or to what descends from there: a node that hears of it late finds the branch grown.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use wickie_model::Oid;

use crate::{At, Purpose, Refusal, Signer, Signers};

/// Leave to go from one commit to another that does not descend from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The source: `namespace/name`, or the repository's URL for all sources of it.
    pub source: String,
    /// The commits one of which was accepted last; 1 to [`Permit::MOST_FROM`].
    pub from: Vec<Oid>,
    /// The commit that may be accepted next, itself or by a descendant.
    pub to: Oid,
    /// From then on it counts no more.
    pub expires: Timestamp,
}

/// A permit with its signature.
#[derive(Clone, Debug)]
pub struct SignedPermit {
    permit: Permit,
    payload: String,
    signature: String,
}

/// Why a permit gives no leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is named in the text")]
pub enum PermitError {
    #[error("the permit cannot be read: {0}")]
    Malformed(&'static str),
    #[error("the permit is for {0}")]
    OtherSource(String),
    #[error("the permit is for the step from {from} to {to}")]
    OtherStep { from: String, to: Oid },
    #[error("the permit expired at {0}")]
    Expired(Timestamp),
    #[error("the permit {0}")]
    Refused(Refusal),
}

/// A longer text is no permit.
const LONGEST: usize = 64 << 10;

impl fmt::Display for Permit {
    /// The bytes that are signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, from, to, expires } = self;
        writeln!(f, "wickie permit 1\nsource {source}")?;
        from.iter().try_for_each(|from| writeln!(f, "from {from}"))?;
        writeln!(f, "to {to}\nexpires {expires}")
    }
}

impl Permit {
    /// How many commits a permit can be for.
    pub const MOST_FROM: usize = 256;
}

impl FromStr for SignedPermit {
    type Err = PermitError;

    fn from_str(text: &str) -> Result<Self, PermitError> {
        let malformed = PermitError::Malformed;
        if text.len() > LONGEST {
            return Err(malformed("it is too long"));
        }
        let begins = text.find("-----BEGIN ").ok_or(malformed("it is not signed"))?;
        let (payload, signature) = text.split_at(begins);
        let mut lines = payload.lines().peekable();
        if lines.next() != Some("wickie permit 1") {
            return Err(malformed("it does not begin with \"wickie permit 1\""));
        }
        let value = |line: Option<&'_ str>, name: &'static str| {
            let value = line.and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let missing = || malformed("a line is missing or out of order");
        let source = value(lines.next(), "source").ok_or_else(missing)?;
        let mut from = Vec::new();
        while let Some(commit) = value(lines.peek().copied(), "from") {
            from.push(commit.parse().map_err(|_| malformed("\"from\" is no commit"))?);
            lines.next();
        }
        if !(1..=Permit::MOST_FROM).contains(&from.len()) {
            return Err(malformed("it says from no commit, or from too many"));
        }
        let to = value(lines.next(), "to").ok_or_else(missing)?;
        let expires = value(lines.next(), "expires").ok_or_else(missing)?;
        let permit = Permit {
            source,
            from,
            to: to.parse().map_err(|_| malformed("\"to\" is no commit"))?,
            expires: expires.parse().map_err(|_| malformed("\"expires\" is no time"))?,
        };
        // What was signed is what is read, to the byte.
        match permit.to_string() == payload {
            true => Ok(Self { permit, payload: payload.to_owned(), signature: signature.to_owned() }),
            false => Err(malformed("it holds more than its lines")),
        }
    }
}

impl SignedPermit {
    /// What it says, believed or not.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What is signed, to the byte.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Who gives leave for a source to step back from the commit `from`, if the permit does; the step goes to the
    /// permit's `to`. `names` are the source's.
    pub fn allows(&self, names: &[&str], from: Oid, signers: &Signers, now: Timestamp) -> Result<Signer, PermitError> {
        let permit = &self.permit;
        if !names.contains(&permit.source.as_str()) {
            return Err(PermitError::OtherSource(permit.source.clone()));
        }
        if !permit.from.contains(&from) {
            let (first, more) = (permit.from.first(), permit.from.len().saturating_sub(1));
            let mut from = first.map(Oid::to_string).unwrap_or_default();
            if more > 0 {
                from.push_str(&format!(" (and {more} others)"));
            }
            return Err(PermitError::OtherStep { from, to: permit.to });
        }
        if now >= permit.expires {
            return Err(PermitError::Expired(permit.expires));
        }
        self.signer(signers, now)
    }

    /// Who signed it, if it is one of these signers and the signature holds; what it is for is not looked at.
    pub fn signer(&self, signers: &Signers, now: Timestamp) -> Result<Signer, PermitError> {
        let at = At { now, signed: now };
        signers
            .verify_for(Purpose::Permit, self.payload.as_bytes(), Some(self.signature.as_bytes()), at)
            .map_err(PermitError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use ssh_key::private::{Ed25519Keypair, KeypairData};
    use ssh_key::{HashAlg, LineEnding, PrivateKey};

    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[7; 32])), "ada").unwrap()
    }

    fn signers() -> Signers {
        Signers::parse([("key", key().public_key().to_openssh().unwrap().as_bytes())]).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn permit() -> Permit {
        let oid = |byte| Oid::from_bytes([byte; 20]);
        Permit { source: "flux-system/fleet".to_owned(), from: vec![oid(1)], to: oid(2), expires: at(1_000) }
    }

    fn signed(text: &str, namespace: &str) -> String {
        let signature = key().sign(namespace, HashAlg::Sha512, text.as_bytes()).unwrap();
        format!("{text}{}", signature.to_pem(LineEnding::LF).unwrap())
    }

    fn judge(text: &str, now: i64) -> Result<Signer, PermitError> {
        let oid = |byte| Oid::from_bytes([byte; 20]);
        let names = ["flux-system/fleet", "https://git.example/fleet"];
        text.parse::<SignedPermit>()?.allows(&names, oid(1), &signers(), at(now))
    }

    #[test]
    fn a_permit_gives_leave_for_its_step_until_it_expires() {
        let text = signed(&permit().to_string(), "wickie-permit");
        assert_eq!(judge(&text, 999).unwrap().name.as_deref(), Some("ada"));
        assert_eq!(judge(&text, 1_000), Err(PermitError::Expired(at(1_000))));
    }

    #[test]
    fn for_another_source_step_or_purpose_it_gives_none() {
        let with = |change: fn(&mut Permit)| {
            let mut permit = permit();
            change(&mut permit);
            judge(&signed(&permit.to_string(), "wickie-permit"), 1)
        };
        assert!(matches!(with(|permit| permit.source = "other/fleet".to_owned()), Err(PermitError::OtherSource(_))));
        let elsewhere = |permit: &mut Permit| permit.from = vec![Oid::from_bytes([9; 20])];
        assert!(matches!(with(elsewhere), Err(PermitError::OtherStep { .. })));
        // A fleet is not all at the same commit.
        assert!(with(|permit| permit.from.insert(0, Oid::from_bytes([9; 20]))).is_ok());
        let nowhere = with(|permit| permit.from.clear());
        assert!(matches!(nowhere, Err(PermitError::Malformed(_))), "{nowhere:?}");
        let many = with(|permit| permit.from = vec![Oid::from_bytes([1; 20]); Permit::MOST_FROM + 1]);
        assert!(matches!(many, Err(PermitError::Malformed(_))), "{many:?}");
        assert!(with(|permit| permit.source = "https://git.example/fleet".to_owned()).is_ok());
        let for_git = judge(&signed(&permit().to_string(), "git"), 1);
        assert!(matches!(for_git, Err(PermitError::Refused(Refusal::WrongNamespace { .. }))), "{for_git:?}");
    }

    #[test]
    fn a_changed_or_padded_permit_gives_none() {
        let text = signed(&permit().to_string(), "wickie-permit");
        let later = text.replace("1970-01-01T00:16:40Z", "1970-01-01T00:26:40Z");
        assert!(matches!(judge(&later, 1), Err(PermitError::Refused(Refusal::BadSignature { .. }))));
        let padded = signed(&format!("{}note x\n", permit()), "wickie-permit");
        assert!(matches!(judge(&padded, 1), Err(PermitError::Malformed(_))));
        for text in ["", "wickie permit 2\n", &permit().to_string()] {
            assert!(matches!(judge(text, 1), Err(PermitError::Malformed(_))), "{text}");
        }
    }
}
