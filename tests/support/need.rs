//! Programs that a test needs beyond Rust, Go, git and a C compiler.
//!
//! ```no_run
//! # use wickie_testbench::need;
//! # fn test() {
//! let Some(_gpg) = need::gpg() else { return need::skip("gpg is not installed: apt install gnupg") };
//! # }
//! ```

use std::path::PathBuf;

/// Says why this test does not run here. Where nothing may be skipped (`WICKIE_NO_SKIP=1`, as in CI) it fails instead.
///
/// # Panics
/// With `WICKIE_NO_SKIP` set.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("WICKIE_NO_SKIP").is_none(), "nothing may be skipped here, but {test} would be: {reason}");
    eprintln!("skipped {test}: {reason}");
}

/// A program on the `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// GnuPG, for PGP signatures.
pub fn gpg() -> Option<PathBuf> {
    program("gpg")
}

/// OpenSSH's key tool: the independent judge of our SSH signatures.
pub fn ssh_keygen() -> Option<PathBuf> {
    program("ssh-keygen")
}

/// OpenSSH's server, which is often in a folder that is not on the `PATH`.
pub fn sshd() -> Option<PathBuf> {
    program("sshd").or_else(|| Some(PathBuf::from("/usr/sbin/sshd")).filter(|file| file.is_file()))
}

/// kubectl.
pub fn kubectl() -> Option<PathBuf> {
    program("kubectl")
}
