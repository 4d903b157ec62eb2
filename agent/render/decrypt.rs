//! What is encrypted with SOPS in Git, decrypted where Flux decrypts it.
//!
//! ```text
//! files ─► sources of Secrets, patches: decrypted as they are read ─► build ─► objects with `sops`: their file checked,
//!                                                                              their values decrypted
//!                                                                      ─► Secrets with entries that are encrypted files
//! ```
//!
//! Source: kustomize-controller v1.9, `internal/decryptor`. Flux does not check the MAC of an object's file; here it is
//! checked, on the file as it stands in Git, before any of its values is used.
//!
//! A build that decrypted something may speak of what it read: its errors lose their words, and keep their places.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wickie_kustomize::{Error, FluxOverlay, Found, SecretSource, SourceUse, Tree, Unreadable, secret_sources};
use wickie_sops::{Format, Keys};

use super::RenderError;

/// The annotation that keeps an object from being decrypted.
const SWITCH: &str = "kustomize.toolkit.fluxcd.io/decrypt";

/// A tree whose encrypted sources of Secrets are read in clear.
pub(super) struct Decrypting<'a> {
    tree: &'a dyn Tree,
    keys: &'a Keys,
    sources: BTreeMap<String, SecretSource>,
    /// Whether anything was decrypted.
    any: Cell<bool>,
    /// Files of manifests by what checking them gave.
    checked: RefCell<BTreeMap<String, Result<(), wickie_sops::Error>>>,
}

impl<'a> Decrypting<'a> {
    /// The tree, for a build of `root`.
    pub(super) fn new(tree: &'a dyn Tree, keys: &'a Keys, root: &str, overlay: &FluxOverlay) -> Result<Self, Error> {
        let sources = secret_sources(tree, root, overlay)?;
        Ok(Self { tree, keys, sources, any: Cell::new(false), checked: RefCell::default() })
    }

    /// Decrypts an object of a build. Whether it may hold what stands in Git encrypted.
    pub(super) fn object(&self, object: &mut Value, file: &str) -> Result<bool, wickie_sops::Error> {
        let from_source = self.any.get();
        if is_left(object) {
            return Ok(from_source);
        }
        if wickie_sops::is_encrypted_object(object) {
            self.check(file)?;
        }
        Ok(decrypt(object, self.keys)? || from_source)
    }

    /// Checks the file that an object stands in.
    fn check(&self, file: &str) -> Result<(), wickie_sops::Error> {
        if let Some(checked) = self.checked.borrow().get(file) {
            return checked.clone();
        }
        let checked = match self.tree.read(file) {
            Ok(bytes) => check(&bytes, file, self.keys),
            Err(_) => Err(wickie_sops::Error::Mac),
        };
        self.checked.borrow_mut().insert(file.to_owned(), checked.clone());
        checked
    }

    /// An error of the build, without words that may repeat what was decrypted.
    pub(super) fn hide(&self, error: Error) -> RenderError {
        let place = match &error {
            _ if !self.any.get() => return RenderError::Kustomize(error),
            Error::Yaml(error) if self.sources.contains_key(&error.file) => format!("{}:{}", error.file, error.line),
            Error::Object { at, .. } | Error::Output { at, .. } => at.to_string(),
            Error::Step { place, .. } => place.to_string(),
            _ => return RenderError::Kustomize(error),
        };
        RenderError::Hidden { place }
    }
}

impl Tree for Decrypting<'_> {
    fn find(&self, path: &str) -> Result<Option<Found>, Unreadable> {
        self.tree.find(path)
    }

    fn read(&self, file: &str) -> Result<Arc<[u8]>, Unreadable> {
        let bytes = self.tree.read(file)?;
        let Some(source) = self.sources.get(file) else { return Ok(bytes) };
        let format = format(source);
        if !wickie_sops::is_encrypted(&bytes, format) {
            return Ok(bytes);
        }
        let plain = wickie_sops::decrypt(&bytes, format, format, self.keys);
        let plain = plain.map_err(|why| Unreadable(format!("it cannot be decrypted: {why}")))?;
        self.any.set(true);
        Ok(Arc::from(plain.as_slice()))
    }

    fn below(&self, directory: &str) -> Result<Vec<String>, Unreadable> {
        self.tree.below(directory)
    }

    fn shown(&self, path: &str) -> String {
        self.tree.shown(path)
    }
}

fn format(source: &SecretSource) -> Format {
    match (source.used, Format::of_path(&source.name)) {
        (SourceUse::Env, Format::Binary) => Format::Dotenv,
        (_, format) => format,
    }
}

/// Checks a file of manifests as a whole.
pub(super) fn check(bytes: &[u8], file: &str, keys: &Keys) -> Result<(), wickie_sops::Error> {
    let format = if file.ends_with(".json") { Format::Json } else { Format::Yaml };
    match wickie_sops::check_file(bytes, format, keys)? {
        true => Ok(()),
        // Metadata that do not stand in the file were put there by the build.
        false => Err(wickie_sops::Error::Mac),
    }
}

/// Whether an object asks to be left as it is.
pub(super) fn is_left(object: &Value) -> bool {
    object["metadata"]["annotations"][SWITCH].as_str().is_some_and(|value| value.eq_ignore_ascii_case("disabled"))
}

/// Decrypts an object whose file was checked: all of it, or the entries of a Secret that are encrypted files. Whether
/// there was anything to decrypt.
pub(super) fn decrypt(object: &mut Value, keys: &Keys) -> Result<bool, wickie_sops::Error> {
    if wickie_sops::is_encrypted_object(object) {
        return wickie_sops::decrypt_object(object, keys).map(|()| true);
    }
    let mut any = false;
    if object["kind"] == "Secret"
        && let Some(data) = object.get_mut("data").and_then(Value::as_object_mut)
    {
        for (name, value) in data.iter_mut() {
            // kustomize breaks long values into lines. What is no base64 is the API server's to refuse.
            let Some(text) = value.as_str().map(|text| text.replace(['\r', '\n'], "")) else { continue };
            let Ok(bytes) = STANDARD.decode(text) else { continue };
            if let Some(format) = wickie_sops::marked(&bytes) {
                let plain = wickie_sops::decrypt(&bytes, format, Format::of_path(name), keys)?;
                *value = STANDARD.encode(&plain[..]).into();
                any = true;
            }
        }
    }
    Ok(any)
}
