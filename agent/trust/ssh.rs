//! SSH signatures, as `ssh-keygen -Y sign -n git` makes them.
//!
//! Source: OpenSSH's PROTOCOL.sshsig, and sshsig.c for what `ssh-keygen -Y verify` checks beyond it.

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};

use crate::allowed_signers::{self, Line, Options};
use crate::certificate::{Certificate, Flaw};
use crate::sshsig::Signed;
use crate::{At, Owner, Purpose, Refusal, Signer};

/// RSA keys below this many bits are not believed.
const LEAST_RSA_BITS: usize = 2048;

/// A key that may sign, and within which limits.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    key: PublicKey,
    /// Whom signatures count for; of an authority, whom it is called after.
    signer: Signer,
    /// Whether the owner was named by whoever lists the keys, and not by the line.
    named: bool,
    /// Patterns of the names that an authority may vouch for.
    principals: Option<String>,
    options: Options,
}

/// Reads lines of public keys or `allowed_signers`; empty lines and comments are skipped. `owner` is whose keys they are,
/// where that is said; otherwise each is its principals'.
pub(crate) fn parse(text: &str, owner: Option<&str>) -> Result<Vec<Allowed>, String> {
    let mut allowed = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = allowed_signers::line(line).map_err(|detail| format!("line {}: {detail}", number + 1))?;
        allowed.push(Allowed::new(line, owner));
    }
    match allowed.is_empty() {
        true => Err("there is no key in it".to_owned()),
        false => Ok(allowed),
    }
}

/// Who signed `payload`, if one of `allowed` did.
///
/// A key may stand on several lines with several limits: it is believed if one of them allows it, and otherwise the
/// reason that the last of them gave is told.
pub(crate) fn verify(
    allowed: &[Allowed],
    purpose: Purpose,
    payload: &[u8],
    armored: &str,
    at: At,
) -> Result<Signer, Refusal> {
    let signature = Signed::read(armored).map_err(|detail| Refusal::Malformed { detail })?;
    let mut refusal = Refusal::UnknownKey { key: named(&signature) };
    for line in allowed.iter().filter(|line| line.is_for(&signature)) {
        match line.check(purpose.namespace(), payload, &signature, at) {
            Ok(signer) => return Ok(signer),
            Err(reason) => refusal = reason,
        }
    }
    Err(refusal)
}

/// When the lines end that say so.
pub(crate) fn ends(allowed: &[Allowed]) -> Vec<(Signer, jiff::Timestamp)> {
    let ending = allowed.iter().filter_map(|line| Some((line.signer.clone(), line.options.valid_before?)));
    ending.collect()
}

/// The key of a signature, and who vouches for it.
fn named(signature: &Signed) -> String {
    let key = fingerprint(&signature.key);
    match &signature.certificate {
        Some(certificate) => format!("{key} with a certificate of {}", fingerprint(&certificate.authority)),
        None => key,
    }
}

impl Allowed {
    fn new(line: Line, owner: Option<&str>) -> Self {
        let key = fingerprint(line.key.key_data());
        let comment = Some(line.key.comment().to_owned()).filter(|comment| !comment.is_empty());
        let name = owner.map(str::to_owned).or_else(|| line.principals.clone()).or(comment);
        let whose = owner.map(str::to_owned).or_else(|| line.principals.clone()).unwrap_or_else(|| key.clone());
        let whose = Owner { name: whose, group: None, issuer: None };
        let signer = Signer { key, name, owner: Box::new(whose) };
        Self { key: line.key, signer, named: owner.is_some(), principals: line.principals, options: line.options }
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.signer.key
    }

    /// Whether this line speaks of the key that made a signature: as that key, or as the authority behind it. An
    /// authority's own key signs certificates, not commits; and a plain key is not the same key with a certificate.
    fn is_for(&self, signature: &Signed) -> bool {
        match &signature.certificate {
            Some(certificate) => self.options.cert_authority && *self.key.key_data() == certificate.authority,
            None => !self.options.cert_authority && *self.key.key_data() == signature.key,
        }
    }

