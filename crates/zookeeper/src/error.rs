//! What can go wrong with a request.

use tepui_coordination::Failure;
use zookeeper_client as zk;

/// Why ZooKeeper did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer came; nobody knows whether it was carried out.
    #[error("the connection to ZooKeeper was lost")]
    ConnectionLoss,
    /// There is no session any more, nor anything that was ephemeral in it. Whether the request was
    /// carried out before is not known.
    #[error("the session with ZooKeeper has ended")]
    SessionExpired,
    /// Part of what was asked for presupposes a znode that is not there: all of it was left undone.
    #[error("no such znode (operation {operation})")]
    NoNode {
        /// Which of the operations, from 0.
        operation: usize,
    },
    /// A znode to be created is there already.
    #[error("the znode exists (operation {operation})")]
    NodeExists {
        /// Which of the operations, from 0.
        operation: usize,
    },
    /// A znode has another version than the one expected.
    #[error("the znode has another version (operation {operation})")]
    BadVersion {
        /// Which of the operations, from 0.
        operation: usize,
    },
    /// The ACL of a znode says no.
    #[error("not authorized by the ACL of the znode (operation {operation})")]
    NoAuth {
        /// Which of the operations, from 0.
        operation: usize,
    },
    /// The server would not have us.
    #[error("ZooKeeper refused to authenticate us")]
    AuthFailed,
    /// Anything else; nothing was changed.
    #[error("ZooKeeper: {0}")]
    Other(String),
}

impl Error {
    /// Whether it may have been carried out nevertheless.
    pub fn is_unclear(&self) -> bool {
        matches!(self, Self::ConnectionLoss | Self::SessionExpired)
    }

    pub(crate) fn from_client(error: zk::Error, operation: usize) -> Self {
        match error {
            zk::Error::ConnectionLoss | zk::Error::Timeout => Self::ConnectionLoss,
            zk::Error::SessionExpired | zk::Error::SessionMoved | zk::Error::ClientClosed => {
                Self::SessionExpired
            }
            zk::Error::NoNode => Self::NoNode { operation },
            zk::Error::NodeExists => Self::NodeExists { operation },
            zk::Error::BadVersion => Self::BadVersion { operation },
            zk::Error::NoAuth => Self::NoAuth { operation },
            zk::Error::AuthFailed => Self::AuthFailed,
            // Raised when the stream broke off or made no sense: what became of it is not known.
            zk::Error::Custom(_) | zk::Error::UnexpectedError(_) => Self::ConnectionLoss,
            zk::Error::UnmarshalError { .. } => Self::ConnectionLoss,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<zk::Error> for Error {
    fn from(error: zk::Error) -> Self {
        Self::from_client(error, 0)
    }
}

impl From<zk::MultiWriteError> for Error {
    fn from(error: zk::MultiWriteError) -> Self {
        match error {
            zk::MultiWriteError::RequestFailed { source } => source.into(),
            zk::MultiWriteError::OperationFailed { index, source } => {
                Self::from_client(source, index)
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ConnectionLoss | Error::SessionExpired => Self::Lost,
            Error::NoNode { .. } => Self::NoNode,
            Error::NoAuth { .. } | Error::AuthFailed => Self::Denied,
            other => Self::Other(other.to_string()),
        }
    }
}
