//! SSH certificates and security keys: the real `git verify-commit`, with ssh-keygen behind it, and our verifier agree.
//!
//! A security key signs in hardware; what it signs is public knowledge (OpenSSH's PROTOCOL.u2f), so its signatures are made
//! here with an ordinary key in its place. ssh-keygen verifies them as it would any.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};
use ssh_key::PrivateKey;
use ssh_key::public::KeyData;
use wickie_testbench::need;

use crate::differential::{Matrix, Verdict, run, ssh_key};

/// How a certificate is asked for, how its authority is listed, and what is to come of a commit signed with it.
struct Case {
    what: &'static str,
    /// Arguments of `ssh-keygen -s`.
    certificate: &'static [&'static str],
    /// What stands before the authority's key in `allowed_signers`.
    line: &'static str,
    /// When the commit says it was made: seconds since 1970, now without one.
    when: Option<i64>,
    expected: Verdict,
}

const NAMED: &[&str] = &["-n", "ada@example.org"];
const CA: &str = "*@example.org cert-authority";
const IN_2020: i64 = 1_590_000_000;

const CASES: [Case; 20] = [
    Case { what: "good", certificate: NAMED, line: CA, when: None, expected: Verdict::Good },
    Case {
        what: "valid for a time",
        certificate: &["-n", "ada@example.org", "-V", "-1d:+1d"],
        line: CA,
        when: None,
        expected: Verdict::Good,
    },
    Case {
        what: "expired",
        certificate: &["-n", "ada@example.org", "-V", "20200101:20201231"],
        line: CA,
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "expired since",
        certificate: &["-n", "ada@example.org", "-V", "20200101:20201231"],
        line: CA,
        when: Some(IN_2020),
        expected: Verdict::Good,
    },
    Case {
        what: "not yet valid",
        certificate: &["-n", "ada@example.org", "-V", "20200101:forever"],
        line: CA,
        when: Some(1_500_000_000),
        expected: Verdict::Bad,
    },
    Case {
        what: "another principal",
        certificate: &["-n", "eve@elsewhere.org"],
        line: CA,
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "one of two principals",
        certificate: &["-n", "eve@elsewhere.org,ada@example.org"],
        line: CA,
        when: None,
        expected: Verdict::Good,
    },
    Case { what: "no principal", certificate: &[], line: CA, when: None, expected: Verdict::Bad },
    Case {
        what: "a principal that is taken out",
        certificate: &["-n", "eve@example.org"],
        line: "*@example.org,!eve@example.org cert-authority",
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "a principal in a list",
        certificate: NAMED,
        line: "ben@example.org,ada@example.org cert-authority",
        when: None,
        expected: Verdict::Good,
    },
    Case {
        what: "a host's",
        certificate: &["-h", "-n", "ada@example.org"],
        line: CA,
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "with an extension",
        certificate: &["-n", "ada@example.org", "-O", "extension:who@example.org=ada"],
        line: CA,
        when: None,
        expected: Verdict::Good,
    },
    Case {
        what: "with a critical option",
        certificate: &["-n", "ada@example.org", "-O", "force-command=true"],
        line: CA,
        when: None,
        expected: Verdict::Stricter,
    },
    Case {
        what: "an authority that is none",
        certificate: NAMED,
        line: "*@example.org",
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "for commits",
        certificate: NAMED,
        line: "*@example.org cert-authority,namespaces=\"git\"",
        when: None,
        expected: Verdict::Good,
    },
    Case {
        what: "for files alone",
        certificate: NAMED,
        line: "*@example.org cert-authority,namespaces=\"file\"",
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "an authority that is valid",
        certificate: NAMED,
        line: "*@example.org cert-authority,valid-before=\"20990101Z\"",
        when: None,
        expected: Verdict::Good,
    },
    Case {
        what: "an authority that ended",
        certificate: NAMED,
        line: "*@example.org cert-authority,valid-before=\"20200101Z\"",
        when: None,
        expected: Verdict::Bad,
    },
    Case {
        what: "an authority that ended since",
        certificate: NAMED,
        line: "*@example.org cert-authority,valid-before=\"20200701Z\"",
        when: Some(IN_2020),
        expected: Verdict::Good,
    },
    Case {
        what: "an authority that begins later",
        certificate: NAMED,
        line: "*@example.org cert-authority,valid-after=\"20990101Z\"",
        when: None,
        expected: Verdict::Bad,
    },
];

