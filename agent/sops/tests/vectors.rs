//! Files that sops 3.13.2 made, with keys of age 1.3.1, OpenSSH and GnuPG (`record` in `real.rs`); and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wickie_sops::{Error, Format, Keys};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn keys(names: &[&str]) -> Keys {
    let mut keys = Keys::new();
    names.iter().for_each(|name| keys.add(name, &read(name)).unwrap());
    keys
}

const ALL: [&str; 5] = ["x25519.agekey", "hybrid.agekey", "ssh-ed25519.agekey", "ssh-rsa.agekey", "openpgp.asc"];

fn opened(name: &str, bytes: &[u8], keys: &Keys) -> Result<Vec<u8>, Error> {
    let format = Format::of_path(name);
    wickie_sops::decrypt(bytes, format, format, keys).map(|plain| plain.to_vec())
}

#[test]
fn every_vector_is_decrypted() {
    let keys = keys(&ALL);
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.filter_map(|name| name.strip_suffix(".plain").map(str::to_owned)).collect();
    assert!(names.len() >= 25, "{names:?}");
    for name in names {
        let plain = opened(&name, &read(&name), &keys).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            String::from_utf8(plain).unwrap(),
            String::from_utf8(read(&format!("{name}.plain"))).unwrap(),
            "{name}"
        );
    }
}

