//! The side that proves who it is, fed messages in any order from anybody: no panic, at most one
//! challenge is answered, and success follows only after that.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tepui_auth::{
    Credential, Secret,
    authenticatee::{Authenticatee, Outcome},
};
use tepui_protocol::{
    internal::{AuthenticationMechanismsMessage, AuthenticationStepMessage},
    peer::{PeerMessage, Pid},
};

const NAMES: [&str; 5] = [
    "mesos.internal.AuthenticationMechanismsMessage",
    "mesos.internal.AuthenticationStepMessage",
    "mesos.internal.AuthenticationCompletedMessage",
    "mesos.internal.AuthenticationFailedMessage",
    "mesos.internal.AuthenticationErrorMessage",
];

fn pid(text: &str) -> Pid {
    text.parse().expect("a process address")
}

fuzz_target!(|input: &[u8]| {
    let credential = Credential::new("follower", Secret::from("secret"));
    let mut attempt = Authenticatee::new(credential, pid("slave(1)@10.0.0.1:5051"));
    attempt.start(&pid("master@10.0.0.2:5050"));
    let (mut input, mut answered) = (input, 0);
    while let [what, count, rest @ ..] = input {
        let (data, rest) = rest.split_at(usize::from(*count).min(rest.len()));
        input = rest;
        let from = match what & 3 {
            0 => pid("master@10.0.0.2:5050"),
            3 => pid("crammd5-authenticator-session(1)@10.0.0.3:5050"),
            _ => pid("crammd5-authenticator-session(1)@10.0.0.2:5050"),
        };
        let message: PeerMessage = match (what >> 2) % 7 {
            5 => AuthenticationMechanismsMessage {
                mechanisms: vec!["CRAM-MD5".to_owned()],
            }
            .into(),
            6 => AuthenticationStepMessage {
                data: data.to_vec().into(),
            }
            .into(),
            name => match PeerMessage::decode(NAMES[usize::from(name)], data.to_vec().into()) {
                Ok(message) => message,
                Err(_) => continue,
            },
        };
        let was_done = attempt.is_done();
        match attempt.message(&from, message) {
            Outcome::Send {
                message: PeerMessage::AuthenticationStep(_),
                ..
            } => answered += 1,
            Outcome::Succeeded => assert_eq!(answered, 1),
            Outcome::Ignored => {}
            Outcome::Send { .. } | Outcome::Failed(_) | Outcome::Error(_) => assert!(!was_done),
        }
    }
    assert!(answered <= 1);
});
