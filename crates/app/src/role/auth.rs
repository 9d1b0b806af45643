//! Authentication from flags and variables: which credentials there are, who is asked for them, and
//! what a node refuses to start with (`src/master/master.cpp`, `src/slave/slave.cpp`,
//! `src/common/http.cpp`, `src/credentials/credentials.hpp`; `docs/authentication.md`).
//!
//! Files are read here and nowhere else, their text is wiped, and no message shows what was in them.

use crate::{
    flags::{FlagError, Settings},
    settings::Resolved,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::{io, os::unix::fs::PermissionsExt, sync::Arc};
use tepui_auth::{
    Credential, Credentials, Secret,
    credentials::{CredentialsError, wipe},
    http::{Realm, Scheme},
};
use tepui_follower::config::FollowerAuthentication;
use tepui_model::units;
use tepui_node::{
    follower::FollowerOptions,
    http::{Realms, auth::follower as follower_realm, auth::leader as leader_realm},
    leader::LeaderOptions,
};

/// The one mechanism of libprocess peers, by the reference's name.
const CRAM_MD5: &str = "crammd5";
/// Names of mechanisms for HTTP.
const BASIC: &str = "basic";
const JWT: &str = "jwt";

/// Permissions of everybody but owner and group.
const OTHERS: u32 = 0o007;

/// Why a node does not start. Texts are the reference's where it has them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("Failed to read {what} file '{path}': {source} (see --{flag} flag)")]
    Read {
        what: &'static str,
        path: String,
        flag: &'static str,
        source: io::Error,
    },
    #[error("Failed to parse {what} file '{path}': {source} (see --{flag} flag)")]
    Parse {
        what: &'static str,
        path: String,
        flag: &'static str,
        source: CredentialsError,
    },
    #[error("Credentials file must contain at least one credential (see --{0} flag)")]
    NoCredentials(&'static str),
    #[error("Empty credential file '{0}' (see --credential flag)")]
    EmptyCredential(String),
    #[error("Failed to read the file specified by --jwt_secret_key '{path}': {source}")]
    Key { path: String, source: io::Error },
    #[error("No authenticator specified")]
    NoAuthenticator,
    #[error("Multiple authenticators not supported")]
    ManyAuthenticators,
    #[error(
        "{what} '{name}' not found. Check the spelling (compare to '{CRAM_MD5}'); modules are not supported"
    )]
    Mechanism { what: &'static str, name: String },
    #[error("No HTTP authenticators specified for realm '{0}'")]
    NoHttpAuthenticators(&'static str),
    #[error(
        "Failed to create HTTP authenticator module '{0}': HTTP authenticator '{0}' not found. \
         Check the spelling (compare to '{BASIC}'); modules are not supported"
    )]
    HttpMechanism(String),
    #[error(
        "Failed to create HTTP authenticator module '{BASIC}': No credentials provided for the default '{BASIC}' \
         HTTP authenticator for realm '{0}'"
    )]
    NoHttpCredentials(&'static str),
    #[error(
        "Failed to create HTTP authenticator module '{JWT}': No secret key provided for the default '{JWT}' \
         HTTP authenticator for realm '{0}'"
    )]
    NoKey(&'static str),
    #[error(
        "Missing `--http_framework_authenticators` flag. This must be used in conjunction with \
         `--authenticate_http_frameworks`"
    )]
    NoFrameworkAuthenticators,
    #[error("--jwt_secret_key must be specified when --authenticate_http_executors is set to true")]
    NoExecutorKey,
    #[error(transparent)]
    Flag(#[from] FlagError),
}

