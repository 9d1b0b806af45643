//! A follower with a scripted leader over real sockets, running real processes. Every wait is for a
//! message, a byte or the end of something.

use crate::support::{Messages, PATIENCE, Raw, serve};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};
use tepui_containers::linux::{LauncherOptions, start_launcher};
use tepui_follower::Config;
use tepui_node::{
    follower::{FollowerHandle, FollowerNode, FollowerOptions},
    http::{Limits, Server},
    net::{LinkOptions, Links, LinksEnd, Listen, Transport},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{self, TaskState::*, check_info, executor_info, health_check, task_status::Reason},
};
use tokio::{runtime::Handle, sync::watch};

/// A leader of one follower, played by the test.
struct Cluster {
    follower: FollowerHandle,
    pid: Pid,
    links: Links,
    messages: Messages,
    work_dir: tempfile::TempDir,
    _leader: watch::Sender<Option<Pid>>,
    _server: Server,
    _end: LinksEnd,
}

fn framework() -> v1::FrameworkInfo {
    let killing = v1::framework_info::capability::Type::TaskKillingState;
    v1::FrameworkInfo {
        user: "root".to_owned(),
        name: "test".to_owned(),
        id: Some(v1::FrameworkId {
            value: "F".to_owned(),
        }),
        capabilities: vec![v1::framework_info::Capability {
            r#type: Some(killing.into()),
        }],
        ..Default::default()
    }
}

fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo {
            role: Some("*".to_owned()),
        }),
        ..Default::default()
    }
}

