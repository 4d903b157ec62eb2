//! The window for changes, as far as a cycle knows of it.

use std::time::Duration;

use super::{Cause, Clock, Moment};
use crate::policy::Extent;

/// While something waits for a window, it is looked at again this often: the wall clock may be set meanwhile.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(900);

/// Whether changes may be made now: `wickie.dev/apply-window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// They may, or there is no window.
    Open,
    /// They wait.
    Shut {
        /// When the window opens, as the wall clock stands now; nothing where that is not known.
        opens: Option<Moment>,
        /// Whether drift is repaired all the same: `wickie.dev/drift-window`.
        repairs: bool,
    },
}

impl Gate {
    /// How much a run may do.
    pub(super) fn extent(self, cause: Cause, patience: Option<Moment>) -> Extent {
        match self {
            Self::Open => Extent::All,
            // Harm is undone at any time, and what was begun to be tried is tried to its end.
            Self::Shut { .. } if cause == Cause::Rollback || patience.is_some() => Extent::All,
            Self::Shut { repairs: true, .. } => Extent::Repairs,
            Self::Shut { repairs: false, .. } => Extent::Nothing,
        }
    }

    /// When it is worth a look whether the window is open.
    pub(super) fn opening(self, clock: Clock) -> Moment {
        let later = clock.now.saturating_add(LOOK_AGAIN);
        match self {
            Self::Open => clock.now,
            Self::Shut { opens, .. } => opens.map_or(later, |opens| opens.min(later)),
        }
    }
}
