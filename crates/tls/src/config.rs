//! What the variables ask for, checked. Pure: files are named here, not read.
//!
//! Names and defaults follow `3rdparty/libprocess/src/openssl.cpp`: every variable may begin with
//! `LIBPROCESS_SSL_` or, older, with `SSL_`; the former wins. Two names that `docs/ssl.md` has
//! differ from those that its code reads (`VERIFY_DEPTH`, `ECDH_CURVE`); both are taken here.

use crate::ciphers::{self, Suites};
use std::{fmt, path::PathBuf, time::Duration};

/// How often files are looked at for changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// `LIBPROCESS_SSL_VERIFICATION_DEPTH`
const DEPTH: usize = 4;

/// How names in certificates are checked (`LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostnameScheme {
    /// After the handshake, on both sides, by what the peer's address is called.
    Legacy,
    /// During the handshake, on the connecting side, by what it connects to.
    OpenSsl,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM, the node's own certificate first.
    pub cert_file: PathBuf,
    /// PEM, not encrypted.
    pub key_file: PathBuf,
}

/// Who is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Servers we connect to are verified.
    pub server: bool,
    /// Clients that connect to us need a certificate, which is verified.
    pub client: bool,
    /// Certificates between a peer's and an authority's.
    pub depth: usize,
    /// A certificate may name an address.
    pub ip: bool,
    /// How names are checked.
    pub scheme: HostnameScheme,
    /// PEM file of authorities.
    pub ca_file: Option<PathBuf>,
    /// Directory of PEM files of authorities.
    pub ca_dir: Option<PathBuf>,
}

/// Protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// TLS 1.2.
    pub v1_2: bool,
    /// TLS 1.3.
    pub v1_3: bool,
}

/// Everything about TLS of one process.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsConfig {
    /// Who we are. Needed to accept connections.
    pub identity: Option<Identity>,
    /// Who others must be.
    pub verification: Verification,
    /// A peer may do without TLS.
    pub downgrade: bool,
    /// What is spoken.
    pub versions: Versions,
    /// Ciphers and curves.
    pub suites: Suites,
    /// How often files are looked at for changes, at most.
    pub reload_interval: Duration,
}

impl TlsConfig {
    /// For a client that was told nothing: every server is verified by its name or address against
    /// the authorities of this machine.
    pub fn client() -> Self {
        Self {
            identity: None,
            verification: Verification {
                server: true,
                client: false,
                depth: DEPTH,
                ip: true,
                scheme: HostnameScheme::OpenSsl,
                ca_file: None,
                ca_dir: None,
            },
            downgrade: false,
            versions: Versions {
                v1_2: true,
                v1_3: true,
            },
            suites: Suites::default(),
            reload_interval: RELOAD_INTERVAL,
        }
    }

    /// For a server with a certificate, that verifies nobody.
    pub fn server(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        let mut config = Self::client();
        config.identity = Some(Identity {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
        });
        config.verification.server = false;
        config.verification.ip = false;
        config.verification.scheme = HostnameScheme::Legacy;
        config
    }

    /// What the environment asks for, with what is worth saying about it; `None` without
    /// `LIBPROCESS_SSL_ENABLED`, and then no other variable is looked at.
    ///
    /// # Errors
    /// Names the variable that cannot be followed.
    pub fn from_variables(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Self, Vec<Note>)>, ConfigError> {
        let mut variables = Variables::new(&get);
        if !variables.boolean("ENABLED", false)? {
            return Ok(None);
        }
        let downgrade = variables.boolean("SUPPORT_DOWNGRADE", false)?;
        if downgrade {
            variables.note(
                "LIBPROCESS_SSL_SUPPORT_DOWNGRADE",
                "is on: peers that do not speak TLS are spoken to in the clear",
            );
        }
        let identity = Identity {
            key_file: variables.required("KEY_FILE", "a private key")?,
            cert_file: variables.required("CERT_FILE", "a certificate")?,
        };
        let verification = variables.verification()?;
        if downgrade && (verification.server || verification.client) {
            variables.note(
                "LIBPROCESS_SSL_SUPPORT_DOWNGRADE",
                "lets peers get round the verification of certificates that is asked for",
            );
        }
        let versions = variables.versions()?;
        let suites = variables.suites(versions)?;
        let config = Self {
            identity: Some(identity),
            verification,
            downgrade,
            versions,
            suites,
            reload_interval: RELOAD_INTERVAL,
        };
        Ok(Some((config, variables.notes)))
    }

