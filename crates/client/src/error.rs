//! What can go wrong, one enum for all clients.

use std::fmt;

/// An error that says its causes too: the outermost of a failed connection says nothing.
#[derive(Debug)]
pub(crate) struct Whole<E>(pub(crate) E);

impl<E: std::error::Error> fmt::Display for Whole<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl<E: std::error::Error> std::error::Error for Whole<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument is not what it must be; nothing was sent.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// No leader could be found.
    #[error("cannot find the leader at '{target}': {reason}")]
    Detect {
        /// What was asked for.
        target: String,
        /// Why.
        reason: String,
    },
    /// The server could not be reached, or the connection broke.
    #[error("cannot talk to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer within [`crate::CALL_TIMEOUT`].
    #[error("no answer from {address} within {seconds} s")]
    TimedOut {
        /// `host:port`.
        address: String,
        /// The limit.
        seconds: u64,
    },
    /// The server answered with an error status.
    #[error("{address} answered {status}: {message}")]
    Status {
        /// `host:port`.
        address: String,
        /// HTTP status.
        status: u16,
        /// Body of the answer.
        message: String,
    },
    /// The answer is not what it must be.
    #[error("{address} sent a malformed answer: {reason}")]
    Malformed {
        /// `host:port`.
        address: String,
        /// Why.
        reason: String,
    },
    /// Another leader was elected while this one was asked. It may have taken the call.
    #[error("{address} does not lead any more: another leader was elected")]
    Replaced {
        /// `host:port`.
        address: String,
    },
    /// A call that needs a subscription was made without one; it is safe to repeat it after
    /// the next `Subscribed` event.
    #[error("not subscribed")]
    NotSubscribed,
    /// The leader refused the framework or ended it (an `ERROR` event). Subscribing again as it is
    /// will not help.
    #[error("refused by the leader: {0}")]
    Refused(String),
}
