//! The operator's commands that change what followers and machines are used for: `drain`,
//! `deactivate`, `reactivate`, `maintenance`; and who gets what: `roles`, `quota`, `weights`, `reserve`,
//! `unreserve`, `volume`; why somebody gets nothing, and what if: `explain`, `simulate`.
//!
//! They speak the v1 operator API. Followers are named as people see them: by id, by the end of an id,
//! or by host name; what a name stands for is asked of the leader first.

mod machines;
mod moments;
mod named;
mod questions;
mod resources;
mod shares;

use crate::inspect::{InspectError, ask};
use clap::{Arg, ArgAction, ArgMatches, Command};
use named::{Followers, Named};
use std::{io::Write, time::Duration};
use tepui_client::{
    operator::Operator,
    proto::{
        AgentId, DrainState,
        master::{
            self,
            call::{self, Type},
        },
    },
};
use tepui_model::units::{UnitError, format_duration, parse_duration};

/// How often a follower that is waited for is looked at.
const WATCH: Duration = Duration::from_millis(500);

/// One of these commands failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperateError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Client(#[from] tepui_client::Error),
    #[error(
        "no follower '{0}': `tepui agents` lists those that are registered; one that is away is named by its whole id"
    )]
    NoFollower(String),
    #[error("'{name}' is several followers ({ids}): name one by its id")]
    Ambiguous { name: String, ids: String },
    #[error("'{0}' is no machine: HOST,ADDRESS, or a follower on it")]
    NotAMachine(String),
    #[error("'{text}' is no duration: {error}")]
    Duration { text: String, error: UnitError },
    #[error("'{0}' is no moment: now, +1hrs, or 2026-12-24T18:00Z")]
    Moment(String),
    #[error("cannot read {path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error("{path} is no maintenance schedule: {error}")]
    Schedule {
        path: String,
        error: tepui_protocol::json::JsonError,
    },
    #[error("machine {0} is in the schedule already: take it out first (`--remove {0}`)")]
    Scheduled(String),
    #[error("machine {0} is not in the schedule: `tepui maintenance schedule` shows what is")]
    NotScheduled(String),
    #[error("'{0}' is no amounts: they look like 'cpus:4;mem:1024'")]
    Amounts(String),
    #[error("'{0}' is no weight: ROLE=NUMBER")]
    Weight(String),
    #[error("'{text}' is no resources: {error}")]
    Resources { text: String, error: String },
    #[error(
        "there is no such {resource} reserved for {role} on {follower}: `tepui agents --json` shows what is"
    )]
    NotReserved {
        resource: String,
        role: String,
        follower: String,
    },
    #[error(
        "there is {many} volume '{id}' on {follower}: `tepui volume list` shows all, `--role` says which of several"
    )]
    NoVolume {
        id: String,
        follower: String,
        many: &'static str,
    },
    #[error("'{name}' is several frameworks ({ids}): name one by its id")]
    SeveralFrameworks { name: String, ids: String },
    #[error("'{text}' is not {form}")]
    Form { text: String, form: &'static str },
    #[error("nothing to simulate: say what changes, or what is wanted (`tepui simulate --help`)")]
    NothingToSimulate,
    #[error("name a framework, or a --role")]
    NobodyToExplain,
    #[error("{0} does not answer such questions: it is no Tepui leader")]
    NotTepui(String),
    #[error("the leader's answer is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("follower {0} went away before it was drained; it goes on when it comes back")]
    WentAway(String),
}

impl OperateError {
    /// Whether the command line was wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotAMachine(_)
                | Self::Duration { .. }
                | Self::Moment(_)
                | Self::File { .. }
                | Self::Schedule { .. }
                | Self::Amounts(_)
                | Self::Weight(_)
                | Self::Resources { .. }
                | Self::Form { .. }
                | Self::NothingToSimulate
                | Self::NobodyToExplain
        )
    }
}

