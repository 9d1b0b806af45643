//! What a client may cost us.

use crate::net::OpenFiles;
use std::time::Duration;

/// Limits of the HTTP server. The reference has none of them; these are far above what its clients
/// do and keep a careless or hostile one from taking the node down.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. When there are more, the oldest one that has not made a whole request is
    /// closed; when all have, the new one waits.
    pub connections_max: usize,
    /// What connections take their file descriptors from.
    pub open_files: OpenFiles,
    /// Bytes of a request's head; answered with 431.
    pub head_bytes_max: usize,
    /// Bytes of a request's body; answered with 413.
    pub body_bytes_max: usize,
    /// How long a head may take from its first byte to its last; the connection is closed.
    pub head_timeout: Duration,
    /// How long a body may take; answered with 408.
    pub body_timeout: Duration,
    /// How long a fresh connection may be silent. Long: reference peers connect before they talk.
    pub first_byte_timeout: Duration,
    /// How long a connection may idle between requests. Very long: to a libprocess peer a closed
    /// connection means that we are gone.
    pub idle_timeout: Duration,
    /// How long a client may go without taking any byte of its response.
    pub write_timeout: Duration,
    /// Messages of one connection that may wait for the core at once; more are not read.
    pub inputs_max: usize,
    /// Whether the address of a message's sender must be that of the connection
    /// (`LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH`).
    pub peer_ip_must_match: bool,
    /// Bytes of events that may wait for one slow stream; at more it is closed.
    pub stream_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            open_files: OpenFiles::default(),
            head_bytes_max: 64 << 10,
            body_bytes_max: 8 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(120),
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(24 * 3600),
            write_timeout: Duration::from_secs(60),
            inputs_max: 32,
            peer_ip_must_match: false,
            stream_bytes_max: 64 << 20,
        }
    }
}
