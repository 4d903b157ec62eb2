//! SSH signatures, as `ssh-keygen -Y sign -n git` makes them.
//!
//! Source: OpenSSH's PROTOCOL.sshsig, and sshsig.c for what `ssh-keygen -Y verify` checks beyond it.

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey, SshSig};

use crate::allowed_signers::{self, Line, Options};
use crate::{At, Purpose, Refusal, Signer};

/// RSA keys below this many bits are not believed.
const LEAST_RSA_BITS: usize = 2048;

/// A key that may sign, and within which limits.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    key: PublicKey,
    signer: Signer,
    options: Options,
}

/// Reads lines of public keys or `allowed_signers`; empty lines and comments are skipped.
pub(crate) fn parse(text: &str) -> Result<Vec<Allowed>, String> {
    let mut allowed = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = allowed_signers::line(line).map_err(|detail| format!("line {}: {detail}", number + 1))?;
        allowed.push(Allowed::from(line));
    }
    match allowed.is_empty() {
        true => Err("there is no key in it".to_owned()),
        false => Ok(allowed),
    }
}

impl From<Line> for Allowed {
    fn from(line: Line) -> Self {
        let comment = Some(line.key.comment().to_owned()).filter(|comment| !comment.is_empty());
        let signer = Signer { key: fingerprint(line.key.key_data()), name: line.principals.or(comment) };
        Self { key: line.key, signer, options: line.options }
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
    let signature = SshSig::from_pem(armored.trim_end().as_bytes())
        .map_err(|error| Refusal::Malformed { detail: error.to_string() })?;
    let mut refusal = Refusal::UnknownKey { key: fingerprint(signature.public_key()) };
    // A certificate authority's own key signs certificates, not commits.
    for line in allowed.iter().filter(|line| !line.options.cert_authority) {
        if line.key.key_data() != signature.public_key() {
            continue;
        }
        match line.check(purpose.namespace(), payload, &signature, at) {
            Ok(()) => return Ok(line.signer.clone()),
            Err(reason) => refusal = reason,
        }
    }
    Err(refusal)
}

impl Allowed {
    fn check(&self, expected: &'static str, payload: &[u8], signature: &SshSig, at: At) -> Result<(), Refusal> {
        let signer = || self.signer.clone();
        if signature.namespace() != expected {
            let namespace = signature.namespace().to_owned();
            return Err(Refusal::WrongNamespace { signer: signer(), namespace, expected });
        }
        if let KeyData::Rsa(key) = self.key.key_data() {
            let bits = key.n.as_positive_bytes().map_or(0, |bytes| bytes.len() * 8);
            if bits < LEAST_RSA_BITS {
                return Err(Refusal::Weak { signer: signer(), what: format!("an RSA key of {bits} bits") });
            }
        }
        self.key.verify(expected, payload, signature).map_err(|_| Refusal::BadSignature { signer: signer() })?;
        if let Some(patterns) = &self.options.namespaces
            && !patterns.iter().any(|pattern| matches(pattern, expected))
        {
            return Err(Refusal::NamespaceNotAllowed { signer: signer(), expected });
        }
        if let Some(begins) = self.options.valid_after
            && at.signed < begins
        {
            return Err(Refusal::NotYetValid { signer: signer(), begins });
        }
        if let Some(ended) = self.options.valid_before
            && at.signed > ended
        {
            return Err(Refusal::Expired { signer: signer(), ended });
        }
        Ok(())
    }
}

fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// OpenSSH's patterns: `*` is any text, `?` any one character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
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
}
