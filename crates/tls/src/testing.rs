//! Authorities and certificates made on the spot, for tests of this crate and of those that use it.
//!
//! Panics where it cannot go on: the caller is a test.
#![allow(clippy::expect_used, clippy::missing_panics_doc)]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Who signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What certificates of this authority carry besides themselves, nearest first.
    chain: Vec<String>,
    root_pem: String,
}

/// What a certificate says.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// Its common name; `node` when there is none.
    pub common_name: Option<String>,
    /// It was valid once.
    pub expired: bool,
}

impl Subject {
    /// For these names and addresses.
    pub fn named<const N: usize>(names: [&str; N]) -> Self {
        Self {
            names: names.map(str::to_owned).to_vec(),
            ..Self::default()
        }
    }
}

/// A certificate chain and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The chain.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Issued {
    /// Writes `NAME.crt` and `NAME.key`, each in one step, and says where they are.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        replace(&cert, &self.cert);
        replace(&key, &self.key);
        (cert, key)
    }
}

/// Puts a file in the place of another, in one step, readable by its owner.
pub fn replace(path: &Path, content: &str) {
    let fresh = path.with_extension("fresh");
    let _ = fs::remove_file(&fresh);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .expect("a new file");
    std::io::Write::write_all(&mut file, content.as_bytes()).expect("written");
    fs::rename(&fresh, path).expect("renamed");
}

fn params(names: Vec<String>, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(Vec::new(), name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// A root of its own.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer =
            CertifiedIssuer::self_signed(authority_params(name), key).expect("a certificate");
        Self {
            root_pem: issuer.pem(),
            issuer,
            chain: Vec::new(),
        }
    }

    /// One whose certificate this one signed.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(authority_params(name), key, &self.issuer)
            .expect("a certificate");
        let mut chain = vec![issuer.pem()];
        chain.extend(self.chain.iter().cloned());
        Self {
            issuer,
            chain,
            root_pem: self.root_pem.clone(),
        }
    }

    /// The root's certificate, as PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Writes the root's certificate to `NAME.crt`.
    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(format!("{name}.crt"));
        replace(&path, &self.root_pem);
        path
    }

    /// Signs a certificate.
    pub fn issue(&self, subject: &Subject) -> Issued {
        let name = subject.common_name.as_deref().unwrap_or("node");
        let mut params = params(subject.names.clone(), name);
        if subject.expired {
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut cert = certificate.pem();
        for link in &self.chain {
            cert.push_str(link);
        }
        Issued {
            cert,
            key: key.serialize_pem(),
        }
    }
}

/// A certificate that is its own authority, as `openssl req -x509` makes it.
pub fn self_signed(subject: &Subject) -> Issued {
    let name = subject.common_name.as_deref().unwrap_or("node");
    let mut params = params(subject.names.clone(), name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if subject.expired {
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    Issued {
        cert: params.self_signed(&key).expect("a certificate").pem(),
        key: key.serialize_pem(),
    }
}
