//! Refusals: what a framework has declined, it is not offered again for a while.
//!
//! A refusal is per framework, role and follower, and covers offers that hold no more than what was
//! refused: once more has come free the framework hears of it at once. Durations follow
//! `HierarchicalAllocatorProcess::recoverResources`.

use crate::{
    Allocator,
    state::{Filter, Follower},
};
use std::time::Duration;
use tepui_model::{Resources, Time};

/// Longer refusals are cut to this.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Allocator {
    pub(crate) fn add_filter(
        &mut self,
        slot: u32,
        client: u32,
        resources: Resources,
        refuse: Duration,
        now: Time,
    ) {
        if resources.is_empty() {
            return;
        }
        let filter = Filter {
            resources,
            until: self.end_of_refusal(refuse, now),
        };
        let filters = self.followers[slot].filters.entry(client).or_default();
        // What the new one covers as well and as long need not be kept: else a framework that goes on
        // declining fills the memory.
        filters.retain(|old| {
            let covered = old.until <= filter.until && filter.resources.contains(&old.resources);
            if covered && old.until != filter.until {
                self.expiries.remove(&(old.until, slot, client));
            }
            !covered
        });
        for other in filters.iter() {
            self.expiries.insert((other.until, slot, client));
        }
        self.expiries.insert((filter.until, slot, client));
        filters.push(filter);
        self.clients[client].refused_on.insert(slot);
    }

    /// A refusal lasts at least one allocation interval. One of zero seconds only means "not right
    /// now": it ends with the running interval, when the reference's next round would come. Without
    /// that, a framework that declines everything at once would keep us busy offering.
    pub(crate) fn end_of_refusal(&self, refuse: Duration, now: Time) -> Time {
        let interval = self.options.allocation_interval;
        if refuse.is_zero() {
            let nanos = u64::try_from(interval.as_nanos())
                .unwrap_or(u64::MAX)
                .max(1);
            return Time::from_nanos(
                (now.nanos() / nanos)
                    .saturating_add(1)
                    .saturating_mul(nanos),
            );
        }
        now + refuse.clamp(interval.min(LONGEST), LONGEST)
    }

    /// Drops the refusals that have ended, and has another look for those who made them.
    pub(crate) fn expire_filters(&mut self, now: Time) {
        while let Some((until, slot, client)) = self.expiries.first().copied() {
            if until > now {
                break;
            }
            self.expiries.pop_first();
            let follower = &mut self.followers[slot];
            if let Some(filters) = follower.filters.get_mut(&client) {
                filters.retain(|filter| filter.until > now);
                if filters.is_empty() {
                    follower.filters.remove(&client);
                    self.clients[client].refused_on.remove(&slot);
                }
            }
            self.look_again(slot, client);
        }
    }

    pub(crate) fn clear_filters_of_client(&mut self, client: u32) {
        for slot in std::mem::take(&mut self.clients[client].refused_on) {
            self.drop_filters(slot, client);
        }
    }

    pub(crate) fn clear_filters_of_follower(&mut self, slot: u32) {
        let mut clients: Vec<u32> = self.followers[slot].filters.keys().copied().collect();
        clients.sort_unstable();
        for client in clients {
            self.clients[client].refused_on.remove(&slot);
            self.drop_filters(slot, client);
        }
    }

    fn drop_filters(&mut self, slot: u32, client: u32) {
        let Follower { filters, .. } = &mut self.followers[slot];
        for filter in filters.remove(&client).unwrap_or_default() {
            self.expiries.remove(&(filter.until, slot, client));
        }
    }
}
