//! A message on its way to a core, and the right to have it wait there.

use super::{Service, server::Shared};
use bytes::Bytes;
use http::StatusCode;
use std::{net::SocketAddr, sync::Arc, time::Duration};
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

/// The right of one input to wait for a core. Dropped, it is the connection's again.
#[derive(Debug, Default)]
pub struct Permit(#[allow(dead_code, reason = "held, never read")] Option<OwnedSemaphorePermit>);

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
}

impl Mailbag {
    pub(super) fn new(remote: SocketAddr, inputs_max: usize) -> Self {
        Self {
            remote,
            permits: Arc::new(Semaphore::new(inputs_max.max(1))),
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
        let permit = Permit(self.permits.clone().acquire_owned().await.ok());
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
