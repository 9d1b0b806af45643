//! Tables of tasks, followers and frameworks.

use super::{InspectError, all_tasks, ask, print_json};
use crate::table::Table;
use std::collections::BTreeMap;
use tepui_client::{
    operator::Operator,
    proto::{
        DrainState, Resource, Task,
        master::{call::Type, response},
    },
};
use tepui_model::{Resources, tasks};

/// `tepui ps`: tasks; with `all` the ended ones too.
pub(crate) async fn ps(operator: &Operator, all: bool, json: bool) -> Result<(), InspectError> {
    let response = ask(operator, Type::GetTasks).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let found = response
        .get_tasks
        .ok_or(InspectError::Answer("get_tasks"))?;
    let names = hostnames(operator).await?;
    let mut table = Table::new(&[
        "TASK",
        "STATE",
        "FOLLOWER",
        "FRAMEWORK",
        "RESOURCES",
        "NAME",
    ]);
    for task in all_tasks(&found).filter(|task| all || !tasks::is_terminal(task.state())) {
        table.row([
            task.task_id.value.clone(),
            state_name(task),
            names
                .get(&task.agent_id.value)
                .unwrap_or(&task.agent_id.value)
                .clone(),
            task.framework_id.value.clone(),
            amounts(&task.resources),
            task.name.clone(),
        ]);
    }
    table.print();
    Ok(())
}

/// `running`, or `running (unhealthy)`.
fn state_name(task: &Task) -> String {
    let name = task
        .state()
        .as_str_name()
        .trim_start_matches("TASK_")
        .to_lowercase();
    match task.statuses.last().and_then(|status| status.healthy) {
        Some(false) => format!("{name} (unhealthy)"),
        _ => name,
    }
}

/// Resources without their roles and reservations, for a table.
fn amounts(resources: &[Resource]) -> String {
    Resources::from_proto(resources)
        .unallocated()
        .to_unreserved()
        .to_string()
}

async fn hostnames(operator: &Operator) -> Result<BTreeMap<String, String>, InspectError> {
    let response = ask(operator, Type::GetAgents).await?;
    let agents = response
        .get_agents
        .ok_or(InspectError::Answer("get_agents"))?
        .agents;
    Ok(agents
        .into_iter()
        .filter_map(|agent| Some((agent.agent_info.id?.value, agent.agent_info.hostname)))
        .collect())
}

/// `tepui agents`: followers.
pub(crate) async fn agents(operator: &Operator, json: bool) -> Result<(), InspectError> {
    let response = ask(operator, Type::GetAgents).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let agents = response
        .get_agents
        .ok_or(InspectError::Answer("get_agents"))?;
    let mut table = Table::new(&["FOLLOWER", "STATE", "ADDRESS", "HOST", "USED", "TOTAL"]);
    for agent in &agents.agents {
        table.row([
            agent
                .agent_info
                .id
                .as_ref()
                .map(|id| id.value.clone())
                .unwrap_or_default(),
            agent_state(agent).to_owned(),
            agent.pid.clone().unwrap_or_default(),
            agent.agent_info.hostname.clone(),
            amounts(&agent.allocated_resources),
            amounts(&agent.total_resources),
        ]);
    }
    table.print();
    Ok(())
}

fn agent_state(agent: &response::get_agents::Agent) -> &'static str {
    let drain = agent.drain_info.map(|drain| drain.state());
    match (drain, agent.active, agent.deactivated()) {
        (Some(DrainState::Draining), ..) => "draining",
        (Some(DrainState::Drained), ..) => "drained",
        (_, _, true) => "deactivated",
        (_, true, false) => "active",
        (_, false, false) => "disconnected",
    }
}

/// `tepui frameworks`.
pub(crate) async fn frameworks(
    operator: &Operator,
    all: bool,
    json: bool,
) -> Result<(), InspectError> {
    let response = ask(operator, Type::GetFrameworks).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let found = response
        .get_frameworks
        .ok_or(InspectError::Answer("get_frameworks"))?;
    let mut table = Table::new(&["FRAMEWORK", "STATE", "ROLES", "USED", "OFFERED", "NAME"]);
    let ended = found
        .completed_frameworks
        .iter()
        .filter(|_| all)
        .map(|framework| (framework, "completed"));
    let living = found.frameworks.iter().map(|framework| {
        let state = match (framework.active, framework.connected) {
            (true, _) => "active",
            (false, true) => "inactive",
            (false, false) => "disconnected",
        };
        (framework, state)
    });
    for (framework, state) in living.chain(ended) {
        let info = &framework.framework_info;
        let roles = if info.roles.is_empty() {
            vec![info.role().to_owned()]
        } else {
            info.roles.clone()
        };
        table.row([
            info.id
                .as_ref()
                .map(|id| id.value.clone())
                .unwrap_or_default(),
            state.to_owned(),
            roles.join(","),
            amounts(&framework.allocated_resources),
            amounts(&framework.offered_resources),
            info.name.clone(),
        ]);
    }
    table.print();
    Ok(())
}

/// `tepui state`: a summary; with `--json` the leader's whole state.
pub(crate) async fn state(operator: &Operator, json: bool) -> Result<(), InspectError> {
    let response = ask(operator, Type::GetState).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let state = response
        .get_state
        .ok_or(InspectError::Answer("get_state"))?;
    let leader = ask(operator, Type::GetMaster)
        .await?
        .get_master
        .and_then(|m| m.master_info);
    let agents = state.get_agents.map(|a| a.agents).unwrap_or_default();
    let frameworks = state
        .get_frameworks
        .map(|f| f.frameworks)
        .unwrap_or_default();
    let found = state.get_tasks.unwrap_or_default();
    let sum = |pick: fn(&response::get_agents::Agent) -> &[Resource]| {
        let all = agents.iter().flat_map(&pick);
        Resources::from_proto(all)
            .unallocated()
            .to_unreserved()
            .scalars()
            .to_string()
    };
    let mut by_state: BTreeMap<String, usize> = BTreeMap::new();
    for task in all_tasks(&found) {
        *by_state.entry(state_name(task)).or_default() += 1;
    }
    let by_state: Vec<_> = by_state
        .into_iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let mut table = Table::new(&["WHAT", "VALUE"]);
    if let Some(info) = leader {
        let address = info.address.unwrap_or_default();
        let host = address.ip.or(address.hostname).unwrap_or_default();
        table.row([
            "leader".to_owned(),
            format!("{} at {host}:{}", info.id, address.port),
        ]);
        table.row(["version".to_owned(), info.version.unwrap_or_default()]);
    }
    let active = agents.iter().filter(|agent| agent.active).count();
    table.row([
        "followers".to_owned(),
        format!("{active} active of {}", agents.len()),
    ]);
    let active = frameworks
        .iter()
        .filter(|framework| framework.active)
        .count();
    table.row([
        "frameworks".to_owned(),
        format!("{active} active of {}", frameworks.len()),
    ]);
    table.row([
        "tasks".to_owned(),
        if by_state.is_empty() {
            "none".to_owned()
        } else {
            by_state.join(", ")
        },
    ]);
    table.row(["resources".to_owned(), sum(|agent| &agent.total_resources)]);
    table.row(["used".to_owned(), sum(|agent| &agent.allocated_resources)]);
    table.row(["offered".to_owned(), sum(|agent| &agent.offered_resources)]);
    table.print();
    Ok(())
}
