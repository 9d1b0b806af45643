//! An election in ZooKeeper: the children of one znode, of which the lowest leads.
//!
//! A [`Group`] watches one election, and takes part in it when told to. It follows
//! `src/zookeeper/group.cpp`, `src/zookeeper/{detector,contender}.cpp` and
//! `src/master/{contender,detector}/zookeeper.cpp` in what others can see. It differs where those give
//! up: a znode of ours that somebody deleted is made anew, a `create` whose answer was lost is looked
//! for, and what cannot be read is reported and not followed.
//!
//! After each input it looks at what it knows and asks for what it lacks; nothing is remembered of how
//! it got there. Requests carry an id; what belongs to an earlier session is not listened to.
//!
//! A member whose data is not understood keeps its place: while it is the lowest, nobody is known to
//! lead. To pass over it could elect a second leader beside one of a newer kind.
//!
//! [`Standing::Leading`] is announced only once a heartbeat that was sent after all that was answered,
//! so a tenure begins with a lease.

mod io;
mod session;
#[cfg(test)]
mod tests;

pub use io::{Answer, AskId, Effect, Failure, Input, Request};

use crate::{Lease, Standing, member::encode_member};
use session::{Session, Step};
use std::{
    collections::BTreeMap,
    mem::{Discriminant, discriminant},
    sync::Arc,
    time::Duration,
};
use tepui_model::Time;

/// How long to wait after a failure that may pass; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// One election, watched, and perhaps taken part in.
///
/// Hand it every [`Input`] and carry out every [`Effect`] in order; call it with [`Input::Tick`] when
/// [`Group::next_deadline`] is reached.
#[derive(Debug)]
pub struct Group {
    path: Arc<str>,
    /// What our znode is to hold, if we take part.
    candidate: Option<Arc<[u8]>>,
    session: Option<Session>,
    next_ask: u64,
    /// Requests on their way, and when they were sent.
    asked: BTreeMap<AskId, (Request, Time)>,
    retry_at: Option<Time>,
    retry_after: Duration,
    /// What we may not do, and the text that says so.
    refused: Option<(Discriminant<Request>, Arc<str>)>,
    unreachable: Option<Arc<str>>,
    standing: Standing,
    lease: Lease,
}

