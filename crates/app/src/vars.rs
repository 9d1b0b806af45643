//! The YAML variables of `--vars FILE`: what an inventory says about a machine.
//!
//! Variables become flags ([`Vars::flag`]); a flag given on the command line or in the environment
//! wins. An unknown or ill-typed variable is an error that names the file, the line and the nearest
//! valid name.

use crate::{
    flags::{Setting, Source},
    nearest::nearest,
};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use std::{fmt, path::Path};
use tepui_auth::{Credential, Credentials, Secret};

/// Variables and their defaults, as text.
pub(crate) const VARIABLES: &[Variable] = &[
    Variable {
        name: "mesos_mode",
        kind: Kind::Mode,
        default: Some("follower"),
    },
    Variable {
        name: "mesos_log_dir",
        kind: Kind::Text,
        default: Some("/var/log/mesos"),
    },
    Variable {
        name: "mesos_work_dir",
        kind: Kind::Text,
        default: Some("/var/run/mesos"),
    },
    Variable {
        name: "mesos_leader_port",
        kind: Kind::Port,
        default: Some("5050"),
    },
    Variable {
        name: "mesos_follower_port",
        kind: Kind::Port,
        default: Some("5051"),
    },
    Variable {
        name: "mesos_leader_cmd",
        kind: Kind::Text,
        default: Some("mesos-master"),
    },
    Variable {
        name: "mesos_follower_cmd",
        kind: Kind::Text,
        default: Some("mesos-slave"),
    },
    Variable {
        name: "mesos_attributes",
        kind: Kind::Texts,
        default: None,
    },
    Variable {
        name: "mesos_resources",
        kind: Kind::Texts,
        default: Some("ports(*):[4000-5000, 7000-8000, 9000-10000, 25000-26000, 31000-32000]"),
    },
    Variable {
        name: "mesos_cluster",
        kind: Kind::Text,
        default: Some("mantl"),
    },
    Variable {
        name: "mesos_zk_hosts",
        kind: Kind::TextOrTexts,
        default: None,
    },
    Variable {
        name: "mesos_zk_dns",
        kind: Kind::Text,
        default: Some("zookeeper.service.consul"),
    },
    Variable {
        name: "mesos_zk_port",
        kind: Kind::Port,
        default: Some("2181"),
    },
    Variable {
        name: "mesos_zk_chroot",
        kind: Kind::Text,
        default: Some("mesos"),
    },
    Variable {
        name: "mesos_credentials",
        kind: Kind::Credentials,
        default: None,
    },
    Variable {
        name: "mesos_authenticate_frameworks",
        kind: Kind::Boolean,
        default: None,
    },
    Variable {
        name: "mesos_authenticate_followers",
        kind: Kind::Boolean,
        default: None,
    },
    Variable {
        name: "mesos_follower_principal",
        kind: Kind::Text,
        default: Some("follower"),
    },
    Variable {
        name: "mesos_follower_secret",
        kind: Kind::Text,
        default: None,
    },
    Variable {
        name: "mesos_logging_level",
        kind: Kind::Level,
        default: Some("WARNING"),
    },
];

/// One variable.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    kind: Kind,
    pub(crate) default: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Texts,
    TextOrTexts,
    Port,
    Boolean,
    Mode,
    Level,
    Credentials,
}

impl Kind {
    fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Texts => "a list of texts",
            Self::TextOrTexts => "a text or a list of texts",
            Self::Port => "a port number (1 to 65535)",
            Self::Boolean => "true or false",
            Self::Mode => "leader, follower or mixed",
            Self::Level => "INFO, WARNING or ERROR",
            Self::Credentials => "a list of {principal, secret}",
        }
    }
}

/// A variable's value in the file.
#[derive(Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Texts(Vec<String>),
    Credentials(Vec<Credential>),
}

