//! Persistent volumes with real processes, real sandboxes and a follower that is restarted: what tasks
//! write in them stays until they are destroyed (`docs/persistent-volume.md` of the reference).

use crate::support::{Messages, PATIENCE, Raw, serve};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tepui_containers::linux::{LauncherOptions, is_root, start_launcher};
use tepui_follower::Config;
use tepui_node::{
    follower::{FollowerError, FollowerHandle, FollowerNode, FollowerOptions},
    http::{Limits, Server},
    net::{LinkOptions, Links, LinksEnd, Listen, Transport},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{
        self,
        TaskState::*,
        executor_info,
        offer::{Operation, operation},
        resource::{
            DiskInfo, ReservationInfo,
            disk_info::{Persistence, Source, source},
            reservation_info,
        },
        volume::Mode,
    },
};
use tokio::{runtime::Handle, sync::watch};

/// A leader of one follower, played by the test.
struct Cluster {
    follower: Option<FollowerHandle>,
    pid: Pid,
    links: Links,
    messages: Messages,
    work_dir: tempfile::TempDir,
    detect: watch::Sender<Option<Pid>>,
    leader: Pid,
    gc_delay: Duration,
    version: v1::Uuid,
    operations: u8,
    _server: Server,
    _end: LinksEnd,
}

fn agent() -> v1::AgentId {
    v1::AgentId {
        value: "S0".to_owned(),
    }
}

/// Whose tasks outlive their follower.
fn framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        // Somebody who may not do everything, where tests run as root.
        user: "nobody".to_owned(),
        name: "test".to_owned(),
        id: Some(v1::FrameworkId {
            value: "F".to_owned(),
        }),
        checkpoint: Some(true),
        roles: vec!["prod".to_owned()],
        ..Default::default()
    }
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    }
}

fn reserved(resource: v1::Resource) -> v1::Resource {
    v1::Resource {
        reservations: vec![ReservationInfo {
            role: Some("prod".to_owned()),
            r#type: Some(reservation_info::Type::Dynamic.into()),
            ..Default::default()
        }],
        ..resource
    }
}

fn path_disk() -> v1::Resource {
    let path = Some(source::Path {
        root: Some("disks/1".to_owned()),
    });
    let source = Source {
        r#type: source::Type::Path.into(),
        path,
        ..Default::default()
    };
    v1::Resource {
        disk: Some(Box::new(DiskInfo {
            source: Some(source),
            ..Default::default()
        })),
        ..scalar("disk", 64.0)
    }
}

/// A volume of all of a disk, at `data`.
fn volume(id: &str, disk: v1::Resource) -> v1::Resource {
    let mut volume = reserved(disk);
    let disk = volume.disk.get_or_insert_default();
    disk.persistence = Some(Persistence {
        id: id.to_owned(),
        principal: None,
    });
    disk.volume = Some(v1::Volume {
        container_path: "data".to_owned(),
        mode: Mode::Rw.into(),
        ..Default::default()
    });
    volume
}

