//! Real ZooKeeper servers: one, or an ensemble on loopback or on addresses of its own, each with a folder that survives
//! `kill -9`. From Debian's `zookeeper` package; no daemon of the machine is touched.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cluster::free_address;
use crate::wait::eventually;

/// How long an ensemble may take to serve. Three Java processes on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian puts it.
const JAR: &str = "/usr/share/java/zookeeper.jar";

/// Unit of a server's clock: sessions may be as short as two of them.
const TICK_MS: u32 = 250;

/// One server of an ensemble.
#[derive(Debug)]
struct Server {
    client: SocketAddr,
    config: PathBuf,
    /// The network namespace that it runs in; the machine's own if there is none.
    namespace: Option<String>,
    child: Option<Child>,
}

/// Some servers that make up one ensemble. Killed when dropped.
#[derive(Debug)]
pub struct Ensemble {
    folder: TempDir,
    servers: Vec<Server>,
}

/// Where a server is to run.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its address.
    pub ip: IpAddr,
    /// The network namespace that has this address; the machine's own if there is none.
    pub namespace: Option<String>,
}

impl Ensemble {
    /// `servers` servers on loopback, serving.
    pub fn start(servers: usize) -> Ensemble {
        let here = Place {
            ip: Ipv4Addr::LOCALHOST.into(),
            namespace: None,
        };
        Ensemble::start_at(&vec![here; servers])
    }

    /// One server at each place, serving.
    pub fn start_at(places: &[Place]) -> Ensemble {
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<[u16; 3]> = places
            .iter()
            .map(|_| [(); 3].map(|()| free_address().port()))
            .collect();
        let members: String = match places {
            [_] => String::new(),
            _ => (1..)
                .zip(places.iter().zip(&ports))
                .map(|(id, (place, [_, peer, election]))| {
                    format!("server.{id}={}:{peer}:{election}\n", place.ip)
                })
                .collect(),
        };
        let servers = places.iter().zip(&ports).enumerate();
        let servers = servers
            .map(|(at, (place, [client, ..]))| {
                let data = folder.path().join(format!("{}", at + 1));
                fs::create_dir(&data).expect("a folder");
                fs::write(data.join("myid"), format!("{}\n", at + 1)).expect("written");
                let config = data.join("zoo.cfg");
                let text = format!(
                    "tickTime={TICK_MS}\ninitLimit=40\nsyncLimit=8\nminSessionTimeout={}\nmaxSessionTimeout=60000\n\
                     dataDir={}\nclientPort={client}\nclientPortAddress={}\nmaxClientCnxns=0\n\
                     4lw.commands.whitelist=*\nadmin.enableServer=false\n{members}",
                    2 * TICK_MS,
                    data.display(),
                    place.ip
                );
                fs::write(&config, text).expect("written");
                Server {
                    client: SocketAddr::new(place.ip, *client),
                    config,
                    namespace: place.namespace.clone(),
                    child: None,
                }
            })
            .collect();
        let mut ensemble = Ensemble { folder, servers };
        for at in 0..places.len() {
            ensemble.restart(at);
        }
        ensemble.wait_until_all_serve();
        ensemble
    }

    /// How many servers it has.
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// `zk://host:port,…/path`
    pub fn url(&self, path: &str) -> String {
        format!("zk://{}{path}", self.servers())
    }

    /// The same with `user:password`.
    pub fn url_as(&self, credentials: &str, path: &str) -> String {
        format!("zk://{credentials}@{}{path}", self.servers())
    }

    /// `host:port,…`
    pub fn servers(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(|s| s.client.to_string()).collect();
        servers.join(",")
    }

    /// Where the servers keep their data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9` of a server; returns when it is gone.
    pub fn kill(&mut self, server: usize) {
        if let Some(mut child) = self.servers[server].child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Whether a server's process is there.
    pub fn lives(&self, server: usize) -> bool {
        self.servers[server].child.is_some()
    }

    /// Stops a server's process, or lets it go on: `SIGSTOP`, `SIGCONT`.
    pub fn signal(&self, server: usize, signal: Signal) {
        let child = self.servers[server].child.as_ref();
        let id = child.and_then(|child| i32::try_from(child.id()).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            kill_process(pid, signal).ok();
        }
    }

    /// Starts a killed server again, with its data.
    pub fn restart(&mut self, server: usize) {
        let server = &mut self.servers[server];
        let log = server.config.with_file_name("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("a log");
        let mut command = match &server.namespace {
            None => Command::new("java"),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "java"]);
                command
            }
        };
        let child = command
            // Small and quick to start rather than fast.
            .args([
                "-Xmx96m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dzookeeper.jmx.log4j.disable=true",
                "-cp",
                JAR,
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            ])
            .arg(&server.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0)
            .spawn();
        let missing = "java starts (Debian: zookeeper, which scripts/test-env installs)";
        server.child = Some(child.expect(missing));
    }

    /// Whether a server serves requests, so has a quorum.
    pub fn serves(&self, server: usize) -> bool {
        let server = &self.servers[server];
        // From here nobody reaches a namespace that is cut off; its own processes might.
        ask(server.client, "srvr").is_some_and(|answer| answer.contains("Mode:"))
    }

    /// Waits until every server that was not killed serves.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_until_all_serve(&self) {
        let all = || (0..self.size()).all(|at| !self.lives(at) || self.serves(at));
        assert!(
            eventually(START_PATIENCE, all),
            "ZooKeeper does not serve: {}",
            self.logs()
        );
    }

    fn logs(&self) -> String {
        let logs = self.servers.iter();
        logs.map(|s| fs::read_to_string(s.config.with_file_name("log")).unwrap_or_default())
            .collect()
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for at in 0..self.servers.len() {
            self.kill(at);
        }
    }
}

/// A four-letter command; nothing if the server does not answer.
fn ask(server: SocketAddr, command: &str) -> Option<String> {
    let patience = Duration::from_secs(1);
    let mut connection = TcpStream::connect_timeout(&server, patience).ok()?;
    connection.set_read_timeout(Some(patience)).ok()?;
    connection.write_all(command.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_serves_while_more_than_half_of_it_lives() {
        let mut ensemble = Ensemble::start(3);
        assert!(ensemble.url("/mesos").ends_with("/mesos"));
        ensemble.kill(0);
        ensemble.wait_until_all_serve();
        ensemble.kill(1);
        assert!(eventually(START_PATIENCE, || !ensemble.serves(2)));
        ensemble.restart(0);
        ensemble.wait_until_all_serve();
    }
}