    fn check(&self, expected: &'static str, payload: &[u8], signature: &Signed, at: At) -> Result<Signer, Refusal> {
        let claimed = || match &signature.certificate {
            None => self.signer.clone(),
            Some(_) => self.certified(&signature.key, None),
        };
        if signature.namespace != expected {
            let namespace = signature.namespace.clone();
            return Err(Refusal::WrongNamespace { signer: claimed(), namespace, expected });
        }
        for (key, whose) in [(&signature.key, "an RSA key"), (self.key.key_data(), "an authority's RSA key")] {
            if let Some(bits) = too_short(key) {
                return Err(Refusal::Weak { signer: claimed(), what: format!("{whose} of {bits} bits") });
            }
        }
        if !signature.fits(expected, payload) {
            return Err(Refusal::BadSignature { signer: claimed() });
        }
        let signer = match &signature.certificate {
            Some(certificate) => self.vouched_for(certificate, at)?,
            None => self.signer.clone(),
        };
        if let Some(patterns) = &self.options.namespaces
            && !patterns.iter().any(|pattern| matches(pattern, expected))
        {
            return Err(Refusal::NamespaceNotAllowed { signer, expected });
        }
        if let Some(begins) = self.options.valid_after
            && at.signed < begins
        {
            return Err(Refusal::NotYetValid { signer, begins });
        }
        if let Some(ended) = self.options.valid_before
            && at.signed > ended
        {
            return Err(Refusal::Expired { signer, ended });
        }
        Ok(signer)
    }

    /// Whom the authority of this line vouches for with a certificate, if it may.
    fn vouched_for(&self, certificate: &Certificate, at: At) -> Result<Signer, Refusal> {
        let may = |name: &str| self.principals.as_deref().is_some_and(|patterns| lists(patterns, name));
        let refused = |flaw| {
            let signer = self.certified(&certificate.key, None);
            match flaw {
                Flaw::NotYetValid(begins) => Refusal::NotYetValid { signer, begins },
                Flaw::Expired(ended) => Refusal::Expired { signer, ended },
                Flaw::Other(detail) => Refusal::Certificate { signer, detail },
            }
        };
        let principal = certificate.principal(may, at.signed).map_err(refused)?;
        Ok(self.certified(&certificate.key, Some(principal)))
    }

    /// The owner of a key that the authority of this line vouches for.
    fn certified(&self, key: &KeyData, principal: Option<&str>) -> Signer {
        let authority = self.signer.name.as_deref().filter(|_| self.named).unwrap_or(&self.signer.key);
        let group = self.named.then(|| self.signer.owner.name.clone());
        let name = match principal {
            Some(principal) => format!("{principal}, certified by {authority}"),
            None => format!("certified by {authority}"),
        };
        let owner = match (principal, &group) {
            (Some(principal), Some(group)) => format!("{group}/{principal}"),
            (Some(principal), None) => principal.to_owned(),
            (None, _) => fingerprint(key),
        };
        let owner = Owner { name: owner, group, issuer: Some(self.signer.key.clone()) };
        Signer { key: fingerprint(key), name: Some(name), owner: Box::new(owner) }
    }
}

/// The bits of an RSA key that has too few.
fn too_short(key: &KeyData) -> Option<usize> {
    let KeyData::Rsa(key) = key else { return None };
    let bits = key.n.as_positive_bytes().map_or(0, |bytes| bytes.len() * 8);
    (bits < LEAST_RSA_BITS).then_some(bits)
}

fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// A comma-separated list of OpenSSH's patterns: one must match, and none that begins with `!` may.
fn lists(patterns: &str, name: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(never) if matches(never, name) => return false,
            Some(_) => {}
            None => found |= matches(pattern, name),
        }
    }
    found
}

/// Whether a pattern of OpenSSH's fits a text: `*` is any text, `?` any one character.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // Where to go on if the text after the last star did not fit.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', after)), _) => {
                star = Some((after, text));
                pattern = after;
            }
            (Some((want, after)), Some((have, rest))) if *want == b'?' || want == have => {
                (pattern, text) = (after, rest);
            }
            (None, None) => return true,
            _ => match star {
                Some((after, [_, rest @ ..])) => {
                    star = Some((after, rest));
                    (pattern, text) = (after, rest);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_openssh() {
        for (pattern, text, fits) in [
            ("git", "git", true),
            ("g*t", "git", true),
            ("*", "", true),
            ("g?t", "git", true),
            ("g?", "git", false),
            ("*a*b", "xaxbxb", true),
            ("*a", "ab", false),
            ("", "git", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_list_of_patterns_can_take_back() {
        for (patterns, name, fits) in [
            ("*@example.org", "ada@example.org", true),
            ("*@example.org,!eve@*", "eve@example.org", false),
            ("!eve@*,*", "eve@example.org", false),
            ("!eve@*", "ada@example.org", false),
            ("ada,ben", "ben", true),
        ] {
            assert_eq!(lists(patterns, name), fits, "{patterns} {name}");
        }
    }
}
