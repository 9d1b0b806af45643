//! Each verification mode against right, wrong, missing and expired certificates.

use crate::support::{Place, load, meet, verifying};
use rustls::ProtocolVersion;
use tepui_tls::{
    HostnameScheme, Tls, TlsConfig,
    testing::{Authority, Subject, self_signed},
};

#[tokio::test]
async fn nobody_is_verified_unless_asked_for() {
    let place = Place::new();
    let stranger = Authority::new("stranger").issue(&Subject {
        expired: true,
        ..Subject::named(["elsewhere.test"])
    });
    let server = load(place.with("server", &stranger), None);
    let client = load(place.node("client", &[]), None);
    let (client, _) = meet(&client, &server, None)
        .await
        .talk()
        .await
        .expect("content");
    let version = client.get_ref().1.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn versions_are_those_that_both_have_on() {
    let place = Place::new();
    let server = load(place.node("server", &[]), None);
    let mut older = place.node("client", &[]);
    older.versions.v1_3 = false;
    let mut newer = place.node("client", &[]);
    newer.versions.v1_2 = false;
    let (older, newer) = (load(older, None), load(newer, None));
    let (client, _) = meet(&older, &server, None)
        .await
        .talk()
        .await
        .expect("content");
    let version = client.get_ref().1.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_2));
    let refusal = meet(&newer, &older, None).await.refusal().await;
    assert!(refusal.contains("rotocol"), "{refusal}");
}

#[tokio::test]
async fn servers_are_verified_by_name_or_address_during_the_handshake() {
    let place = Place::new();
    let scheme = HostnameScheme::OpenSsl;
    let named = load(place.node("named", &["leader.test", "*.wild.test"]), None);
    let addressed = load(place.node("addressed", &["127.0.0.1"]), None);
    let common = place.authority.issue(&Subject {
        common_name: Some("old.test".to_owned()),
        ..Subject::default()
    });
    let common = load(place.with("common", &common), None);
    let expired = place.authority.issue(&Subject {
        expired: true,
        ..Subject::named(["leader.test"])
    });
    let expired = load(place.with("expired", &expired), None);
    let stranger = Authority::new("stranger").issue(&Subject::named(["leader.test"]));
    let stranger = load(place.with("stranger", &stranger), None);

    let by_name = verifying(place.node("client", &[]), scheme);
    let mut by_address = by_name.clone();
    by_address.verification.ip = true;
    let (by_name, by_address) = (load(by_name, None), load(by_address, None));
    for (client, server, host, expected) in [
        (&by_name, &named, Some("leader.test"), None),
        (&by_name, &named, Some("a.wild.test"), None),
        (&by_name, &common, Some("old.test"), None),
        (&by_address, &addressed, None, None),
        (&by_address, &addressed, Some("127.0.0.1"), None),
        (&by_name, &named, Some("other.test"), Some("not valid for")),
        (
            &by_name,
            &named,
            None,
            Some("LIBPROCESS_SSL_VERIFY_IPADD is off"),
        ),
        (&by_address, &named, None, Some("not valid for")),
        (&by_name, &expired, Some("leader.test"), Some("xpired")),
        (
            &by_name,
            &stranger,
            Some("leader.test"),
            Some("UnknownIssuer"),
        ),
    ] {
        let ends = meet(client, server, host).await;
        match expected {
            None => drop(ends.talk().await.expect("content")),
            Some(expected) => {
                let refusal = ends.refusal().await;
                assert!(
                    refusal.starts_with("client: ") && refusal.contains(expected),
                    "{host:?} {expected}: {refusal}"
                );
            }
        }
    }
}

#[tokio::test]
async fn legacy_verifies_by_what_the_address_is_called() {
    let place = Place::new();
    let server = load(place.node("server", &["leader.test"]), None);
    let config = verifying(place.node("client", &[]), HostnameScheme::Legacy);
    for (name, host, good) in [
        (Some("leader.test"), None, true),
        // What the address is called counts, not what was asked for.
        (Some("leader.test"), Some("other.test"), true),
        (Some("other.test"), Some("leader.test"), false),
        (None, Some("leader.test"), true),
        // As in the reference: a chain is enough for an address without a name.
        (None, None, true),
        (Some("127.0.0.1"), None, true),
    ] {
        let client = load(config.clone(), name);
        let result = meet(&client, &server, host).await.client;
        assert_eq!(result.is_ok(), good, "{name:?} {host:?}: {result:?}");
    }
    let stranger = Authority::new("stranger").issue(&Subject::named(["leader.test"]));
    let stranger = load(place.with("stranger", &stranger), None);
    let client = load(config, Some("leader.test"));
    let refusal = meet(&client, &stranger, None).await.refusal().await;
    assert!(refusal.contains("UnknownIssuer"), "{refusal}");
}

