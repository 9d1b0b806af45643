//! A ZooKeeper that is played: one server that counts, sessions that it ends as soon as it may, clients
//! whose connections break anywhere.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tepui_coordination::{
    Answer, AskId, Effect, Failure, Group, Input, MEMBER_PREFIX, Request, Standing,
};
use tepui_model::Time;
use tepui_protocol::v1;

pub(crate) const PATH: &str = "/mesos";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(8);
/// How old what a server knows of a session may be: half a tick, and what passed since the heartbeat
/// before. A lease must hold for this.
const STALENESS: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Znode {
    data: Vec<u8>,
    owner: i64,
}

/// The server that counts.
#[derive(Debug, Default)]
struct Server {
    path_made: bool,
    births: i64,
    znodes: BTreeMap<String, Znode>,
    created: u32,
    /// When it ends each session.
    sessions: BTreeMap<i64, Time>,
    begun: i64,
    /// Sessions that wait for the children to change.
    watches: BTreeSet<i64>,
}

/// One process that takes part.
#[derive(Debug)]
struct Client {
    group: Group,
    info: Arc<v1::MasterInfo>,
    contends: bool,
    session: Option<i64>,
    connected: bool,
    /// On the way to the server.
    requests: VecDeque<(AskId, Request)>,
    /// Nobody has answered these yet.
    open: BTreeSet<AskId>,
    /// On the way back, and what the client library says.
    inbox: VecDeque<Input>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    server: Server,
    clients: Vec<Client>,
}

fn info(client: usize, life: u32) -> Arc<v1::MasterInfo> {
    Arc::new(v1::MasterInfo {
        id: format!("{client}.{life}"),
        ip: 16_777_343,
        port: 5050,
        ..Default::default()
    })
}

impl World {
    pub(crate) fn new(clients: usize) -> Self {
        let client = |number| Client {
            group: Group::new(PATH),
            info: info(number, 0),
            contends: true,
            session: None,
            connected: false,
            requests: VecDeque::new(),
            open: BTreeSet::new(),
            inbox: VecDeque::new(),
        };
        let mut world = Self {
            now: Time::from_nanos(1 << 60),
            server: Server::default(),
            clients: (0..clients).map(client).collect(),
        };
        for number in 0..clients {
            let info = Arc::clone(&world.clients[number].info);
            world.input(number, Input::Contend(info));
        }
        world
    }

    pub(crate) fn size(&self) -> usize {
        self.clients.len()
    }

    /// Hands an input to a client and takes its requests.
    fn input(&mut self, number: usize, input: Input) {
        let client = &mut self.clients[number];
        let mut effects = Vec::new();
        client.group.handle(self.now, input, &mut effects);
        client.group.check();
        let mut renew = false;
        for effect in effects {
            match effect {
                Effect::Ask(ask, request) => {
                    client.open.insert(ask);
                    if client.connected {
                        client.requests.push_back((ask, request));
                    } else {
                        client.open.remove(&ask);
                        let result = Err(Failure::Lost);
                        client.inbox.push_back(Input::Answered { ask, result });
                    }
                }
                Effect::RenewSession => renew = true,
                Effect::Standing(_) | Effect::Lease(_) | Effect::Notice(_) => {}
            }
        }
        if renew {
            self.cut(number, 0);
            let client = &mut self.clients[number];
            client.session = None;
            client.inbox.clear();
        }
    }

    /// What a client hears next.
    pub(crate) fn deliver(&mut self, number: usize) -> bool {
        let input = self.clients[number].inbox.pop_front();
        let any = input.is_some();
        if let Some(input) = input {
            self.input(number, input);
        }
        any
    }

    /// The server takes the next request of a client.
    pub(crate) fn serve(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let (Some(session), Some((ask, request))) = (client.session, client.requests.pop_front())
        else {
            return false;
        };
        if !self.server.sessions.contains_key(&session) {
            // It would say so; the client hears it when it looks.
            return true;
        }
        self.touch(session);
        let result = self.carry_out(session, request);
        let client = &mut self.clients[number];
        client.open.remove(&ask);
        client.inbox.push_back(Input::Answered { ask, result });
        true
    }

    fn touch(&mut self, session: i64) {
        if let Some(ends) = self.server.sessions.get_mut(&session) {
            let heard = Time::from_nanos(self.now.nanos()) + (TIMEOUT - STALENESS);
            *ends = (*ends).max(heard);
        }
    }

