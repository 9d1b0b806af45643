//! An authenticatee: the peer's part of the CRAM-MD5 exchange, as `auth.wire.jsonl` has it, one step at a time so that a test
//! can leave some out, repeat them or say something else.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use hmac::{Hmac, Mac};
use md5::Md5;
use tepui_tests::libprocess::Peer;

use crate::drivers::libmesos::SOON;

/// How an exchange ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Failed,
    Error(String),
}

/// An exchange under way, of a process `crammd5-authenticatee(N)` at the peer's address.
pub(crate) struct Exchange<'a> {
    peer: &'a Peer,
    /// Its process.
    pub(crate) name: String,
    /// The leader's process for it, with its address.
    pub(crate) session: String,
}

/// The whole exchange for the process at `subject`.
pub(crate) fn authenticate(
    peer: &Peer,
    leader: SocketAddr,
    subject: &str,
    principal: &str,
    secret: &str,
) -> Outcome {
    let exchange = Exchange::begin(peer, leader, subject);
    let challenge = exchange.challenge();
    exchange.step(&response(principal, secret, &challenge));
    exchange.end()
}

impl<'a> Exchange<'a> {
    /// Asks, and is told the mechanisms.
    pub(crate) fn begin(peer: &'a Peer, leader: SocketAddr, subject: &str) -> Exchange<'a> {
        let name = ask(peer, leader, subject);
        let message = "mesos.internal.AuthenticationMechanismsMessage";
        let mechanisms = peer.expect(&name, message, SOON);
        assert_eq!(mechanisms.body, field(1, b"CRAM-MD5"));
        let process = mechanisms.from.split('(').next();
        assert_eq!(process, Some("crammd5-authenticator-session"));
        Exchange {
            peer,
            name,
            session: mechanisms.from,
        }
    }

    /// Picks the one mechanism and is told the challenge.
    pub(crate) fn challenge(&self) -> Vec<u8> {
        self.start("CRAM-MD5", b"");
        self.await_challenge()
    }

    pub(crate) fn await_challenge(&self) -> Vec<u8> {
        let message = "mesos.internal.AuthenticationStepMessage";
        let step = self.peer.expect(&self.name, message, SOON);
        let challenge = contents(&step.body);
        let text = String::from_utf8_lossy(&challenge);
        assert!(
            text.starts_with('<') && text.ends_with('>') && text.contains('@'),
            "{text}"
        );
        challenge
    }

    pub(crate) fn start(&self, mechanism: &str, data: &[u8]) {
        let body = [field(1, mechanism.as_bytes()), field(2, data)].concat();
        self.say("AuthenticationStartMessage", &body);
    }

    pub(crate) fn step(&self, data: &[u8]) {
        self.say("AuthenticationStepMessage", &field(1, data));
    }

    /// Says something to the session, with this body.
    pub(crate) fn say(&self, name: &str, body: &[u8]) {
        self.say_as(&self.name, name, body);
    }

    /// The same as another process.
    pub(crate) fn say_as(&self, process: &str, name: &str, body: &[u8]) {
        let name = format!("mesos.internal.{name}");
        let sent = self.peer.send(process, &self.session, &name, body);
        sent.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// How it ended.
    pub(crate) fn end(&self) -> Outcome {
        end(self.peer, &self.name)
    }
}

/// The first message of an exchange alone, and the process that it came from.
pub(crate) fn ask(peer: &Peer, leader: SocketAddr, subject: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("crammd5-authenticatee({number})");
    let to = format!("master@{leader}");
    let message = "mesos.internal.AuthenticateMessage";
    let sent = peer.send(&name, &to, message, &field(1, subject.as_bytes()));
    sent.unwrap_or_else(|error| panic!("{message}: {error}"));
    name
}

/// The last message of an exchange.
pub(crate) fn end(peer: &Peer, name: &str) -> Outcome {
    let Some(message) = peer.next(name, SOON) else {
        panic!("the exchange of {name} does not end:\n{}", peer.summary());
    };
    match message.name.as_str() {
        "mesos.internal.AuthenticationCompletedMessage" => Outcome::Completed,
        "mesos.internal.AuthenticationFailedMessage" => Outcome::Failed,
        "mesos.internal.AuthenticationErrorMessage" => {
            Outcome::Error(String::from_utf8_lossy(&contents(&message.body)).into_owned())
        }
        other => panic!("{other} ends no exchange:\n{}", peer.summary()),
    }
}

/// What answers a challenge.
pub(crate) fn response(principal: &str, secret: &str, challenge: &[u8]) -> Vec<u8> {
    format!("{principal} {}", digest(secret, challenge)).into_bytes()
}

pub(crate) fn digest(secret: &str, challenge: &[u8]) -> String {
    let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(challenge);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A protobuf field of bytes: all that the messages of the exchange are made of.
pub(crate) fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(value);
    bytes
}

/// The value of a message's only field, number 1; nothing when it is not set.
fn contents(body: &[u8]) -> Vec<u8> {
    let Some((key, mut rest)) = body.split_first() else {
        return Vec::new();
    };
    assert_eq!(*key, 1 << 3 | 2, "{body:?}");
    let (mut length, mut shift) = (0, 0);
    while let Some((byte, after)) = rest.split_first() {
        length |= usize::from(byte & 0x7f) << shift;
        (shift, rest) = (shift + 7, after);
        if byte & 0x80 == 0 {
            break;
        }
    }
    assert_eq!(rest.len(), length, "{body:?}");
    rest.to_vec()
}

#[test]
fn the_client_answers_as_the_recorded_one_did() {
    // `auth.wire.jsonl`: the follower with the wrong secret, the right one, and the framework with the right one.
    for (challenge, secret, answer) in [
        (
            "<874661894.197878@vm>",
            "wrong",
            "follower 03ec7343de758416163dc266576d3ca2",
        ),
        (
            "<1691943575.197886@vm>",
            "f-secret",
            "follower e160ddcb2b16576e88740b0d4146afec",
        ),
        (
            "<3397786228.197897@vm>",
            "m-secret",
            "marathon c8c5c0feb5ea7c4811d04dbfbd2a57c2",
        ),
    ] {
        let principal = answer.split(' ').next().expect("a principal");
        let own = response(principal, secret, challenge.as_bytes());
        assert_eq!(String::from_utf8_lossy(&own), answer);
    }
}
