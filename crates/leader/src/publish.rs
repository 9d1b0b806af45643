//! Publishing the [`View`]: only what was touched is described anew.
//!
//! The maps inside a framework or follower are the tables' own persistent maps, so describing one
//! costs a handful of reference counts, however many tasks it has.

use crate::{
    Config, Leader, LeaderFacts,
    roster::Roster,
    state::{Follower, Framework},
    view::{FollowerView, FrameworkView, View},
};
use std::sync::Arc;
use tepui_model::Time;

/// The view as last published.
#[derive(Debug)]
pub(crate) struct Published {
    view: View,
}

impl Published {
    pub(crate) fn new(leader: Arc<LeaderFacts>, at: Time, config: &Config) -> Self {
        let view = View {
            only_roles: config.roles.clone().map(Arc::new),
            ..View::empty(leader, at)
        };
        Self { view }
    }
}

impl Leader {
    pub(crate) fn publish(&mut self) -> Arc<View> {
        let view = &mut self.published.view;
        for id in std::mem::take(&mut self.state.touched_frameworks) {
            match self.state.framework(&id) {
                Some(framework) => view
                    .frameworks
                    .insert_mut(id, Arc::new(framework_view(framework))),
                None => {
                    view.frameworks.remove_mut(&id);
                }
            }
        }
        for id in std::mem::take(&mut self.state.touched_followers) {
            match self.state.follower(&id) {
                Some(follower) => view
                    .followers
                    .insert_mut(id, Arc::new(follower_view(follower, &self.state.roster))),
                None => {
                    view.followers.remove_mut(&id);
                }
            }
        }
        view.at = self.now;
        view.completed_frameworks = self.state.completed.clone();
        view.recovered_followers = self.state.roster.recovered.clone();
        view.unreachable_followers = self.state.roster.unreachable.snapshot();
        view.schedule = self.plan.schedule.clone();
        view.machines = self.plan.machines.clone();
        view.quotas = self.quotas.by_role.clone();
        view.weights = self.weights.clone();
        view.metrics = self.metrics.clone();
        Arc::new(view.clone())
    }
}

/// A framework as readers see it.
pub(crate) fn framework_view(framework: &Framework) -> FrameworkView {
    FrameworkView {
        info: framework.info.clone(),
        id: framework.id.clone(),
        pid: framework.pid().cloned(),
        recovered: framework.is_recovered(),
        connected: framework.is_connected(),
        active: framework.active,
        registered: framework.registered,
        reregistered: framework.reregistered,
        unregistered: None,
        tasks: framework.tasks.clone(),
        unreachable_tasks: framework.unreachable_tasks.clone(),
        completed_tasks: framework.completed_tasks.clone(),
        offers: framework.offers.clone(),
        inverse_offers: framework.inverse_offers.clone(),
        executors: framework.executors.clone(),
        used: Arc::new(framework.used.to_proto()),
        offered: Arc::new(framework.offered.to_proto()),
        suppressed_roles: Arc::new(framework.suppressed.iter().cloned().collect()),
        constraints: framework.constraints.clone(),
        metrics: framework.metrics.clone(),
    }
}

fn follower_view(follower: &Follower, roster: &Roster) -> FollowerView {
    FollowerView {
        deactivated: roster.is_deactivated(&follower.id),
        drain: roster.marks(&follower.id).drain,
        draining_since: follower.draining_since,
        inverse_statuses: follower.inverse_statuses.clone(),
        info: follower.info.clone(),
        id: follower.id.clone(),
        pid: follower.pid.clone(),
        version: follower.version.clone(),
        capabilities: follower.capabilities.clone(),
        registered: follower.registered,
        reregistered: follower.reregistered,
        connected: follower.connected,
        active: follower.active,
        total: Arc::new(follower.total.to_proto()),
        offered: Arc::new(follower.offered.to_proto()),
        used: Arc::new(
            follower
                .used
                .iter()
                .map(|(id, used)| (id.clone(), used.to_proto()))
                .collect(),
        ),
        offers: follower.offers.clone(),
        operations: follower.operations.clone(),
        providers: follower.providers.clone(),
    }
}
