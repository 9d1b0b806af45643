//! A follower whose leader is not one: it learns nothing of the secret, and is not registered with.

use std::net::SocketAddr;

use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::libprocess::{Message, Peer};

use super::client::{digest, field};
use super::{Files, logged};
use crate::drivers::libmesos::SOON;

const SESSION: &str = "crammd5-authenticator-session(1)";

/// A follower with a credential whose leader is this peer, which is not known to be one, and with little patience.
fn follower_of(peer: &Peer, files: &Files) -> Cluster {
    Cluster::builder()
        .only(Part::Follower)
        .flag("master", &peer.address().to_string())
        .flag("credential", &files.credential("follower", "f-secret"))
        .flag("authentication_backoff_factor", "20ms")
        .flag("authentication_timeout_min", "100ms")
        .flag("authentication_timeout_max", "200ms")
        .start()
}

/// The next attempt; nothing else may come for the leader.
fn attempt(peer: &Peer, follower: SocketAddr) -> Message {
    let name = "mesos.internal.AuthenticateMessage";
    let attempt = peer.expect("master", name, SOON);
    let pid = format!("slave(1)@{follower}");
    assert_eq!(attempt.body, field(1, pid.as_bytes()));
    assert!(
        attempt.from.starts_with("crammd5-authenticatee("),
        "{attempt:?}"
    );
    attempt
}

fn say(peer: &Peer, attempt: &Message, name: &str, body: &[u8]) {
    let name = format!("mesos.internal.{name}");
    let sent = peer.send(SESSION, &attempt.from, &name, body);
    sent.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn a_follower_tries_anew_when_nobody_answers_and_never_registers() {
    let files = Files::new();
    let peer = Peer::new();
    let follower = follower_of(&peer, &files);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let attempt = attempt(&peer, follower.follower);
        assert!(!seen.contains(&attempt.from), "{seen:?}");
        seen.push(attempt.from);
    }
    assert!(peer.untaken().is_empty(), "{}", peer.summary());
}

#[test]
fn a_follower_believes_no_outcome_that_it_did_not_work_for() {
    let files = Files::new();
    let peer = Peer::new();
    let follower = follower_of(&peer, &files);
    let mechanisms = |names: &[&str]| -> Vec<u8> {
        let fields = names.iter().map(|name| field(1, name.as_bytes()));
        fields.flatten().collect()
    };
    // Each ends the attempt, and another one follows: none of them is an admission.
    let first = attempt(&peer, follower.follower);
    say(&peer, &first, "AuthenticationCompletedMessage", b"");
    let second = attempt(&peer, follower.follower);
    say(
        &peer,
        &second,
        "AuthenticationMechanismsMessage",
        &mechanisms(&["PLAIN"]),
    );
    let third = attempt(&peer, follower.follower);
    say(
        &peer,
        &third,
        "AuthenticationStepMessage",
        &field(1, b"<1.2@x>"),
    );
    let fourth = attempt(&peer, follower.follower);
    say(
        &peer,
        &fourth,
        "AuthenticationErrorMessage",
        &field(1, b"no"),
    );
    let fifth = attempt(&peer, follower.follower);
    say(
        &peer,
        &fifth,
        "AuthenticationMechanismsMessage",
        b"\xff\xff",
    );
    say(
        &peer,
        &fifth,
        "AuthenticationMechanismsMessage",
        &mechanisms(&["PLAIN", "CRAM-MD5"]),
    );
    let start = peer.expect(SESSION, "mesos.internal.AuthenticationStartMessage", SOON);
    assert_eq!(start.body, [field(1, b"CRAM-MD5"), field(2, b"")].concat());
    say(
        &peer,
        &fifth,
        "AuthenticationStepMessage",
        &field(1, b"<1.2@x>"),
    );
    let step = peer.expect(SESSION, "mesos.internal.AuthenticationStepMessage", SOON);
    let answer = format!("follower {}", digest("f-secret", b"<1.2@x>"));
    assert_eq!(step.body, field(1, answer.as_bytes()));
    // Only now it has proved itself, and registers.
    let untaken = peer.untaken();
    assert!(
        untaken
            .iter()
            .all(|message| message.name.contains("Authenticat")),
        "{untaken:?}"
    );
    say(&peer, &fifth, "AuthenticationCompletedMessage", b"");
    let name = "mesos.internal.RegisterSlaveMessage";
    let registration = peer.take(SOON, |message| message.name == name);
    assert_eq!(
        registration.map(|message| message.to),
        Some("master".to_owned())
    );
    assert!(!follower.process(Part::Follower).log().contains("f-secret"));
    assert!(logged(&follower, Part::Follower, "has authenticated us"));
}

#[test]
fn a_follower_hears_only_who_its_leader_is() {
    let files = Files::new();
    let (peer, stranger) = (Peer::new(), Peer::new());
    let follower = follower_of(&peer, &files);
    let first = attempt(&peer, follower.follower);
    let mechanisms = field(1, b"CRAM-MD5");
    // From elsewhere: not believed, and not answered; what is told to the leader shows that it was read.
    say(
        &stranger,
        &first,
        "AuthenticationMechanismsMessage",
        &mechanisms,
    );
    say(
        &stranger,
        &first,
        "AuthenticationStepMessage",
        &field(1, b"<1.2@x>"),
    );
    assert!(tepui_tests::wait::eventually(SOON, || {
        stranger.answers(follower.follower).len() == 2
    }));
    attempt(&peer, follower.follower);
    assert!(stranger.untaken().is_empty(), "{}", stranger.summary());
    assert_eq!(stranger.arrived(), 0);
}
