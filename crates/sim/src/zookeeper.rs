//! ZooKeeper: the ensemble as one service that answers in order and that sessions are lost with, and
//! what a client of it does to keep its session.
//!
//! Modelled are sessions and their expiry, the ephemeral sequential znodes of the election, watches
//! on its children, and the registry: entries below a version, changed by transactions that check the
//! leader's own znode and that version, and raise it, as `tepui_journal::registry::sharded` does. Ensembles without a quorum stop and expire nobody.

use crate::{
    env::Env,
    event::{Channel, Event, Host, LinkKey, Parcel},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_coordination::{Answer, Failure, MEMBER_PREFIX};
use tepui_journal::registry::Step;
use tepui_model::Time;

/// What servers grant.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The znode of the election.
pub(crate) const PATH: &str = "/mesos";

/// What a client says.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Connect { session: Option<i64> },
    Ping { session: i64 },
    Ask { session: i64, id: u64, ask: Ask },
}

impl Request {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Ping { .. } => "ping",
            Self::Ask { ask, .. } => match ask {
                Ask::Group(_) => "ask",
                Ask::Load { .. } => "load",
                Ask::Apply { .. } => "apply",
            },
        }
    }
}

/// What is asked for in a session.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Group(tepui_coordination::Request),
    /// Begins to lead: takes the next version and reads all.
    Load {
        member: Arc<str>,
    },
    /// Writes, if nobody else has begun to lead.
    Apply {
        member: Arc<str>,
        version: u64,
        /// Which of this leader's writes it is: one that is sent again keeps its number.
        number: u64,
        steps: Vec<Step>,
        fenced: bool,
    },
}

/// What a server says.
#[derive(Debug, Clone)]
pub(crate) enum Response {
    Connected {
        session: i64,
    },
    Expired,
    Pong,
    Changed,
    Answered {
        id: u64,
        result: Result<Said, Failure>,
    },
}

impl Response {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "session",
            Self::Expired => "session expired",
            Self::Pong => "pong",
            Self::Changed => "children changed",
            Self::Answered { .. } => "answer",
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Group(Answer),
    Loaded {
        version: u64,
        entries: Vec<(String, Vec<u8>)>,
    },
    Applied,
    Deposed,
}

#[derive(Debug)]
struct Session {
    host: Host,
    boot: u32,
    heard: Time,
}

#[derive(Debug)]
struct Member {
    session: i64,
    data: Arc<[u8]>,
}

/// The ensemble.
#[derive(Debug, Default)]
pub(crate) struct ZooKeeper {
    sessions: BTreeMap<i64, Session>,
    last_session: i64,
    sequence: u32,
    members: BTreeMap<u32, Member>,
    watches: BTreeSet<i64>,
    /// Of the registry: whoever takes over and whoever writes raises it.
    version: u64,
    /// The write that the registry was last changed by.
    last_write: Option<(u32, u64)>,
    pub(crate) registry: BTreeMap<String, Vec<u8>>,
    /// Without a quorum.
    pub(crate) down: u32,
}

fn name(sequence: u32) -> String {
    format!("{MEMBER_PREFIX}{sequence:010}")
}

fn sequence(member: &str) -> Option<u32> {
    let name = member.rsplit('/').next()?;
    name.strip_prefix(MEMBER_PREFIX)?.parse().ok()
}

impl ZooKeeper {
    fn exists(&self, member: &str) -> bool {
        sequence(member).is_some_and(|number| self.members.contains_key(&number))
    }

