//! Repositories, made by the real git; signed, and forged, object by object.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::signer::Signer;

/// A bare repository with a work tree beside it. A commit stands in the bare repository at once; nothing is pushed.
#[derive(Clone, Debug)]
pub struct Repo {
    bare: PathBuf,
    work: PathBuf,
    index: PathBuf,
    home: PathBuf,
}

/// What a commit says. [`Repo::commit`] fills it in as one does.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The tree.
    pub tree: String,
    /// Its parents.
    pub parents: Vec<String>,
    /// `Name <mail>`, author and committer.
    pub author: String,
    /// Seconds since 1970, of author and committer.
    pub when: i64,
    /// The message, without a final newline.
    pub message: String,
}

impl Repo {
    /// Makes `name.git` in `root`, and the work tree `name` beside it. Its branch is `main`, without a commit yet.
    ///
    /// # Errors
    /// When git is not there.
    pub fn create(root: &Path, name: &str) -> Result<Self> {
        let repo = Self {
            bare: root.join(format!("{name}.git")),
            work: root.join(name),
            index: root.join(format!("{name}.index")),
            home: root.join("home"),
        };
        fs::create_dir_all(&repo.work)?;
        let mut init = isolated(&repo.home);
        init.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main"]).arg(&repo.bare);
        run(init, b"")?;
        Ok(repo)
    }

    /// The bare repository.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// The work tree.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Writes a file of the work tree.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.work.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&self.work))?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Writes many.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_all(&self, files: &[(String, String)]) -> Result<()> {
        files.iter().try_for_each(|(path, text)| self.write(path, text))
    }

    /// Removes a file or folder of the work tree.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, path: &str) -> Result<()> {
        let path = self.work.join(path);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))
    }

    /// Commits the work tree on `main`; returns the commit's id.
    ///
    /// # Errors
    /// When git or the signer fails.
    pub fn commit(&self, message: &str, signer: &Signer) -> Result<String> {
        self.commit_on("main", message, signer)
    }

    /// Commits the work tree on a branch, whether it exists or not.
    ///
    /// # Errors
    /// When git or the signer fails.
    pub fn commit_on(&self, branch: &str, message: &str, signer: &Signer) -> Result<String> {
        let name = format!("refs/heads/{branch}");
        let id = self.object("commit", &self.draft(&name, message)?.signed(signer)?)?;
        self.set_ref(&name, &id)?;
        Ok(id)
    }

    /// The commit that [`Repo::commit_on`] would make, for a test that wants another date or other parents.
    ///
    /// # Errors
    /// When git fails.
    pub fn draft(&self, reference: &str, message: &str) -> Result<Commit> {
        self.git(&["add", "--all", "."])?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is past 1970")?;
        Ok(Commit {
            tree: self.git(&["write-tree"])?,
            parents: self.git(&["rev-parse", "--verify", "--quiet", reference]).into_iter().collect(),
            author: "Ada <ada@example.com>".into(),
            when: i64::try_from(now.as_secs())?,
            message: message.to_owned(),
        })
    }

    /// Makes an annotated tag; returns the id of the tag object.
    ///
    /// # Errors
    /// When git or the signer fails.
    pub fn tag(&self, name: &str, target: &str, message: &str, signer: &Signer) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is past 1970")?.as_secs();
        let mut bytes = format!(
            "object {target}\ntype commit\ntag {name}\ntagger Ada <ada@example.com> {now} +0000\n\n{message}\n"
        )
        .into_bytes();
        if let Some(signature) = signer.sign(&bytes)? {
            bytes.extend_from_slice(signature.trim_end().as_bytes());
            bytes.push(b'\n');
        }
        let id = self.object("tag", &bytes)?;
        self.set_ref(&format!("refs/tags/{name}"), &id)?;
        Ok(id)
    }

    /// Writes an object of any bytes, without a check; returns its id.
    ///
    /// # Errors
    /// When git fails.
    pub fn object(&self, kind: &str, bytes: &[u8]) -> Result<String> {
        let mut command = self.command();
        command.args(["hash-object", "-w", "--literally", "--stdin", "-t", kind]);
        Ok(String::from_utf8(run(command, bytes)?)?.trim().to_owned())
    }

    /// Writes a tree of these lines, as `git ls-tree` prints them; returns its id.
    ///
    /// # Errors
    /// When git fails.
    pub fn tree(&self, lines: &str) -> Result<String> {
        let mut command = self.command();
        command.arg("mktree");
        Ok(String::from_utf8(run(command, lines.as_bytes())?)?.trim().to_owned())
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read_object(&self, id: &str) -> Result<Vec<u8>> {
        let kind = self.git(&["cat-file", "-t", id])?;
        let mut command = self.command();
        command.args(["cat-file", &kind, id]);
        run(command, b"")
    }

    /// A copy of an object with one text in it replaced, whatever that does to its signature; returns the copy's id.
    ///
    /// # Errors
    /// When the text is not in it.
    pub fn tampered(&self, id: &str, from: &str, to: &str) -> Result<String> {
        let text = String::from_utf8(self.read_object(id)?)?;
        ensure!(text.contains(from), "{id} does not contain {from:?}");
        self.object(&self.git(&["cat-file", "-t", id])?, text.replacen(from, to, 1).as_bytes())
    }

    /// Lets a full reference name (`refs/heads/main`) point to an object, wherever it pointed before.
    ///
    /// # Errors
    /// When git fails.
    pub fn set_ref(&self, name: &str, id: &str) -> Result<()> {
        self.git(&["update-ref", name, id]).map(drop)
    }

    /// What a revision resolves to.
    ///
    /// # Errors
    /// When it does not.
    pub fn id(&self, revision: &str) -> Result<String> {
        self.git(&["rev-parse", "--verify", revision])
    }

    /// Runs git in this repository and returns what it prints, without the final newline.
    ///
    /// # Errors
    /// With what it says, when it fails.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command();
        command.args(arguments);
        Ok(String::from_utf8(run(command, b"")?)?.trim_end().to_owned())
    }

    fn command(&self) -> Command {
        let mut command = isolated(&self.home);
        command
            .env("GIT_DIR", &self.bare)
            .env("GIT_WORK_TREE", &self.work)
            .env("GIT_INDEX_FILE", &self.index)
            .current_dir(&self.work);
        command
    }
}

