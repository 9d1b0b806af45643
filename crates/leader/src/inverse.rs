//! Inverse offers: frameworks are asked to leave followers before their machine goes down.
//!
//! Follows `Master::inverseOffer`, `acceptInverseOffers`, `declineInverseOffers` and
//! `removeInverseOffer` in `src/master/master.cpp`, and `docs/maintenance.md`. An answer binds nobody:
//! it is shown to operators, and says when to ask again. Whom to ask is the allocator's to say.

use crate::{Leader, Level, offers::refuse_duration, timers::Timer};
use std::{collections::BTreeMap, time::Duration};
use tepui_model::{FollowerId, FrameworkId, OfferId};
use tepui_protocol::v1::{
    self,
    allocator::{InverseOfferStatus, inverse_offer_status::Status},
    scheduler::{self, event},
};

/// An inverse offer that is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InverseEntry {
    pub(crate) framework: FrameworkId,
    pub(crate) follower: FollowerId,
}

impl Leader {
    /// Asks whom the allocator names: one event per framework.
    pub(crate) fn make_inverse_offers(&mut self) {
        let mut asked = Vec::new();
        self.allocator.inverse_offers(self.now, &mut asked);
        let mut by_framework: BTreeMap<FrameworkId, Vec<v1::InverseOffer>> = BTreeMap::new();
        for tepui_allocator::InverseOffer {
            framework,
            follower,
        } in asked
        {
            match self.make_inverse_offer(&framework, &follower) {
                Some(offer) => by_framework.entry(framework).or_default().push(offer),
                // The allocator was ahead of the tables.
                None => {
                    self.allocator
                        .recover_inverse(&framework, &follower, None, self.now);
                }
            }
        }
        for (framework, inverse_offers) in by_framework {
            let mut event = scheduler::Event {
                inverse_offers: Some(event::InverseOffers { inverse_offers }),
                ..Default::default()
            };
            event.set_type(event::Type::InverseOffers);
            self.event(&framework, event);
        }
    }

    fn make_inverse_offer(
        &mut self,
        framework_id: &FrameworkId,
        at: &FollowerId,
    ) -> Option<v1::InverseOffer> {
        self.state.framework(framework_id).filter(|f| f.active)?;
        let unavailability = self.unavailability_of(at)?;
        let follower = self.state.follower(at).filter(|f| f.active)?;
        let url = crate::offers::url_of(follower);
        let id = self.new_offer_id();
        let offer = v1::InverseOffer {
            id: id.to_proto(),
            url: Some(url),
            framework_id: framework_id.to_proto(),
            agent_id: Some(at.to_proto()),
            unavailability,
            // The follower as a whole.
            resources: Vec::new(),
        };
        let entry = InverseEntry {
            framework: framework_id.clone(),
            follower: at.clone(),
        };
        self.state
            .insert_inverse_offer(id.clone(), entry, offer.clone());
        if let Some(timeout) = self.config.offer_timeout {
            self.timers.set(Timer::InverseOffer(id), self.now + timeout);
        }
        Some(offer)
    }

    /// Ends one; the allocator may ask again after `refuse`.
    fn end_inverse_offer(&mut self, id: &OfferId, refuse: Option<Duration>) {
        self.timers.cancel(&Timer::InverseOffer(id.clone()));
        if let Some(entry) = self.state.remove_inverse_offer(id) {
            self.allocator
                .recover_inverse(&entry.framework, &entry.follower, refuse, self.now);
        }
    }

    /// Takes one back and says so.
    pub(crate) fn rescind_inverse_offer(&mut self, id: &OfferId) {
        let Some(framework) = self.state.inverse_offer(id).map(|e| e.framework.clone()) else {
            return;
        };
        let mut event = scheduler::Event {
            rescind_inverse_offer: Some(event::RescindInverseOffer {
                inverse_offer_id: id.to_proto(),
            }),
            ..Default::default()
        };
        event.set_type(event::Type::RescindInverseOffer);
        self.event(&framework, event);
        self.end_inverse_offer(id, None);
    }

    /// Nobody is asked for a follower any more.
    pub(crate) fn rescind_inverse_offers_on(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let out: Vec<OfferId> = follower.inverse_offers.values().cloned().collect();
        for offer in out {
            self.rescind_inverse_offer(&offer);
        }
    }

