//! What a build takes from ConfigMaps and Secrets: variables, and keys to decrypt with.
//!
//! They come in as values: a build asks nobody. They are kept in memory alone.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use wickie_kustomize::{SubstituteError, Substitution};
use wickie_model::{Digest, Hasher, ResourceName};
use wickie_sops::{KeyError, Keys};

use super::seal::Seal;
use crate::config::{Decryption, Kustomization, SecretData, ValuesKind, ValuesName};

/// A ConfigMap or Secret as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// Its uid in the cluster; empty where it stands in a file.
    pub uid: String,
    /// Its entries.
    pub entries: SecretData,
}

/// Those that a Kustomization names, as far as they are there.
pub type Found = BTreeMap<ValuesName, Rc<Values>>;

/// What a build of one Kustomization takes from ConfigMaps and Secrets.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    pub(super) substitution: Option<Substitution>,
    /// Keys to decrypt with; nothing where decryption is not configured.
    pub(super) keys: Option<Arc<Keys>>,
    /// Whether any of the variables is a Secret's.
    pub(super) secret_variables: bool,
    /// For the digests of what holds a Secret's value.
    pub(super) seal: Option<Seal>,
    /// Whether what is encrypted or a variable stays as it stands: for who asks which objects there are.
    pub(super) unread: bool,
    digest: Option<Digest>,
}

/// A ConfigMap or Secret that is named and cannot be used. Values are not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It is not there, and not optional.
    #[error("substitute from '{}/{}' error: it is not there; create it, or mark it optional", .0.kind.as_str(), .0.name)]
    Missing(ValuesName),
    /// The Secret with the keys is not there.
    #[error(
        "cannot get sops decryption Secret '{0}': it is not there; create it, or keep it in a file beside the Kustomization"
    )]
    NoKeys(ResourceName),
    /// An entry of it cannot be used.
    #[error("failed to import data from sops decryption Secret '{secret}': {why}")]
    Key {
        /// The Secret.
        secret: ResourceName,
        /// What is wrong.
        why: KeyError,
    },
    /// An entry cannot be a variable.
    #[error("substitute from '{}/{}' error: {why}", .values.kind.as_str(), .values.name)]
    Variable {
        /// Whose entry.
        values: ValuesName,
        /// What is wrong.
        why: SubstituteError,
    },
}

impl Inputs {
    /// What `kustomization` takes from what was found of the objects that it names.
    ///
    /// # Errors
    ///
    /// One that is not there or cannot be used.
    pub fn new(kustomization: &Kustomization, found: &Found) -> Result<Self, InputError> {
        let mut inputs = Self { substitution: kustomization.substitution.clone(), ..Self::default() };
        if let Some(substitution) = &mut inputs.substitution {
            // The last one wins over those before it, so that one is taken first.
            for from in kustomization.substitute_from.iter().rev() {
                let Some(values) = found.get(&from.values) else {
                    if from.optional {
                        continue;
                    }
                    return Err(InputError::Missing(from.values.clone()));
                };
                inputs.secret_variables |= from.values.kind == ValuesKind::Secret;
                for (name, value) in values.entries.iter() {
                    let filled = substitution.fill(name, &String::from_utf8_lossy(value));
                    filled.map_err(|why| InputError::Variable { values: from.values.clone(), why })?;
                }
            }
        }
        inputs.keys = kustomization.decryption.as_ref().map(|decryption| keys(decryption, found)).transpose()?;
        let (mut all, mut secrets) = (Hasher::default(), Hasher::default());
        let (mut any, mut any_secret) = (false, false);
        for name in kustomization.values_named() {
            let Some(values) = found.get(&name) else { continue };
            any = true;
            add(&mut all, &name, values);
            if name.kind == ValuesKind::Secret {
                any_secret = true;
                add(&mut secrets, &name, values);
            }
        }
        inputs.digest = any.then(|| all.finish());
        inputs.seal = any_secret.then(|| Seal::new(secrets));
        Ok(inputs)
    }

    /// What a build takes that is to tell which objects there are, and no more. Variables are put in where the spec itself
    /// gives all of them.
    pub fn without_values(kustomization: &Kustomization) -> Self {
        let substitution = kustomization.substitution.clone().filter(|_| kustomization.substitute_from.is_empty());
        Self { substitution, unread: true, ..Self::default() }
    }

    /// The key for the digests of what holds a Secret's value.
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// Changes when anything does that they are made of. It is a plain digest of secrets: for comparing in memory, never
    /// to be written down.
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| Digest::of(b""))
    }
}

fn keys(decryption: &Decryption, found: &Found) -> Result<Arc<Keys>, InputError> {
    let mut keys = Keys::new();
    if let Some(secret) = &decryption.secret {
        let name = ValuesName { kind: ValuesKind::Secret, name: secret.clone() };
        let values = found.get(&name).ok_or_else(|| InputError::NoKeys(secret.clone()))?;
        for (entry, value) in values.entries.iter() {
            keys.add(entry, value).map_err(|why| InputError::Key { secret: secret.clone(), why })?;
        }
    }
    Ok(Arc::new(keys))
}

fn add(hasher: &mut Hasher, name: &ValuesName, values: &Values) {
    hasher.field(name.to_string().as_bytes());
    hasher.field(values.uid.as_bytes());
    for (key, value) in values.entries.iter() {
        hasher.field(key.as_bytes());
        hasher.field(value);
    }
    hasher.field(b"");
}
