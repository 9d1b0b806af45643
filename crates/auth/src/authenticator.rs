//! The leader's side of the exchange (`src/authentication/cram_md5/authenticator.cpp`,
//! `Master::authenticate` in `src/master/master.cpp`).
//!
//! Who wants to authenticate sends `Authenticate` to `master` and gets a session, a process of its
//! own: `crammd5-authenticator-session(N)`. There: mechanisms →, ← start, challenge →, ← response,
//! and one of completed, failed, error →. A session that is over is gone; what still comes for it
//! is dropped in silence, as a message to a process that ended.
//!
//! Stricter than the reference: a session listens only to who opened it.

use crate::{
    crammd5::{self, Refusal},
    credentials::Credentials,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tepui_model::{Time, effects::Principal};
use tepui_protocol::{
    internal::{
        AuthenticateMessage, AuthenticationCompletedMessage, AuthenticationErrorMessage,
        AuthenticationFailedMessage, AuthenticationMechanismsMessage, AuthenticationStartMessage,
        AuthenticationStepMessage,
    },
    peer::{PeerMessage, Pid},
};

/// Most exchanges under way at a time. When there are more, the oldest one of the host that has
/// most goes: whoever floods the leader pushes out its own. One takes less than 1 KiB.
pub const SESSIONS_MAX: usize = 32_768;

/// Begins the name of a session's process; its number follows in brackets.
pub const SESSION_PROCESS: &str = "crammd5-authenticator-session";

/// Settings.
#[derive(Clone)]
pub struct Options {
    /// Who can authenticate. Without any, every exchange ends in "failed", as in the reference.
    pub credentials: Option<Arc<Credentials>>,
    /// How long an exchange may take (`--authentication_v0_timeout`).
    pub timeout: Duration,
    /// Host name in challenges.
    pub hostname: String,
    /// What nonces are derived from. From the system's random source, once per process.
    pub nonce_key: [u8; 32],
    /// Most exchanges under way at a time.
    pub sessions_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: None,
            timeout: Duration::from_secs(15),
            hostname: "localhost".to_owned(),
            nonce_key: [0; 32],
            sessions_max: SESSIONS_MAX,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("credentials", &self.credentials)
            .field("timeout", &self.timeout)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message from the session's process, or from `master` itself without one.
    Send {
        /// Number of the session it comes from.
        session: Option<u64>,
        /// To whom.
        to: Pid,
        /// What.
        message: PeerMessage,
    },
    /// The process `pid` is `principal`.
    Authenticated {
        /// The framework or follower.
        pid: Pid,
        /// Who that is.
        principal: Principal,
    },
    /// The process `pid` is not authenticated, and the exchange is over. Whatever was known of it
    /// before no longer holds.
    Refused {
        /// The framework or follower.
        pid: Pid,
        /// Why, for the log.
        reason: String,
    },
}

/// All exchanges of a leader.
pub struct Authenticator {
    options: Options,
    /// Number of the next session, and of its nonce: neither is used twice.
    next: u64,
    /// In the order in which they began, thus of their deadlines.
    sessions: BTreeMap<u64, Session>,
    /// The session that authenticates a process: at most one.
    by_pid: BTreeMap<Pid, u64>,
    /// The session that a peer holds: at most one.
    by_peer: BTreeMap<Pid, u64>,
    /// Sessions of each host.
    by_host: BTreeMap<IpAddr, BTreeSet<u64>>,
    /// Hosts by how many sessions they have.
    crowd: BTreeSet<(usize, IpAddr)>,
}

struct Session {
    /// Who holds the exchange (`crammd5-authenticatee(1)@…`).
    peer: Pid,
    /// Who is authenticated by it (`slave(1)@…`).
    pid: Pid,
    deadline: Time,
    step: Step,
}

enum Step {
    /// The mechanisms were sent.
    Starting,
    /// The challenge was sent.
    Challenged(Vec<u8>),
}

impl Authenticator {
    /// Without any exchange.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            next: 1,
            sessions: BTreeMap::new(),
            by_pid: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            by_host: BTreeMap::new(),
            crowd: BTreeSet::new(),
        }
    }

    /// `from` asks to authenticate the process that `message` names. An exchange under way for
    /// that process, or with that peer, is replaced without a word.
    pub fn authenticate(
        &mut self,
        now: Time,
        from: &Pid,
        message: &AuthenticateMessage,
        out: &mut Vec<Action>,
    ) {
        let Ok(pid) = message.pid.parse::<Pid>() else {
            out.push(Action::Send {
                session: None,
                to: from.clone(),
                message: error("Invalid pid in the authentication request"),
            });
            return;
        };
        if let Some(old) = self.by_pid.get(&pid).copied() {
            self.remove(old);
        }
        if let Some(old) = self.by_peer.get(from).copied() {
            self.refuse(old, "the same peer began another exchange", out);
        }
        while self.sessions.len() >= self.options.sessions_max.max(1) {
            let Some(oldest) = self.most_crowding() else {
                break;
            };
            self.refuse(oldest, "too many exchanges under way", out);
        }
        let number = self.next;
        self.next += 1;
        self.insert(
            number,
            Session {
                peer: from.clone(),
                pid,
                deadline: now + self.options.timeout,
                step: Step::Starting,
            },
        );
        out.push(Action::Send {
            session: Some(number),
            to: from.clone(),
            message: AuthenticationMechanismsMessage {
                mechanisms: vec![crammd5::NAME.to_owned()],
            }
            .into(),
        });
    }

    /// A message for the process of `session`.
    pub fn session_message(
        &mut self,
        now: Time,
        session: u64,
        from: &Pid,
        message: PeerMessage,
        out: &mut Vec<Action>,
    ) {
        let known = self.sessions.get_mut(&session);
        let Some(found) = known.filter(|found| found.peer == *from) else {
            return;
        };
        if found.deadline <= now {
            self.refuse(session, TIMED_OUT, out);
            return;
        }
        match (&found.step, message) {
            (Step::Starting, PeerMessage::AuthenticationStart(start)) => {
                self.start(now, session, *start, out);
            }
            (_, PeerMessage::AuthenticationStart(_)) => {
                self.fail(session, "Unexpected authentication 'start' received", out);
            }
            (Step::Challenged(_), PeerMessage::AuthenticationStep(step)) => {
                self.step(session, *step, out);
            }
            (_, PeerMessage::AuthenticationStep(_)) => {
                self.fail(session, "Unexpected authentication 'step' received", out);
            }
            // A session's process knows no other message.
            _ => {}
        }
    }

    /// The link to `pid` broke: whoever held an exchange there is no longer waited for.
    pub fn link_broken(&mut self, _now: Time, pid: &Pid, out: &mut Vec<Action>) {
        if let Some(session) = self.by_peer.get(pid).copied() {
            self.refuse(session, "Failed to communicate with authenticatee", out);
        }
    }

    /// Whether an exchange for `pid` is under way. The reference holds back what it sends until the
    /// exchange is over.
    pub fn is_pending(&self, pid: &Pid) -> bool {
        self.by_pid.contains_key(pid)
    }

    /// How many exchanges are under way.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// When `tick` has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let first = self.sessions.first_key_value();
        first.map(|(_, session)| session.deadline)
    }

    /// Ends the exchanges whose time is over.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some((number, session)) = self.sessions.first_key_value() {
            if session.deadline > now {
                break;
            }
            let number = *number;
            self.refuse(number, TIMED_OUT, out);
        }
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        assert!(self.sessions.len() <= self.options.sessions_max.max(1));
        assert_eq!(self.by_pid.len(), self.sessions.len());
        assert_eq!(self.by_peer.len(), self.sessions.len());
        let hosted: usize = self.by_host.values().map(BTreeSet::len).sum();
        assert_eq!(hosted, self.sessions.len());
        for (number, session) in &self.sessions {
            assert!(*number < self.next);
            assert_eq!(self.by_pid.get(&session.pid), Some(number));
            assert_eq!(self.by_peer.get(&session.peer), Some(number));
            assert!(self.by_host[&session.peer.address.ip()].contains(number));
        }
        let counted = self.by_host.iter().map(|(ip, all)| (all.len(), *ip));
        assert_eq!(counted.collect::<BTreeSet<_>>(), self.crowd);
    }

    fn start(
        &mut self,
        now: Time,
        number: u64,
        start: AuthenticationStartMessage,
        out: &mut Vec<Action>,
    ) {
        // The texts are those of the reference's SASL library, which peers show to their users.
        if !start.mechanism.eq_ignore_ascii_case(crammd5::NAME) {
            let name: String = start.mechanism.chars().take(MECHANISM_SHOWN_MAX).collect();
            let text = format!("SASL(-4): no mechanism available: Couldn't find mech {name}");
            self.fail(number, &text, out);
            return;
        }
        if start.data.is_some_and(|data| !data.is_empty()) {
            let text = "SASL(-5): bad protocol / cancel: \
                        Remote sent first but mech does not allow it.";
            self.fail(number, text, out);
            return;
        }
        let challenge =
            crammd5::challenge(&self.options.nonce_key, number, now, &self.options.hostname);
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        session.step = Step::Challenged(challenge.clone());
        out.push(Action::Send {
            session: Some(number),
            to: session.peer.clone(),
            message: AuthenticationStepMessage {
                data: Bytes::from(challenge),
            }
            .into(),
        });
    }

    fn step(&mut self, number: u64, step: AuthenticationStepMessage, out: &mut Vec<Action>) {
        let Some(Session {
            step: Step::Challenged(challenge),
            ..
        }) = self.sessions.get(&number)
        else {
            return;
        };
        let nobody = Credentials::default();
        let credentials = self.options.credentials.as_deref().unwrap_or(&nobody);
        match crammd5::verify(credentials, challenge, &step.data) {
            Ok(principal) => {
                let completed = AuthenticationCompletedMessage {}.into();
                if let Some(pid) = self.end(number, Some(completed), out) {
                    out.push(Action::Authenticated { pid, principal });
                }
            }
            Err(Refusal::Credentials) => {
                let failed = AuthenticationFailedMessage {}.into();
                if let Some(pid) = self.end(number, Some(failed), out) {
                    let reason = "Invalid credentials".to_owned();
                    out.push(Action::Refused { pid, reason });
                }
            }
            Err(Refusal::Malformed(problem)) => {
                let text = format!("SASL(-5): bad protocol / cancel: {problem}");
                self.fail(number, &text, out);
            }
        }
    }

    /// Ends a session with an error that its peer is told.
    fn fail(&mut self, number: u64, text: &str, out: &mut Vec<Action>) {
        if let Some(pid) = self.end(number, Some(error(text)), out) {
            let reason = text.to_owned();
            out.push(Action::Refused { pid, reason });
        }
    }

    /// Ends a session without a word to its peer.
    fn refuse(&mut self, number: u64, reason: &str, out: &mut Vec<Action>) {
        if let Some(pid) = self.end(number, None, out) {
            let reason = reason.to_owned();
            out.push(Action::Refused { pid, reason });
        }
    }

    /// Ends a session with a last word to its peer, and says whom it was about.
    fn end(
        &mut self,
        number: u64,
        last: Option<PeerMessage>,
        out: &mut Vec<Action>,
    ) -> Option<Pid> {
        let session = self.remove(number)?;
        out.extend(last.map(|message| Action::Send {
            session: Some(number),
            to: session.peer,
            message,
        }));
        Some(session.pid)
    }

    fn insert(&mut self, number: u64, session: Session) {
        let host = session.peer.address.ip();
        self.by_pid.insert(session.pid.clone(), number);
        self.by_peer.insert(session.peer.clone(), number);
        self.sessions.insert(number, session);
        let numbers = self.by_host.entry(host).or_default();
        self.crowd.remove(&(numbers.len(), host));
        numbers.insert(number);
        self.crowd.insert((numbers.len(), host));
    }

    fn remove(&mut self, number: u64) -> Option<Session> {
        let session = self.sessions.remove(&number)?;
        self.by_pid.remove(&session.pid);
        self.by_peer.remove(&session.peer);
        let host = session.peer.address.ip();
        if let Some(numbers) = self.by_host.get_mut(&host) {
            self.crowd.remove(&(numbers.len(), host));
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_host.remove(&host);
            } else {
                self.crowd.insert((numbers.len(), host));
            }
        }
        Some(session)
    }

    /// The oldest session of the host that has most.
    fn most_crowding(&self) -> Option<u64> {
        let (_, host) = self.crowd.last()?;
        self.by_host.get(host)?.first().copied()
    }
}

const TIMED_OUT: &str = "Authentication timed out";

/// How much of a mechanism's name an error repeats.
const MECHANISM_SHOWN_MAX: usize = 64;

fn error(text: &str) -> PeerMessage {
    AuthenticationErrorMessage {
        error: Some(text.to_owned()),
    }
    .into()
}