/// What a leader asks of others.
#[derive(Debug)]
pub(super) struct LeaderAuth {
    frameworks: bool,
    followers: bool,
    http: [(bool, &'static str); 3],
    credentials: Option<Arc<Credentials>>,
    timeout: Option<std::time::Duration>,
    realms: Realms,
}

impl LeaderAuth {
    /// Reads it all, and the files.
    pub(super) fn read(resolved: &Resolved) -> Result<Self, AuthError> {
        let settings = &resolved.settings;
        let credentials = leader_credentials(resolved)?.map(Arc::new);
        authenticators(settings)?;
        let [readonly, readwrite, frameworks] = [
            "authenticate_http_readonly",
            "authenticate_http_readwrite",
            "authenticate_http_frameworks",
        ]
        .map(|name| settings.is_on(name));
        let schemes = Schemes {
            credentials: credentials.clone(),
            key: None,
        };
        let names = list(settings.text("http_authenticators").unwrap_or(BASIC));
        let mut realms = Realms::default();
        if readonly {
            realms.readonly = Some(schemes.realm(leader_realm::READONLY, &names)?);
        }
        if readwrite {
            realms.readwrite = Some(schemes.realm(leader_realm::READWRITE, &names)?);
        }
        if frameworks {
            let names = settings
                .text("http_framework_authenticators")
                .ok_or(AuthError::NoFrameworkAuthenticators)?;
            realms.api = Some(schemes.realm(leader_realm::FRAMEWORKS, &list(names))?);
        }
        Ok(Self {
            frameworks: settings.is_on("authenticate_frameworks"),
            followers: settings.is_on("authenticate_agents"),
            http: [
                (readonly, "authenticate_http_readonly"),
                (readwrite, "authenticate_http_readwrite"),
                (frameworks, "authenticate_http_frameworks"),
            ],
            credentials,
            timeout: settings.parsed("authentication_v0_timeout", units::parse_duration)?,
            realms,
        })
    }

    /// Flags that would have to be on for nobody unknown to get in.
    pub(super) fn open(&self) -> Vec<&'static str> {
        let peers = [
            (self.frameworks, "authenticate_frameworks"),
            (self.followers, "authenticate_agents"),
        ];
        let all = peers.into_iter().chain(self.http);
        all.filter(|(on, _)| !on).map(|(_, name)| name).collect()
    }

    /// Whether the leader's followers must prove who they are.
    pub(super) fn asks_followers(&self) -> bool {
        self.followers
    }

    /// Tells the leader.
    pub(super) fn apply(self, options: &mut LeaderOptions) {
        if (self.frameworks || self.followers) && self.credentials.is_none() {
            tracing::warn!(
                "No credentials provided, authentication requests will be refused (see --credentials flag)"
            );
        }
        let config = &mut options.config;
        config.authentication.frameworks = self.frameworks;
        config.authentication.followers = self.followers;
        config.authenticator.credentials = self.credentials;
        if let Some(timeout) = self.timeout {
            config.authenticator.timeout = timeout;
        }
        options.realms = self.realms;
    }
}

/// What a follower asks of others, and what it proves itself with.
#[derive(Debug)]
pub(super) struct FollowerAuth {
    authentication: Option<FollowerAuthentication>,
    key: Option<Arc<Secret>>,
    realms: Realms,
}

impl FollowerAuth {
    /// Reads it all, and the files.
    pub(super) fn read(resolved: &Resolved) -> Result<Self, AuthError> {
        let settings = &resolved.settings;
        let name = settings.text("authenticatee").unwrap_or(CRAM_MD5);
        if name != CRAM_MD5 {
            return Err(AuthError::Mechanism {
                what: "Authenticatee",
                name: name.to_owned(),
            });
        }
        let authentication = follower_credential(resolved)?
            .map(|credential| patience(settings, credential))
            .transpose()?;
        let credentials = credentials(settings, "http_credentials")?.map(Arc::new);
        let key = key(settings)?.map(Arc::new);
        let executors = settings.is_on("authenticate_http_executors");
        if executors && key.is_none() {
            return Err(AuthError::NoExecutorKey);
        }
        let schemes = Schemes {
            credentials,
            key: key.clone(),
        };
        let names = http_authenticators(settings, executors);
        // Tokens are for the executor API alone: here nobody checks yet whose containers their
        // holder may touch.
        let named: Vec<&str> = names.iter().copied().filter(|name| *name != JWT).collect();
        let mut realms = Realms::default();
        if executors {
            realms.api = Some(schemes.realm(follower_realm::EXECUTORS, &names)?);
        }
        if settings.is_on("authenticate_http_readonly") {
            realms.readonly = Some(schemes.realm(follower_realm::READONLY, &named)?);
        }
        if settings.is_on("authenticate_http_readwrite") {
            realms.readwrite = Some(schemes.realm(follower_realm::READWRITE, &named)?);
        }
        Ok(Self {
            authentication,
            key,
            realms,
        })
    }

    /// What the follower authenticates with.
    pub(super) fn credential(&self) -> Option<&Credential> {
        self.authentication.as_ref().map(|with| &with.credential)
    }

    /// Flags that would have to be on for nobody unknown to get in.
    pub(super) fn open(&self) -> Vec<&'static str> {
        let realms = [
            (&self.realms.readonly, "authenticate_http_readonly"),
            (&self.realms.readwrite, "authenticate_http_readwrite"),
        ];
        let open = realms.into_iter().filter(|(realm, _)| realm.is_none());
        open.map(|(_, name)| name).collect()
    }

