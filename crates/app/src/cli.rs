//! What the command line asks for.
//!
//! The roles and `execute` take the reference's flags and are read by [`crate::flags`]; the
//! operator's commands are read by clap.

use crate::{
    access::{Identity, IdentityError},
    emulate::{self, EmulateError},
    execute::{self, Access, ExecuteError, Job},
    flags::{FlagError, Settings, execute::FLAGS as EXECUTE_FLAGS},
    inspect::{self, InspectError},
    operate::{self, OperateError},
    progress::Progress,
    registry::{self, RegistryCommandError},
    role::{self, Mode, RoleError},
    settings, tls,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::process::ExitCode;
use tepui_client::operator::Operator;

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    #[error(transparent)]
    Emulate(#[from] EmulateError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Operate(#[from] OperateError),
    #[error(transparent)]
    Registry(#[from] RegistryCommandError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
}

impl CliError {
    /// Whether the command line, the environment or a file was wrong.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Flag(_)
            | Self::Settings(_)
            | Self::Identity(_)
            | Self::Tls(_)
            | Self::Execute(ExecuteError::Job(_)) => true,
            Self::Role(error) => error.is_usage(),
            Self::Emulate(error) => error.is_usage(),
            Self::Operate(error) => error.is_usage(),
            Self::Registry(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// Name and first line of each command that takes the reference's flags.
const ROLES: &[(&str, &str)] = &[
    ("leader", "Lead a cluster (what mesos-master does)"),
    ("follower", "Run tasks for a leader (what mesos-agent does)"),
    (
        "mixed",
        "A leader and a follower on this machine; with a command, run it and end with its status",
    ),
    (
        "execute",
        "Run a command, task or task group once, stream its output, end with its status",
    ),
    (
        "emulate",
        "Emulate thousands of followers, to size a leader or test a framework",
    ),
    (
        "config",
        "Print the settings in force for a mode and where each comes from",
    ),
];

/// Runs the program called `program` with `args`.
pub(crate) fn run(program: &str, mut args: Vec<String>) -> Result<ExitCode, CliError> {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "mesos-master" => return start(Mode::Leader, &args),
        "mesos-agent" | "mesos-slave" => return start(Mode::Follower, &args),
        "mesos-execute" => return execute_command(&args, Progress::lines()),
        _ => {}
    }
    let first = args.first().cloned().unwrap_or_default();
    let rest = if args.is_empty() {
        args
    } else {
        args.split_off(1)
    };
    match first.as_str() {
        "leader" => start(Mode::Leader, &rest),
        "follower" => start(Mode::Follower, &rest),
        "mixed" => start(Mode::Mixed, &rest),
        "execute" => execute_command(&rest, Progress::for_people()),
        "emulate" => Ok(emulate::run(&rest)?),
        "config" => settings::print(&rest)
            .map(|()| ExitCode::SUCCESS)
            .map_err(CliError::from),
        // `tepui --vars FILE`: the file says which mode.
        flag if flag == "--vars" || flag.starts_with("--vars=") => {
            let args: Vec<String> = std::iter::once(first.clone()).chain(rest).collect();
            start(settings::mode_of_vars(&args)?, &args)
        }
        _ => operator_command(first, rest),
    }
}

fn start(mode: Mode, args: &[String]) -> Result<ExitCode, CliError> {
    Ok(role::start(mode, args)?)
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
}

/// Whether this process may become any user.
pub(crate) fn is_root() -> bool {
    tepui_containers::linux::is_root()
}

/// Name of the user who runs this process.
pub(crate) fn user_name() -> String {
    tepui_containers::linux::current_user()
}

fn execute_command(args: &[String], mut progress: Progress) -> Result<ExitCode, CliError> {
    let environment = |name: &str| {
        (name == "MESOS_MASTER")
            .then(|| std::env::var(name).ok())
            .flatten()
    };
    let (settings, positional) = Settings::resolve(vec![EXECUTE_FLAGS], args, environment, None)?;
    if settings.is_on("help") {
        print!(
            "Usage: tepui execute [flags] [--] [command]\n\n{}",
            Settings::help(&[EXECUTE_FLAGS])
        );
        return Ok(ExitCode::SUCCESS);
    }
    crate::logging::client();
    for warning in settings.unsupported()? {
        tracing::warn!("{warning}");
    }
    let named;
    let settings = match settings.text("name") {
        Some(_) => settings,
        // mesos-execute insists on a name; people at a prompt need not.
        None => {
            named = format!("tepui-{}-{}", user_name(), std::process::id());
            let mut settings = settings;
            settings.set_default("name", named);
            settings
        }
    };
    let given = |name: &str| settings.text(name).map(str::to_owned);
    let credential = match (given("principal"), given("secret"), given("credential")) {
        // As with mesos-execute: the framework's principal, not proven by anything.
        (Some(_), None, None) => None,
        (principal, secret, file) => Identity {
            principal,
            secret,
            file,
        }
        .credential(|name| std::env::var(name).ok())?,
    };
    let mut settings = settings;
    if let Some(credential) = &credential {
        settings.set_default("principal", credential.principal.clone());
    }
    let job =
        Job::from_settings(&settings, &positional, &user_name()).map_err(ExecuteError::from)?;
    let leader = settings.text("master").unwrap_or_default().to_owned();
    let access = Access {
        tls: tls::client(&leader)?,
        leader,
        codec: execute::codec(&settings)?,
        credential,
    };
    let status = runtime()?.block_on(execute::run(job, &access, &mut progress))?;
    Ok(ExitCode::from(status.clamp(0, 255) as u8))
}

fn command() -> Command {
    let leader = Arg::new("leader")
        .long("leader")
        .visible_alias("master")
        .global(true)
        .value_name("HOST:PORT")
        .help("Where the leader is, https:// in front for TLS (TEPUI_LEADER or MESOS_MASTER in the environment; default 127.0.0.1:5050)");
    let identity = [
        (
            "principal",
            "NAME",
            "Who is asking (TEPUI_PRINCIPAL or MESOS_PRINCIPAL in the environment)",
        ),
        (
            "secret",
            "SECRET",
            "What proves it; better in TEPUI_SECRET or MESOS_SECRET, where other users cannot read it",
        ),
        (
            "credential",
            "FILE",
            "A file with both (TEPUI_CREDENTIAL or MESOS_CREDENTIAL in the environment)",
        ),
    ]
    .map(|(name, value, help)| {
        Arg::new(name)
            .long(name)
            .global(true)
            .value_name(value)
            .help(help)
    });
    let json = Arg::new("json")
        .long("json")
        .global(true)
        .action(ArgAction::SetTrue)
        .help("Print JSON, not tables");
    let all = || {
        Arg::new("all")
            .long("all")
            .short('a')
            .action(ArgAction::SetTrue)
    };
    let framework = || {
        Arg::new("framework")
            .long("framework")
            .value_name("ID")
            .help("Framework of the task, if several have one of that id")
    };
    let task = || Arg::new("task").required(true).value_name("TASK");
    let mut command = Command::new("tepui")
        .about("Run a cluster, and ask it things.")
        .version(version())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(leader)
        .args(identity)
        .arg(json)
        .after_help("`tepui --vars FILE` starts the mode that a variables file names.\n`tepui leader --help` and its like list the flags of a mode.");
    for (name, about) in ROLES {
        command = command.subcommand(Command::new(*name).about(*about).disable_help_flag(true));
    }
    command
        .subcommand(
            Command::new("ps")
                .about("List tasks")
                .arg(all().help("Ended ones too")),
        )
        .subcommand(
            Command::new("agents")
                .visible_alias("followers")
                .about("List followers"),
        )
        .subcommand(
            Command::new("frameworks")
                .about("List frameworks")
                .arg(all().help("Completed ones too")),
        )
        .subcommand(
            Command::new("task")
                .about("Look at one task")
                .subcommand_required(true)
                .subcommand(
                    Command::new("show")
                        .about("What it is and what happened to it")
                        .arg(task())
                        .arg(framework()),
                ),
        )
        .subcommand(
            Command::new("logs")
                .about("Print what a task wrote")
                .arg(task())
                .arg(framework())
                .arg(
                    Arg::new("follow")
                        .short('f')
                        .long("follow")
                        .action(ArgAction::SetTrue)
                        .help("Go on until it ends"),
                )
                .arg(
                    Arg::new("stderr")
                        .long("stderr")
                        .action(ArgAction::SetTrue)
                        .help("Standard error instead of output"),
                ),
        )
        .subcommand(
            Command::new("kill")
                .about("Kill the container of a task")
                .arg(task())
                .arg(framework())
                .arg(
                    Arg::new("signal")
                        .long("signal")
                        .value_name("NUMBER")
                        .default_value("9")
                        .value_parser(clap::value_parser!(i32).range(1..65))
                        .help("Signal to send"),
                ),
        )
        .subcommand(Command::new("state").about("Sum the cluster up"))
        .subcommands(operate::commands())
        .subcommand(registry::command())
}

/// Our version and the protocol's.
pub(crate) fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (compatible with Mesos 1.11.0)")
}

fn operator_command(first: String, rest: Vec<String>) -> Result<ExitCode, CliError> {
    let args = std::iter::once("tepui".to_owned())
        .chain(Some(first).filter(|f| !f.is_empty()))
        .chain(rest);
    let matches = command().get_matches_from(args);
    crate::logging::client();
    if let Some(("registry", of)) = matches.subcommand() {
        return registry_command(of);
    }
    let environment = |name: &str| std::env::var(name).ok();
    let leader = matches
        .get_one::<String>("leader")
        .cloned()
        .or_else(|| environment("TEPUI_LEADER"))
        .or_else(|| environment("MESOS_MASTER"))
        .unwrap_or_else(|| "127.0.0.1:5050".to_owned());
    let given = |name: &str| matches.get_one::<String>(name).cloned();
    let identity = Identity {
        principal: given("principal"),
        secret: given("secret"),
        file: given("credential"),
    };
    let credential = identity.credential(environment)?;
    let mut operator = Operator::new(&leader, credential.as_ref()).map_err(InspectError::from)?;
    if let Some(tls) = tls::client(&leader)? {
        operator = operator.tls(tls);
    }
    if let Some((name, of)) = matches
        .subcommand()
        .filter(|(name, _)| operate::is_one(name))
    {
        let principal = credential.as_ref().map(|c| c.principal.as_str());
        runtime()?.block_on(operate::run(&operator, name, of, principal))?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime()?.block_on(inspect_command(operator, &matches))?;
    Ok(ExitCode::SUCCESS)
}

/// Works on the store itself, on this thread; sessions with ZooKeeper live on another.
fn registry_command(of: &ArgMatches) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let _entered = runtime.enter();
    Ok(registry::run(of)?)
}

async fn inspect_command(operator: Operator, matches: &ArgMatches) -> Result<(), InspectError> {
    let Some((name, of)) = matches.subcommand() else {
        return Ok(());
    };
    let json = of.get_flag("json");
    let text = |of: &ArgMatches, name: &str| of.get_one::<String>(name).cloned();
    match name {
        "ps" => inspect::ps(&operator, of.get_flag("all"), json).await,
        "agents" => inspect::agents(&operator, json).await,
        "frameworks" => inspect::frameworks(&operator, of.get_flag("all"), json).await,
        "state" => inspect::state(&operator, json).await,
        "task" => {
            let Some((_, of)) = of.subcommand() else {
                return Ok(());
            };
            let task = text(of, "task").unwrap_or_default();
            inspect::show(&operator, &task, text(of, "framework").as_deref(), json).await
        }
        "logs" => {
            let task = text(of, "task").unwrap_or_default();
            let framework = text(of, "framework");
            let (stderr, follow) = (of.get_flag("stderr"), of.get_flag("follow"));
            inspect::logs(operator, &task, framework.as_deref(), stderr, follow).await
        }
        _ => {
            let task = text(of, "task").unwrap_or_default();
            let signal = of.get_one::<i32>("signal").copied().unwrap_or(9);
            inspect::kill(&operator, &task, text(of, "framework").as_deref(), signal).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
