//! An SSH signature over data, as armor.
//!
//! Source: OpenSSH's PROTOCOL.sshsig, and sshsig.c (`sshsig_dearmor`, `sshsig_wrap_verify`). The
//! ssh-key crate's own reader knows nothing of signatures by certificates, and takes armor in lines of 70 alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signature::Verifier as _;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey, Signature, SshSig};

use crate::certificate::Certificate;
use crate::wire::Reader;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// A signature, read.
pub(crate) struct Signed {
    /// The key that it was made with.
    pub(crate) key: KeyData,
    /// What vouches for the key, where the signature brings that along.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) namespace: String,
    hash: HashAlg,
    signature: Signature,
}

impl Signed {
    pub(crate) fn read(armored: &str) -> Result<Self, String> {
        let blob = dearmored(armored)?;
        let mut reader = Reader::new(&blob);
        if reader.take(6)? != b"SSHSIG" {
            return Err("it is no SSH signature".to_owned());
        }
        let version = reader.u32()?;
        if version != 1 {
            return Err(format!("its version is {version}, and 1 is understood"));
        }
        let key = reader.bytes()?;
        let certificate = Certificate::read(key)?;
        let key = match &certificate {
            Some(certificate) => certificate.key.clone(),
            None => PublicKey::from_bytes(key).map_err(|error| error.to_string())?.key_data().clone(),
        };
        let namespace = reader.text()?.to_owned();
        // Reserved: "Implementations SHOULD ignore the reserved field if it is not empty", and sign an empty one.
        reader.bytes()?;
        let hash = match reader.text()? {
            "sha256" => HashAlg::Sha256,
            "sha512" => HashAlg::Sha512,
            other => return Err(format!("the digest {other:?} is not understood")),
        };
        let signature = Signature::try_from(reader.bytes()?).map_err(|error| error.to_string())?;
        match reader.is_empty() {
            true => Ok(Self { key, certificate, namespace, hash, signature }),
            false => Err("more bytes follow it".to_owned()),
        }
    }

    /// Whether it is one over `payload`, made for `namespace`.
    pub(crate) fn fits(&self, namespace: &str, payload: &[u8]) -> bool {
        self.namespace == namespace
            && SshSig::signed_data(namespace, self.hash, payload)
                .is_ok_and(|data| self.key.verify(&data, &self.signature).is_ok())
    }
}

/// The bytes of an armor, whatever the length of its lines: OpenSSH wraps at 70, others at 64, 76, or not at all.
fn dearmored(armored: &str) -> Result<Vec<u8>, String> {
    let body = armored.trim_start().strip_prefix(BEGIN).ok_or("its first line is missing")?;
    let (body, _) = body.split_once(END).ok_or("its last line is missing")?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).map_err(|error| error.to_string())
}
