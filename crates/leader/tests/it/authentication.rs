//! Who gets in where credentials are asked for, and what the others hear.

use crate::{harness::*, told::*};
use std::{sync::Arc, time::Duration};
use tepui_auth::{
    authenticatee::{Authenticatee, Outcome},
    authenticator::Options,
    credentials::{Credential, Credentials, Secret},
};
use tepui_leader::{Config, Effect, Input, ProcessName, config};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, scheduler::call::Type},
};

fn cluster(frameworks: bool, followers: bool) -> Cluster {
    let credentials = Credentials::parse("good right\nother word").expect("valid credentials");
    let config = Config {
        authentication: config::Authentication {
            frameworks,
            followers,
        },
        authenticator: Options {
            credentials: Some(Arc::new(credentials)),
            ..Options::default()
        },
        ..Config::default()
    };
    Cluster::with(config, &internal::Registry::default())
}

fn credential(principal: &str, secret: &str) -> Credential {
    Credential::new(principal, Secret::new(secret.as_bytes().to_vec()))
}

fn authenticatee_of(client: &Pid) -> Pid {
    Pid {
        name: "crammd5-authenticatee(1)".to_owned(),
        address: client.address,
    }
}

/// Goes through a whole exchange; what the peer makes of it.
fn authenticate(cluster: &mut Cluster, client: &Pid, credential: Credential) -> Outcome {
    let leader: Pid = "master@127.0.0.1:5050".parse().expect("a valid address");
    let own = authenticatee_of(client);
    let mut peer = Authenticatee::new(credential, client.clone());
    let mut outcome = peer.start(&leader);
    while let Outcome::Send { to, message } = outcome {
        let to = ProcessName::parse(&to.name).expect("a process of the leader");
        let from = own.clone();
        cluster.handle(Input::Peer { from, to, message });
        let Effect::Send { to, from, message } = cluster.next() else {
            panic!("expected an answer")
        };
        assert_eq!(to, own);
        let from = Pid {
            name: from.to_string(),
            address: leader.address,
        };
        outcome = peer.message(&from, message);
    }
    outcome
}

fn claiming(principal: Option<&str>) -> v1::FrameworkInfo {
    let mut info = framework();
    info.principal = principal.map(str::to_owned);
    info
}

#[test]
fn drivers_get_in_as_who_they_are_and_not_otherwise() {
    let stranger = "FrameworkError(Framework at a@127.0.1.1:9000 is not authenticated) -> a";
    let mismatch = "FrameworkError(Framework principal 'other' does not match authenticated \
                    principal 'good') -> a";
    let welcome = "FrameworkRegistered(lead-0000) -> a";
    // Asked for, secret, principal claimed, what it hears, principal it has then.
    let cases = [
        (true, Some("right"), Some("good"), welcome, Some("good")),
        (true, Some("right"), None, welcome, Some("good")),
        (true, Some("right"), Some("other"), mismatch, None),
        (true, Some("wrong"), Some("good"), stranger, None),
        (true, None, Some("good"), stranger, None),
        (false, None, Some("good"), welcome, Some("good")),
        (false, None, None, welcome, None),
        (false, Some("right"), None, welcome, Some("good")),
        (false, Some("right"), Some("other"), mismatch, None),
        (false, Some("wrong"), None, welcome, None),
    ];
    for (asked, secret, claimed, expected, principal) in cases {
        let mut cluster = cluster(asked, false);
        if let Some(secret) = secret {
            let outcome = authenticate(&mut cluster, &driver("a"), credential("good", secret));
            assert_eq!(matches!(outcome, Outcome::Succeeded), secret == "right");
        }
        cluster.peer(&driver("a"), subscribe(claiming(claimed), false));
        let case = format!("{asked} {secret:?} {claimed:?}");
        assert_eq!(told(&mut cluster), [expected], "{case}");
        let view = cluster.view();
        let known = view.frameworks.values().next();
        assert_eq!(
            known.map(|f| f.info.principal.as_deref()),
            (expected == welcome).then_some(principal),
            "{case}"
        );
    }
}

#[test]
fn followers_that_are_not_authenticated_hear_nothing() {
    for secret in [None, Some("wrong"), Some("right")] {
        let mut cluster = cluster(false, true);
        if let Some(secret) = secret {
            authenticate(&mut cluster, &pid(1), credential("good", secret));
        }
        cluster.peer(&pid(1), register_message(1, "cpus:4"));
        let right = secret == Some("right");
        assert_eq!(told(&mut cluster).is_empty(), !right, "{secret:?}");
        let mut again = internal::ReregisterSlaveMessage {
            slave: agent_info(2, "cpus:4"),
            version: Some("1.11.0".to_owned()),
            ..Default::default()
        };
        again.slave.id = Some(v1::AgentId { value: "x".into() });
        cluster.peer(&pid(2), again);
        assert!(told(&mut cluster).is_empty(), "another one is not helped");
        assert_eq!(cluster.view().followers.size(), usize::from(right));
    }
}

