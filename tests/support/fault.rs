//! What can go wrong with a request, on order.
//!
//! ```no_run
//! # use wickie_testbench::{Fault, Front};
//! # fn f(front: &Front) {
//! front.inject(Fault::Cut { after: 10_000 }.on(|request| request.path.ends_with("/git-upload-pack")).once());
//! front.inject(Fault::answer(429).retry_after(2).times(3));
//! front.heal();
//! front.down();
//! # }
//! ```

use std::fmt;

use crate::front::Request;

/// One way in which a request fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Answered at once with this status, and never served.
    Answer {
        /// HTTP status.
        status: u16,
        /// Seconds in a `Retry-After` header.
        retry_after: Option<u64>,
        /// The body.
        body: String,
    },
    /// Answered with 307 and this `Location`; a final `{path}` in it becomes the path and query of the request.
    Redirect(String),
    /// Accepted and never answered.
    Stall,
    /// The connection breaks before the request is served.
    Refuse,
    /// The request is served, and the connection breaks instead of the answer.
    Lose,
    /// The answer's body comes at this rate.
    Slow {
        /// Rate.
        bytes_per_second: u64,
    },
    /// The connection breaks after this many bytes of the answer's body.
    Cut {
        /// Bytes.
        after: u64,
    },
    /// The answer's body comes to a halt after this many bytes, with the connection open.
    Halt {
        /// Bytes.
        after: u64,
    },
    /// One bit of this byte of the answer's body is wrong.
    Corrupt {
        /// Counted from 0.
        offset: u64,
    },
}

/// Whether something happens before a request is served, or after it was and before its answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing has happened yet.
    Before,
    /// It has taken effect, and the client does not know.
    After,
}

pub(crate) type Matcher = Box<dyn Fn(&Request) -> bool + Send>;

/// A [`Fault`] with the requests that it strikes: at first all of them, for ever.
pub struct Rule {
    pub(crate) fault: Fault,
    pub(crate) matches: Matcher,
    pub(crate) skip: usize,
    pub(crate) left: Option<usize>,
}

impl Fault {
    /// [`Fault::Answer`] without `Retry-After` and with an empty body.
    pub fn answer(status: u16) -> Self {
        Self::Answer { status, retry_after: None, body: String::new() }
    }

    /// With a `Retry-After` header, if this is an answer.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        if let Self::Answer { retry_after, .. } = &mut self {
            *retry_after = Some(seconds);
        }
        self
    }

    /// Only requests like these.
    pub fn on(self, matches: impl Fn(&Request) -> bool + Send + 'static) -> Rule {
        Rule::from(self).on(matches)
    }

    /// Only the next request.
    pub fn once(self) -> Rule {
        self.times(1)
    }

    /// Only the next `count` requests.
    pub fn times(self, count: usize) -> Rule {
        Rule::from(self).times(count)
    }
}

impl Rule {
    /// Only requests like these.
    #[must_use]
    pub fn on(mut self, matches: impl Fn(&Request) -> bool + Send + 'static) -> Self {
        self.matches = Box::new(matches);
        self
    }

    /// Only the next such request.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only the next `count` such requests.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.left = Some(count);
        self
    }

    /// Lets `count` such requests pass first.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Whether it strikes this request; counts.
    pub(crate) fn strikes(&mut self, request: &Request) -> bool {
        if self.left == Some(0) || !(self.matches)(request) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        true
    }
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self { fault, matches: Box::new(|_| true), skip: 0, left: None }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("fault", &self.fault)
            .field("skip", &self.skip)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Something of the test's to do at the Nth request like these.
pub(crate) struct Hook {
    pub(crate) when: When,
    pub(crate) matches: Matcher,
    pub(crate) skip: usize,
    pub(crate) action: Option<Box<dyn FnOnce() + Send>>,
}

impl Hook {
    /// The action, if its request is this one.
    pub(crate) fn due(&mut self, request: &Request) -> Option<Box<dyn FnOnce() + Send>> {
        if self.action.is_none() || !(self.matches)(request) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.action.take()
    }
}