/// Everything in these two is encrypted: no bit may be turned unless it makes no difference at all.
#[test]
fn a_turned_bit_is_refused() {
    let keys = keys(&["x25519.agekey"]);
    for name in ["one-line.yaml", "blob.bin"] {
        let (bytes, plain) = (read(name), read(&format!("{name}.plain")));
        let mut refused = 0;
        for at in 0..bytes.len() * 8 {
            let mut turned = bytes.clone();
            turned[at / 8] ^= 1 << (at % 8);
            match opened(name, &turned, &keys) {
                Ok(same) => assert_eq!(same, plain, "{name}, bit {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > bytes.len() * 8 / 2, "{name}: {refused}");
    }
}

/// A file cut anywhere is refused, or nothing of it is missing.
#[test]
fn a_cut_file_is_refused() {
    let keys = keys(&["x25519.agekey"]);
    for name in ["all.yaml", "all.json", "all.env", "all.ini", "blob.bin", "documents.yaml"] {
        let (bytes, plain) = (read(name), read(&format!("{name}.plain")));
        for length in 0..bytes.len() {
            if let Ok(whole) = opened(name, &bytes[..length], &keys) {
                // The line feed after the last value may have gone with what follows it.
                let missing = plain.strip_prefix(whole.as_slice());
                assert!(missing.is_some_and(|rest| rest.is_empty() || rest == b"\n"), "{name}, cut after {length}");
            }
        }
    }
}

/// What Flux would not notice in an object: values from another version of the file, taken out, moved, added.
#[test]
fn values_that_were_not_encrypted_together_are_refused() {
    let keys = keys(&["x25519.agekey"]);
    let text = String::from_utf8(read("all.env")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let at = |name: &str| lines.iter().position(|line| line.starts_with(name)).unwrap();
    let refused = |lines: Vec<String>| {
        let text = lines.join("\n") + "\n";
        opened("all.env", text.as_bytes(), &keys).unwrap_err()
    };
    let owned = || lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let mut without = owned();
    without.remove(at("PASSWORD="));
    assert_eq!(refused(without), Error::Mac);
    let mut swapped = owned();
    swapped.swap(at("USER="), at("PASSWORD="));
    assert_eq!(refused(swapped), Error::Mac);
    let mut moved = owned();
    moved[at("USER=")] = lines[at("PASSWORD=")].replace("PASSWORD=", "USER=");
    assert!(matches!(refused(moved), Error::Value { .. }));
    let mut added = owned();
    added.insert(at("PASSWORD="), "MORE=".to_owned() + &lines[at("USER=")]["USER=".len()..]);
    assert!(matches!(refused(added), Error::Value { .. }));
    let mut clear = owned();
    clear[at("USER=")] = "USER=eve".to_owned();
    let error = refused(clear).to_string();
    assert!(error.contains("USER") && !error.contains("eve"), "{error}");
}

#[test]
fn the_wrong_key_and_no_key_say_who_could() {
    let recipient = "age age1";
    let wrong = opened("secret.yaml", &read("secret.yaml"), &keys(&["hybrid.agekey"])).unwrap_err().to_string();
    assert!(wrong.contains(recipient) && wrong.contains("updatekeys"), "{wrong}");
    let none = opened("secret.yaml", &read("secret.yaml"), &Keys::new()).unwrap_err().to_string();
    assert!(none.contains(recipient) && none.contains("secretRef"), "{none}");
    let few = opened("groups.yaml", &read("groups.yaml"), &keys(&["hybrid.agekey"])).unwrap_err();
    assert!(matches!(few, Error::TooFewGroups { needed: 2, groups: 2, opened: 1, .. }), "{few}");
}

/// Only a key service could decrypt it: the way out is named.
#[test]
fn a_key_service_alone_is_refused() {
    let file = json!({"a": "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]", "sops": {
        "kms": [{"arn": "arn:aws:kms:eu-north-1:1:key/x", "created_at": "2024-01-01T00:00:00Z", "enc": "AQ=="}],
        "lastmodified": "2024-01-01T00:00:00Z", "mac": "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]"
    }});
    let error = opened("a.json", file.to_string().as_bytes(), &keys(&["x25519.agekey"])).unwrap_err().to_string();
    assert!(error.contains("AWS KMS arn:aws") && error.contains("--add-age"), "{error}");
}

#[test]
fn entries_of_the_secret_are_known_by_their_names() {
    let add = |name: &str, value: &str| Keys::new().add(name, value.as_bytes()).unwrap_err().to_string();
    for (name, value, words) in [
        ("keys.txt", "", ".agekey"),
        ("sops.aws-kms", "", "--add-age"),
        ("sops.vault-token", "", "--add-age"),
        ("a.agekey", "", "no identity"),
        ("a.agekey", "# a comment\nAGE-SECRET-KEY-1QQQ\n", "line 2"),
        ("a.agekey", "AGE-PLUGIN-YUBIKEY-1QQQ", "plugin"),
        ("a.agekey", "hunter2", "AGE-SECRET-KEY-1"),
        ("a.agekey", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "no end"),
        ("a.asc", "hunter2", "no OpenPGP private key"),
    ] {
        let error = add(name, value);
        assert!(error.contains(words) && !error.contains("hunter2") && !error.contains("QQQ"), "{error}");
    }
}

/// An object is decrypted in its place, whatever the build has added to what is not encrypted.
#[test]
fn an_object_is_decrypted_after_a_build() {
    let keys = keys(&["x25519.agekey"]);
    let bytes = read("secret.yaml");
    assert_eq!(wickie_sops::check_file(&bytes, Format::Yaml, &keys), Ok(true));
    let mut object = wickie_kustomize::yaml::documents("secret.yaml", &bytes).unwrap().remove(0).value;
    object["metadata"]["namespace"] = "shop".into();
    object["metadata"]["labels"]["added"] = "by a build".into();
    assert!(wickie_sops::is_encrypted_object(&object));
    wickie_sops::decrypt_object(&mut object, &keys).unwrap();
    let mut plain = wickie_kustomize::yaml::documents("plain", &read("secret.yaml.plain")).unwrap().remove(0).value;
    plain["metadata"]["namespace"] = "shop".into();
    plain["metadata"]["labels"]["added"] = "by a build".into();
    assert_eq!(object, plain);
    assert_eq!(object.get("sops"), None::<&Value>);
}

/// Types survive, as Flux brings them through JSON.
#[test]
fn an_object_s_values_have_their_types_again() {
    let keys = keys(&["x25519.agekey"]);
    let mut object = wickie_kustomize::yaml::documents("all.yaml", &read("all.yaml")).unwrap().remove(0).value;
    wickie_sops::decrypt_object(&mut object, &keys).unwrap();
    assert_eq!(object["int"], json!(42));
    assert_eq!(object["big"], json!(9_007_199_254_740_993_i64));
    assert_eq!(object["octal"], json!(420));
    assert_eq!(object["float"], json!(1.5));
    assert_eq!(object["yes"], json!(true));
    assert_eq!(object["nothing"], json!(null));
    assert_eq!(object["date"], json!("2024-02-03T00:00:00Z"));
    assert_eq!(object["list"][3], json!(["deep", "er"]));
}

#[test]
fn files_that_were_encrypted_one_by_one_may_be_joined() {
    let keys = keys(&["x25519.agekey", "hybrid.agekey"]);
    let joined = [read("secret.yaml"), b"---\nplain: true\n---\n".to_vec(), read("hybrid.yaml")].concat();
    assert_eq!(wickie_sops::check_file(&joined, Format::Yaml, &keys), Ok(true));
    let text = String::from_utf8(joined).unwrap();
    let wrong = text.replacen("app: till", "app: tall", 1);
    assert_eq!(wickie_sops::check_file(wrong.as_bytes(), Format::Yaml, &keys), Err(Error::Mac));
    assert_eq!(wickie_sops::check_file(b"a: 1\n", Format::Yaml, &keys), Ok(false));
}
