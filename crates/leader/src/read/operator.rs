//! The reading calls of the v1 operator API.

use super::{documents::endpoint_format, roles::Roles};
use crate::{
    maintenance::Machine,
    operator::whole_seconds,
    view::{FollowerView, FrameworkView, View},
};
use tepui_model::{Time, documents::allocation_role};
use tepui_protocol::v1::{
    self, TimeInfo, maintenance,
    master::{Call, Response, call, response},
};

/// The answer to a call that only reads the view; `None` for any other call.
pub fn operator(view: &View, call: &Call) -> Option<Response> {
    use call::Type;
    let kind = match call.r#type() {
        Type::GetState => response::Type::GetState,
        Type::GetAgents => response::Type::GetAgents,
        Type::GetFrameworks => response::Type::GetFrameworks,
        Type::GetExecutors => response::Type::GetExecutors,
        Type::GetTasks => response::Type::GetTasks,
        Type::GetRoles => response::Type::GetRoles,
        Type::GetOperations => response::Type::GetOperations,
        Type::GetMaster => response::Type::GetMaster,
        Type::GetFlags => response::Type::GetFlags,
        Type::GetWeights => response::Type::GetWeights,
        Type::GetQuota => response::Type::GetQuota,
        Type::GetMaintenanceSchedule => response::Type::GetMaintenanceSchedule,
        Type::GetMaintenanceStatus => response::Type::GetMaintenanceStatus,
        _ => return None,
    };
    let mut answer = Response {
        r#type: Some(kind as i32),
        ..Default::default()
    };
    match call.r#type() {
        Type::GetState => answer.get_state = Some(state(view)),
        Type::GetAgents => answer.get_agents = Some(followers(view)),
        Type::GetFrameworks => answer.get_frameworks = Some(frameworks(view)),
        Type::GetExecutors => answer.get_executors = Some(executors(view)),
        Type::GetTasks => answer.get_tasks = Some(tasks(view)),
        Type::GetRoles => {
            answer.get_roles = Some(response::GetRoles {
                roles: Roles::of(view).to_proto(),
            })
        }
        Type::GetOperations => {
            let followers = view.followers.values();
            let all = followers.flat_map(|f| f.operations.values());
            answer.get_operations = Some(response::GetOperations {
                operations: all.map(|operation| (**operation).clone()).collect(),
            });
        }
        Type::GetWeights => {
            answer.get_weights = Some(response::GetWeights {
                weight_infos: super::quota::weights(view),
            });
        }
        Type::GetQuota => {
            answer.get_quota = Some(response::GetQuota {
                status: super::quota::status(view),
            });
        }
        Type::GetMaintenanceSchedule => {
            let schedule = maintenance::Schedule::clone(&view.schedule);
            answer.get_maintenance_schedule = Some(response::GetMaintenanceSchedule { schedule });
        }
        Type::GetMaintenanceStatus => {
            let status = maintenance_status(view);
            answer.get_maintenance_status = Some(response::GetMaintenanceStatus { status });
        }
        Type::GetMaster => {
            answer.get_master = Some(response::GetMaster {
                master_info: Some(view.leader.info.clone()),
                start_time: Some(view.leader.started.seconds()),
                elected_time: Some(view.leader.elected.seconds()),
            });
        }
        _ => {
            let flags = view.leader.flags.iter();
            let flags = flags.map(|(name, value)| v1::Flag {
                name: name.clone(),
                value: Some(value.clone()),
            });
            answer.get_flags = Some(response::GetFlags {
                flags: flags.collect(),
            });
        }
    }
    Some(answer)
}

/// The whole state, also the first event of an operator's subscription.
pub fn state(view: &View) -> response::GetState {
    response::GetState {
        get_tasks: Some(tasks(view)),
        get_executors: Some(executors(view)),
        get_frameworks: Some(frameworks(view)),
        get_agents: Some(followers(view)),
    }
}

/// Machines of the schedule, and what frameworks answered for those that drain.
pub(super) fn maintenance_status(view: &View) -> maintenance::ClusterStatus {
    let followers = view.followers.values().map(|follower| {
        let machine = Machine::of(&follower.info.hostname, &follower.pid);
        (machine, follower.inverse_statuses.values().cloned())
    });
    crate::maintenance::status(&view.machines, followers)
}

fn time(time: Time) -> TimeInfo {
    TimeInfo {
        nanoseconds: i64::try_from(time.nanos()).unwrap_or(i64::MAX),
    }
}

