//! Real ZooKeeper servers (Debian's `zookeeper`) for what is kept in them.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tepui_coordination::{Source, ZooKeeperUrl};
use tepui_zookeeper::{Options, ZooKeeper};

const JAR: &str = "/usr/share/java/zookeeper.jar";
const TICK_MS: u32 = 250;
/// Java on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Servers on loopback that keep their data when they are killed.
pub(crate) struct Ensemble {
    // Removed last.
    servers: Vec<(PathBuf, Option<Child>)>,
    ports: Vec<u16>,
    _folder: TempDir,
}

impl Ensemble {
    /// So many servers, in a folder below `folder`.
    pub(crate) fn start(count: usize, heap: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("a port").port()
        };
        let ports: Vec<[u16; 3]> = (0..count).map(|_| [(); 3].map(|()| free())).collect();
        let mut peers = String::new();
        for (index, [_, peer, election]) in ports.iter().enumerate().filter(|_| count > 1) {
            let id = index + 1;
            peers += &format!("server.{id}=127.0.0.1:{peer}:{election}\n");
        }
        let mut servers = Vec::new();
        for (index, [port, ..]) in ports.iter().enumerate() {
            let data = folder.path().join(index.to_string());
            fs::create_dir(&data).expect("a folder");
            fs::write(data.join("myid"), format!("{}\n", index + 1)).expect("written");
            let config = format!(
                "tickTime={TICK_MS}\ninitLimit=40\nsyncLimit=8\nmaxSessionTimeout=60000\n\
                 dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
                 admin.enableServer=false\n{peers}",
                data.display()
            );
            fs::write(data.join("zoo.cfg"), config).expect("written");
            fs::write(data.join("heap"), heap).expect("written");
            servers.push((data, None));
        }
        let mut ensemble = Self {
            servers,
            ports: ports.iter().map(|[port, ..]| *port).collect(),
            _folder: folder,
        };
        for index in 0..count {
            ensemble.restart(index);
        }
        ensemble
    }

    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.servers[index].1.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    pub(crate) fn restart(&mut self, index: usize) {
        let (data, child) = &mut self.servers[index];
        let log = fs::File::create(data.join("log")).expect("a log");
        let heap = fs::read_to_string(data.join("heap")).expect("a heap");
        let started = Command::new("java")
            .args([&format!("-Xmx{heap}"), "-XX:+UseSerialGC"])
            .args(["-Dzookeeper.jmx.log4j.disable=true", "-cp", JAR])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(data.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        *child = Some(started.expect("java starts (Debian: zookeeper)"));
    }

    pub(crate) fn url(&self, path: &str) -> ZooKeeperUrl {
        let servers: Vec<_> = self
            .ports
            .iter()
            .map(|p| format!("127.0.0.1:{p}"))
            .collect();
        match Source::parse(&format!("zk://{}{path}", servers.join(","))) {
            Ok(Source::ZooKeeper(url)) => url,
            other => panic!("{other:?}"),
        }
    }

    /// A session. Within a runtime.
    pub(crate) fn connect(&self, path: &str) -> ZooKeeper {
        let session_timeout = Duration::from_secs(20);
        ZooKeeper::connect(&self.url(path), &Options { session_timeout })
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for index in 0..self.servers.len() {
            self.kill(index);
        }
    }
}
