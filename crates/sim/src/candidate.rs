//! A node's way to ZooKeeper: its session, the election as it sees it, and what else it asks.

use crate::{
    env::Env,
    event::Host,
    zookeeper::{Ask, Client, News, PATH, Response, SESSION_TIMEOUT, Said},
};
use std::{collections::BTreeMap, sync::Arc};
use tepui_coordination::{
    AskId, Effect, Failure, Group, Input, Lease, Request, Standing, leader_pid,
};
use tepui_model::Time;
use tepui_protocol::{peer::Pid, v1};

/// Sees the election, and takes part in it if told to.
pub(crate) struct Candidate {
    host: Host,
    client: Client,
    group: Group,
    asks: BTreeMap<u64, AskId>,
    pub(crate) standing: Standing,
    pub(crate) lease: Lease,
}

/// What its owner is to know.
#[derive(Debug)]
pub(crate) enum Told {
    /// Where it stands has changed.
    Standing,
    /// An answer to [`Candidate::ask`].
    Answered {
        id: u64,
        result: Result<Said, Failure>,
    },
}

impl Candidate {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            client: Client::default(),
            group: Group::new(PATH),
            asks: BTreeMap::new(),
            standing: Standing::Unknown,
            lease: Lease::ENDED,
        }
    }

    pub(crate) fn contend(&mut self, env: &mut Env, info: &v1::MasterInfo, told: &mut Vec<Told>) {
        let info = Arc::new(info.clone());
        self.feed(env, Input::Contend(info), told);
    }

    pub(crate) fn withdraw(&mut self, env: &mut Env, told: &mut Vec<Told>) {
        self.feed(env, Input::Withdraw, told);
    }

    /// Whom everybody follows, as far as we know.
    pub(crate) fn leader(&self) -> Option<Pid> {
        match &self.standing {
            Standing::Following(Some(info)) => leader_pid(info),
            _ => None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let client = Some(self.client.deadline());
        [client, self.group.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn tick(&mut self, env: &mut Env, told: &mut Vec<Told>) {
        let mut news = Vec::new();
        self.client.tick(env, self.host, &mut news);
        self.take(env, news, told);
        let now = env.clock(self.host);
        if self.group.next_deadline().is_some_and(|at| at <= now) {
            self.feed(env, Input::Tick, told);
        }
    }

    pub(crate) fn broken(&mut self, env: &mut Env, told: &mut Vec<Told>) {
        let mut news = Vec::new();
        self.client.broken(env, self.host, &mut news);
        self.take(env, news, told);
    }

    pub(crate) fn hears(&mut self, env: &mut Env, response: Response, told: &mut Vec<Told>) {
        let mut news = Vec::new();
        self.client.hears(env, self.host, response, &mut news);
        self.take(env, news, told);
    }

    /// Asks for something that is no matter of the election.
    pub(crate) fn ask(&mut self, env: &mut Env, ask: Ask) -> Option<u64> {
        self.client.ask(env, self.host, ask)
    }

    fn take(&mut self, env: &mut Env, news: Vec<News>, told: &mut Vec<Told>) {
        for news in news {
            let input = match news {
                News::Connected { session } => Input::Connected {
                    session,
                    timeout: SESSION_TIMEOUT,
                },
                News::Suspended => Input::Suspended,
                News::Expired => Input::Expired,
                News::Changed => Input::Changed,
                News::Answered { id, result } => match self.asks.remove(&id) {
                    None => {
                        told.push(Told::Answered { id, result });
                        continue;
                    }
                    Some(ask) => Input::Answered {
                        ask,
                        result: result.map(|said| match said {
                            Said::Group(answer) => answer,
                            other => unreachable!("{other:?} answers no request of an election"),
                        }),
                    },
                },
            };
            self.feed(env, input, told);
        }
    }

    fn feed(&mut self, env: &mut Env, input: Input, told: &mut Vec<Told>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            let now = env.clock(self.host);
            self.group.handle(now, input, &mut effects);
            self.group.check();
            for effect in effects {
                self.carry(env, effect, &mut inputs, told);
            }
        }
    }

    fn carry(
        &mut self,
        env: &mut Env,
        effect: Effect,
        inputs: &mut Vec<Input>,
        told: &mut Vec<Told>,
    ) {
        match effect {
            Effect::Ask(ask, request) => self.carry_ask(env, ask, request, inputs),
            Effect::RenewSession => {
                let mut news = Vec::new();
                self.client.renew(env, self.host, &mut news);
                self.take(env, news, told);
            }
            Effect::Standing(standing) => {
                env.trace(|| format!("{}: {standing:?}", self.host));
                self.standing = standing;
                told.push(Told::Standing);
            }
            Effect::Lease(lease) => self.lease = lease,
            Effect::Notice(_) => {}
        }
    }

    fn carry_ask(&mut self, env: &mut Env, ask: AskId, request: Request, inputs: &mut Vec<Input>) {
        match self.client.ask(env, self.host, Ask::Group(request)) {
            Some(id) => drop(self.asks.insert(id, ask)),
            None => inputs.push(Input::Answered {
                ask,
                result: Err(Failure::Lost),
            }),
        }
    }
}