fn task(id: &str, command: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: v1::AgentId {
            value: "S0".to_owned(),
        },
        resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0)],
        command: Some(v1::CommandInfo {
            value: Some(command.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn default_executor() -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(executor_info::Type::Default.into()),
        executor_id: v1::ExecutorId {
            value: "default".to_owned(),
        },
        framework_id: framework().id,
        resources: vec![scalar("cpus", 0.1), scalar("mem", 32.0)],
        ..Default::default()
    }
}

impl Cluster {
    /// Starts a follower and registers it as `S0`.
    async fn start() -> Self {
        let launcher = start_launcher(LauncherOptions {
            cgroups: false,
            ..Default::default()
        })
        .expect("a launcher");
        let work_dir = tempfile::tempdir().expect("a directory");
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
        let listen = Listen::on(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut config = Config::new(address, "follower.test", work_dir.path());
        config.switch_user = false;
        config.registration_backoff_factor = Duration::from_millis(10);
        config.resources = vec![scalar("cpus", 4.0), scalar("mem", 1024.0)];
        for resource in &mut config.resources {
            resource.allocation_info = None;
        }
        let (detect, detected) = watch::channel(Some(leader));
        let options = FollowerOptions::new(listen, config, launcher, detected);
        let follower = FollowerNode::start(options).await.expect("a follower");
        let pid = Pid {
            name: "slave(1)".to_owned(),
            address: follower.address,
        };
        let mut cluster = Self {
            follower,
            pid,
            links,
            messages,
            work_dir,
            _leader: detect,
            _server: server,
            _end: end,
        };
        cluster
            .hear(|m| matches!(m, PeerMessage::RegisterSlave(_)).then_some(()))
            .await;
        cluster.tell(i::SlaveRegisteredMessage {
            slave_id: v1::AgentId {
                value: "S0".to_owned(),
            },
            connection: None,
        });
        cluster
            .hear(|m| matches!(m, PeerMessage::UpdateSlave(_)).then_some(()))
            .await;
        cluster
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
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("the follower says it")
    }

    /// The next status update, acknowledged.
    async fn status(&mut self) -> v1::TaskStatus {
        let update = self
            .hear(|m| match m {
                PeerMessage::StatusUpdate(update) => Some(update.update),
                _ => None,
            })
            .await;
        eprintln!(
            "DBG {:?} {:?} {:?} {:?}",
            update.status.task_id.value,
            update.status.state(),
            update.status.message,
            update.status.container_status
        );
        if let Some(uuid) = update.uuid {
            self.tell(i::StatusUpdateAcknowledgementMessage {
                slave_id: v1::AgentId {
                    value: "S0".to_owned(),
                },
                framework_id: update.framework_id,
                task_id: update.status.task_id.clone(),
                uuid,
            });
        }
        update.status
    }

    /// States of each task, in order, until so many statuses have come. Updates of different tasks
    /// overtake each other.
    async fn by_task(&mut self, count: usize) -> BTreeMap<String, Vec<v1::TaskStatus>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for _ in 0..count {
            let status = self.status().await;
            all.entry(status.task_id.value.clone())
                .or_default()
                .push(status);
        }
        all
    }

    /// A document, once it is as expected.
    async fn json_once(&self, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let polled = async {
            loop {
                let document = self.json(path).await;
                if expected(&document) {
                    return document;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, polled)
            .await
            .expect("the document becomes so")
    }

    /// The next statuses must be of these states; the last one.
    async fn states(&mut self, states: &[v1::TaskState]) -> v1::TaskStatus {
        let mut last = v1::TaskStatus::default();
        for state in states {
            last = self.status().await;
            assert_eq!(last.state(), *state, "{last:?}");
        }
        last
    }

    fn run(&self, task: v1::TaskInfo) {
        self.tell(i::RunTaskMessage {
            framework: framework(),
            task,
            ..Default::default()
        });
    }

    fn run_group(&self, tasks: Vec<v1::TaskInfo>) {
        self.tell(i::RunTaskGroupMessage {
            framework: framework(),
            executor: default_executor(),
            task_group: v1::TaskGroupInfo { tasks },
            ..Default::default()
        });
    }

    fn kill(&self, task: &str) {
        self.tell(i::KillTaskMessage {
            framework_id: framework().id.unwrap_or_default(),
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            kill_policy: None,
        });
    }

    fn sandbox(&self, executor: &str) -> PathBuf {
        let path = format!("slaves/S0/frameworks/F/executors/{executor}/runs/latest");
        self.work_dir.path().join(path)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut raw = Raw::connect(self.follower.address).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        let wire = raw.response().await;
        (wire.status, wire.text().to_owned())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let mut raw = Raw::connect(self.follower.address).await;
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw.send(head + &body).await;
        let wire = raw.response().await;
        (wire.status, wire.text().to_owned())
    }
}

#[tokio::test]
async fn a_command_task_runs_in_its_sandbox_and_is_reported() {
    let mut cluster = Cluster::start().await;
    cluster.run(task(
        "hello",
        "echo hello; echo $MESOS_EXECUTOR_ID; pwd; exit 0",
    ));
    let starting = cluster.states(&[TaskStarting]).await;
    let container = starting.container_status.expect("a container").container_id;
    let finished = cluster.states(&[TaskRunning, TaskFinished]).await;
    assert_eq!(finished.message(), "Command exited with status 0");

    let sandbox = cluster.sandbox("hello").canonicalize().expect("a sandbox");
    assert!(sandbox.ends_with(container.expect("an id").value));
    let stdout = std::fs::read_to_string(sandbox.join("stdout")).expect("its output");
    assert_eq!(stdout, format!("hello\nhello\n{}\n", sandbox.display()));

    let frameworks = |state: &Value| state["frameworks"].as_array().map_or(0, Vec::len);
    let state = cluster.json_once("/slave(1)/state", |state| frameworks(state) == 0);
    let state = state.await;
    let completed = &state["completed_frameworks"][0]["completed_executors"][0];
    assert_eq!(completed["id"], "hello");
    assert_eq!(completed["completed_tasks"][0]["state"], "TASK_FINISHED");
    let path = sandbox.join("stdout");
    let read = cluster
        .json(&format!(
            "/files/read?path={}&offset=0&length=5",
            path.display()
        ))
        .await;
    assert_eq!(read["data"], "hello");
    let read = cluster
        .json("/agent/files/read?path=/frameworks/F/executors/hello/runs/latest/stdout&offset=0")
        .await;
    assert!(read["data"].as_str().expect("text").starts_with("hello\n"));
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn a_task_that_fails_says_how() {
    let mut cluster = Cluster::start().await;
    cluster.run(task("three", "exit 3"));
    let failed = cluster
        .states(&[TaskStarting, TaskRunning, TaskFailed])
        .await;
    assert_eq!(failed.message(), "Command exited with status 3");
    cluster.run(task("nine", "kill -9 $$"));
    let failed = cluster
        .states(&[TaskStarting, TaskRunning, TaskFailed])
        .await;
    assert_eq!(failed.message(), "Command terminated with signal Killed");
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn a_kill_ends_everything_the_task_has_forked() {
    let mut cluster = Cluster::start().await;
    // A daemon that left its session writes to a pipe that the test reads: its end is the daemon's.
    let pipe = cluster.work_dir.path().join("pipe");
    let mode = rustix::fs::Mode::from(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    let daemon = format!(
        "setsid sh -c 'echo up; sleep 1000' > {} & wait",
        pipe.display()
    );
    cluster.run(task("forks", &daemon));
    cluster.states(&[TaskStarting, TaskRunning]).await;
    let mut output = tokio::net::unix::pipe::OpenOptions::new()
        .open_receiver(&pipe)
        .expect("the pipe");
    let mut line = [0; 3];
    tokio::io::AsyncReadExt::read_exact(&mut output, &mut line)
        .await
        .expect("the daemon is up");
    cluster.kill("forks");
    let killed = cluster.states(&[TaskKilling, TaskKilled]).await;
    assert_eq!(
        killed.message(),
        "Command terminated with signal Terminated"
    );
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut output, &mut rest)
        .await
        .expect("nobody holds the pipe");
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn a_task_whose_uri_cannot_be_fetched_fails_without_having_started() {
    let mut cluster = Cluster::start().await;
    let mut info = task("fetch", "true");
    info.command.as_mut().expect("a command").uris = vec![v1::command_info::Uri {
        value: "file:///no/such/file".to_owned(),
        ..Default::default()
    }];
    cluster.run(info);
    let failed = cluster.states(&[TaskFailed]).await;
    assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
    let message = failed.message();
    assert!(
        message.starts_with("Failed to launch container: Failed to fetch all URIs for container '"),
        "{message}"
    );
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn fetched_files_are_there_when_the_command_starts() {
    let mut cluster = Cluster::start().await;
    let source = cluster.work_dir.path().join("script");
    std::fs::write(&source, "#!/bin/sh\necho fetched\n").expect("written");
    let mut info = task("fetch", "./bin/run");
    info.command.as_mut().expect("a command").uris = vec![v1::command_info::Uri {
        value: source.display().to_string(),
        executable: Some(true),
        output_file: Some("bin/run".to_owned()),
        ..Default::default()
    }];
    cluster.run(info);
    cluster
        .states(&[TaskStarting, TaskRunning, TaskFinished])
        .await;
    let stdout = std::fs::read_to_string(cluster.sandbox("fetch").join("stdout"));
    assert_eq!(stdout.expect("its output"), "fetched\n");
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn a_group_runs_in_nested_sandboxes_and_dies_together() {
    let mut cluster = Cluster::start().await;
    cluster.run_group(vec![
        task("waits", "echo here; mkfifo up; read line < up"),
        // Once the other is up: a task that is killed before it said anything says nothing.
        task(
            "fails",
            "until [ -p ../../tasks/waits/up ]; do :; done; exit 7",
        ),
    ]);
    let all = cluster.by_task(7).await;
    let states = |task: &str| {
        all[task]
            .iter()
            .map(v1::TaskStatus::state)
            .collect::<Vec<_>>()
    };
    assert_eq!(states("fails"), [TaskStarting, TaskRunning, TaskFailed]);
    assert_eq!(
        states("waits"),
        [TaskStarting, TaskRunning, TaskKilling, TaskKilled]
    );
    let container = all["waits"][3]
        .container_status
        .clone()
        .expect("a container");
    assert!(container.container_id.expect("an id").parent.is_some());

    let sandbox = cluster
        .sandbox("default")
        .canonicalize()
        .expect("a sandbox");
    for (id, output) in [("waits", "here\n"), ("fails", "")] {
        let link = std::fs::read_link(sandbox.join("tasks").join(id)).expect("a link");
        assert_eq!(link.parent().expect("a parent"), sandbox.join("containers"));
        let stdout = std::fs::read_to_string(link.join("stdout")).expect("its output");
        assert_eq!(stdout, output);
    }
    // With its last task the executor ends.
    let frameworks = |state: &Value| state["frameworks"].as_array().map_or(0, Vec::len);
    cluster
        .json_once("/state", |state| frameworks(state) == 0)
        .await;
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn checks_are_made_and_an_unhealthy_task_is_killed() {
    let mut cluster = Cluster::start().await;
    let mut info = task("checked", "sleep 1000");
    info.check = Some(v1::CheckInfo {
        r#type: Some(check_info::Type::Command.into()),
        command: Some(check_info::Command {
            command: v1::CommandInfo {
                value: Some("exit 5".to_owned()),
                ..Default::default()
            },
        }),
        delay_seconds: Some(0.0),
        interval_seconds: Some(1000.0),
        ..Default::default()
    });
    cluster.run(info);
    cluster.states(&[TaskStarting, TaskRunning]).await;
    let checked = cluster.states(&[TaskRunning]).await;
    assert_eq!(checked.reason(), Reason::TaskCheckStatusUpdated);
    let found = checked.check_status.expect("a check").command;
    assert_eq!(found.expect("a command").exit_code, Some(5));
    cluster.kill("checked");
    cluster.states(&[TaskKilling, TaskKilled]).await;

    // The follower itself is a server at hand; the other port has just been given up.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let dead = u32::from(nobody.local_addr().expect("an address").port());
    drop(nobody);
    for (id, port, healthy) in [
        ("well", u32::from(cluster.follower.address.port()), true),
        ("sick", dead, false),
    ] {
        let mut info = task(id, "sleep 1000");
        info.health_check = Some(v1::HealthCheck {
            r#type: Some(health_check::Type::Http.into()),
            http: Some(health_check::HttpCheckInfo {
                port,
                path: Some("/health".to_owned()),
                ..Default::default()
            }),
            delay_seconds: Some(0.0),
            interval_seconds: Some(1000.0),
            grace_period_seconds: Some(0.0),
            consecutive_failures: Some(1),
            ..Default::default()
        });
        cluster.run(info);
        cluster.states(&[TaskStarting, TaskRunning]).await;
        let status = cluster.states(&[TaskRunning]).await;
        assert_eq!(status.healthy, Some(healthy), "{id}");
        if healthy {
            cluster.kill(id);
        }
        let killed = cluster.states(&[TaskKilling, TaskKilled]).await;
        assert_eq!(killed.healthy, (!healthy).then_some(false), "{id}");
    }
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn a_custom_executor_speaks_over_http() {
    let mut cluster = Cluster::start().await;
    let mut info = task("custom", "");
    info.command = None;
    info.executor = Some(v1::ExecutorInfo {
        r#type: Some(executor_info::Type::Custom.into()),
        executor_id: v1::ExecutorId {
            value: "E".to_owned(),
        },
        framework_id: framework().id,
        // The test speaks for it.
        command: Some(v1::CommandInfo {
            value: Some("sleep 1000".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    });
    cluster.run(info);
    // The follower hears of the process and of the call in any order.
    let subscribe = json!({
        "type": "SUBSCRIBE",
        "framework_id": {"value": "F"},
        "executor_id": {"value": "E"},
        "subscribe": {},
    });
    let mut raw = Raw::connect(cluster.follower.address).await;
    let body = subscribe.to_string();
    // The task and this call come over different connections: wait until the first has arrived.
    let launched = |state: &Value| state["frameworks"][0]["executors"][0].is_object();
    cluster.json_once("/state", launched).await;
    raw.send(format!(
        "POST /api/v1/executor HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let head = String::from_utf8(raw.until(b"\r\n\r\n").await).expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.to_lowercase().contains("mesos-stream-id"));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let record = String::from_utf8(raw.chunk().await).expect("text");
        let (_, event) = record.split_once('\n').expect("a length");
        let event: Value = serde_json::from_str(event).expect("JSON");
        kinds.push(event["type"].as_str().expect("a type").to_owned());
    }
    assert_eq!(kinds, ["SUBSCRIBED", "LAUNCH"]);
    let update = json!({
        "type": "UPDATE",
        "framework_id": {"value": "F"},
        "executor_id": {"value": "E"},
        "update": {"status": {
            "task_id": {"value": "custom"},
            "executor_id": {"value": "E"},
            "state": "TASK_RUNNING",
            "source": "SOURCE_EXECUTOR",
            "timestamp": 1.0,
            "uuid": "AAAAAAAAQACAAAAAAAAAAA==",
        }},
    });
    assert_eq!(cluster.post("/api/v1/executor", &update).await.0, 202);
    cluster.states(&[TaskRunning]).await;
    cluster.tell(i::ShutdownExecutorMessage {
        framework_id: framework().id,
        executor_id: Some(v1::ExecutorId {
            value: "E".to_owned(),
        }),
    });
    let record = String::from_utf8(raw.chunk().await).expect("text");
    assert!(
        record.contains("ACKNOWLEDGED") || record.contains("SHUTDOWN"),
        "{record}"
    );
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn the_reads_answer_under_all_their_names() {
    let mut cluster = Cluster::start().await;
    cluster.run(task("sleeps", "sleep 1000"));
    cluster.states(&[TaskStarting, TaskRunning]).await;
    for prefix in ["", "/slave(1)", "/slave", "/agent"] {
        for path in ["/health", "/version", "/state", "/flags", "/containers"] {
            let (status, text) = cluster.get(&format!("{prefix}{path}")).await;
            assert_eq!(status, 200, "{prefix}{path}: {text}");
        }
    }
    let statistics = cluster.json("/monitor/statistics.json").await;
    let statistics = &statistics[0]["statistics"];
    assert!(statistics["mem_rss_bytes"].as_u64().expect("bytes") > 0);
    // As the reference: the isolators that are on count no processes.
    assert!(statistics["processes"].is_null());
    let metrics = cluster.json("/metrics/snapshot").await;
    assert_eq!(metrics["slave/tasks_running"], 1.0);
    assert!(metrics["system/cpus_total"].is_number());

    let call = json!({"type": "GET_CONTAINERS"});
    let (status, text) = cluster.post("/api/v1", &call).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("\"mem_rss_bytes\""), "{text}");
    let call = json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {"container_id": {"value": "x"}}});
    let (status, text) = cluster.post("/slave(1)/api/v1", &call).await;
    assert_eq!(status, 400);
    assert!(text.contains("container_id.parent"), "{text}");
    let call =
        json!({"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "x"}}});
    let (status, text) = cluster.post("/slave(1)/api/v1", &call).await;
    assert_eq!(status, 501);
    assert!(text.contains("LAUNCH_CONTAINER"), "{text}");
    assert_eq!(cluster.post("/api/v1", &json!({})).await.0, 400);
    assert_eq!(cluster.get("/nothing").await.0, 404);
    cluster.follower.shutdown().await;
}

#[tokio::test]
async fn many_short_tasks_all_finish_and_nothing_of_them_is_left() {
    const TASKS: usize = 200;
    let mut cluster = Cluster::start().await;
    for n in 0..TASKS {
        cluster.run(task(&n.to_string(), "true"));
    }
    let all = cluster.by_task(3 * TASKS).await;
    assert_eq!(all.len(), TASKS);
    for (id, statuses) in &all {
        let states: Vec<_> = statuses.iter().map(v1::TaskStatus::state).collect();
        assert_eq!(states, [TaskStarting, TaskRunning, TaskFinished], "{id}");
    }
    let frameworks = |state: &Value| state["frameworks"].as_array().map_or(0, Vec::len);
    let gone = |state: &Value| frameworks(state) == 0;
    cluster.json_once("/state", gone).await;
    assert_eq!(cluster.json("/containers").await, json!([]));
    cluster.follower.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_has_ended_by_itself_can_still_be_shut_down() {
    let mut cluster = Cluster::start().await;
    cluster.follower.unregister("tested");
    cluster
        .follower
        .ended()
        .await
        .expect("it unregisters and ends");
    // Its containers are waited for here: the end that was taken already is not.
    cluster.follower.shutdown().await;
}
