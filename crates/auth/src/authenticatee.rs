//! The side that proves who it is: a follower, or a driver
//! (`src/authentication/cram_md5/authenticatee.cpp`).
//!
//! One value per attempt. Retries and their back-off belong to who starts it, since they depend on
//! whether there still is a leader.
//!
//! Stricter than the reference: only the leader's own address is listened to, and after the first
//! message only that session, so nobody else can end an attempt or have a challenge answered.

use crate::{crammd5, credentials::Credential};
use bytes::Bytes;
use tepui_protocol::{
    internal::{
        AuthenticateMessage, AuthenticationMechanismsMessage, AuthenticationStartMessage,
        AuthenticationStepMessage,
    },
    peer::{PeerMessage, Pid},
};

/// Begins the name of an attempt's process; its number follows in brackets.
pub const PROCESS: &str = "crammd5-authenticatee";

/// One attempt. `start` it once, then give it what arrives for its process.
#[derive(Debug)]
pub struct Authenticatee {
    credential: Credential,
    client: Pid,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready,
    /// The request is sent. Only this address may answer.
    Starting {
        leader: Pid,
    },
    /// A mechanism is chosen; `responded` once the challenge was answered.
    Stepping {
        session: Pid,
        responded: bool,
    },
    Done,
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Send this from the attempt's process and go on waiting.
    Send {
        /// To whom.
        to: Pid,
        /// What.
        message: PeerMessage,
    },
    /// The leader knows who we are.
    Succeeded,
    /// The credentials are wrong: an attempt with the same ones will fail too.
    Failed(String),
    /// The exchange went wrong; another attempt may succeed.
    Error(String),
    /// Not for this attempt; nothing changed.
    Ignored,
}

impl Authenticatee {
    /// An attempt to authenticate the process `client` as `credential`'s principal.
    pub fn new(credential: Credential, client: Pid) -> Self {
        Self {
            credential,
            client,
            state: State::Ready,
        }
    }

    /// Name of the process of attempt `number`: what messages of this attempt come from.
    pub fn process(number: u64) -> String {
        format!("{PROCESS}({number})")
    }

    /// Asks `leader` for an exchange.
    pub fn start(&mut self, leader: &Pid) -> Outcome {
        if !matches!(self.state, State::Ready) {
            return Outcome::Ignored;
        }
        self.state = State::Starting {
            leader: leader.clone(),
        };
        Outcome::Send {
            to: leader.clone(),
            message: AuthenticateMessage {
                pid: self.client.to_string(),
            }
            .into(),
        }
    }

    /// Whether it is over.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// A message for the attempt's process.
    pub fn message(&mut self, from: &Pid, message: PeerMessage) -> Outcome {
        let expected = match &self.state {
            // The refusal of a whole leader comes from itself, all else from a session of it.
            State::Starting { leader } => leader.address == from.address,
            State::Stepping { session, .. } => session == from,
            State::Ready | State::Done => false,
        };
        if !expected {
            return Outcome::Ignored;
        }
        match message {
            PeerMessage::AuthenticationMechanisms(offer) => self.mechanisms(from, &offer),
            PeerMessage::AuthenticationStep(step) => self.step(&step),
            PeerMessage::AuthenticationCompleted(_) => self.completed(),
            PeerMessage::AuthenticationFailed(_) => {
                self.state = State::Done;
                Outcome::Failed("the leader refused the credentials".to_owned())
            }
            PeerMessage::AuthenticationError(error) => {
                let text = error.error.unwrap_or_default();
                self.fail(format!("Authentication error: {text}"))
            }
            _ => Outcome::Ignored,
        }
    }

    fn mechanisms(&mut self, from: &Pid, offer: &AuthenticationMechanismsMessage) -> Outcome {
        if !matches!(self.state, State::Starting { .. }) {
            return self.fail("Unexpected authentication 'mechanisms' received".to_owned());
        }
        let known = |name: &String| name.eq_ignore_ascii_case(crammd5::NAME);
        if !offer.mechanisms.iter().any(known) {
            return self.fail(
                "Failed to start the SASL client: \
                 SASL(-4): no mechanism available: No worthy mechs found"
                    .to_owned(),
            );
        }
        self.state = State::Stepping {
            session: from.clone(),
            responded: false,
        };
        Outcome::Send {
            to: from.clone(),
            message: AuthenticationStartMessage {
                mechanism: crammd5::NAME.to_owned(),
                // There and empty, as the reference writes it.
                data: Some(Bytes::new()),
            }
            .into(),
        }
    }

    fn step(&mut self, step: &AuthenticationStepMessage) -> Outcome {
        let State::Stepping { session, responded } = &mut self.state else {
            return self.fail("Unexpected authentication 'step' received".to_owned());
        };
        if *responded {
            // One answer per attempt: more would let a leader that is not ours collect them.
            return self.fail("Unexpected authentication 'step' received".to_owned());
        }
        if step.data.is_empty() || step.data.len() > crammd5::STEP_BYTES_MAX {
            return self.fail(
                "Failed to perform authentication step: the challenge is empty or too long"
                    .to_owned(),
            );
        }
        *responded = true;
        let credential = &self.credential;
        let data = crammd5::response(&credential.principal, &credential.secret, &step.data);
        Outcome::Send {
            to: session.clone(),
            message: AuthenticationStepMessage {
                data: Bytes::from(data),
            }
            .into(),
        }
    }

    fn completed(&mut self) -> Outcome {
        match self.state {
            // A leader that did not ask for a proof has not checked any.
            State::Stepping {
                responded: true, ..
            } => {
                self.state = State::Done;
                Outcome::Succeeded
            }
            _ => self.fail("Unexpected authentication 'completed' received".to_owned()),
        }
    }

    fn fail(&mut self, reason: String) -> Outcome {
        self.state = State::Done;
        Outcome::Error(reason)
    }
}
