//! Invariants. Simulation and tests check them after every step.

use crate::{
    Allocator, ROOT,
    alternatives::ANY,
    amounts::{Cap, bound_by_limits, charged, less, most},
    state::Role,
};
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Quantities, Resources, roles};

impl Allocator {
    /// Panics if an invariant is broken.
    pub fn check(&self) {
        self.check_followers();
        self.check_clients();
        self.check_filters();
        self.check_roles();
        self.check_quota();
        self.check_held_back();
        self.check_inverse();
        self.totals_are_those_of_the_followers();
    }

    fn check_followers(&self) {
        for (slot, follower) in self.followers.iter() {
            assert_eq!(self.follower_index.get(&follower.id), Some(&slot));
            let held: Resources = follower
                .held
                .iter()
                .map(|(_, held)| held.non_shared())
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
                self.free.contains(slot),
                follower.is_offered()
                    && follower.has_something()
                    && !self.nothing_allocatable(follower),
                "{:?}: known to be free if it is",
                follower.id
            );
            assert_eq!(follower.headroom, follower.to_headroom());
            assert_eq!(follower.alternatives, self.alternatives_of(follower));
            for (client, held) in follower.held.iter() {
                assert!(!held.is_empty(), "nothing is not held");
                assert!(
                    self.clients[client].held_on.contains(&slot),
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
                && !framework.exhausted
                && !framework.options.suppressed_roles.contains(&role.name);
            assert_eq!(
                role.clients.is_active(slot),
                wants,
                "in the order if it wants offers"
            );
            let mut held = Quantities::new();
            for follower in &client.held_on {
                held.add_all(
                    &self.followers[*follower]
                        .held
                        .get(slot)
                        .expect("it holds something there")
                        .quantities(),
                );
            }
            assert_eq!(
                role.clients.allocation(slot),
                Some(&held),
                "the sorter knows what it holds"
            );
        }
        assert!(
            self.hungry
                .iter()
                .all(|client| self.clients.get(*client).is_some())
        );
    }

    fn check_roles(&self) {
        for (slot, role) in self.roles.iter() {
            role.clients.check();
            role.order.check();
            let below = self.roles.iter().filter(|(_, r)| r.parent == Some(slot));
            let below: Vec<u32> = below.map(|(below, _)| below).collect();
            assert_eq!(role.children, below.len());
            let Some(parent) = role.parent else {
                continue;
            };
            assert_eq!(self.role_index.get(&role.name), Some(&slot));
            assert!(
                role.children > 0
                    || !role.clients.is_empty()
                    || !role.quota.is_default()
                    || !role.reserved.is_empty(),
                "roles that nothing needs are gone: {}",
                role.name
            );
            assert_eq!(role.order.is_active(slot), role.clients.has_active());
            assert_eq!(
                self.roles[parent].order.is_active(slot),
                role.order.has_active(),
                "{}: active if anybody below is",
                role.name
            );
            let mut own = Quantities::new();
            for client in role.clients.members() {
                own.add_all(role.clients.allocation(client).expect("a member"));
            }
            assert_eq!(role.order.allocation(slot), Some(&own));
            for below in below {
                own.add_all(role.order.allocation(below).expect("a member"));
            }
            assert_eq!(
                self.roles[parent].order.allocation(slot),
                Some(&own),
                "{}: a role holds what all below it hold",
                role.name
            );
        }
    }

    /// All that quota rests on, from scratch.
    fn check_quota(&self) {
        let mut headroom = Quantities::new();
        for (_, follower) in self.followers.iter() {
            if follower.active && follower.allowed {
                headroom.add_all(&charged(&follower.available));
            }
        }
        assert_eq!(self.headroom, headroom, "what could serve guarantees");
        let limited = self
            .roles
            .iter()
            .filter(|(_, role)| !role.quota.limits.is_empty());
        assert_eq!(self.limited, limited.count());
        for (slot, role) in self.roles.iter() {
            self.check_consumption(slot, role);
            self.check_guarantees(slot, role);
        }
    }

    fn check_consumption(&self, slot: u32, role: &Role) {
        let is_below = |name: &str| slot == ROOT || roles::is_in_subtree(name, &role.name);
        let (mut reserved, mut held) = (Quantities::new(), Quantities::new());
        for (_, follower) in self.followers.iter() {
            for (to, resources) in follower.total.reservations() {
                if is_below(&to) {
                    reserved.add_all(&resources.quantities());
                }
            }
            for (client, resources) in follower.held.iter() {
                if is_below(&self.roles[self.clients[client].role].name) {
                    held.add_all(&charged(resources));
                }
            }
        }
        assert_eq!(role.reserved, reserved, "{}: reserved", role.name);
        assert_eq!(role.charged, held, "{}: held", role.name);
        let own_minimums = self.clients.iter().filter(|(_, client)| {
            client.minimum.is_some() && is_below(&self.roles[client.role].name)
        });
        assert_eq!(role.own_minimums as usize, own_minimums.count());
        let mut cap = Cap::default();
        bound_by_limits(&mut cap, &role.quota.limits, &role.consumed());
        let closed = !cap.is_empty() && role.own_minimums == 0 && self.is_too_tight(&cap);
        let fits = if cap.is_empty() || role.own_minimums > 0 {
            ANY
        } else {
            self.alternatives_within(&cap)
        };
        assert_eq!(role.fits, fits, "{}: fits", role.name);
        assert_eq!(role.closed, closed, "{}: closed", role.name);
    }

    fn check_guarantees(&self, slot: u32, role: &Role) {
        let mut below = Quantities::new();
        let mut credits = u32::from(!role.credit.is_empty());
        for (_, other) in self.roles.iter().filter(|(_, r)| r.parent == Some(slot)) {
            below.add_all(&other.required);
            credits += other.credits;
        }
        assert_eq!(role.required_below, below, "{}: required below", role.name);
        let lacks = less(&role.quota.guarantees, &role.consumed());
        assert_eq!(
            role.required,
            most(&lacks, &below),
            "{}: required",
            role.name
        );
        assert_eq!(role.credit, less(&lacks, &below), "{}: credit", role.name);
        assert_eq!(role.credits, credits, "{}: credits", role.name);
        assert_eq!(self.creditors.contains(&slot), !role.credit.is_empty());
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