/// The commands, for the command line.
pub(crate) fn commands() -> Vec<Command> {
    let followers = || {
        Arg::new("follower")
            .required(true)
            .num_args(1..)
            .value_name("FOLLOWER")
            .help("Its id, the end of its id (S3), or its host name")
    };
    let drain = Command::new("drain")
        .about("Kill all tasks of a follower and offer nothing of it, until `reactivate`")
        .arg(followers())
        .arg(
            Arg::new("max_grace_period")
                .long("max-grace")
                .value_name("DURATION")
                .help("The longest any task may take to end, such as 5mins [default: what each task says]"),
        )
        .arg(
            Arg::new("mark_gone")
                .long("mark-gone")
                .action(ArgAction::SetTrue)
                .help("Once it is empty, declare it gone for good: it can never come back"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .help("Return when it is drained (or gone)"),
        )
        .after_help(
            "Examples:\n  tepui drain S3                          the follower whose id ends in -S3\n  \
             tepui drain node7.example.org --wait    until its last task has ended\n  \
             tepui drain S3 --max-grace 1mins        tasks that want longer get a minute\n  \
             tepui reactivate S3                     back to work",
        );
    let deactivate = Command::new("deactivate")
        .about("Offer nothing of a follower any more; its tasks run on")
        .arg(followers())
        .after_help("Example:\n  tepui deactivate S3\n\n`tepui reactivate` ends it.");
    let reactivate = Command::new("reactivate")
        .about("Offer a follower again that was deactivated or drained")
        .arg(followers())
        .after_help(
            "Example:\n  tepui reactivate S3\n\nOne that is still draining cannot be reactivated.",
        );
    let followers = [drain, deactivate, reactivate, machines::command()];
    let shares = shares::commands().into_iter();
    let all = followers.into_iter().chain(shares);
    let all = all.chain(resources::commands());
    all.chain(questions::commands()).collect()
}

/// Whether a command is one of these.
pub(crate) fn is_one(name: &str) -> bool {
    commands().iter().any(|command| command.get_name() == name)
}

/// Runs one of them, as `principal`.
pub(crate) async fn run(
    operator: &Operator,
    name: &str,
    of: &ArgMatches,
    principal: Option<&str>,
) -> Result<(), OperateError> {
    match name {
        "maintenance" => return machines::run(operator, of).await,
        "roles" | "quota" | "weights" => return shares::run(operator, name, of).await,
        "reserve" | "unreserve" | "volume" => {
            return resources::run(operator, name, of, principal).await;
        }
        "explain" => return questions::explain(operator, of).await,
        "simulate" => return questions::simulate(operator, of).await,
        _ => {}
    }
    let known = Followers::ask(operator).await?;
    let names = of.get_many::<String>("follower").into_iter().flatten();
    // All of them first: a name that is wrong stops the command before anything is done.
    let followers: Result<Vec<Named>, _> = names.map(|name| known.find(name)).collect();
    let followers = followers?;
    match name {
        "drain" => drain(operator, of, followers).await,
        "deactivate" => {
            for follower in followers {
                let call = of_kind(Type::DeactivateAgent, |call| {
                    let agent_id = follower.id.clone();
                    call.deactivate_agent = Some(call::DeactivateAgent { agent_id });
                });
                operator.leader(&call).await?;
                say(&format!(
                    "{follower} is deactivated: its tasks run on, nothing of it is offered"
                ));
            }
            Ok(())
        }
        _ => {
            for follower in followers {
                let call = of_kind(Type::ReactivateAgent, |call| {
                    let agent_id = follower.id.clone();
                    call.reactivate_agent = Some(call::ReactivateAgent { agent_id });
                });
                operator.leader(&call).await?;
                say(&format!("{follower} is reactivated"));
            }
            Ok(())
        }
    }
}

/// A line for people. That nobody reads any more is no failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn of_kind(kind: Type, fill: impl FnOnce(&mut master::Call)) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(kind);
    fill(&mut call);
    call
}

async fn drain(
    operator: &Operator,
    of: &ArgMatches,
    followers: Vec<Named>,
) -> Result<(), OperateError> {
    let grace = of.get_one::<String>("max_grace_period");
    let grace = grace.map(|text| {
        parse_duration(text).map_err(|error| OperateError::Duration {
            text: text.clone(),
            error,
        })
    });
    let max_grace = grace.transpose()?;
    let mark_gone = of.get_flag("mark_gone");
    for follower in &followers {
        let call = of_kind(Type::DrainAgent, |call| {
            let mut drain = call::DrainAgent {
                agent_id: follower.id.clone(),
                mark_gone: Some(mark_gone),
                ..Default::default()
            };
            if let Some(longest) = max_grace {
                let grace = drain.max_grace_period.get_or_insert_default();
                grace.seconds = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
                grace.nanos = i32::try_from(longest.subsec_nanos()).unwrap_or_default();
            }
            call.drain_agent = Some(drain);
        });
        operator.leader(&call).await?;
        let tasks = tasks_on(operator, &follower.id).await?;
        let grace = max_grace.map_or_else(String::new, |longest| {
            format!(", each within {}", format_duration(longest))
        });
        match tasks {
            0 => say(&format!("Draining {follower}: no task runs there")),
            1 => say(&format!("Draining {follower}: 1 task to end{grace}")),
            many => say(&format!("Draining {follower}: {many} tasks to end{grace}")),
        }
    }
    if of.get_flag("wait") {
        for follower in &followers {
            wait(operator, follower, mark_gone).await?;
        }
    }
    Ok(())
}

async fn tasks_on(operator: &Operator, id: &AgentId) -> Result<usize, OperateError> {
    let response = ask(operator, Type::GetTasks).await?;
    let tasks = response.get_tasks.unwrap_or_default().tasks;
    Ok(tasks.iter().filter(|task| task.agent_id == *id).count())
}

/// Until a follower is drained, or gone if that is what is to become of it.
async fn wait(operator: &Operator, follower: &Named, mark_gone: bool) -> Result<(), OperateError> {
    loop {
        let response = ask(operator, Type::GetAgents).await?;
        let agents = response.get_agents.unwrap_or_default();
        let here = agents
            .agents
            .iter()
            .find(|agent| agent.agent_info.id.as_ref() == Some(&follower.id));
        let awaited = agents
            .recovered_agents
            .iter()
            .any(|info| info.id.as_ref() == Some(&follower.id));
        match here.map(|agent| agent.drain_info.map(|drain| drain.state())) {
            Some(Some(DrainState::Drained)) => {
                say(&format!("{follower} is drained"));
                return Ok(());
            }
            None if mark_gone && !awaited => {
                say(&format!("{follower} is gone"));
                return Ok(());
            }
            None if !awaited => return Err(OperateError::WentAway(follower.to_string())),
            _ => tokio::time::sleep(WATCH).await,
        }
    }
}
