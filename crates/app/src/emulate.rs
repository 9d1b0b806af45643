//! `tepui emulate`: thousands of followers that exist only on the wire, for sizing a leader and for
//! testing a framework (`docs/emulator.md`).

use crate::flags::{FlagError, Settings, emulate::FLAGS};
use std::{
    io::Write,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    process::ExitCode,
    time::Duration,
};
use tepui_auth::credentials::Credential;
use tepui_emulator::{Emulator, EmulatorError, Moment, Options, Setup, Stop};
use tepui_model::{Attributes, resources, units};
use tepui_node::detect::{self, DetectError};
use tepui_protocol::peer::Pid;

/// Why nothing is emulated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmulateError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("'{0}' is not a flag; flags are written --name=value")]
    Positional(String),
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("the leader at {0} wants none of these followers")]
    Unwanted(SocketAddr),
}

impl EmulateError {
    /// Whether the command line was wrong.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Flag(_) | Self::Positional(_) | Self::Detect(_) => true,
            Self::Emulator(error) => matches!(error, EmulatorError::Layout(_)),
            _ => false,
        }
    }
}

/// Emulates until Ctrl-C.
pub(crate) fn run(args: &[String]) -> Result<ExitCode, EmulateError> {
    let args: Vec<String> = args.iter().map(|arg| underscored(arg)).collect();
    let environment = |name: &str| {
        (name == "MESOS_MASTER")
            .then(|| std::env::var(name).ok())
            .flatten()
    };
    let (settings, positional) = Settings::resolve(vec![FLAGS], &args, environment, None)?;
    if settings.is_on("help") {
        print!(
            "Usage: tepui emulate [flags]\n\nEmulates followers of a leader: they register, answer pings and report tasks, and run nothing.\n\n{}",
            Settings::help(&[FLAGS])
        );
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(first) = positional.into_iter().next() {
        return Err(EmulateError::Positional(first));
    }
    crate::logging::client();
    let election = settings.text("master").filter(|text| is_election(text));
    let election = election.map(str::to_owned);
    let options = options(&settings, election.is_some())?;
    let period = settings.parsed("progress", positive_duration)?;
    let period = period.unwrap_or(Duration::from_secs(1));
    let json = settings.is_on("json");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EmulateError::Signals)?;
    runtime.block_on(emulate(options, election, period, json))
}

async fn emulate(
    mut options: Options,
    election: Option<String>,
    period: Duration,
    json: bool,
) -> Result<ExitCode, EmulateError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(EmulateError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(EmulateError::Signals)?;
    let mut leaders = None;
    if let Some(election) = election {
        let watch = detect::watch(&election).await?;
        let mut first = watch.clone();
        let found = tokio::select! {
            found = first.wait_for(Option::is_some) => found.ok().and_then(|found| found.clone()),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        let Some(found) = found else {
            return Ok(ExitCode::SUCCESS);
        };
        options.setup.leader = found;
        // What has been seen until now is no change.
        let mut watch = watch;
        watch.mark_unchanged();
        leaders = Some(watch);
    }
    let leader = options.setup.leader.address;
    let mut emulator = Emulator::bind(options).await?;
    if let Some(leaders) = leaders {
        emulator = emulator.following(leaders);
    }
    let layout = emulator.layout();
    let places = format!(
        "{} followers on {} addresses from {} on",
        layout.followers(),
        layout.addresses(),
        layout.pid(0).address
    );
    match json {
        true => say(&serde_json::json!({"emulating": layout.followers(), "addresses": layout.addresses(), "leader": leader.to_string()}).to_string()),
        false => say(&format!("{places}, leader {leader}; Ctrl-C ends it with a report")),
    }
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let mut before = None;
    let progress = |moment: &Moment| {
        match json {
            true => say(&document("progress", moment).to_string()),
            false => say(&line(moment, before.as_ref())),
        }
        before = Some(moment.clone());
    };
    let (why, end) = emulator.run(stop, period, progress).await;
    match json {
        true => say(&document("end", &end).to_string()),
        false => say(&summary(&end)),
    }
    match why {
        Stop::Asked => Ok(ExitCode::SUCCESS),
        Stop::NobodyLeft => Err(EmulateError::Unwanted(leader)),
    }
}

/// Whether the leader is to be looked for, rather than at an address.
fn is_election(master: &str) -> bool {
    master.starts_with("zk://") || master.starts_with("file://")
}

fn options(settings: &Settings, elected: bool) -> Result<Options, FlagError> {
    let leader = match elected {
        // Not known yet.
        true => None,
        false => settings.parsed("master", leader_address)?,
    };
    let resources = |text: &str| resources::parse(text, "*").map(|all| all.to_proto());
    let setup = Setup {
        leader: Pid {
            name: "master".to_owned(),
            address: leader.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 5050))),
        },
        resources: settings.parsed("resources", resources)?.unwrap_or_default(),
        attributes: settings
            .parsed("attributes", |text| {
                Attributes::parse(text).map(|all| all.to_proto())
            })?
            .unwrap_or_default(),
        hostname_prefix: settings
            .text("hostname_prefix")
            .unwrap_or_default()
            .to_owned(),
        running: settings
            .parsed("running", count)?
            .map(|tasks| tepui_emulator::Running {
                framework: settings.text("framework_id").unwrap_or_default().into(),
                tasks,
            }),
        task_duration: settings.parsed("task_duration", units::parse_duration)?,
        registration_backoff_factor: settings
            .parsed("registration_backoff_factor", positive_duration)?
            .unwrap_or(Duration::from_secs(1)),
        rate: settings.parsed("rate", rate)?,
        credential: settings.parsed("credential", credential)?,
    };
    Ok(Options {
        setup,
        followers: settings.parsed("followers", count)?.unwrap_or(1),
        per_address: settings.parsed("per_address", count)?,
        ip: settings.parsed("ip", str::parse::<IpAddr>)?,
        port: settings.parsed("port", str::parse::<u16>)?.unwrap_or(0),
    })
}

