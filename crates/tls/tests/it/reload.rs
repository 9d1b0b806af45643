//! Files that change while in use.

use crate::support::{Place, load, meet, verifying};
use std::time::Duration;
use tepui_tls::{
    HostnameScheme, Tls, TlsConfig,
    testing::{Authority, Subject, replace},
};

/// Names in the certificate that a server shows.
async fn shown(server: &Tls, client: &Tls) -> Vec<u8> {
    let (client, _) = meet(client, server, None)
        .await
        .talk()
        .await
        .expect("content");
    let certificates = client.get_ref().1.peer_certificates();
    certificates.expect("certificates")[0].to_vec()
}

fn at_once(mut config: TlsConfig) -> TlsConfig {
    config.reload_interval = Duration::ZERO;
    config
}

#[tokio::test]
async fn a_changed_certificate_is_shown_by_the_next_handshake() {
    let place = Place::new();
    let server = load(at_once(place.node("server", &["first.test"])), None);
    let client = load(place.node("client", &[]), None);
    let first = shown(&server, &client).await;
    assert_eq!(shown(&server, &client).await, first);
    place.node("server", &["second.test"]);
    let second = shown(&server, &client).await;
    assert_ne!(second, first);
    assert_eq!(shown(&server, &client).await, second);
}

#[tokio::test]
async fn what_cannot_be_used_leaves_the_old_certificate_in_force() {
    let place = Place::new();
    let config = at_once(place.node("server", &["first.test"]));
    let files = config.identity.clone().expect("an identity");
    let server = load(config, None);
    let client = load(place.node("client", &[]), None);
    let first = shown(&server, &client).await;

    replace(&files.cert_file, "no certificate");
    assert_eq!(shown(&server, &client).await, first);
    std::fs::remove_file(&files.cert_file).expect("removed");
    assert_eq!(shown(&server, &client).await, first);
    // A certificate whose key has not come yet.
    let next = place.authority.issue(&Subject::named(["second.test"]));
    replace(&files.cert_file, &next.cert);
    assert_eq!(shown(&server, &client).await, first);
    replace(&files.key_file, &next.key);
    assert_ne!(shown(&server, &client).await, first);
}

#[tokio::test]
async fn changed_authorities_count_for_the_next_handshake() {
    let place = Place::new();
    let server = load(place.node("server", &["leader.test"]), None);
    let ca = place.dir.path().join("trusted.crt");
    replace(&ca, Authority::new("other").root_pem());
    let client = at_once(TlsConfig::client().ca_file(&ca));
    let client = load(verifying(client, HostnameScheme::OpenSsl), None);
    let host = Some("leader.test");
    meet(&client, &server, host).await.refusal().await;
    replace(&ca, place.authority.root_pem());
    let ends = meet(&client, &server, host).await;
    ends.talk().await.expect("content");
}

#[tokio::test]
async fn files_are_not_looked_at_before_their_time() {
    let place = Place::new();
    let mut config = place.node("server", &["first.test"]);
    config.reload_interval = Duration::from_secs(3600);
    let server = load(config, None);
    let client = load(place.node("client", &[]), None);
    let first = shown(&server, &client).await;
    place.node("server", &["second.test"]);
    assert_eq!(shown(&server, &client).await, first);
}
