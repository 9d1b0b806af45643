//! A follower from its flags.

use super::{
    Ending, RoleError, Signals, Verbosity, address, auth::FollowerAuth, leader::log_file,
    limits::limits, oversubscription, ready,
};
use crate::{flags::Settings, logging::SetVerbosity, settings::Resolved, tls};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tepui_containers::linux::Launcher;
use tepui_follower::config::Recover;
use tepui_model::{Attributes, units};
use tepui_node::{
    fetcher::FetchOptions,
    follower::{FollowerNode, FollowerOptions, detect as detect_machine},
    net::Listen,
};
use tepui_protocol::peer::Pid;
use tokio::sync::watch;

/// As in the reference (`src/slave/constants.hpp`).
const EXECUTOR_REREGISTRATION_MAX: Duration = Duration::from_secs(15);

/// Runs a follower until a signal, a failure, or until the leader tells it to go.
pub(super) async fn run(
    resolved: &Resolved,
    verbosity: SetVerbosity,
    launcher: Launcher,
) -> Result<ExitCode, RoleError> {
    let settings = &resolved.settings;
    let work_dir = settings.text("work_dir").filter(|dir| !dir.is_empty());
    let work_dir = work_dir.ok_or(RoleError::Missing {
        flag: "work_dir",
        why: "sandboxes are kept there",
    })?;
    let master = settings.text("master").ok_or(RoleError::Missing {
        flag: "master",
        why: "HOST:PORT of the leader, or zk://HOST:PORT,…/PATH of the election",
    })?;
    let leader = super::detect(settings, master).await?.map_err(|error| {
        crate::flags::FlagError::Invalid {
            name: "master",
            from: settings.source("master"),
            reason: super::chain(&error),
        }
    })?;
    let listen = address::listen(settings, "port", address::EVERYWHERE)?;
    let ip = listen.ip;
    let attributes = resolved.vars.is_some();
    let auth = FollowerAuth::read(resolved)?;
    let mut options = options(
        settings,
        listen,
        Path::new(work_dir),
        leader,
        launcher,
        verbosity,
        attributes,
    )?;
    // Not before the settings are known to be good: what is wrong with them should stand alone.
    address::warn_if_open("FOLLOWER", ip, &auth.open());
    auth.apply(&mut options);
    options.transport = tls::transport()?;
    (options.limits, options.links) = limits()?;
    let secure = options.transport.is_tls();
    let mut signals = Signals::new()?;
    let mut follower = FollowerNode::start(options).await?;
    ready::announce("follower", follower.address, secure);
    loop {
        tokio::select! {
            ending = signals.next() => match ending {
                Ending::Stop => break,
                Ending::Unregister => follower.unregister("received SIGUSR1"),
            },
            ended = follower.ended() => {
                follower.shutdown().await;
                return ended.map(|()| ExitCode::SUCCESS).map_err(RoleError::from);
            }
        }
    }
    follower.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// What a follower wants to know. `name_node`: the attribute `node_id` is this machine's name
/// where nobody gave attributes, as the variables file promises.
pub(super) fn options(
    settings: &Settings,
    listen: Listen,
    work_dir: &Path,
    leader: watch::Receiver<Option<Pid>>,
    launcher: Launcher,
    verbosity: SetVerbosity,
    name_node: bool,
) -> Result<FollowerOptions, RoleError> {
    std::fs::create_dir_all(work_dir).map_err(RoleError::io(format!(
        "make the work directory '{}'",
        work_dir.display()
    )))?;
    let config = config(settings, &listen, work_dir, name_node)?;
    let mut options = FollowerOptions::new(listen, config, launcher, leader);
    options.fetch = FetchOptions {
        frameworks_home: settings
            .text("frameworks_home")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from),
        ..FetchOptions::default()
    };
    if let Some(timeout) = settings.parsed("fetcher_stall_timeout", units::parse_duration)? {
        options.fetch.stall_timeout = timeout;
    }
    if let Some(interval) = settings.parsed("disk_watch_interval", units::parse_duration)? {
        options.disk_watch_interval = interval;
    }
    let interval = settings.parsed("qos_correction_interval_min", units::parse_duration)?;
    options.qos_correction_interval_min = interval.unwrap_or_default();
    options.strict = settings.is_on("strict");
    if let Some(policy) = settings.parsed("reconfiguration_policy", str::parse)? {
        options.reconfiguration_policy = policy;
    }
    options.log_dir = settings.text("log_dir").map(str::to_owned);
    options.external_log_file = settings.text("external_log_file").map(str::to_owned);
    options.log_file = log_file(settings, "follower");
    options.log_level = Box::new(Verbosity(verbosity));
    Ok(options)
}

