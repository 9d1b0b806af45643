//! Nonsense in any order. Safety: no panic, bounded, and "authenticated" only ever after a right
//! response to that session's challenge. Liveness: time ends every exchange.

use crate::support::{NOW, options, pid};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};
use tepui_auth::{
    Credential, Secret,
    authenticatee::{Authenticatee, Outcome},
    authenticator::{Action, Authenticator, Options},
    crammd5,
};
use tepui_protocol::{
    internal::{
        AuthenticateMessage, AuthenticationCompletedMessage, AuthenticationErrorMessage,
        AuthenticationFailedMessage, AuthenticationMechanismsMessage, AuthenticationStartMessage,
        AuthenticationStepMessage,
    },
    peer::PeerMessage,
};

const SESSIONS_MAX: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    Authenticate {
        peer: u8,
        of: u8,
    },
    Message(u64, u8, PeerMessage),
    /// Answers the session's challenge, rightly or with another secret.
    Respond {
        session: u64,
        peer: u8,
        right: bool,
    },
    Break(u8),
    Wait(u64),
}

fn message() -> impl Strategy<Value = PeerMessage> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (
            prop_oneof![Just("CRAM-MD5".to_owned()), ".{0,8}"],
            proptest::option::of(prop_oneof![Just(Vec::new()), bytes()])
        )
            .prop_map(|(mechanism, data)| {
                let data = data.map(Into::into);
                AuthenticationStartMessage { mechanism, data }.into()
            }),
        prop_oneof![bytes(), Just(vec![b' '; 2000])]
            .prop_map(|data| AuthenticationStepMessage { data: data.into() }.into()),
        proptest::collection::vec(prop_oneof![Just("CRAM-MD5".to_owned()), ".{0,8}"], 0..3)
            .prop_map(|mechanisms| AuthenticationMechanismsMessage { mechanisms }.into()),
        Just(AuthenticationCompletedMessage {}.into()),
        Just(AuthenticationFailedMessage {}.into()),
        proptest::option::of(".{0,8}")
            .prop_map(|error| AuthenticationErrorMessage { error }.into()),
        ".{0,8}".prop_map(|pid| AuthenticateMessage { pid }.into()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..8u8, 0..8u8).prop_map(|(peer, of)| Op::Authenticate { peer, of }),
        4 => (1..12u64, 0..8u8, message()).prop_map(|(to, peer, m)| Op::Message(to, peer, m)),
        4 => (1..12u64, 0..8u8, any::<bool>())
            .prop_map(|(session, peer, right)| Op::Respond { session, peer, right }),
        1 => (0..8u8).prop_map(Op::Break),
        1 => (0..20u64).prop_map(Op::Wait),
    ]
}

fn peer(number: u8) -> String {
    format!("crammd5-authenticatee(1)@10.0.0.{}:{number}", number % 3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_leader_authenticates_only_right_responses(ops in proptest::collection::vec(op(), 1..60)) {
        let mut leader =
            Authenticator::new(Options { sessions_max: SESSIONS_MAX, ..options() });
        let mut now = NOW;
        let mut challenges: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for op in ops {
            let mut out = Vec::new();
            let mut may_authenticate = false;
            match op {
                Op::Authenticate { peer: from, of } => {
                    let message = AuthenticateMessage { pid: format!("slave({of})@10.0.0.1:1") };
                    leader.authenticate(now, &pid(&peer(from)), &message, &mut out);
                }
                Op::Message(session, from, message) => {
                    leader.session_message(now, session, &pid(&peer(from)), message, &mut out);
                }
                Op::Respond { session, peer: from, right } => {
                    let secret = if right { "f-secret" } else { "other" };
                    let nothing = Vec::new();
                    let challenge = challenges.get(&session).unwrap_or(&nothing);
                    let data = crammd5::response("follower", &Secret::from(secret), challenge);
                    may_authenticate = right && !challenge.is_empty();
                    let message = AuthenticationStepMessage { data: data.into() }.into();
                    leader.session_message(now, session, &pid(&peer(from)), message, &mut out);
                }
                Op::Break(from) => leader.link_broken(now, &pid(&peer(from)), &mut out),
                Op::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    leader.tick(now, &mut out);
                    prop_assert!(leader.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
            leader.check();
            prop_assert!(leader.sessions() <= SESSIONS_MAX);
            for action in &out {
                if let Action::Authenticated { principal, .. } = action {
                    prop_assert!(may_authenticate);
                    prop_assert_eq!(principal.as_ref(), "follower");
                }
                if let Action::Send {
                    session: Some(session),
                    message: PeerMessage::AuthenticationStep(step),
                    ..
                } = action {
                    prop_assert!(challenges.values().all(|known| known != &step.data));
                    challenges.insert(*session, step.data.to_vec());
                }
            }
        }
        let mut out = Vec::new();
        leader.tick(now + Duration::from_secs(16), &mut out);
        prop_assert_eq!(leader.sessions(), 0);
        prop_assert_eq!(leader.next_deadline(), None);
    }

    #[test]
    fn an_attempt_ends_and_answers_at_most_one_challenge(
        messages in proptest::collection::vec((0..3u8, message()), 0..30)
    ) {
        let credential = Credential::new("follower", Secret::from("f-secret"));
        let mut attempt = Authenticatee::new(credential, pid("slave(1)@127.0.0.1:5051"));
        attempt.start(&pid("master@127.0.0.1:5050"));
        let mut responses = 0;
        for (from, message) in messages {
            let from = match from {
                0 => "master@127.0.0.1:5050",
                1 => "crammd5-authenticator-session(1)@127.0.0.1:5050",
                _ => "crammd5-authenticator-session(1)@10.0.0.9:1",
            };
            let was_done = attempt.is_done();
            match attempt.message(&pid(from), message) {
                Outcome::Send { message: PeerMessage::AuthenticationStep(_), .. } => responses += 1,
                Outcome::Succeeded => prop_assert_eq!(responses, 1),
                Outcome::Send { .. } | Outcome::Failed(_) | Outcome::Error(_) => {
                    prop_assert!(!was_done);
                }
                Outcome::Ignored => {}
            }
        }
        prop_assert!(responses <= 1);
    }
}
