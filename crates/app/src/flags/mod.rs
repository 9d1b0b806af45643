//! One table per role gives parsing, `MESOS_*` names, help and the notes about what is not there yet.
//!
//! The syntax is the reference's (`3rdparty/stout/include/stout/flags/flags.hpp`): `--name=value`,
//! `--name` and `--no-name` for booleans, `MESOS_NAME` in the environment, and `file://PATH` as a
//! value to read it from a file. A command line beats the environment, which beats a variables file.

/// One flag a row: its name and older aliases, `value` or `switch` (boolean) with its default, what
/// becomes of it, one line of help.
macro_rules! flag_table {
    ($($name:literal $(| $alias:literal)* : $kind:ident $(= $default:literal)?, $support:expr, $help:literal;)*) => {
        &[$(Flag {
            names: &[$name $(, $alias)*],
            boolean: flag_table!(@boolean $kind),
            default: flag_table!(@default $($default)?),
            support: $support,
            help: $help,
        }),*]
    };
    (@boolean switch) => { true };
    (@boolean value) => { false };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

pub(crate) mod emulate;
pub(crate) mod execute;
pub(crate) mod follower;
pub(crate) mod leader;
pub(crate) mod markdown;
pub(crate) mod mixed;

use crate::{nearest::nearest, vars::Vars};
use std::{collections::BTreeMap, fmt};

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Its name, then older aliases.
    pub(crate) names: &'static [&'static str],
    /// Whether it takes `--name` and `--no-name`.
    pub(crate) boolean: bool,
    /// Value when nobody says otherwise.
    pub(crate) default: Option<&'static str>,
    /// What becomes of it here.
    pub(crate) support: Support,
    /// One line for `--help`.
    pub(crate) help: &'static str,
}

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It works.
    Works,
    /// Accepted; there is nothing for it to do, and why.
    NoEffect(&'static str),
    /// Accepted with a warning that names it: the feature comes later.
    Later(&'static str),
    /// Refused at start-up: ignoring it would leave the cluster less safe than the operator asked for.
    Refused(&'static str),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    Vars {
        file: String,
        line: usize,
        name: &'static str,
    },
    Environment(String),
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Vars { file, line, name } => write!(f, "{file}:{line} ({name})"),
            Self::Environment(name) => write!(f, "environment ({name})"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
}

/// A command line, an environment or a file that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FlagError {
    #[error("unknown flag '--{name}'{}", did_you_mean(.nearest))]
    Unknown {
        name: String,
        nearest: Option<&'static str>,
    },
    #[error("flag '--{0}' needs a value: --{0}=VALUE")]
    NoValue(&'static str),
    #[error("flag '--no-{0}' is not boolean")]
    NotBoolean(&'static str),
    #[error("flag '--{0}' takes no value in its negated form")]
    NegatedWithValue(&'static str),
    #[error("flag '--{0}' is given twice")]
    Twice(&'static str),
    #[error("flag '--{name}' ({from}): {reason}")]
    Invalid {
        name: &'static str,
        from: Source,
        reason: String,
    },
    #[error(
        "flag '--{name}' ({from}) needs {feature}, which this version does not have; it refuses to start without it"
    )]
    Refused {
        name: &'static str,
        from: Source,
        feature: &'static str,
    },
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|name| format!(" (did you mean '--{name}'?)"))
        .unwrap_or_default()
}

/// All flags of one process with their values.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    tables: Vec<&'static [Flag]>,
    values: BTreeMap<&'static str, Setting>,
}

/// Flags whose value is a path to a secret or an address: `file://` in them is not the value's text.
const FILE_KEPT: &[&str] = &[
    "master",
    "credential",
    "credentials",
    "http_credentials",
    "jwt_secret_key",
];

impl Settings {
    /// Resolves `args` (without the program), the environment and a variables file against the
    /// tables. What is not a flag comes back as positional arguments.
    pub(crate) fn resolve(
        tables: Vec<&'static [Flag]>,
        args: &[String],
        environment: impl Fn(&str) -> Option<String>,
        vars: Option<&Vars>,
    ) -> Result<(Self, Vec<String>), FlagError> {
        let mut settings = Self {
            tables,
            values: BTreeMap::new(),
        };
        let positional = settings.command_line(args)?;
        for flag in settings.tables.clone().into_iter().flatten() {
            if settings.values.contains_key(flag.names[0]) {
                continue;
            }
            let setting = from_environment(flag, &environment)
                .or_else(|| vars.and_then(|vars| vars.flag(flag.names[0])))
                .unwrap_or(Setting {
                    value: flag.default.map(str::to_owned),
                    source: Source::Default,
                });
            settings.values.insert(flag.names[0], setting);
        }
        settings.read_files()?;
        settings.check_booleans()?;
        Ok((settings, positional))
    }

    fn command_line(&mut self, args: &[String]) -> Result<Vec<String>, FlagError> {
        let mut positional = Vec::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(body) = arg.strip_prefix("--") else {
                positional.push(arg.clone());
                continue;
            };
            if body.is_empty() {
                positional.extend(args.cloned());
                break;
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let (flag, negated) = self.find(name)?;
            let canonical = flag.names[0];
            let value = match (negated, flag.boolean, value) {
                (true, false, _) => return Err(FlagError::NotBoolean(canonical)),
                (true, true, Some(_)) => return Err(FlagError::NegatedWithValue(canonical)),
                (true, true, None) => "false".to_owned(),
                (false, true, None) => "true".to_owned(),
                (false, _, Some(value)) => value,
                (false, false, None) => {
                    args.next().cloned().ok_or(FlagError::NoValue(canonical))?
                }
            };
            let setting = Setting {
                value: Some(value),
                source: Source::CommandLine,
            };
            if self.values.insert(canonical, setting).is_some() {
                return Err(FlagError::Twice(canonical));
            }
        }
        Ok(positional)
    }

    fn find(&self, name: &str) -> Result<(&'static Flag, bool), FlagError> {
        let by_name = |name: &str| {
            self.tables
                .iter()
                .flat_map(|table| table.iter())
                .find(|flag| flag.names.contains(&name))
        };
        if let Some(flag) = by_name(name) {
            return Ok((flag, false));
        }
        if let Some(flag) = name.strip_prefix("no-").and_then(by_name) {
            return Ok((flag, true));
        }
        let names = self
            .tables
            .iter()
            .flat_map(|t| t.iter())
            .flat_map(|f| f.names.iter().copied());
        Err(FlagError::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, names),
        })
    }

    fn read_files(&mut self) -> Result<(), FlagError> {
        for (name, setting) in &mut self.values {
            let Some(path) = setting
                .value
                .as_deref()
                .and_then(|v| v.strip_prefix("file://"))
            else {
                continue;
            };
            if FILE_KEPT.contains(name) {
                continue;
            }
            match std::fs::read_to_string(path) {
                Ok(text) => setting.value = Some(text.trim_end_matches('\n').to_owned()),
                Err(error) => {
                    let reason = format!("cannot read '{path}': {error}");
                    return Err(FlagError::Invalid {
                        name,
                        from: setting.source.clone(),
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_booleans(&self) -> Result<(), FlagError> {
        for flag in self
            .tables
            .iter()
            .flat_map(|t| t.iter())
            .filter(|flag| flag.boolean)
        {
            let setting = &self.values[flag.names[0]];
            if !matches!(
                setting.value.as_deref(),
                None | Some("true" | "false" | "1" | "0")
            ) {
                let reason = format!(
                    "'{}' is not true or false",
                    setting.value.as_deref().unwrap_or_default()
                );
                return Err(FlagError::Invalid {
                    name: flag.names[0],
                    from: setting.source.clone(),
                    reason,
                });
            }
        }
        Ok(())
    }

    /// The value of a flag of these tables.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.value.as_deref()
    }

    /// Whether a boolean flag is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name), Some("true" | "1"))
    }

    /// Whether somebody gave it a value.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// The setting of a flag that somebody gave a value.
    pub(crate) fn given(&self, name: &str) -> Option<Setting> {
        self.values
            .get(name)
            .filter(|setting| setting.source != Source::Default)
            .cloned()
    }

    /// Where the value of a flag came from.
    pub(crate) fn source(&self, name: &str) -> Source {
        self.values
            .get(name)
            .map_or(Source::Default, |setting| setting.source.clone())
    }

    /// Sets a flag that nobody gave a value.
    pub(crate) fn set_unless_given(&mut self, name: &'static str, setting: Setting) {
        if !self.is_given(name) {
            self.values.insert(name, setting);
        }
    }

    /// Sets a value as if it were the default.
    pub(crate) fn set_default(&mut self, name: &'static str, value: String) {
        self.set_unless_given(
            name,
            Setting {
                value: Some(value),
                source: Source::Default,
            },
        );
    }

    /// The value of a flag, read by `parse`; `None` when it has none.
    pub(crate) fn parsed<T, E: fmt::Display>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, FlagError> {
        let Some(setting) = self.values.get(name) else {
            return Ok(None);
        };
        let Some(text) = setting.value.as_deref() else {
            return Ok(None);
        };
        parse(text).map(Some).map_err(|error| FlagError::Invalid {
            name,
            from: setting.source.clone(),
            reason: format!("'{text}': {error}"),
        })
    }

    /// Warnings about flags whose feature is not there yet.
    ///
    /// # Errors
    /// A flag that must not be ignored.
    pub(crate) fn unsupported(&self) -> Result<Vec<String>, FlagError> {
        let mut warnings = Vec::new();
        for flag in self.tables.iter().flat_map(|t| t.iter()) {
            let name = flag.names[0];
            let setting = &self.values[name];
            // A value that says what the default says asks for nothing.
            if setting.source == Source::Default || setting.value.as_deref() == flag.default {
                continue;
            }
            match flag.support {
                Support::Works => {}
                Support::NoEffect(why) => {
                    warnings.push(format!(
                        "--{name} ({}) has no effect: {why}",
                        setting.source
                    ));
                }
                Support::Later(feature) => warnings.push(format!(
                    "--{name} ({}) has no effect yet: {feature} is not part of this version",
                    setting.source
                )),
                Support::Refused(_) if matches!(setting.value.as_deref(), Some("false" | "0")) => {}
                Support::Refused(feature) => {
                    return Err(FlagError::Refused {
                        name,
                        from: setting.source.clone(),
                        feature,
                    });
                }
            }
        }
        Ok(warnings)
    }

    /// Every flag with its value, for `tepui config`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.values.iter().map(|(name, setting)| (*name, setting))
    }

    /// Names and values as `/flags` of one role shows them: its own flags, also where two roles run in
    /// one process, with its own defaults. Those without a value are left out, secrets are masked.
    pub(crate) fn published(&self, role: &[Flag]) -> BTreeMap<String, String> {
        let value = |flag: &Flag| {
            let name = flag.names[0];
            let value = match self.is_given(name) {
                true => self.text(name)?,
                false => flag.default?,
            };
            Some((name.to_owned(), shown(name, value)))
        };
        role.iter().filter_map(value).collect()
    }

    /// `--help` of these tables.
    pub(crate) fn help(tables: &[&'static [Flag]]) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for flag in tables.iter().flat_map(|t| t.iter()) {
            let name = flag.names[0];
            let shown = if flag.boolean {
                format!("--[no-]{name}")
            } else {
                format!("--{name}=VALUE")
            };
            let _ = write!(text, "  {shown:<44} {}", flag.help);
            if let Some(default) = flag.default.filter(|d| !d.is_empty()) {
                let _ = write!(text, " (default: {default})");
            }
            match flag.support {
                Support::Works => {}
                Support::NoEffect(why) => {
                    let _ = write!(text, " [no effect: {why}]");
                }
                Support::Later(feature) | Support::Refused(feature) => {
                    let _ = write!(text, " [not yet: {feature}]");
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A value for others to see: credentials may stand in a flag as text, and a path to them is no secret.
pub(crate) fn shown(name: &str, value: &str) -> String {
    let secret = matches!(
        name,
        "credentials" | "credential" | "http_credentials" | "jwt_secret_key" | "secret"
    );
    if secret && !value.is_empty() && !value.starts_with('/') && !value.starts_with("file://") {
        return "(secret)".to_owned();
    }
    // `zk://user:password@…`, whatever flag it is in.
    match value.split_once("zk://") {
        Some((before, rest)) if rest.contains('@') => {
            let after = rest.rsplit_once('@').map_or("", |(_, after)| after);
            format!("{before}zk://***@{after}")
        }
        _ => value.to_owned(),
    }
}

fn from_environment(flag: &Flag, environment: &impl Fn(&str) -> Option<String>) -> Option<Setting> {
    flag.names.iter().find_map(|name| {
        let variable = format!("MESOS_{}", name.to_uppercase());
        let value = environment(&variable)?;
        Some(Setting {
            value: Some(value),
            source: Source::Environment(variable),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &[&str], env: &[(&str, &str)]) -> Result<(Settings, Vec<String>), FlagError> {
        let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
        let lookup = |name: &str| {
            env.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        Settings::resolve(vec![leader::FLAGS], &args, lookup, None)
    }

    #[test]
    fn every_form_of_a_flag_is_understood() {
        let (settings, rest) = resolve(
            &[
                "--port=1",
                "--no-hostname_lookup",
                "--quiet",
                "--cluster",
                "c",
                "--",
                "--x",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(settings.text("port"), Some("1"));
        assert!(!settings.is_on("hostname_lookup"));
        assert!(settings.is_on("quiet"));
        assert_eq!(settings.text("cluster"), Some("c"));
        assert_eq!(settings.text("allocation_interval"), Some("1secs"));
        assert_eq!(rest, ["--x"]);
    }

    #[test]
    fn older_names_and_the_environment_are_understood() {
        let env = [("MESOS_SLAVE_PING_TIMEOUT", "5secs"), ("MESOS_PORT", "7")];
        let (settings, _) = resolve(&["--port=8"], &env).unwrap();
        assert_eq!(settings.text("agent_ping_timeout"), Some("5secs"));
        assert_eq!(
            settings.text("port"),
            Some("8"),
            "the command line beats the environment"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = |args: &[&str]| resolve(args, &[]).unwrap_err().to_string();
        assert_eq!(
            error(&["--prot=1"]),
            "unknown flag '--prot' (did you mean '--port'?)"
        );
        assert_eq!(
            error(&["--port"]),
            "flag '--port' needs a value: --port=VALUE"
        );
        assert_eq!(error(&["--no-port"]), "flag '--no-port' is not boolean");
        assert_eq!(
            error(&["--no-quiet=1"]),
            "flag '--quiet' takes no value in its negated form"
        );
        assert_eq!(
            error(&["--port=1", "--port=2"]),
            "flag '--port' is given twice"
        );
        assert_eq!(
            error(&["--quiet=maybe"]),
            "flag '--quiet' (command line): 'maybe' is not true or false"
        );
        assert!(
            error(&["--acls=file:///nowhere"])
                .starts_with("flag '--acls' (command line): cannot read '/nowhere'")
        );
    }

    #[test]
    fn features_that_are_not_there_are_said_by_name_and_unsafe_ones_refused() {
        let (settings, _) = resolve(&["--hooks=a", "--quorum=2"], &[]).unwrap();
        let warnings = settings.unsupported().unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings
                .iter()
                .any(|w| w.starts_with("--hooks (command line)"))
        );
        let (settings, _) = resolve(&["--acls={}"], &[]).unwrap();
        assert!(matches!(
            settings.unsupported(),
            Err(FlagError::Refused { name: "acls", .. })
        ));
        let (settings, _) = resolve(&["--authenticate_frameworks"], &[]).unwrap();
        assert_eq!(settings.unsupported(), Ok(vec![]));
    }

    #[test]
    fn secrets_are_not_shown() {
        let args = ["--credentials={\"secret\":\"hush\"}", "--cluster=c"];
        let (settings, _) = resolve(&args, &[]).unwrap();
        let published = settings.published(leader::FLAGS);
        assert_eq!(published["credentials"], "(secret)");
        assert_eq!(published["cluster"], "c");
        assert_eq!(shown("credential", "/etc/credential"), "/etc/credential");
        assert_eq!(shown("credential", "file:///c"), "file:///c");
        for flag in ["zk", "master"] {
            assert_eq!(shown(flag, "zk://me:p@s/s@a:1/m"), "zk://***@a:1/m");
            assert_eq!(shown(flag, "zk://a:1/m"), "zk://a:1/m");
        }
    }

    #[test]
    fn a_role_shows_its_own_flags_and_defaults() {
        let tables = vec![leader::FLAGS, follower::FLAGS];
        let args = ["--cluster=c".to_owned()];
        let (settings, _) = Settings::resolve(tables, &args, |_| None, None).unwrap();
        let (leads, follows) = (
            settings.published(leader::FLAGS),
            settings.published(follower::FLAGS),
        );
        assert_eq!(
            (leads["cluster"].as_str(), follows.get("cluster")),
            ("c", None)
        );
        assert_eq!(leads["http_authenticators"], "basic");
        assert_eq!(follows.get("http_authenticators"), None);
    }

    #[test]
    fn no_table_names_a_flag_twice() {
        for tables in [
            vec![leader::FLAGS],
            vec![follower::FLAGS],
            vec![mixed::FLAGS],
        ] {
            let mut seen = std::collections::BTreeSet::new();
            for name in tables.into_iter().flatten().flat_map(|flag| flag.names) {
                assert!(seen.insert(name), "{name}");
            }
        }
    }
}
