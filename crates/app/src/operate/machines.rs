//! `tepui maintenance`: the schedule, what frameworks say to it, machines down and up.

use super::{
    OperateError, moments,
    named::{Followers, Named},
    of_kind, say,
};
use crate::{
    inspect::{InspectError, ask, print_json},
    table::Table,
};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use std::{collections::BTreeMap, io::Read, time::SystemTime};
use tepui_client::{
    operator::Operator,
    proto::{
        DurationInfo, MachineId, TimeInfo, Unavailability,
        allocator::inverse_offer_status::Status,
        maintenance::{ClusterStatus, Schedule, Window},
        master::call::{self, Type},
    },
};
use tepui_model::units::{format_duration, parse_duration};
use tepui_protocol::json::{self, Names};

pub(super) fn command() -> Command {
    let machines = || {
        Arg::new("machine")
            .required(true)
            .num_args(1..)
            .value_name("MACHINE")
            .help("HOST,ADDRESS as in the schedule, or a follower on it (by id or host name)")
    };
    let list = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .num_args(1..)
            .value_name("MACHINE")
            .help(help)
    };
    Command::new("maintenance")
        .about("Plan when machines will be down, take them down, bring them up")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("schedule")
                .about("Show the schedule, or change it")
                .arg(list("add", "Add a window for these machines, with --start and --for"))
                .arg(
                    Arg::new("start")
                        .long("start")
                        .value_name("WHEN")
                        .default_value("now")
                        .help("When they will be unavailable: now, +1hrs, or 2026-12-24T18:00Z"),
                )
                .arg(
                    Arg::new("for")
                        .long("for")
                        .value_name("DURATION")
                        .help("For how long, such as 2hrs [default: for ever]"),
                )
                .arg(list("remove", "Take these machines out"))
                .arg(
                    Arg::new("set")
                        .long("set")
                        .value_name("FILE")
                        .help("Replace all of it by the JSON of the operator API in a file (- is standard input)"),
                )
                .arg(
                    Arg::new("clear")
                        .long("clear")
                        .action(ArgAction::SetTrue)
                        .help("Plan nothing any more"),
                )
                .group(ArgGroup::new("change").args(["add", "remove", "set", "clear"]))
                .after_help(
                    "Examples:\n  tepui maintenance schedule\n  \
                     tepui maintenance schedule --add S3 S4 --start +1hrs --for 2hrs\n  \
                     tepui maintenance schedule --add node7.example.org,10.0.0.7 --start 2026-12-24T18:00Z\n  \
                     tepui maintenance schedule --remove S4\n\n\
                     Frameworks on these machines are asked to leave; `tepui maintenance status` shows their answers.",
                ),
        )
        .subcommand(
            Command::new("status")
                .about("What frameworks answered, and which machines are down"),
        )
        .subcommand(
            Command::new("down")
                .about("Take machines of the schedule down: followers on them exit, their tasks are lost")
                .arg(machines())
                .after_help("Example:\n  tepui maintenance down S3"),
        )
        .subcommand(
            Command::new("up")
                .about("Let followers on machines register again; the machines leave the schedule")
                .arg(machines())
                .after_help("Example:\n  tepui maintenance up node7.example.org,10.0.0.7"),
        )
}

pub(super) async fn run(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let Some((name, of)) = of.subcommand() else {
        return Ok(());
    };
    match name {
        "schedule" => schedule(operator, of).await,
        "status" => status(operator, of.get_flag("json")).await,
        "down" => {
            let machines = machines(operator, of, "machine").await?;
            let call = of_kind(Type::StartMaintenance, |call| {
                let machines = machines.clone();
                call.start_maintenance = Some(call::StartMaintenance { machines });
            });
            operator.leader(&call).await?;
            for machine in &machines {
                say(&format!("{} is down", text(machine)));
            }
            Ok(())
        }
        _ => {
            let machines = machines(operator, of, "machine").await?;
            let call = of_kind(Type::StopMaintenance, |call| {
                let machines = machines.clone();
                call.stop_maintenance = Some(call::StopMaintenance { machines });
            });
            operator.leader(&call).await?;
            for machine in &machines {
                say(&format!("{} is up", text(machine)));
            }
            Ok(())
        }
    }
}