    fn answer(&mut self, session: i64, ask: Ask) -> (Result<Said, Failure>, bool) {
        use tepui_coordination::Request as R;
        let mut changed = false;
        let result = match ask {
            Ask::Group(R::MakePath) => Ok(Said::Group(Answer::PathMade)),
            Ask::Group(R::List) => {
                self.watches.insert(session);
                let names = self.members.keys().map(|number| name(*number)).collect();
                Ok(Said::Group(Answer::Listed { names, birth: 1 }))
            }
            Ask::Group(R::Read(path)) => match sequence(&path).and_then(|n| self.members.get(&n)) {
                Some(member) => Ok(Said::Group(Answer::Read {
                    data: member.data.to_vec(),
                    owner: member.session,
                })),
                None => Err(Failure::NoNode),
            },
            Ask::Group(R::Create(data)) => {
                let number = self.sequence;
                self.sequence += 1;
                self.members.insert(number, Member { session, data });
                changed = true;
                Ok(Said::Group(Answer::Created(name(number))))
            }
            Ask::Group(R::Delete(path)) => {
                match sequence(&path).and_then(|n| self.members.remove(&n)) {
                    Some(_) => {
                        changed = true;
                        Ok(Said::Group(Answer::Deleted))
                    }
                    None => Err(Failure::NoNode),
                }
            }
            Ask::Group(R::Check(path)) => Ok(Said::Group(Answer::Exists(self.exists(&path)))),
            Ask::Load { member } if self.exists(&member) => {
                self.version += 1;
                self.last_write = None;
                let entries = self.registry.iter();
                Ok(Said::Loaded {
                    version: self.version,
                    entries: entries.map(|(k, v)| (k.clone(), v.clone())).collect(),
                })
            }
            Ask::Apply {
                member,
                version,
                number,
                steps,
                fenced,
            } if !fenced || (self.exists(&member) && version == self.version) => {
                self.version += 1;
                self.last_write = sequence(&member).map(|member| (member, number));
                for step in steps {
                    match step {
                        Step::Put(key, value) => drop(self.registry.insert(key, value)),
                        Step::Remove(key) => drop(self.registry.remove(&key)),
                    }
                }
                Ok(Said::Applied)
            }
            // It was carried out, and the answer got lost.
            Ask::Apply { member, number, .. }
                if sequence(&member).map(|member| (member, number)) == self.last_write =>
            {
                Ok(Said::Applied)
            }
            Ask::Load { .. } | Ask::Apply { .. } => Ok(Said::Deposed),
        };
        (result, changed)
    }
}

fn to_client(host: Host) -> LinkKey {
    LinkKey {
        from: Host::ZooKeeper,
        to: host,
        channel: Channel::Session,
    }
}

impl Env {
    fn respond(&mut self, host: Host, response: Response) {
        self.send(to_client(host), Parcel::Response(response));
    }

    /// A server hears something.
    pub(crate) fn zookeeper_hears(&mut self, from: Host, request: Request) {
        let boot = self.boot(from);
        let now = self.now;
        let own = |session: &&mut Session| session.host == from && session.boot == boot;
        match request {
            Request::Connect { session } => {
                let known = session.and_then(|id| self.zookeeper.sessions.get_mut(&id));
                if let Some(known) = known.filter(own) {
                    known.heard = now;
                    let session = session.unwrap_or_default();
                    return self.respond(from, Response::Connected { session });
                }
                if session.is_some() {
                    return self.respond(from, Response::Expired);
                }
                self.zookeeper.last_session += 1;
                let session = self.zookeeper.last_session;
                let state = Session {
                    host: from,
                    boot,
                    heard: now,
                };
                self.zookeeper.sessions.insert(session, state);
                self.after(SESSION_TIMEOUT, Event::SessionDue(session));
                self.respond(from, Response::Connected { session });
            }
            Request::Ping { session } => {
                let Some(known) = self.zookeeper.sessions.get_mut(&session) else {
                    return self.respond(from, Response::Expired);
                };
                known.heard = now;
                self.respond(from, Response::Pong);
            }
            Request::Ask { session, id, ask } => {
                let Some(known) = self.zookeeper.sessions.get_mut(&session) else {
                    return self.respond(from, Response::Expired);
                };
                known.heard = now;
                let version = self.zookeeper.version;
                let writes = matches!(ask, Ask::Apply { .. });
                let (result, changed) = self.zookeeper.answer(session, ask);
                if writes
                    && version < self.zookeeper.version
                    && let Some((member, number)) = self.zookeeper.last_write
                {
                    self.checker.written(member, number);
                }
                // Watchers hear of a change before anything that was done after it.
                if changed {
                    self.children_changed();
                }
                self.respond(from, Response::Answered { id, result });
            }
        }
    }

    fn children_changed(&mut self) {
        for session in std::mem::take(&mut self.zookeeper.watches) {
            let known = self.zookeeper.sessions.get(&session);
            if let Some((host, boot)) = known.map(|s| (s.host, s.boot))
                && boot == self.boot(host)
            {
                self.respond(host, Response::Changed);
            }
        }
    }

    /// Time to look at a session.
    pub(crate) fn session_due(&mut self, id: i64) {
        let down = self.zookeeper.down > 0;
        let Some(session) = self.zookeeper.sessions.get_mut(&id) else {
            return;
        };
        if down {
            session.heard = self.now;
        }
        let due = session.heard + SESSION_TIMEOUT;
        if due > self.now {
            return self.at(due, Event::SessionDue(id));
        }
        let host = session.host;
        self.trace(|| format!("zookeeper: session {id} of {host} expires"));
        self.zookeeper.sessions.remove(&id);
        self.zookeeper.watches.remove(&id);
        let before = self.zookeeper.members.len();
        self.zookeeper
            .members
            .retain(|_, member| member.session != id);
        if self.zookeeper.members.len() < before {
            self.children_changed();
        }
    }

