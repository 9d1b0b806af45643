//! The leader's side of the exchange, fed steps in any order: no panic, its invariants hold, and
//! nobody is authenticated who did not answer that session's challenge.
//!
//! The input is a sequence of operations: one byte for which, one for who, then its data, with a
//! length byte in front where it has some.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{sync::Arc, time::Duration};
use tepui_auth::{
    Credentials, Secret,
    authenticator::{Action, Authenticator, Options},
    crammd5,
};
use tepui_model::Time;
use tepui_protocol::{
    internal::{AuthenticateMessage, AuthenticationStartMessage, AuthenticationStepMessage},
    peer::{PeerMessage, Pid},
};

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    taken
}

fn byte(input: &mut &[u8]) -> u8 {
    take(input, 1).first().copied().unwrap_or_default()
}

fn data<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let count = usize::from(byte(input));
    take(input, count)
}

fn peer(number: u8) -> Pid {
    Pid {
        name: format!("crammd5-authenticatee({})", number >> 4),
        address: ([10, 0, 0, number & 3], 1 + u16::from(number & 15)).into(),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    let credentials = Credentials::parse("a secret\nb other\n").expect("credentials");
    let mut leader = Authenticator::new(Options {
        credentials: Some(Arc::new(credentials)),
        sessions_max: 8,
        ..Options::default()
    });
    let mut now = Time::from_nanos(1 << 60);
    let mut challenges: Vec<(u64, Vec<u8>)> = Vec::new();
    while !input.is_empty() {
        let mut out = Vec::new();
        let mut answered = None;
        let (what, who) = (byte(&mut input), peer(byte(&mut input)));
        match what % 8 {
            0 => {
                let pid = format!("slave(1)@10.0.0.1:{}", byte(&mut input));
                leader.authenticate(now, &who, &AuthenticateMessage { pid }, &mut out);
            }
            1 => {
                let pid = String::from_utf8_lossy(data(&mut input)).into_owned();
                leader.authenticate(now, &who, &AuthenticateMessage { pid }, &mut out);
            }
            2 => {
                let session = u64::from(byte(&mut input));
                let mechanism = match what / 8 {
                    0 => String::from_utf8_lossy(data(&mut input)).into_owned(),
                    _ => "CRAM-MD5".to_owned(),
                };
                let data = (what < 200).then(|| data(&mut input).to_vec().into());
                let start = AuthenticationStartMessage { mechanism, data };
                leader.session_message(now, session, &who, start.into(), &mut out);
            }
            3 => {
                let session = u64::from(byte(&mut input));
                let step = AuthenticationStepMessage {
                    data: data(&mut input).to_vec().into(),
                };
                leader.session_message(now, session, &who, step.into(), &mut out);
            }
            4 => {
                // The right response, perhaps from another peer or for another session.
                let session = u64::from(byte(&mut input));
                if let Some((of, challenge)) = challenges.iter().rfind(|(of, _)| *of == session) {
                    answered = Some(*of);
                    let data = crammd5::response("a", &Secret::from("secret"), challenge).into();
                    let step = AuthenticationStepMessage { data };
                    leader.session_message(now, session, &who, step.into(), &mut out);
                }
            }
            5 => {
                let session = u64::from(byte(&mut input));
                let name = PeerMessage::NAMES[usize::from(what / 8) % PeerMessage::NAMES.len()];
                let body = data(&mut input).to_vec().into();
                if let Ok(message) = PeerMessage::decode(name, body) {
                    leader.session_message(now, session, &who, message, &mut out);
                }
            }
            6 => leader.link_broken(now, &who, &mut out),
            _ => {
                now = now + Duration::from_secs(u64::from(byte(&mut input)) / 8);
                leader.tick(now, &mut out);
                assert!(leader.next_deadline().is_none_or(|at| at > now));
            }
        }
        leader.check();
        for action in out {
            match action {
                Action::Authenticated { principal, .. } => {
                    assert!(answered.is_some() && principal.as_ref() == "a");
                }
                Action::Send {
                    session: Some(session),
                    message: PeerMessage::AuthenticationStep(step),
                    ..
                } => challenges.push((session, step.data.to_vec())),
                _ => {}
            }
        }
    }
});
