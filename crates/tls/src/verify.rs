//! Who is trusted: the chain to an authority, how long it may be, and names during the handshake.
//!
//! Chains are judged by webpki, as rustls itself does; the depth and the common name are what it
//! does not have. A certificate that is itself among the authorities is good as it is, which is how
//! OpenSSL takes the self-signed certificates that `docs/ssl.md` makes.

use crate::der;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{fmt, sync::Arc};
use webpki::{EndEntityCert, KeyUsage};

/// Authorities, as certificates and as webpki wants them.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// What clients are told to have certificates of.
    pub(crate) subjects: Vec<DistinguishedName>,
}

/// What a server's certificate must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerTrust {
    /// Anything goes.
    Anyone,
    /// A good chain; names are somebody else's business.
    Chain,
    /// A good chain, and the name or address that was connected to.
    Name,
}

/// Judges chains.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(crate) authorities: Authorities,
    pub(crate) depth: usize,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Why a chain is not good although webpki would take it.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ChainError {
    #[error("the chain of certificates is longer than LIBPROCESS_SSL_VERIFICATION_DEPTH ({0})")]
    TooLong(usize),
}

/// rustls prints what it does not know this way.
impl fmt::Debug for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Chains {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if self.is_authority(certificate) {
            return valid_now(certificate, now);
        }
        let parsed = EndEntityCert::try_from(certificate).map_err(refused)?;
        let path = parsed
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &self.authorities.anchors,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(refused)?;
        if path.intermediate_certificates().count() > self.depth {
            return Err(other(ChainError::TooLong(self.depth)));
        }
        Ok(())
    }

    fn is_authority(&self, certificate: &CertificateDer<'_>) -> bool {
        self.authorities
            .certificates
            .iter()
            .any(|authority| authority.as_ref() == certificate.as_ref())
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, dss, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, dss, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn valid_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let Some(validity) = der::validity(certificate) else {
        return Err(CertificateError::BadEncoding.into());
    };
    if now.as_secs() < validity.start {
        Err(CertificateError::NotValidYet.into())
    } else if now.as_secs() >= validity.end {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

/// The name that was connected to: among the alternative names, or the common name of a
/// certificate without any (`X509_check_host`).
fn valid_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), rustls::Error> {
    let parsed = EndEntityCert::try_from(certificate).map_err(refused)?;
    let result = parsed.verify_is_valid_for_subject_name(name);
    if let (Err(_), ServerName::DnsName(name)) = (&result, name)
        && parsed.valid_dns_names().next().is_none()
        && der::common_name(parsed.subject())
            .is_some_and(|common| common.eq_ignore_ascii_case(name.as_ref()))
    {
        return Ok(());
    }
    result.map_err(refused)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// In rustls' words, so that the peer gets the right alert.
fn refused(error: webpki::Error) -> rustls::Error {
    use webpki::Error as E;
    match error {
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertNotValidForName(names) => CertificateError::NotValidForNameContext {
            expected: names.expected,
            presented: names.presented,
        },
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::BadDer | E::BadDerTime => CertificateError::BadEncoding,
        error => return other(error),
    }
    .into()
}

/// Verifies servers.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) chains: Arc<Chains>,
    pub(crate) trust: ServerTrust,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trust != ServerTrust::Anyone {
            self.chains
                .verify(certificate, intermediates, KeyUsage::server_auth(), now)?;
        }
        if self.trust == ServerTrust::Name {
            valid_for(certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.tls12(message, certificate, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.tls13(message, certificate, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.schemes()
    }
}

/// Verifies clients, which must have a certificate.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) chains: Arc<Chains>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.chains.authorities.subjects
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.chains
            .verify(certificate, intermediates, KeyUsage::client_auth(), now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.tls12(message, certificate, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.tls13(message, certificate, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.schemes()
    }
}
