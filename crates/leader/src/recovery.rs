//! A new leader begins with what the registry knows, waits for followers and frameworks to come
//! back, and gives up those that do not.
//!
//! Follows `Master::_recover`, `recoveredSlavesTimeout`, `doRegistryGc` in `src/master/master.cpp` and
//! `HierarchicalAllocatorProcess::recover`. What frameworks and operators see of it is in
//! `docs/failover.md`.

use crate::{
    Leader, Level, RegistryChange,
    removal::Fault,
    roster::{Aged, Marks},
    timers::Timer,
};
use std::{sync::Arc, time::Duration};
use tepui_model::{FollowerId, FrameworkId, Time, units::format_duration};
use tepui_protocol::{internal, v1};

/// How many names a line of the log holds.
const NAMED: usize = 20;

/// What a new leader has to remember of its beginning.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// When it was elected.
    began: Time,
    /// Followers that the registry had then.
    admitted: usize,
    /// No offers are made until so many followers are registered.
    offers_wait_for: Option<usize>,
}

impl Recovery {
    /// Whether offers are held back.
    pub(crate) fn holds_offers(&self) -> bool {
        self.offers_wait_for.is_some()
    }
}

impl Leader {
    /// What the registry knows: followers to wait for, followers given up.
    pub(crate) fn recover(&mut self, registry: &internal::Registry) {
        let time = |time: &v1::TimeInfo| {
            Time::from_nanos(u64::try_from(time.nanoseconds).unwrap_or_default())
        };
        let marks = |drain: &Option<v1::DrainInfo>, deactivated: Option<bool>| Marks {
            drain: *drain,
            deactivated: deactivated == Some(true),
        };
        let roster = &mut self.state.roster;
        for slave in registry.slaves.iter().flat_map(|all| &all.slaves) {
            let mut info = slave.info.clone();
            info.resources.iter_mut().for_each(crate::followers::own);
            if let Some(id) = info.id.as_ref().map(FollowerId::from) {
                roster.mark(&id, marks(&slave.drain_info, slave.deactivated));
                roster.recovered.insert_mut(id, Arc::new(info));
            }
        }
        for slave in registry.unreachable.iter().flat_map(|all| &all.slaves) {
            let id = FollowerId::from(&slave.id);
            if !roster.recovered.contains_key(&id) {
                roster.mark(&id, marks(&slave.drain_info, slave.deactivated));
                roster.unreachable.insert(id, time(&slave.timestamp));
            }
        }
        for slave in registry.gone.iter().flat_map(|all| &all.slaves) {
            let id = FollowerId::from(&slave.id);
            if !roster.recovered.contains_key(&id) && !roster.unreachable.contains(&id) {
                roster.gone.insert(id, time(&slave.timestamp));
            }
        }
        self.recovery = Recovery {
            began: self.now,
            admitted: roster.recovered.size(),
            offers_wait_for: None,
        };
        if self.recovery.admitted > 0 {
            let at = self.now + self.config.reregister_timeout;
            self.timers.set(Timer::Recovered, at);
        }
        let has_quota = !registry.quotas.is_empty() || !registry.quota_configs.is_empty();
        if has_quota {
            self.hold_offers();
        }
        self.schedule_registry_gc();
    }

    // Offers.

    /// With quotas, offers on a part of the cluster would give away what a quota needs: they wait
    /// until most followers are back. Without, there is nothing to wait for.
    fn hold_offers(&mut self) {
        let factor = self.config.allocator_recovery_factor.clamp(0.0, 1.0);
        let expected = (self.recovery.admitted as f64 * factor) as usize;
        if expected == 0 {
            return;
        }
        self.recovery.offers_wait_for = Some(expected);
        let timeout = self.config.allocator_recovery_timeout;
        self.timers
            .set(Timer::AllocatorRecovery, self.now + timeout);
        let text = format!(
            "Offers wait until {expected} followers are back, or for {}",
            format_duration(timeout)
        );
        self.notice(Level::Info, text);
    }

    /// One more follower is registered.
    pub(crate) fn follower_is_back(&mut self) {
        let expected = self.recovery.offers_wait_for;
        if expected.is_some_and(|expected| self.state.followers_count() >= expected) {
            self.resume_offers();
        }
    }

    pub(crate) fn resume_offers(&mut self) {
        if self.recovery.offers_wait_for.take().is_some() {
            self.timers.cancel(&Timer::AllocatorRecovery);
            self.notice(Level::Info, "Offers are made from now on".to_owned());
        }
    }

    // Followers.

