//! Who the processes are that speak to the leader.
//!
//! The exchange itself is `tepui_auth::authenticator`; here is what follows from it. Follows
//! `Master::authenticate`, `validateFrameworkAuthentication` and the places in
//! `src/master/master.cpp` that forget who a process is: when its link breaks, when it disconnects,
//! when its framework moves to v1 or ends, and when it begins another exchange.
//!
//! Bounds: exchanges under way are bounded by the authenticator; processes that are known but have
//! not registered by [`AUTHENTICATED_KEPT`], the oldest go first; registrations that wait for the
//! end of an exchange by [`WAITING_MAX`], one per process, and what comes beyond is dropped: who
//! registers tries again.

use crate::{Effect, Leader, Level, Principal, ProcessName, state::Channel};
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, fmt};
use tepui_auth::authenticator::{Action, Authenticator};
use tepui_model::Time;
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, scheduler::call},
};

/// How many processes are known by principal before those that did not register are forgotten.
pub(crate) const AUTHENTICATED_KEPT: usize = 100_000;

/// How many registrations may wait for the end of an exchange.
pub(crate) const WAITING_MAX: usize = 1_000;

/// A registration that arrived before the exchange of its sender was over.
#[derive(Debug)]
pub(crate) enum Waiting {
    Framework(call::Subscribe),
    NewFollower(internal::RegisterSlaveMessage),
    KnownFollower(internal::ReregisterSlaveMessage),
}