    /// For a client that connects to an `https` address though TLS is not switched on for all it
    /// does: authorities and a certificate of its own are taken from the variables
    /// (`LIBPROCESS_SSL_` only: `SSL_CERT_FILE` is what other programs call their authorities), and
    /// the server is always verified.
    ///
    /// # Errors
    /// A certificate without its key, or the other way round.
    pub fn client_from_variables(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let path = |name: &str| {
            get(&format!("LIBPROCESS_SSL_{name}"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let mut config = Self::client();
        config.verification.ca_file = path("CA_FILE");
        config.verification.ca_dir = path("CA_DIR");
        config.identity = match (path("CERT_FILE"), path("KEY_FILE")) {
            (Some(cert_file), Some(key_file)) => Some(Identity {
                cert_file,
                key_file,
            }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::Missing {
                    variable: "LIBPROCESS_SSL_KEY_FILE".to_owned(),
                    what: "the private key of LIBPROCESS_SSL_CERT_FILE",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Missing {
                    variable: "LIBPROCESS_SSL_CERT_FILE".to_owned(),
                    what: "the certificate of LIBPROCESS_SSL_KEY_FILE",
                });
            }
        };
        Ok(config)
    }

    /// Verifies servers against these authorities.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.verification.ca_file = Some(file.into());
        self
    }

    /// Shows this certificate to servers that ask for one.
    #[must_use]
    pub fn identity(mut self, cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
        });
        self
    }
}

/// Whether TLS is switched on, by `LIBPROCESS_SSL_ENABLED` or `SSL_ENABLED`.
///
/// # Errors
/// The value is neither true nor false.
pub fn enabled(get: impl Fn(&str) -> Option<String>) -> Result<bool, ConfigError> {
    Variables::new(&get).boolean("ENABLED", false)
}

/// Something about a variable that whoever set it should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which.
    pub variable: String,
    /// What.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.text)
    }
}

/// A variable that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Neither true nor false.
    #[error("{variable} must be true, 1, false or 0, not '{value}'")]
    Boolean {
        /// Which.
        variable: String,
        /// Its value.
        value: String,
    },
    /// No number.
    #[error("{variable} must be a whole number, not '{value}'")]
    Number {
        /// Which.
        variable: String,
        /// Its value.
        value: String,
    },
    /// TLS without something it needs.
    #[error("TLS is switched on and needs {what}: set {variable} to a file")]
    Missing {
        /// Which.
        variable: String,
        /// What it names.
        what: &'static str,
    },
    /// A path of no characters.
    #[error("{variable} is empty; it must name a file or not be set")]
    Empty {
        /// Which.
        variable: String,
    },
    /// No such scheme.
    #[error("{variable} must be 'legacy' or 'openssl', not '{value}'")]
    Scheme {
        /// Which.
        variable: String,
        /// Its value.
        value: String,
    },
    /// Both versions are off.
    #[error(
        "no protocol is left: LIBPROCESS_SSL_ENABLE_TLS_V1_2 and LIBPROCESS_SSL_ENABLE_TLS_V1_3 are both off, \
         and nothing older is supported"
    )]
    NoVersion,
    /// Nothing of a list is there.
    #[error("{variable}: nothing in '{value}' is supported here; supported are {supported}")]
    NothingSupported {
        /// Which.
        variable: String,
        /// Its value.
        value: String,
        /// What could be asked for.
        supported: String,
    },
}

struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    notes: Vec<Note>,
}

