//! How many connections this process can have open: as many as the system lets it have files.
//!
//! The rule needs no flag. The soft limit is raised to the hard one. A quarter of it, but at most
//! 1,024, is kept for files and containers; the rest is one pool that accepted connections and
//! links share, of which neither may take more than three quarters.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{io, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const RESERVE_MAX: usize = 1024;
/// More than this helps nobody, and "unlimited" is no number.
const OPEN_FILES_MAX: usize = 1 << 20;
/// What is assumed when the system does not say.
const OPEN_FILES_ASSUMED: usize = 1024;

/// A pool of file descriptors. Clones share it.
#[derive(Debug, Clone)]
pub struct OpenFiles {
    pool: Arc<Semaphore>,
    size: usize,
}

/// The right to have one file open.
pub(crate) type OpenFile = OwnedSemaphorePermit;

impl Default for OpenFiles {
    /// As many as anybody wants.
    fn default() -> Self {
        Self::of(OPEN_FILES_MAX)
    }
}

impl OpenFiles {
    /// Raises the limit of this process as far as the system allows and makes a pool of what may be
    /// used for connections. What could not be raised is only logged.
    pub fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let count = |limit: Option<u64>| {
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            limit.map_or(OPEN_FILES_MAX, |limit| limit.min(OPEN_FILES_MAX))
        };
        let (current, maximum) = (count(limit.current), count(limit.maximum));
        let raised = Rlimit {
            current: Some(maximum as u64),
            maximum: limit.maximum,
        };
        let open_files = match setrlimit(Resource::Nofile, raised).map_err(io::Error::from) {
            Ok(()) => maximum,
            Err(error) => {
                tracing::warn!(%error, current, maximum, "cannot raise the limit of open files");
                current
            }
        };
        Self::within(open_files)
    }

    /// The pool of a process that may have so many files open.
    pub fn within(open_files: usize) -> Self {
        let open_files = match open_files {
            0 => OPEN_FILES_ASSUMED,
            some => some,
        };
        Self::of(open_files - (open_files / 4).min(RESERVE_MAX))
    }

    fn of(size: usize) -> Self {
        let size = size.max(1);
        Self {
            pool: Arc::new(Semaphore::new(size)),
            size,
        }
    }

    /// What connections of one direction may take of it.
    pub fn share(&self) -> usize {
        (self.size / 4 * 3).max(1)
    }

    /// One, if there is one.
    pub(crate) fn try_take(&self) -> Option<OpenFile> {
        self.pool.clone().try_acquire_owned().ok()
    }

    /// One, as soon as there is one.
    pub(crate) async fn take(&self) -> Option<OpenFile> {
        self.pool.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_at_most_a_thousand_is_kept_for_other_files() {
        for (open_files, size, share) in [
            (64, 48, 36),
            (1024, 768, 576),
            (20_000, 18_976, 14_232),
            (1 << 20, (1 << 20) - 1024, 785_664),
        ] {
            let pool = OpenFiles::within(open_files);
            assert_eq!((pool.size, pool.share()), (size, share));
        }
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let pool = OpenFiles::raise();
        let limit = getrlimit(Resource::Nofile);
        assert!(
            limit.current.is_none()
                || limit.current == limit.maximum
                || limit.current >= Some(1 << 20)
        );
        assert!(pool.share() >= 16);
    }
}