    /// Tells the follower.
    pub(super) fn apply(self, options: &mut FollowerOptions) {
        options.config.authentication = self.authentication;
        options.config.executor_secret_key = self.key;
        options.realms = self.realms;
    }
}

/// `--http_authenticators` of a follower, which has no default of its own. Where two roles run in
/// one process the leader's default must not stand in for it.
fn http_authenticators(settings: &Settings, executors: bool) -> Vec<&str> {
    match settings.text("http_authenticators") {
        Some(names) if settings.is_given("http_authenticators") => list(names),
        _ if executors => vec![BASIC, JWT],
        _ => vec![BASIC],
    }
}

fn patience(
    settings: &Settings,
    credential: Credential,
) -> Result<FollowerAuthentication, FlagError> {
    let mut with = FollowerAuthentication::new(credential);
    let duration = |name| settings.parsed(name, units::parse_duration);
    if let Some(value) = duration("authentication_backoff_factor")? {
        with.backoff_factor = value;
    }
    if let Some(value) = duration("authentication_timeout_min")? {
        with.timeout_min = value;
    }
    if let Some(value) = duration("authentication_timeout_max")? {
        with.timeout_max = value;
    }
    Ok(with)
}

/// `--authenticators`: one, and that the one there is.
fn authenticators(settings: &Settings) -> Result<(), AuthError> {
    let names = list(settings.text("authenticators").unwrap_or(CRAM_MD5));
    match names[..] {
        [] => Err(AuthError::NoAuthenticator),
        [CRAM_MD5] => Ok(()),
        [name] => Err(AuthError::Mechanism {
            what: "Authenticator",
            name: name.to_owned(),
        }),
        _ => Err(AuthError::ManyAuthenticators),
    }
}

fn list(names: &str) -> Vec<&str> {
    let names = names.split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).collect()
}

/// What realms are made of.
struct Schemes {
    credentials: Option<Arc<Credentials>>,
    key: Option<Arc<Secret>>,
}

impl Schemes {
    fn realm(&self, name: &'static str, authenticators: &[&str]) -> Result<Realm, AuthError> {
        if authenticators.is_empty() {
            return Err(AuthError::NoHttpAuthenticators(name));
        }
        let scheme = |authenticator: &&str| match *authenticator {
            BASIC => {
                let credentials = self.credentials.clone();
                let credentials = credentials.ok_or(AuthError::NoHttpCredentials(name))?;
                Ok(Scheme::Basic(credentials))
            }
            JWT => {
                let key = self.key.clone();
                Ok(Scheme::Bearer(key.ok_or(AuthError::NoKey(name))?))
            }
            other => Err(AuthError::HttpMechanism(other.to_owned())),
        };
        let schemes: Result<Vec<_>, _> = authenticators.iter().map(scheme).collect();
        Ok(Realm::new(name, schemes?))
    }
}

/// `--credentials`, or those of the variables file. There, a follower's own secret counts as one of
/// them: it is for the leader to know.
fn leader_credentials(resolved: &Resolved) -> Result<Option<Credentials>, AuthError> {
    match resolved
        .vars
        .as_ref()
        .filter(|_| from_vars(&resolved.settings, "credentials"))
    {
        Some(vars) => Ok(vars.credentials()),
        None => credentials(&resolved.settings, "credentials"),
    }
}

/// `--credential`, or `mesos_follower_secret`.
fn follower_credential(resolved: &Resolved) -> Result<Option<Credential>, AuthError> {
    match resolved
        .vars
        .as_ref()
        .filter(|_| from_vars(&resolved.settings, "credential"))
    {
        Some(vars) => Ok(vars.follower_credential()),
        None => credential(&resolved.settings),
    }
}

/// Whether neither the command line nor the environment says something else.
fn from_vars(settings: &Settings, flag: &str) -> bool {
    matches!(
        settings.source(flag),
        crate::flags::Source::Vars { .. } | crate::flags::Source::Default
    )
}

/// `--credential`: the file of whoever proves who they are, also on command lines of people.
pub(crate) fn credential(settings: &Settings) -> Result<Option<Credential>, AuthError> {
    match settings.text("credential") {
        Some(path) => credential_file(path).map(Some),
        None => Ok(None),
    }
}

