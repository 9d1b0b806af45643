//! A budget for offers: how much of the cluster a framework may hold without answering.
//!
//! Whoever holds offers keeps resources from others without using them. With [`crate::Options::held_offers_share`] a framework
//! whose offers come to that dominant share of the cluster, or more, is offered nothing until it has answered enough of
//! them. One offer is always made, however large; so what is held may exceed the budget by what one follower has.
//!
//! The allocator does not tell what is offered from what is used, so whoever takes offers back or turns them into tasks says
//! so ([`Allocator::offer_answered`]).

use crate::Allocator;
use std::collections::BTreeSet;
use tepui_model::{FrameworkId, Quantities, Resources};

/// Who holds how much.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    /// Frameworks that are offered nothing for now.
    pub(crate) exhausted: BTreeSet<u32>,
    /// Those of them that are still in the orders.
    new: Vec<u32>,
}

impl Allocator {
    /// An offer was accepted, declined or taken back: what it held counts no more. To be said before its resources are
    /// recovered.
    pub fn offer_answered(&mut self, id: &FrameworkId, resources: &Resources) {
        if self.options.held_offers_share.is_none() {
            return;
        }
        let Some(slot) = self.framework_index.get(id).copied() else {
            return;
        };
        self.frameworks[slot]
            .offered
            .subtract_all(&resources.quantities());
        self.reconsider_budget(slot);
    }

    /// What a framework holds in offers, if there is a budget for that; and whether that is all it gets.
    pub fn offers_held(&self, id: &FrameworkId) -> Option<(&Quantities, bool)> {
        let framework = self.frameworks.get(*self.framework_index.get(id)?)?;
        self.options.held_offers_share?;
        Some((&framework.offered, framework.exhausted))
    }

    /// Dominant share of the cluster that amounts are, without weights.
    pub fn share(&self, amounts: &Quantities) -> f64 {
        self.totals.share(amounts)
    }

    /// An offer was made.
    pub(crate) fn note_offer(&mut self, framework: u32, resources: &Resources) {
        if self.options.held_offers_share.is_none() {
            return;
        }
        self.frameworks[framework]
            .offered
            .add_all(&resources.quantities());
        if self.is_over_budget(framework) {
            self.frameworks[framework].exhausted = true;
            if self.budgets.exhausted.insert(framework) {
                // The orders do not change while they are walked along.
                self.budgets.new.push(framework);
            }
        }
    }

    /// Takes those out of the orders that got all they may hold.
    pub(crate) fn settle_budgets(&mut self) {
        for framework in std::mem::take(&mut self.budgets.new) {
            self.update_activity_of(framework);
        }
    }

    /// The cluster has grown or shrunk.
    pub(crate) fn reconsider_budgets(&mut self) {
        for framework in self.budgets.exhausted.clone() {
            self.reconsider_budget(framework);
        }
    }

    pub(crate) fn forget_budget(&mut self, framework: u32) {
        self.budgets.exhausted.remove(&framework);
        self.budgets.new.retain(|other| *other != framework);
    }

    fn reconsider_budget(&mut self, framework: u32) {
        if !self.frameworks[framework].exhausted || self.is_over_budget(framework) {
            return;
        }
        self.frameworks[framework].exhausted = false;
        self.forget_budget(framework);
        for client in self.update_activity_of(framework) {
            self.make_hungry(client);
        }
    }

    fn is_over_budget(&self, framework: u32) -> bool {
        let offered = &self.frameworks[framework].offered;
        let most = self.options.held_offers_share;
        most.is_some_and(|most| !offered.is_empty() && self.totals.share(offered) >= most)
    }

    fn update_activity_of(&mut self, framework: u32) -> Vec<u32> {
        let clients = self.frameworks[framework].clients.values();
        let clients: Vec<u32> = clients.copied().collect();
        for client in &clients {
            self.update_activity(*client);
        }
        clients
    }
}