    /// A framework is not asked for anything any more; it hears of it while it is connected.
    pub(crate) fn rescind_inverse_offers_of(&mut self, id: &FrameworkId) {
        for offer in self.inverse_offers_of(id) {
            self.rescind_inverse_offer(&offer);
        }
    }

    /// The same without a word to it.
    pub(crate) fn discard_inverse_offers_of(&mut self, id: &FrameworkId) {
        for offer in self.inverse_offers_of(id) {
            self.end_inverse_offer(&offer, None);
        }
    }

    fn inverse_offers_of(&self, id: &FrameworkId) -> Vec<OfferId> {
        let framework = self.state.framework(id);
        framework
            .map(|framework| framework.inverse_offers.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// `ACCEPT_INVERSE_OFFERS` and `DECLINE_INVERSE_OFFERS`. Stricter than the reference, which
    /// takes anybody's answer: only a framework's own count.
    pub(crate) fn answer_inverse_offers(
        &mut self,
        framework: &FrameworkId,
        answer: Status,
        ids: &[v1::OfferId],
        filters: Option<&v1::Filters>,
    ) {
        let verb = match answer {
            Status::Accept => "accept",
            _ => "decline",
        };
        if ids.is_empty() && answer == Status::Accept {
            self.notice(
                Level::Warning,
                format!(
                    "Ignored {verb} of inverse offers by {framework}: No inverse offers specified"
                ),
            );
        }
        let refuse = refuse_duration(filters);
        for id in ids.iter().map(OfferId::from) {
            let own = self.state.inverse_offer(&id);
            let own = own.filter(|entry| entry.framework == *framework).cloned();
            let Some(entry) = own else {
                self.notice(
                    Level::Warning,
                    format!(
                        "Ignored {verb} by {framework} of inverse offer {id}: it is no longer valid"
                    ),
                );
                continue;
            };
            let status = InverseOfferStatus {
                status: answer.into(),
                framework_id: framework.to_proto(),
                timestamp: v1::TimeInfo {
                    nanoseconds: i64::try_from(self.now.nanos()).unwrap_or(i64::MAX),
                },
            };
            if let Some(follower) = self.state.follower_mut(&entry.follower) {
                follower
                    .inverse_statuses
                    .insert_mut(framework.clone(), status);
            }
            self.end_inverse_offer(&id, Some(refuse));
        }
    }

    /// What a framework that has ended said of followers.
    pub(crate) fn forget_inverse_statuses_of(&mut self, id: &FrameworkId) {
        let spoke: Vec<FollowerId> = self
            .state
            .followers()
            .filter(|follower| follower.inverse_statuses.contains_key(id))
            .map(|follower| follower.id.clone())
            .collect();
        for at in spoke {
            if let Some(follower) = self.state.follower_mut(&at) {
                follower.inverse_statuses.remove_mut(id);
            }
        }
    }

    pub(crate) fn check_inverse_offers(&self) {
        let mut count = 0;
        for (id, entry) in self.state.inverse_offers() {
            count += 1;
            let framework = self
                .state
                .framework(&entry.framework)
                .unwrap_or_else(|| panic!("inverse offer {id} outlived its framework"));
            let follower = self
                .state
                .follower(&entry.follower)
                .unwrap_or_else(|| panic!("inverse offer {id} outlived its follower"));
            let offer = framework
                .inverse_offers
                .get(id)
                .unwrap_or_else(|| panic!("inverse offer {id} is in the index of its framework"));
            assert_eq!(
                follower.inverse_offers.get(&entry.framework),
                Some(id),
                "a framework holds one inverse offer of a follower at most"
            );
            assert!(
                framework.active && follower.active,
                "inverse offer {id} is between active ones"
            );
            assert_eq!(
                Some(offer.unavailability),
                self.unavailability_of(&entry.follower),
                "inverse offer {id} says what is planned"
            );
        }
        let held: usize = self
            .state
            .frameworks()
            .map(|f| f.inverse_offers.size())
            .sum();
        let out: usize = self.state.followers().map(|f| f.inverse_offers.len()).sum();
        assert_eq!(
            (held, out),
            (count, count),
            "no index knows an inverse offer that is not out"
        );
    }
}