    fn carry_out(&mut self, session: i64, request: Request) -> Result<Answer, Failure> {
        let server = &mut self.server;
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let children = server.path_made.then_some(()).ok_or(Failure::NoNode);
        match request {
            Request::MakePath => {
                server.births += i64::from(!server.path_made);
                server.path_made = true;
                Ok(Answer::PathMade)
            }
            Request::List => {
                children?;
                server.watches.insert(session);
                let mut names: Vec<String> = server.znodes.keys().cloned().collect();
                // In no order, among others.
                names.reverse();
                names.extend(["log_replicas", "tepui"].map(str::to_owned));
                Ok(Answer::Listed {
                    names,
                    birth: server.births,
                })
            }
            Request::Read(path) => {
                let znode = server.znodes.get(&name(&path)).ok_or(Failure::NoNode)?;
                Ok(Answer::Read {
                    data: znode.data.clone(),
                    owner: znode.owner,
                })
            }
            Request::Create(data) => {
                children?;
                let name = format!("{MEMBER_PREFIX}{:010}", server.created);
                server.created += 1;
                let owner = session;
                let data = data.to_vec();
                server.znodes.insert(name.clone(), Znode { data, owner });
                self.changed();
                Ok(Answer::Created(name))
            }
            Request::Delete(path) => {
                let gone = server.znodes.remove(&name(&path));
                gone.ok_or(Failure::NoNode)?;
                self.changed();
                Ok(Answer::Deleted)
            }
            Request::Check(path) => {
                let znode = server.znodes.get(&name(&path));
                Ok(Answer::Exists(znode.is_some_and(|z| z.owner == session)))
            }
        }
    }

    /// Tells whoever waits for it, once.
    fn changed(&mut self) {
        for session in std::mem::take(&mut self.server.watches) {
            let waits = |c: &&mut Client| c.session == Some(session);
            if let Some(client) = self.clients.iter_mut().find(waits) {
                match client.connected {
                    true => client.inbox.push_back(Input::Changed),
                    // Told when it is back: the library sets its watches anew.
                    false => drop(self.server.watches.insert(session)),
                }
            }
        }
    }

    /// A connection breaks; the server still gets the first so many requests, but no answer comes back.
    pub(crate) fn cut(&mut self, number: usize, reach: usize) {
        let client = &mut self.clients[number];
        if !client.connected {
            return;
        }
        client.connected = false;
        let session = client.session;
        let requests: Vec<_> = client.requests.drain(..).collect();
        client.inbox.retain(|input| *input != Input::Changed);
        for input in &mut client.inbox {
            if let Input::Answered { result, .. } = input {
                *result = Err(Failure::Lost);
            }
        }
        client.inbox.push_back(Input::Suspended);
        let lost = |ask| Input::Answered {
            ask,
            result: Err(Failure::Lost),
        };
        let open = std::mem::take(&mut client.open);
        client.inbox.extend(open.into_iter().map(lost));
        if let Some(session) = session.filter(|s| self.server.sessions.contains_key(s)) {
            for (_, request) in requests.into_iter().take(reach) {
                self.touch(session);
                let _ = self.carry_out(session, request);
            }
        }
    }

    /// The client library finds a server again.
    pub(crate) fn connect(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if client.connected {
            return;
        }
        match client.session {
            Some(session) if self.server.sessions.contains_key(&session) => {
                self.touch(session);
                let client = &mut self.clients[number];
                client.connected = true;
                client.inbox.push_back(Input::Connected {
                    session,
                    timeout: TIMEOUT,
                });
                // What its watch would have seen.
                client.inbox.push_back(Input::Changed);
            }
            Some(_) => {
                client.session = None;
                client.inbox.push_back(Input::Expired);
            }
            None => {
                self.server.begun += 1;
                let session = self.server.begun;
                self.server.sessions.insert(session, self.now + TIMEOUT);
                client.session = Some(session);
                client.connected = true;
                client.inbox.push_back(Input::Connected {
                    session,
                    timeout: TIMEOUT,
                });
            }
        }
    }

