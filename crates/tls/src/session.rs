//! [`Tls`]: accepts and connects with what the files hold now.
//!
//! Files are looked at by a handshake, at most once per interval. What cannot be used is logged
//! once, by name, and what was there before stays in force: a certificate and its key that are
//! replaced one after the other are taken when both are there.

use crate::{
    config::{HostnameScheme, TlsConfig, Verification},
    files::{self, FileError, Fingerprint},
    names,
    verify::{Chains, ClientVerifier, ServerTrust, ServerVerifier},
};
use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::ServerName,
    server::{NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A TCP connection under TLS, either end.
pub type TlsStream = tokio_rustls::TlsStream<TcpStream>;

/// How long the name of an address may take to be found.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why TLS cannot be used as asked for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What rustls refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

type Lookup = dyn Fn(IpAddr) -> Option<String> + Send + Sync;

/// TLS of one process, for both directions. Clones share it.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Loaded>,
    /// What the files looked like when they were last read, usable or not.
    seen: Mutex<Fingerprint>,
    started: Instant,
    /// Milliseconds from `started` to the next look at the files.
    next_look: AtomicU64,
    lookup: Box<Lookup>,
}

struct Loaded {
    server: Option<Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn load(config: TlsConfig) -> Result<Self, TlsError> {
        Self::load_with_lookup(config, |ip| dns_lookup::lookup_addr(&ip).ok())
    }

    /// As [`Tls::load`], with another way to find the name of an address (scheme `legacy`).
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn load_with_lookup(
        config: TlsConfig,
        lookup: impl Fn(IpAddr) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.clone_from(&config.suites.suites);
        provider.kx_groups.clone_from(&config.suites.groups);
        let provider = Arc::new(provider);
        let seen = Fingerprint::of(&config);
        let loaded = Loaded::read(&config, &provider)?;
        let next_look = millis(config.reload_interval);
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                provider,
                current: ArcSwap::from_pointee(loaded),
                seen: Mutex::new(seen),
                started: Instant::now(),
                next_look: AtomicU64::new(next_look),
                lookup: Box::new(lookup),
            }),
        })
    }

    /// Whether peers may do without TLS.
    pub fn downgrade(&self) -> bool {
        self.shared.config.downgrade
    }

    /// The server's side of a handshake. The caller bounds the time.
    ///
    /// # Errors
    /// The peer does not speak TLS, shows no certificate where one is needed, or not a good one.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream> {
        let peer = tcp.peer_addr()?;
        let Some(config) = self.current().await.server.clone() else {
            return Err(io::Error::other("there is no certificate to accept with"));
        };
        let stream: TlsStream = TlsAcceptor::from(config).accept(tcp).await?.into();
        // With TLS 1.3 and no tickets we have nothing to send now: a client whose system holds its
        // request back until its last message is acknowledged (Nagle) would wait for our delayed
        // acknowledgement, some 40 ms.
        let _ = stream.get_ref().0.set_quickack(true);
        let verification = &self.shared.config.verification;
        if verification.client && verification.scheme == HostnameScheme::Legacy {
            self.check_name(&stream, None, peer).await?;
        }
        Ok(stream)
    }

    /// The client's side of a handshake with `host`, or with an address when there is no name. The
    /// caller bounds the time.
    ///
    /// # Errors
    /// The server does not speak TLS, or is not who it should be.
    pub async fn connect(&self, tcp: TcpStream, host: Option<&str>) -> io::Result<TlsStream> {
        let peer = tcp.peer_addr()?;
        let name = self.server_name(host, peer)?;
        let config = self.current().await.client.clone();
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        let stream = TlsStream::from(stream);
        let verification = &self.shared.config.verification;
        if verification.server && verification.scheme == HostnameScheme::Legacy {
            self.check_name(&stream, host, peer).await?;
        }
        Ok(stream)
    }

    fn server_name(&self, host: Option<&str>, peer: SocketAddr) -> io::Result<ServerName<'static>> {
        let Verification {
            server, ip, scheme, ..
        } = self.shared.config.verification;
        let name = match host {
            Some(host) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                ServerName::try_from(host.to_owned()).map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("'{host}' is no name of a host"),
                    )
                })?
            }
            None => ServerName::IpAddress(peer.ip().into()),
        };
        let address_alone = matches!(name, ServerName::IpAddress(_));
        if address_alone && server && !ip && scheme == HostnameScheme::OpenSsl {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{peer} has no name to verify, and LIBPROCESS_SSL_VERIFY_IPADD is off: with the scheme 'openssl' \
                     servers cannot be verified by their address"
                ),
            ));
        }
        Ok(name)
    }

    /// The `legacy` scheme.
    async fn check_name(
        &self,
        stream: &TlsStream,
        host: Option<&str>,
        peer: SocketAddr,
    ) -> io::Result<()> {
        let shared = self.shared.clone();
        let ip = peer.ip();
        let lookup = tokio::task::spawn_blocking(move || (shared.lookup)(ip));
        let found = match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(found) => found.unwrap_or(None),
            Err(_) => {
                tracing::warn!(%ip, "looking up the name of an address took too long");
                None
            }
        };
        // An address without a name is given back as it is.
        let found = found.filter(|name| name.parse::<IpAddr>().is_err());
        let host = host.filter(|name| name.parse::<IpAddr>().is_err());
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        names::check(
            certificate,
            found.as_deref().or(host),
            ip,
            &self.shared.config.verification,
        )
        .map_err(io::Error::other)
    }

    /// What is in force, after a look at the files if one is due.
    async fn current(&self) -> Arc<Loaded> {
        let shared = &self.shared;
        let now = millis(shared.started.elapsed());
        let due = shared.next_look.load(Ordering::Relaxed);
        let next = now + millis(shared.config.reload_interval);
        // One handshake looks; those at the same time go on with what there is.
        if now >= due
            && shared
                .next_look
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let shared = shared.clone();
            let refresh = tokio::task::spawn_blocking(move || shared.refresh());
            if refresh.await.is_err() {
                tracing::error!("reading certificates anew failed; this is a bug");
            }
        }
        shared.current.load_full()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