/// Lets an authority vouch for a key; the certificate's file.
fn certify(authority: &Path, key: &Path, arguments: &[&str]) -> PathBuf {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-I", "an id", "-s"]).arg(authority).args(arguments);
    run(command.arg(key.with_extension("pub")));
    let name = format!("{}-cert.pub", key.file_name().unwrap().to_str().unwrap());
    key.with_file_name(name)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// A commit signed by ssh-keygen, and a changed copy of it.
fn commits(matrix: &Matrix, folder: &Path, key: &Path, when: Option<i64>, namespace: &str) -> (String, String) {
    let mut draft = matrix.world.repo.draft("refs/heads/none", "pay 1").unwrap();
    draft.when = when.unwrap_or(draft.when);
    let payload = folder.join("payload");
    let signature = folder.join("payload.sig");
    let _ = std::fs::remove_file(&signature);
    std::fs::write(&payload, draft.bytes(None)).unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(key).arg(&payload));
    let signed = draft.bytes(Some(&read(&signature)));
    let good = matrix.world.repo.object("commit", &signed).unwrap();
    let changed = matrix.world.repo.tampered(&good, "pay 1", "pay 9").unwrap();
    (good, changed)
}

fn allowed(folder: &Path, line: &str) -> Vec<String> {
    let file = folder.join("allowed");
    std::fs::write(&file, format!("{line}\n")).unwrap();
    vec!["gpg.format=ssh".to_owned(), format!("gpg.ssh.allowedSignersFile={}", file.display())]
}

#[tokio::test]
async fn ssh_certificates() {
    if need::ssh_keygen().is_none() {
        return need::skip("ssh-keygen is not installed: apt install openssh-client");
    }
    let mut matrix = Matrix::new("differential-certificates");
    let folder = matrix.world.scratch.folder("keys");
    let other = ssh_key(&folder, "other-ca", "ed25519", "256");
    for (ca_kind, ca_bits, kind, bits) in [
        ("ed25519", "256", "ed25519", "256"),
        ("rsa", "3072", "ecdsa", "256"),
        ("ecdsa", "256", "rsa", "2048"),
        ("ecdsa", "384", "ecdsa", "384"),
        ("ecdsa", "521", "ecdsa", "521"),
    ] {
        let authority = ssh_key(&folder, &format!("ca-{ca_kind}-{ca_bits}"), ca_kind, ca_bits);
        let key = ssh_key(&folder, &format!("{ca_kind}-{ca_bits}-{kind}"), kind, bits);
        let name = |what: &str| format!("{kind} {bits} certified by {ca_kind} {ca_bits}: {what}");
        for case in &CASES {
            let certificate = certify(&authority, &key, case.certificate);
            let (good, _) = commits(&matrix, &folder, &certificate, case.when, "git");
            let line = format!("{} {}", case.line, read(&authority.with_extension("pub")));
            matrix.judge(&name(case.what), &good, &allowed(&folder, &line), &line, case.expected).await;
        }
        let certificate = certify(&authority, &key, NAMED);
        let (good, changed) = commits(&matrix, &folder, &certificate, None, "git");
        let (for_files, _) = commits(&matrix, &folder, &certificate, None, "file");
        let line = format!("{CA} {}", read(&authority.with_extension("pub")));
        matrix.judge(&name("changed"), &changed, &allowed(&folder, &line), &line, Verdict::Bad).await;
        matrix.judge(&name("signed for files"), &for_files, &allowed(&folder, &line), &line, Verdict::Bad).await;
        // The key alone, which is listed as such: what is signed with a certificate is signed by the certificate.
        let alone = format!("ada@example.org {}", read(&key.with_extension("pub")));
        matrix.judge(&name("the key alone"), &good, &allowed(&folder, &alone), &alone, Verdict::Bad).await;
        let elsewhere = format!("{CA} {}", read(&other.with_extension("pub")));
        matrix.judge(&name("another authority"), &good, &allowed(&folder, &elsewhere), &elsewhere, Verdict::Bad).await;
        // A certificate in which one byte was changed: the authority did not sign it.
        let forged = forged(&matrix, &good);
        matrix.judge(&name("forged"), &forged, &allowed(&folder, &line), &line, Verdict::Bad).await;
    }
    println!("{} commits judged alike", matrix.cases);
}

