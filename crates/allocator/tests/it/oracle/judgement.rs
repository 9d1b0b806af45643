//! Who may be offered what, worked out from scratch.

use super::{Client, Framework, Oracle};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{Quantities, Quota, Resource, Resources, Scalar, Time, roles};

/// By how much what is free exceeds (or falls short of) what guarantees lack, by name of what they lack.
pub(crate) type Excess = BTreeMap<String, Scalar>;

/// What counts against quota: unreserved scalars that cannot be revoked.
fn is_charged(resource: &Resource) -> bool {
    resource.as_scalar().is_some() && resource.is_unreserved() && !resource.is_revocable()
}

pub(crate) fn charged(resources: &Resources) -> Quantities {
    resources.filter(is_charged).quantities()
}

fn is_below(role: &str, top: &str) -> bool {
    role == top || role.starts_with(&format!("{top}/"))
}

impl Oracle {
    /// Nobody holds it; shared objects are apart.
    pub(crate) fn available(&self, follower: &str) -> Resources {
        let mut rest = self.followers[follower].info.total.non_shared();
        for ((_, at), held) in &self.held {
            if at == follower {
                rest = rest.saturating_sub(&held.non_shared());
            }
        }
        rest
    }

    /// More is held than there is: it came down to less.
    pub(crate) fn is_overcommitted(&self, follower: &str) -> bool {
        let held = self.held.iter().filter(|((_, at), _)| at == follower);
        let sum = held.fold(Resources::new(), |sum, (_, held)| sum + &held.non_shared());
        !self.followers[follower].info.total.contains(&sum)
    }

    /// It is there, and on the allow-list.
    pub(crate) fn is_offered(&self, follower: &str) -> bool {
        let follower = &self.followers[follower];
        let host = &*follower.info.traits.hostname;
        let list = self.allow_list.as_ref();
        follower.active && list.is_none_or(|list| list.contains(host))
    }

    pub(crate) fn wants(&self, (framework, role): &Client) -> bool {
        self.frameworks.get(framework).is_some_and(|f| {
            let o = &f.options;
            f.active && o.roles.contains(role) && !o.suppressed_roles.contains(role)
        })
    }

    /// Whether the framework may see the follower in that role at all.
    pub(crate) fn may_see(&self, (framework, role): &Client, follower: &str) -> bool {
        let (framework, follower) = (&self.frameworks[framework], &self.followers[follower]);
        let able = framework.options.capabilities;
        let gpus = follower.info.total.gpus() > Scalar::ZERO;
        let region = follower.info.traits.region.as_deref();
        (able.gpu_resources || !gpus)
            && (able.region_aware || region.is_none_or(|region| region == "home"))
            && (follower.info.capabilities.multi_role || !able.multi_role)
            && (follower.info.capabilities.hierarchical_role || !role.contains('/'))
            && framework
                .rack
                .is_none_or(|(is, rack)| (follower.rack == rack) == is)
    }

    fn may_take(framework: &Framework, resource: &Resource) -> bool {
        let able = framework.options.capabilities;
        (able.shared_resources || !resource.is_shared())
            && (able.revocable_resources || !resource.is_revocable())
            && (able.reservation_refinement || resource.reservations().len() <= 1)
    }

    pub(crate) fn is_visible(&self, (framework, role): &Client, resource: &Resource) -> bool {
        let reserved = resource.reservation_role();
        Self::may_take(&self.frameworks[framework], resource)
            && reserved.is_none_or(|owner| is_below(role, owner))
    }

    pub(crate) fn is_enough(&self, (framework, role): &Client, resources: &Resources) -> bool {
        let own = &self.frameworks[framework].options.min_allocatable_resources;
        match own.get(role) {
            Some(own) => {
                own.is_empty() || own.iter().any(|least| resources.contains_quantities(least))
            }
            None => resources.cpus() >= Scalar::millis(10) || resources.mem() >= Scalar::units(32),
        }
    }

    pub(crate) fn is_refused(
        &self,
        client: &Client,
        follower: &str,
        resources: &Resources,
        now: Time,
    ) -> bool {
        self.refusals.iter().any(|refusal| {
            refusal.client == *client
                && refusal.follower == follower
                && refusal.until > now
                && refusal.resources.contains(resources)
        })
    }

    /// All that counts against a role's quota: reserved to it or below, and what those hold that is unreserved.
    pub(crate) fn consumed(&self, role: &str) -> Quantities {
        let mut consumed = Quantities::new();
        for follower in self.followers.values() {
            let of_role = |r: &Resource| r.reservation_role().is_some_and(|to| is_below(to, role));
            consumed.add_all(&follower.info.total.filter(of_role).quantities());
        }
        for (((_, holder), _), held) in &self.held {
            if is_below(holder, role) {
                consumed.add_all(&charged(held));
            }
        }
        consumed
    }