    /// There is a quorum again: everybody has a whole session's time to come back.
    pub(crate) fn zookeeper_back(&mut self) {
        let now = self.now;
        for session in self.zookeeper.sessions.values_mut() {
            session.heard = now;
        }
    }
}

/// One client's session.
#[derive(Debug, Default)]
pub(crate) struct Client {
    session: Option<i64>,
    connected: bool,
    /// By the client's own clock.
    heard: Time,
    next: Time,
    asked: u64,
    /// Not answered yet.
    pending: BTreeSet<u64>,
    /// The last one that was given up: its servers may still speak of it, on a connection that is gone.
    ended: i64,
}

/// What a client's owner hears.
#[derive(Debug)]
pub(crate) enum News {
    Connected {
        session: i64,
    },
    Suspended,
    Expired,
    Changed,
    Answered {
        id: u64,
        result: Result<Said, Failure>,
    },
}

impl Client {
    fn link(host: Host) -> LinkKey {
        LinkKey {
            from: host,
            to: Host::ZooKeeper,
            channel: Channel::Session,
        }
    }

    pub(crate) fn deadline(&self) -> Time {
        self.next
    }

    fn suspend(&mut self, news: &mut Vec<News>) {
        if !std::mem::replace(&mut self.connected, false) {
            return;
        }
        news.push(News::Suspended);
        self.lose(news);
    }

    fn lose(&mut self, news: &mut Vec<News>) {
        for id in std::mem::take(&mut self.pending) {
            let result = Err(Failure::Lost);
            news.push(News::Answered { id, result });
        }
    }

    /// Pings, and connects again.
    pub(crate) fn tick(&mut self, env: &mut Env, host: Host, news: &mut Vec<News>) {
        let now = env.clock(host);
        if now < self.next {
            return;
        }
        if self.connected && now.since(self.heard) >= SESSION_TIMEOUT * 2 / 3 {
            self.suspend(news);
            env.break_link(Self::link(host), false);
        }
        if let Some(session) = self.session.filter(|_| self.connected) {
            let ping = Request::Ping { session };
            env.send(Self::link(host), Parcel::Request(ping));
            self.next = now + SESSION_TIMEOUT / 3;
        } else {
            let session = self.session;
            let request = Request::Connect { session };
            // The attempt before is given up.
            env.break_link(Self::link(host), false);
            env.send(Self::link(host), Parcel::Request(request));
            self.next = now + Duration::from_millis(1000 + env.rng.below(500));
        }
    }

    /// The connection broke.
    pub(crate) fn broken(&mut self, env: &mut Env, host: Host, news: &mut Vec<News>) {
        self.suspend(news);
        let wait = Duration::from_millis(50 + env.rng.below(500));
        self.next = self.next.min(env.clock(host) + wait);
    }

    pub(crate) fn hears(
        &mut self,
        env: &mut Env,
        host: Host,
        response: Response,
        news: &mut Vec<News>,
    ) {
        self.heard = env.clock(host);
        match response {
            Response::Connected { session } if session <= self.ended => {}
            Response::Connected { session } => {
                let fresh = !std::mem::replace(&mut self.connected, true);
                // A second answer to a connection that was tried twice: only one of them counts.
                if !fresh {
                    return;
                }
                self.session = Some(session);
                self.next = self.heard + SESSION_TIMEOUT / 3;
                news.push(News::Connected { session });
            }
            Response::Expired => {
                if self.session.take().is_none() {
                    return;
                }
                self.connected = false;
                self.lose(news);
                self.next = self.heard;
                news.push(News::Expired);
            }
            Response::Pong => {}
            Response::Changed => news.push(News::Changed),
            Response::Answered { id, result } => {
                if self.pending.remove(&id) {
                    news.push(News::Answered { id, result });
                }
            }
        }
    }

    /// Asks something in the session; `None` without one.
    pub(crate) fn ask(&mut self, env: &mut Env, host: Host, ask: Ask) -> Option<u64> {
        let session = self.session.filter(|_| self.connected)?;
        self.asked += 1;
        let id = self.asked;
        self.pending.insert(id);
        let request = Request::Ask { session, id, ask };
        env.send(Self::link(host), Parcel::Request(request));
        Some(id)
    }

    /// Gives the session up.
    pub(crate) fn renew(&mut self, env: &mut Env, host: Host, news: &mut Vec<News>) {
        if let Some(session) = self.session.take() {
            self.ended = session;
        }
        self.connected = false;
        self.lose(news);
        self.next = env.clock(host);
        news.push(News::Expired);
    }
}
