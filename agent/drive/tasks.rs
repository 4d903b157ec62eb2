//! The tasks that the loop has begun: they end with it.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::task::{AbortHandle, JoinSet};

/// Tasks of one loop. Clones begin tasks of the same loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Rc<RefCell<JoinSet<()>>>);

impl Tasks {
    /// Begins one, on the thread of the loop.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let mut tasks = self.0.borrow_mut();
        // Those that have ended are forgotten, so that no more are kept than were ever at work at once.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task)
    }

    /// Ends all of them. Once it returns, none of them does anything any more.
    pub(super) async fn end(self) {
        let mut tasks = self.0.take();
        tasks.shutdown().await;
    }
}
