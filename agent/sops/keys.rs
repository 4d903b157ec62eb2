//! The private keys of a node, and the data key of a file by way of one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use pgp::composed::SignedSecretKey;
use zeroize::Zeroizing;

use crate::age::{self, Identity, NotOpened};
use crate::cipher::DataKey;
use crate::error::{Error, KeyError};
use crate::metadata::{MasterKey, Metadata};
use crate::{openpgp, shamir};

/// More data keys than this are not remembered.
const MOST_REMEMBERED: usize = 1024;

/// Private keys. They do not print, and are overwritten when they are dropped.
#[derive(Default)]
pub struct Keys {
    age: Vec<Identity>,
    openpgp: Vec<SignedSecretKey>,
    /// Data keys that were opened before, by what they were opened from: a file is checked as a whole, and then each of
    /// its objects decrypted.
    opened: Mutex<BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>>,
}

/// Credentials of key services, as Flux names them.
const SERVICES: [&str; 4] = ["sops.vault-token", "sops.aws-kms", "sops.azure-kv", "sops.gcp-kms"];

impl Keys {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the keys in one entry of the Secret that `spec.decryption.secretRef` names. Its name says what it holds:
    /// `NAME.agekey`, or `NAME.asc`.
    ///
    /// # Errors
    ///
    /// A name that says neither, and an entry that cannot be read.
    pub fn add(&mut self, entry: &str, value: &[u8]) -> Result<(), KeyError> {
        if SERVICES.contains(&entry) {
            return Err(KeyError::Service(entry.to_owned()));
        }
        let text = std::str::from_utf8(value);
        let malformed = |_| KeyError::Malformed { entry: entry.to_owned(), line: 1, why: "it is not text" };
        if entry.ends_with(".agekey") {
            self.age.extend(Identity::read_all(entry, text.map_err(malformed)?)?);
        } else if entry.ends_with(".asc") {
            self.openpgp.extend(openpgp::read_all(entry, text.map_err(malformed)?)?);
        } else {
            return Err(KeyError::Name(entry.to_owned()));
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.age.is_empty() && self.openpgp.is_empty()
    }

    /// The data key of a file.
    pub(crate) fn data_key(&self, metadata: &Metadata) -> Result<DataKey, Error> {
        let name = name(metadata);
        let known = self.opened.lock().ok().and_then(|opened| opened.get(&name).cloned());
        let key = match known {
            Some(key) => key,
            None => {
                let key = self.recover(metadata)?;
                if let Ok(mut opened) = self.opened.lock() {
                    if opened.len() >= MOST_REMEMBERED {
                        opened.clear();
                    }
                    opened.insert(name, key.clone());
                }
                key
            }
        };
        DataKey::new(&key).ok_or(Error::DataKey("it is not 32 bytes long"))
    }

    fn recover(&self, metadata: &Metadata) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut damage = None;
        let mut shares: Vec<_> = metadata.groups.iter().filter_map(|group| self.open(group, &mut damage)).collect();
        let recipients = || metadata.groups.iter().flatten().map(MasterKey::to_string).collect();
        let (groups, opened) = (metadata.groups.len(), shares.len());
        if groups > 1 {
            let needed = metadata.threshold.max(2);
            return match (opened < needed, damage) {
                (false, _) => shamir::combine(&shares),
                (true, Some(damage)) => Err(Error::DataKey(damage)),
                (true, None) => Err(Error::TooFewGroups { needed, groups, opened, recipients: recipients() }),
            };
        }
        let none = || Error::NoKey { recipients: recipients(), way_out: self.way_out(metadata) };
        shares.pop().ok_or_else(|| damage.map_or_else(none, Error::DataKey))
    }

    /// What one of a group's keys opens. One that is damaged is no obstacle where another does.
    fn open(&self, group: &[MasterKey], damage: &mut Option<&'static str>) -> Option<Zeroizing<Vec<u8>>> {
        group.iter().find_map(|key| match key {
            MasterKey::Age { encrypted, .. } => match age::open(encrypted, &self.age) {
                Ok(opened) => Some(opened),
                Err(NotOpened::NotForUs) => None,
                Err(NotOpened::Damaged(why)) => {
                    *damage = Some(why);
                    None
                }
            },
            MasterKey::OpenPgp { encrypted, .. } => openpgp::open(encrypted, &self.openpgp),
            MasterKey::Service(_) => None,
        })
    }

    fn way_out(&self, metadata: &Metadata) -> &'static str {
        let mut keys = metadata.groups.iter().flatten();
        if keys.all(|key| matches!(key, MasterKey::Service(_))) {
            "the agent asks no key service, because it must decrypt without a network: add an age recipient (sops rotate --in-place --add-age RECIPIENT FILE)"
        } else if self.is_empty() {
            "no keys are given: name a Secret that holds them in spec.decryption.secretRef"
        } else {
            "put the private key into the Secret that spec.decryption.secretRef names, or encrypt the file for the node too (sops updatekeys FILE)"
        }
    }
}

/// What a data key is opened from.
fn name(metadata: &Metadata) -> Vec<u8> {
    let mut hash = <sha2::Sha256 as sha2::Digest>::new();
    for (at, group) in metadata.groups.iter().enumerate() {
        for key in group {
            let (kind, encrypted) = match key {
                MasterKey::Age { encrypted, .. } => (0, encrypted),
                MasterKey::OpenPgp { encrypted, .. } => (1, encrypted),
                MasterKey::Service(words) => (2, words),
            };
            let head = [at, kind, encrypted.len()].map(usize::to_le_bytes).concat();
            sha2::Digest::update(&mut hash, head);
            sha2::Digest::update(&mut hash, encrypted);
        }
    }
    sha2::Digest::update(&mut hash, metadata.threshold.to_le_bytes());
    sha2::Digest::finalize(hash).to_vec()
}

impl fmt::Display for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of recipients are public; long ones are cut.
        let short = |text: &str| text.chars().take(80).collect::<String>();
        match self {
            MasterKey::Age { recipient, .. } => write!(f, "age {}", short(recipient)),
            MasterKey::OpenPgp { fingerprint, .. } => write!(f, "OpenPGP {}", short(fingerprint)),
            MasterKey::Service(words) => f.write_str(&short(words)),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} age, {} OpenPGP)", self.age.len(), self.openpgp.len())
    }
}
