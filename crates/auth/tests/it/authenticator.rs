//! The leader's side: what each wrong turn is answered with, and that it costs only who took it.

use crate::support::{Leader, NOW, challenge, options, pid, start, step, told};
use std::time::Duration;
use tepui_auth::{
    Secret,
    authenticator::{Action, Authenticator, Options},
    crammd5,
};
use tepui_model::Time;
use tepui_protocol::{
    internal::{AuthenticateMessage, AuthenticationFailedMessage},
    peer::PeerMessage,
};

const PEER: &str = "crammd5-authenticatee(1)@127.0.0.1:5051";
const OTHER: &str = "crammd5-authenticatee(1)@127.0.0.1:5052";
const FOLLOWER: &str = "slave(1)@127.0.0.1:5051";

fn refused(pid: &str, reason: &str) -> Action {
    Action::Refused {
        pid: crate::support::pid(pid),
        reason: reason.to_owned(),
    }
}

fn challenged(leader: &mut Leader) -> Vec<u8> {
    leader.authenticate(NOW, PEER, FOLLOWER);
    challenge(&leader.say(1, PEER, start("CRAM-MD5", b"")))
}

fn right(challenge: &[u8]) -> PeerMessage {
    step(crammd5::response(
        "follower",
        &Secret::from("f-secret"),
        challenge,
    ))
}

#[test]
fn a_right_response_authenticates_the_process_it_is_for() {
    let mut leader = Leader::new();
    let challenge = challenged(&mut leader);
    assert!(leader.0.is_pending(&pid(FOLLOWER)));
    let did = leader.say(1, PEER, right(&challenge));
    assert_eq!(
        did[1],
        Action::Authenticated {
            pid: pid(FOLLOWER),
            principal: "follower".into()
        }
    );
    assert!(!leader.0.is_pending(&pid(FOLLOWER)));
    assert_eq!(leader.0.next_deadline(), None);
}

#[test]
fn an_unknown_principal_fails_like_a_wrong_secret() {
    for (principal, secret) in [("nobody", "f-secret"), ("follower", "nonsense"), ("x", "")] {
        let mut leader = Leader::new();
        let challenge = challenged(&mut leader);
        let response = crammd5::response(principal, &Secret::from(secret), &challenge);
        let did = leader.say(1, PEER, step(response));
        assert_eq!(
            did,
            [
                Action::Send {
                    session: Some(1),
                    to: pid(PEER),
                    message: AuthenticationFailedMessage {}.into()
                },
                refused(FOLLOWER, "Invalid credentials")
            ]
        );
    }
}

#[test]
fn without_credentials_every_exchange_fails() {
    let mut leader = Leader(Authenticator::new(Options {
        credentials: None,
        ..options()
    }));
    let challenge = challenged(&mut leader);
    let did = leader.say(1, PEER, right(&challenge));
    assert_eq!(did[1], refused(FOLLOWER, "Invalid credentials"));
}

#[test]
fn a_response_to_another_challenge_fails() {
    let mut leader = Leader::new();
    let first = challenged(&mut leader);
    leader.authenticate(NOW, PEER, FOLLOWER);
    let second = challenge(&leader.say(2, PEER, start("CRAM-MD5", b"")));
    assert_ne!(first, second);
    let did = leader.say(2, PEER, right(&first));
    assert_eq!(did[1], refused(FOLLOWER, "Invalid credentials"));
}

#[test]
fn another_mechanism_is_refused_by_name() {
    let mut leader = Leader::new();
    leader.authenticate(NOW, PEER, FOLLOWER);
    let did = leader.say(1, PEER, start("PLAIN", b""));
    let text = "SASL(-4): no mechanism available: Couldn't find mech PLAIN";
    assert_eq!(told(&did), text);
    assert_eq!(did[1], refused(FOLLOWER, text));
}

#[test]
fn data_before_the_challenge_is_refused() {
    let mut leader = Leader::new();
    leader.authenticate(NOW, PEER, FOLLOWER);
    let did = leader.say(1, PEER, start("CRAM-MD5", b"x"));
    assert_eq!(
        told(&did),
        "SASL(-5): bad protocol / cancel: Remote sent first but mech does not allow it."
    );
}

#[test]
fn what_is_no_response_is_refused() {
    let need = "SASL(-5): bad protocol / cancel: need authentication name";
    let long = "SASL(-5): bad protocol / cancel: CRAM-MD5 input longer than 1024 bytes";
    let cases = [
        (Vec::new(), need),
        (b"name".to_vec(), need),
        (b" 0123".to_vec(), need),
        (b"a ".repeat(600), long),
        (vec![0xff; 4 << 20], long),
    ];
    for (response, text) in cases {
        let mut leader = Leader::new();
        challenged(&mut leader);
        assert_eq!(told(&leader.say(1, PEER, step(response))), text);
    }
}

#[test]
fn bytes_that_are_no_text_are_an_unknown_principal() {
    let mut leader = Leader::new();
    challenged(&mut leader);
    let did = leader.say(1, PEER, step([0xff, 0xfe, b' ', 0xff]));
    assert_eq!(did[1], refused(FOLLOWER, "Invalid credentials"));
}

#[test]
fn a_step_before_the_start_and_a_second_start_are_unexpected() {
    let mut leader = Leader::new();
    leader.authenticate(NOW, PEER, FOLLOWER);
    assert_eq!(
        told(&leader.say(1, PEER, step("x y"))),
        "Unexpected authentication 'step' received"
    );
    let mut leader = Leader::new();
    challenged(&mut leader);
    assert_eq!(
        told(&leader.say(1, PEER, start("CRAM-MD5", b""))),
        "Unexpected authentication 'start' received"
    );
}

