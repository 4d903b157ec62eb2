//! Each value decrypted in its place, and the MAC over all of them. Source: `sops.go`, `Tree.Decrypt`.

use serde_json::Value;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::cipher::{DataKey, is_sealed};
use crate::error::Error;
use crate::format::{self, Format, MOST_BYTES};
use crate::keys::Keys;
use crate::metadata::{Metadata, Rule};
use crate::tree::{Document, Leaf, Node};

/// What a MAC over encrypted values alone begins with, so that it is never that of a MAC over all.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Decrypts a whole file and checks its MAC. `output` is the format that is asked for, `input` that of the bytes.
///
/// # Errors
///
/// See [`Error`].
pub fn decrypt(bytes: &[u8], input: Format, output: Format, keys: &Keys) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut documents = read(bytes, input)?;
    let metadata = match documents.first().and_then(|first| first.sops.as_ref()) {
        Some(sops) => Metadata::read(sops)?,
        None => return Err(Error::Metadata("there are none".to_owned())),
    };
    open(&mut documents.iter_mut().collect::<Vec<_>>(), &metadata, keys)?;
    open_comments(bytes, &mut documents, &keys.data_key(&metadata)?);
    format::write(bytes, input, &documents, output).map(Zeroizing::new)
}

/// Checks the MAC of every encrypted document of a file of manifests. Whether there was one.
///
/// What SOPS encrypted together carries one MAC; files that were encrypted one by one and then joined carry several.
///
/// # Errors
///
/// See [`Error`].
pub fn check_file(bytes: &[u8], format: Format, keys: &Keys) -> Result<bool, Error> {
    let mut documents = read(bytes, format)?;
    let mut rest: Vec<&mut Document> = documents.iter_mut().filter(|document| document.sops.is_some()).collect();
    let any = !rest.is_empty();
    while let Some(sops) = rest.first().and_then(|first| first.sops.as_ref()) {
        let metadata = Metadata::read(sops)?;
        let same = |document: &Document| {
            let mac = document.sops.as_ref().and_then(|sops| sops.get("mac")).and_then(Node::text);
            mac == Some(metadata.mac.as_str())
        };
        let (mut together, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|document| same(document));
        open(&mut together, &metadata, keys)?;
        rest = others;
    }
    Ok(any)
}

/// Whether an object carries SOPS's metadata.
pub fn is_encrypted_object(object: &Value) -> bool {
    object
        .get("sops")
        .and_then(|sops| sops.get("mac"))
        .is_some_and(|mac| mac.as_str().is_none_or(|mac| !mac.is_empty()))
}

/// Decrypts the values of an object in their places, and takes the metadata out.
///
/// A build may have changed what is not encrypted (a namespace, labels), so the MAC of the whole cannot hold here:
/// [`check_file`] checks it on the file that the object comes from. Each value is bound to its place all the same.
///
/// # Errors
///
/// See [`Error`]. The object may then be decrypted in part.
pub fn decrypt_object(object: &mut Value, keys: &Keys) -> Result<(), Error> {
    let Some(members) = object.as_object_mut() else {
        return Err(Error::Metadata("it is no object".to_owned()));
    };
    let sops = members.remove("sops").map(format::node_of).unwrap_or(Node::Leaf(Leaf::Null));
    let metadata = Metadata::read(&sops)?;
    let key = keys.data_key(&metadata)?;
    value(object, &mut Vec::new(), false, &metadata.rule, &key)
}

fn read(bytes: &[u8], format: Format) -> Result<Vec<Document>, Error> {
    if bytes.len() > MOST_BYTES {
        return Err(Error::TooLarge(bytes.len()));
    }
    format::read(bytes, format)
}

/// Decrypts documents that were encrypted together.
fn open(documents: &mut [&mut Document], metadata: &Metadata, keys: &Keys) -> Result<(), Error> {
    let key = keys.data_key(metadata)?;
    let mut mac = Sha512::new();
    if metadata.mac_only_encrypted {
        mac.update(ONLY_ENCRYPTED);
    }
    let mut walk = Walk { metadata, key: &key, mac, path: Vec::new() };
    for document in documents {
        walk.node(&mut document.root, false)?;
    }
    let have = walk.mac.finalize().iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    match key.open(&metadata.mac, &metadata.last_modified) {
        Ok(Leaf::Text(want)) if want == have => Ok(()),
        _ => Err(Error::Mac),
    }
}

/// Comments of a YAML file. No MAC covers them, and one that does not decrypt stays as it is.
fn open_comments(bytes: &[u8], documents: &mut [Document], key: &DataKey) {
    for comment in documents.iter_mut().filter_map(|it| it.places.as_mut()).flat_map(|places| &mut places.comments) {
        let Some(text) = bytes.get(comment.bytes.clone()).and_then(|text| std::str::from_utf8(text).ok()) else {
            continue;
        };
        let opened = comment.bounds.iter().find_map(|path| match key.open(text.trim_end(), &bound(path)) {
            Ok(Leaf::Comment(text)) => Some(text),
            _ => None,
        });
        comment.opened = opened;
    }
}