/// The machines an argument names. Followers are looked for only if a name may be one.
async fn machines(
    operator: &Operator,
    of: &ArgMatches,
    argument: &str,
) -> Result<Vec<MachineId>, OperateError> {
    let names: Vec<&String> = of
        .get_many::<String>(argument)
        .into_iter()
        .flatten()
        .collect();
    let known = match names.iter().any(|name| !name.contains(',')) {
        true => Some(Followers::ask(operator).await?),
        false => None,
    };
    names
        .into_iter()
        .map(|name| match (name.split_once(','), &known) {
            (Some((hostname, ip)), _) => Ok(MachineId {
                hostname: Some(hostname.to_owned()).filter(|name| !name.is_empty()),
                ip: Some(ip.to_owned()).filter(|ip| !ip.is_empty()),
            }),
            (None, Some(known)) => {
                let named: Named = known.find(name)?;
                let machine = named.machine();
                machine.ok_or_else(|| OperateError::NotAMachine(name.clone()))
            }
            (None, None) => Err(OperateError::NotAMachine(name.clone())),
        })
        .collect()
}

/// `HOST,ADDRESS`, as it is read.
fn text(machine: &MachineId) -> String {
    match (machine.hostname(), machine.ip()) {
        (hostname, "") => hostname.to_owned(),
        (hostname, ip) => format!("{hostname},{ip}"),
    }
}

fn same(a: &MachineId, b: &MachineId) -> bool {
    a.hostname().eq_ignore_ascii_case(b.hostname()) && a.ip() == b.ip()
}

async fn current(operator: &Operator) -> Result<Schedule, OperateError> {
    let response = ask(operator, Type::GetMaintenanceSchedule).await?;
    let answer = response
        .get_maintenance_schedule
        .ok_or(InspectError::Answer("get_maintenance_schedule"))?;
    Ok(answer.schedule)
}

async fn schedule(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let mut planned = if of.contains_id("set") || of.get_flag("clear") {
        Schedule::default()
    } else {
        current(operator).await?
    };
    if of.contains_id("add") {
        let window = Window {
            machine_ids: machines(operator, of, "add").await?,
            unavailability: unavailability(of)?,
        };
        let there = planned.windows.iter().flat_map(|w| &w.machine_ids);
        for old in there {
            if window.machine_ids.iter().any(|new| same(new, old)) {
                return Err(OperateError::Scheduled(text(old)));
            }
        }
        planned.windows.push(window);
    } else if of.contains_id("remove") {
        for machine in machines(operator, of, "remove").await? {
            let mut found = false;
            for window in &mut planned.windows {
                let before = window.machine_ids.len();
                window.machine_ids.retain(|other| !same(other, &machine));
                found |= window.machine_ids.len() < before;
            }
            if !found {
                return Err(OperateError::NotScheduled(text(&machine)));
            }
        }
        planned
            .windows
            .retain(|window| !window.machine_ids.is_empty());
    } else if let Some(path) = of.get_one::<String>("set") {
        planned = read(path)?;
    } else if !of.get_flag("clear") {
        show(&planned, of.get_flag("json"));
        return Ok(());
    }
    let call = of_kind(Type::UpdateMaintenanceSchedule, |call| {
        let schedule = planned.clone();
        call.update_maintenance_schedule = Some(call::UpdateMaintenanceSchedule { schedule });
    });
    operator.leader(&call).await?;
    show(&planned, of.get_flag("json"));
    Ok(())
}

