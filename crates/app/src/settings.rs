//! Settings of a mode: flags, environment and variables file put together, and `tepui config`.

use crate::{
    flags::{FlagError, Settings, follower, leader, markdown, mixed, shown},
    role::Mode,
    table::Table,
    vars::{Vars, VarsError},
};
use std::{io::Write, path::Path};

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error(transparent)]
    Vars(#[from] VarsError),
    #[error("'--vars' needs a file: --vars=FILE")]
    NoVarsFile,
    #[error("'{0}' is not a mode: leader, follower or mixed")]
    NoMode(String),
    #[error("there is no page '{0}' of flags: {pages}", pages = markdown::names())]
    NoPage(String),
}

/// What a mode runs with.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) settings: Settings,
    /// What stood on the command line besides flags.
    pub(crate) positional: Vec<String>,
    /// The variables file, if one was given.
    pub(crate) vars: Option<Vars>,
}

/// Tables of a mode.
fn tables(mode: Mode) -> Vec<&'static [crate::flags::Flag]> {
    match mode {
        Mode::Leader => vec![leader::FLAGS],
        Mode::Follower => vec![follower::FLAGS],
        Mode::Mixed => vec![mixed::FLAGS, leader::FLAGS, follower::FLAGS],
    }
}

/// `--help` of a mode.
pub(crate) fn help(mode: Mode) -> String {
    let usage = match mode {
        Mode::Leader => "Usage: tepui leader [--vars=FILE] [flags]",
        Mode::Follower => "Usage: tepui follower [--vars=FILE] [flags]",
        Mode::Mixed => "Usage: tepui mixed [--vars=FILE] [flags] [--] [command]",
    };
    let notes = "Every flag can also be given as MESOS_NAME in the environment; file://PATH reads a value from a file.";
    format!("{usage}\n\n{}\n{notes}\n", Settings::help(&tables(mode)))
}

/// Puts the settings of `mode` together.
pub(crate) fn resolve(mode: Mode, args: &[String]) -> Result<Resolved, SettingsError> {
    resolve_with(mode, args, |name| std::env::var(name).ok())
}

fn resolve_with(
    mode: Mode,
    args: &[String],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Resolved, SettingsError> {
    let (file, args) = take_vars(args)?;
    let vars = file.map(|file| Vars::load(Path::new(&file))).transpose()?;
    // The variables have one name for a port each; so have the flags of `mixed`.
    let port = match mode {
        Mode::Leader => Some("leader_port"),
        Mode::Follower => Some("follower_port"),
        Mode::Mixed => None,
    };
    let (mut settings, positional) =
        Settings::resolve(tables(mode), &args, environment, vars.as_ref())?;
    if let (Some(name), Some(vars)) = (port, &vars)
        && let Some(setting) = vars.flag(name)
    {
        settings.set_unless_given("port", setting);
    }
    if mode == Mode::Mixed
        && let Some(setting) = settings.given("port")
    {
        settings.set_unless_given("leader_port", setting);
    }
    Ok(Resolved {
        settings,
        positional,
        vars,
    })
}

/// Splits `--vars FILE` from the other arguments.
fn take_vars(args: &[String]) -> Result<(Option<String>, Vec<String>), SettingsError> {
    let (mut file, mut rest) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--vars") {
            Some("") => file = Some(args.next().ok_or(SettingsError::NoVarsFile)?.clone()),
            Some(value) if value.starts_with('=') => file = Some(value[1..].to_owned()),
            _ => rest.push(arg.clone()),
        }
        if arg == "--" {
            rest.extend(args.by_ref().cloned());
        }
    }
    match file.as_deref() {
        Some("") => Err(SettingsError::NoVarsFile),
        _ => Ok((file, rest)),
    }
}