#[test]
fn a_wrong_secret_and_an_unknown_principal_fail_alike() {
    let mut cluster = cluster(true, true);
    let wrong = authenticate(&mut cluster, &driver("a"), credential("good", "wrong"));
    let unknown = authenticate(&mut cluster, &driver("b"), credential("nobody", "right"));
    assert!(matches!(wrong, Outcome::Failed(_)), "{wrong:?}");
    assert_eq!(format!("{wrong:?}"), format!("{unknown:?}"));
    assert_eq!(
        cluster.view().metrics.count("master/messages_authenticate"),
        2
    );
}

/// Begins an exchange for a process and leaves it there.
fn begin(cluster: &mut Cluster, client: &Pid) {
    let message = internal::AuthenticateMessage {
        pid: client.to_string(),
    };
    cluster.peer(&authenticatee_of(client), message);
    let Effect::Send { message, from, .. } = cluster.next() else {
        panic!("expected the mechanisms")
    };
    assert!(matches!(message, PeerMessage::AuthenticationMechanisms(_)));
    assert!(matches!(from, ProcessName::Authenticator(_)));
}

#[test]
fn a_registration_waits_for_the_end_of_the_exchange() {
    let mut cluster = cluster(true, true);
    begin(&mut cluster, &driver("a"));
    begin(&mut cluster, &pid(1));
    cluster.peer(&driver("a"), subscribe(framework(), false));
    cluster.peer(&pid(1), register_message(1, "cpus:4"));
    assert!(told(&mut cluster).is_empty());
    authenticate(&mut cluster, &driver("a"), credential("good", "right"));
    assert_eq!(told(&mut cluster), ["FrameworkRegistered(lead-0000) -> a"]);
    cluster.pass(Duration::from_secs(20));
    assert!(
        told(&mut cluster).is_empty(),
        "the follower's exchange ran out"
    );
    cluster.peer(&pid(1), register_message(1, "cpus:4"));
    assert!(told(&mut cluster).is_empty(), "it is nobody");
}

#[test]
fn another_exchange_makes_a_process_a_stranger_until_it_is_over() {
    let mut cluster = cluster(true, false);
    authenticate(&mut cluster, &driver("a"), credential("good", "right"));
    begin(&mut cluster, &driver("a"));
    cluster.handle(Input::LinkBroken {
        pid: authenticatee_of(&driver("a")),
    });
    cluster.peer(&driver("a"), subscribe(framework(), false));
    assert_eq!(
        told(&mut cluster),
        ["FrameworkError(Framework at a@127.0.1.1:9000 is not authenticated) -> a"]
    );
}

#[test]
fn who_was_away_has_to_prove_it_again() {
    let mut cluster = cluster(true, true);
    for client in [driver("a"), pid(1)] {
        authenticate(&mut cluster, &client, credential("good", "right"));
    }
    cluster.register(1, "cpus:4");
    cluster.peer(&driver("a"), subscribe(framework(), false));
    told(&mut cluster);
    for pid in [driver("a"), pid(1)] {
        cluster.handle(Input::LinkBroken { pid });
    }
    told(&mut cluster);
    let mut info = framework();
    info.id = Some(framework_id("lead-0000"));
    cluster.peer(&driver("a"), subscribe(info, true));
    assert_eq!(
        told(&mut cluster),
        ["FrameworkError(Framework at a@127.0.1.1:9000 is not authenticated) -> a"]
    );
    cluster.peer(&pid(1), register_message(1, "cpus:4"));
    assert!(told(&mut cluster).is_empty());
}

#[test]
fn a_framework_that_ended_is_a_stranger() {
    let mut cluster = cluster(true, false);
    authenticate(&mut cluster, &driver("a"), credential("good", "right"));
    cluster.peer(&driver("a"), subscribe(framework(), false));
    cluster.peer(&driver("a"), by("lead-0000", call(Type::Teardown)));
    told(&mut cluster);
    cluster.peer(&driver("a"), subscribe(framework(), false));
    assert_eq!(
        told(&mut cluster),
        ["FrameworkError(Framework at a@127.0.1.1:9000 is not authenticated) -> a"]
    );
}

#[test]
fn nobody_authenticates_for_another_machine() {
    let mut cluster = cluster(false, true);
    authenticate(&mut cluster, &pid(1), credential("good", "right"));
    let message = internal::AuthenticateMessage {
        pid: pid(1).to_string(),
    };
    cluster.peer(&authenticatee_of(&pid(2)), message);
    assert_eq!(
        told(&mut cluster),
        [
            "AuthenticationError(Invalid pid in the authentication request) -> crammd5-authenticatee(1)"
        ]
    );
    cluster.register(1, "cpus:4");
}

#[test]
fn without_credentials_an_exchange_fails_and_everybody_gets_in() {
    let mut cluster = Cluster::new();
    let outcome = authenticate(&mut cluster, &driver("a"), credential("good", "right"));
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    cluster.peer(&driver("a"), subscribe(framework(), false));
    assert_eq!(told(&mut cluster), ["FrameworkRegistered(lead-0000) -> a"]);
}
