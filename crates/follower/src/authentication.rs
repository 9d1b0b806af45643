//! Proving to the leader who we are, before registering: one attempt after the other, with growing
//! patience, until one succeeds or the leader refuses the credential.
//!
//! Follows `detected`, `authenticate` and `_authenticate` of `src/slave/slave.cpp`; the exchange
//! itself is `tepui_auth::authenticatee`. Each attempt is a process of its own
//! (`crammd5-authenticatee(N)`), so answers to an older one never reach the newer.
//!
//! Unlike in the reference an attempt that ends in an error at once is not followed by the next one
//! at once, but after a part of the time by which its patience grew.

use crate::{
    Follower, Phase, info,
    io::{Effect, Effects, ProcessName},
    message_name,
    timers::Timer,
    warn,
};
use std::time::Duration;
use tepui_auth::authenticatee::{Authenticatee, Outcome};
use tepui_protocol::peer::{PeerMessage, Pid};

/// Where the follower is in its attempts to authenticate.
#[derive(Debug, Default)]
pub(crate) struct Authentication {
    state: State,
    /// Number of the last attempt; numbers are never used again.
    number: u64,
    /// Attempts with this leader that came to nothing.
    failures: u32,
}

#[derive(Debug, Default)]
enum State {
    /// Not begun, or between two attempts.
    #[default]
    Waiting,
    InProgress(Box<Authenticatee>),
    Succeeded,
}

impl Authentication {
    /// Whether the leader knows who we are.
    pub(crate) fn succeeded(&self) -> bool {
        matches!(self.state, State::Succeeded)
    }
}

impl Follower {
    /// A leader came or went: what was reached with the one before counts no more.
    pub(crate) fn stop_authenticating(&mut self) {
        self.authentication.state = State::Waiting;
        self.authentication.failures = 0;
        self.timers.cancel(&Timer::Authenticate);
        self.timers.cancel(&Timer::AuthenticationTimeout);
    }

    pub(crate) fn authenticate(&mut self, fx: &mut Effects) {
        let (Some(settings), Some(leader)) = (&self.config.authentication, &self.leader) else {
            return;
        };
        if self.phase != Phase::Disconnected {
            return;
        }
        info(fx, format!("Authenticating with leader {leader}"));
        let mut attempt = Authenticatee::new(settings.credential.clone(), self.pid.clone());
        let outcome = attempt.start(leader);
        self.authentication.number += 1;
        self.authentication.state = State::InProgress(Box::new(attempt));
        let patience = settings.timeout_min + self.authentication_range().mul_f64(self.rng.unit());
        self.timers
            .set(Timer::AuthenticationTimeout, self.now + patience);
        self.authentication_outcome(outcome, fx);
    }

    /// By how much the patience with an attempt may exceed the shortest: twice as much after every
    /// failure.
    fn authentication_range(&self) -> Duration {
        let Some(settings) = &self.config.authentication else {
            return Duration::ZERO;
        };
        let doublings = self.authentication.failures.saturating_add(1).min(31);
        settings
            .backoff_factor
            .saturating_mul(1 << doublings)
            .min(settings.timeout_max.saturating_sub(settings.timeout_min))
    }

    pub(crate) fn authentication_message(
        &mut self,
        number: u64,
        from: &Pid,
        message: PeerMessage,
        fx: &mut Effects,
    ) {
        let name = message_name(&message);
        let outcome = match &mut self.authentication.state {
            State::InProgress(attempt) if number == self.authentication.number => {
                attempt.message(from, message)
            }
            _ => Outcome::Ignored,
        };
        if outcome == Outcome::Ignored {
            let text = format!("Ignoring {name} of {from}: no attempt to authenticate expects it");
            return self.ignored(text, fx);
        }
        self.authentication_outcome(outcome, fx);
    }

    fn authentication_outcome(&mut self, outcome: Outcome, fx: &mut Effects) {
        match outcome {
            Outcome::Send { to, message } => fx.push(Effect::Send {
                to,
                from: ProcessName::Authenticatee(self.authentication.number),
                message,
            }),
            Outcome::Succeeded => self.authenticated(fx),
            Outcome::Failed(reason) => {
                // Another attempt with the same credential would fare no better. Executors live on,
                // as in the reference, for the next one who starts a follower here.
                self.stop_authenticating();
                warn(
                    fx,
                    format!("{} refused authentication: {reason}", self.leader_name()),
                );
                fx.push(Effect::Stop { failed: true });
            }
            Outcome::Error(reason) => {
                let wait = self.authentication_range().mul_f64(self.rng.unit());
                self.authentication_failed(&reason, fx);
                self.timers.set(Timer::Authenticate, self.now + wait);
            }
            Outcome::Ignored => {}
        }
    }

    fn authenticated(&mut self, fx: &mut Effects) {
        self.authentication.state = State::Succeeded;
        self.authentication.failures = 0;
        self.timers.cancel(&Timer::AuthenticationTimeout);
        info(fx, format!("{} has authenticated us", self.leader_name()));
        self.register(fx);
    }

    pub(crate) fn authentication_timeout(&mut self, fx: &mut Effects) {
        if matches!(self.authentication.state, State::InProgress(_)) {
            self.authentication_failed("the leader does not answer", fx);
            self.authenticate(fx);
        }
    }

    fn authentication_failed(&mut self, reason: &str, fx: &mut Effects) {
        warn(
            fx,
            format!(
                "Failed to authenticate with {}: {reason}",
                self.leader_name()
            ),
        );
        self.authentication.state = State::Waiting;
        self.authentication.failures = self.authentication.failures.saturating_add(1);
        self.timers.cancel(&Timer::AuthenticationTimeout);
    }

    fn leader_name(&self) -> String {
        let leader = self.leader.as_ref();
        leader.map_or_else(|| "no leader".to_owned(), |pid| format!("leader {pid}"))
    }

    pub(crate) fn check_authentication(&self) {
        let in_progress = matches!(self.authentication.state, State::InProgress(_));
        assert_eq!(
            in_progress,
            self.timers.is_set(&Timer::AuthenticationTimeout),
            "an attempt is waited for, and only an attempt"
        );
        let idle = self.leader.is_none() || self.phase != Phase::Disconnected;
        assert!(!in_progress || !idle, "an attempt without need");
    }
}
