//! Where a node listens, what it announces, and what it is called.

use super::RoleError;
use crate::flags::{FlagError, Settings};
use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    process::Command,
};
use tepui_node::net::Listen;

/// The flag of the port of a node that is alone in its process.
const PORT: &str = "port";

/// Where to listen and what to announce: flags, else the variables of libprocess
/// (`docs/configuration/libprocess.md`), else `fallback` and the port that the flag has by default.
///
/// The reference's `--port` always has a value, so that its `LIBPROCESS_PORT` never counts; here it
/// does when nobody gave a port, unless it is 0, which is what executors find in their environment.
pub(super) fn listen(
    settings: &Settings,
    port: &'static str,
    fallback: IpAddr,
) -> Result<Listen, RoleError> {
    let parse_ip = |text: &str| text.trim().parse::<IpAddr>();
    let ip = match settings.parsed("ip", parse_ip)? {
        Some(ip) => Some(ip),
        None => settings.parsed("ip_discovery_command", discover)?,
    };
    let ip = match ip {
        Some(ip) => ip,
        None => variable("LIBPROCESS_IP", parse_ip)?.unwrap_or(fallback),
    };
    // Of two nodes in one process neither can have it.
    let variable_port = match port {
        PORT if !settings.is_given(PORT) => variable("LIBPROCESS_PORT", str::parse::<u16>)?,
        _ => None,
    };
    let port = match variable_port.filter(|port| *port != 0) {
        Some(port) => port,
        None => settings.parsed(port, str::parse::<u16>)?.unwrap_or(0),
    };
    let advertise_ip = match settings.parsed("advertise_ip", parse_ip)? {
        Some(ip) => Some(ip),
        None => variable("LIBPROCESS_ADVERTISE_IP", parse_ip)?,
    };
    let advertise_port = match settings.parsed("advertise_port", str::parse::<u16>)? {
        Some(port) => Some(port),
        None => variable("LIBPROCESS_ADVERTISE_PORT", str::parse::<NonZeroU16>)?.map(u16::from),
    };
    Ok(Listen {
        ip,
        port,
        advertise_ip,
        advertise_port,
    })
}

/// A variable of the environment. An empty one is none.
pub(super) fn variable<T, E: std::fmt::Display>(
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, RoleError> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    parse(&value)
        .map(Some)
        .map_err(|error| RoleError::Variable {
            name,
            value: value.clone().into_owned(),
            why: error.to_string(),
        })
}

/// Runs a command that prints an address.
fn discover(command: &str) -> Result<IpAddr, String> {
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse()
        .map_err(|_| format!("it printed '{text}', which is no IP address"))
}

/// Every interface: what a leader or follower listens on when it is not told.
pub(super) const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// This machine only: what `mixed` listens on when it is not told.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `--hostname`, or the name of this machine unless `--no-hostname_lookup` asks for the address.
pub(super) fn hostname(settings: &Settings) -> Option<String> {
    match settings.text("hostname") {
        Some(name) => Some(name.to_owned()),
        None if settings.is_on("hostname_lookup") => machine_name(),
        None => None,
    }
}

/// What this machine calls itself.
pub(super) fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A JSON value of a flag, such as `--domain`.
pub(super) fn message<T>(settings: &Settings, flag: &'static str) -> Result<Option<T>, FlagError>
where
    T: prost::Message + prost::Name + Default,
{
    settings.parsed(flag, |text| tepui_protocol::json::decode(text.as_bytes()))
}

/// Leaves nothing but reads open to everybody.
const READS: &str = "authenticate_http_readonly";

/// Says once, loudly, that anybody who can reach this node may use it. `open`: the flags that are
/// not on and would have to be.
pub(super) fn warn_if_open(name: &str, ip: IpAddr, open: &[&str]) {
    if ip.is_loopback() || open.is_empty() {
        return;
    }
    if open == [READS] {
        tracing::warn!(
            "everybody who can reach {ip} can read what this node knows: --{READS} is off"
        );
        return;
    }
    let flags = open.join(", --");
    // As an error: a log that is to show nothing less, and a cluster for one command, show it too.
    tracing::error!(
        "*** {name} LISTENS ON {ip} WITHOUT AUTHENTICATION: everybody who can reach it can run commands on this \
         cluster. Use --ip=127.0.0.1, or a network that you trust, or switch on --{flags} \
         (docs/authentication.md). ***"
    );
}