/// Reads a file with one credential.
pub(crate) fn credential_file(path: &str) -> Result<Credential, AuthError> {
    let (path, text) = read("credential", "credential", path)?;
    let parsed = Credential::parse(&text);
    wipe(text);
    parsed.map_err(|source| match source {
        CredentialsError::Empty => AuthError::EmptyCredential(path),
        source => AuthError::Parse {
            what: "credential",
            path,
            flag: "credential",
            source,
        },
    })
}

fn credentials(settings: &Settings, flag: &'static str) -> Result<Option<Credentials>, AuthError> {
    let Some(path) = settings.text(flag) else {
        return Ok(None);
    };
    let (path, text) = read("credentials", flag, path)?;
    let parsed = Credentials::parse(&text);
    wipe(text);
    match parsed {
        Ok(credentials) => Ok(Some(credentials)),
        Err(CredentialsError::Empty) => Err(AuthError::NoCredentials(flag)),
        Err(source) => Err(AuthError::Parse {
            what: "credentials",
            path,
            flag,
            source,
        }),
    }
}

/// `--jwt_secret_key`: the file's bytes as they are, as in the reference.
fn key(settings: &Settings) -> Result<Option<Secret>, AuthError> {
    let Some(path) = settings.text("jwt_secret_key") else {
        return Ok(None);
    };
    let path = plain(path);
    warn_if_readable("executor secret key", path);
    keep_out_of_core_dumps();
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(Secret::new(bytes))),
        Err(source) => Err(AuthError::Key {
            path: displayed(path),
            source,
        }),
    }
}

fn read(what: &'static str, flag: &'static str, path: &str) -> Result<(String, String), AuthError> {
    let path = plain(path);
    warn_if_readable(what, path);
    keep_out_of_core_dumps();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((displayed(path), text)),
        Err(source) => Err(AuthError::Read {
            what,
            path: displayed(path),
            flag,
            source,
        }),
    }
}

/// The path in a value of either form.
fn plain(path: &str) -> &str {
    path.strip_prefix("file://").unwrap_or(path)
}

/// A path to be shown. What is none may be the secret itself, given in its place.
fn displayed(path: &str) -> String {
    let odd = |c: char| c.is_whitespace() || matches!(c, '{' | '"' | ':');
    match path.contains(odd) {
        true => "(not a path)".to_owned(),
        false => path.to_owned(),
    }
}

fn warn_if_readable(what: &'static str, path: &str) {
    let Ok(metadata) = std::fs::metadata(path) else {
        // Reading it says why.
        return;
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        tracing::warn!(
            "Permissions on {what} file '{path}' ({mode:04o}) are too open; it is recommended that your {what} \
             file is NOT accessible by others"
        );
    }
}

