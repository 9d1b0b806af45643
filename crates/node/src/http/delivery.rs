//! A message on its way to a core, and the right to have it wait there.
//!
//! A follower that hears no answer repeats its registration. While thousands wait for a new leader, the
//! repetitions would make them wait longer: one that says, byte for byte, what still waits for the core is
//! dropped before it is read. The one that waits will be answered.

use super::{Service, server::Shared};
use bytes::Bytes;
use http::StatusCode;
use rustc_hash::FxHasher;
use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tepui_protocol::{
    libprocess::{Envelope, EnvelopeError, HostedEnvelope},
    peer::{PeerMessage, Pid},
};
use tokio::{
    net::lookup_host,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long the host of a sender may take to be found.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A message for one of our processes.
#[derive(Debug)]
pub struct Delivery {
    /// Who sent it.
    pub from: Pid,
    /// The process that it is for.
    pub to: String,
    /// What it says.
    pub message: PeerMessage,
    /// To be held until it is handled: a connection may only have a few messages that are not, so
    /// that whoever floods waits for itself.
    pub permit: Permit,
}

/// Messages that are repeated until they are answered.
const REPEATED: [&str; 2] = [
    "mesos.internal.RegisterSlaveMessage",
    "mesos.internal.ReregisterSlaveMessage",
];

/// The right of one input to wait for a core. Dropped, it is the connection's again.
#[derive(Debug, Default)]
pub struct Permit {
    _place: Option<OwnedSemaphorePermit>,
    /// While this lives, what says the same is dropped.
    _mark: Option<Arc<()>>,
}

impl Permit {
    /// For inputs that are bounded otherwise.
    pub fn none() -> Self {
        Self::default()
    }
}

/// What the sender is told.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted,
    NoSuchProcess,
    Bad(String),
}

impl Verdict {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Accepted => StatusCode::ACCEPTED,
            Self::NoSuchProcess => StatusCode::NOT_FOUND,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The body of the answer.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Accepted => String::new(),
            Self::NoSuchProcess => format!("{}.", StatusCode::NOT_FOUND),
            Self::Bad(text) => text.clone(),
        }
    }
}

/// The messages of one connection, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Mailbag {
    remote: SocketAddr,
    permits: Arc<Semaphore>,
    registrations: Registrations,
}

/// What of [`REPEATED`] waits for the core. Empty, it has no memory of its own but a few words.
#[derive(Debug, Clone, Default)]
struct Registrations(Arc<Mutex<Vec<Waiting>>>);

/// The hash of a message, and its mark as long as that waits.
type Waiting = (u64, Weak<()>);

impl Registrations {
    /// The mark of a message; none if it waits already. Two that differ are taken for the same once in 2^64
    /// times, and then repeated.
    fn mark(&self, from: &Pid, name: &str, body: &[u8]) -> Option<Arc<()>> {
        let mut hasher = FxHasher::default();
        (from, name, body).hash(&mut hasher);
        let number = hasher.finish();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(_, mark)| mark.strong_count() > 0);
        if waiting.iter().any(|(known, _)| *known == number) {
            return None;
        }
        let mark = Arc::new(());
        waiting.push((number, Arc::downgrade(&mark)));
        Some(mark)
    }

    /// Lets go of what was handled.
    fn tidy(&self) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.iter().all(|(_, mark)| mark.strong_count() == 0) {
            *waiting = Vec::new();
        }
    }
}

impl Mailbag {
    pub(super) fn new(remote: SocketAddr, inputs_max: usize) -> Self {
        Self {
            remote,
            permits: Arc::new(Semaphore::new(inputs_max.max(1))),
            registrations: Registrations::default(),
        }
    }

    /// Who is connected.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Hands one message to its process.
    pub(super) async fn deliver<S: Service>(
        &self,
        shared: &Shared<S>,
        envelope: Result<Envelope, EnvelopeError>,
        body: Bytes,
    ) -> Verdict {
        let envelope = match envelope {
            Err(EnvelopeError::Host(hosted)) => look_up(*hosted).await,
            known => known.map_err(|error| error.to_string()),
        };
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(error) => {
                shared.dropped(
                    |more| tracing::info!(remote = %self.remote, %error, more, "dropped a message"),
                );
                return Verdict::Bad(error);
            }
        };
        let Envelope {
            process: to,
            message,
            from,
        } = envelope;
        if shared.limits.peer_ip_must_match && !self.is_from(&from) {
            let text = format!(
                "UPID IP address validation failed: Message from {from} was sent from IP {}",
                self.remote
            );
            shared.dropped(|more| tracing::warn!(remote = %self.remote, %from, more, "dropped a message from another address"));
            return Verdict::Bad(text);
        }
        let mark = if REPEATED.contains(&&*message) {
            match self.registrations.mark(&from, &message, &body) {
                Some(mark) => Some(mark),
                None => return Verdict::Accepted,
            }
        } else {
            self.registrations.tidy();
            None
        };
        let message = match PeerMessage::decode(&message, body) {
            Ok(message) => message,
            Err(error) => {
                // The reference delivers the bytes and its process drops them: the sender hears no
                // more than here.
                shared.dropped(|more| tracing::warn!(%from, %error, more, "dropped a message"));
                return Verdict::Accepted;
            }
        };
        // Never closed.
        let permit = Permit {
            _place: self.permits.clone().acquire_owned().await.ok(),
            _mark: mark,
        };
        let delivery = Delivery {
            from,
            to,
            message,
            permit,
        };
        match shared.service.message(delivery).await {
            true => Verdict::Accepted,
            false => Verdict::NoSuchProcess,
        }
    }

    /// `--require_peer_address_ip_match`: a sender's address is that of its connection.
    fn is_from(&self, from: &Pid) -> bool {
        self.remote.ip().to_canonical() == from.address.ip().to_canonical()
    }
}

/// Finds a sender that gave the name of its host; an IPv4 address if it has one, like the reference.
async fn look_up(hosted: HostedEnvelope) -> Result<Envelope, String> {
    let host = hosted.host.clone();
    let failed = |why: String| {
        format!("Failed to determine sender from request headers: cannot look up '{host}': {why}")
    };
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((host.as_str(), hosted.port))).await;
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("no answer in time".to_owned())),
    };
    let first = found.min_by_key(|address| address.is_ipv6());
    match first {
        Some(address) => Ok(hosted.at(address.ip())),
        None => Err(failed("it has no address".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_already_is_dropped_and_what_was_handled_may_be_said_again() {
        let registrations = Registrations::default();
        let from = |name: &str| format!("{name}@127.0.0.1:5051").parse::<Pid>().unwrap();
        let mark = |name: &str, body: &[u8]| registrations.mark(&from(name), REPEATED[1], body);
        let waits = mark("slave(1)", b"tasks");
        assert!(waits.is_some());
        assert!(mark("slave(1)", b"tasks").is_none());
        let other_body = mark("slave(1)", b"other tasks");
        let other_process = mark("slave(2)", b"tasks");
        assert!(other_body.is_some() && other_process.is_some());
        registrations.tidy();
        assert!(mark("slave(1)", b"tasks").is_none());
        drop(waits);
        assert!(mark("slave(1)", b"tasks").is_some());
        drop((other_body, other_process));
        registrations.tidy();
        assert_eq!(registrations.0.lock().unwrap().capacity(), 0);
    }
}
