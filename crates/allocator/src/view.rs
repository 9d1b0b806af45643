//! What others may ask: for documents, metrics and tests.

use crate::{Allocator, ROOT, quota::Surplus, tree::subtree};
use std::sync::Arc;
use tepui_model::{FollowerId, FrameworkId, Quantities, Quota, Resources, Scalar};

/// A role as `/roles` and the metrics show it.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleView {
    /// Name.
    pub name: Arc<str>,
    /// Weight in fair sharing.
    pub weight: f64,
    /// Its dominant share of the cluster, unweighted, of what its own frameworks hold:
    /// `allocator/mesos/roles/<role>/shares/dominant`.
    pub dominant_share: f64,
    /// What its own frameworks hold.
    pub allocation: Quantities,
    /// What frameworks in it and in roles below it hold.
    pub subtree_allocation: Quantities,
    /// Frameworks subscribed to it or holding something in it.
    pub frameworks: Vec<FrameworkId>,
    /// Refusals in force: `allocator/mesos/offer_filters/roles/<role>/active`.
    pub filters: usize,
    /// What it is promised, `allocator/mesos/quota/roles/<role>/resources/<name>/guarantee`, and may have at most
    /// (`…/limit`).
    pub quota: Quota,
    /// What is reserved to it and roles below it.
    pub reserved: Quantities,
    /// What counts against its quota and is held, `…/offered_or_allocated`.
    pub charged: Quantities,
    /// What counts against its quota, `…/consumed`.
    pub consumed: Quantities,
}

/// What is kept free for guarantees.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    /// What could serve them.
    pub available: Quantities,
    /// What they lack.
    pub required: Quantities,
}

impl Allocator {
    /// The roles that have frameworks, reservations, a quota or roles below them, by name.
    pub fn roles(&self) -> impl Iterator<Item = RoleView> {
        self.role_index.values().map(|slot| self.role_view(*slot))
    }
    /// A role, if it is one of those.
    pub fn role(&self, name: &str) -> Option<RoleView> {
        self.role_index.get(name).map(|slot| self.role_view(*slot))
    }
    /// What a follower has in all.
    pub fn total(&self, follower: &FollowerId) -> Option<&Resources> {
        self.follower_index
            .get(follower)
            .map(|slot| &self.followers[*slot].total)
    }
    /// What nobody holds on a follower.
    pub fn available(&self, follower: &FollowerId) -> Option<&Resources> {
        self.follower_index
            .get(follower)
            .map(|slot| &self.followers[*slot].available)
    }
    /// What a framework holds on a follower in a role, without the mark of allocation.
    pub fn held(
        &self,
        framework: &FrameworkId,
        follower: &FollowerId,
        role: &str,
    ) -> Option<&Resources> {
        let framework = self.framework_index.get(framework)?;
        let client = self.frameworks[*framework].clients.get(role)?;
        self.followers[*self.follower_index.get(follower)?]
            .held
            .get(*client)
    }
    /// What counts against a role's quota: what is reserved for it or a role below it, used or not, and what those hold
    /// of unreserved scalars that are not revocable.
    pub fn quota_consumed(&self, role: &str) -> Quantities {
        match self.role_index.get(role) {
            Some(slot) => self.roles[*slot].consumed(),
            None => Quantities::new(),
        }
    }
    /// The quota of a role; the default if it has none.
    pub fn quota(&self, role: &str) -> Quota {
        let slot = self.role_index.get(role);
        slot.map(|slot| self.roles[*slot].quota.clone())
            .unwrap_or_default()
    }
    /// The names of a role and the roles below it that are known.
    pub fn roles_below(&self, role: &str) -> Vec<Arc<str>> {
        let names = subtree(&self.role_index, role).map(|(name, _)| name.clone());
        names.collect()
    }
    /// What is kept free for guarantees.
    pub fn headroom(&self) -> Headroom {
        Headroom {
            available: self.headroom.clone(),
            required: self.roles[ROOT].required.clone(),
        }
    }
    /// What of the headroom is left for everybody, of what guarantees require.
    pub fn headroom_surplus(&self) -> Vec<(String, Scalar)> {
        let surplus: Surplus = self.surplus();
        let named = surplus.into_iter();
        named
            .map(|(name, amount)| (name.as_str().to_owned(), amount))
            .collect()
    }
    /// Scalars of all followers.
    pub fn totals(&self) -> &Quantities {
        &self.totals.quantities
    }

    fn role_view(&self, slot: u32) -> RoleView {
        let role = &self.roles[slot];
        let allocation = role.order.allocation(slot).cloned().unwrap_or_default();
        let above = role.parent.and_then(|above| self.roles.get(above));
        let clients = || {
            role.clients
                .members()
                .filter_map(|client| self.clients.get(client))
        };
        RoleView {
            name: role.name.clone(),
            weight: above.map_or(1.0, |above| above.order.weight(slot)),
            dominant_share: self.totals.share(&allocation),
            allocation,
            subtree_allocation: above
                .and_then(|above| above.order.allocation(slot).cloned())
                .unwrap_or_default(),
            frameworks: clients()
                .map(|client| self.frameworks[client.framework].id.clone())
                .collect(),
            filters: clients().map(|client| client.refused_on.len()).sum(),
            quota: role.quota.clone(),
            reserved: role.reserved.clone(),
            charged: role.charged.clone(),
            consumed: role.consumed(),
        }
    }
}
