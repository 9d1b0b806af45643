//! Offers: made from what the allocator hands out, taken back, declined; and the calls that say
//! which ones a framework wants.
//!
//! Follows `Master::offer`, `rescindOffer`, `decline`, `suppress` and `revive` in
//! `src/master/master.cpp`.

use crate::{
    Leader, Level,
    state::{Follower, OfferConstraints, OfferEntry},
    timers::Timer,
    view::OfferOut,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_allocator::{
    FollowerCapabilities, FollowerInfo, FrameworkCapabilities, FrameworkOptions, OfferedResources,
    Traits,
};
use tepui_model::{
    Attributes, FollowerId, FrameworkId, OfferId, Quantities, Scalar,
    planted::{Planted, planted},
    resources::{Format, Resources},
    roles,
};
use tepui_protocol::v1::{
    self,
    scheduler::{self, call, event},
};

/// `refuse_seconds` of a framework that does not say.
const DEFAULT_REFUSE: f64 = 5.0;

/// Longer refusals are cut to a year, as the reference does.
const MAX_REFUSE: Duration = Duration::from_secs(365 * 24 * 3600);

impl Leader {
    /// Asks the allocator and sends what it hands out: one event per framework.
    pub(crate) fn make_offers(&mut self) {
        self.count("allocator/mesos/allocation_runs");
        let mut offered: Vec<OfferedResources> = Vec::new();
        self.allocator
            .allocate(self.now, &mut self.rng, &mut offered);
        let mut by_framework: BTreeMap<FrameworkId, Vec<v1::Offer>> = BTreeMap::new();
        for OfferedResources {
            framework,
            role,
            follower,
            resources,
        } in offered
        {
            let Some(offer) = self.make_offer(&framework, &role, &follower, &resources) else {
                // The allocator was ahead of the tables; give it back.
                self.allocator.offer_answered(&framework, &resources);
                self.allocator
                    .recover(&framework, &follower, &resources, None, self.now);
                continue;
            };
            by_framework.entry(framework).or_default().push(offer);
        }
        for (framework, offers) in by_framework {
            let mut event = scheduler::Event {
                offers: Some(event::Offers { offers }),
                ..Default::default()
            };
            event.set_type(event::Type::Offers);
            self.event(&framework, event);
            self.watch_offers_of(&framework);
        }
        // Who holds nothing but an offer there is asked as well.
        self.make_inverse_offers();
    }

    /// Enters an offer into the tables; gives back what its framework gets to see.
    fn make_offer(
        &mut self,
        framework_id: &FrameworkId,
        role: &Arc<str>,
        at: &FollowerId,
        resources: &Resources,
    ) -> Option<v1::Offer> {
        let framework = self.state.framework(framework_id).filter(|f| f.active)?;
        let capabilities = framework.capabilities;
        let unavailability = self.unavailability_of(at);
        let follower = self.state.follower(at).filter(|f| f.active)?;
        let executors = follower.executors.get(framework_id);
        let mut offer = v1::Offer {
            framework_id: framework_id.to_proto(),
            agent_id: at.to_proto(),
            hostname: follower.info.hostname.clone(),
            url: Some(url_of(follower)),
            unavailability,
            domain: follower.info.domain.clone(),
            resources: resources.to_proto(),
            attributes: follower.info.attributes.clone(),
            executor_ids: executors
                .into_iter()
                .flat_map(|all| all.keys())
                .map(|id| id.to_proto())
                .collect(),
            allocation_info: Some(v1::resource::AllocationInfo {
                role: Some(role.as_ref().to_owned()),
            }),
            ..Default::default()
        };
        let id = self.new_offer_id();
        offer.id = id.to_proto();
        let mut seen = offer.clone();
        if !capabilities.reservation_refinement {
            seen.resources = resources.to_proto_as(Format::PreRefinement);
        }
        if !capabilities.multi_role {
            seen.allocation_info = None;
            seen.resources
                .iter_mut()
                .for_each(|resource| resource.allocation_info = None);
        }
        let entry = OfferEntry {
            framework: framework_id.clone(),
            follower: at.clone(),
            role: role.clone(),
            resources: resources.clone(),
        };
        let since = self.now;
        self.state
            .insert_offer(id.clone(), entry, OfferOut { offer, since });
        if let Some(framework) = self.state.framework_mut(framework_id) {
            framework.metrics_mut().offers_sent += 1;
        }
        if let Some(timeout) = self.config.offer_timeout {
            self.timers.set(Timer::Offer(id), self.now + timeout);
        }
        Some(seen)
    }

    /// Takes an offer out of the tables; its resources stay with its framework until given back.
    pub(crate) fn take_offer(&mut self, id: &OfferId) -> Option<OfferEntry> {
        self.timers.cancel(&Timer::Offer(id.clone()));
        let offer = self.state.remove_offer(id)?;
        self.allocator
            .offer_answered(&offer.framework, &offer.resources);
        Some(offer)
    }

    /// Takes an offer back and says so.
    pub(crate) fn rescind_offer(&mut self, id: &OfferId) {
        let Some(framework) = self.state.offer(id).map(|offer| offer.framework.clone()) else {
            return;
        };
        let mut event = scheduler::Event {
            rescind: Some(event::Rescind {
                offer_id: id.to_proto(),
            }),
            ..Default::default()
        };
        event.set_type(event::Type::Rescind);
        self.event(&framework, event);
        if let Some(framework) = self.state.framework_mut(&framework) {
            framework.metrics_mut().offers_rescinded += 1;
        }
        if planted(Planted::KeepsRescinded) {
            self.take_offer(id);
        }
        self.discard_offer(id, None);
    }

    /// Takes an offer back without a word.
    pub(crate) fn discard_offer(&mut self, id: &OfferId, refuse: Option<Duration>) {
        if let Some(offer) = self.take_offer(id) {
            self.allocator.recover(
                &offer.framework,
                &offer.follower,
                &offer.resources,
                refuse,
                self.now,
            );
        }
    }

    /// Resources of a task or executor that ended.
    pub(crate) fn free(&mut self, framework: &FrameworkId, at: &FollowerId, resources: Resources) {
        self.allocator
            .recover(framework, at, &resources, None, self.now);
    }

    /// `DECLINE`. The reference lets frameworks decline only what is theirs; so do we.
    pub(crate) fn decline(&mut self, framework: &FrameworkId, call: call::Decline) {
        self.count("master/messages_decline_offers");
        let refuse = refuse_duration(call.filters.as_ref());
        for id in call.offer_ids.iter().map(OfferId::from) {
            match self.state.offer(&id) {
                Some(offer) if offer.framework == *framework => {
                    self.discard_offer(&id, Some(refuse));
                    if let Some(framework) = self.state.framework_mut(framework) {
                        framework.metrics_mut().offers_declined += 1;
                    }
                }
                _ => self.notice(
                    Level::Warning,
                    format!("Ignored the decline of offer {id}: it is no longer valid"),
                ),
            }
        }
    }

    /// `SUPPRESS`: no offers in these roles (all, if none is named).
    pub(crate) fn suppress(&mut self, framework: &FrameworkId, named: &[String]) {
        self.count("master/messages_suppress_offers");
        let Some(wanted) = self.named_roles(framework, "suppress", named) else {
            return;
        };
        self.allocator.suppress(framework, &wanted);
        let Some(framework) = self.state.framework_mut(framework) else {
            return;
        };
        if wanted.is_empty() {
            framework.suppressed = framework.roles.clone();
        } else {
            framework
                .suppressed
                .extend(wanted.iter().map(|role| role.as_ref().to_owned()));
        }
    }

    /// `REVIVE`: offers again, and what was refused counts no more.
    pub(crate) fn revive(&mut self, framework: &FrameworkId, named: &[String]) {
        self.count("master/messages_revive_offers");
        let Some(wanted) = self.named_roles(framework, "revive", named) else {
            return;
        };
        self.allocator.revive(framework, &wanted);
        let Some(framework) = self.state.framework_mut(framework) else {
            return;
        };
        if wanted.is_empty() {
            framework.suppressed.clear();
        } else {
            framework
                .suppressed
                .retain(|role| !wanted.contains(role.as_str()));
        }
    }

    /// One bad role spoils the call, as in the reference.
    fn named_roles(
        &mut self,
        id: &FrameworkId,
        verb: &str,
        named: &[String],
    ) -> Option<BTreeSet<Arc<str>>> {
        let framework = self.state.framework(id)?;
        let bad = named.iter().find_map(|role| match roles::validate(role) {
            Err(error) => Some(format!(
                "Dropped {verb} by {id}: role '{role}' is invalid: {error}"
            )),
            Ok(()) if framework.roles.contains(role) => None,
            Ok(()) => Some(format!(
                "Dropped {verb} by {id}: it is not subscribed with the role '{role}'"
            )),
        });
        match bad {
            None => Some(named.iter().map(|role| Arc::from(role.as_str())).collect()),
            Some(text) => {
                self.notice(Level::Warning, text);
                None
            }
        }
    }
}

/// Where a follower listens.
pub(crate) fn url_of(follower: &Follower) -> v1::Url {
    let address = follower.pid.address;
    v1::Url {
        scheme: "http".to_owned(),
        address: v1::Address {
            hostname: Some(follower.info.hostname.clone()),
            ip: Some(address.ip().to_string()),
            port: i32::from(address.port()),
        },
        path: Some(format!("/{}", follower.pid.name)),
        ..Default::default()
    }
}

/// How long a framework does not want what it gives back.
pub(crate) fn refuse_duration(filters: Option<&v1::Filters>) -> Duration {
    let seconds = filters
        .and_then(|filters| filters.refuse_seconds)
        .unwrap_or(DEFAULT_REFUSE);
    if seconds.is_nan() || seconds < 0.0 {
        // What makes no sense counts as not said (`hierarchical.cpp`).
        return Duration::from_secs_f64(DEFAULT_REFUSE);
    }
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(MAX_REFUSE)
        .min(MAX_REFUSE)
}

/// A framework as the allocator sees it.
pub(crate) fn allocator_options(
    info: &v1::FrameworkInfo,
    suppressed: &BTreeSet<String>,
    constraints: &OfferConstraints,
) -> FrameworkOptions {
    use v1::framework_info::capability::Type;
    let has = |wanted: Type| {
        info.capabilities
            .iter()
            .any(|capability| capability.r#type() == wanted)
    };
    let shared =
        |roles: &BTreeSet<String>| roles.iter().map(|role| Arc::from(role.as_str())).collect();
    let minimums = |filters: &v1::OfferFilters| {
        let wanted = filters.min_allocatable_resources.as_ref()?;
        let quantities = |q: &v1::offer_filters::ResourceQuantities| -> Quantities {
            q.quantities
                .iter()
                .map(|(name, amount)| (name.as_str(), Scalar::from(amount)))
                .collect()
        };
        Some(wanted.quantities.iter().map(quantities).collect::<Vec<_>>())
    };
    FrameworkOptions {
        roles: shared(&crate::state::roles_of(info)),
        suppressed_roles: shared(suppressed),
        capabilities: FrameworkCapabilities {
            revocable_resources: has(Type::RevocableResources),
            gpu_resources: has(Type::GpuResources),
            shared_resources: has(Type::SharedResources),
            multi_role: has(Type::MultiRole),
            reservation_refinement: has(Type::ReservationRefinement),
            region_aware: has(Type::RegionAware),
        },
        min_allocatable_resources: info
            .offer_filters
            .iter()
            .filter_map(|(role, filters)| Some((Arc::from(role.as_str()), minimums(filters)?)))
            .collect(),
        offer_constraints: constraints.clone(),
    }
}

/// A follower as the allocator sees it.
pub(crate) fn allocator_follower(follower: &Follower) -> FollowerInfo {
    use v1::agent_info::capability::Type;
    let has = |wanted: Type| {
        follower
            .capabilities
            .iter()
            .any(|capability| capability.r#type() == wanted)
    };
    let domain = follower
        .info
        .domain
        .as_ref()
        .and_then(|domain| domain.fault_domain.as_ref());
    FollowerInfo {
        total: follower.total.clone(),
        capabilities: FollowerCapabilities {
            multi_role: has(Type::MultiRole),
            hierarchical_role: has(Type::HierarchicalRole),
        },
        traits: Arc::new(Traits {
            hostname: Arc::from(follower.info.hostname.as_str()),
            attributes: Arc::new(Attributes::from_proto(&follower.info.attributes)),
            region: domain.map(|domain| Arc::from(domain.region.name.as_str())),
            zone: domain.map(|domain| Arc::from(domain.zone.name.as_str())),
        }),
    }
}