    /// A process ends without a word, and another takes its place.
    pub(crate) fn crash(&mut self, number: usize, life: u32) {
        let info = info(number, life);
        self.clients[number] = Client {
            group: Group::new(PATH),
            info: Arc::clone(&info),
            contends: true,
            session: None,
            connected: false,
            requests: VecDeque::new(),
            open: BTreeSet::new(),
            inbox: VecDeque::new(),
        };
        self.input(number, Input::Contend(info));
    }

    pub(crate) fn withdraw(&mut self, number: usize) {
        self.clients[number].contends = false;
        self.input(number, Input::Withdraw);
    }

    pub(crate) fn contend(&mut self, number: usize) {
        self.clients[number].contends = true;
        let info = Arc::clone(&self.clients[number].info);
        self.input(number, Input::Contend(info));
    }

    /// Time goes on; connected clients are heard of, the sessions of others end when they may.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        let connected = self.clients.iter().filter(|client| client.connected);
        let sessions: Vec<i64> = connected.filter_map(|client| client.session).collect();
        for session in sessions {
            self.touch(session);
        }
        let ended = |ends: &Time| *ends <= self.now;
        let over: Vec<i64> = self
            .server
            .sessions
            .iter()
            .filter(|(_, e)| ended(e))
            .map(|(s, _)| *s)
            .collect();
        for session in over {
            self.server.sessions.remove(&session);
            self.server.watches.remove(&session);
            let before = self.server.znodes.len();
            self.server.znodes.retain(|_, znode| znode.owner != session);
            if self.server.znodes.len() < before {
                self.changed();
            }
        }
    }

    /// The client's timer, if it is due.
    pub(crate) fn tick(&mut self, number: usize) {
        let due = self.clients[number].group.next_deadline();
        if due.is_some_and(|at| at <= self.now) {
            self.input(number, Input::Tick);
        }
    }

    /// Somebody deletes a znode, as an operator might.
    pub(crate) fn delete_lowest(&mut self) {
        if self.server.znodes.pop_first().is_some() {
            self.changed();
        }
    }

    /// Somebody deletes all of it.
    pub(crate) fn delete_path(&mut self) {
        self.server.znodes.clear();
        self.server.path_made = false;
        self.server.created = 0;
        self.changed();
    }

    /// Whoever may act now must be who everybody sees: its znode is there and the lowest.
    pub(crate) fn assert_safe(&self) {
        let acting: Vec<&Client> = self.clients.iter().filter(|c| self.acts(c)).collect();
        assert!(acting.len() <= 1, "two act: {acting:#?}");
        for client in acting {
            let tenure = client.group.standing().tenure().expect("it acts");
            let lowest = self.server.znodes.first_key_value();
            let (name, znode) = lowest.expect("the znode of one who acts");
            assert!(
                tenure.member.ends_with(name.as_str()),
                "{tenure:?} acts, {name} leads"
            );
            assert_eq!(Some(znode.owner), client.session);
        }
    }

    fn acts(&self, client: &Client) -> bool {
        let leads = client.group.standing().tenure().is_some();
        leads && client.group.lease().may_act(self.now)
    }

    /// Nothing breaks any more; everything arrives, for a minute.
    pub(crate) fn calm(&mut self) {
        for _ in 0..200 {
            for number in 0..self.size() {
                self.connect(number);
                // As much as there is; a client that asks without end would hang here.
                for _ in 0..1000 {
                    if !(self.serve(number) | self.deliver(number)) {
                        break;
                    }
                }
                self.tick(number);
            }
            self.advance(Duration::from_millis(250));
        }
    }

    /// One leads and may act, the others follow it, and nothing is left of the past.
    pub(crate) fn assert_settled(&self) {
        let contending = self.clients.iter().filter(|c| c.contends).count();
        assert_eq!(self.server.znodes.len(), contending, "{self:#?}");
        let acting: Vec<&Client> = self.clients.iter().filter(|c| self.acts(c)).collect();
        assert_eq!(acting.len(), contending.min(1), "{self:#?}");
        for client in &self.clients {
            match client.group.standing() {
                Standing::Leading(_) => assert!(self.acts(client)),
                Standing::Following(leader) => {
                    let leader = leader.as_ref().map(|info| &info.id);
                    assert_eq!(leader, acting.first().map(|c| &c.info.id), "{self:#?}");
                }
                other => panic!("{other:?} in {self:#?}"),
            }
            assert_eq!(client.group.is_out(), !client.contends);
        }
    }
}
