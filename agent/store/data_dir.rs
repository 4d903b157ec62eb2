//! The data directory and its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{FloorFile, StoreError};

/// Where an agent keeps its state: the store, its lock and its control socket.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// The right to write to a data directory. It ends with the process, however that ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl DataDir {
    /// The directory at `path`; nothing is made yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.0.join("wickie.db")
    }

    /// The copy of the trust floors beside the store.
    pub fn floors(&self) -> FloorFile {
        FloorFile::new(self.0.join("floors"))
    }

    /// Where somebody may put permits for steps back: a folder of files, read when a step back is offered.
    pub fn permits(&self) -> PathBuf {
        self.0.join("permits")
    }

    /// The control socket of the agent that has the lock.
    pub fn socket(&self) -> PathBuf {
        self.0.join("wickie.sock")
    }

    /// Makes the directory where it is missing, readable by its owner alone: it will hold what Git holds.
    pub fn create(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|source| StoreError::DataDir { path: self.0.clone(), source })
    }

    /// The process that has the directory, as it wrote itself down; nothing where nobody has it. The lock is not touched.
    pub fn holder(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.0.join("lock");
        let inode = format!(":{}", fs::metadata(&path).ok()?.ino());
        // "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF". Source: proc_locks(5).
        let held = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&"FLOCK") && words.iter().any(|word| word.ends_with(&inode))
        };
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().any(held).then(|| fs::read_to_string(&path).unwrap_or_default().trim().to_owned())
    }

    /// Takes the directory for this process, or says who has it.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.0.join("lock");
        let failed = |source| StoreError::DataDir { path: self.0.clone(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                Ok(Lock(file))
            }
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                Err(StoreError::Locked { path: self.0.clone(), holder })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_told_who_has_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temporary.path().join("data"));
        dir.create().unwrap();
        let held = dir.lock().unwrap();
        let refused = dir.lock().unwrap_err();
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        assert_eq!(dir.holder(), Some(std::process::id().to_string()));
        drop(held);
        assert_eq!(dir.holder(), None);
        dir.lock().unwrap();
    }
}