impl Commit {
    /// The bytes of the commit, signed.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn signed(&self, signer: &Signer) -> Result<Vec<u8>> {
        let unsigned = self.bytes(None);
        Ok(match signer.sign(&unsigned)? {
            None => unsigned,
            Some(signature) => self.bytes(Some(&signature)),
        })
    }

    /// The bytes of the commit with this text as its signature, whatever it is.
    pub fn bytes(&self, signature: Option<&str>) -> Vec<u8> {
        let mut text = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            text.push_str(&format!("parent {parent}\n"));
        }
        for role in ["author", "committer"] {
            text.push_str(&format!("{role} {} {} +0000\n", self.author, self.when));
        }
        if let Some(signature) = signature {
            // Further lines of a header begin with a space.
            text.push_str(&format!("gpgsig {}\n", signature.trim_end().replace('\n', "\n ")));
        }
        text.push_str(&format!("\n{}\n", self.message));
        text.into_bytes()
    }
}

/// A `git` that knows nothing of this machine's or this user's settings.
pub fn isolated(home: &Path) -> Command {
    let mut command = Command::new("git");
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("GIT_") {
            command.env_remove(key);
        }
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
    command.env("HOME", home).env("LC_ALL", "C");
    command
}

fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("run git; is it installed?")?;
    child.stdin.take().context("stdin is piped")?.write_all(input)?;
    let output = child.wait_with_output()?;
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    ensure!(
        output.status.success(),
        "git {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output.stdout)
}