/// `--task-duration` for `--task_duration`: both are understood.
fn underscored(arg: &str) -> String {
    let Some(body) = arg.strip_prefix("--") else {
        return arg.to_owned();
    };
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, format!("={value}")),
        None => (body, String::new()),
    };
    // `--no-json` is another word for `--json=false`.
    let (no, name) = match name.strip_prefix("no-") {
        Some(rest) => ("no-", rest),
        None => ("", name),
    };
    format!("--{no}{}{value}", name.replace('-', "_"))
}

fn leader_address(text: &str) -> Result<SocketAddr, String> {
    if text.contains("://") {
        return Err("it must be HOST:PORT".to_owned());
    }
    let found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    let mut found: Vec<SocketAddr> = found.collect();
    // Followers on loopback have IPv4 addresses.
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| "it has no address".to_owned())
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number above 0".to_owned()),
        Ok(count) => Ok(count),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("it must be a number above 0: followers per second".to_owned()),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn credential(path: &str) -> Result<Credential, String> {
    let path = path.strip_prefix("file://").unwrap_or(path);
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Credential::parse(&text).map_err(|error| error.to_string())
}

/// A line on standard output, at once.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more; that is no reason to stop.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// How far things are.
fn line(now: &Moment, before: Option<&Moment>) -> String {
    let seconds = |moment: &Moment| moment.elapsed.as_secs_f64();
    let since = before.map_or(0.0, seconds);
    let messages = |moment: &Moment| moment.report.messages_in + moment.report.messages_out;
    let new = messages(now) - before.map_or(0, messages);
    let report = &now.report;
    let mut text = format!(
        "{:>7.1} s  {} of {} registered, {} tasks, {:.0} messages/s",
        seconds(now),
        report.registered,
        report.followers,
        report.tasks_now,
        new as f64 / (seconds(now) - since).max(1e-3),
    );
    for (count, what) in [
        (report.shut_down, "shut down"),
        (report.refused, "refused"),
        (report.links_broken, "links broken"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// What it was in the end.
fn summary(end: &Moment) -> String {
    let report = &end.report;
    let seconds = end.elapsed.as_secs_f64();
    let all = match end.all_registered {
        Some(after) => format!("all registered after {:.2} s", after.as_secs_f64()),
        None => format!(
            "{} of {} registered at the end",
            report.registered, report.followers
        ),
    };
    format!(
        "{} followers, {all}\n\
         {seconds:.1} s in all, {:.0} messages/s: {} sent, {} received, {} not understood\n\
         {} registrations and {} re-registrations in {} attempts, {} authentications, {} links broken\n\
         {} pings answered\n\
         {} tasks taken, {} finished, {} killed, {} left\n\
         {} status updates sent ({} of them again), {} acknowledged",
        report.followers,
        (report.messages_in + report.messages_out) as f64 / seconds.max(1e-3),
        report.messages_out,
        report.messages_in,
        report.messages_unknown,
        report.registrations,
        report.reregistrations,
        report.attempts,
        report.authentications,
        report.links_broken,
        report.pings,
        report.tasks,
        report.tasks_finished,
        report.tasks_killed,
        report.tasks_now,
        report.updates,
        report.updates_repeated,
        report.acknowledgements,
    )
}

/// The same for programs.
fn document(kind: &str, moment: &Moment) -> serde_json::Value {
    let report = &moment.report;
    serde_json::json!({
        "kind": kind,
        "elapsed_secs": moment.elapsed.as_secs_f64(),
        "all_registered_secs": moment.all_registered.map(|after| after.as_secs_f64()),
        "followers": report.followers,
        "registered": report.registered,
        "shut_down": report.shut_down,
        "refused": report.refused,
        "registrations": report.registrations,
        "reregistrations": report.reregistrations,
        "attempts": report.attempts,
        "authentications": report.authentications,
        "pings": report.pings,
        "tasks": report.tasks,
        "tasks_now": report.tasks_now,
        "tasks_finished": report.tasks_finished,
        "tasks_killed": report.tasks_killed,
        "updates": report.updates,
        "updates_repeated": report.updates_repeated,
        "acknowledgements": report.acknowledgements,
        "messages_in": report.messages_in,
        "messages_out": report.messages_out,
        "messages_unknown": report.messages_unknown,
        "links_broken": report.links_broken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, FlagError> {
        let args: Vec<String> = args.iter().map(|arg| underscored(arg)).collect();
        let (settings, _) = Settings::resolve(vec![FLAGS], &args, |_| None, None)?;
        options(&settings, false)
    }

    #[test]
    fn flags_are_understood_with_hyphens_and_underscores() {
        let options = parsed(&[
            "--master=127.0.0.1:9",
            "--task-duration=3secs",
            "--per_address=4",
            "--followers=7",
            "--rate=2.5",
            "--resources=cpus:1",
        ]);
        let options = options.unwrap();
        assert_eq!(options.setup.leader.to_string(), "master@127.0.0.1:9");
        assert_eq!(options.setup.task_duration, Some(Duration::from_secs(3)));
        assert_eq!((options.followers, options.per_address), (7, Some(4)));
        assert_eq!(options.setup.rate, Some(2.5));
        assert_eq!(options.setup.resources.len(), 1);
        assert_eq!(underscored("--no-json"), "--no-json");
        assert_eq!(
            underscored("--hostname-prefix=a-b"),
            "--hostname_prefix=a-b"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (flag, says) in [
            (
                "--followers=0",
                "flag '--followers' (command line): '0': it must be a whole number above 0",
            ),
            ("--followers=many", "above 0"),
            ("--per_address=-1", "flag '--per_address'"),
            ("--rate=0", "followers per second"),
            ("--rate=nan", "followers per second"),
            ("--master=http://a:1", "it must be HOST:PORT"),
            (
                "--master=127.0.0.1",
                "flag '--master' (command line): '127.0.0.1'",
            ),
            ("--resources=cpus", "flag '--resources'"),
            ("--attributes=x", "flag '--attributes'"),
            ("--task_duration=3", "flag '--task_duration'"),
            ("--progress=0secs", "longer than nothing"),
            ("--credential=/nowhere", "flag '--credential'"),
            ("--ip=here", "flag '--ip'"),
            ("--port=70000", "flag '--port'"),
            ("--folowers=1", "did you mean '--followers'?"),
        ] {
            let result = match flag {
                "--progress=0secs" => positive_duration("0secs").map(|_| ()),
                _ => parsed(&[flag])
                    .map(|_| ())
                    .map_err(|error| error.to_string()),
            };
            let error = result.unwrap_err();
            assert!(error.contains(says), "{flag}: {error}");
        }
    }

    #[test]
    fn the_summary_tells_every_count() {
        let report = tepui_emulator::Report {
            followers: 3,
            registered: 3,
            registrations: 3,
            pings: 12,
            tasks: 5,
            ..Default::default()
        };
        let end = Moment {
            elapsed: Duration::from_secs(2),
            all_registered: Some(Duration::from_millis(250)),
            report,
        };
        let text = summary(&end);
        assert!(
            text.starts_with("3 followers, all registered after 0.25 s\n"),
            "{text}"
        );
        assert!(
            text.contains("\n12 pings answered\n5 tasks taken"),
            "{text}"
        );
        assert_eq!(document("end", &end)["all_registered_secs"], 0.25);
        assert_eq!(
            line(&end, None),
            "    2.0 s  3 of 3 registered, 0 tasks, 0 messages/s"
        );
    }
}
