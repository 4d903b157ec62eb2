//! What the service manager is told: that the agent is there, how it does, and that it lives.
//!
//! The protocol is one datagram of `NAME=VALUE` lines to the socket that `NOTIFY_SOCKET` names. Source: sd_notify(3),
//! sd_watchdog_enabled(3). Where no manager asks for it, nothing is sent.
//!
//! Guarantee: telling never waits. What the manager does not take now (it is busy, or being replaced) is told again
//! with the next word.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The longest status, in bytes: a line of `systemctl status`, not a report.
const STATUS_BYTES: usize = 300;

/// The service manager that started this process, if one did.
#[derive(Debug, Default)]
pub struct Supervisor {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    ready: bool,
    /// The status that was sent last.
    status: Option<String>,
    /// What the last try to tell something met; said once.
    trouble: Option<String>,
}

/// The environment asks for what cannot be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupervisorError {
    /// The socket's name.
    #[error("NOTIFY_SOCKET={0:?} names no socket that can be spoken to: a path from / or an abstract name from @")]
    Socket(OsString),
    /// The time of the watchdog.
    #[error("WATCHDOG_USEC={0:?} is no number of microseconds above 0")]
    Watchdog(OsString),
    /// No datagram socket is to be had.
    #[error("no socket can be made for NOTIFY_SOCKET: {0}")]
    Unavailable(String),
}

impl Supervisor {
    /// Who started this process, by its environment.
    ///
    /// # Errors
    /// Where the environment names a manager that cannot be spoken to. It will then wait in vain, so it must be said.
    pub fn of_process() -> Result<Self, SupervisorError> {
        Self::from(|name| std::env::var_os(name), std::process::id())
    }

    /// Whoever listens at `path`, who waits for a sign of life each `watchdog`.
    #[cfg(test)]
    pub(crate) fn at(path: &std::path::Path, watchdog: Duration) -> Result<Self, SupervisorError> {
        let get = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.into()),
            "WATCHDOG_USEC" => Some(watchdog.as_micros().to_string().into()),
            _ => None,
        };
        Self::from(get, std::process::id())
    }

    fn from(get: impl Fn(&str) -> Option<OsString>, pid: u32) -> Result<Self, SupervisorError> {
        let Some(name) = get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let address = address(&name).ok_or(SupervisorError::Socket(name))?;
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let socket = socket.map_err(|error| SupervisorError::Unavailable(error.to_string()))?;
        // Another process's watchdog, where the variable was inherited through a wrapper.
        let ours = get("WATCHDOG_PID").is_none_or(|of| of.to_str().and_then(|of| of.parse().ok()) == Some(pid));
        let watchdog = get("WATCHDOG_USEC").filter(|_| ours).map(|text| {
            let time = text.to_str().and_then(|text| text.parse().ok()).filter(|time| *time > 0);
            time.map(Duration::from_micros).ok_or(SupervisorError::Watchdog(text))
        });
        Ok(Self { to: Some((socket, address)), watchdog: watchdog.transpose()?, ..Self::default() })
    }

    /// Whether anybody listens.
    pub fn is_there(&self) -> bool {
        self.to.is_some()
    }

    /// How long may pass between two signs of life, where they are waited for.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The agent is at work. Told once; whether whoever listens knows it.
    pub fn ready(&mut self) -> bool {
        self.ready = self.ready || self.tell("READY=1");
        self.ready || self.to.is_none()
    }

    /// How it does, in one line for people. Told when it changes; line breaks become spaces, and what is too long is cut.
    /// Tells whether whoever listens knows it.
    pub fn status(&mut self, status: &str) -> bool {
        let status = one_line(status);
        if self.status.as_ref() != Some(&status) {
            self.status = self.tell(&format!("STATUS={status}")).then_some(status);
        }
        self.status.is_some() || self.to.is_none()
    }

    /// A sign of life.
    pub fn alive(&mut self) {
        if self.watchdog.is_some() {
            self.tell("WATCHDOG=1");
        }
    }

    /// The agent ends because it was told to.
    pub fn stopping(&mut self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Whether it was taken.
    fn tell(&mut self, words: &str) -> bool {
        let Some((socket, to)) = &self.to else { return false };
        match socket.send_to_addr(words.as_bytes(), to) {
            Ok(_) => {
                self.trouble = None;
                true
            }
            Err(error) => {
                let trouble = error.to_string();
                if self.trouble.as_ref() != Some(&trouble) && error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!("the service manager cannot be told anything: {trouble}; it is tried again");
                    self.trouble = Some(trouble);
                }
                false
            }
        }
    }
}

fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    let words = text.split(|letter: char| letter.is_control() || letter == ' ').filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if line.len() > STATUS_BYTES {
        const CUT: &str = " ...";
        line.truncate(line.floor_char_boundary(STATUS_BYTES - CUT.len()));
        line.push_str(CUT);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is told: a real socket, bound to `address`.
    struct Manager(UnixDatagram);

    impl Manager {
        fn at(address: &SocketAddr) -> Self {
            let socket = UnixDatagram::bind_addr(address).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self(socket)
        }

        fn heard(&self) -> Vec<String> {
            let mut bytes = [0; 4096];
            std::iter::from_fn(|| self.0.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec()))
                .map(|bytes| String::from_utf8(bytes).unwrap())
                .collect()
        }
    }

    fn supervisor(variables: &[(&str, &str)]) -> Result<Supervisor, SupervisorError> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        Supervisor::from(get, 7)
    }

    #[test]
    fn each_word_is_told_once_and_signs_of_life_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
        let socket = path.to_str().unwrap();
        let mut told = supervisor(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "2000000")]).unwrap();
        assert_eq!(told.watchdog(), Some(Duration::from_secs(2)));
        told.ready();
        told.ready();
        told.status("one");
        told.status("one");
        told.status("two\nREADY=0\r\t of \u{7}it");
        told.alive();
        told.alive();
        told.stopping();
        let expected = [
            "READY=1",
            "STATUS=one",
            "STATUS=two READY=0 of it",
            "WATCHDOG=1",
            "WATCHDOG=1",
            "STOPPING=1\nSTATUS=stopping",
        ];
        assert_eq!(manager.heard(), expected);
    }

    #[test]
    fn an_abstract_name_is_a_socket_too() {
        let name = format!("wickie-notify-{}", std::process::id());
        let manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
        supervisor(&[("NOTIFY_SOCKET", &format!("@{name}"))]).unwrap().ready();
        assert_eq!(manager.heard(), ["READY=1"]);
    }

    #[test]
    fn what_was_not_taken_is_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let mut told = supervisor(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        told.ready();
        told.status("one");
        // The manager comes back, at the same address.
        let manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
        told.ready();
        told.status("one");
        assert_eq!(manager.heard(), ["READY=1", "STATUS=one"]);
        // One that takes nothing keeps nobody waiting, and is told when it does.
        let taken = (0..10_000).filter(|number| told.status(&number.to_string())).count();
        assert!(taken < 10_000, "the queue of a socket has an end");
        assert_eq!(manager.heard().len(), taken);
        assert!(told.status("9999"));
        assert_eq!(manager.heard(), ["STATUS=9999"]);
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let with = |more: &[(&str, &str)]| {
            let mut all = vec![("NOTIFY_SOCKET", "/run/systemd/notify")];
            all.extend(more);
            supervisor(&all).map(|told| told.watchdog())
        };
        assert_eq!(with(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "7")]), Ok(Some(Duration::from_micros(5))));
        assert_eq!(with(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "8")]), Ok(None));
        assert_eq!(with(&[]), Ok(None));
        for wrong in ["0", "-1", "soon", ""] {
            assert_eq!(with(&[("WATCHDOG_USEC", wrong)]), Err(SupervisorError::Watchdog(wrong.into())));
        }
    }

    #[test]
    fn without_a_manager_nothing_is_told_and_one_that_cannot_be_reached_is_refused() {
        for none in [&[][..], &[("NOTIFY_SOCKET", "")][..]] {
            let told = supervisor(none).unwrap();
            assert!(!told.is_there() && told.watchdog().is_none());
        }
        for wrong in ["vsock:2:1234", "run/notify", "@"] {
            let refused = supervisor(&[("NOTIFY_SOCKET", wrong)]).unwrap_err();
            assert!(refused.to_string().contains(wrong), "{refused}");
        }
    }

    #[test]
    fn a_status_is_bounded_and_cut_between_letters() {
        let line = one_line(&"ø".repeat(400));
        assert!(line.len() <= STATUS_BYTES && line.ends_with("ø ..."), "{line}");
        assert_eq!(one_line("short"), "short");
    }
}
