//! What the tests share: credentials as recorded, a leader's authenticator, and short ways to talk.

use std::sync::Arc;
use tepui_auth::{
    Credentials,
    authenticator::{Action, Authenticator, Options},
};
use tepui_model::Time;
use tepui_protocol::{
    internal::{AuthenticateMessage, AuthenticationStartMessage, AuthenticationStepMessage},
    peer::{PeerMessage, Pid},
};

pub(crate) const CREDENTIALS: &str = "follower f-secret\nmarathon m-secret\nops o-secret\n";
pub(crate) const NOW: Time = Time::from_nanos(1_795_359_883_000_000_000);

pub(crate) fn pid(text: &str) -> Pid {
    text.parse().expect("a process address")
}

pub(crate) fn options() -> Options {
    Options {
        credentials: Some(Arc::new(
            Credentials::parse(CREDENTIALS).expect("credentials"),
        )),
        nonce_key: [7; 32],
        hostname: "vm".to_owned(),
        ..Options::default()
    }
}

/// A leader's side, and everything it did.
pub(crate) struct Leader(pub(crate) Authenticator);

impl Leader {
    pub(crate) fn new() -> Self {
        Self(Authenticator::new(options()))
    }
    pub(crate) fn authenticate(&mut self, now: Time, from: &str, of: &str) -> Vec<Action> {
        let mut out = Vec::new();
        let message = AuthenticateMessage { pid: of.to_owned() };
        self.0.authenticate(now, &pid(from), &message, &mut out);
        self.0.check();
        out
    }
    pub(crate) fn say(&mut self, session: u64, from: &str, message: PeerMessage) -> Vec<Action> {
        self.say_at(NOW, session, from, message)
    }
    pub(crate) fn say_at(
        &mut self,
        now: Time,
        session: u64,
        from: &str,
        message: PeerMessage,
    ) -> Vec<Action> {
        let mut out = Vec::new();
        self.0
            .session_message(now, session, &pid(from), message, &mut out);
        self.0.check();
        out
    }
}

pub(crate) fn start(mechanism: &str, data: &'static [u8]) -> PeerMessage {
    AuthenticationStartMessage {
        mechanism: mechanism.to_owned(),
        data: Some(data.into()),
    }
    .into()
}

pub(crate) fn step(data: impl Into<Vec<u8>>) -> PeerMessage {
    AuthenticationStepMessage {
        data: data.into().into(),
    }
    .into()
}

/// The challenge in what a leader did.
pub(crate) fn challenge(actions: &[Action]) -> Vec<u8> {
    match actions {
        [
            Action::Send {
                message: PeerMessage::AuthenticationStep(step),
                ..
            },
        ] => step.data.to_vec(),
        other => panic!("no challenge alone: {other:?}"),
    }
}

/// The error a peer is told, and nothing but the log's line beside it.
pub(crate) fn told(actions: &[Action]) -> String {
    match actions {
        [
            Action::Send {
                message: PeerMessage::AuthenticationError(error),
                ..
            },
            rest @ ..,
        ] => {
            assert!(
                rest.iter()
                    .all(|action| matches!(action, Action::Refused { .. })),
                "{rest:?}"
            );
            error.error.clone().unwrap_or_default()
        }
        other => panic!("no error: {other:?}"),
    }
}
