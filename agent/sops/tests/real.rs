//! Files that the real sops encrypts, in every format and with every kind of key, are what it decrypts them to.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;

use bench::{Bench, DOTENV, PLAIN, Plain, keys, ours, run};
use std::process::Command;
use wickie_sops::{Error, Format, Keys};
use wickie_testbench::need;

#[test]
fn every_format_and_option() {
    let Some(bench) = Bench::start("sops-formats") else { return };
    for plain in PLAIN {
        let encrypted = bench.encrypt(&plain, &["--age", &bench.age.1]).unwrap();
        let theirs = bench.decrypt(plain.name, &encrypted).unwrap();
        let ours = ours(plain.name, &encrypted, &bench.keys())
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", plain.name, String::from_utf8_lossy(&encrypted)));
        assert_eq!(ours, theirs, "{}\n{}", plain.name, String::from_utf8_lossy(&encrypted));
    }
}

#[test]
fn every_kind_of_age_key() {
    let Some(bench) = Bench::start("sops-age") else { return };
    let plain = PLAIN[0];
    let printed = bench.printed();
    for (kind, (private, recipient)) in [
        ("X25519", &bench.age),
        ("hybrid", &bench.hybrid),
        ("ssh-ed25519", &bench.ssh_ed25519),
        ("ssh-rsa", &bench.ssh_rsa),
    ] {
        let encrypted = bench.encrypt(&plain, &["--age", recipient]).unwrap();
        let opened = ours(plain.name, &encrypted, &keys(&[("it.agekey", private)]));
        assert_eq!(opened.as_deref(), Ok(printed.as_str()), "{kind}");
        for (other, (key, _)) in [("X25519", &bench.age), ("hybrid", &bench.hybrid), ("ssh", &bench.ssh_ed25519)] {
            if key != private {
                let refused = ours(plain.name, &encrypted, &keys(&[("other.agekey", key)]));
                assert!(matches!(refused, Err(Error::NoKey { .. })), "{kind} opened by {other}: {refused:?}");
            }
        }
    }
}

#[test]
fn openpgp_keys_of_gnupg() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let Some(bench) = Bench::start("sops-pgp") else { return };
    let home = bench.scratch.folder("gnupg");
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |args: &[&str]| {
        run(
            Command::new("gpg")
                .arg("--homedir")
                .arg(&home)
                .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase"])
                .args(args),
            b"",
        )
        .unwrap()
    };
    for (name, primary, subkey) in
        [("rsa", "rsa3072", "rsa3072"), ("curve", "ed25519", "cv25519"), ("nist", "nistp256", "nistp256")]
    {
        gpg(&["", "--quick-generate-key", name, primary, "cert,sign", "never"]);
        let listed = gpg(&["", "--with-colons", "--list-keys", name]);
        let fingerprint =
            listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
        gpg(&["", "--quick-add-key", &fingerprint, subkey, "encr", "never"]);
        let private = gpg(&["", "--armor", "--export-secret-keys", &fingerprint]);
        let encrypted = bench.encrypt(&PLAIN[0], &["--pgp", &fingerprint]).unwrap();
        let opened = ours(PLAIN[0].name, &encrypted, &keys(&[("it.asc", &private)]));
        assert_eq!(opened.as_deref(), Ok(bench.printed().as_str()), "{name}");
        let without = ours(PLAIN[0].name, &encrypted, &bench.keys()).unwrap_err().to_string();
        assert!(without.contains(&fingerprint), "{without}");
    }
    // With a passphrase it is refused when it is read, not when it is needed.
    gpg(&["locked", "--quick-generate-key", "locked", "rsa2048", "encr,sign", "never"]);
    let locked = gpg(&["locked", "--armor", "--export-secret-keys", "locked"]);
    let error = Keys::new().add("it.asc", locked.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("passphrase"), "{error}");
}

#[test]
fn a_key_that_is_split_over_groups() {
    let Some(bench) = Bench::start("sops-groups") else { return };
    let third = &bench.ssh_ed25519;
    let rules = format!(
        "creation_rules:\n- shamir_threshold: 2\n  key_groups:\n  - age: ['{}']\n  - age: ['{}']\n  - age: ['{}']\n",
        bench.age.1, bench.hybrid.1, third.1
    );
    std::fs::write(bench.scratch.join(".sops.yaml"), rules).unwrap();
    let encrypted = bench.encrypt(&PLAIN[1], &[]).unwrap();
    let plain = bench.decrypt(PLAIN[1].name, &encrypted).unwrap();
    let entries = [("a.agekey", bench.age.0.as_str()), ("b.agekey", &bench.hybrid.0), ("c.agekey", &third.0)];
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        assert_eq!(ours(PLAIN[1].name, &encrypted, &keys(&[entries[one], entries[other]])).unwrap(), plain);
    }
    assert_eq!(ours(PLAIN[1].name, &encrypted, &keys(&entries)).unwrap(), plain);
    for entry in entries {
        let refused = ours(PLAIN[1].name, &encrypted, &keys(&[entry])).unwrap_err();
        assert!(matches!(refused, Error::TooFewGroups { needed: 2, groups: 3, opened: 1, .. }), "{refused}");
    }
}

