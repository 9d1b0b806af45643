//! The server: accepts connections within [`Limits`] and serves each by what it says: libprocess
//! messages ([`super::messages`]) or requests ([`super::requests`]). Both end at a [`Service`].

use super::{
    Limits, Request, Response,
    delivery::Delivery,
    messages::Connection,
    seats::{Free, Seats},
};
use crate::{log_budget::LogBudget, net::Transport};
use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

/// How long to wait when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long open responses may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines about dropped messages in a second.
const LOG_LINES: u32 = 10;

/// What answers requests and takes messages.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn request(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// Takes one message. `false`: there is no such process (404). Messages of one connection
    /// arrive one after the other.
    fn message(&self, delivery: Delivery) -> impl Future<Output = bool> + Send;
}

/// A running server. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// What all connections share.
pub(super) struct Shared<S> {
    pub(super) limits: Arc<Limits>,
    pub(super) service: Arc<S>,
    pub(super) transport: Transport,
    /// Never read before the server stops, so that a clone hears of that at any time.
    pub(super) stopped: watch::Receiver<bool>,
    log: LogBudget,
}

impl<S> Shared<S> {
    /// Something of a peer was dropped: `log` says so, with how many such lines were left out
    /// before, if it is not one too many.
    pub(super) fn dropped(&self, log: impl FnOnce(u64)) {
        if let Some(more) = self.log.take() {
            log(more);
        }
    }
}

impl Server {
    /// Serves connections to `listener` until stopped.
    pub fn start<S: Service>(
        listener: TcpListener,
        transport: Transport,
        limits: Limits,
        service: Arc<S>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            limits: Arc::new(limits),
            service,
            transport,
            stopped: stopped.clone(),
            log: LogBudget::new(LOG_LINES),
        };
        let task = tokio::spawn(accept(listener, Arc::new(shared), stopped));
        Self { stop, task }
    }

    /// Accepts no more connections, lets responses in progress finish for a moment, and closes.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // An error means that the task is gone already.
        let _ = self.task.await;
    }
}

async fn accept<S: Service>(
    listener: TcpListener,
    shared: Arc<Shared<S>>,
    mut stopped: watch::Receiver<bool>,
) {
    let seats = Seats::new(
        shared.limits.connections_max,
        shared.limits.open_files.clone(),
    );
    loop {
        let arrival = tokio::select! {
            arrival = arrival(&listener, &seats) => arrival,
            _ = stopped.changed() => break,
        };
        let Some((tcp, remote, free)) = arrival else {
            break;
        };
        let shared = shared.clone();
        seats.run(free, |seat| Connection::new(tcp, remote, shared, seat));
    }
    drop(listener);
    // Who makes requests hears of the end from `stopped`.
    seats.close(true);
    if timeout(DRAIN_TIMEOUT, seats.empty()).await.is_err() {
        tracing::debug!(
            open = seats.len(),
            "closing connections that are still open"
        );
        seats.close(false);
    }
}

/// The next connection, and its seat. What is not accepted waits in the kernel's queue.
async fn arrival(
    listener: &TcpListener,
    seats: &Arc<Seats>,
) -> Option<(TcpStream, SocketAddr, Free)> {
    loop {
        match listener.accept().await {
            Ok((tcp, remote)) => return Some((tcp, remote, seats.seat().await?)),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, open = seats.len(), "cannot accept a connection");
                if !seats.make_room() {
                    tokio::time::sleep(ACCEPT_RETRY).await;
                } else {
                    // Its descriptor is free once its task has run.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// The connection broke before we took it: nothing is wrong with the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted
    )
}