fn config(
    settings: &Settings,
    listen: &Listen,
    work_dir: &Path,
    name_node: bool,
) -> Result<tepui_follower::Config, RoleError> {
    // The node replaces the address by the one it announces.
    let address = SocketAddr::new(listen.ip, listen.port);
    let hostname = address::hostname(settings)
        .unwrap_or_else(|| listen.advertise_ip.unwrap_or(listen.ip).to_string());
    let mut config = tepui_follower::Config::new(address, hostname, work_dir);
    let duration = |name| settings.parsed(name, units::parse_duration);
    let role = settings.text("default_role").unwrap_or("*");
    let detected = detect_machine(work_dir);
    let startup = |text: &str| tepui_follower::resources::startup(text, role, detected);
    config.resources = match settings.parsed("resources", startup)? {
        Some(resources) => resources,
        None => startup("").unwrap_or_default(),
    };
    config.attributes = match settings.parsed("attributes", Attributes::parse)? {
        Some(attributes) => attributes.to_proto(),
        None if name_node => {
            let name = address::machine_name().unwrap_or_else(|| config.hostname.clone());
            Attributes::parse(&format!("node_id:{name}"))
                .map(|a| a.to_proto())
                .unwrap_or_default()
        }
        None => Vec::new(),
    };
    config.domain = address::message(settings, "domain")?;
    // Only root can become another user; everybody else runs tasks as themselves.
    config.switch_user = settings.is_on("switch_user") && crate::cli::is_root();
    config.executor_environment_variables = settings
        .parsed("executor_environment_variables", environment)?
        .unwrap_or_default();
    if let Some(value) = duration("executor_registration_timeout")? {
        config.executor_registration_timeout = value;
    }
    if let Some(value) = settings.parsed("recover", recover)? {
        config.recover = value;
    }
    if let Some(value) = duration("recovery_timeout")? {
        config.recovery_timeout = value;
    }
    if let Some(value) = settings.parsed("executor_reregistration_timeout", reregistration)? {
        config.executor_reregistration_timeout = value;
    }
    config.executor_reregistration_retry_interval =
        duration("executor_reregistration_retry_interval")?;
    if let Some(value) = duration("executor_shutdown_grace_period")? {
        config.executor_shutdown_grace_period = value;
    }
    if let Some(value) = duration("registration_backoff_factor")? {
        config.registration_backoff_factor = value;
    }
    if let Some(value) = duration("gc_delay")? {
        config.gc_delay = value;
    }
    if let Some(value) = settings.parsed("gc_disk_headroom", headroom)? {
        config.gc_disk_headroom = value;
    }
    if let Some(value) =
        settings.parsed("max_completed_executors_per_framework", str::parse::<usize>)?
    {
        config.max_completed_executors_per_framework = value;
    }
    oversubscription::apply(settings, &mut config)?;
    config.http_command_executor = settings.is_on("http_command_executor");
    config.libprocess_ip = std::env::var("LIBPROCESS_IP").ok();
    config.executor_link_variables = tls::executor_variables(std::env::vars_os());
    config.flags = settings.published(crate::flags::follower::FLAGS);
    Ok(config)
}

fn recover(text: &str) -> Result<Recover, String> {
    match text {
        "reconnect" => Ok(Recover::Reconnect),
        "cleanup" => Ok(Recover::Cleanup),
        _ => Err("it is neither 'reconnect' nor 'cleanup'".to_owned()),
    }
}

/// Leaders that wait for followers to be back count on this bound.
fn reregistration(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text) {
        Ok(value) if value > EXECUTOR_REREGISTRATION_MAX => Err(format!(
            "Expected `--executor_reregistration_timeout` to be not more than {}",
            units::format_duration(EXECUTOR_REREGISTRATION_MAX)
        )),
        result => result.map_err(|error| error.to_string()),
    }
}

fn headroom(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it is not a share between 0.0 and 1.0".to_owned()),
    }
}

/// A JSON object of texts.
fn environment(text: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not a JSON object of texts: {error}"))
}
