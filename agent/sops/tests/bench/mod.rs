//! The real sops, age, OpenSSH and GnuPG, with keys of each kind.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use wickie_sops::{Format, Keys};
use wickie_testbench::{Scratch, need, parts};

/// Everything that encrypts.
pub(crate) struct Bench {
    pub(crate) scratch: Scratch,
    sops: PathBuf,
    /// A private key of age's own, as `age-keygen` wrote it; then its recipient.
    pub(crate) age: (String, String),
    /// The same, hybrid.
    pub(crate) hybrid: (String, String),
    pub(crate) ssh_ed25519: (String, String),
    pub(crate) ssh_rsa: (String, String),
}

/// A file to encrypt, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) args: &'static [&'static str],
}

pub(crate) const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
    # whose it is
    name: till
    labels:
        app: till
        \"on\": \"true\"
type: Opaque
stringData:
    # a comment of its own
    user: ada
    password: 'hunter2: #1'
    pin: \"0815\"
    empty: \"\"
    yes: \"no\"
    time: \"12:30:45\"
    multi: |
        first
          second

        fourth
    kept: |+
        tail

    strip: |-
        a
        b
    odd: \" lead\"
    tab: \"a\\tb\"
    brace: '{x: [1]}'
    unicode: grüß €
    long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccccc
";

pub(crate) const VALUES: &str = "int: 42
big: 9007199254740993
negative: -7
octal: 0644
float: 1.5
small: 1e-07
large: 1234567.25
yes: true
no: false
nothing: null
date: 2024-02-03
moment: 2024-02-03T04:05:06Z
list:
    - one
    - 2
    - true
    - - deep
      - er
    - name: x
      block: |
        a
        b
    - |
      item
      block
map: {}
items: []
plain_unencrypted: clear
nested:
    a:
        b:
            c: deep
";

pub(crate) const JSON: &str = r#"{"b": 1, "a": {"text": "<é> \"x\" & \u2028 /", "list": [1, 2.5, true, null, "x", {"k": "v"}, []]}, "empty": {}, "big": 9007199254740993, "f": 1e21, "t": 1e-7, "": "no name"}"#;

pub(crate) const DOTENV: &str =
    "# head\nUSER=ada\nPASSWORD=hunter2 # no comment\nLINES=a\\nb\nEMPTY=\n# tail\nEQUALS=a=b=c\nQUOTED=\"x\"\n";

pub(crate) const INI: &str = "top = 1\n\n; of the section\n[db]\n; of the value\nuser = ada\npassword = hunter2\nlonger_name = x y\n\n[empty]\n\n[last]\nk = v\n";

/// Each format, and each option that decides what is encrypted.
pub(crate) const PLAIN: [Plain; 19] = [
    Plain { name: "secret.yaml", text: SECRET, args: &["--encrypted-regex", "^(data|stringData)$"] },
    Plain { name: "all.yaml", text: VALUES, args: &[] },
    Plain { name: "unencrypted-regex.yaml", text: VALUES, args: &["--unencrypted-regex", "^(list|nested)$"] },
    Plain { name: "encrypted-suffix.yaml", text: VALUES, args: &["--encrypted-suffix", "t"] },
    Plain { name: "unencrypted-suffix.yaml", text: VALUES, args: &["--unencrypted-suffix", "t"] },
    Plain { name: "encrypted-regex.yaml", text: VALUES, args: &["--encrypted-regex", "(?i)^[LMB]"] },
    Plain {
        name: "only-encrypted.yaml",
        text: SECRET,
        args: &["mac_only_encrypted: true", "encrypted_regex: ^(data|stringData)$"],
    },
    Plain { name: "encrypted-comment.yaml", text: SECRET, args: &["encrypted_comment_regex: of its own"] },
    Plain { name: "unencrypted-comment.yaml", text: SECRET, args: &["unencrypted_comment_regex: whose it is"] },
    Plain { name: "documents.yaml", text: "a: 1\n---\nb:\n    c: two\n---\nd: three\n", args: &[] },
    Plain { name: "all.json", text: JSON, args: &[] },
    Plain { name: "regex.json", text: JSON, args: &["mac_only_encrypted: true", "encrypted_regex: ^a$"] },
    Plain { name: "suffix.json", text: JSON, args: &["--unencrypted-suffix", "g"] },
    Plain { name: "all.env", text: DOTENV, args: &[] },
    Plain { name: "regex.env", text: DOTENV, args: &["--encrypted-regex", "^PASS"] },
    Plain { name: "all.ini", text: INI, args: &[] },
    Plain { name: "regex.ini", text: INI, args: &["--unencrypted-regex", "^(user|top)$"] },
    Plain { name: "blob.bin", text: "\tnot {a: format}\nof any kind\n\n", args: &[] },
    Plain { name: "one-line.yaml", text: "k: v\n", args: &[] },
];