fn tasks(view: &View) -> response::GetTasks {
    let mut all = response::GetTasks::default();
    let every = view
        .frameworks
        .values()
        .chain(view.completed_frameworks.iter());
    for framework in every {
        all.tasks
            .extend(framework.tasks.values().map(|task| (**task).clone()));
        all.unreachable_tasks.extend(
            framework
                .unreachable_tasks
                .values()
                .map(|task| (**task).clone()),
        );
        all.completed_tasks.extend(
            framework
                .completed_tasks
                .iter()
                .map(|task| (**task).clone()),
        );
    }
    all
}

fn executors(view: &View) -> response::GetExecutors {
    let mut all = response::GetExecutors::default();
    for framework in view.frameworks.values() {
        let mut of: Vec<_> = framework.executors.iter().collect();
        of.sort_by_key(|(key, _)| *key);
        all.executors
            .extend(of.into_iter().map(|((follower, _), info)| {
                response::get_executors::Executor {
                    executor_info: (**info).clone(),
                    agent_id: follower.to_proto(),
                }
            }));
    }
    all
}

fn frameworks(view: &View) -> response::GetFrameworks {
    response::GetFrameworks {
        frameworks: view.frameworks.values().map(|f| framework(f)).collect(),
        completed_frameworks: view
            .completed_frameworks
            .iter()
            .map(|f| framework(f))
            .collect(),
        ..Default::default()
    }
}

/// A framework as the leader sees it; also in the operator's events.
pub(crate) fn framework(framework: &FrameworkView) -> response::get_frameworks::Framework {
    response::get_frameworks::Framework {
        framework_info: (*framework.info).clone(),
        active: framework.active,
        connected: framework.connected,
        recovered: framework.recovered,
        registered_time: Some(time(framework.registered)),
        reregistered_time: Some(time(framework.reregistered.unwrap_or(framework.registered))),
        unregistered_time: framework.unregistered.map(time),
        offers: framework
            .offers
            .values()
            .map(|out| out.offer.clone())
            .collect(),
        inverse_offers: framework
            .inverse_offers
            .values()
            .map(|offer| (**offer).clone())
            .collect(),
        allocated_resources: endpoint_format(framework.used.iter()),
        offered_resources: endpoint_format(framework.offered.iter()),
        offer_constraints: Some(constraints(framework)),
    }
}

/// As the framework gave them.
pub(super) fn constraints(framework: &FrameworkView) -> v1::scheduler::OfferConstraints {
    let by_role = framework.constraints.iter();
    v1::scheduler::OfferConstraints {
        role_constraints: by_role
            .map(|(role, constraints)| (role.to_string(), constraints.source().clone()))
            .collect(),
    }
}

fn followers(view: &View) -> response::GetAgents {
    response::GetAgents {
        agents: view.followers.values().map(|f| follower(f)).collect(),
        recovered_agents: view
            .recovered_followers
            .values()
            .map(|info| (**info).clone())
            .collect(),
    }
}

/// A follower as the leader sees it; also in the operator's events.
pub(crate) fn follower(follower: &FollowerView) -> response::get_agents::Agent {
    // Resources are summed over frameworks, role by role.
    let mut used: Vec<v1::Resource> = follower.used.values().flatten().cloned().collect();
    used.sort_by(|a, b| {
        let role =
            |resource: &v1::Resource| allocation_role(std::slice::from_ref(resource)).to_owned();
        role(a).cmp(&role(b))
    });
    response::get_agents::Agent {
        agent_info: (*follower.info).clone(),
        active: follower.active,
        deactivated: Some(follower.deactivated),
        drain_info: follower.drain,
        estimated_drain_start_time: follower.draining_since.map(whole_seconds),
        version: follower.version.clone(),
        pid: Some(follower.pid.to_string()),
        registered_time: Some(time(follower.registered)),
        reregistered_time: follower.reregistered.map(time),
        total_resources: endpoint_format(follower.total.iter()),
        allocated_resources: endpoint_format(&used),
        offered_resources: endpoint_format(follower.offered.iter()),
        capabilities: (*follower.capabilities).clone(),
        resource_providers: (follower.providers.values())
            .map(|provider| response::get_agents::agent::ResourceProvider {
                resource_provider_info: provider.info.clone(),
                total_resources: endpoint_format(&provider.total.to_proto()),
            })
            .collect(),
    }
}