/// A variables file that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum VarsError {
    #[error("cannot read {file}: {reason}")]
    Unreadable { file: String, reason: String },
    #[error("{file}:{line}: {reason}")]
    Syntax {
        file: String,
        line: usize,
        reason: String,
    },
    #[error("{file}:{line}: unknown variable '{name}'{}", .nearest.map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default())]
    Unknown {
        file: String,
        line: usize,
        name: String,
        nearest: Option<&'static str>,
    },
    #[error("{file}:{line}: {name} must be {expected}, not {found}")]
    Type {
        file: String,
        line: usize,
        name: &'static str,
        expected: &'static str,
        found: String,
    },
}

/// What a variables file says, with the line of each variable.
#[derive(Clone)]
pub(crate) struct Vars {
    file: String,
    values: Vec<(&'static str, usize, Value)>,
}

/// Secrets are never printed.
impl fmt::Debug for Vars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vars")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Vars {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self, VarsError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) => Err(VarsError::Unreadable {
                file,
                reason: error.to_string(),
            }),
        }
    }

    /// Reads a text; `file` is for messages.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, VarsError> {
        let syntax = |line, reason: String| VarsError::Syntax {
            file: file.to_owned(),
            line,
            reason,
        };
        let documents = MarkedYaml::load_from_str(text)
            .map_err(|e| syntax(e.marker().line(), e.info().to_owned()))?;
        let mut vars = Self {
            file: file.to_owned(),
            values: Vec::new(),
        };
        let Some(document) = documents.first() else {
            return Ok(vars);
        };
        let mapping = match &document.data {
            YamlData::Mapping(mapping) => mapping,
            YamlData::Value(Scalar::Null) => return Ok(vars),
            _ => {
                return Err(syntax(
                    document.span.start.line(),
                    "expected 'name: value' lines".to_owned(),
                ));
            }
        };
        for (key, node) in mapping {
            let line = key.span.start.line();
            let name = scalar_text(key)
                .ok_or_else(|| syntax(line, "a variable's name must be a text".to_owned()))?;
            let Some(variable) = VARIABLES.iter().find(|v| v.name == name) else {
                let nearest = nearest(&name, VARIABLES.iter().map(|v| v.name));
                return Err(VarsError::Unknown {
                    file: file.to_owned(),
                    line,
                    name,
                    nearest,
                });
            };
            if let Some(value) = read_value(file, variable, node)? {
                vars.values.push((variable.name, line, value));
            }
        }
        Ok(vars)
    }

    fn given(&self, name: &str) -> Option<(&'static str, usize, &Value)> {
        self.values
            .iter()
            .find(|(n, ..)| *n == name)
            .map(|(n, line, value)| (*n, *line, value))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.given(name) {
            Some((_, _, Value::Text(text))) => Some(text.clone()),
            Some((_, _, Value::Texts(texts))) => Some(texts.join(",")),
            Some((_, _, Value::Credentials(_))) => None,
            None => VARIABLES
                .iter()
                .find(|v| v.name == name)?
                .default
                .map(str::to_owned),
        }
    }

    /// `mesos_mode`.
    pub(crate) fn mode(&self) -> String {
        self.text("mesos_mode")
            .unwrap_or_else(|| "follower".to_owned())
    }

    /// Every variable with its value and where it came from, for `tepui config`. Secrets are masked.
    pub(crate) fn describe(&self) -> Vec<(&'static str, String, Source)> {
        VARIABLES
            .iter()
            .map(|variable| {
                let given = self.given(variable.name);
                let value = match given {
                    Some((_, _, Value::Credentials(all))) => format!("({} credentials)", all.len()),
                    Some(_) if variable.name == "mesos_follower_secret" => "(secret)".to_owned(),
                    _ => self.text(variable.name).unwrap_or_default(),
                };
                let source =
                    given.map_or(Source::Default, |(name, line, _)| self.source(name, line));
                (variable.name, value, source)
            })
            .collect()
    }

    fn source(&self, name: &'static str, line: usize) -> Source {
        Source::Vars {
            file: self.file.clone(),
            line,
            name,
        }
    }

    /// The value that the variables give to a flag of either role.
    pub(crate) fn flag(&self, flag: &str) -> Option<Setting> {
        if let Some(implied) = self.implied(flag) {
            return Some(implied);
        }
        let name = match flag {
            "log_dir" => "mesos_log_dir",
            "work_dir" => "mesos_work_dir",
            "leader_port" => "mesos_leader_port",
            "follower_port" => "mesos_follower_port",
            "cluster" => "mesos_cluster",
            "attributes" => "mesos_attributes",
            "resources" => "mesos_resources",
            "logging_level" => "mesos_logging_level",
            "credentials" => "mesos_credentials",
            "credential" => "mesos_follower_secret",
            "authenticate_frameworks" => "mesos_authenticate_frameworks",
            "authenticate_agents" => "mesos_authenticate_followers",
            // Both roles find the election through ZooKeeper.
            "zk" | "master" => return self.zookeeper(),
            _ => return None,
        };
        let value = match (flag, self.given(name)) {
            (_, Some((_, _, Value::Texts(texts)))) => texts.join(";"),
            ("credentials", Some((_, _, Value::Credentials(all)))) if !all.is_empty() => {
                format!("({} in the file)", all.len())
            }
            ("credential", Some(_)) => "(in the file)".to_owned(),
            _ => self.text(name)?,
        };
        let source = match self.given(name) {
            Some((name, line, _)) => self.source(name, line),
            None => Source::Default,
        };
        Some(Setting {
            value: Some(value),
            source,
        })
    }

    /// Who may authenticate with a leader: `mesos_credentials`, and the follower of the same file.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        let listed = match self.given("mesos_credentials") {
            Some((_, _, Value::Credentials(listed))) => listed.clone(),
            _ => Vec::new(),
        };
        let all: Credentials = self
            .follower_credential()
            .into_iter()
            .chain(listed)
            .collect();
        (!all.is_empty()).then_some(all)
    }

    /// Who the follower says it is, when it has a secret.
    pub(crate) fn follower_credential(&self) -> Option<Credential> {
        self.given("mesos_follower_secret")?;
        let secret = self.text("mesos_follower_secret")?;
        let principal = self.text("mesos_follower_principal")?;
        Some(Credential::new(principal, Secret::new(secret.into_bytes())))
    }

    /// Who is given credentials means them to be asked for, unless the file says otherwise.
    fn implied(&self, flag: &str) -> Option<Setting> {
        let (asked, because) = match flag {
            "authenticate_frameworks" => ("mesos_authenticate_frameworks", "mesos_credentials"),
            "authenticate_agents" => ("mesos_authenticate_followers", "mesos_follower_secret"),
            _ => return None,
        };
        if self.given(asked).is_some() {
            return None;
        }
        let (name, line, value) = self.given(because)?;
        (*value != Value::Credentials(Vec::new())).then(|| Setting {
            value: Some("true".to_owned()),
            source: self.source(name, line),
        })
    }

    /// `zk://host:port,…/chroot`, when the file names ZooKeeper itself; its defaults alone do not
    /// make a cluster.
    fn zookeeper(&self) -> Option<Setting> {
        let (name, line, _) = self
            .given("mesos_zk_hosts")
            .or_else(|| self.given("mesos_zk_dns"))?;
        let port = self.text("mesos_zk_port")?;
        let hosts = match self.given("mesos_zk_hosts") {
            Some(_) => self.text("mesos_zk_hosts")?,
            None => self.text("mesos_zk_dns")?,
        };
        let hosts: Vec<_> = hosts
            .split(',')
            .map(str::trim)
            .map(|host| {
                if host.contains(':') {
                    host.to_owned()
                } else {
                    format!("{host}:{port}")
                }
            })
            .collect();
        let chroot = self.text("mesos_zk_chroot")?;
        let value = format!(
            "zk://{}/{}",
            hosts.join(","),
            chroot.trim_start_matches('/')
        );
        Some(Setting {
            value: Some(value),
            source: self.source(name, line),
        })
    }
}

