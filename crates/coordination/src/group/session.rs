//! What is known and under way in one session.

use super::Request;
use crate::{Lease, Member, Standing, Tenure};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_model::Time;
use tepui_protocol::v1;

/// What to ask next. Members by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    MakePath,
    List,
    Create,
    Read(String),
    Delete(String),
}

/// What was read of a member. Neither changes as long as it exists.
#[derive(Debug)]
struct Known {
    owner: i64,
    /// Absent when it was not understood.
    info: Option<Arc<v1::MasterInfo>>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: i64,
    pub(super) timeout: Duration,
    pub(super) suspended_at: Option<Time>,
    /// The children may have changed since they were listed.
    pub(super) stale: bool,
    path: Path,
    /// Which one it was when it was last listed.
    birth: Option<i64>,
    listing: Listing,
    /// As last listed, and not before our own znode was created.
    members: Option<BTreeSet<Member>>,
    known: BTreeMap<Member, Known>,
    reading: BTreeSet<Member>,
    own: Own,
    /// The request that created our own znode.
    attempt: u64,
    /// Ours and not wanted; whether its deletion is under way.
    doomed: BTreeMap<Member, bool>,
    checking: bool,
    checked_at: Option<Time>,
    lease: Lease,
}

#[derive(Debug, PartialEq, Eq)]
enum Path {
    Unknown,
    Making,
    Made,
}

#[derive(Debug, PartialEq, Eq)]
enum Listing {
    No,
    UnderWay,
    /// Under way since before something of our own changed: its answer says too little.
    Outdated,
}

/// Our own znode.
#[derive(Debug, PartialEq, Eq)]
enum Own {
    None,
    Creating,
    /// Nobody said whether it was created: it is looked for among the members by its owner.
    Unclear,
    At(Member),
}

impl Session {
    pub(super) fn new(id: i64, timeout: Duration) -> Self {
        Self {
            id,
            timeout,
            suspended_at: None,
            stale: true,
            path: Path::Unknown,
            birth: None,
            listing: Listing::No,
            members: None,
            known: BTreeMap::new(),
            reading: BTreeSet::new(),
            own: Own::None,
            attempt: 0,
            doomed: BTreeMap::new(),
            checking: false,
            checked_at: None,
            lease: Lease::ENDED,
        }
    }

    pub(super) fn lease(&self) -> Lease {
        self.lease
    }

    /// When a session that is suspended is given up.
    pub(super) fn gone_at(&self) -> Option<Time> {
        self.suspended_at.map(|at| at + self.timeout)
    }

    /// When the next heartbeat is due. Only who leads, or is about to, sends any.
    pub(super) fn heartbeat_at(&self) -> Option<Time> {
        let waits = self.checking || self.suspended_at.is_some();
        self.lowest_is_own().filter(|_| !waits)?;
        let interval = Lease::heartbeat_interval(self.timeout);
        Some(self.checked_at.map_or(Time::default(), |at| at + interval))
    }

    /// The member to look for, if a heartbeat is due; it is under way then.
    pub(super) fn heartbeat_due(&mut self, now: Time) -> Option<String> {
        self.heartbeat_at().filter(|at| *at <= now)?;
        let own = self.lowest_is_own()?;
        self.checking = true;
        self.checked_at = Some(now);
        Some(own.to_string())
    }

    fn lowest(&self) -> Option<Member> {
        self.members.as_ref()?.first().copied()
    }

    fn lowest_is_own(&self) -> Option<Member> {
        self.lowest().filter(|lowest| self.own == Own::At(*lowest))
    }

    /// Nothing of ours is in the election, nor can be.
    pub(super) fn is_out(&self) -> bool {
        self.own == Own::None && self.doomed.is_empty()
    }

    /// This request is to create our znode.
    pub(super) fn attempts(&mut self, attempt: u64) {
        self.attempt = attempt;
    }

