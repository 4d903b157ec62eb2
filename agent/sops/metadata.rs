//! What a file says of its own encryption. Source: `stores/stores.go`, `stores/metadata.go`.

use regex::Regex;

use crate::error::Error;
use crate::tree::{Leaf, Node};

/// The metadata of a file.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// When it was written, as written: the MAC is bound to it.
    pub(crate) last_modified: String,
    /// The MAC, encrypted.
    pub(crate) mac: String,
    /// Whether values that are not encrypted are left out of the MAC.
    pub(crate) mac_only_encrypted: bool,
    /// Which values are encrypted.
    pub(crate) rule: Rule,
    /// Who can decrypt: one key of a group opens the group's share of the data key.
    pub(crate) groups: Vec<Vec<MasterKey>>,
    /// How many groups must be opened, where there are several.
    pub(crate) threshold: usize,
}

/// Which values are encrypted, by the names on the way to them.
#[derive(Debug)]
pub(crate) enum Rule {
    UnencryptedSuffix(String),
    EncryptedSuffix(String),
    UnencryptedRegex(Regex),
    EncryptedRegex(Regex),
    /// By the comments beside them. What is encrypted is told by its form instead: comments do not outlive a build. The
    /// MAC then tells whether it was all.
    Comments,
}

/// One way to a share of the data key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MasterKey {
    Age {
        recipient: String,
        encrypted: String,
    },
    OpenPgp {
        fingerprint: String,
        encrypted: String,
    },
    /// A key service in a network, in words.
    Service(String),
}

/// The names under which key services stand, what each is called, and the field that tells which key.
const SERVICES: [(&str, &str, &str); 5] = [
    ("kms", "AWS KMS", "arn"),
    ("gcp_kms", "GCP KMS", "resource_id"),
    ("hckms", "Huawei Cloud KMS", "key_id"),
    ("azure_kv", "Azure Key Vault", "name"),
    ("hc_vault", "Vault", "key_name"),
];

/// More keys than this are not tried.
const MOST_KEYS: usize = 256;

impl Metadata {
    pub(crate) fn read(sops: &Node) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Metadata(why.to_owned());
        if !matches!(sops, Node::Map(_)) {
            return Err(wrong("sops is not a mapping"));
        }
        let text = |name: &str| sops.get(name).and_then(Node::text);
        let mac = text("mac").filter(|mac| !mac.is_empty()).ok_or_else(|| wrong("mac is missing"))?;
        let modified = text("lastmodified").or_else(|| match sops.get("lastmodified") {
            Some(Node::Leaf(Leaf::Time(time))) => Some(time.as_str()),
            _ => None,
        });
        let modified = modified.filter(|time| is_time(time)).ok_or_else(|| wrong("lastmodified is not a time"))?;
        let groups = groups(sops);
        if groups.iter().all(Vec::is_empty) {
            return Err(wrong("it names no keys"));
        }
        if groups.iter().map(Vec::len).sum::<usize>() > MOST_KEYS {
            return Err(wrong("it names more than 256 keys"));
        }
        Ok(Self {
            last_modified: modified.strip_suffix("+00:00").map_or(modified.to_owned(), |time| format!("{time}Z")),
            mac: mac.to_owned(),
            mac_only_encrypted: flag(sops.get("mac_only_encrypted"))
                .ok_or_else(|| wrong("mac_only_encrypted is neither true nor false"))?,
            rule: rule(sops)?,
            threshold: count(sops.get("shamir_threshold")).ok_or_else(|| wrong("shamir_threshold is not a number"))?,
            groups,
        })
    }
}

fn rule(sops: &Node) -> Result<Rule, Error> {
    let text = |name: &str| sops.get(name).and_then(Node::text).filter(|text| !text.is_empty());
    let regex = |name: &str| {
        text(name).map(|pattern| {
            let built = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
            built.map_err(|_| Error::Metadata(format!("{name} is not a regular expression that can be used here")))
        })
    };
    let mut rules = Vec::new();
    rules.extend(text("unencrypted_suffix").map(|suffix| Rule::UnencryptedSuffix(suffix.to_owned())));
    rules.extend(text("encrypted_suffix").map(|suffix| Rule::EncryptedSuffix(suffix.to_owned())));
    rules.extend(regex("unencrypted_regex").transpose()?.map(Rule::UnencryptedRegex));
    rules.extend(regex("encrypted_regex").transpose()?.map(Rule::EncryptedRegex));
    rules.extend(text("unencrypted_comment_regex").map(|_| Rule::Comments));
    rules.extend(text("encrypted_comment_regex").map(|_| Rule::Comments));
    match rules.len() {
        0 => Ok(Rule::UnencryptedSuffix("_unencrypted".to_owned())),
        1 => Ok(rules.remove(0)),
        _ => Err(Error::Metadata("it has more than one rule for what is encrypted".to_owned())),
    }
}

/// The keys that stand in the metadata themselves are one group, and then the list of groups says nothing.
fn groups(sops: &Node) -> Vec<Vec<MasterKey>> {
    let own = group(sops);
    if !own.is_empty() {
        return vec![own];
    }
    sops.get("key_groups").map(|groups| groups.items().iter().map(group).collect()).unwrap_or_default()
}

fn group(of: &Node) -> Vec<MasterKey> {
    let entries = |name: &str| of.get(name).map(Node::items).unwrap_or_default();
    let text = |entry: &Node, name: &str| entry.get(name).and_then(Node::text).unwrap_or_default().to_owned();
    // As SOPS tries them: age, then OpenPGP.
    let age = entries("age")
        .iter()
        .map(|entry| MasterKey::Age { recipient: text(entry, "recipient"), encrypted: text(entry, "enc") });
    let pgp = entries("pgp")
        .iter()
        .map(|entry| MasterKey::OpenPgp { fingerprint: text(entry, "fp"), encrypted: text(entry, "enc") });
    let services = SERVICES.iter().flat_map(|(name, words, field)| {
        entries(name).iter().map(move |entry| MasterKey::Service(format!("{words} {}", text(entry, field))))
    });
    age.chain(pgp).chain(services).collect()
}

/// In dotenv and INI files every value is text.
fn flag(node: Option<&Node>) -> Option<bool> {
    match node {
        None | Some(Node::Leaf(Leaf::Null)) => Some(false),
        Some(Node::Leaf(Leaf::Bool(value))) => Some(*value),
        Some(Node::Leaf(Leaf::Text(text))) => match text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        Some(_) => None,
    }
}

fn count(node: Option<&Node>) -> Option<usize> {
    match node {
        None | Some(Node::Leaf(Leaf::Null)) => Some(0),
        Some(Node::Leaf(Leaf::Int(value))) => usize::try_from(*value).ok(),
        Some(Node::Leaf(Leaf::Text(text))) => text.parse().ok(),
        Some(_) => None,
    }
}

/// RFC 3339 without a fraction, as Go writes it back.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    let fits = |form: &[u8], bytes: &[u8]| {
        form.len() == bytes.len()
            && form
                .iter()
                .zip(bytes)
                .all(|(form, byte)| if *form == b'd' { byte.is_ascii_digit() } else { form == byte })
    };
    let Some((time, zone)) = bytes.split_at_checked(FORM.len()) else { return false };
    fits(FORM, time) && (zone == b"Z" || fits(b"+dd:dd", zone) || fits(b"-dd:dd", zone))
}