/// From the first secret on, neither a core dump nor a debugger of the same user shows the memory of
/// this process. The launcher of containers was forked before and is not concerned.
fn keep_out_of_core_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "cannot keep secrets out of core dumps");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{role::Mode, settings};

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            files.write("all", "ops o-secret\nfollower f-secret\n");
            files.write("one", "follower f-secret\n");
            files.write("key", "hushhush");
            files.write("empty", "");
            files.write("torn", r#"{"credentials": [{"secret": "hushhush"}]}"#);
            files
        }
        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }
        fn resolve(&self, mode: Mode, args: &[&str]) -> Resolved {
            let dir = self.0.path().display().to_string();
            let args: Vec<_> = args.iter().map(|arg| arg.replace('@', &dir)).collect();
            settings::resolve(mode, &args).unwrap()
        }
        fn leader(&self, args: &[&str]) -> Result<LeaderAuth, String> {
            LeaderAuth::read(&self.resolve(Mode::Leader, args)).map_err(|e| e.to_string())
        }
        fn follower(&self, args: &[&str]) -> Result<FollowerAuth, String> {
            FollowerAuth::read(&self.resolve(Mode::Follower, args)).map_err(|e| e.to_string())
        }
    }

    #[test]
    fn without_flags_everything_is_open() {
        let files = Files::new();
        assert_eq!(files.leader(&[]).unwrap().open().len(), 5);
        assert_eq!(files.follower(&[]).unwrap().open().len(), 2);
    }

    #[test]
    fn with_all_flags_nothing_is_open() {
        let files = Files::new();
        let leader = files.leader(&[
            "--authenticate",
            "--authenticate_slaves",
            "--authenticate_http",
            "--authenticate_http_readonly",
            "--authenticate_http_frameworks",
            "--http_framework_authenticators=basic",
            "--credentials=file://@/all",
        ]);
        let leader = leader.unwrap();
        assert_eq!(leader.open(), [""; 0]);
        assert!(leader.asks_followers());
        let follower = files.follower(&[
            "--credential=@/one",
            "--authenticate_http_readonly",
            "--authenticate_http_readwrite",
            "--authenticate_http_executors",
            "--jwt_secret_key=@/key",
            "--http_credentials=@/all",
        ]);
        let follower = follower.unwrap();
        assert_eq!(follower.open(), [""; 0]);
        assert_eq!(
            follower.credential().map(|c| c.principal.as_ref()),
            Some("follower")
        );
        assert!(follower.realms.api.is_some());
    }

    #[test]
    fn a_leader_that_cannot_do_what_is_asked_does_not_start() {
        let files = Files::new();
        let refusal = |args: &[&str]| files.leader(args).unwrap_err();
        assert_eq!(
            refusal(&["--authenticate_http_frameworks", "--credentials=@/all"]),
            "Missing `--http_framework_authenticators` flag. This must be used in conjunction with \
             `--authenticate_http_frameworks`"
        );
        assert_eq!(
            refusal(&["--authenticate_http_readonly"]),
            "Failed to create HTTP authenticator module 'basic': No credentials provided for the default 'basic' \
             HTTP authenticator for realm 'mesos-master-readonly'"
        );
        assert_eq!(
            refusal(&["--credentials=@/empty"]),
            "Credentials file must contain at least one credential (see --credentials flag)"
        );
        assert!(refusal(&["--credentials=@/nowhere"]).contains("nowhere': No such file"));
        assert_eq!(
            refusal(&["--authenticators="]),
            "No authenticator specified"
        );
        assert_eq!(
            refusal(&["--authenticators=crammd5,other"]),
            "Multiple authenticators not supported"
        );
        assert!(
            refusal(&["--authenticators=kerberos"])
                .starts_with("Authenticator 'kerberos' not found")
        );
        let other = ["--authenticate_http", "--http_authenticators=kerberos"];
        assert!(refusal(&other).contains("HTTP authenticator 'kerberos' not found"));
    }

    #[test]
    fn a_follower_that_cannot_do_what_is_asked_does_not_start() {
        let files = Files::new();
        let refusal = |args: &[&str]| files.follower(args).unwrap_err();
        assert_eq!(
            refusal(&["--authenticate_http_executors"]),
            "--jwt_secret_key must be specified when --authenticate_http_executors is set to true"
        );
        assert!(
            refusal(&["--authenticate_http_executors", "--jwt_secret_key=@/key"])
                .contains("for realm 'mesos-agent-executor'")
        );
        assert!(refusal(&["--credential=@/empty"]).starts_with("Empty credential file"));
        assert!(refusal(&["--credential=@/all"]).contains("expected one credential, found 2"));
        assert!(refusal(&["--authenticatee=other"]).starts_with("Authenticatee 'other' not found"));
    }

    #[test]
    fn errors_do_not_show_secrets() {
        let files = Files::new();
        let torn = files.leader(&["--credentials=@/torn"]).unwrap_err();
        assert!(torn.contains("'credentials[0].principal' is missing"));
        let inline = r#"--credentials={"credentials":[{"principal":"a","secret":"hushhush"}]}"#;
        let inline = files.leader(&[inline]).unwrap_err();
        let words = files.follower(&["--credential=a hushhush"]).unwrap_err();
        for text in [torn, inline, words] {
            assert!(!text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn who_has_read_a_secret_leaves_no_core_dump() {
        let files = Files::new();
        files.leader(&["--credentials=@/all"]).unwrap();
        let behaviour = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behaviour, DumpableBehavior::NotDumpable);
    }

    #[test]
    fn variables_give_credentials_to_both_sides() {
        let files = Files::new();
        files.write(
            "vars.yml",
            "mesos_credentials: [{principal: ops, secret: o}]\nmesos_follower_secret: f\n",
        );
        let vars = "--vars=@/vars.yml";
        let leader = files.leader(&[vars]).unwrap();
        let credentials = leader.credentials.clone().unwrap();
        assert!(credentials.verify("ops", b"o") && credentials.verify("follower", b"f"));
        assert!(leader.frameworks && leader.followers);
        let follower = files.follower(&[vars]).unwrap();
        let expected = Credential::new("follower", Secret::from("f"));
        assert_eq!(follower.credential(), Some(&expected));
        // A flag says more.
        let leader = files.leader(&[vars, "--credentials=@/all"]).unwrap();
        assert!(!leader.credentials.unwrap().verify("ops", b"o"));
    }
}