/// The commit with the principal in its certificate changed.
fn forged(matrix: &Matrix, commit: &str) -> String {
    let text = String::from_utf8(matrix.world.repo.read_object(commit).unwrap()).unwrap();
    let (head, rest) = text.split_once("-----BEGIN SSH SIGNATURE-----").unwrap();
    let (body, tail) = rest.split_once("-----END SSH SIGNATURE-----").unwrap();
    let mut blob = STANDARD.decode(body.split_whitespace().collect::<String>()).unwrap();
    let at = blob.windows(15).position(|bytes| bytes == b"ada@example.org").unwrap();
    blob[at] = b'b';
    let encoded = STANDARD.encode(blob);
    let lines: Vec<&str> = encoded.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let text =
        format!("{head}-----BEGIN SSH SIGNATURE-----\n {}\n -----END SSH SIGNATURE-----{tail}", lines.join("\n "));
    matrix.world.repo.object("commit", text.as_bytes()).unwrap()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A security key's public half: like that of an ordinary key, and what it was made for.
fn security_key(ordinary: &PrivateKey) -> (&'static str, Vec<u8>) {
    match ordinary.public_key().key_data() {
        KeyData::Ed25519(key) => {
            let kind = "sk-ssh-ed25519@openssh.com";
            (kind, [string(kind.as_bytes()), string(&key.0), string(b"ssh:")].concat())
        }
        KeyData::Ecdsa(key) => {
            let kind = "sk-ecdsa-sha2-nistp256@openssh.com";
            let point = key.as_sec1_bytes();
            (kind, [string(kind.as_bytes()), string(b"nistp256"), string(point), string(b"ssh:")].concat())
        }
        other => panic!("{other:?} is in no security key"),
    }
}

/// An armored signature as a security key makes it.
fn security_signature(ordinary: &PrivateKey, kind: &str, public: &[u8], payload: &[u8]) -> String {
    use signature::Signer as _;
    let inner =
        [&b"SSHSIG"[..], &string(b"git"), &string(b""), &string(b"sha512"), &string(&Sha512::digest(payload))].concat();
    // The user was there, and it is the ninth signature.
    let trailer = [1, 0, 0, 0, 9];
    let signed = [&Sha256::digest(b"ssh:")[..], &trailer, &Sha256::digest(&inner)].concat();
    let made: ssh_key::Signature = ordinary.key_data().try_sign(&signed).unwrap();
    let signature = [&string(kind.as_bytes()), &string(made.as_bytes()), &trailer[..]].concat();
    let blob = [
        &b"SSHSIG\0\0\0\x01"[..],
        &string(public),
        &string(b"git"),
        &string(b""),
        &string(b"sha512"),
        &string(&signature),
    ]
    .concat();
    let encoded = STANDARD.encode(blob);
    let lines: Vec<&str> = encoded.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}

#[tokio::test]
async fn security_keys() {
    if need::ssh_keygen().is_none() {
        return need::skip("ssh-keygen is not installed: apt install openssh-client");
    }
    let mut matrix = Matrix::new("differential-sk");
    let folder = matrix.world.scratch.folder("keys");
    let authority = ssh_key(&folder, "ca", "ed25519", "256");
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256")] {
        let file = ssh_key(&folder, kind, kind, bits);
        let ordinary = PrivateKey::from_openssh(read(&file)).unwrap();
        let (kind, blob) = security_key(&ordinary);
        let public = format!("{kind} {}", STANDARD.encode(&blob));
        let file = folder.join(format!("sk-{bits}-{}", kind.len()));
        std::fs::write(file.with_extension("pub"), format!("{public}\n")).unwrap();

        let draft = matrix.world.repo.draft("refs/heads/none", "pay 1").unwrap();
        let commit = |signature: &str| matrix.world.repo.object("commit", &draft.bytes(Some(signature))).unwrap();
        let good = commit(&security_signature(&ordinary, kind, &blob, &draft.bytes(None)));
        let certificate = certify(&authority, &file, NAMED);
        let certified = STANDARD.decode(read(&certificate).split(' ').nth(1).unwrap()).unwrap();
        let with_certificate = commit(&security_signature(&ordinary, kind, &certified, &draft.bytes(None)));
        let changed = matrix.world.repo.tampered(&good, "pay 1", "pay 9").unwrap();

        let line = format!("ada@example.org {public}");
        matrix.judge(&format!("{kind} good"), &good, &allowed(&folder, &line), &line, Verdict::Good).await;
        matrix.judge(&format!("{kind} changed"), &changed, &allowed(&folder, &line), &line, Verdict::Bad).await;
        // Without its trailer's last byte right, the signature is over something else.
        let line = format!("{CA} {}", read(&authority.with_extension("pub")));
        matrix
            .judge(&format!("{kind} certified"), &with_certificate, &allowed(&folder, &line), &line, Verdict::Good)
            .await;
        matrix.judge(&format!("{kind} by an authority"), &good, &allowed(&folder, &line), &line, Verdict::Bad).await;
        let line = format!("ada@example.org {}", read(&folder.join("ca.pub")));
        matrix.judge(&format!("{kind} by somebody else"), &good, &allowed(&folder, &line), &line, Verdict::Bad).await;
    }
    println!("{} commits judged alike", matrix.cases);
}
