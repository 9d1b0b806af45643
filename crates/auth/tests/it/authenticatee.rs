//! The side that proves who it is: whom it listens to, and what ends an attempt.

use crate::support::{pid, step};
use tepui_auth::{
    Credential, Secret,
    authenticatee::{Authenticatee, Outcome},
};
use tepui_protocol::{
    internal::{
        AuthenticationCompletedMessage, AuthenticationErrorMessage, AuthenticationMechanismsMessage,
    },
    peer::PeerMessage,
};

const LEADER: &str = "master@127.0.0.1:5050";
const SESSION: &str = "crammd5-authenticator-session(1)@127.0.0.1:5050";
const STRANGER: &str = "crammd5-authenticator-session(1)@10.0.0.9:5050";

fn attempt() -> Authenticatee {
    let credential = Credential::new("follower", Secret::from("f-secret"));
    let mut attempt = Authenticatee::new(credential, pid("slave(1)@127.0.0.1:5051"));
    assert!(matches!(attempt.start(&pid(LEADER)), Outcome::Send { .. }));
    attempt
}

fn mechanisms(names: &[&str]) -> PeerMessage {
    AuthenticationMechanismsMessage {
        mechanisms: names.iter().map(|name| (*name).to_owned()).collect(),
    }
    .into()
}

fn completed() -> PeerMessage {
    AuthenticationCompletedMessage {}.into()
}

fn chosen() -> Authenticatee {
    let mut attempt = attempt();
    let said = attempt.message(&pid(SESSION), mechanisms(&["PLAIN", "CRAM-MD5"]));
    assert!(matches!(said, Outcome::Send { .. }));
    attempt
}

#[test]
fn strangers_change_nothing() {
    let mut attempt = attempt();
    for message in [mechanisms(&["CRAM-MD5"]), completed(), step("<1.1@x>")] {
        assert_eq!(attempt.message(&pid(STRANGER), message), Outcome::Ignored);
    }
    let mut attempt = chosen();
    for from in [
        STRANGER,
        LEADER,
        "crammd5-authenticator-session(2)@127.0.0.1:5050",
    ] {
        assert_eq!(
            attempt.message(&pid(from), step("<1.1@x>")),
            Outcome::Ignored
        );
    }
}

#[test]
fn a_leader_without_our_mechanism_is_an_error() {
    let said = attempt().message(&pid(SESSION), mechanisms(&["GSSAPI"]));
    assert!(matches!(said, Outcome::Error(reason) if reason.contains("No worthy mechs found")));
}

#[test]
fn completed_without_a_challenge_is_not_believed() {
    let mut attempt = attempt();
    let said = attempt.message(&pid(SESSION), completed());
    let unexpected = "Unexpected authentication 'completed' received".to_owned();
    assert_eq!(said, Outcome::Error(unexpected.clone()));
    assert_eq!(
        chosen().message(&pid(SESSION), completed()),
        Outcome::Error(unexpected)
    );
}

#[test]
fn one_challenge_is_answered_and_no_second() {
    let mut attempt = chosen();
    assert!(matches!(
        attempt.message(&pid(SESSION), step("<1.1@x>")),
        Outcome::Send { .. }
    ));
    assert!(matches!(
        attempt.message(&pid(SESSION), step("<2.2@x>")),
        Outcome::Error(_)
    ));
    assert_eq!(
        attempt.message(&pid(SESSION), completed()),
        Outcome::Ignored
    );
}

#[test]
fn empty_and_huge_challenges_are_not_answered() {
    for data in [Vec::new(), vec![b'x'; 1025], vec![0; 4 << 20]] {
        let said = chosen().message(&pid(SESSION), step(data));
        assert!(matches!(said, Outcome::Error(_)), "{said:?}");
    }
}

#[test]
fn an_error_is_passed_on_as_the_reference_words_it() {
    let error = AuthenticationErrorMessage {
        error: Some("No authenticator loaded".to_owned()),
    };
    let said = attempt().message(&pid(LEADER), error.into());
    let text = "Authentication error: No authenticator loaded".to_owned();
    assert_eq!(said, Outcome::Error(text));
}

#[test]
fn an_attempt_does_not_show_its_secret() {
    assert!(!format!("{:?}", attempt()).contains("f-secret"));
}
