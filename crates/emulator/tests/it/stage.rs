//! A crowd under test, and a leader that is told what to say.

use std::net::Ipv4Addr;
use std::time::Duration;
use tepui_auth::credentials::Credential;
use tepui_emulator::{Crowd, Layout, Outgoing, Setup};
use tepui_model::{Rng, Time};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1,
};

pub(crate) struct Stage {
    pub(crate) crowd: Crowd,
    pub(crate) now: Time,
    pub(crate) leader: Pid,
}

pub(crate) fn setup() -> Setup {
    Setup {
        leader: "master@127.0.0.1:5050".parse().unwrap(),
        resources: Vec::new(),
        attributes: Vec::new(),
        hostname_prefix: "emulated-".to_owned(),
        task_duration: Some(Duration::from_secs(30)),
        running: None,
        registration_backoff_factor: Duration::from_secs(1),
        rate: None,
        credential: None,
    }
}

pub(crate) fn credential() -> Credential {
    Credential::parse("someone secret").unwrap()
}

pub(crate) fn agent_id() -> v1::AgentId {
    v1::AgentId {
        value: "S0".to_owned(),
    }
}

impl Stage {
    pub(crate) fn new(followers: usize, per_address: usize, setup: Setup) -> Self {
        let layout = Layout::new(
            followers,
            Some(per_address),
            None,
            Ipv4Addr::LOCALHOST.into(),
        );
        let leader = setup.leader.clone();
        Self {
            crowd: Crowd::new(setup, layout.unwrap().on_port(9), Rng::seed(7)),
            now: Time::from_nanos(1_000_000_000),
            leader,
        }
    }

    /// One follower, registered; what it said on the way is checked elsewhere.
    pub(crate) fn registered() -> Self {
        let mut stage = Self::new(1, 1, setup());
        stage.start();
        stage.tell(0, registered());
        assert_eq!(stage.crowd.report().registered, 1);
        stage
    }

    pub(crate) fn start(&mut self) -> Vec<Outgoing> {
        let mut out = Vec::new();
        self.crowd.start(self.now, &mut out);
        out
    }

    /// From the leader to a follower.
    pub(crate) fn tell(
        &mut self,
        follower: usize,
        message: impl Into<PeerMessage>,
    ) -> Vec<PeerMessage> {
        let from = self.leader.clone();
        let out = self.hear(follower, from, message.into());
        said(&out)
    }

    pub(crate) fn hear(
        &mut self,
        follower: usize,
        from: Pid,
        message: PeerMessage,
    ) -> Vec<Outgoing> {
        let to = self.crowd.layout().pid(follower).name;
        self.hear_as(follower, &to, from, message)
    }

    pub(crate) fn hear_as(
        &mut self,
        follower: usize,
        to: &str,
        from: Pid,
        message: PeerMessage,
    ) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let address = self.crowd.layout().address_of(follower);
        self.crowd
            .message(self.now, address, to, from, message, &mut out);
        out
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Outgoing> {
        let (until, mut out) = (self.now + time, Vec::new());
        while let Some(at) = self.crowd.next_deadline().filter(|at| *at <= until) {
            self.now = at;
            self.crowd.tick(at, &mut out);
        }
        self.now = until;
        out
    }
}

pub(crate) fn registered() -> i::SlaveRegisteredMessage {
    i::SlaveRegisteredMessage {
        slave_id: agent_id(),
        connection: Some(i::MasterSlaveConnection {
            total_ping_timeout_seconds: Some(75.0),
        }),
    }
}

/// Names of messages, the namespace left out.
pub(crate) fn names<'a>(messages: impl IntoIterator<Item = &'a PeerMessage>) -> Vec<&'static str> {
    let short = |message: &PeerMessage| message.name().rsplit('.').next().unwrap_or_default();
    messages.into_iter().map(short).collect()
}

/// What was said, whoever said it.
pub(crate) fn said(out: &[Outgoing]) -> Vec<PeerMessage> {
    let messages = out.iter().map(|one| one.message().expect("a message"));
    messages.collect()
}
