//! What others may ask: for documents, metrics and tests.

use crate::Allocator;
use std::sync::Arc;
use tepui_model::{FollowerId, FrameworkId, Quantities, Resource, Resources, roles};

/// A role as `/roles` and the metrics show it.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleView {
    /// Name.
    pub name: Arc<str>,
    /// Weight in fair sharing.
    pub weight: f64,
    /// Its dominant share of the cluster, unweighted: `allocator/mesos/roles/<role>/shares/dominant`.
    pub dominant_share: f64,
    /// What its frameworks hold.
    pub allocation: Quantities,
    /// Frameworks subscribed to it or holding something in it.
    pub frameworks: Vec<FrameworkId>,
    /// Refusals in force: `allocator/mesos/offer_filters/roles/<role>/active`.
    pub filters: usize,
}

impl Allocator {
    /// The roles that have frameworks, by name.
    pub fn roles(&self) -> impl Iterator<Item = RoleView> {
        self.role_index.values().map(|slot| self.role_view(*slot))
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
            .get(client)
    }
    /// What counts against a role's quota: what is reserved for it or a role below it, used or not, and what those hold
    /// of unreserved scalars that are not revocable.
    pub fn quota_consumed(&self, role: &str) -> Quantities {
        let mut consumed = Quantities::new();
        for (_, follower) in self.followers.iter() {
            let reserved = |r: &Resource| {
                r.reservation_role()
                    .is_some_and(|own| roles::is_in_subtree(own, role))
            };
            consumed.add_all(&follower.total.filter(reserved).quantities());
            for (client, held) in &follower.held {
                if roles::is_in_subtree(&self.roles[self.clients[*client].role].name, role) {
                    let unreserved = |r: &Resource| r.is_unreserved() && !r.is_revocable();
                    consumed.add_all(&held.filter(unreserved).quantities());
                }
            }
        }
        consumed
    }
    /// Scalars of all followers.
    pub fn totals(&self) -> &Quantities {
        &self.totals.quantities
    }

    fn role_view(&self, slot: u32) -> RoleView {
        let role = &self.roles[slot];
        let allocation = self
            .role_order
            .allocation(slot)
            .cloned()
            .unwrap_or_default();
        let clients = || {
            role.clients
                .members()
                .filter_map(|client| self.clients.get(client))
        };
        RoleView {
            name: role.name.clone(),
            weight: self.weights.get(&role.name).copied().unwrap_or(1.0),
            dominant_share: self.totals.share(&allocation),
            allocation,
            frameworks: clients()
                .map(|client| self.frameworks[client.framework].id.clone())
                .collect(),
            filters: clients().map(|client| client.refused_on.len()).sum(),
        }
    }
}
