//! A v0 executor driver as libmesos 1.x was recorded: registers with its follower, runs what it is told, is acknowledged.
//!
//! The executor's container holds a `sleep`; the test says what the executor in it would say.

use base64::Engine as _;
use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Request, send};
use tepui_tests::libprocess::Peer;
use tepui_tests::wait::eventually;

use super::libmesos::{Driver, SOON, command, decode, description, encode, internal};

const PROCESS: &str = "executor(1)";

struct Executor<'a> {
    peer: &'a Peer,
    cluster: &'a Cluster,
    framework: Value,
}

impl Executor<'_> {
    fn say(&self, name: &str, body: &Value) {
        let name = internal(name);
        let follower = format!("slave(1)@{}", self.cluster.follower);
        let sent = self
            .peer
            .send(PROCESS, &follower, &name, &encode(&name, body));
        sent.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn register(&self) {
        let body = json!({"framework_id": self.framework, "executor_id": {"value": "played"}});
        self.say("RegisterExecutorMessage", &body);
    }

    fn expect(&self, name: &str) -> Value {
        let name = internal(name);
        let found = self.peer.take(SOON, |message| {
            message.to == PROCESS && message.name == name
        });
        let found = found.unwrap_or_else(|| panic!("no {name}:\n{}", self.peer.summary()));
        decode(&name, &found.body)
    }

    /// Reports a state under a UUID of one byte sixteen times, and is acknowledged.
    fn update(&self, slave: &Value, task: &str, state: &str, byte: u8) {
        let uuid = coded(&[byte; 16]);
        let status = json!({
            "task_id": {"value": task}, "state": state, "slave_id": slave, "executor_id": {"value": "played"},
            "source": "SOURCE_EXECUTOR", "uuid": uuid, "timestamp": 1.5,
        });
        let update = json!({
            "framework_id": self.framework, "executor_id": {"value": "played"}, "slave_id": slave, "status": status,
            "timestamp": 1.5, "uuid": uuid,
        });
        let body = json!({"update": update, "pid": self.peer.pid(PROCESS)});
        self.say("StatusUpdateMessage", &body);
        let acknowledged = self.expect("StatusUpdateAcknowledgementMessage");
        let expected = json!({
            "slave_id": slave, "framework_id": self.framework, "task_id": {"value": task}, "uuid": uuid,
        });
        assert_eq!(acknowledged, expected);
    }
}

fn coded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A task of the one executor.
fn task(id: &str, offer: &Value) -> Value {
    let mut task = command(id, offer, "");
    task.as_object_mut().map(|task| task.remove("command"));
    task["executor"] = json!({
        "executor_id": {"value": "played"}, "command": {"value": "exec sleep 600"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, "role": "*"}],
    });
    task
}

/// Whether the follower has launched the executor and waits for it.
fn launched(cluster: &Cluster) -> bool {
    let state = send(cluster.follower, &Request::get("/state"));
    let Ok(state) = state.map(|state| state.json()) else {
        return false;
    };
    state["frameworks"][0]["executors"][0]["id"] == "played"
}

#[test]
fn a_v0_executor_registers_runs_a_task_hears_and_is_heard_and_is_shut_down() {
    let cluster = Cluster::builder().apart().start();
    let (peer, own) = (Peer::new(), Peer::new());
    let mut driver = Driver::new(&peer, cluster.leader);
    driver.subscribe(&description("executor"));
    let (offer, slave_pid) = driver.offer();
    let slave = &offer["slave_id"];
    driver.launch(&offer, vec![task("first", &offer)]);
    assert!(
        eventually(SOON, || launched(&cluster)),
        "{}",
        cluster.logs()
    );

    let executor = Executor {
        peer: &own,
        cluster: &cluster,
        framework: driver.id.clone(),
    };
    executor.register();
    let registered = executor.expect("ExecutorRegisteredMessage");
    assert_eq!(
        registered["executor_info"]["executor_id"]["value"],
        "played"
    );
    assert_eq!(registered["framework_id"], driver.id);
    assert_eq!(registered["framework_info"]["name"], "executor");
    assert_eq!(registered["slave_id"], *slave);
    assert!(registered["slave_info"]["hostname"].is_string());
    let run = executor.expect("RunTaskMessage");
    assert_eq!(run["task"]["task_id"]["value"], "first");
    assert_eq!(run["framework"]["id"], driver.id);
    executor.update(slave, "first", "TASK_RUNNING", 1);
    assert_eq!(driver.until("first", "TASK_RUNNING"), ["TASK_RUNNING"]);

    // By way of the leader, and straight to the follower as drivers do who know where it is.
    let (one, other) = (coded(b"by call \0\xff"), coded(b"straight"));
    let to = json!({"value": "played"});
    driver.call(
        json!({"type": "MESSAGE", "message": {"slave_id": slave, "executor_id": to, "data": one}}),
    );
    assert_eq!(executor.expect("FrameworkToExecutorMessage")["data"], one);
    let name = internal("FrameworkToExecutorMessage");
    let body =
        json!({"slave_id": slave, "framework_id": driver.id, "executor_id": to, "data": other});
    let sent = peer.send(&driver.name, &slave_pid, &name, &encode(&name, &body));
    sent.expect("the follower reads");
    assert_eq!(executor.expect("FrameworkToExecutorMessage")["data"], other);
    let body =
        json!({"slave_id": slave, "framework_id": driver.id, "executor_id": to, "data": one});
    executor.say("ExecutorToFrameworkMessage", &body);
    assert_eq!(driver.expect("ExecutorToFrameworkMessage"), body);

    driver.call(json!({"type": "KILL", "kill": {"task_id": {"value": "first"}}}));
    assert_eq!(
        executor.expect("KillTaskMessage")["task_id"]["value"],
        "first"
    );
    executor.update(slave, "first", "TASK_KILLED", 2);
    driver.until("first", "TASK_KILLED");

    driver.call(json!({"type": "TEARDOWN"}));
    executor.expect("ShutdownExecutorMessage");
    assert_eq!(own.problems(), Vec::<String>::new());
}

#[test]
fn a_second_process_that_claims_to_be_a_v0_executor_is_told_to_end_and_gets_nothing() {
    let cluster = Cluster::mixed();
    let (peer, own, stranger) = (Peer::new(), Peer::new(), Peer::new());
    let mut driver = Driver::new(&peer, cluster.leader);
    driver.subscribe(&description("executor"));
    let (offer, _) = driver.offer();
    driver.launch(&offer, vec![task("first", &offer)]);
    assert!(
        eventually(SOON, || launched(&cluster)),
        "{}",
        cluster.logs()
    );
    let executor = |peer| Executor {
        peer,
        cluster: &cluster,
        framework: driver.id.clone(),
    };
    let (executor, second) = (executor(&own), executor(&stranger));
    executor.register();
    executor.expect("ExecutorRegisteredMessage");
    executor.expect("RunTaskMessage");
    second.register();
    second.expect("ShutdownExecutorMessage");
    assert!(stranger.untaken().is_empty(), "{}", stranger.summary());
    executor.update(&offer["slave_id"], "first", "TASK_RUNNING", 1);
    driver.until("first", "TASK_RUNNING");
}

#[test]
fn a_v0_executor_that_nobody_knows_is_told_to_end() {
    let cluster = Cluster::mixed();
    let own = Peer::new();
    let executor = Executor {
        peer: &own,
        cluster: &cluster,
        framework: json!({"value": "no-such-framework"}),
    };
    executor.register();
    executor.expect("ShutdownExecutorMessage");
}
