//! The formats in which git, over its versions and beside other tools, has written signed commits: the real `git verify-commit` and our
//! verifier agree on each, as it was signed and with one byte changed.

use std::process::Command;
use std::time::Duration;

use wickie_testbench::need;

use crate::differential::{Gpg, Matrix, Verdict, run, ssh_key};

const AUTHOR: &str = "author Ada <ada@example.org> 1700000000 +0100";
const COMMITTER: &str = "committer Ada <ada@example.org> 1700000000 +0100";

/// Parts of a commit, in the order in which they stand.
struct Shape {
    what: &'static str,
    parents: usize,
    /// Headers between the committer and the signature.
    before: &'static str,
    /// Headers after the signature.
    after: &'static str,
    message: &'static [u8],
    /// Whether the signature follows the tree at once, where no version of git puts it.
    first: bool,
}

const PLAIN: Shape = Shape { what: "plain", parents: 1, before: "", after: "", message: b"\npay 1\n", first: false };

/// What `git merge` of a signed tag keeps of it (since 1.7.9): with a signature of its own, which is not the commit's.
const MERGETAG: &str = "mergetag object 1111111111111111111111111111111111111111\n type commit\n tag v1\n tagger Ada \
    <ada@example.org> 1700000000 +0000\n \n a release\n -----BEGIN PGP SIGNATURE-----\n \n iQ==\n =abcd\n \
    -----END PGP SIGNATURE-----\n";

/// What git writes for repositories of two object formats (since 2.45), beside the signature that counts here.
const OTHER_FORMAT: &str = "gpgsig-sha256 -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\n";

const SHAPES: [Shape; 14] = [
    PLAIN,
    Shape { what: "without a parent", parents: 0, ..PLAIN },
    Shape { what: "of a merge", parents: 2, ..PLAIN },
    Shape { what: "of an octopus", parents: 4, ..PLAIN },
    Shape { what: "with a merged tag", parents: 2, before: MERGETAG, ..PLAIN },
    Shape { what: "with a merged tag after the signature", parents: 2, after: MERGETAG, ..PLAIN },
    Shape { what: "in another encoding", before: "encoding ISO-8859-1\n", message: b"\npay 1 \xf8re\n", ..PLAIN },
    Shape { what: "with an encoding after the signature", after: "encoding ISO-8859-1\n", ..PLAIN },
    Shape { what: "with a signature for the other format before", before: OTHER_FORMAT, ..PLAIN },
    Shape { what: "with a signature for the other format after", after: OTHER_FORMAT, ..PLAIN },
    Shape { what: "with headers of another tool", before: "HG:extra branch:a\nHG:extra close:1\n", ..PLAIN },
    Shape { what: "without a newline at its end", message: b"\npay 1", ..PLAIN },
    Shape { what: "with an armor in its message", message: b"\npay 1\n\ngpgsig -----BEGIN\n -----END\n\n", ..PLAIN },
    Shape { what: "with the signature ahead of everything", first: true, ..PLAIN },
];

/// How the armor of a signature is written.
type Rewrite = (&'static str, fn(&str) -> String);

/// PGP armor, as programs have written it.
const PGP_ARMORS: [Rewrite; 5] = [
    ("as GnuPG 2 writes it", str::to_owned),
    ("with the headers of GnuPG 1", |armor| {
        armor.replacen("\n\n", "\nVersion: GnuPG v1.4.11 (GNU/Linux)\nComment: see keys.example.org\n\n", 1)
    }),
    ("without a checksum, as RFC 9580 wants it", |armor| {
        let lines: Vec<_> = armor.lines().filter(|line| !line.starts_with('=')).collect();
        format!("{}\n", lines.join("\n"))
    }),
    ("in lines of 76", |armor| rewrapped(armor, 76)),
    ("without a newline at its end", |armor| armor.trim_end().to_owned()),
];

/// SSH armor, as programs have written it.
const SSH_ARMORS: [Rewrite; 4] = [
    ("as OpenSSH writes it", str::to_owned),
    ("in lines of 76", |armor| rewrapped(armor, 76)),
    ("in one line", |armor| rewrapped(armor, usize::MAX)),
    ("without a newline at its end", |armor| armor.trim_end().to_owned()),
];

/// The same armor with lines of another length; headers and the checksum stay.
fn rewrapped(armor: &str, width: usize) -> String {
    let is_body = |line: &&str| !line.is_empty() && !line.starts_with(['-', '=']) && !line.contains(": ");
    let body: String = armor.lines().filter(is_body).collect();
    let letters: Vec<char> = body.chars().collect();
    let wrapped: Vec<String> = letters.chunks(width.min(letters.len())).map(|part| part.iter().collect()).collect();
    let mut lines = Vec::new();
    let mut done = false;
    for line in armor.lines() {
        if is_body(&line) {
            if !std::mem::replace(&mut done, true) {
                lines.extend(wrapped.iter().cloned());
            }
        } else {
            lines.push(line.to_owned());
        }
    }
    format!("{}\n", lines.join("\n"))
}

impl Shape {
    /// The commit's bytes; what is signed where there is no signature.
    ///
    /// Signatures for other formats are not part of what is signed, as in git since 2.30.
    fn bytes(&self, tree: &str, parents: &[String], signature: Option<&str>) -> Vec<u8> {
        let header = signature.map(|armor| format!("gpgsig {}\n", armor.trim_end_matches('\n').replace('\n', "\n ")));
        let (first, then) = if self.first { (header, None) } else { (None, header) };
        let others = |headers: &'static str| match signature {
            None if headers == OTHER_FORMAT => "",
            _ => headers,
        };
        let mut text = format!("tree {tree}\n{}", first.unwrap_or_default());
        for parent in &parents[..self.parents] {
            text.push_str(&format!("parent {parent}\n"));
        }
        text.push_str(&format!("{AUTHOR}\n{COMMITTER}\n{}", others(self.before)));
        text.push_str(&then.unwrap_or_default());
        text.push_str(others(self.after));
        [text.as_bytes(), self.message].concat()
    }
}

