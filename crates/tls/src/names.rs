//! The `legacy` scheme: after the handshake, what the certificate says against what the peer's
//! address is called (`verify` in `3rdparty/libprocess/src/openssl.cpp`).
//!
//! Names are compared whole: no wildcards. A client that finds no name for a server's address, and
//! may not go by the address, takes the chain for enough, as the reference does; a server does not.

use crate::{config::Verification, der};
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::IpAddr;
use webpki::EndEntityCert;

/// A certificate is not the peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    #[error("{ip} has no name that its certificate could be checked against")]
    NoName { ip: IpAddr },
    #[error(
        "the certificate is for {found}, and the peer is {ip}{}",
        .name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
    )]
    Mismatch {
        ip: IpAddr,
        name: Option<String>,
        found: String,
    },
}

/// Checks a certificate whose chain is good. `name`: what the peer's address is called.
pub(crate) fn check(
    certificate: Option<&CertificateDer<'_>>,
    name: Option<&str>,
    ip: IpAddr,
    verification: &Verification,
) -> Result<(), NameError> {
    let certificate = certificate.ok_or(NameError::NoCertificate)?;
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| NameError::Unreadable)?;
    if name.is_none() && !verification.ip {
        return if verification.client {
            Err(NameError::NoName { ip })
        } else {
            tracing::debug!(%ip, "a server's address has no name: its certificate could be another's");
            Ok(())
        };
    }
    let address = ServerName::IpAddress(ip.into());
    if verification.ip
        && certificate
            .verify_is_valid_for_subject_name(&address)
            .is_ok()
    {
        return Ok(());
    }
    let common_name = der::common_name(certificate.subject());
    if let Some(name) = name {
        let mut names = certificate.valid_dns_names().chain(common_name);
        if names.any(|found| found.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
    }
    let mut found: Vec<_> = certificate.valid_dns_names().chain(common_name).collect();
    found.dedup();
    Err(NameError::Mismatch {
        ip,
        name: name.map(str::to_owned),
        found: if found.is_empty() {
            "no name".to_owned()
        } else {
            found.join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TlsConfig;

    fn certificate(names: &[&str], common_name: &str) -> rcgen::Certificate {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("params");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, common_name);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn names_and_addresses_decide_as_in_the_reference() {
        let ip: IpAddr = "10.0.0.1".parse().expect("an address");
        let by_name = certificate(&["a.test", "b.test"], "c.test");
        let by_address = certificate(&["10.0.0.1"], "no.test");
        let wild = certificate(&["*.test"], "no.test");
        for (certificate, name, verify_ip, client, good) in [
            (&by_name, Some("a.test"), false, true, true),
            (&by_name, Some("B.test"), false, true, true),
            (&by_name, Some("c.test"), false, true, true),
            (&by_name, Some("d.test"), false, true, false),
            (&by_name, Some("a.test"), true, true, true),
            (&by_name, None, true, true, false),
            (&by_name, None, false, true, false),
            // A client cannot know better, and the reference goes on.
            (&by_name, None, false, false, true),
            (&by_address, None, true, true, true),
            (&by_address, Some("a.test"), true, true, true),
            (&by_address, Some("a.test"), false, true, false),
            (&wild, Some("a.test"), false, true, false),
        ] {
            let mut verification = TlsConfig::client().verification;
            verification.ip = verify_ip;
            verification.client = client;
            let result = check(Some(certificate.der()), name, ip, &verification);
            assert_eq!(
                result.is_ok(),
                good,
                "{name:?} {verify_ip} {client}: {result:?}"
            );
        }
        let verification = TlsConfig::client().verification;
        assert_eq!(
            check(None, Some("a.test"), ip, &verification),
            Err(NameError::NoCertificate)
        );
        let error = check(Some(by_name.der()), Some("d.test"), ip, &verification);
        assert_eq!(
            error.expect_err("refused").to_string(),
            "the certificate is for a.test, b.test, c.test, and the peer is 10.0.0.1 (d.test)"
        );
    }
}
