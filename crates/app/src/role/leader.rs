//! A leader from its flags.

use super::{
    Ending, RoleError, Signals, Verbosity, address, auth::LeaderAuth, election, limits::limits,
    ready,
};
use crate::{
    flags::{FlagError, Settings},
    logging::SetVerbosity,
    settings::Resolved,
    tls,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tepui_model::{Scalar, resources, units};
use tepui_node::{
    leader::{LeaderNode, LeaderOptions},
    net::Listen,
};

/// Runs a leader until a signal or a failure.
pub(super) async fn run(
    resolved: &Resolved,
    verbosity: SetVerbosity,
) -> Result<ExitCode, RoleError> {
    let settings = &resolved.settings;
    let work_dir = settings.text("work_dir").filter(|dir| !dir.is_empty());
    let listen = address::listen(settings, "port", address::EVERYWHERE)?;
    let ip = listen.ip;
    let mut options = options(settings, listen, work_dir.map(Path::new), verbosity)?;
    let auth = LeaderAuth::read(resolved)?;
    // Not before the settings are known to be good: what is wrong with them should stand alone.
    address::warn_if_open("LEADER", ip, &auth.open());
    auth.apply(&mut options);
    options.transport = tls::transport()?;
    (options.limits, options.links) = limits()?;
    let secure = options.transport.is_tls();
    let mut signals = Signals::new()?;
    let note = election::note(settings);
    let mut leader = LeaderNode::start(options).await?;
    ready::announce_as("leader", leader.address, secure, &note);
    loop {
        tokio::select! {
            ending = signals.next() => if ending == Ending::Stop { break },
            error = leader.failed() => return Err(error.into()),
        }
    }
    leader.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

/// What a leader wants to know.
pub(super) fn options(
    settings: &Settings,
    listen: Listen,
    work_dir: Option<&Path>,
    verbosity: SetVerbosity,
) -> Result<LeaderOptions, RoleError> {
    let mut options = LeaderOptions::new(listen, work_dir.unwrap_or(Path::new("")));
    election::apply(settings, work_dir, &mut options)?;
    options.hostname = address::hostname(settings);
    options.cluster = settings.text("cluster").map(str::to_owned);
    options.allow_list = settings
        .text("whitelist")
        // Older than no list: a star allowed everybody.
        .filter(|path| !path.is_empty() && *path != "*")
        .map(|path| PathBuf::from(path.strip_prefix("file://").unwrap_or(path)));
    options.domain = address::message(settings, "domain")?;
    options.config = config(settings)?;
    options.flags = settings.published(crate::flags::leader::FLAGS);
    options.log_file = log_file(settings, "leader");
    options.log_level = Box::new(Verbosity(verbosity));
    Ok(options)
}

/// The file that `/files` shows as the log. Both nodes of `mixed`, which alone knows
/// `--leader_port`, log to one.
pub(super) fn log_file(settings: &Settings, name: &str) -> Option<PathBuf> {
    let name = match settings.text("leader_port") {
        Some(_) => "mixed",
        None => name,
    };
    let external = settings.text("external_log_file").map(PathBuf::from);
    external
        .or_else(|| Some(Path::new(settings.text("log_dir")?).join(format!("tepui.{name}.log"))))
}

fn config(settings: &Settings) -> Result<tepui_leader::Config, FlagError> {
    let mut config = tepui_leader::Config::default();
    let duration = |name| settings.parsed(name, units::parse_duration);
    let count = |name| settings.parsed(name, str::parse::<usize>);
    if let Some(value) = duration("agent_ping_timeout")? {
        config.ping_timeout = value;
    }
    if let Some(value) = settings.parsed("max_agent_ping_timeouts", str::parse::<u32>)? {
        config.max_ping_timeouts = value;
    }
    if let Some(value) = duration("agent_reregister_timeout")? {
        config.reregister_timeout = value;
    }
    config.offer_timeout = duration("offer_timeout")?;
    if let Some(value) = duration("held_offers_alarm")? {
        config.held_offers_alarm = Some(value).filter(|patience| !patience.is_zero());
    }
    config.allocator.held_offers_share = settings.parsed("max_held_offers_share", share)?;
    if let Some(value) = count("max_completed_frameworks")? {
        config.max_completed_frameworks = value;
    }
    if let Some(value) = count("max_completed_tasks_per_framework")? {
        config.max_completed_tasks_per_framework = value;
    }
    if let Some(value) = count("max_unreachable_tasks_per_framework")? {
        config.max_unreachable_tasks_per_framework = value;
    }
    if let Some(value) = count("max_operator_event_stream_subscribers")? {
        config.max_operator_streams = value;
    }
    config.root_submissions = settings.is_on("root_submissions");
    config.require_follower_domain = settings.is_on("require_agent_domain");
    config.roles = settings.parsed("roles", roles)?;
    let parse = |text: &str| weights(text, config.roles.as_ref());
    config.weights = settings.parsed("weights", parse)?.unwrap_or_default();
    config.rate_limits = settings.parsed("rate_limits", tepui_leader::limits::RateLimits::parse)?;
    if let Some(value) = duration("allocation_interval")? {
        config.allocator.allocation_interval = value;
    }
    if let Some(value) = settings.parsed("min_allocatable_resources", minimums)? {
        config.allocator.min_allocatable_resources = value;
    }
    config.allocator.filter_gpu_resources = settings.is_on("filter_gpu_resources");
    fair_sharing(settings, &mut config)?;
    super::recovery::apply(settings, &mut config)?;
    Ok(config)
}

fn fair_sharing(settings: &Settings, config: &mut tepui_leader::Config) -> Result<(), FlagError> {
    let config = &mut config.allocator;
    if let Some(value) = settings.parsed("role_sorter", str::parse)? {
        config.role_sorter = value;
    }
    if let Some(value) = settings.parsed("framework_sorter", str::parse)? {
        config.framework_sorter = value;
    }
    if let Some(names) = settings.text("fair_sharing_excluded_resource_names") {
        let names = names.split(',').map(str::trim);
        config.fair_sharing_excluded_names = names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
    }
    let limits = &mut config.constraint_limits;
    if let Some(value) =
        settings.parsed("offer_constraints_re2_max_mem", str::parse::<units::Bytes>)?
    {
        limits.max_memory = value.0;
    }
    if let Some(value) =
        settings.parsed("offer_constraints_re2_max_program_size", str::parse::<u64>)?
    {
        limits.max_program_size = value;
    }
    Ok(())
}

/// Above 0, up to 1.
fn share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.trim().parse().ok();
    let share = share.filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| format!("'{text}' is not a share above 0 and up to 1"))
}