fn unavailability(of: &ArgMatches) -> Result<Unavailability, OperateError> {
    let start = of.get_one::<String>("start").map_or("now", String::as_str);
    let nanoseconds = moments::parse(start, SystemTime::now())?;
    let duration = of.get_one::<String>("for").map(|text| {
        let parsed = parse_duration(text).map_err(|error| OperateError::Duration {
            text: text.clone(),
            error,
        })?;
        let nanoseconds = i64::try_from(parsed.as_nanos()).unwrap_or(i64::MAX);
        Ok::<_, OperateError>(DurationInfo { nanoseconds })
    });
    Ok(Unavailability {
        start: TimeInfo { nanoseconds },
        duration: duration.transpose()?,
    })
}

fn read(path: &str) -> Result<Schedule, OperateError> {
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        path => std::fs::read(path).map(|content| bytes = content),
    };
    let path = || path.to_owned();
    read.map_err(|error| OperateError::File {
        path: path(),
        error,
    })?;
    json::decode_with(&bytes, Names::V1).map_err(|error| OperateError::Schedule {
        path: path(),
        error,
    })
}

fn show(schedule: &Schedule, json: bool) {
    if json {
        return print_json(schedule);
    }
    if schedule.windows.is_empty() {
        say("Nothing is planned.");
        return;
    }
    let mut table = Table::new(&["START", "FOR", "MACHINE"]);
    for window in &schedule.windows {
        let start = moments::write(window.unavailability.start.nanoseconds);
        let length = match &window.unavailability.duration {
            None => "ever".to_owned(),
            Some(duration) => {
                let nanos = u64::try_from(duration.nanoseconds).unwrap_or_default();
                format_duration(std::time::Duration::from_nanos(nanos))
            }
        };
        for machine in &window.machine_ids {
            table.row([start.clone(), length.clone(), text(machine)]);
        }
    }
    table.print();
}

async fn status(operator: &Operator, json: bool) -> Result<(), OperateError> {
    let response = ask(operator, Type::GetMaintenanceStatus).await?;
    if json {
        print_json(&response);
        return Ok(());
    }
    let answer = response
        .get_maintenance_status
        .ok_or(InspectError::Answer("get_maintenance_status"))?;
    let names = framework_names(operator).await?;
    let ClusterStatus {
        draining_machines,
        down_machines,
    } = answer.status;
    if draining_machines.is_empty() && down_machines.is_empty() {
        say("No machine is in a maintenance window.");
        return Ok(());
    }
    let mut table = Table::new(&["MACHINE", "MODE", "FRAMEWORK", "ANSWER", "AT"]);
    for machine in &draining_machines {
        let first = [text(&machine.id), "draining".to_owned()];
        if machine.statuses.is_empty() {
            let dashes = [String::from("-"), "-".to_owned(), "-".to_owned()];
            table.row(first.into_iter().chain(dashes));
            continue;
        }
        for status in &machine.statuses {
            let id = &status.framework_id.value;
            let name = names.get(id).map_or(id.as_str(), String::as_str);
            let said = match status.status() {
                Status::Accept => "leaves",
                Status::Decline => "stays",
                Status::Unknown => "unknown",
            };
            let at = moments::write(status.timestamp.nanoseconds);
            let rest = [name.to_owned(), said.to_owned(), at];
            table.row(first.clone().into_iter().chain(rest));
        }
    }
    for machine in &down_machines {
        let dashes = ["down", "-", "-", "-"].map(str::to_owned);
        table.row(std::iter::once(text(machine)).chain(dashes));
    }
    table.print();
    Ok(())
}

async fn framework_names(operator: &Operator) -> Result<BTreeMap<String, String>, OperateError> {
    let response = ask(operator, Type::GetFrameworks).await?;
    let frameworks = response.get_frameworks.unwrap_or_default().frameworks;
    let named = frameworks.into_iter().filter_map(|framework| {
        let info = framework.framework_info;
        Some((info.id?.value, info.name))
    });
    Ok(named.collect())
}
