//! One task: its story, its output, its end.

use super::{InspectError, all_tasks, ask, print_json};
use crate::{
    execute::output::{self, Stream},
    table::Table,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tepui_client::{
    operator::Operator,
    proto::{
        ContainerId, Task,
        agent::{self, call},
        master::call::Type,
    },
};
use tepui_model::{Resources, tasks};

/// How often a followed task is looked at for its end.
const WATCH: Duration = Duration::from_secs(1);

async fn find(
    operator: &Operator,
    id: &str,
    framework: Option<&str>,
) -> Result<Task, InspectError> {
    let response = ask(operator, Type::GetTasks).await?;
    let found = response
        .get_tasks
        .ok_or(InspectError::Answer("get_tasks"))?;
    let mut matching: Vec<&Task> = all_tasks(&found)
        .filter(|task| {
            task.task_id.value == id && framework.is_none_or(|f| task.framework_id.value == f)
        })
        .collect();
    // An id may be used again by the same framework: the first is the one that runs, or the oldest.
    matching.dedup_by_key(|task| &task.framework_id.value);
    match matching[..] {
        [] => Err(InspectError::NoTask(id.to_owned())),
        [task] => Ok(task.clone()),
        _ => {
            let frameworks: Vec<_> = matching
                .iter()
                .map(|task| task.framework_id.value.as_str())
                .collect();
            Err(InspectError::Ambiguous {
                id: id.to_owned(),
                frameworks: frameworks.join(", "),
            })
        }
    }
}

/// `ip:port` of the follower of a task.
async fn follower_of(operator: &Operator, task: &Task) -> Result<String, InspectError> {
    let response = ask(operator, Type::GetAgents).await?;
    let agents = response
        .get_agents
        .ok_or(InspectError::Answer("get_agents"))?
        .agents;
    agents
        .into_iter()
        .find(|agent| {
            agent
                .agent_info
                .id
                .as_ref()
                .is_some_and(|id| *id == task.agent_id)
        })
        .and_then(|agent| Some(agent.pid?.rsplit_once('@')?.1.to_owned()))
        .ok_or_else(|| InspectError::NoFollower(task.agent_id.value.clone()))
}

/// `tepui task show`.
pub(crate) async fn show(
    operator: &Operator,
    id: &str,
    framework: Option<&str>,
    json: bool,
) -> Result<(), InspectError> {
    let task = find(operator, id, framework).await?;
    if json {
        print_json(&task);
        return Ok(());
    }
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let mut say = |what: &str, value: String| table.row([what.to_owned(), value]);
    say("task", task.task_id.value.clone());
    say("name", task.name.clone());
    say("state", task.state().as_str_name().to_owned());
    say("framework", task.framework_id.value.clone());
    say("follower", task.agent_id.value.clone());
    if let Some(executor) = &task.executor_id {
        say("executor", executor.value.clone());
    }
    say(
        "resources",
        Resources::from_proto(&task.resources).to_string(),
    );
    if let Some(container) = container_of(&task) {
        say(
            "container",
            tepui_model::container::ContainerId::from(&container).to_string(),
        );
    }
    for status in &task.statuses {
        let mut text = status.state().as_str_name().to_owned();
        if status.reason.is_some() {
            text.push_str(&format!(" {}", status.reason().as_str_name()));
        }
        if !status.message().is_empty() {
            text.push_str(&format!(": {}", status.message()));
        }
        say(&format!("at {:.3}", status.timestamp()), text);
    }
    table.print();
    Ok(())
}

fn container_of(task: &Task) -> Option<ContainerId> {
    task.statuses
        .iter()
        .rev()
        .find_map(|status| status.container_status.as_ref()?.container_id.clone())
}

/// Virtual path of the sandbox of a task on its follower.
fn sandbox(task: &Task) -> String {
    let executor = task.executor_id.as_ref().map_or("", |id| id.value.as_str());
    let nested = container_of(task).is_some_and(|container| container.parent.is_some());
    let (framework, id) = (&task.framework_id.value, &task.task_id.value);
    match (executor, nested) {
        ("", _) => format!("/frameworks/{framework}/executors/{id}/runs/latest"),
        (executor, true) => {
            format!("/frameworks/{framework}/executors/{executor}/runs/latest/tasks/{id}")
        }
        (executor, false) => format!("/frameworks/{framework}/executors/{executor}/runs/latest"),
    }
}

/// `tepui logs`: standard output (or error) of a task; `follow` goes on until the task ends.
pub(crate) async fn logs(
    operator: Operator,
    id: &str,
    framework: Option<&str>,
    stderr: bool,
    follow: bool,
) -> Result<(), InspectError> {
    let task = find(&operator, id, framework).await?;
    let follower = follower_of(&operator, &task).await?;
    let path = format!(
        "{}/{}",
        sandbox(&task),
        if stderr { "stderr" } else { "stdout" }
    );
    let ended = Arc::new(AtomicBool::new(!follow || tasks::is_terminal(task.state())));
    let watcher = {
        let (ended, operator) = (ended.clone(), operator.clone());
        let (id, framework) = (id.to_owned(), task.framework_id.value.clone());
        tokio::spawn(async move {
            while !ended.load(Ordering::Acquire) {
                tokio::time::sleep(WATCH).await;
                let over = match find(&operator, &id, Some(&framework)).await {
                    Ok(task) => tasks::is_terminal(task.state()),
                    Err(error) => matches!(error, InspectError::NoTask(_)),
                };
                ended.store(over, Ordering::Release);
            }
        })
    };
    let stream = if stderr {
        Stream::Stderr
    } else {
        Stream::Stdout
    };
    let copied = output::copy(&operator, &follower, &path, stream, || {
        ended.load(Ordering::Acquire)
    })
    .await;
    watcher.abort();
    Ok(copied?)
}

/// `tepui kill`: kills the container of a task through its follower. The framework sees the task
/// end; whether it starts another one is its own business.
pub(crate) async fn kill(
    operator: &Operator,
    id: &str,
    framework: Option<&str>,
    signal: i32,
) -> Result<(), InspectError> {
    let task = find(operator, id, framework).await?;
    if tasks::is_terminal(task.state()) {
        return Err(InspectError::Ended(id.to_owned()));
    }
    let container_id =
        container_of(&task).ok_or_else(|| InspectError::NoContainer(id.to_owned()))?;
    let follower = follower_of(operator, &task).await?;
    let call = agent::Call {
        r#type: Some(call::Type::KillContainer as i32),
        kill_container: Some(call::KillContainer {
            container_id,
            signal: Some(signal),
        }),
        ..Default::default()
    };
    operator.follower(&follower, &call).await?;
    Ok(())
}