#[tokio::test]
async fn clients_must_show_a_good_certificate_where_one_is_required() {
    let place = Place::new();
    let mut config = place.node("server", &["127.0.0.1"]);
    config.verification.client = true;
    config.verification.scheme = HostnameScheme::OpenSsl;
    let server = load(config.clone(), None);
    config.versions.v1_3 = false;
    let server_1_2 = load(config, None);

    let good = place.node("good", &[]);
    let ca = good.verification.ca_file.clone().expect("an authority");
    let missing = TlsConfig::client().ca_file(&ca);
    let stranger = Authority::new("stranger").issue(&Subject::default());
    let stranger = place.with("stranger", &stranger);
    let expired = place.authority.issue(&Subject {
        expired: true,
        ..Subject::default()
    });
    let expired = place.with("expired", &expired);
    for server in [&server, &server_1_2] {
        let client = load(good.clone(), None);
        meet(&client, server, None)
            .await
            .talk()
            .await
            .expect("content");
        for (client, expected) in [
            (&missing, "no certificate"),
            (&stranger, "UnknownIssuer"),
            (&expired, "xpired"),
        ] {
            let client = load(client.clone(), None);
            let refusal = meet(&client, server, None).await.refusal().await;
            assert!(refusal.contains(expected), "{expected}: {refusal}");
        }
    }
}

#[tokio::test]
async fn legacy_wants_clients_to_be_who_their_address_says() {
    let place = Place::new();
    let mut config = place.node("server", &[]);
    config.verification.client = true;
    let client = load(place.node("client", &["node.test"]), None);
    for (name, ip, expected) in [
        (Some("node.test"), false, None),
        (
            Some("other.test"),
            false,
            Some("the certificate is for node.test, node, and the peer is 127.0.0.1 (other.test)"),
        ),
        (
            None,
            false,
            Some("127.0.0.1 has no name that its certificate could be checked against"),
        ),
        (
            None,
            true,
            Some("the certificate is for node.test, node, and the peer is 127.0.0.1"),
        ),
    ] {
        let mut config = config.clone();
        config.verification.ip = ip;
        let server = load(config, name);
        let ends = meet(&client, &server, None).await;
        match expected {
            None => drop(ends.talk().await.expect("content")),
            Some(expected) => assert_eq!(ends.refusal().await, format!("server: {expected}")),
        }
    }
}

#[tokio::test]
async fn chains_may_be_as_long_as_the_depth() {
    let place = Place::new();
    let second = place.authority.intermediate("first").intermediate("second");
    let issued = second.issue(&Subject::named(["leader.test"]));
    let server = load(place.with("server", &issued), None);
    for (depth, good) in [(2, true), (1, false), (0, false)] {
        let mut config = verifying(place.node("client", &[]), HostnameScheme::OpenSsl);
        config.verification.depth = depth;
        let ends = meet(&load(config, None), &server, Some("leader.test")).await;
        if good {
            ends.talk().await.expect("content");
        } else {
            let refusal = ends.refusal().await;
            assert!(refusal.contains("VERIFICATION_DEPTH"), "{refusal}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_good() {
    let place = Place::new();
    for (subject, good) in [
        (Subject::named(["leader.test"]), true),
        (
            Subject {
                expired: true,
                ..Subject::named(["leader.test"])
            },
            false,
        ),
    ] {
        let config = place.with("own", &self_signed(&subject));
        let cert = config.identity.clone().expect("an identity").cert_file;
        let mut config = verifying(config, HostnameScheme::OpenSsl).ca_file(cert);
        config.verification.client = true;
        let both = load(config, None);
        let ends = meet(&both, &both, Some("leader.test")).await;
        if good {
            ends.talk().await.expect("content");
        } else {
            let refusal = ends.refusal().await;
            assert!(refusal.contains("xpired"), "{refusal}");
        }
    }
}

#[tokio::test]
async fn authorities_may_lie_in_a_directory() {
    let place = Place::new();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("README"), "authorities").expect("written");
    Authority::new("other").write(dir.path(), "a");
    place.authority.write(dir.path(), "b");
    let server = load(place.node("server", &["leader.test"]), None);
    let mut config = TlsConfig::client();
    config.verification.ca_dir = Some(dir.path().to_owned());
    let client = Tls::load(config).expect("loaded");
    let ends = meet(&client, &server, Some("leader.test")).await;
    ends.talk().await.expect("content");
}

#[tokio::test]
async fn the_chosen_cipher_and_curve_are_used() {
    let place = Place::new();
    let variables = |name: &str| {
        let value = match name {
            "LIBPROCESS_SSL_ENABLED" => "1",
            "LIBPROCESS_SSL_CERT_FILE" => "server.crt",
            "LIBPROCESS_SSL_KEY_FILE" => "server.key",
            "LIBPROCESS_SSL_CIPHERS" => "CHACHA20",
            "LIBPROCESS_SSL_ECDH_CURVES" => "P-384",
            "LIBPROCESS_SSL_ENABLE_TLS_V1_3" => "0",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let (chosen, _) = TlsConfig::from_variables(variables)
        .expect("good")
        .expect("on");
    let mut config = place.node("server", &[]);
    config.suites = chosen.suites;
    config.versions = chosen.versions;
    let server = load(config, None);
    let client = load(place.node("client", &[]), None);
    let (client, _) = meet(&client, &server, None)
        .await
        .talk()
        .await
        .expect("content");
    let session = client.get_ref().1;
    assert_eq!(
        session.negotiated_cipher_suite().map(|suite| suite.suite()),
        Some(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)
    );
    assert_eq!(
        session
            .negotiated_key_exchange_group()
            .map(|group| group.name()),
        Some(rustls::NamedGroup::secp384r1)
    );
}