impl Matrix {
    /// Every shape with every armor, as signed and changed.
    async fn formats(
        &mut self,
        of: &str,
        sign: impl Fn(&[u8]) -> String,
        armors: &[Rewrite],
        settings: &[String],
        keys: &str,
    ) {
        let repo = &self.world.repo;
        let tree = repo.git(&["write-tree"]).unwrap();
        let parents: Vec<String> = (0..4)
            .map(|number| {
                let text = format!("tree {tree}\n{AUTHOR}\n{COMMITTER}\n\nparent {number}\n");
                repo.object("commit", text.as_bytes()).unwrap()
            })
            .collect();
        for shape in &SHAPES {
            let payload = shape.bytes(&tree, &parents, None);
            let signature = sign(&payload);
            for (how, rewrite) in armors {
                let bytes = shape.bytes(&tree, &parents, Some(&rewrite(&signature)));
                let what = format!("{of} {}, {how}", shape.what);
                let good = self.world.repo.object("commit", &bytes).unwrap();
                // What no tool writes need not be read.
                let expected = if shape.first { Verdict::Stricter } else { Verdict::Good };
                self.judge(&what, &good, settings, keys, expected).await;
                let at = bytes.windows(5).position(|part| part == b"pay 1").unwrap();
                let mut changed = bytes;
                changed[at + 4] = b'9';
                let bad = self.world.repo.object("commit", &changed).unwrap();
                self.judge(&format!("{what}, changed"), &bad, settings, keys, Verdict::Bad).await;
            }
        }
    }
}

#[tokio::test]
async fn ssh() {
    if need::ssh_keygen().is_none() {
        return need::skip("ssh-keygen is not installed: apt install openssh-client");
    }
    let mut matrix = Matrix::new("formats-ssh");
    let folder = matrix.world.scratch.folder("keys");
    for (kind, bits, digest) in [("ed25519", "256", "sha512"), ("ed25519", "256", "sha256"), ("rsa", "3072", "sha256")]
    {
        let key = ssh_key(&folder, &format!("{kind}-{digest}"), kind, bits);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let allowed = folder.join("allowed");
        let line = format!("ada@example.org {public}");
        std::fs::write(&allowed, &line).unwrap();
        let settings = ["gpg.format=ssh".to_owned(), format!("gpg.ssh.allowedSignersFile={}", allowed.display())];
        let sign = |payload: &[u8]| {
            let file = folder.join("payload");
            std::fs::write(&file, payload).unwrap();
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-Y", "sign", "-n", "git", "-O", &format!("hashalg={digest}"), "-f"]);
            run(command.arg(&key).arg(&file));
            let signature = std::fs::read_to_string(file.with_extension("sig")).unwrap();
            std::fs::remove_file(file.with_extension("sig")).unwrap();
            signature
        };
        matrix.formats(&format!("{kind} over {digest}"), sign, &SSH_ARMORS, &settings, &line).await;
    }
    println!("{} commits judged alike", matrix.cases);
}

#[tokio::test]
async fn pgp() {
    if need::gpg().is_none() {
        return need::skip("gpg is not installed: apt install gnupg");
    }
    let mut matrix = Matrix::new("formats-pgp");
    let gpg = Gpg::new(matrix.world.scratch.folder("g"));
    for kind in ["ed25519", "rsa2048"] {
        let user = format!("{kind}@example.org");
        let key = gpg.key(&user, kind, "sign", "0");
        let (settings, public) = (gpg.settings(&key), gpg.public(&user));
        let file = matrix.world.scratch.join("payload");
        let sign = |payload: &[u8]| {
            std::fs::write(&file, payload).unwrap();
            let file = file.display().to_string();
            let once = || gpg.run(&["--armor", "--detach-sign", "--local-user", &key, "--output", "-", &file]);
            // One signature in some hundred is shorter by a byte, because it begins with a zero. Its base64 then needs no
            // padding, and without padding and checksum gpg reads on into the last line. The next second signs otherwise.
            let padded = |armor: &String| armor.lines().rev().nth(2).is_some_and(|line| line.ends_with('='));
            let tries = std::iter::repeat_with(once).inspect(|_| std::thread::sleep(Duration::from_millis(50)));
            tries.take(100).find(padded).expect("a signature with padding")
        };
        matrix.formats(kind, sign, &PGP_ARMORS, &settings, &public).await;
    }
    println!("{} commits judged alike", matrix.cases);
}