    /// What to ask next; it is under way then.
    pub(super) fn next_step(&mut self, contends: bool) -> Option<Step> {
        match self.path {
            Path::Making => return None,
            Path::Unknown => {
                self.path = Path::Making;
                return Some(Step::MakePath);
            }
            Path::Made => {}
        }
        if self.stale && self.listing == Listing::No {
            self.stale = false;
            self.listing = Listing::UnderWay;
            return Some(Step::List);
        }
        let members = self.members.as_ref()?;
        if self.own == Own::Unclear {
            if let Some(member) = self.unknown_member() {
                return Some(Step::Read(self.start_reading(member)));
            }
            if !members.iter().all(|member| self.known.contains_key(member)) {
                return None;
            }
            self.find_own();
        }
        match self.own {
            Own::None if contends => {
                self.own = Own::Creating;
                return Some(Step::Create);
            }
            Own::At(member) if !contends => self.doom(member),
            _ => {}
        }
        if let Some((member, under_way)) = self.doomed.iter_mut().find(|(_, on)| !**on) {
            *under_way = true;
            return Some(Step::Delete(member.to_string()));
        }
        let lowest = self.lowest()?;
        let unknown = !self.known.contains_key(&lowest) && !self.reading.contains(&lowest);
        let ours = self.own == Own::At(lowest) || self.doomed.contains_key(&lowest);
        (unknown && !ours).then(|| Step::Read(self.start_reading(lowest)))
    }

    fn unknown_member(&self) -> Option<Member> {
        let unknown = |m: &&Member| !self.known.contains_key(*m) && !self.reading.contains(*m);
        self.members.as_ref()?.iter().find(unknown).copied()
    }

    fn start_reading(&mut self, member: Member) -> String {
        self.reading.insert(member);
        member.to_string()
    }

    /// Everybody's owner is known: takes the lowest of ours for our own. More than one are of
    /// several attempts; those are deleted.
    fn find_own(&mut self) {
        let ours = |m: &Member| {
            self.known
                .get(m)
                .is_some_and(|known| known.owner == self.id)
        };
        let members = self.members.iter().flatten().copied();
        let mut found = members.filter(|m| ours(m) && !self.doomed.contains_key(m));
        self.own = found.next().map_or(Own::None, Own::At);
        let rest: Vec<Member> = found.collect();
        for member in rest {
            self.doom(member);
        }
    }

    fn doom(&mut self, member: Member) {
        self.doomed.entry(member).or_insert(false);
        if self.own == Own::At(member) {
            self.lose_own();
        }
    }

    fn lose_own(&mut self) {
        self.own = Own::None;
        self.lease = Lease::ENDED;
        self.checked_at = None;
    }

    pub(super) fn path_made(&mut self) {
        self.path = Path::Made;
    }

    /// Somebody deleted it, after all members.
    pub(super) fn path_gone(&mut self) {
        self.path = Path::Unknown;
        self.forget_members();
        if let Own::At(_) = self.own {
            self.lose_own();
        }
        self.relist();
    }

    /// The numbers of members mean nothing any more.
    fn forget_members(&mut self) {
        self.birth = None;
        self.known.clear();
        self.doomed.clear();
    }

    /// What was listed, or is being listed, says too little.
    fn relist(&mut self) {
        self.members = None;
        self.stale = true;
        if self.listing == Listing::UnderWay {
            self.listing = Listing::Outdated;
        }
    }

    pub(super) fn listed(&mut self, names: &[String], birth: i64) {
        let outdated = self.listing == Listing::Outdated;
        self.listing = Listing::No;
        if outdated {
            return;
        }
        if self.birth.is_some_and(|before| before != birth) {
            self.forget_members();
            if let Own::At(_) = self.own {
                // Created in this one or in the one before: its owner says so.
                self.lose_own();
                self.own = Own::Unclear;
            }
        }
        self.birth = Some(birth);
        let members: BTreeSet<Member> = names.iter().filter_map(|n| Member::parse(n)).collect();
        self.known.retain(|member, _| members.contains(member));
        self.doomed.retain(|member, _| members.contains(member));
        if let Own::At(own) = self.own
            && !members.contains(&own)
        {
            self.lose_own();
        }
        self.members = Some(members);
    }