impl Bench {
    /// Nothing where a program is missing, after saying so.
    pub(crate) fn start(name: &str) -> Option<Bench> {
        if need::ssh_keygen().is_none() {
            need::skip("ssh-keygen is not installed: apt install openssh-client");
            return None;
        }
        let programs = parts::find(&parts::SOPS).and_then(|sops| Ok((sops, parts::find(&parts::AGE_KEYGEN)?)));
        match programs {
            Ok((sops, keygen)) => Some(Bench::with(name, sops, &keygen).unwrap()),
            Err(error) => {
                need::skip(&format!("{error:#}"));
                None
            }
        }
    }

    fn with(name: &str, sops: PathBuf, keygen: &Path) -> Result<Bench> {
        let scratch = Scratch::new(name);
        let age = |args: &[&str]| -> Result<(String, String)> {
            let key = run(Command::new(keygen).args(args), b"")?;
            let recipient = run(Command::new(keygen).arg("-y"), key.as_bytes())?;
            Ok((key, recipient.trim().to_owned()))
        };
        let ssh = |kind: &str, bits: &str| -> Result<(String, String)> {
            let file = scratch.join(kind);
            let args = ["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f"];
            run(Command::new("ssh-keygen").args(args).arg(&file), b"")?;
            let public = std::fs::read_to_string(file.with_extension("pub"))?;
            Ok((std::fs::read_to_string(file)?, public.trim().to_owned()))
        };
        let (ssh_ed25519, ssh_rsa) = (ssh("ed25519", "256")?, ssh("rsa", "2048")?);
        Ok(Bench { age: age(&[])?, hybrid: age(&["-pq"])?, ssh_ed25519, ssh_rsa, sops, scratch })
    }

    /// What the real sops makes of a file.
    pub(crate) fn encrypt(&self, plain: &Plain, recipients: &[&str]) -> Result<Vec<u8>> {
        let file = self.scratch.join(plain.name);
        std::fs::write(&file, plain.text)?;
        let mut command = self.command("encrypt");
        match (plain.args, recipients) {
            // There are no flags for some of them: they take a file of rules.
            ([rule, ..], [_, recipient]) if !rule.starts_with("--") => {
                let rules = self.scratch.join("rules.yaml");
                let rule = format!("{}\n  age: {recipient}", plain.args.join("\n  "));
                std::fs::write(&rules, format!("creation_rules:\n- {rule}\n"))?;
                command.env("SOPS_CONFIG", rules);
            }
            (args, recipients) => drop(command.args(args).args(recipients)),
        }
        command.arg(&file);
        run(&mut command, b"").map(String::into_bytes).with_context(|| plain.name.to_owned())
    }

    /// What the real sops makes of an encrypted file.
    pub(crate) fn decrypt(&self, name: &str, encrypted: &[u8]) -> Result<String> {
        let file = self.scratch.join(name);
        std::fs::write(&file, encrypted)?;
        run(self.command("decrypt").arg(&file), b"").with_context(|| name.to_owned())
    }

    /// The first of the files as sops prints it.
    pub(crate) fn printed(&self) -> String {
        let encrypted = self.encrypt(&PLAIN[0], &["--age", &self.age.1]).unwrap();
        self.decrypt(PLAIN[0].name, &encrypted).unwrap()
    }

    /// A command of sops's, with the keys of the bench.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut sops = Command::new(&self.sops);
        let keys = self.scratch.join("keys.txt");
        std::fs::write(&keys, format!("{}{}", self.age.0, self.hybrid.0)).unwrap();
        sops.arg(command).current_dir(self.scratch.path());
        sops.env("HOME", self.scratch.path()).env("SOPS_AGE_KEY_FILE", keys).env("SOPS_DISABLE_VERSION_CHECK", "true");
        sops.env("GNUPGHOME", self.scratch.join("gnupg")).env_remove("SOPS_AGE_KEY").env_remove("SOPS_PGP_FP");
        sops
    }

    /// The keys of age's own.
    pub(crate) fn keys(&self) -> Keys {
        keys(&[("a.agekey", &self.age.0), ("pq.agekey", &self.hybrid.0)])
    }
}

/// Keys out of entries as a Secret has them.
pub(crate) fn keys(entries: &[(&str, &str)]) -> Keys {
    let mut keys = Keys::new();
    for (name, value) in entries {
        keys.add(name, value.as_bytes()).unwrap();
    }
    keys
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<String> {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What we make of an encrypted file, as text.
pub(crate) fn ours(name: &str, encrypted: &[u8], keys: &Keys) -> Result<String, wickie_sops::Error> {
    let format = Format::of_path(name);
    assert!(wickie_sops::is_encrypted(encrypted, format), "{name} has not the mark of an encrypted file");
    wickie_sops::decrypt(encrypted, format, format, keys).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}