impl Group {
    /// Watches the election at this znode; [`Input::Contend`] makes it take part.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            candidate: None,
            session: None,
            next_ask: 0,
            asked: BTreeMap::new(),
            retry_at: None,
            retry_after: RETRY_MIN,
            refused: None,
            unreachable: None,
            standing: Standing::Unknown,
            lease: Lease::ENDED,
        }
    }

    /// Where we stand, as last announced.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The lease, as last announced. Whoever acts as a leader must ask both.
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// Whether nothing of ours is left in the election, as far as this session goes.
    pub fn is_out(&self) -> bool {
        self.candidate.is_none() && self.session.as_ref().is_none_or(Session::is_out)
    }

    /// When to call with [`Input::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        let session = self.session.as_ref();
        let gone = session.and_then(Session::gone_at);
        let heartbeat = session.and_then(|session| session.heartbeat_at());
        let connected = session.is_some_and(|session| session.suspended_at.is_none());
        let retry = self.retry_at.filter(|_| connected);
        [gone, heartbeat, retry].into_iter().flatten().min()
    }

    /// Takes notice of an input.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Connected { session, timeout } => self.connected(session, timeout),
            Input::Suspended => self.suspended(now),
            Input::Expired => self.session_ended(),
            Input::Refused(why) => {
                self.session_ended();
                self.unreachable = Some(why.into());
            }
            Input::Changed => {
                if let Some(session) = &mut self.session {
                    session.stale = true;
                }
            }
            Input::Answered { ask, result } => self.answered(now, ask, result, effects),
            Input::Contend(info) => self.candidate = Some(encode_member(&info).into()),
            Input::Withdraw => self.candidate = None,
            Input::Tick => {}
        }
        self.proceed(now, effects);
        self.announce(effects);
    }

    /// Panics when an invariant is broken; for tests.
    pub fn check(&self) {
        if let Standing::Leading(tenure) = &self.standing {
            let session = self.session.as_ref().expect("a leader has a session");
            assert_eq!(tenure.session, session.id, "a tenure is of this session");
            assert!(self.candidate.is_some(), "a leader takes part");
            assert_ne!(self.lease, Lease::ENDED, "a tenure begins with a lease");
        }
        if self.session.is_none() {
            assert_eq!(self.lease, Lease::ENDED, "no lease without a session");
        }
        assert!(self.asked.len() < 64, "requests do not pile up");
    }

    fn connected(&mut self, id: i64, timeout: Duration) {
        self.unreachable = None;
        self.refused = None;
        self.retry_at = None;
        self.retry_after = RETRY_MIN;
        match &mut self.session {
            Some(session) if session.id == id => {
                session.suspended_at = None;
                session.timeout = timeout;
                session.stale = true;
            }
            _ => {
                self.session_ended();
                self.session = Some(Session::new(id, timeout));
            }
        }
    }

    fn suspended(&mut self, now: Time) {
        if let Some(session) = &mut self.session {
            session.suspended_at.get_or_insert(now);
        }
    }

    fn session_ended(&mut self) {
        self.session = None;
        self.refused = None;
        self.asked.clear();
        self.retry_at = None;
    }

    /// Asks for whatever is lacking.
    fn proceed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Some(session) = &self.session else {
            return;
        };
        if session.gone_at().is_some_and(|at| at <= now) {
            // The servers will have ended it, or will when they hear of us. Whoever waits for them to
            // say so may wait for long (`GroupProcess::timedout`).
            self.session_ended();
            effects.push(Effect::RenewSession);
            return;
        }
        if session.suspended_at.is_some() {
            return;
        }
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            while let Some(request) = self.next_request() {
                self.ask(now, request, effects);
            }
        }
        if let Some(own) = self.session.as_mut().and_then(|s| s.heartbeat_due(now)) {
            self.ask(now, Request::Check(self.full(&own)), effects);
        }
    }

    fn next_request(&mut self) -> Option<Request> {
        let contends = self.candidate.is_some();
        Some(match self.session.as_mut()?.next_step(contends)? {
            Step::MakePath => Request::MakePath,
            Step::List => Request::List,
            Step::Create => Request::Create(self.candidate.clone()?),
            Step::Read(name) => Request::Read(self.full(&name)),
            Step::Delete(name) => Request::Delete(self.full(&name)),
        })
    }

    fn full(&self, member: &str) -> String {
        format!("{}/{member}", self.path)
    }

    fn ask(&mut self, now: Time, request: Request, effects: &mut Vec<Effect>) {
        self.next_ask += 1;
        let id = AskId(self.next_ask);
        if let (Request::Create(_), Some(session)) = (&request, &mut self.session) {
            session.attempts(id.0);
        }
        self.asked.insert(id, (request.clone(), now));
        effects.push(Effect::Ask(id, request));
    }

    fn answered(
        &mut self,
        now: Time,
        ask: AskId,
        result: Result<Answer, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        // Not there: it was of an earlier session.
        let Some((request, sent_at)) = self.asked.remove(&ask) else {
            return;
        };
        let Some(session) = &mut self.session else {
            return;
        };
        match (&request, result) {
            (Request::MakePath, Ok(_)) => session.path_made(),
            (Request::List, Ok(Answer::Listed { names, birth })) => session.listed(&names, birth),
            (Request::List | Request::Create(_), Err(Failure::NoNode)) => {
                session.failed(&request);
                session.path_gone();
            }
            (Request::Read(path), Ok(Answer::Read { data, owner })) => {
                let notice = session.read(name(path), &data, owner);
                effects.extend(notice.map(Effect::Notice));
            }
            (Request::Read(path), Err(Failure::NoNode)) => session.vanished(name(path)),
            (Request::Create(_), Ok(Answer::Created(name))) => session.created(&name),
            (Request::Create(_), Err(Failure::Lost)) => {
                session.creation_unclear();
                self.retry_later(now);
                return;
            }
            (Request::Delete(path), Ok(_) | Err(Failure::NoNode)) => session.deleted(name(path)),
            (Request::Check(path), Ok(Answer::Exists(exists))) => {
                session.checked(name(path), exists, sent_at);
            }
            (_, result) => {
                session.failed(&request);
                self.failed(now, &request, result.err(), effects);
                return;
            }
        }
        let kind = discriminant(&request);
        self.refused = self.refused.take().filter(|(of, _)| *of != kind);
        self.retry_after = RETRY_MIN;
    }

    fn failed(
        &mut self,
        now: Time,
        request: &Request,
        failure: Option<Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let what = match request {
            Request::MakePath => format!("create {}", self.path),
            Request::List => format!("list {}", self.path),
            Request::Read(member) => format!("read {member}"),
            Request::Create(_) => format!("create a znode below {}", self.path),
            Request::Delete(member) => format!("delete {member}"),
            Request::Check(member) => format!("look for {member}"),
        };
        match failure {
            Some(Failure::Denied) => {
                let why: Arc<str> = format!(
                    "ZooKeeper does not let us {what}: its ACL asks for other credentials than \
                     those in our zk:// URL (user and password)"
                )
                .into();
                if self.refused.as_ref().is_none_or(|(_, told)| *told != why) {
                    effects.push(Effect::Notice(why.to_string()));
                }
                self.refused = Some((discriminant(request), why));
                self.retry_after = RETRY_MAX;
            }
            Some(Failure::Lost) => {}
            Some(other) => effects.push(Effect::Notice(format!("cannot {what}: {other:?}"))),
            None => effects.push(Effect::Notice(format!(
                "cannot {what}: the answer belongs to another question"
            ))),
        }
        self.retry_later(now);
    }

    fn retry_later(&mut self, now: Time) {
        self.retry_at = Some(now + self.retry_after);
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
    }

    /// Tells what changed of our standing. The lease goes first: whoever hears of a tenure finds it
    /// begun, and whoever hears of its end finds it ended.
    fn announce(&mut self, effects: &mut Vec<Effect>) {
        let lease = self.session.as_ref().map_or(Lease::ENDED, Session::lease);
        if lease != self.lease {
            self.lease = lease;
            effects.push(Effect::Lease(lease));
        }
        let standing = self.outcome();
        if standing != self.standing {
            self.standing = standing.clone();
            effects.push(Effect::Standing(standing));
        }
    }

    fn outcome(&self) -> Standing {
        let Some(session) = &self.session else {
            let unreachable = self.unreachable.clone();
            return unreachable.map_or(Standing::Unknown, Standing::Refused);
        };
        let standing = session.standing(&self.path, self.candidate.is_some());
        match (standing, &self.refused) {
            (Some(standing @ Standing::Leading(_)), _) => standing,
            (_, Some((_, why))) => Standing::Refused(Arc::clone(why)),
            (Some(standing), None) => standing,
            // Not known at the moment; what was known goes on, unless it was ours to lead.
            (None, None) => match &self.standing {
                Standing::Following(info) => Standing::Following(info.clone()),
                _ => Standing::Unknown,
            },
        }
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
