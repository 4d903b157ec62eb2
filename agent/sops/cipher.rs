//! One value: `ENC[AES256_GCM,data:..,iv:..,tag:..,type:..]`, bound to the names on the way to it.
//!
//! Source: `aes/cipher.go`. The nonce is 32 bytes long, for historical reasons of SOPS's.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::tree::Leaf;

/// The key that the values of one file are encrypted with.
pub(crate) struct DataKey(AesGcm<Aes256, U32>);

impl DataKey {
    /// Nothing where the key is not 32 bytes long.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        AesGcm::new_from_slice(key).ok().map(Self)
    }

    /// The value that was encrypted for the place that `bound` names.
    pub(crate) fn open(&self, text: &str, bound: &str) -> Result<Leaf, &'static str> {
        // SOPS leaves an empty text as it is.
        if text.is_empty() {
            return Ok(Leaf::Text(String::new()));
        }
        let Sealed { data, nonce, kind } = Sealed::parse(text)?;
        let nonce = Nonce::<U32>::try_from(nonce.as_slice()).map_err(|_| "its nonce is not 32 bytes long")?;
        let payload = Payload { msg: &data, aad: bound.as_bytes() };
        let plain = self.0.decrypt(&nonce, payload);
        let plain = plain.map_err(|_| "it does not decrypt: it was changed, moved, or encrypted with another key")?;
        typed(Zeroizing::new(plain), kind)
    }
}

/// Whether a text has the form of an encrypted value.
pub(crate) fn is_sealed(text: &str) -> bool {
    text.starts_with(START) && text.ends_with(']')
}

const START: &str = "ENC[AES256_GCM,";

struct Sealed<'t> {
    /// With the tag at its end.
    data: Vec<u8>,
    nonce: Vec<u8>,
    kind: &'t str,
}

impl<'t> Sealed<'t> {
    fn parse(text: &'t str) -> Result<Self, &'static str> {
        const NOT: &str = "it should be encrypted and is not: the text has not the form ENC[AES256_GCM,..]";
        let inner = text.strip_prefix(START).and_then(|rest| rest.strip_suffix(']')).ok_or(NOT)?;
        let mut parts = inner.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or(NOT);
        let (data, nonce, tag, kind) = (part("data:")?, part("iv:")?, part("tag:")?, part("type:")?);
        if parts.next().is_some() {
            return Err(NOT);
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| "a part of it is not base64");
        let (mut data, nonce, tag) = (decode(data)?, decode(nonce)?, decode(tag)?);
        if tag.len() != 16 {
            return Err("its tag is not 16 bytes long");
        }
        data.extend(tag);
        Ok(Self { data, nonce, kind })
    }
}

fn typed(plain: Zeroizing<Vec<u8>>, kind: &str) -> Result<Leaf, &'static str> {
    const NOT_ITS_TYPE: &str = "what it decrypts to is not of the type that it names";
    if kind == "bytes" {
        return Ok(Leaf::Bytes(plain.to_vec()));
    }
    let text = std::str::from_utf8(&plain).map_err(|_| "it decrypts to bytes that are not UTF-8 text")?;
    match kind {
        "str" => Ok(Leaf::Text(text.to_owned())),
        "int" => text.parse().map(Leaf::Int).map_err(|_| NOT_ITS_TYPE),
        "float" => match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Leaf::Float(float)),
            _ => Err(NOT_ITS_TYPE),
        },
        // Go's strconv.ParseBool; SOPS writes True and False.
        "bool" => match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Leaf::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Leaf::Bool(false)),
            _ => Err(NOT_ITS_TYPE),
        },
        "time" => match wickie_kustomize::yaml::timestamp(text) {
            Some(time) => Ok(Leaf::Time(time)),
            None => Err(NOT_ITS_TYPE),
        },
        "comment" => Ok(Leaf::Comment(text.to_owned())),
        _ => Err("it names a type that SOPS has not"),
    }
}
