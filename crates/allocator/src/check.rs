//! Invariants. Simulation and tests check them after every step.

use crate::Allocator;
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Quantities, Resources};

impl Allocator {
    /// Panics if an invariant is broken.
    pub fn check(&self) {
        self.check_followers();
        self.check_clients();
        self.check_filters();
        self.role_order.check();
        self.check_inverse();
        self.totals_are_those_of_the_followers();
    }

    fn check_followers(&self) {
        for (slot, follower) in self.followers.iter() {
            assert_eq!(self.follower_index.get(&follower.id), Some(&slot));
            let held: Resources = follower
                .held
                .values()
                .map(Resources::non_shared)
                .fold(Resources::new(), |a, b| a + &b);
            if follower.overcommitted {
                assert!(
                    !follower.total.contains(&held),
                    "overcommitted only if more is held than there is"
                );
            } else {
                let all = held + &follower.available;
                assert_eq!(
                    all,
                    follower.total.non_shared(),
                    "{:?}: held and free make the total",
                    follower.id
                );
            }
            assert_eq!(
                self.free.contains(&slot),
                follower.active && follower.has_something(),
                "{:?}: known to be free if it is",
                follower.id
            );
            for (client, held) in &follower.held {
                assert!(!held.is_empty(), "nothing is not held");
                assert!(
                    self.clients[*client].held_on.contains(&slot),
                    "the client knows what it holds"
                );
            }
        }
    }

    fn check_clients(&self) {
        for (slot, client) in self.clients.iter() {
            let (framework, role) = (&self.frameworks[client.framework], &self.roles[client.role]);
            assert_eq!(framework.clients.get(&role.name), Some(&slot));
            let subscribed = framework.options.roles.contains(&role.name);
            assert!(
                subscribed || !client.held_on.is_empty(),
                "idle clients are gone"
            );
            let wants = subscribed
                && framework.active
                && !framework.options.suppressed_roles.contains(&role.name);
            assert_eq!(
                role.clients.is_active(slot),
                wants,
                "in the order if it wants offers"
            );
            let mut held = Quantities::new();
            for follower in &client.held_on {
                held.add_all(&self.followers[*follower].held[&slot].quantities());
            }
            assert_eq!(
                role.clients.allocation(slot),
                Some(&held),
                "the sorter knows what it holds"
            );
        }
        for (slot, role) in self.roles.iter() {
            role.clients.check();
            assert!(!role.clients.is_empty(), "roles without clients are gone");
            assert_eq!(self.role_order.is_active(slot), role.clients.has_active());
        }
        assert!(
            self.hungry
                .iter()
                .all(|client| self.clients.get(*client).is_some())
        );
    }

    fn check_filters(&self) {
        let mut ends = BTreeSet::new();
        let mut refused: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (slot, follower) in self.followers.iter() {
            for (client, filters) in &follower.filters {
                assert!(!filters.is_empty());
                refused.entry(*client).or_default().insert(slot);
                ends.extend(filters.iter().map(|filter| (filter.until, slot, *client)));
            }
        }
        assert_eq!(
            ends, self.expiries,
            "every refusal has its end noted and no other"
        );
        for (slot, client) in self.clients.iter() {
            assert_eq!(client.refused_on, refused.remove(&slot).unwrap_or_default());
        }
        assert!(refused.is_empty(), "refusals are of living clients");
    }

    fn totals_are_those_of_the_followers(&self) {
        let mut all = Quantities::new();
        for (_, follower) in self.followers.iter() {
            all.add_all(&follower.total.quantities());
        }
        assert_eq!(all, self.totals.quantities);
    }
}
