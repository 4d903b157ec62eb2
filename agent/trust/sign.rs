//! Signing a permit, with a key that its owner has at hand. Nothing else here signs, and the agent never does.

use ssh_key::{HashAlg, LineEnding, PrivateKey};

use crate::{Permit, Purpose};

/// A key that cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is no OpenSSH private key.
    #[error("it is no OpenSSH private key (\"-----BEGIN OPENSSH PRIVATE KEY-----\"): {0}")]
    Unreadable(String),
    /// It is encrypted, and no passphrase was given.
    #[error("it is encrypted, and needs its passphrase")]
    Locked,
    /// The passphrase is another one.
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    /// It is of a kind that does not sign here.
    #[error("it cannot sign here ({0}): use an ed25519 or ecdsa key, or sign with ssh-keygen")]
    Unusable(String),
}

/// The permit with its signature, as it is to be published. `key` is an OpenSSH private key.
pub fn sign_permit(permit: &Permit, key: &str, passphrase: Option<&str>) -> Result<String, SignError> {
    let key = PrivateKey::from_openssh(key).map_err(|error| SignError::Unreadable(error.to_string()))?;
    let key = match (key.is_encrypted(), passphrase) {
        (false, _) => key,
        (true, None) => return Err(SignError::Locked),
        (true, Some(passphrase)) => key.decrypt(passphrase).map_err(|_| SignError::WrongPassphrase)?,
    };
    if key.algorithm().is_rsa() {
        return Err(SignError::Unusable("it is an RSA key".to_owned()));
    }
    let payload = permit.to_string();
    let unusable = |error: ssh_key::Error| SignError::Unusable(error.to_string());
    let signature = key.sign(Purpose::Permit.namespace(), HashAlg::Sha512, payload.as_bytes()).map_err(unusable)?;
    let armor = signature.to_pem(LineEnding::LF).map_err(unusable)?;
    Ok(format!("{payload}{armor}\n"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
    use wickie_model::Oid;

    use super::*;
    use crate::{SignedPermit, Signers};

    fn permit() -> Permit {
        let oid = |byte| Oid::from_bytes([byte; 20]);
        Permit { source: "apps/fleet".to_owned(), from: vec![oid(1), oid(3)], to: oid(2), expires: Timestamp::MAX }
    }

    fn believed(signed: &str, key: &PrivateKey) {
        let signers = Signers::parse([("key", key.public_key().to_openssh().unwrap().as_bytes())]).unwrap();
        let parsed: SignedPermit = signed.parse().unwrap();
        let allowed = parsed.allows(&["apps/fleet"], Oid::from_bytes([3; 20]), &signers, Timestamp::UNIX_EPOCH);
        allowed.unwrap();
    }

    #[test]
    fn what_is_signed_is_believed_by_the_key_s_public_half() {
        let ecdsa = |curve| EcdsaKeypair::random(&mut rand::thread_rng(), curve).unwrap();
        for data in [
            KeypairData::from(Ed25519Keypair::from_seed(&[7; 32])),
            KeypairData::from(ecdsa(ssh_key::EcdsaCurve::NistP256)),
            KeypairData::from(ecdsa(ssh_key::EcdsaCurve::NistP384)),
            KeypairData::from(ecdsa(ssh_key::EcdsaCurve::NistP521)),
        ] {
            let key = PrivateKey::new(data, "ada").unwrap();
            let text = key.to_openssh(LineEnding::LF).unwrap();
            believed(&sign_permit(&permit(), &text, None).unwrap(), &key);
        }
    }

    /// An RSA key's private operation is one that its crate does not do in constant time; ssh-keygen does.
    #[test]
    fn an_rsa_key_signs_elsewhere() {
        let rsa = RsaKeypair::random(&mut rand::thread_rng(), 2048).unwrap();
        let key = PrivateKey::new(KeypairData::from(rsa), "ada").unwrap().to_openssh(LineEnding::LF).unwrap();
        let refused = sign_permit(&permit(), &key, None).unwrap_err();
        assert!(refused.to_string().contains("sign with ssh-keygen"), "{refused}");
    }

    #[test]
    fn a_locked_key_wants_its_passphrase() {
        let key = PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[7; 32])), "ada").unwrap();
        let locked = key.encrypt(&mut rand::thread_rng(), "open").unwrap().to_openssh(LineEnding::LF).unwrap();
        assert!(matches!(sign_permit(&permit(), &locked, None), Err(SignError::Locked)));
        assert!(matches!(sign_permit(&permit(), &locked, Some("shut")), Err(SignError::WrongPassphrase)));
        believed(&sign_permit(&permit(), &locked, Some("open")).unwrap(), &key);
        assert!(matches!(sign_permit(&permit(), "ssh-ed25519 AAAA", None), Err(SignError::Unreadable(_))));
    }
}
