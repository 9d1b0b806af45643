//! Holds back what was queued before, while its sender may not speak.
//!
//! A core's thread asks before it queues anything, but what is queued is written by other tasks, and a
//! process may be stopped for minutes in between.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// How often a closed valve is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Open unless somebody says otherwise.
#[derive(Clone, Default)]
pub struct Valve(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Valve {
    /// Open while `open` says so, which is asked before every write.
    pub fn new(open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(open)))
    }

    fn is_open(&self) -> bool {
        self.0.as_ref().is_none_or(|open| open())
    }

    /// Ready while it is open. `timer` is there only while it is not.
    pub(crate) fn poll_open(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<()> {
        while !self.is_open() {
            let look = timer.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
            ready!(look.as_mut().poll(cx));
            *timer = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Valve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Valve").field(&self.is_open()).finish()
    }
}