/// The mode that `--vars FILE` names.
pub(crate) fn mode_of_vars(args: &[String]) -> Result<Mode, SettingsError> {
    let file = take_vars(args)?.0.ok_or(SettingsError::NoVarsFile)?;
    let mode = Vars::load(Path::new(&file))?.mode();
    Mode::parse(&mode).ok_or(SettingsError::NoMode(mode))
}

/// `tepui config [MODE] [--json] [--vars=FILE] [flags]`.
///
/// `--markdown-flags=PAGE` alone prints a page of the documentation (`cargo xtask flags`).
pub(crate) fn print(args: &[String]) -> Result<(), SettingsError> {
    if let Some(name) = args
        .first()
        .and_then(|arg| arg.strip_prefix("--markdown-flags="))
    {
        let page = markdown::page(name).ok_or_else(|| SettingsError::NoPage(name.to_owned()))?;
        let _ = write!(std::io::stdout(), "{page}");
        return Ok(());
    }
    let (mut args, mut json, mut mode) = (args.to_vec(), false, None);
    args.retain(|arg| {
        json |= arg == "--json";
        arg != "--json"
    });
    if let Some(first) = args.first().filter(|arg| !arg.starts_with("--")).cloned() {
        mode = Some(Mode::parse(&first).ok_or(SettingsError::NoMode(first))?);
        args.remove(0);
    }
    let mode = match mode {
        Some(mode) => mode,
        None if take_vars(&args)?.0.is_some() => mode_of_vars(&args)?,
        None => Mode::Mixed,
    };
    let resolved = resolve(mode, &args)?;
    let variables = resolved
        .vars
        .as_ref()
        .map(Vars::describe)
        .unwrap_or_default();
    let flags = resolved.settings.iter().filter_map(|(name, setting)| {
        Some((
            name,
            shown(name, setting.value.as_deref()?),
            setting.source.clone(),
        ))
    });
    let all = variables.into_iter().chain(flags);
    if json {
        let entries: Vec<_> = all
            .map(|(name, value, source)| serde_json::json!({ "name": name, "value": value, "from": source.to_string() }))
            .collect();
        let _ = writeln!(
            std::io::stdout(),
            "{}",
            serde_json::json!({ "mode": mode.name(), "settings": entries })
        );
        return Ok(());
    }
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    table.row([
        "mode".to_owned(),
        mode.name().to_owned(),
        "command line or mesos_mode".to_owned(),
    ]);
    for (name, value, source) in all {
        table.row([name.to_owned(), value, source.to_string()]);
    }
    table.print();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(mode: Mode, args: &[&str]) -> Settings {
        let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
        resolve_with(mode, &args, |_| None).unwrap().settings
    }

    #[test]
    fn ports_follow_the_mode() {
        assert_eq!(
            resolved(Mode::Leader, &["--port=1"]).text("port"),
            Some("1")
        );
        let mixed = resolved(Mode::Mixed, &["--port=1"]);
        assert_eq!(
            (mixed.text("leader_port"), mixed.text("follower_port")),
            (Some("1"), Some("5051"))
        );
        assert_eq!(
            resolved(Mode::Mixed, &["--leader_port=2"]).text("leader_port"),
            Some("2")
        );
    }

    #[test]
    fn a_variables_file_gives_ports_and_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.yml");
        std::fs::write(
            &path,
            "mesos_mode: leader\nmesos_leader_port: 6050\nmesos_cluster: c\n",
        )
        .unwrap();
        let vars = format!("--vars={}", path.display());
        assert_eq!(
            mode_of_vars(std::slice::from_ref(&vars)).unwrap(),
            Mode::Leader
        );
        let settings = resolved(Mode::Leader, &[&vars]);
        assert_eq!(
            (settings.text("port"), settings.text("cluster")),
            (Some("6050"), Some("c"))
        );
        let settings = resolved(Mode::Leader, &[&vars, "--port=1", "--cluster=d"]);
        assert_eq!(
            (settings.text("port"), settings.text("cluster")),
            (Some("1"), Some("d"))
        );
    }
}
