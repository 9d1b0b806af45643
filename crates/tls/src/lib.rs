//! TLS for nodes and clients, as the `LIBPROCESS_SSL_*` variables of the reference ask for it.
//!
//! | file | does |
//! |---|---|
//! | `config` | variables to a checked [`TlsConfig`]; pure |
//! | `ciphers` | cipher strings and curve lists to what rustls has; pure |
//! | `verify` | who is trusted: chains, depth, names |
//! | `names` | the `legacy` scheme: what a certificate says against who the peer is |
//! | `der` | the two fields of a certificate that webpki keeps to itself |
//! | `files` | reads certificates, keys and authorities; notices that they changed |
//! | `session` | [`Tls`]: accepts and connects with what the files hold now |
//! | `stream` | [`Stream`]: TLS or not, one type |
//! | `testing` | authorities and certificates made on the spot (feature `testing`) |
//!
//! Sockets come from the caller. There is no session resumption, as in the reference: each handshake
//! verifies with the certificates and authorities of its time.
//!
//! Follows `docs/ssl.md` and `3rdparty/libprocess/src/openssl.cpp` of the reference. What OpenSSL
//! can do and rustls cannot (old protocols, CBC and RC4 ciphers, RSA key exchange) is named when it
//! is asked for.

mod ciphers;
mod config;
mod der;
mod files;
mod names;
mod session;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;

pub use ciphers::Suites;
pub use config::{
    ConfigError, HostnameScheme, Identity, Note, TlsConfig, Verification, Versions, enabled,
};
pub use files::FileError;
pub use session::{Tls, TlsError, TlsStream};
pub use stream::Stream;