    /// What limits of the role and of all above it leave, for each name they bound.
    pub(crate) fn left_by_limits(&self, role: &str) -> BTreeMap<String, Scalar> {
        let mut left: BTreeMap<String, Scalar> = BTreeMap::new();
        for (limited, quota) in &self.quotas {
            if !is_below(role, limited) {
                continue;
            }
            let consumed = self.consumed(limited);
            for (name, limit) in quota.limits.iter() {
                let rest = (limit - consumed.amount(name.as_str())).max(Scalar::ZERO);
                let least = left.entry(name.as_str().to_owned()).or_insert(rest);
                *least = rest.min(*least);
            }
        }
        left
    }

    /// What has to stay free for the guarantees of a role and of those below it, and the part of it that is for the role
    /// itself beyond theirs.
    fn required(&self, role: &str) -> (Quantities, Quantities) {
        let guarantees = self.quotas.get(role).map(|quota| quota.guarantees.clone());
        let mut lacks = guarantees.unwrap_or_default();
        lacks.subtract_all(&self.consumed(role));
        let below = self.required_below(role);
        let mut own = lacks;
        own.subtract_all(&below);
        let mut all = below;
        all.add_all(&own);
        (all, own)
    }

    fn required_below(&self, role: &str) -> Quantities {
        let mut sum = Quantities::new();
        for child in self.children(role) {
            sum.add_all(&self.required(&child).0);
        }
        sum
    }

    /// Roles with a quota on the way that are one step below (`""`: the top).
    fn children(&self, role: &str) -> Vec<String> {
        let step = |name: &Arc<str>| {
            let rest = match role {
                "" => Some(&**name),
                _ => name.strip_prefix(role)?.strip_prefix('/'),
            }?;
            let length = name.len() - rest.len() + rest.find('/').unwrap_or(rest.len());
            Some(name[..length].to_owned())
        };
        let mut children: Vec<String> = self.quotas.keys().filter_map(step).collect();
        children.sort();
        children.dedup();
        children
    }

    /// What could serve guarantees.
    pub(crate) fn headroom(&self) -> Quantities {
        let mut headroom = Quantities::new();
        for id in self.followers.keys().filter(|id| self.is_offered(id)) {
            headroom.add_all(&charged(&self.available(id)));
        }
        headroom
    }

    pub(crate) fn excess(&self) -> Excess {
        let headroom = self.headroom();
        let required = self.required_below("");
        let exceeds = |(name, amount): (&tepui_model::resources::Name, Scalar)| {
            let name = name.as_str();
            (name.to_owned(), headroom.amount(name) - amount)
        };
        required.iter().map(exceeds).collect()
    }

    /// What a client may have there of what is free, or nothing. Shared objects are left out: they go round.
    pub(crate) fn portion(&self, client: &Client, follower: &str) -> Resources {
        if !self.wants(client) || !self.is_offered(follower) || !self.may_see(client, follower) {
            return Resources::new();
        }
        let visible = |r: &Resource| self.is_visible(client, r);
        let free = self.available(follower).filter(visible);
        let mut bounds = self.left_by_limits(&client.1);
        let mut credit = self.required(&client.1).1;
        for above in roles::ancestors(&client.1) {
            credit.add_all(&self.required(above).1);
        }
        for (name, excess) in self.excess() {
            let most = credit.amount(&name) + excess.max(Scalar::ZERO);
            let bound = bounds.entry(name).or_insert(most);
            *bound = most.min(*bound);
        }
        let mut portion = free.filter(|r| !is_charged(r));
        for resource in free.iter().filter(|r| is_charged(r)) {
            let part = match bounds.get(resource.name().as_str()) {
                Some(bound) => resource.at_most(*bound),
                None => Some(resource.clone()),
            };
            portion += &part.into_iter().collect::<Resources>();
        }
        portion
    }

    /// Who could be offered what, and is not.
    pub(crate) fn left_out(&self, now: Time) -> Option<(Client, String, Resources)> {
        for (id, framework) in &self.frameworks {
            for role in &framework.options.roles {
                let client: Client = (id.clone(), role.clone());
                for follower in self.followers.keys() {
                    let portion = self.portion(&client, follower);
                    if !portion.is_empty()
                        && self.is_enough(&client, &portion)
                        && !self.is_refused(&client, follower, &portion, now)
                    {
                        return Some((client, follower.clone(), portion));
                    }
                }
            }
        }
        None
    }

    pub(crate) fn quota(&mut self, role: &Arc<str>, quota: Quota) {
        if quota.is_default() {
            self.quotas.remove(role);
        } else {
            self.quotas.insert(role.clone(), quota);
        }
    }
}