/// Reads one value; `None` for null, which leaves the default.
fn read_value(
    file: &str,
    variable: &Variable,
    node: &MarkedYaml<'_>,
) -> Result<Option<Value>, VarsError> {
    let wrong = |found: String| VarsError::Type {
        file: file.to_owned(),
        line: node.span.start.line(),
        name: variable.name,
        expected: variable.kind.expected(),
        found,
    };
    if matches!(&node.data, YamlData::Value(Scalar::Null)) {
        return Ok(None);
    }
    let text = |accept: &dyn Fn(&str) -> bool| match scalar_text(node) {
        Some(text) if accept(&text) => Ok(Value::Text(text)),
        Some(text) => Err(wrong(format!("'{text}'"))),
        None => Err(wrong(describe(node).to_owned())),
    };
    let texts = || match &node.data {
        YamlData::Sequence(items) => items
            .iter()
            .map(|item| {
                scalar_text(item)
                    .ok_or_else(|| wrong(format!("a list that holds {}", describe(item))))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Texts),
        _ => Err(wrong(describe(node).to_owned())),
    };
    let value = match variable.kind {
        Kind::Text => text(&|_| true)?,
        Kind::Texts => texts()?,
        Kind::TextOrTexts if matches!(&node.data, YamlData::Sequence(_)) => texts()?,
        Kind::TextOrTexts => text(&|_| true)?,
        Kind::Port => text(&|t| t.parse::<u16>().is_ok_and(|port| port != 0))?,
        Kind::Mode => text(&|t| matches!(t, "leader" | "follower" | "mixed"))?,
        Kind::Level => text(&|t| matches!(t, "INFO" | "WARNING" | "ERROR"))?,
        Kind::Boolean => match &node.data {
            YamlData::Value(Scalar::Boolean(on)) => Value::Text(on.to_string()),
            _ => {
                return Err(wrong(
                    scalar_text(node).map_or(describe(node).to_owned(), |t| format!("'{t}'")),
                ));
            }
        },
        Kind::Credentials => Value::Credentials(credentials(node).map_err(wrong)?),
    };
    Ok(Some(value))
}

/// Every `{principal, secret}`; the error says what is there instead.
fn credentials(node: &MarkedYaml<'_>) -> Result<Vec<Credential>, String> {
    let YamlData::Sequence(items) = &node.data else {
        return Err(describe(node).to_owned());
    };
    let mut credentials = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let YamlData::Mapping(fields) = &item.data else {
            return Err(format!(
                "a list whose item {} is {}",
                index + 1,
                describe(item)
            ));
        };
        let field = |key: &str| {
            let mut named = fields
                .iter()
                .filter(|(name, _)| scalar_text(name).is_some_and(|name| name == key));
            let value = named.next().and_then(|(_, value)| scalar_text(value));
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("a list whose item {} has no {key}", index + 1))
        };
        let (principal, secret) = (field("principal")?, field("secret")?);
        if fields.len() != 2 {
            return Err(format!(
                "a list whose item {} has other fields than principal and secret",
                index + 1
            ));
        }
        credentials.push(Credential::new(principal, Secret::new(secret.into_bytes())));
    }
    Ok(credentials)
}