    /// The time in which followers may come back is over. Those that did not are given up, unless
    /// they are so many that the fault is likely to lie elsewhere.
    pub(crate) fn recovered_timeout(&mut self) {
        let missing: Vec<FollowerId> = self.state.roster.recovered.keys().cloned().collect();
        if missing.is_empty() {
            return;
        }
        let share = 100.0 * missing.len() as f64 / self.recovery.admitted.max(1) as f64;
        let limit = self.config.recovery_removal_limit_percent;
        if share > limit {
            return self.refuse_removals(&missing, share, limit);
        }
        for id in missing {
            self.schedule_removal(&id, Fault::Missing);
        }
    }

    /// The reference ends itself here. That would take the leader from the followers that did come
    /// back; giving nobody up is as safe, and followers that come late are still let in.
    fn refuse_removals(&mut self, missing: &[FollowerId], share: f64, limit: f64) {
        self.count("master/recovery_slave_removals_refused");
        let timeout = self.config.reregister_timeout;
        let mut names: Vec<&str> = missing.iter().take(NAMED).map(FollowerId::as_str).collect();
        if missing.len() > NAMED {
            names.push("…");
        }
        let text = format!(
            "Post-recovery agent removal limit exceeded! After {} {} ({share:.1}%) of the followers in \
             the registry did not reregister; the limit is {limit}%. None of them is removed, and \
             questions about their tasks are not answered, until more come back, an operator marks them \
             gone, or a leader starts with another --recovery_agent_removal_limit. Checked again in {}. \
             Missing: {}",
            format_duration(timeout),
            missing.len(),
            format_duration(timeout),
            names.join(", "),
        );
        self.notice(Level::Error, text);
        self.timers.set(Timer::Recovered, self.now + timeout);
    }

    /// A follower that the registry knew did not come back.
    pub(crate) fn give_up_missing(&mut self, id: &FollowerId) {
        if !self.state.roster.recovered.contains_key(id) {
            return;
        }
        let why = format!(
            "did not reregister within {} after master failover",
            format_duration(self.config.reregister_timeout)
        );
        let text = format!("Marking follower {id} unreachable: {why}");
        self.notice(Level::Warning, text);
        self.count("master/recovery_slave_removals");
        self.persist_unreachable(id);
        self.state.roster.recovered.remove_mut(id);
        self.send_lost(id);
    }

    // Frameworks.

    /// A framework that followers brought along has its `failover_timeout`, counted from the
    /// election, to come back; but as long as followers may take at least, since it has to find the
    /// leader first. (The reference waits for ever: MESOS-4659.)
    pub(crate) fn await_framework(&mut self, id: &FrameworkId, failover_timeout: Duration) {
        let grace = self.config.reregister_timeout;
        let from_election = self.recovery.began + failover_timeout.max(grace);
        let at = from_election.max(self.now + grace);
        self.timers.set(Timer::Failover(id.clone()), at);
    }

    // What is remembered of followers that are not here.

    /// Somebody is unreachable or gone: what is old of that is looked for now and then.
    pub(crate) fn schedule_registry_gc(&mut self) {
        let roster = &self.state.roster;
        let nobody = roster.unreachable.len() == 0 && roster.gone.len() == 0;
        if nobody || self.timers.is_set(&Timer::RegistryGc) {
            return;
        }
        // An interval of nothing would be a loop.
        let interval = self.config.registry_gc_interval.max(Duration::from_secs(1));
        self.timers.set(Timer::RegistryGc, self.now + interval);
    }

    /// Forgets the oldest of too many followers that are unreachable or gone, and those that have been
    /// it for too long. Their tasks are unknown from now on. Costs what is forgotten.
    pub(crate) fn registry_gc(&mut self) {
        let unreachable = self.outdated(&self.state.roster.unreachable);
        let gone = self.outdated(&self.state.roster.gone);
        if unreachable.is_empty() && gone.is_empty() {
            return self.schedule_registry_gc();
        }
        let text = format!(
            "Forgetting {} unreachable and {} gone followers",
            unreachable.len(),
            gone.len()
        );
        self.notice(Level::Info, text);
        for id in unreachable {
            self.persist(RegistryChange::RemoveFollower(id.clone()));
            self.state.roster.unreachable.remove(&id);
            self.state.roster.mark(&id, Marks::default());
            self.forget_missed_tasks(&id);
        }
        for id in gone {
            self.persist(RegistryChange::RemoveFollower(id.clone()));
            self.state.roster.gone.remove(&id);
        }
        self.schedule_registry_gc();
    }

    fn outdated(&self, followers: &Aged) -> Vec<FollowerId> {
        let excess = followers
            .len()
            .saturating_sub(self.config.registry_max_followers);
        let age = self.config.registry_max_follower_age;
        let by_age = |since: &Time| *since + age < self.now;
        let oldest = followers.iter().enumerate();
        let outdated = oldest.take_while(|(place, (since, _))| *place < excess || by_age(since));
        outdated.map(|(_, (_, id))| id.clone()).collect()
    }
}
