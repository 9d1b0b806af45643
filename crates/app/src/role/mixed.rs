//! A leader and a follower on one machine. They talk over loopback like any leader and follower.
//!
//! Without a command they stay up. With one, the command runs as a task, its output is streamed,
//! and the process ends with its exit status.

use super::{
    Ending, RoleError, Signals, address,
    auth::{FollowerAuth, LeaderAuth},
    election, follower, leader,
    limits::limits,
    ready,
};
use crate::{
    cli,
    execute::{self, Access, Job},
    flags::{Settings, shown},
    logging::SetVerbosity,
    progress::Progress,
    settings::Resolved,
    tls,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use tepui_client::Codec;
use tepui_containers::linux::Launcher;
use tepui_node::{
    follower::{FollowerHandle, FollowerNode},
    leader::{LeaderHandle, LeaderNode},
};

/// State of an ordinary user, below `$XDG_STATE_HOME` or here in the home directory.
const HOME_STATE: &str = ".local/state";
/// State of root.
const SYSTEM_STATE: &str = "/var/lib/tepui";

/// Runs both until a signal, a failure, or the end of the command.
pub(super) async fn run(
    mut resolved: Resolved,
    verbosity: SetVerbosity,
    launcher: Launcher,
) -> Result<ExitCode, RoleError> {
    let command = std::mem::take(&mut resolved.positional).join(" ");
    let once = !command.is_empty();
    let state = State::choose(&mut resolved.settings, once)?;
    if once {
        // A job must not stumble over a cluster that is up already.
        for port in ["leader_port", "follower_port"] {
            resolved.settings.set_default(port, "0".to_owned());
        }
    }
    // There is one follower and its leader is up before it: no crowd to spread out.
    resolved
        .settings
        .set_default("registration_backoff_factor", "50ms".to_owned());
    if once && election::is_elected(&resolved.settings) {
        return Err(RoleError::Conflict {
            flag: "zk",
            why: "a cluster for one command has no other leaders",
        });
    }
    let mut signals = Signals::new()?;
    let mut nodes = Nodes::start(&resolved, (&state.dir, once), verbosity, launcher).await?;
    let outcome = if once {
        nodes.execute(&command, &mut signals).await
    } else {
        let note = election::note(&resolved.settings);
        ready::announce_as("leader", nodes.leader.address, nodes.secure, &note);
        ready::announce("follower", nodes.follower.address, nodes.secure);
        nodes.serve(&mut signals).await
    };
    nodes.shutdown().await;
    state.remove();
    outcome
}

/// What `/flags` of one role says: the role's own names for what `mixed` calls otherwise.
fn publish(
    flags: &mut BTreeMap<String, String>,
    settings: &Settings,
    port_flag: &str,
    work_dir: &Path,
) {
    if let Some(port) = settings.text(port_flag) {
        flags.insert("port".to_owned(), port.to_owned());
    }
    flags.insert("work_dir".to_owned(), work_dir.display().to_string());
}

fn client_credential(credential: &tepui_auth::Credential) -> tepui_client::Credential {
    tepui_client::Credential {
        principal: credential.principal.to_string(),
        secret: String::from_utf8_lossy(credential.secret.expose()).into_owned(),
    }
}

/// Where state is kept.
struct State {
    dir: PathBuf,
    /// Of a job that nobody will ask about again.
    temporary: bool,
}

impl State {
    fn choose(settings: &mut Settings, once: bool) -> Result<Self, RoleError> {
        let given = settings
            .text("work_dir")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        let temporary = once && given.is_none();
        let dir = match given {
            Some(dir) => dir,
            None if once => base_dir()?.join(format!("once-{}", std::process::id())),
            None => base_dir()?,
        };
        settings.set_default("work_dir", dir.display().to_string());
        Ok(Self { dir, temporary })
    }

    fn remove(&self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot remove the state of the job");
        }
    }
}

fn base_dir() -> Result<PathBuf, RoleError> {
    if cli::is_root() {
        return Ok(PathBuf::from(SYSTEM_STATE));
    }
    let var = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(HOME_STATE)));
    let base = base.ok_or(RoleError::Missing {
        flag: "work_dir",
        why: "neither XDG_STATE_HOME nor HOME is set",
    })?;
    Ok(base.join("tepui"))
}

struct Nodes {
    leader: LeaderHandle,
    follower: FollowerHandle,
    /// The follower's, for the command that is run: it is the only one there is in plain text.
    credential: Option<tepui_client::Credential>,
    /// Both speak TLS.
    secure: bool,
}

