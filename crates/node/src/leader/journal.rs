//! The thread that writes the registry, so that the core never waits for a disk.

use crate::disk::registry::{Registry, RegistryError};
use std::{io, sync::mpsc as blocking, thread, thread::JoinHandle};
use tepui_leader::RegistryChange;
use tokio::sync::mpsc;

/// Batches to write. At most one is on its way: the outbox sees to that.
pub(super) type Records = blocking::Sender<Vec<RegistryChange>>;
/// One result per batch, in order.
pub(super) type Written = mpsc::UnboundedReceiver<Result<(), RegistryError>>;

/// Starts the thread; it ends once `Records` is dropped, and lets go of the registry.
pub(super) fn start(mut registry: impl Registry) -> io::Result<(Records, Written, JoinHandle<()>)> {
    let (records, batches) = blocking::channel::<Vec<RegistryChange>>();
    let (results, written) = mpsc::unbounded_channel();
    let thread = thread::Builder::new()
        .name("registry".to_owned())
        .spawn(move || {
            for batch in batches {
                if results.send(registry.apply(&batch)).is_err() {
                    return;
                }
            }
        })?;
    Ok((records, written, thread))
}
