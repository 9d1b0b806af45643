//! One real ZooKeeper server (Debian's `zookeeper`), and what the tests ask of it.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tepui_coordination::{Source, ZooKeeperUrl};
use tepui_protocol::v1;
use tepui_zookeeper::{Options, Standing, Tenure, ZooKeeper};
use tokio::{sync::watch, time::timeout};

/// Java on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const JAR: &str = "/usr/share/java/zookeeper.jar";
const TICK_MS: u32 = 250;

/// A server that keeps its data when it is killed.
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = port.expect("a free port").port();
        let config = format!(
            "tickTime={TICK_MS}\nmaxSessionTimeout=60000\ndataDir={}\nclientPort={port}\n\
             clientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n",
            folder.path().display()
        );
        fs::write(folder.path().join("zoo.cfg"), config).expect("written");
        let mut server = Self {
            folder,
            port,
            child: None,
        };
        server.restart();
        // Who has a session knows that it serves.
        let zookeeper = server.connect("/", PATIENCE);
        let asked = async {
            while zookeeper.children("/").await.is_err() {
                tokio::task::yield_now().await
            }
        };
        timeout(PATIENCE, asked).await.expect("ZooKeeper serves");
        zookeeper.close().await;
        server
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    pub(crate) fn restart(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        let child = Command::new("java")
            .args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dzookeeper.jmx.log4j.disable=true", "-cp", JAR])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(self.folder.path().join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("java starts (Debian: zookeeper)"));
    }

    /// A session of its own, with credentials before an `@` in `path`.
    pub(crate) fn connect(&self, path: &str, session_timeout: Duration) -> ZooKeeper {
        ZooKeeper::connect(&url(path, self.port), &Options { session_timeout })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `[user:password@]/path` at a port of this machine.
pub(crate) fn url(path: &str, port: u16) -> ZooKeeperUrl {
    let (credentials, path) = match path.split_once('@') {
        Some((credentials, path)) => (format!("{credentials}@"), path),
        None => (String::new(), path),
    };
    match Source::parse(&format!("zk://{credentials}127.0.0.1:{port}{path}")) {
        Ok(Source::ZooKeeper(url)) => url,
        // Only the tests themselves ask for the root.
        _ => ZooKeeperUrl {
            credentials: None,
            servers: format!("127.0.0.1:{port}"),
            path: "/".to_owned(),
        },
    }
}

/// A leader as it describes itself.
pub(crate) fn leader(id: &str) -> v1::MasterInfo {
    let port = 5050;
    v1::MasterInfo {
        id: id.to_owned(),
        ip: u32::from_le_bytes([127, 0, 0, 1]),
        port,
        pid: Some(format!("master@127.0.0.1:{port}")),
        hostname: Some(format!("{id}.test")),
        ..Default::default()
    }
}

/// Waits for a standing.
pub(crate) async fn wait_for<T>(
    standing: &mut watch::Receiver<Standing>,
    what: &str,
    mut seen: impl FnMut(&Standing) -> Option<T>,
) -> T {
    let found = async {
        loop {
            if let Some(found) = seen(&standing.borrow_and_update()) {
                return found;
            }
            standing.changed().await.expect("goes on");
        }
    };
    match timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come: {:?}", *standing.borrow()),
    }
}

/// Waits until it leads, in another tenure than `before`.
pub(crate) async fn elected(
    standing: &mut watch::Receiver<Standing>,
    before: Option<&Tenure>,
) -> Tenure {
    wait_for(standing, "a tenure", |standing| {
        standing.tenure().filter(|t| before != Some(*t)).cloned()
    })
    .await
}

/// Waits until somebody of this id is followed.
pub(crate) async fn follows(standing: &mut watch::Receiver<Standing>, id: &str) {
    wait_for(standing, id, |standing| match standing {
        Standing::Following(Some(info)) => (info.id == id).then_some(()),
        _ => None,
    })
    .await;
}
