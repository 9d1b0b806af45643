//! Certificates, keys and authorities as they lie in files, and whether they changed since.

use crate::{
    config::{Identity, TlsConfig},
    verify::Authorities,
};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it must be.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Key and certificate do not belong together.
    #[error("the private key {} is not the key of the certificate {}", .key.display(), .cert.display())]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        cert: PathBuf,
    },
    /// Nobody to trust.
    #[error(
        "certificates are to be verified and this machine has no authorities to verify them with: set LIBPROCESS_SSL_CA_FILE"
    )]
    NoAuthorities,
}

fn content(path: &Path, reason: impl ToString) -> FileError {
    FileError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    fs::read(path)
        .map(Zeroizing::new)
        .map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })
}

/// Certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| content(path, format!("is no PEM file: {error:?}")))?;
    if found.is_empty() {
        return Err(content(path, "holds no certificate"));
    }
    Ok(found)
}

/// A chain and its key, and that they belong together.
pub(crate) fn identity(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, FileError> {
    let chain = certificates(&identity.cert_file)?;
    let path = &identity.key_file;
    let text = read(path)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = |mark: &[u8]| text.windows(mark.len()).any(|window| window == mark);
        if encrypted(b"BEGIN ENCRYPTED PRIVATE KEY") || encrypted(b"Proc-Type: 4,ENCRYPTED") {
            content(path, "is encrypted, and there is nobody to ask for its passphrase: store it decrypted, readable by its owner alone")
        } else if matches!(error, pem::Error::NoItemsFound) {
            content(path, "holds no private key")
        } else {
            content(path, format!("is no PEM file: {error:?}"))
        }
    })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| content(path, error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(FileError::Mismatch {
                key: path.clone(),
                cert: identity.cert_file.clone(),
            });
        }
        Err(error) => return Err(content(&identity.cert_file, error)),
    }
    warn_if_public(path);
    Ok(Arc::new(certified))
}

fn warn_if_public(path: &Path) {
    const OTHERS: u32 = 0o006;
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & OTHERS != 0
    {
        tracing::warn!(
            key = %path.display(),
            mode = format!("{:o}", metadata.permissions().mode() & 0o7777),
            "others can read or write the private key: take their permission away (chmod o-rw)"
        );
    }
}

/// Those that `LIBPROCESS_SSL_CA_FILE` and `_CA_DIR` name, or those of this machine.
pub(crate) fn authorities(config: &TlsConfig) -> Result<Authorities, FileError> {
    let verification = &config.verification;
    if !verification.server && !verification.client {
        return Ok(Authorities::default());
    }
    let mut found = Vec::new();
    if let Some(file) = &verification.ca_file {
        found.extend(certificates(file)?);
    }
    if let Some(dir) = &verification.ca_dir {
        for path in entries(dir)? {
            // A directory of authorities holds other things too: revocation lists, a README.
            match certificates(&path) {
                Ok(certificates) => found.extend(certificates),
                Err(error) => tracing::debug!(%error, "no authority"),
            }
        }
        if found.is_empty() {
            return Err(content(dir, "holds no certificate of an authority"));
        }
    }
    if verification.ca_file.is_none() && verification.ca_dir.is_none() {
        let system = rustls_native_certs::load_native_certs();
        for error in system.errors {
            tracing::debug!(%error, "cannot read an authority of this machine");
        }
        found = system.certs;
    }
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        if let Err(error) = roots.add(certificate.clone()) {
            tracing::warn!(%error, "left out an authority whose certificate cannot be read");
        }
    }
    if roots.is_empty() {
        return Err(match &verification.ca_file {
            Some(file) => content(file, "holds no usable certificate of an authority"),
            None => FileError::NoAuthorities,
        });
    }
    Ok(Authorities {
        subjects: roots.subjects(),
        anchors: roots.roots,
        certificates: found,
    })
}

/// Files of a directory, in order.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| FileError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What a file looked like: place, time and size. `None` when it is not there.
type Look = Option<(u64, i64, i64, u64)>;

/// What all files of a configuration looked like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<(PathBuf, Look)>);

impl Fingerprint {
    pub(crate) fn of(config: &TlsConfig) -> Self {
        let mut paths = Vec::new();
        if let Some(identity) = &config.identity {
            paths.extend([identity.cert_file.clone(), identity.key_file.clone()]);
        }
        let verification = &config.verification;
        if verification.server || verification.client {
            paths.extend(verification.ca_file.clone());
            if let Some(dir) = &verification.ca_dir {
                paths.push(dir.clone());
                paths.extend(entries(dir).unwrap_or_default());
            }
        }
        let look = |path: &Path| -> Look {
            let metadata = fs::metadata(path).ok()?;
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            Some((metadata.ino(), seconds, nanos, metadata.len()))
        };
        Self(
            paths
                .into_iter()
                .map(|path| {
                    let look = look(&path);
                    (path, look)
                })
                .collect(),
        )
    }
}
