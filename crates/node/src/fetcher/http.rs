//! A small HTTP client for downloads and probes: GET over http and https, redirects followed.

use bytes::Bytes;
use http::{StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::sync::{Arc, OnceLock};

/// Redirects followed before giving up.
const REDIRECTS_MAX: usize = 20;

/// What a certificate must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Signed by an authority that this machine trusts.
    System,
    /// Anything goes, as with `curl -k`: for probes of a task on this machine.
    Anyone,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("{}", chain(.0))]
    Connection(#[from] hyper_util::client::legacy::Error),
    /// A redirect to nowhere.
    #[error("redirected to '{0}', which is no URL")]
    Location(String),
    /// A redirect too many.
    #[error("redirected more than {REDIRECTS_MAX} times")]
    Redirects,
    /// This machine's certificates cannot be read.
    #[error("cannot load the certificates of this machine: {0}")]
    Certificates(String),
}

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The client. Cheap to clone; clones share connections. TLS is set up when first needed.
#[derive(Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

struct Shared {
    trust: Trust,
    keep_connections: bool,
    client: OnceLock<Result<Https, String>>,
}

impl HttpClient {
    /// A client that keeps connections for a while, for downloads.
    pub fn new(trust: Trust) -> Self {
        Self::with(trust, true)
    }

    /// A client that makes a connection per request, as a probe must.
    pub fn without_pool(trust: Trust) -> Self {
        Self::with(trust, false)
    }

    fn with(trust: Trust, keep_connections: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                trust,
                keep_connections,
                client: OnceLock::new(),
            }),
        }
    }

    /// The answer to a GET, after redirects. Dropping its body closes the connection.
    pub async fn get(&self, uri: Uri) -> Result<http::Response<Incoming>, HttpError> {
        let client = self.shared.client.get_or_init(|| self.shared.connect());
        let client = client
            .as_ref()
            .map_err(|error| HttpError::Certificates(error.clone()))?;
        let mut uri = uri;
        for _ in 0..=REDIRECTS_MAX {
            let response = client.get(uri.clone()).await?;
            match redirect(&uri, &response)? {
                Some(next) => uri = next,
                None => return Ok(response),
            }
        }
        Err(HttpError::Redirects)
    }
}

impl Shared {
    fn connect(&self) -> Result<Https, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            let builder = ClientConfig::builder_with_provider(provider.clone());
            builder
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())
        };
        let tls = match self.trust {
            Trust::System => match builder()?.with_native_roots() {
                Ok(builder) => builder.with_no_client_auth(),
                Err(error) => {
                    // A machine without certificates can still download over http.
                    tracing::warn!(%error, "https downloads will fail: no certificate authorities");
                    builder()?
                        .with_root_certificates(RootCertStore::empty())
                        .with_no_client_auth()
                }
            },
            Trust::Anyone => builder()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
                .with_no_client_auth(),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let mut builder = Client::builder(TokioExecutor::new());
        if !self.keep_connections {
            builder.pool_max_idle_per_host(0);
        }
        Ok(builder.build(connector))
    }
}

fn redirect(base: &Uri, response: &http::Response<Incoming>) -> Result<Option<Uri>, HttpError> {
    use StatusCode as S;
    let followed = [
        S::MOVED_PERMANENTLY,
        S::FOUND,
        S::SEE_OTHER,
        S::TEMPORARY_REDIRECT,
        S::PERMANENT_REDIRECT,
    ];
    let Some(location) = response
        .headers()
        .get(header::LOCATION)
        .filter(|_| followed.contains(&response.status()))
    else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(location.as_bytes());
    resolve(base, &text)
        .map(Some)
        .ok_or_else(|| HttpError::Location(text.into_owned()))
}

/// A reference relative to a URL (RFC 3986, section 5.2, as far as servers use it). Only http and
/// https come out: a server must not send us to a local file.
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    let named = |(scheme, _): (&str, &str)| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        scheme
            .chars()
            .all(known)
            .then(|| scheme.to_ascii_lowercase())
    };
    if let Some(scheme) = reference.split_once(':').and_then(named) {
        let absolute: Uri = reference.parse().ok()?;
        return (matches!(scheme.as_str(), "http" | "https") && absolute.authority().is_some())
            .then_some(absolute);
    }
    let scheme = base.scheme_str()?;
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}").parse().ok();
    }
    let path = match reference {
        "" => base.path_and_query()?.to_string(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        query if query.starts_with('?') => format!("{}{query}", base.path()),
        relative => format!("{}/{relative}", base.path().rsplit_once('/')?.0),
    };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Takes every certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_against_where_they_came_from() {
        let base: Uri = "http://h:80/a/b?q".parse().unwrap();
        for (reference, expected) in [
            ("https://x/y", Some("https://x/y")),
            ("//x/y", Some("http://x/y")),
            ("/y", Some("http://h:80/y")),
            ("y", Some("http://h:80/a/y")),
            ("?z", Some("http://h:80/a/b?z")),
            ("/y#fragment", Some("http://h:80/y")),
            ("file:///etc/shadow", None),
            ("ftp://x/y", None),
            ("javascript:x", None),
        ] {
            let resolved = resolve(&base, reference).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{reference}");
        }
    }
}
