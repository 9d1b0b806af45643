//! The operator's commands: `ps`, `agents`, `frameworks`, `task show`, `logs`, `kill`, `state`.
//!
//! All of them read the v1 operator API, so they work against any leader or follower that speaks
//! it. Tables for people; `--json` prints the documents of the API.

mod list;
mod task;

pub(crate) use list::{agents, frameworks, ps, state};
pub(crate) use task::{kill, logs, show};

use std::io::Write;
use tepui_client::{
    Error,
    operator::Operator,
    proto::{
        Task,
        master::{self, call, response},
    },
};
use tepui_protocol::json;

/// A command of the operator failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("the leader's answer has no '{0}'")]
    Answer(&'static str),
    #[error("no task '{0}'")]
    NoTask(String),
    #[error("'{id}' is a task of several frameworks ({frameworks}): add --framework")]
    Ambiguous { id: String, frameworks: String },
    #[error("task '{0}' has no container yet")]
    NoContainer(String),
    #[error("task '{0}' ended already")]
    Ended(String),
    #[error("follower '{0}' of the task is not registered now")]
    NoFollower(String),
}

pub(crate) async fn ask(
    operator: &Operator,
    kind: call::Type,
) -> Result<master::Response, InspectError> {
    let call = master::Call {
        r#type: Some(kind as i32),
        ..Default::default()
    };
    operator
        .leader(&call)
        .await?
        .ok_or(InspectError::Answer("body"))
}

/// Prints a message of the API as it is.
pub(crate) fn print_json<T: prost::Message + prost::Name>(message: &T) {
    let _ = writeln!(std::io::stdout(), "{}", json::encode(message));
}

/// All tasks the leader knows, those that still run first.
fn all_tasks(tasks: &response::GetTasks) -> impl Iterator<Item = &Task> {
    tasks
        .tasks
        .iter()
        .chain(&tasks.unreachable_tasks)
        .chain(&tasks.completed_tasks)
}
