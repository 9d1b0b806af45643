//! What must survive: the outbox that holds effects until what they rest on is durable, and the
//! formats of what is stored. Pure: whoever owns a file handle calls in here.

pub mod outbox;
pub mod registry;
pub mod replicated_log;

pub use outbox::{Outbox, PersistEffect};
