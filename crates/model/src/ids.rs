//! One newtype per kind of id, cheap to clone, ordered and hashable.

use std::{fmt, sync::Arc};
use tepui_protocol::v1;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident <=> $proto:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text.
            pub fn new(text: impl Into<Arc<str>>) -> Self { Self(text.into()) }
            /// The text.
            pub fn as_str(&self) -> &str { &self.0 }
            /// As it stands on the wire.
            pub fn to_proto(&self) -> $proto { $proto { value: self.0.as_ref().to_owned() } }
        }
        impl From<&$proto> for $name {
            fn from(id: &$proto) -> Self { Self(id.value.as_str().into()) }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self { Self(text.into()) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str { &self.0 }
        }
    )*};
}

ids! {
    /// A framework; `<leader id>-<counter, four digits>`.
    FrameworkId <=> v1::FrameworkId;
    /// A follower (`AgentID` on the wire); `<leader id>-S<counter>`.
    FollowerId <=> v1::AgentId;
    /// An offer; `<leader id>-O<counter>`.
    OfferId <=> v1::OfferId;
    /// A task; chosen by its framework, unique within it while the task lives.
    TaskId <=> v1::TaskId;
    /// An executor; chosen by its framework.
    ExecutorId <=> v1::ExecutorId;
    /// An operation on resources; chosen by its framework.
    OperationId <=> v1::OperationId;
}

/// Handle of one open response stream (scheduler, executor or operator subscription). Drawn by the
/// shell; its text is the `Mesos-Stream-Id` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub uuid::Uuid);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

/// Handle of one request that awaits its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);