    /// What a member's znode holds. Returns what somebody should know about it.
    #[must_use]
    pub(super) fn read(&mut self, name: &str, data: &[u8], owner: i64) -> Option<String> {
        let member = Member::parse(name)?;
        self.reading.remove(&member);
        let (info, notice) = match member.decode(data) {
            Ok(info) => (Some(Arc::new(info)), None),
            Err(error) => {
                let notice = format!(
                    "cannot tell who {name} is: {error}. Nobody can lead before it ends or is deleted"
                );
                (None, Some(notice))
            }
        };
        self.known.insert(member, Known { owner, info });
        notice
    }

    pub(super) fn vanished(&mut self, name: &str) {
        self.stale = true;
        if let Some(member) = Member::parse(name) {
            self.reading.remove(&member);
            // Sequence numbers are not used again.
            if let Some(members) = &mut self.members {
                members.remove(&member);
            }
        }
    }

    pub(super) fn created(&mut self, name: &str) {
        self.own = Member::parse(name).map_or(Own::Unclear, Own::At);
        self.relist();
    }

    pub(super) fn creation_unclear(&mut self) {
        self.own = Own::Unclear;
        self.relist();
    }

    pub(super) fn deleted(&mut self, name: &str) {
        if let Some(member) = Member::parse(name) {
            self.doomed.remove(&member);
            if let Some(members) = &mut self.members {
                members.remove(&member);
            }
        }
        self.stale = true;
    }

    /// The answer to a heartbeat that was sent then.
    pub(super) fn checked(&mut self, name: &str, exists: bool, sent_at: Time) {
        self.checking = false;
        let member = Member::parse(name);
        if member.is_none_or(|member| self.own != Own::At(member)) {
            return;
        }
        if exists {
            let granted = Lease::granted(sent_at, self.timeout);
            self.lease = self.lease.longer(granted);
        } else {
            self.lose_own();
            self.relist();
        }
    }

    /// It was not carried out, or may be asked again whatever became of it.
    pub(super) fn failed(&mut self, request: &Request) {
        let member = |path: &str| Member::parse(path.rsplit('/').next().unwrap_or_default());
        match request {
            Request::MakePath => self.path = Path::Unknown,
            Request::List => {
                self.listing = Listing::No;
                self.stale = true;
            }
            Request::Read(path) => {
                if let Some(member) = member(path) {
                    self.reading.remove(&member);
                }
            }
            Request::Create(_) => self.own = Own::None,
            Request::Delete(path) => {
                if let Some(under_way) = member(path).and_then(|m| self.doomed.get_mut(&m)) {
                    *under_way = false;
                }
            }
            Request::Check(_) => self.checking = false,
        }
    }

    /// Where we stand. `None`: that will be known soon.
    pub(super) fn standing(&self, path: &Arc<str>, contends: bool) -> Option<Standing> {
        let Some(lowest) = self.members.as_ref()?.first() else {
            return Some(Standing::Following(None));
        };
        if self.own == Own::At(*lowest) || self.doomed.contains_key(lowest) {
            // Whoever led is gone; we do not lead before we are heard, nor any more.
            let leads = contends && self.own == Own::At(*lowest) && self.lease != Lease::ENDED;
            return Some(if leads {
                Standing::Leading(Tenure {
                    member: format!("{path}/{lowest}").into(),
                    sequence: lowest.sequence(),
                    session: self.id,
                    attempt: self.attempt,
                })
            } else {
                Standing::Following(None)
            });
        }
        let known = self.known.get(lowest)?;
        Some(Standing::Following(known.info.clone()))
    }
}