/// Who is who.
pub(crate) struct Authentication {
    authenticator: Authenticator,
    authenticated: FxHashMap<Pid, (u64, Principal)>,
    /// The same processes, oldest first.
    order: BTreeMap<u64, Pid>,
    next: u64,
    waiting: FxHashMap<Pid, Waiting>,
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication")
            .field("authenticated", &self.authenticated.len())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Authentication {
    pub(crate) fn new(authenticator: Authenticator) -> Self {
        Self {
            authenticator,
            authenticated: FxHashMap::default(),
            order: BTreeMap::new(),
            next: 0,
            waiting: FxHashMap::default(),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.authenticator.next_deadline()
    }

    pub(crate) fn principal_of(&self, pid: &Pid) -> Option<&Principal> {
        self.authenticated.get(pid).map(|(_, principal)| principal)
    }

    fn insert(&mut self, pid: Pid, principal: Principal) {
        self.remove(&pid);
        self.order.insert(self.next, pid.clone());
        self.authenticated.insert(pid, (self.next, principal));
        self.next += 1;
    }

    fn remove(&mut self, pid: &Pid) -> Option<Principal> {
        let (number, principal) = self.authenticated.remove(pid)?;
        self.order.remove(&number);
        Some(principal)
    }

    /// Who proves who it is and then does not register is forgotten before it costs memory.
    fn limit(&mut self, kept: usize, is_registered: impl Fn(&Pid) -> bool) {
        // A few at a time; those that registered go to the end of the line.
        for _ in 0..8 {
            if self.order.len() <= kept {
                return;
            }
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            let oldest = oldest.clone();
            let principal = self.remove(&oldest);
            if let Some(principal) = principal.filter(|_| is_registered(&oldest)) {
                self.insert(oldest, principal);
            }
        }
    }

    pub(crate) fn check(&self) {
        self.authenticator.check();
        assert_eq!(self.order.len(), self.authenticated.len());
        for (number, pid) in &self.order {
            assert_eq!(
                self.authenticated.get(pid).map(|known| known.0),
                Some(*number)
            );
        }
        assert!(self.waiting.len() <= WAITING_MAX, "few registrations wait");
        for pid in self.waiting.keys() {
            assert!(
                self.authenticator.is_pending(pid),
                "the registration of {pid} waits for something"
            );
        }
    }
}

impl Leader {
    /// `AuthenticateMessage`: an exchange begins, and what was known of the process is void.
    pub(crate) fn authenticate(&mut self, from: &Pid, message: &internal::AuthenticateMessage) {
        self.count("master/messages_authenticate");
        if let Ok(pid) = message.pid.parse::<Pid>() {
            if pid.address != from.address {
                // Both belong to one process of the operating system. Nobody makes another
                // machine's followers strangers by asking in their name.
                let text = format!("Refused to authenticate {pid} for {from}: not at its address");
                self.notice(Level::Warning, text);
                let error = Some("Invalid pid in the authentication request".to_owned());
                return self.send(from.clone(), internal::AuthenticationErrorMessage { error });
            }
            self.forget_authenticated(&pid);
        }
        let mut actions = Vec::new();
        self.authentication
            .authenticator
            .authenticate(self.now, from, message, &mut actions);
        self.authentication_actions(actions);
    }

    /// A message for the process of an exchange.
    pub(crate) fn authentication_step(&mut self, session: u64, from: &Pid, message: PeerMessage) {
        let mut actions = Vec::new();
        self.authentication.authenticator.session_message(
            self.now,
            session,
            from,
            message,
            &mut actions,
        );
        self.authentication_actions(actions);
    }

    /// Exchanges that take too long end.
    pub(crate) fn authentication_due(&mut self) {
        let due = self.authentication.next_deadline();
        if due.is_none_or(|at| at > self.now) {
            return;
        }
        let mut actions = Vec::new();
        self.authentication
            .authenticator
            .tick(self.now, &mut actions);
        self.authentication_actions(actions);
    }

    /// The process is gone: who it was no longer matters, and neither does what it asked for.
    pub(crate) fn authentication_link_broken(&mut self, pid: &Pid) {
        self.forget_authenticated(pid);
        let mut actions = Vec::new();
        self.authentication
            .authenticator
            .link_broken(self.now, pid, &mut actions);
        self.authentication_actions(actions);
    }

    pub(crate) fn forget_authenticated(&mut self, pid: &Pid) {
        self.authentication.remove(pid);
    }

    fn authentication_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send {
                    session,
                    to,
                    message,
                } => {
                    let from = session.map_or(ProcessName::Leader, ProcessName::Authenticator);
                    self.out.push(Effect::Send { to, from, message });
                }
                Action::Authenticated { pid, principal } => {
                    let text = format!("{pid} is authenticated as '{principal}'");
                    self.notice(Level::Info, text);
                    self.authentication.insert(pid.clone(), principal);
                    let state = &self.state;
                    let is_registered = |pid: &Pid| {
                        state.driver_at(pid).is_some() || state.follower_at(pid).is_some()
                    };
                    self.authentication.limit(AUTHENTICATED_KEPT, is_registered);
                    self.release_waiting(&pid);
                }
                Action::Refused { pid, reason } => {
                    let text = format!("{pid} is not authenticated: {reason}");
                    self.notice(Level::Warning, text);
                    self.forget_authenticated(&pid);
                    self.release_waiting(&pid);
                }
            }
        }
    }

    /// Keeps a registration until its sender is known, if that is being found out.
    pub(crate) fn waits(&mut self, from: &Pid, registration: Waiting) -> Option<Waiting> {
        if !self.authentication.authenticator.is_pending(from) {
            return Some(registration);
        }
        let waiting = &mut self.authentication.waiting;
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(from) {
            let text = format!("Dropped the registration of {from}: too many wait");
            self.notice(Level::Warning, text);
        } else {
            waiting.insert(from.clone(), registration);
            let text = format!("The registration of {from} waits for its authentication");
            self.notice(Level::Info, text);
        }
        None
    }

    fn release_waiting(&mut self, pid: &Pid) {
        match self.authentication.waiting.remove(pid) {
            None => {}
            Some(Waiting::Framework(subscribe)) => self.subscribe_driver(pid.clone(), subscribe),
            Some(Waiting::NewFollower(message)) => self.register_follower(pid.clone(), message),
            Some(Waiting::KnownFollower(message)) => {
                self.reregister_follower(pid.clone(), message);
            }
        }
    }

    /// Whether a driver may subscribe with a description, as far as who it is decides. One that is
    /// known but does not say its principal gets it written in.
    pub(crate) fn authenticate_driver(
        &mut self,
        channel: &Channel,
        info: &mut v1::FrameworkInfo,
    ) -> Result<(), String> {
        let Channel::Driver(pid) = channel else {
            return Ok(());
        };
        let Some(principal) = self.authentication.principal_of(pid) else {
            if self.config.authentication.frameworks {
                return Err(format!("Framework at {pid} is not authenticated"));
            }
            return Ok(());
        };
        match &info.principal {
            Some(claimed) if **claimed != **principal => Err(format!(
                "Framework principal '{claimed}' does not match authenticated principal '{principal}'"
            )),
            Some(_) => Ok(()),
            None => {
                let principal = principal.to_string();
                let text = format!("{pid} says no principal: it is '{principal}'");
                info.principal = Some(principal);
                self.notice(Level::Warning, text);
                Ok(())
            }
        }
    }

    /// Whether who is at an address may register as a follower.
    pub(crate) fn admits_follower(&self, from: &Pid) -> bool {
        !self.config.authentication.followers || self.authentication.principal_of(from).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_register_is_forgotten_first() {
        let pid = |number: u16| -> Pid {
            let text = format!("p@127.0.0.1:{number}");
            text.parse().expect("a valid address")
        };
        let mut known = Authentication::new(Authenticator::new(Default::default()));
        for number in 0..10 {
            known.insert(pid(number), "somebody".into());
            known.limit(4, |pid| pid.address.port() < 3);
            known.check();
        }
        let left: Vec<u16> = (0..10)
            .filter(|number| known.principal_of(&pid(*number)).is_some())
            .collect();
        assert_eq!(left, [0, 1, 2, 9]);
    }
}
