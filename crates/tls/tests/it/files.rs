//! Files that cannot be used are named.

use crate::support::Place;
use tepui_tls::{
    Tls, TlsConfig,
    testing::{Authority, Subject, replace},
};

fn refused(config: TlsConfig) -> String {
    Tls::load(config).expect_err("refused").to_string()
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let place = Place::new();
    let dir = place.dir.path();
    let good = place.node("good", &[]);
    let files = good.identity.clone().expect("an identity");
    let other = place.node("other", &[]).identity.expect("an identity");
    let text = dir.join("text");
    replace(&text, "text");
    let encrypted = dir.join("encrypted");
    replace(
        &encrypted,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = dir.join("missing");

    let server = |cert, key| refused(TlsConfig::server(cert, key));
    for (error, expected) in [
        (
            server(&missing, &files.key_file),
            format!("cannot read {}: ", missing.display()),
        ),
        (
            server(&files.cert_file, &missing),
            format!("cannot read {}: ", missing.display()),
        ),
        (
            server(&text, &files.key_file),
            format!("{}: holds no certificate", text.display()),
        ),
        (
            server(&files.cert_file, &text),
            format!("{}: holds no private key", text.display()),
        ),
        (
            server(&files.cert_file, &encrypted),
            format!("{}: is encrypted", encrypted.display()),
        ),
        (
            server(&files.cert_file, &other.key_file),
            format!(
                "the private key {} is not the key of the certificate {}",
                other.key_file.display(),
                files.cert_file.display()
            ),
        ),
        (
            refused(TlsConfig::client().ca_file(&missing)),
            format!("cannot read {}: ", missing.display()),
        ),
        (
            refused(TlsConfig::client().ca_file(&text)),
            format!("{}: holds no certificate", text.display()),
        ),
    ] {
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    let mut config = TlsConfig::client();
    config.verification.ca_dir = Some(empty.path().to_owned());
    assert!(refused(config).ends_with(": holds no certificate of an authority"));
}

#[test]
fn authorities_are_only_read_where_somebody_is_verified() {
    let place = Place::new();
    let issued = Authority::new("other").issue(&Subject::default());
    let (cert, key) = issued.write(place.dir.path(), "node");
    let config = TlsConfig::server(cert, key).ca_file(place.dir.path().join("missing"));
    Tls::load(config).expect("loaded");
}