fn task(id: &str, command: &str, volumes: &[v1::Resource]) -> v1::TaskInfo {
    let mut resources = vec![scalar("cpus", 0.1), scalar("mem", 32.0)];
    resources.extend_from_slice(volumes);
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: agent(),
        resources,
        command: Some(v1::CommandInfo {
            value: Some(command.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Cluster {
    /// Starts a follower and registers it as `S0`.
    async fn start(gc_delay: Duration) -> Self {
        let work_dir = tempfile::tempdir().expect("a directory");
        open_to_all(work_dir.path());
        let (address, messages, server) = serve(Limits::default()).await;
        let leader = Pid {
            name: "master".to_owned(),
            address,
        };
        let (links, end) = Links::new(
            address,
            LinkOptions::default(),
            Transport::plain(),
            Handle::current(),
            |_| (),
        );
        let (detect, _) = watch::channel(Some(leader.clone()));
        let mut cluster = Self {
            follower: None,
            pid: leader.clone(),
            links,
            messages,
            work_dir,
            detect,
            leader,
            gc_delay,
            version: v1::Uuid::default(),
            operations: 0,
            _server: server,
            _end: end,
        };
        cluster.start_follower(0).await.expect("a follower");
        cluster
            .hear(|m| matches!(m, PeerMessage::RegisterSlave(_)).then_some(()))
            .await;
        cluster.tell(i::SlaveRegisteredMessage {
            slave_id: agent(),
            connection: None,
        });
        cluster.learn_version().await;
        cluster
    }

    async fn start_follower(&mut self, port: u16) -> Result<(), FollowerError> {
        let launcher = start_launcher(LauncherOptions {
            cgroups: false,
            ..Default::default()
        })
        .expect("a launcher");
        let listen = Listen::on(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut config = Config::new(self.leader.address, "follower.test", self.work_dir.path());
        config.switch_user = is_root();
        config.registration_backoff_factor = Duration::from_millis(10);
        config.gc_delay = self.gc_delay;
        config.resources = vec![
            scalar("cpus", 4.0),
            scalar("mem", 1024.0),
            scalar("disk", 64.0),
            path_disk(),
        ];
        let options = FollowerOptions::new(listen, config, launcher, self.detect.subscribe());
        let follower = FollowerNode::start(options).await?;
        self.pid = Pid {
            name: "slave(1)".to_owned(),
            address: follower.address,
        };
        self.follower = Some(follower);
        Ok(())
    }

    async fn stop_follower(&mut self) -> u16 {
        let follower = self.follower.take().expect("it runs");
        let port = follower.address.port();
        follower.shutdown().await;
        port
    }

    /// Ends the follower and starts another one, which re-registers.
    async fn restart(&mut self) {
        let port = self.stop_follower().await;
        self.start_follower(port).await.expect("a follower");
        self.reregistered().await;
    }

    async fn reregistered(&mut self) {
        self.hear(|m| matches!(m, PeerMessage::ReregisterSlave(_)).then_some(()))
            .await;
        self.tell(i::SlaveReregisteredMessage {
            slave_id: agent(),
            ..Default::default()
        });
        self.learn_version().await;
    }

    async fn learn_version(&mut self) {
        let version = |m| match m {
            PeerMessage::UpdateSlave(update) => update.resource_version_uuid,
            _ => None,
        };
        self.version = self.hear(version).await;
    }

    fn tell(&self, message: impl Into<PeerMessage>) {
        self.links.send("master", &self.pid, &message.into());
    }

    /// The next message that is of interest.
    async fn hear<T>(&mut self, wanted: impl Fn(PeerMessage) -> Option<T>) -> T {
        let next = async {
            loop {
                let (_, _, message) = self.messages.recv().await.expect("the follower talks");
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, next).await;
        heard.expect("the follower says it")
    }

    /// Has an operation carried out.
    async fn apply(&mut self, operation_info: Operation) {
        self.operations += 1;
        let uuid = v1::Uuid {
            value: vec![self.operations; 16].into(),
        };
        self.tell(i::ApplyOperationMessage {
            framework_id: framework().id,
            operation_info,
            operation_uuid: uuid.clone(),
            resource_version_uuid: i::ResourceVersionUuid {
                resource_provider_id: None,
                uuid: self.version.clone(),
            },
        });
        let status = self
            .hear(|m| match m {
                PeerMessage::UpdateOperationStatus(update)
                    if update.operation_uuid.as_ref() == Some(&uuid) =>
                {
                    Some(update.status)
                }
                _ => None,
            })
            .await;
        let finished = v1::OperationState::OperationFinished;
        assert_eq!(status.state(), finished, "{:?}", status.message);
        self.tell(i::AcknowledgeOperationStatusMessage {
            status_uuid: status.uuid.expect("to be acknowledged"),
            operation_uuid: uuid,
            resource_provider_id: None,
        });
    }

    /// Makes a volume of all of a disk.
    async fn create(&mut self, volume: &v1::Resource) {
        let mut disk = volume.clone();
        disk.shared = None;
        let info = disk.disk.get_or_insert_default();
        (info.persistence, info.volume) = (None, None);
        if info.source.is_none() {
            disk.disk = None;
        }
        self.apply(Operation {
            r#type: Some(operation::Type::Reserve.into()),
            reserve: Some(operation::Reserve {
                resources: vec![disk],
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
        let create = operation::Create {
            volumes: vec![volume.clone()],
        };
        self.apply(Operation {
            r#type: Some(operation::Type::Create.into()),
            create: Some(create),
            ..Default::default()
        })
        .await;
    }

    async fn destroy(&mut self, volume: &v1::Resource) {
        let destroy = operation::Destroy {
            volumes: vec![volume.clone()],
        };
        self.apply(Operation {
            r#type: Some(operation::Type::Destroy.into()),
            destroy: Some(destroy),
            ..Default::default()
        })
        .await;
    }

    fn run(&self, task: v1::TaskInfo) {
        self.tell(i::RunTaskMessage {
            framework: framework(),
            task,
            ..Default::default()
        });
    }

    /// Acknowledges statuses until a task is in a state, and no earlier end.
    async fn until(&mut self, task: &str, state: v1::TaskState) {
        loop {
            let update = self
                .hear(|m| match m {
                    PeerMessage::StatusUpdate(update) => Some(update.update),
                    _ => None,
                })
                .await;
            let status = update.status;
            if let Some(uuid) = update.uuid {
                self.tell(i::StatusUpdateAcknowledgementMessage {
                    slave_id: agent(),
                    framework_id: update.framework_id,
                    task_id: status.task_id.clone(),
                    uuid,
                });
            }
            if status.task_id.value == task && status.state() == state {
                return;
            }
            let ended = matches!(status.state(), TaskFailed | TaskLost | TaskGone);
            assert!(!ended, "{status:?}");
        }
    }

    fn latest(&self, executor: &str) -> PathBuf {
        let path = format!("slaves/S0/frameworks/F/executors/{executor}/runs/latest");
        self.work_dir.path().join(path)
    }

    fn sandbox(&self, executor: &str) -> PathBuf {
        self.latest(executor).canonicalize().expect("a sandbox")
    }

    /// What `/files` serves of a file.
    async fn read(&self, path: &str) -> Result<String, u16> {
        let address = self.follower.as_ref().expect("it runs").address;
        let mut raw = Raw::connect(address).await;
        raw.send(format!(
            "GET /files/read?path={path}&offset=0 HTTP/1.1\r\nHost: h\r\n\r\n"
        ))
        .await;
        let wire = raw.response().await;
        if wire.status != 200 {
            return Err(wire.status);
        }
        let document: Value = serde_json::from_str(wire.text()).expect("JSON");
        Ok(document["data"].as_str().expect("text").to_owned())
    }

    async fn end(mut self) {
        self.stop_follower().await;
    }
}

/// Tasks of others must get to their sandboxes.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
}

/// Waits for something that the follower does on its disk.
async fn once(what: &str, mut is: impl FnMut() -> bool) {
    let polled = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, polled).await;
    done.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn what_a_task_writes_in_a_volume_outlives_it_and_its_follower_until_it_is_destroyed() {
    for disk in [scalar("disk", 64.0), path_disk()] {
        let mut cluster = Cluster::start(Duration::from_secs(3600)).await;
        let volume = volume("v", disk.clone());
        cluster.create(&volume).await;
        let root = match disk.disk {
            Some(_) => cluster.work_dir.path().join("disks/1"),
            None => cluster.work_dir.path().to_owned(),
        };
        let place = root.join("volumes/roles/prod/v");
        assert!(place.is_dir());
        // It is the task's user's: only that one may write.
        let command = "umask 077; id -un > data/file && cat data/file";
        cluster.run(task("writer", command, std::slice::from_ref(&volume)));
        cluster.until("writer", TaskFinished).await;
        let written = fs::read_to_string(place.join("file")).expect("it was written");
        assert_eq!(written == "nobody\n", is_root());
        let link = cluster.latest("writer").join("data");
        once("the link goes with the task", || {
            fs::symlink_metadata(&link).is_err()
        })
        .await;

        cluster.restart().await;
        cluster.run(task(
            "reader",
            "cat data/file",
            std::slice::from_ref(&volume),
        ));
        cluster.until("reader", TaskFinished).await;
        let stdout = cluster.latest("reader").join("stdout");
        assert_eq!(fs::read_to_string(stdout).expect("its output"), written);

        cluster.destroy(&volume).await;
        assert!(!place.exists());
        cluster.end().await;
    }
}

#[tokio::test]
async fn a_task_keeps_its_volume_while_its_follower_is_away() {
    let mut cluster = Cluster::start(Duration::from_secs(3600)).await;
    let volume = volume("v", scalar("disk", 64.0));
    cluster.create(&volume).await;
    let command = "echo here > data/mark; until [ -e data/go ]; do sleep 0.05; done; cat data/go";
    cluster.run(task("t", command, std::slice::from_ref(&volume)));
    cluster.until("t", TaskRunning).await;
    let sandbox = cluster.sandbox("t");
    let place = cluster.work_dir.path().join("volumes/roles/prod/v");
    once("the task begins", || place.join("mark").exists()).await;
    let names = [
        format!("{}/data/mark", sandbox.display()),
        "/frameworks/F/executors/t/runs/latest/data/mark".to_owned(),
    ];
    for name in &names {
        assert_eq!(cluster.read(name).await.as_deref(), Ok("here\n"), "{name}");
    }
    let port = cluster.stop_follower().await;
    // As if the follower had ended before it made the link.
    fs::remove_file(sandbox.join("data")).expect("a link");
    cluster.start_follower(port).await.expect("a follower");
    assert_eq!(fs::read_link(sandbox.join("data")).expect("a link"), place);
    cluster.reregistered().await;
    for name in &names {
        assert_eq!(cluster.read(name).await.as_deref(), Ok("here\n"), "{name}");
    }
    fs::write(place.join("go"), "gone\n").expect("written");
    cluster.until("t", TaskFinished).await;
    let stdout = fs::read_to_string(sandbox.join("stdout")).expect("its output");
    assert_eq!(stdout, "gone\n");
    cluster.end().await;
}

/// Two tasks at once have a shared volume (`docs/shared-resources.md`), in a group and outside of it.
#[tokio::test]
async fn tasks_of_a_group_see_volumes_and_share_them_with_others() {
    let mut cluster = Cluster::start(Duration::from_secs(3600)).await;
    let own = v1::Resource {
        shared: Some(Default::default()),
        ..volume("shared", path_disk())
    };
    cluster.create(&own).await;
    let place = cluster
        .work_dir
        .path()
        .join("disks/1/volumes/roles/prod/shared");
    let wait = "until [ -e data/go ]; do sleep 0.05; done";
    let member = |id: &str| {
        let command = format!("echo {id} > data/{id}; {wait}");
        task(id, &command, std::slice::from_ref(&own))
    };
    cluster.tell(i::RunTaskGroupMessage {
        framework: framework(),
        executor: v1::ExecutorInfo {
            r#type: Some(executor_info::Type::Default.into()),
            executor_id: v1::ExecutorId {
                value: "default".to_owned(),
            },
            framework_id: framework().id,
            resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0)],
            ..Default::default()
        },
        task_group: v1::TaskGroupInfo {
            tasks: vec![member("a"), member("b")],
        },
        ..Default::default()
    });
    cluster.run(member("c"));
    for id in ["a", "b", "c"] {
        once("all write", || place.join(id).exists()).await;
    }
    let sandbox = cluster.sandbox("default");
    let name = format!("{}/tasks/a/data/b", sandbox.display());
    assert_eq!(cluster.read(&name).await.as_deref(), Ok("b\n"));
    // Nobody gets out of a sandbox by a link of his own.
    let nested = fs::canonicalize(sandbox.join("tasks/a")).expect("a sandbox");
    std::os::unix::fs::symlink("/etc", nested.join("etc")).expect("linked");
    let name = format!("{}/etc/passwd", nested.display());
    assert_eq!(cluster.read(&name).await, Err(400));
    fs::write(place.join("go"), "").expect("written");
    let mut left: Vec<&str> = vec!["a", "b", "c"];
    while !left.is_empty() {
        let update = cluster
            .hear(|m| match m {
                PeerMessage::StatusUpdate(update) => Some(update.update),
                _ => None,
            })
            .await;
        assert_ne!(update.status.state(), TaskFailed, "{update:?}");
        if update.status.state() == TaskFinished {
            left.retain(|id| *id != update.status.task_id.value);
        }
        cluster.tell(i::StatusUpdateAcknowledgementMessage {
            slave_id: agent(),
            framework_id: update.framework_id,
            task_id: update.status.task_id,
            uuid: update.uuid.expect("to be acknowledged"),
        });
    }
    cluster.end().await;
}

#[tokio::test]
async fn the_removal_of_a_sandbox_leaves_the_volumes_in_it_alone() {
    let mut cluster = Cluster::start(Duration::ZERO).await;
    let volume = volume("v", scalar("disk", 64.0));
    cluster.create(&volume).await;
    let place = cluster.work_dir.path().join("volumes/roles/prod/v");
    fs::write(place.join("precious"), "x").expect("written");
    // An executor that ends with its task: nobody takes the link away first.
    let mut doomed = task("t", "", std::slice::from_ref(&volume));
    doomed.executor = Some(v1::ExecutorInfo {
        executor_id: v1::ExecutorId {
            value: "doomed".to_owned(),
        },
        framework_id: framework().id,
        command: Some(v1::CommandInfo {
            value: Some("test -e data/precious && touch data/seen; exit 1".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    });
    doomed.command = None;
    cluster.run(doomed);
    let update = cluster
        .hear(|m| match m {
            PeerMessage::StatusUpdate(update) => Some(update.update),
            _ => None,
        })
        .await;
    assert_eq!(update.status.state(), TaskFailed);
    assert!(place.join("seen").exists(), "the executor had its volume");
    assert!(cluster.sandbox("doomed").join("data/precious").exists());
    cluster.tell(i::StatusUpdateAcknowledgementMessage {
        slave_id: agent(),
        framework_id: update.framework_id,
        task_id: update.status.task_id,
        uuid: update.uuid.expect("to be acknowledged"),
    });
    let executor = cluster
        .work_dir
        .path()
        .join("slaves/S0/frameworks/F/executors/doomed");
    once("the sandbox goes", || !executor.exists()).await;
    assert_eq!(fs::read(place.join("precious")).expect("it stays"), b"x");
    cluster.end().await;
}

#[tokio::test]
async fn a_disk_that_is_not_mounted_keeps_the_follower_from_starting() {
    let mut cluster = Cluster::start(Duration::from_secs(3600)).await;
    assert!(
        cluster.work_dir.path().join("disks/1").is_dir(),
        "PATH disks are made"
    );
    let root = cluster.work_dir.path().join("disks/1");
    let launcher = start_launcher(LauncherOptions {
        cgroups: false,
        ..Default::default()
    })
    .expect("a launcher");
    let listen = Listen::on(SocketAddr::from(([127, 0, 0, 1], 0)));
    let other = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(cluster.leader.address, "other.test", other.path());
    let mount = source::Mount {
        root: Some(root.display().to_string()),
    };
    config.resources = vec![v1::Resource {
        disk: Some(Box::new(DiskInfo {
            source: Some(Source {
                r#type: source::Type::Mount.into(),
                mount: Some(mount),
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..scalar("disk", 64.0)
    }];
    let options = FollowerOptions::new(listen, config, launcher, cluster.detect.subscribe());
    let Err(error) = FollowerNode::start(options).await else {
        panic!("it starts")
    };
    let text = error.to_string();
    assert!(text.starts_with("Failed to find mount '"), "{text}");
    cluster.stop_follower().await;
}