struct Walk<'a> {
    metadata: &'a Metadata,
    key: &'a DataKey,
    mac: Sha512,
    path: Vec<String>,
}

impl Walk<'_> {
    /// `named`: whether a name on the way has matched the rule.
    fn node(&mut self, node: &mut Node, named: bool) -> Result<(), Error> {
        match node {
            Node::Leaf(leaf) => self.leaf(leaf, named),
            Node::List(items) => items.iter_mut().try_for_each(|item| self.node(item, named)),
            Node::Map(members) => members.iter_mut().try_for_each(|(name, member)| {
                if matches!(member, Node::Leaf(Leaf::Comment(_))) {
                    return self.node(member, named);
                }
                let named = named || self.metadata.rule.matches(name);
                self.path.push(name.clone());
                let done = self.node(member, named);
                self.path.pop();
                done
            }),
        }
    }

    fn leaf(&mut self, leaf: &mut Leaf, named: bool) -> Result<(), Error> {
        if *leaf == Leaf::Null {
            return Ok(());
        }
        let encrypted = self.metadata.rule.is_encrypted(leaf, named);
        if let Leaf::Comment(text) = leaf {
            // A comment need not be encrypted where values are, and no MAC covers it.
            if encrypted && is_sealed(text) {
                *leaf = match self.key.open(text, &bound(&self.path)) {
                    Ok(Leaf::Comment(opened)) => Leaf::Comment(opened),
                    Ok(_) => return Err(Error::Value { path: self.path.join("."), why: "a comment holds a value" }),
                    Err(why) => return Err(Error::Value { path: self.path.join("."), why }),
                };
            }
            return Ok(());
        }
        if encrypted {
            *leaf = opened(leaf, self.key, &self.path)?;
        }
        if encrypted || !self.metadata.mac_only_encrypted {
            self.mac.update(bytes(leaf));
        }
        Ok(())
    }
}

impl Rule {
    fn matches(&self, name: &str) -> bool {
        match self {
            Rule::UnencryptedSuffix(suffix) | Rule::EncryptedSuffix(suffix) => name.ends_with(suffix.as_str()),
            Rule::UnencryptedRegex(regex) | Rule::EncryptedRegex(regex) => regex.is_match(name),
            Rule::Comments => false,
        }
    }

    /// Whether a value is encrypted, after the names on the way to it.
    fn is_encrypted(&self, leaf: &Leaf, named: bool) -> bool {
        match (self, leaf) {
            (Rule::UnencryptedSuffix(_) | Rule::UnencryptedRegex(_), _) => !named,
            (Rule::EncryptedSuffix(_) | Rule::EncryptedRegex(_), _) => named,
            (Rule::Comments, Leaf::Text(text) | Leaf::Comment(text)) => is_sealed(text),
            (Rule::Comments, _) => false,
        }
    }
}

fn opened(leaf: &Leaf, key: &DataKey, path: &[String]) -> Result<Leaf, Error> {
    let wrong = |why| Error::Value { path: path.join("."), why };
    let Leaf::Text(text) = leaf else {
        return Err(wrong("it should be encrypted and is not: it is no text"));
    };
    match key.open(text, &bound(path)).map_err(wrong)? {
        Leaf::Comment(_) => Err(wrong("it holds a comment, not a value")),
        leaf => Ok(leaf),
    }
}

/// What a value is bound to: the names on the way to it. Items of a list share their list's.
fn bound(path: &[String]) -> String {
    format!("{}:", path.join(":"))
}

/// A value as the MAC takes it. Source: `sops.ToBytes`.
fn bytes(leaf: &Leaf) -> Vec<u8> {
    match leaf {
        Leaf::Null => Vec::new(),
        Leaf::Bool(true) => b"True".to_vec(),
        Leaf::Bool(false) => b"False".to_vec(),
        Leaf::Int(value) => value.to_string().into_bytes(),
        // Rust, too, writes the shortest digits that read back as the same, and no exponent.
        Leaf::Float(value) => value.to_string().into_bytes(),
        Leaf::Time(text) | Leaf::Text(text) | Leaf::Comment(text) => text.clone().into_bytes(),
        Leaf::Bytes(bytes) => bytes.clone(),
    }
}

fn value(of: &mut Value, path: &mut Vec<String>, named: bool, rule: &Rule, key: &DataKey) -> Result<(), Error> {
    match of {
        Value::Null => Ok(()),
        Value::Array(items) => items.iter_mut().try_for_each(|item| value(item, path, named, rule, key)),
        Value::Object(members) => members.iter_mut().try_for_each(|(name, member)| {
            let named = named || rule.matches(name);
            path.push(name.clone());
            let done = value(member, path, named, rule, key);
            path.pop();
            done
        }),
        Value::String(text) => {
            let leaf = Leaf::Text(std::mem::take(text));
            let plain = if rule.is_encrypted(&leaf, named) { opened(&leaf, key, path)? } else { leaf };
            *of = format::value_of(&plain);
            Ok(())
        }
        Value::Bool(_) | Value::Number(_) if rule.is_encrypted(&Leaf::Bool(true), named) => {
            opened(&Leaf::Bool(true), key, path).map(drop)
        }
        Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
