//! The connections that are open, and which of them may be closed when there are too many.
//!
//! A connection is a newcomer until it has made a whole request. When all seats are taken, the
//! oldest newcomer goes: any number of silent or slow connections cannot lock peers out that talk.

use rustc_hash::FxHashMap;
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
    free: Arc<Semaphore>,
    count: u32,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: FxHashMap<u64, AbortHandle>,
    newcomers: BTreeSet<u64>,
}

/// One connection's place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    known: AtomicBool,
    _free: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let count = count.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let seats = Self {
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
    pub(super) async fn seat(self: &Arc<Self>) -> Option<OwnedSemaphorePermit> {
        if let Ok(free) = self.free.clone().try_acquire_owned() {
            return Some(free);
        }
        self.make_room();
        self.free.clone().acquire_owned().await.ok()
    }

    /// Runs a connection in its seat.
    pub(super) fn run<F>(
        self: &Arc<Self>,
        free: OwnedSemaphorePermit,
        connection: impl FnOnce(Seat) -> F,
    ) where
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

    /// Ends all that are left.
    pub(super) fn close(&self) {
        let left: Vec<_> = self.taken().connections.values().cloned().collect();
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
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.newcomers.remove(&self.number);
        taken.connections.remove(&self.number);
    }
}