impl Nodes {
    async fn start(
        resolved: &Resolved,
        (dir, once): (&Path, bool),
        verbosity: SetVerbosity,
        launcher: Launcher,
    ) -> Result<Self, RoleError> {
        let settings = &resolved.settings;
        let verbosity = Arc::new(verbosity);
        let shared = || -> SetVerbosity {
            let verbosity = verbosity.clone();
            Box::new(move |level| verbosity(level))
        };
        // Leaders and followers on other machines are to reach both.
        let elected = election::is_elected(settings);
        let fallback = match elected {
            true => address::EVERYWHERE,
            false => address::LOOPBACK,
        };
        let listen = address::listen(settings, "leader_port", fallback)?;
        let ip = listen.ip;
        let work_dir = dir.join("leader");
        let mut options = leader::options(settings, listen, Some(&work_dir), shared())?;
        publish(&mut options.flags, settings, "leader_port", &work_dir);
        let (leads, follows) = (LeaderAuth::read(resolved)?, FollowerAuth::read(resolved)?);
        if leads.asks_followers() && follows.credential().is_none() {
            return Err(RoleError::Missing {
                flag: "credential",
                why: "--authenticate_agents asks the follower for it",
            });
        }
        let mut open = leads.open();
        // Both roles have the two flags of the same names.
        open.extend(follows.open());
        open.sort_unstable();
        open.dedup();
        // Not before the settings are known to be good: what is wrong with them should stand alone.
        address::warn_if_open("LEADER AND FOLLOWER", ip, &open);
        leads.apply(&mut options);
        let transport = tls::transport()?;
        options.transport = transport.clone();
        let (limits, links) = limits()?;
        (options.limits, options.links) = (limits.clone(), links.clone());
        let credential = follows.credential().map(client_credential);
        let leader = LeaderNode::start(options).await?;

        let master = match settings.text("zk") {
            // Whoever is elected, here or elsewhere.
            Some(url) if elected => url.to_owned(),
            _ => leader.address.to_string(),
        };
        let watch = super::detect(settings, &master)
            .await?
            .map_err(|error| RoleError::Io {
                what: "find the leader".to_owned(),
                source: std::io::Error::other(error),
            })?;
        let mut listen = address::listen(settings, "follower_port", fallback)?;
        // An advertised port is the leader's: two nodes cannot share one.
        listen.advertise_port = None;
        let name_node = resolved.vars.is_some();
        let work_dir = dir.join("follower");
        let mut options = follower::options(
            settings,
            listen,
            &work_dir,
            watch,
            launcher,
            shared(),
            name_node,
        )?;
        let flags = &mut options.config.flags;
        publish(flags, settings, "follower_port", &work_dir);
        flags.insert("master".to_owned(), shown("master", &master));
        // A job that is interrupted ends, with all it has started.
        options.config.checkpoint_runs = !once;
        follows.apply(&mut options);
        let secure = transport.is_tls();
        options.transport = transport;
        (options.limits, options.links) = (limits, links);
        let follower = FollowerNode::start(options).await?;
        Ok(Self {
            leader,
            follower,
            credential,
            secure,
        })
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<ExitCode, RoleError> {
        loop {
            tokio::select! {
                ending = signals.next() => match ending {
                    Ending::Stop => return Ok(ExitCode::SUCCESS),
                    Ending::Unregister => self.follower.unregister("received SIGUSR1"),
                },
                error = self.leader.failed() => return Err(error.into()),
                ended = self.follower.ended() => return ended.map(|()| ExitCode::SUCCESS).map_err(RoleError::from),
            }
        }
    }

    async fn execute(
        &mut self,
        command: &str,
        signals: &mut Signals,
    ) -> Result<ExitCode, RoleError> {
        let job = Job::shell("command", command, &cli::user_name());
        let leader = self.leader.address.to_string();
        let access = Access {
            tls: tls::client(&leader)?,
            leader,
            codec: Codec::Protobuf,
            credential: self.credential.clone(),
        };
        let mut progress = Progress::for_people();
        let status = tokio::select! {
            status = execute::run(job, &access, &mut progress) => status?,
            _ = signals.next() => 128 + 2,
            error = self.leader.failed() => return Err(error.into()),
            ended = self.follower.ended() => return ended.map(|()| ExitCode::FAILURE).map_err(RoleError::from),
        };
        Ok(ExitCode::from(status.clamp(0, 255) as u8))
    }

    /// The follower first: it still wants to say goodbye to the leader.
    async fn shutdown(self) {
        self.follower.shutdown().await;
        if let Err(error) = self.leader.shutdown().await {
            tracing::warn!(%error, "the leader did not stop cleanly");
        }
    }
}
