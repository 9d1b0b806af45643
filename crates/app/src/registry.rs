//! `tepui registry`: take out what leaders remember, put it in, look whether it is sound.
//!
//! It works on the store itself, not through a leader: on the file in a leader's `--work_dir` while
//! no leader runs there, or on what is in ZooKeeper.

use clap::{Arg, ArgAction, ArgMatches, Command};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tepui_node::disk::registry::tool::{self, Place, ToolError};

/// One of these commands failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryCommandError {
    #[error("{}", with_causes(.0))]
    Tool(#[from] ToolError),
    #[error("say where the registry is: --work_dir of a leader alone, or --zk of several")]
    NoPlace,
    #[error("--zk: {0}")]
    Url(String),
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl RegistryCommandError {
    /// Whether the command line was wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::NoPlace | Self::Url(_))
    }
}

/// An error and what is behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

/// The command, for the command line.
pub(crate) fn command() -> Command {
    let places = [
        (
            "work_dir",
            "DIR",
            "The registry of a leader alone: its work directory (MESOS_WORK_DIR in the environment)",
        ),
        (
            "zk",
            "URL",
            "The registry of several leaders: zk://[user:password@]host:port,.../path (MESOS_ZK in the environment)",
        ),
    ]
    .map(|(name, value, help)| {
        Arg::new(name)
            .long(name)
            .global(true)
            .value_name(value)
            .help(help)
    });
    Command::new("registry")
        .about("Export, import or check what leaders remember")
        .subcommand_required(true)
        .args(places)
        .subcommand(
            Command::new("export")
                .about("Print the registry as a JSON document")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .help("Write it to a file instead"),
                ),
        )
        .subcommand(
            Command::new("import")
                .about("Put a registry in: an exported document, or what a Mesos master left")
                .arg(Arg::new("source").required(true).value_name("SOURCE").help(
                    "A JSON document (- for standard input), or the work_dir or replicated_log directory of a Mesos master that does not run",
                ))
                .arg(
                    Arg::new("overwrite")
                        .long("overwrite")
                        .action(ArgAction::SetTrue)
                        .help("Replace what is there"),
                ),
        )
        .subcommand(
            Command::new("check")
                .about("Read all of the registry and say what is in it and what is wrong; fails if anything is"),
        )
}

/// Runs the command that `matches` holds.
pub(crate) fn run(matches: &ArgMatches) -> Result<ExitCode, RegistryCommandError> {
    let Some((name, of)) = matches.subcommand() else {
        return Ok(ExitCode::SUCCESS);
    };
    let place = place(of)?;
    match name {
        "export" => export(&place, of.get_one::<String>("file").map(Path::new)),
        "import" => import(&place, of),
        _ => check(&place, of.get_flag("json")),
    }
}

fn place(of: &ArgMatches) -> Result<Place, RegistryCommandError> {
    let given = |name: &str| of.get_one::<String>(name).cloned();
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let place = match (given("zk"), given("work_dir")) {
        (Some(url), _) => Some((Some(url), None)),
        (None, Some(dir)) => Some((None, Some(dir))),
        (None, None) => match (variable("MESOS_ZK"), variable("MESOS_WORK_DIR")) {
            (None, None) => None,
            (Some(url), _) => Some((Some(url), None)),
            (None, dir) => Some((None, dir)),
        },
    };
    match place {
        Some((Some(url), _)) => {
            Place::zookeeper(&url).map_err(|error| RegistryCommandError::Url(error.to_string()))
        }
        Some((None, Some(dir))) => Ok(Place::WorkDir(dir.into())),
        Some((None, None)) | None => Err(RegistryCommandError::NoPlace),
    }
}

fn export(place: &Place, file: Option<&Path>) -> Result<ExitCode, RegistryCommandError> {
    let document = tool::export(place)?.to_json();
    let path = file.unwrap_or(Path::new("standard output"));
    let written = match file {
        Some(file) => std::fs::write(file, document + "\n"),
        None => writeln!(std::io::stdout(), "{document}"),
    };
    written.map_err(|source| RegistryCommandError::Write {
        path: path.to_owned(),
        source,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn import(place: &Place, of: &ArgMatches) -> Result<ExitCode, RegistryCommandError> {
    let path = of.get_one::<String>("source").map_or("-", String::as_str);
    let found = tool::read_source(Path::new(path))?;
    for remark in &found.remarks {
        anstream::eprintln!("\x1b[1;33mnote:\x1b[0m {remark}");
    }
    let (entries, cluster_id) = tool::import(place, &found.exported, of.get_flag("overwrite"))?;
    println!("{entries} entries imported; cluster {cluster_id}");
    Ok(ExitCode::SUCCESS)
}

fn check(place: &Place, json: bool) -> Result<ExitCode, RegistryCommandError> {
    let report = tool::check(place)?;
    if json {
        let facts = report.facts.iter();
        let facts: serde_json::Map<_, _> = facts
            .map(|(name, value)| {
                let number = value.parse::<u64>().map(serde_json::Value::from);
                let value = number.unwrap_or_else(|_| value.as_str().into());
                (name.replace(' ', "_"), value)
            })
            .collect();
        let document = serde_json::json!({
            "place": report.place,
            "cluster_id": report.cluster_id,
            "format": report.format,
            "facts": facts,
            "problems": report.problems,
        });
        println!("{document}");
    } else {
        println!("{:<28}{}", "registry", report.place);
        println!("{:<28}{}", "cluster", report.cluster_id);
        println!("{:<28}{}", "format", report.format);
        for (name, value) in &report.facts {
            println!("{name:<28}{value}");
        }
    }
    for problem in &report.problems {
        anstream::eprintln!("\x1b[1;31mproblem:\x1b[0m {problem}");
    }
    Ok(match report.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