impl<'a> Variables<'a> {
    fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            get,
            notes: Vec::new(),
        }
    }

    /// The name that is set, and its value.
    fn given(&mut self, name: &str) -> Option<(String, String)> {
        let [new, old] = ["LIBPROCESS_SSL_", "SSL_"].map(|prefix| format!("{prefix}{name}"));
        match ((self.get)(&new), (self.get)(&old)) {
            (Some(value), older) => {
                if older.is_some_and(|older| older != value) {
                    self.note(&old, format!("differs from {new}, which counts"));
                }
                Some((new, value))
            }
            (None, Some(value)) => Some((old, value)),
            (None, None) => None,
        }
    }

    fn note(&mut self, variable: &str, text: impl Into<String>) {
        self.notes.push(Note {
            variable: variable.to_owned(),
            text: text.into(),
        });
    }

    fn boolean(&mut self, name: &str, default: bool) -> Result<bool, ConfigError> {
        match self.given(name) {
            None => Ok(default),
            Some((variable, value)) => match value.as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(ConfigError::Boolean { variable, value }),
            },
        }
    }

    fn path(&mut self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        match self.given(name) {
            Some((variable, value)) if value.is_empty() => Err(ConfigError::Empty { variable }),
            Some((_, value)) => {
                // The reference's flags take a `file://` URL wherever they take a path.
                let path = value.strip_prefix("file://").unwrap_or(&value);
                Ok(Some(PathBuf::from(path)))
            }
            None => Ok(None),
        }
    }

    fn required(&mut self, name: &str, what: &'static str) -> Result<PathBuf, ConfigError> {
        self.path(name)?.ok_or_else(|| ConfigError::Missing {
            variable: format!("LIBPROCESS_SSL_{name}"),
            what,
        })
    }

    /// A switch that was renamed: either name turns it on.
    fn renamed(&mut self, name: &str, old: &str) -> Result<bool, ConfigError> {
        let older = self.boolean(old, false)?;
        if older {
            self.note(
                &format!("LIBPROCESS_SSL_{old}"),
                format!("is called LIBPROCESS_SSL_{name} now"),
            );
        }
        Ok(self.boolean(name, false)? || older)
    }

    fn verification(&mut self) -> Result<Verification, ConfigError> {
        let server = self.renamed("VERIFY_SERVER_CERT", "VERIFY_CERT")?;
        let client = self.renamed("REQUIRE_CLIENT_CERT", "REQUIRE_CERT")?;
        let scheme = match self.given("HOSTNAME_VALIDATION_SCHEME") {
            None => HostnameScheme::Legacy,
            Some((variable, value)) => match value.as_str() {
                "legacy" => HostnameScheme::Legacy,
                "openssl" => HostnameScheme::OpenSsl,
                _ => return Err(ConfigError::Scheme { variable, value }),
            },
        };
        Ok(Verification {
            // Who insists on being sure of clients is taken to want the same of servers.
            server: server || client,
            client,
            depth: self.depth()?,
            ip: self.boolean("VERIFY_IPADD", false)?,
            scheme,
            ca_file: self.path("CA_FILE")?,
            ca_dir: self.path("CA_DIR")?,
        })
    }

    fn depth(&mut self) -> Result<usize, ConfigError> {
        let given = match self.given("VERIFICATION_DEPTH") {
            Some(given) => Some(given),
            None => self.given("VERIFY_DEPTH"),
        };
        match given {
            None => Ok(DEPTH),
            Some((variable, value)) => {
                let depth = value.parse::<u32>();
                depth
                    .map(|depth| depth as usize)
                    .map_err(|_| ConfigError::Number { variable, value })
            }
        }
    }

    fn versions(&mut self) -> Result<Versions, ConfigError> {
        for (name, protocol) in [
            ("ENABLE_SSL_V3", "SSL 3.0"),
            ("ENABLE_TLS_V1_0", "TLS 1.0"),
            ("ENABLE_TLS_V1_1", "TLS 1.1"),
        ] {
            if self.boolean(name, false)? {
                self.note(
                    &format!("LIBPROCESS_SSL_{name}"),
                    format!(
                        "is on, but {protocol} is broken and not supported: peers that speak nothing newer are refused"
                    ),
                );
            }
        }
        let versions = Versions {
            v1_2: self.boolean("ENABLE_TLS_V1_2", true)?,
            // Off by default in the reference, whose event loop cannot do it (MESOS-9730).
            v1_3: self.boolean("ENABLE_TLS_V1_3", true)?,
        };
        if versions.v1_2 || versions.v1_3 {
            Ok(versions)
        } else {
            Err(ConfigError::NoVersion)
        }
    }

    fn suites(&mut self, versions: Versions) -> Result<Suites, ConfigError> {
        let mut suites = Suites::default();
        if let Some((variable, value)) = self.given("CIPHERS") {
            let chosen = ciphers::suites(&value);
            if versions.v1_2 && chosen.v1_2.is_empty() {
                return Err(ConfigError::NothingSupported {
                    variable,
                    value,
                    supported: ciphers::supported_suites(),
                });
            }
            if !chosen.unknown.is_empty() {
                self.note(
                    &variable,
                    format!(
                        "names {}, which is not supported here and left out",
                        chosen.unknown.join(", ")
                    ),
                );
            }
            suites.suites = chosen.into_suites();
        }
        let given = match self.given("ECDH_CURVES") {
            Some(given) => Some(given),
            None => self.given("ECDH_CURVE"),
        };
        if let Some((variable, value)) = given
            && value != "auto"
        {
            let (groups, unknown) = ciphers::groups(&value);
            if groups.is_empty() {
                return Err(ConfigError::NothingSupported {
                    variable,
                    value,
                    supported: ciphers::supported_groups(),
                });
            }
            if !unknown.is_empty() {
                self.note(
                    &variable,
                    format!(
                        "names {}, which is not supported here and left out",
                        unknown.join(", ")
                    ),
                );
            }
            suites.groups = groups;
        }
        Ok(suites)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<(TlsConfig, Vec<Note>)>, ConfigError> {
        TlsConfig::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    const ON: [(&str, &str); 3] = [
        ("LIBPROCESS_SSL_ENABLED", "true"),
        ("LIBPROCESS_SSL_CERT_FILE", "/c"),
        ("LIBPROCESS_SSL_KEY_FILE", "/k"),
    ];

    /// With TLS on and these variables besides.
    fn with(more: &[(&str, &str)]) -> Result<(TlsConfig, Vec<String>), String> {
        let all: Vec<_> = more.iter().chain(&ON).copied().collect();
        let (config, notes) = read(&all)
            .map_err(|error| error.to_string())?
            .expect("switched on");
        Ok((config, notes.iter().map(Note::to_string).collect()))
    }

    #[test]
    fn nothing_is_read_unless_tls_is_switched_on() {
        for off in [
            &[][..],
            &[("LIBPROCESS_SSL_ENABLED", "false")],
            &[("SSL_ENABLED", "0"), ("LIBPROCESS_SSL_VERIFY_CERT", "what")],
            // Others use this name for their authorities.
            &[("SSL_CERT_FILE", "/etc/ssl/cert.pem")],
        ] {
            assert!(read(off).expect("readable").is_none(), "{off:?}");
        }
    }

    #[test]
    fn defaults_are_the_references() {
        let (config, notes) = with(&[]).expect("good");
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(
            config.identity,
            Some(Identity {
                cert_file: "/c".into(),
                key_file: "/k".into()
            })
        );
        assert_eq!(
            config.verification,
            Verification {
                server: false,
                client: false,
                depth: 4,
                ip: false,
                scheme: HostnameScheme::Legacy,
                ca_file: None,
                ca_dir: None,
            }
        );
        assert!(!config.downgrade && config.versions.v1_2 && config.versions.v1_3);
        assert_eq!(config.suites, Suites::default());
    }

    #[test]
    fn both_prefixes_count_and_the_newer_one_wins() {
        let old = [
            ("SSL_ENABLED", "1"),
            ("SSL_CERT_FILE", "/old"),
            ("SSL_KEY_FILE", "file:///k"),
        ];
        let (config, _) = read(&old).expect("good").expect("on");
        let identity = config.identity.expect("one");
        assert_eq!(
            (identity.cert_file, identity.key_file),
            ("/old".into(), "/k".into())
        );
        let (config, notes) = with(&[("SSL_CERT_FILE", "/old")]).expect("good");
        assert_eq!(config.identity.expect("one").cert_file, PathBuf::from("/c"));
        assert_eq!(
            notes,
            ["SSL_CERT_FILE differs from LIBPROCESS_SSL_CERT_FILE, which counts"]
        );
    }

    #[test]
    fn clients_that_must_show_certificates_imply_servers_that_are_verified() {
        for (variable, server, client) in [
            ("LIBPROCESS_SSL_VERIFY_CERT", true, false),
            ("LIBPROCESS_SSL_VERIFY_SERVER_CERT", true, false),
            ("LIBPROCESS_SSL_REQUIRE_CERT", true, true),
            ("LIBPROCESS_SSL_REQUIRE_CLIENT_CERT", true, true),
        ] {
            let (config, _) = with(&[(variable, "true")]).expect("good");
            let verification = config.verification;
            assert_eq!(
                (verification.server, verification.client),
                (server, client),
                "{variable}"
            );
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (variables, expected) in [
            (
                &[("LIBPROCESS_SSL_ENABLED", "yes")][..],
                "LIBPROCESS_SSL_ENABLED must be true, 1, false or 0, not 'yes'",
            ),
            (
                &[("LIBPROCESS_SSL_VERIFY_IPADD", "")],
                "LIBPROCESS_SSL_VERIFY_IPADD must be true, 1, false or 0, not ''",
            ),
            (
                &[("LIBPROCESS_SSL_VERIFICATION_DEPTH", "-1")],
                "LIBPROCESS_SSL_VERIFICATION_DEPTH must be a whole number, not '-1'",
            ),
            (
                &[("SSL_VERIFY_DEPTH", "x")],
                "SSL_VERIFY_DEPTH must be a whole number, not 'x'",
            ),
            (
                &[("LIBPROCESS_SSL_CA_DIR", "")],
                "LIBPROCESS_SSL_CA_DIR is empty; it must name a file or not be set",
            ),
            (
                &[("LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME", "strict")],
                "LIBPROCESS_SSL_HOSTNAME_VALIDATION_SCHEME must be 'legacy' or 'openssl', not 'strict'",
            ),
            (
                &[
                    ("LIBPROCESS_SSL_ENABLE_TLS_V1_2", "false"),
                    ("LIBPROCESS_SSL_ENABLE_TLS_V1_3", "false"),
                    ("LIBPROCESS_SSL_ENABLE_TLS_V1_0", "true"),
                ],
                "no protocol is left: LIBPROCESS_SSL_ENABLE_TLS_V1_2 and LIBPROCESS_SSL_ENABLE_TLS_V1_3 are both off, and nothing older is supported",
            ),
            (
                &[("LIBPROCESS_SSL_CIPHERS", "AES128-SHA:RC4-SHA")],
                "LIBPROCESS_SSL_CIPHERS: nothing in 'AES128-SHA:RC4-SHA' is supported here; supported are ",
            ),
            (
                &[("LIBPROCESS_SSL_ECDH_CURVES", "P-521")],
                "LIBPROCESS_SSL_ECDH_CURVES: nothing in 'P-521' is supported here; supported are X25519, P-256, P-384",
            ),
        ] {
            let error = with(variables).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
        for (variables, expected) in [
            (
                &ON[..2],
                "TLS is switched on and needs a private key: set LIBPROCESS_SSL_KEY_FILE to a file",
            ),
            (
                &[ON[0], ON[2]],
                "TLS is switched on and needs a certificate: set LIBPROCESS_SSL_CERT_FILE to a file",
            ),
        ] {
            assert_eq!(read(variables).expect_err("refused").to_string(), expected);
        }
    }

    #[test]
    fn what_is_followed_in_part_is_said() {
        for (variables, expected) in [
            (
                &[("LIBPROCESS_SSL_ENABLE_SSL_V3", "1")][..],
                "LIBPROCESS_SSL_ENABLE_SSL_V3 is on, but SSL 3.0 is broken",
            ),
            (
                &[("LIBPROCESS_SSL_ENABLE_TLS_V1_1", "true")],
                "LIBPROCESS_SSL_ENABLE_TLS_V1_1 is on, but TLS 1.1 is broken",
            ),
            (
                &[("LIBPROCESS_SSL_SUPPORT_DOWNGRADE", "1")],
                "LIBPROCESS_SSL_SUPPORT_DOWNGRADE is on",
            ),
            (
                &[(
                    "LIBPROCESS_SSL_CIPHERS",
                    "AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256",
                )],
                "LIBPROCESS_SSL_CIPHERS names AES128-SHA, which is not supported here and left out",
            ),
            (
                &[("SSL_ECDH_CURVE", "P-521:P-384")],
                "SSL_ECDH_CURVE names P-521, which is not supported here and left out",
            ),
        ] {
            let (_, notes) = with(variables).expect("good");
            assert!(notes[0].starts_with(expected), "{notes:?}");
        }
    }

    #[test]
    fn a_client_verifies_though_tls_is_not_switched_on_for_all() {
        let one = |name: &'static str| {
            TlsConfig::client_from_variables(move |asked| (asked == name).then(|| "/x".to_owned()))
        };
        let config = one("LIBPROCESS_SSL_CA_FILE").expect("good");
        assert_eq!(config.verification.ca_file, Some("/x".into()));
        assert!(config.verification.server && config.verification.ip);
        assert!(one("SSL_CERT_FILE").expect("good").identity.is_none());
        assert!(one("LIBPROCESS_SSL_CERT_FILE").is_err());
        assert!(one("LIBPROCESS_SSL_KEY_FILE").is_err());
    }
}
