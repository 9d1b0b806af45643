//! What the documents say, over plain maps: slow, small, and nothing remembered that can be worked out.
//!
//! It knows who is there, what they hold and have refused, and the quotas. From that it judges who may be offered what
//! (`docs/roles.md`, `docs/quota.md`, `docs/reservation.md`, `docs/scheduler-http-api.md`; the order of clients is not its
//! business). It shares the arithmetic of resources with the allocator and nothing else.

mod judgement;
mod script;

pub(crate) use judgement::{Excess, charged};
pub(crate) use script::{Step, World, steps};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_allocator::{Conversion, FollowerInfo, FrameworkOptions, OfferedResources};
use tepui_model::{Quota, Resources, Time};

/// A framework, its constraints in plain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Framework {
    pub(crate) options: FrameworkOptions,
    pub(crate) active: bool,
    /// It wants offers of (true) or of anything but (false) this rack.
    pub(crate) rack: Option<(bool, &'static str)>,
}

/// A follower.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) info: FollowerInfo,
    pub(crate) rack: &'static str,
    pub(crate) active: bool,
}

/// Nothing within `resources` until then.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) client: Client,
    pub(crate) follower: String,
    pub(crate) resources: Resources,
    pub(crate) until: Time,
}

/// A framework in a role.
pub(crate) type Client = (String, Arc<str>);

/// The cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) frameworks: BTreeMap<String, Framework>,
    pub(crate) followers: BTreeMap<String, Follower>,
    /// Without marks of allocation.
    pub(crate) held: BTreeMap<(Client, String), Resources>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) quotas: BTreeMap<Arc<str>, Quota>,
    pub(crate) allow_list: Option<BTreeSet<String>>,
}

/// What happens.
impl Oracle {
    pub(crate) fn set_framework(&mut self, id: &str, mut new: Framework) {
        if let Some(old) = self.frameworks.get(id) {
            let left = &old.options.roles - &new.options.roles;
            let revived = &old.options.suppressed_roles - &new.options.suppressed_roles;
            new.active |= old.active;
            self.forget_refusals(id, &(&left | &revived));
        }
        self.frameworks.insert(id.to_owned(), new);
    }
    pub(crate) fn remove_framework(&mut self, id: &str) {
        self.frameworks.remove(id);
        self.held.retain(|((framework, _), _), _| framework != id);
        self.refusals.retain(|refusal| refusal.client.0 != id);
    }
    pub(crate) fn set_active(&mut self, id: &str, active: bool) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.active = active;
            if !active {
                self.refusals.retain(|refusal| refusal.client.0 != id);
            }
        }
    }
    pub(crate) fn suppress(&mut self, id: &str, roles: &BTreeSet<Arc<str>>) {
        let meant = self.roles_meant(id, roles);
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.options.suppressed_roles.extend(meant);
        }
    }
    pub(crate) fn revive(&mut self, id: &str, roles: &BTreeSet<Arc<str>>) {
        let meant = self.roles_meant(id, roles);
        self.forget_refusals(id, &meant);
        if let Some(framework) = self.frameworks.get_mut(id) {
            let suppressed = &mut framework.options.suppressed_roles;
            suppressed.retain(|role| !meant.contains(role));
        }
    }
    pub(crate) fn add_follower(&mut self, id: &str, follower: Follower) {
        self.remove_follower(id);
        self.followers.insert(id.to_owned(), follower);
    }
    pub(crate) fn update_follower(&mut self, id: &str, new: Follower, attributes_changed: bool) {
        if let Some(follower) = self.followers.get_mut(id) {
            let active = follower.active;
            *follower = Follower { active, ..new };
            if attributes_changed {
                self.refusals.retain(|refusal| refusal.follower != id);
            }
        }
    }
    pub(crate) fn remove_follower(&mut self, id: &str) {
        self.followers.remove(id);
        self.held.retain(|(_, follower), _| follower != id);
        self.refusals.retain(|refusal| refusal.follower != id);
    }
    pub(crate) fn offer(&mut self, offer: &OfferedResources) {
        let held = self.held.entry(place(offer)).or_default();
        *held += offer.resources.clone().unallocated();
    }
    /// `interval`: of allocations; no refusal is shorter, and one of no time ends with the running one.
    pub(crate) fn recover(
        &mut self,
        back: &OfferedResources,
        refuse: Option<Duration>,
        interval: Duration,
        now: Time,
    ) {
        let resources = back.resources.clone().unallocated();
        let (client, follower) = place(back);
        let subscribed = self.frameworks[&client.0].options.roles.contains(&client.1);
        self.take(&(client.clone(), follower.clone()), &resources);
        let Some(refuse) = refuse.filter(|_| subscribed) else {
            return;
        };
        let length = interval.as_nanos() as u64;
        let until = if refuse.is_zero() {
            Time::from_nanos((now.nanos() / length + 1) * length)
        } else {
            now + refuse.max(interval)
        };
        self.refusals.push(Refusal {
            client,
            follower,
            resources,
            until,
        });
    }
    /// What a framework holds turns into something else.
    pub(crate) fn convert(&mut self, at: &(Client, String), conversion: &Conversion) {
        self.take(at, &conversion.consumed);
        *self.held.entry(at.clone()).or_default() += &conversion.converted;
        self.convert_total(&at.1, conversion);
    }
    pub(crate) fn convert_total(&mut self, follower: &str, conversion: &Conversion) {
        let follower = self.followers.get_mut(follower).expect("it is there");
        let total = &mut follower.info.total;
        total.subtract(&conversion.consumed).expect("it has that");
        *total += &conversion.converted;
    }

    fn take(&mut self, at: &(Client, String), resources: &Resources) {
        let held = self.held.get_mut(at).expect("it holds that");
        *held = held.checked_sub(resources).expect("it holds that");
        if held.is_empty() {
            self.held.remove(at);
        }
    }
    fn roles_meant(&self, id: &str, roles: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let Some(framework) = self.frameworks.get(id) else {
            return BTreeSet::new();
        };
        if roles.is_empty() {
            framework.options.roles.clone()
        } else {
            &framework.options.roles & roles
        }
    }
    fn forget_refusals(&mut self, id: &str, roles: &BTreeSet<Arc<str>>) {
        self.refusals
            .retain(|r| r.client.0 != id || !roles.contains(&r.client.1));
    }
}

pub(crate) fn place(offer: &OfferedResources) -> (Client, String) {
    let client = (offer.framework.as_str().to_owned(), offer.role.clone());
    (client, offer.follower.as_str().to_owned())
}