fn roles(text: &str) -> Result<std::collections::BTreeSet<String>, tepui_model::roles::RoleError> {
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| tepui_model::roles::validate(name).map(|()| name.to_owned()))
        .collect()
}

/// `a=2,b=0.5`
fn weights(text: &str, only: Option<&BTreeSet<String>>) -> Result<BTreeMap<String, f64>, String> {
    let weight = |part: &str| {
        let wrong = |why: String| format!("Invalid weight: '{part}'. {why}");
        let form = || wrong("--weights should be of the form 'role=weight,role=weight'".to_owned());
        let (role, weight) = part.split_once('=').ok_or_else(form)?;
        let (role, weight) = (role.trim(), weight.trim());
        tepui_model::roles::validate(role).map_err(|error| wrong(error.to_string()))?;
        if only.is_some_and(|only| role != "*" && !only.contains(role)) {
            return Err(wrong(format!("{role} is not a valid role")));
        }
        let weight: f64 = weight.parse().map_err(|_| form())?;
        match weight.is_finite() && weight > 0.0 {
            true => Ok((role.to_owned(), weight)),
            false => Err(wrong("Weights must be positive".to_owned())),
        }
    };
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(weight).collect()
}

/// `cpus:0.01|mem:32`: at least one of these must be there.
fn minimums(text: &str) -> Result<Vec<tepui_model::Quantities>, String> {
    text.split('|')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let quantities = resources::parse(part, "*")
                .map_err(|error| error.to_string())?
                .quantities();
            let positive = quantities.iter().all(|(_, amount)| amount > Scalar::ZERO);
            if positive {
                Ok(quantities)
            } else {
                Err(format!("'{part}' is not a positive amount"))
            }
        })
        .collect()
}