fn scalar_text(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::FloatingPoint(number)) => Some(number.to_string()),
        _ => None,
    }
}

fn describe(node: &MarkedYaml<'_>) -> &'static str {
    match &node.data {
        YamlData::Sequence(_) => "a list",
        YamlData::Mapping(_) => "a mapping",
        YamlData::Value(Scalar::Boolean(_)) => "a boolean",
        YamlData::Value(Scalar::Null) => "nothing",
        YamlData::Value(_) => "a scalar",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Vars::parse("v.yml", text).unwrap_err().to_string()
    }

    #[test]
    fn variables_become_flags_and_remember_their_line() {
        let text = "---\nmesos_mode: mixed\nmesos_attributes:\n  - rack:a\n  - node_id:n1\nmesos_leader_port: 6050\n";
        let vars = Vars::parse("v.yml", text).unwrap();
        assert_eq!(vars.mode(), "mixed");
        let attributes = vars.flag("attributes").unwrap();
        assert_eq!(attributes.value.as_deref(), Some("rack:a;node_id:n1"));
        assert_eq!(attributes.source.to_string(), "v.yml:3 (mesos_attributes)");
        assert_eq!(
            vars.flag("leader_port").unwrap().value.as_deref(),
            Some("6050")
        );
        let level = vars.flag("logging_level").unwrap();
        assert_eq!(
            (level.value.as_deref(), level.source),
            (Some("WARNING"), Source::Default)
        );
        assert_eq!(vars.flag("zk"), None, "defaults alone name no ZooKeeper");
        assert_eq!(vars.flag("credentials"), None);
    }

    #[test]
    fn credentials_turn_authentication_on_unless_the_file_says_otherwise() {
        let on = |text: &str, flag| Vars::parse("v.yml", text).unwrap().flag(flag);
        let value = |setting: Option<Setting>| setting.and_then(|s| s.value);
        let credentials = "mesos_credentials: [{principal: a, secret: b}]\n";
        let implied = on(credentials, "authenticate_frameworks").unwrap();
        assert_eq!(implied.value.as_deref(), Some("true"));
        assert_eq!(implied.source.to_string(), "v.yml:1 (mesos_credentials)");
        assert_eq!(on(credentials, "authenticate_agents"), None);
        assert_eq!(
            on("mesos_credentials: []\n", "authenticate_frameworks"),
            None
        );
        let off = format!("{credentials}mesos_authenticate_frameworks: false\n");
        assert_eq!(
            value(on(&off, "authenticate_frameworks")).as_deref(),
            Some("false")
        );
        let secret = "mesos_follower_secret: x\n";
        assert_eq!(
            value(on(secret, "authenticate_agents")).as_deref(),
            Some("true")
        );
    }

    #[test]
    fn zookeeper_is_spelled_out() {
        let vars = Vars::parse(
            "v.yml",
            "mesos_zk_hosts: [a, 'b:2182']\nmesos_zk_chroot: /m\n",
        )
        .unwrap();
        let zk = vars.flag("zk").unwrap();
        assert_eq!(zk.value.as_deref(), Some("zk://a:2181,b:2182/m"));
        assert_eq!(vars.flag("master"), Some(zk));
    }

    #[test]
    fn an_empty_file_and_nulls_leave_the_defaults() {
        for text in ["", "---\n", "mesos_mode:\n", "mesos_mode: ~\n"] {
            assert_eq!(
                Vars::parse("v.yml", text).unwrap().mode(),
                "follower",
                "{text:?}"
            );
        }
    }

    #[test]
    fn mistakes_name_file_line_and_nearest_name() {
        assert_eq!(
            error("mesos_mode: leader\nmesos_logdir: /x\n"),
            "v.yml:2: unknown variable 'mesos_logdir' (did you mean 'mesos_log_dir'?)"
        );
        assert_eq!(
            error("\nsomething: 1\n"),
            "v.yml:2: unknown variable 'something'"
        );
        assert_eq!(
            error("mesos_leader_port: 70000\n"),
            "v.yml:1: mesos_leader_port must be a port number (1 to 65535), not '70000'"
        );
        assert_eq!(
            error("mesos_mode: master\n"),
            "v.yml:1: mesos_mode must be leader, follower or mixed, not 'master'"
        );
        assert_eq!(
            error("mesos_resources: cpus:4\n"),
            "v.yml:1: mesos_resources must be a list of texts, not a scalar"
        );
        assert_eq!(
            error("mesos_authenticate_frameworks: yes please\n"),
            "v.yml:1: mesos_authenticate_frameworks must be true or false, not 'yes please'"
        );
        assert_eq!(
            error("mesos_credentials:\n  - principal: a\n"),
            "v.yml:2: mesos_credentials must be a list of {principal, secret}, not a list whose item 1 has no secret"
        );
        assert!(
            error("mesos_mode: [\n").starts_with("v.yml:"),
            "{}",
            error("mesos_mode: [\n")
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "mesos_follower_secret: hunter2\nmesos_credentials: [{principal: p, secret: hunter2}]\n";
        let vars = Vars::parse("v.yml", text).unwrap();
        let shown = format!(
            "{vars:?} {:?} {:?}",
            vars.describe(),
            vars.flag("credentials")
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
