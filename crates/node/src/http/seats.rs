//! The connections that are open, and which of them may be closed when there are too many.
//!
//! A connection is a newcomer until it has made a whole request. When all seats are taken, the
//! oldest newcomer goes: any number of silent or slow connections cannot lock peers out that talk.

use crate::net::{OpenFile, OpenFiles};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Seats {
    open_files: OpenFiles,
    free: Arc<Semaphore>,
    count: u32,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: FxHashMap<u64, AbortHandle>,
    newcomers: BTreeSet<u64>,
    /// Those that make requests.
    requests: FxHashSet<u64>,
}

/// One connection's place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    known: AtomicBool,
    _free: Free,
}

/// The right to sit down.
#[derive(Debug)]
pub(super) struct Free {
    _place: OwnedSemaphorePermit,
    _file: OpenFile,
}

impl Seats {
    pub(super) fn new(count: usize, open_files: OpenFiles) -> Arc<Self> {
        let count = count.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let seats = Self {
            open_files,
            free: Arc::new(Semaphore::new(count)),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            taken: Mutex::default(),
        };
        Arc::new(seats)
    }

    /// Closes the oldest newcomer, if there is one.
    pub(super) fn make_room(&self) -> bool {
        let mut taken = self.taken();
        let Some(oldest) = taken.newcomers.pop_first() else {
            return false;
        };
        let connection = taken.connections.get(&oldest).cloned();
        drop(taken);
        if let Some(connection) = connection {
            connection.abort();
        }
        true
    }

    /// A free seat; a newcomer loses its own if need be. Waits when everybody is known.
    pub(super) async fn seat(&self) -> Option<Free> {
        let place = match self.free.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.make_room();
                self.free.clone().acquire_owned().await.ok()?
            }
        };
        let file = match self.open_files.try_take() {
            Some(file) => file,
            None => {
                self.make_room();
                self.open_files.take().await?
            }
        };
        Some(Free {
            _place: place,
            _file: file,
        })
    }

    /// Runs a connection in its seat.
    pub(super) fn run<F>(self: &Arc<Self>, free: Free, connection: impl FnOnce(Seat) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Held until the connection is listed: it cannot be known, or gone, before.
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        let seat = Seat {
            seats: self.clone(),
            number,
            known: AtomicBool::new(false),
            _free: free,
        };
        let task = tokio::spawn(connection(seat)).abort_handle();
        taken.connections.insert(number, task);
        taken.newcomers.insert(number);
    }

    /// Waits until all are gone.
    pub(super) async fn empty(&self) {
        // Never closed.
        let _ = self.free.acquire_many(self.count).await;
    }

    /// Ends all that are left, or all that make no requests.
    pub(super) fn close(&self, spare_requests: bool) {
        let taken = self.taken();
        let left = taken.connections.iter();
        let left = left.filter(|(number, _)| !(spare_requests && taken.requests.contains(number)));
        let left: Vec<_> = left.map(|(_, connection)| connection.clone()).collect();
        drop(taken);
        left.iter().for_each(AbortHandle::abort);
    }

    /// How many are taken.
    pub(super) fn len(&self) -> usize {
        self.taken().connections.len()
    }

    /// Every change is one step: a panic elsewhere leaves this whole.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The connection made a whole request.
    pub(super) fn known(&self) {
        if !self.known.swap(true, Ordering::Relaxed) {
            self.seats.taken().newcomers.remove(&self.number);
        }
    }

    /// The connection makes requests from now on.
    pub(super) fn requests(&self) {
        self.seats.taken().requests.insert(self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.newcomers.remove(&self.number);
        taken.requests.remove(&self.number);
        taken.connections.remove(&self.number);
    }
}