#[test]
fn a_session_that_is_over_answers_nothing() {
    let mut leader = Leader::new();
    let challenge = challenged(&mut leader);
    leader.say(1, PEER, right(&challenge));
    assert_eq!(leader.say(1, PEER, right(&challenge)), []);
    assert_eq!(leader.say(1, PEER, start("CRAM-MD5", b"")), []);
    assert_eq!(leader.say(99, PEER, start("CRAM-MD5", b"")), []);
}

#[test]
fn a_session_hears_only_who_opened_it() {
    let mut leader = Leader::new();
    let challenge = challenged(&mut leader);
    assert_eq!(leader.say(1, OTHER, step("x y")), []);
    assert_eq!(leader.say(1, OTHER, right(&challenge)), []);
    let did = leader.say(1, PEER, right(&challenge));
    assert!(matches!(did[1], Action::Authenticated { .. }));
}

#[test]
fn messages_that_a_session_does_not_know_change_nothing() {
    let mut leader = Leader::new();
    let challenge = challenged(&mut leader);
    let failed = AuthenticationFailedMessage {}.into();
    assert_eq!(leader.say(1, PEER, failed), []);
    let did = leader.say(1, PEER, right(&challenge));
    assert!(matches!(did[1], Action::Authenticated { .. }));
}

#[test]
fn a_newer_attempt_replaces_the_older_one_without_a_word() {
    let mut leader = Leader::new();
    let challenge = challenged(&mut leader);
    let newer = "crammd5-authenticatee(2)@127.0.0.1:5051";
    let did = leader.authenticate(NOW, newer, FOLLOWER);
    assert!(matches!(
        &did[..],
        [Action::Send {
            session: Some(2),
            ..
        }]
    ));
    assert_eq!(leader.say(1, PEER, right(&challenge)), []);
    assert!(leader.0.is_pending(&pid(FOLLOWER)));
}

#[test]
fn a_peer_that_begins_for_another_process_gives_up_the_first() {
    let mut leader = Leader::new();
    challenged(&mut leader);
    let did = leader.authenticate(NOW, PEER, "slave(2)@127.0.0.1:5051");
    assert_eq!(
        did[0],
        refused(FOLLOWER, "the same peer began another exchange")
    );
    assert_eq!(leader.0.sessions(), 1);
}

#[test]
fn an_exchange_ends_when_its_time_is_over() {
    let mut leader = Leader::new();
    let challenge = challenged(&mut leader);
    let deadline = NOW + Duration::from_secs(15);
    assert_eq!(leader.0.next_deadline(), Some(deadline));
    let mut did = Vec::new();
    leader
        .0
        .tick(Time::from_nanos(deadline.nanos() - 1), &mut did);
    assert_eq!(did, []);
    // Nothing gets in between the deadline and the tick.
    let late = leader.say_at(deadline, 1, PEER, right(&challenge));
    assert_eq!(late, [refused(FOLLOWER, "Authentication timed out")]);
    leader.authenticate(NOW, PEER, FOLLOWER);
    leader.0.tick(deadline, &mut did);
    assert_eq!(did, [refused(FOLLOWER, "Authentication timed out")]);
    assert_eq!(leader.0.next_deadline(), None);
}

#[test]
fn a_broken_link_ends_the_exchange() {
    let mut leader = Leader::new();
    challenged(&mut leader);
    let mut did = Vec::new();
    leader.0.link_broken(NOW, &pid(OTHER), &mut did);
    assert_eq!(did, []);
    leader.0.link_broken(NOW, &pid(PEER), &mut did);
    assert_eq!(
        did,
        [refused(
            FOLLOWER,
            "Failed to communicate with authenticatee"
        )]
    );
}

#[test]
fn a_request_for_no_process_is_an_error_from_the_leader_itself() {
    let mut leader = Leader::new();
    for nonsense in ["", "slave(1)", "@", "slave(1)@host:1", "a b@127.0.0.1:1"] {
        let did = leader.authenticate(NOW, PEER, nonsense);
        assert!(matches!(&did[..], [Action::Send { session: None, .. }]));
        told(&did);
    }
    assert_eq!(leader.0.sessions(), 0);
}

#[test]
fn who_floods_pushes_out_its_own() {
    let mut leader = Leader(Authenticator::new(Options {
        sessions_max: 10,
        ..options()
    }));
    let challenge = challenged(&mut leader);
    for port in 1..100 {
        let flood = format!("crammd5-authenticatee(1)@10.0.0.9:{port}");
        leader.authenticate(NOW, &flood, &format!("slave(1)@10.0.0.9:{port}"));
    }
    assert_eq!(leader.0.sessions(), 10);
    let did = leader.say(1, PEER, right(&challenge));
    assert!(matches!(did[1], Action::Authenticated { .. }));
}

#[test]
fn odd_host_names_do_not_spoil_challenges() {
    for (hostname, end) in [
        ("", "@localhost>"),
        ("a b>@<c", "@abc>"),
        ("ü.example", "@.example>"),
    ] {
        let mut leader = Leader(Authenticator::new(Options {
            hostname: hostname.to_owned(),
            ..options()
        }));
        let text = String::from_utf8(challenged(&mut leader)).expect("text");
        assert!(text.ends_with(end), "{text}");
    }
}

#[test]
fn settings_do_not_show_secrets() {
    let shown = format!("{:?}", options());
    assert!(!shown.contains("secret\"") && !shown.contains("f-secret"));
    assert!(!shown.contains("nonce"), "{shown}");
    let mut out = Vec::new();
    let message = AuthenticateMessage {
        pid: FOLLOWER.to_owned(),
    };
    Authenticator::new(options()).authenticate(NOW, &pid(PEER), &message, &mut out);
    assert_eq!(out.len(), 1);
}