/// What a Secret's entry is called decides what it becomes. Source: kustomize-controller, `DecryptResource`.
#[test]
fn one_format_becomes_another() {
    let Some(bench) = Bench::start("sops-other") else { return };
    let plain = Plain { name: "a.json", text: r#"{"USER": "ada", "PIN": 4711, "data": "x"}"#, args: &[] };
    let encrypted = bench.encrypt(&plain, &["--age", &bench.age.1]).unwrap();
    let to = |output| {
        let bytes = wickie_sops::decrypt(&encrypted, Format::Json, output, &bench.keys()).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    assert_eq!(to(Format::Dotenv), "USER=ada\nPIN=4711\ndata=x\n");
    assert_eq!(to(Format::Binary), "x");
    assert_eq!(wickie_sops::marked(&encrypted), Some(Format::Json));
    let dotenv = Plain { name: "a.env", text: DOTENV, args: &[] };
    let encrypted = bench.encrypt(&dotenv, &["--age", &bench.age.1]).unwrap();
    assert_eq!(wickie_sops::marked(&encrypted), Some(Format::Dotenv));
}

/// Each bit of a file, turned: it is refused, or what comes out is the same, or it is what SOPS does not protect, and then
/// the real sops says the same.
#[test]
fn no_bit_can_be_turned() {
    let Some(bench) = Bench::start("sops-bits") else { return };
    let keys = bench.keys();
    for plain in [PLAIN[18], PLAIN[13], PLAIN[17], PLAIN[15]] {
        let encrypted = bench.encrypt(&plain, &["--age", &bench.age.1]).unwrap();
        let right = ours(plain.name, &encrypted, &keys).unwrap();
        let format = Format::of_path(plain.name);
        let (mut refused, mut same, mut unprotected) = (0, 0, 0);
        for at in 0..encrypted.len() * 8 {
            let mut turned = encrypted.clone();
            turned[at / 8] ^= 1 << (at % 8);
            match wickie_sops::decrypt(&turned, format, format, &keys) {
                Err(_) => refused += 1,
                Ok(bytes) if bytes.as_slice() == right.as_bytes() => same += 1,
                Ok(bytes) => {
                    let theirs = bench.decrypt(plain.name, &turned);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    assert_eq!(theirs.ok(), Some(text), "{}, bit {at}: the real sops would not", plain.name);
                    unprotected += 1;
                }
            }
        }
        println!("{}: {refused} refused, {same} without effect, {unprotected} unprotected by SOPS", plain.name);
        assert!(refused > 8 * encrypted.len() / 2, "{}", plain.name);
    }
}

/// Writes the files that the tests decrypt where neither Go nor the network is at hand: `cargo test -p wickie-sops --test real
/// record -- --ignored`.
#[test]
#[ignore = "writes tests/vectors anew"]
fn record() {
    let bench = Bench::start("sops-record").unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let both = |name: &str, encrypted: &[u8]| {
        write(name, encrypted);
        write(&format!("{name}.plain"), bench.decrypt(name, encrypted).unwrap().as_bytes());
    };
    let kinds = [
        ("x25519", &bench.age),
        ("hybrid", &bench.hybrid),
        ("ssh-ed25519", &bench.ssh_ed25519),
        ("ssh-rsa", &bench.ssh_rsa),
    ];
    for (kind, (private, recipient)) in kinds {
        write(&format!("{kind}.agekey"), private.as_bytes());
        if kind.starts_with("ssh") {
            // Whoever runs this has no such key where sops looks for one: the plain text is the first file's.
            let encrypted = bench.encrypt(&PLAIN[0], &["--age", recipient]).unwrap();
            write(&format!("{kind}.yaml"), &encrypted);
            write(&format!("{kind}.yaml.plain"), bench.printed().as_bytes());
        } else {
            both(&format!("{kind}.yaml"), &bench.encrypt(&PLAIN[0], &["--age", recipient]).unwrap());
        }
    }
    for plain in PLAIN {
        both(plain.name, &bench.encrypt(&plain, &["--age", &bench.age.1]).unwrap());
    }
    let rules = format!(
        "creation_rules:\n- shamir_threshold: 2\n  key_groups:\n  - age: ['{}']\n  - age: ['{}']\n",
        bench.age.1, bench.hybrid.1
    );
    std::fs::write(bench.scratch.join(".sops.yaml"), rules).unwrap();
    both("groups.yaml", &bench.encrypt(&PLAIN[18], &[]).unwrap());
    std::fs::remove_file(bench.scratch.join(".sops.yaml")).unwrap();

    let home = bench.scratch.folder("gnupg");
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |args: &[&str]| {
        let batch = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        run(Command::new("gpg").arg("--homedir").arg(&home).args(batch).args(args), b"").unwrap()
    };
    gpg(&["--quick-generate-key", "till", "ed25519", "cert,sign", "never"]);
    let listed = gpg(&["--with-colons", "--list-keys", "till"]);
    let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
    gpg(&["--quick-add-key", &fingerprint, "cv25519", "encr", "never"]);
    write("openpgp.asc", gpg(&["--armor", "--export-secret-keys", &fingerprint]).as_bytes());
    both("openpgp.yaml", &bench.encrypt(&PLAIN[0], &["--pgp", &fingerprint]).unwrap());
}