impl Shared {
    fn refresh(&self) {
        let look = Fingerprint::of(&self.config);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == look {
            return;
        }
        *seen = look;
        match Loaded::read(&self.config, &self.provider) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                tracing::info!("certificates have changed; new connections use the new ones");
            }
            Err(error) => {
                tracing::error!(%error, "cannot use a changed certificate; the old ones stay in force");
            }
        }
    }
}

impl Loaded {
    fn read(config: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let certified = config.identity.as_ref();
        let certified = certified
            .map(|identity| files::identity(identity, provider))
            .transpose()?;
        let chains = Arc::new(Chains {
            authorities: files::authorities(config)?,
            depth: config.verification.depth,
            provider: provider.clone(),
        });
        let versions = versions(config);
        let server = certified
            .clone()
            .map(|certified| server_config(config, provider, &versions, &chains, certified))
            .transpose()?;
        Ok(Self {
            server,
            client: client_config(config, provider, &versions, &chains, certified)?,
        })
    }
}

fn versions(config: &TlsConfig) -> Vec<&'static SupportedProtocolVersion> {
    let on = [
        (config.versions.v1_3, &rustls::version::TLS13),
        (config.versions.v1_2, &rustls::version::TLS12),
    ];
    on.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, version)| version)
        .collect()
}

fn server_config(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    chains: &Arc<Chains>,
    certified: Arc<CertifiedKey>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = if config.verification.client {
        builder.with_client_cert_verifier(Arc::new(ClientVerifier {
            chains: chains.clone(),
        }))
    } else {
        builder.with_no_client_auth()
    };
    let certified: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let mut server = builder.with_cert_resolver(certified);
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    // The list of ciphers is in order of preference, and ours counts, as in the reference.
    server.ignore_client_order = true;
    Ok(Arc::new(server))
}

fn client_config(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    chains: &Arc<Chains>,
    certified: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let trust = match &config.verification {
        Verification { server: false, .. } => ServerTrust::Anyone,
        Verification {
            scheme: HostnameScheme::OpenSsl,
            ..
        } => ServerTrust::Name,
        Verification {
            scheme: HostnameScheme::Legacy,
            ..
        } => ServerTrust::Chain,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier {
            chains: chains.clone(),
            trust,
        }));
    let mut client = match certified {
        Some(certified) => {
            let certified: Arc<dyn ResolvesClientCert> =
                Arc::new(SingleCertAndKey::from(certified));
            builder.with_client_cert_resolver(certified)
        }
        None => builder.with_no_client_auth(),
    };
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}
