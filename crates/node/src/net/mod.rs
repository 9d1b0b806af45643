//! libprocess peers over TCP: where we listen and what address we announce, and the outbound links
//! that carry one-way messages.
//!
//! Inbound messages arrive on the port that serves HTTP too; [`crate::http`] recognises them.

mod address;
mod link_task;
mod links;
mod open_files;
mod transport;
mod valve;

pub use address::{AdvertiseError, Advertised, Listen};
pub use links::{LinkOptions, Links, LinksEnd};
pub(crate) use open_files::OpenFile;
pub use open_files::OpenFiles;
pub use transport::{Stream, Transport};
pub use valve::Valve;
