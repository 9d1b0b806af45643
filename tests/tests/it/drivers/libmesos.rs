//! A v0 scheduler driver as libmesos 1.x was recorded on the wire (`basic.wire.jsonl`): `mesos.scheduler.Call` to the leader,
//! the driver messages back, everything on one kept connection in each direction. It says what it is told and nothing else.
//!
//! Bodies are written and compared as JSON in v0 names.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tepui_protocol::json::{self, Names};
use tepui_protocol::v0;
use tepui_tests::libprocess::Peer;

/// Far more than any answer takes.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const V1_CALL: &str = "mesos.v1.scheduler.Call";

/// The bytes of a message by its full name.
pub(crate) fn encode(name: &str, body: &Value) -> Vec<u8> {
    let bytes = json::decode_bytes(name, body.to_string().as_bytes(), Names::V0);
    bytes.unwrap_or_else(|error| panic!("{name}: {error}: {body}"))
}

/// A message's body as JSON.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Value {
    let mut text = String::new();
    if let Err(error) = json::encode_bytes(name, bytes, Names::V0, &mut text) {
        panic!("{name}: {error}");
    }
    serde_json::from_str(&text).expect("what the protocol writes is JSON")
}

/// The full name of an internal message.
pub(crate) fn internal(name: &str) -> String {
    format!("mesos.internal.{name}")
}

/// One driver.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    pub(crate) peer: &'a Peer,
    /// Its process, `scheduler-…`.
    pub(crate) name: String,
    pub(crate) leader: SocketAddr,
    /// Null until it is registered.
    pub(crate) id: Value,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(peer: &'a Peer, leader: SocketAddr) -> Driver<'a> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Driver {
            peer,
            name: format!("scheduler-{number:08x}-4dd7-4a7e-b5d0-0123456789ab"),
            leader,
            id: Value::Null,
        }
    }

    pub(crate) fn pid(&self) -> String {
        self.peer.pid(&self.name)
    }

    /// Sends a call with the framework's id, if it has one.
    pub(crate) fn call(&self, mut call: Value) {
        if !self.id.is_null() {
            call["framework_id"] = self.id.clone();
        }
        let bytes = v0::scheduler_call_to_v0(encode(V1_CALL, &call));
        self.post("mesos.scheduler.Call", &bytes);
    }

    /// Sends one of the older messages.
    pub(crate) fn say(&self, name: &str, body: &Value) {
        let name = internal(name);
        self.post(&name, &encode(&name, body));
    }

    fn post(&self, name: &str, bytes: &[u8]) {
        let leader = format!("master@{}", self.leader);
        let sent = self.peer.send(&self.name, &leader, name, bytes);
        sent.unwrap_or_else(|error| panic!("{name} to {leader}: {error}"));
    }

    /// The next untaken message of that name.
    pub(crate) fn expect(&self, name: &str) -> Value {
        self.expect_where(name, |_| true)
    }

    /// The next untaken message of that name that fits.
    pub(crate) fn expect_where(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let full = internal(name);
        let message = self.peer.take(SOON, |message| {
            message.to == self.name && message.name == full && fits(&decode(&full, &message.body))
        });
        match message {
            Some(message) => decode(&full, &message.body),
            None => panic!("{} got no {name}:\n{}", self.name, self.peer.summary()),
        }
    }

    /// Names of what has arrived for it and was not taken, in order.
    pub(crate) fn untaken(&self) -> Vec<String> {
        let untaken = self.peer.untaken().into_iter();
        let own = untaken.filter(|message| message.to == self.name);
        own.map(|message| message.name.replace("mesos.internal.", ""))
            .collect()
    }

    /// Returns when the leader has handled all that this driver's process has sent so far, and all that it said to that has
    /// arrived: messages between two addresses keep their order, so what comes after shows that what was before is done.
    pub(crate) fn settle(&self) {
        settle(self.peer, self.leader);
    }

    /// Subscribes with a description and notes the id that it gets.
    pub(crate) fn subscribe(&mut self, info: &Value) -> Value {
        self.call(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}));
        let registered = self.expect("FrameworkRegisteredMessage");
        self.id = registered["framework_id"].clone();
        registered
    }

    /// The next offer and the address of its follower.
    pub(crate) fn offer(&self) -> (Value, String) {
        let offers = self.expect("ResourceOffersMessage");
        let pid = offers["pids"][0].as_str().expect("an offer has a pid");
        (offers["offers"][0].clone(), pid.to_owned())
    }

    /// Launches tasks on an offer; the rest comes back at once.
    pub(crate) fn launch(&self, offer: &Value, tasks: Vec<Value>) {
        self.call(json!({"type": "ACCEPT", "accept": {
            "offer_ids": [offer["id"]],
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
            "filters": {"refuse_seconds": 0},
        }}));
    }

    /// Reads and acknowledges a task's updates until `state`; the states seen.
    pub(crate) fn until(&self, task: &str, state: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let update = self.expect_where("StatusUpdateMessage", |update| {
                update["update"]["status"]["task_id"]["value"] == task
            });
            let status = &update["update"]["status"];
            self.acknowledge(&update);
            let now = status["state"].as_str().expect("a state").to_owned();
            let over = now == state;
            seen.push(now);
            if over {
                return seen;
            }
            assert!(seen.len() < 6, "{task}: {seen:?}: {update}");
        }
    }

    /// What libmesos says to an update that has a UUID and comes from a follower.
    pub(crate) fn acknowledge(&self, update: &Value) {
        let update = &update["update"];
        if update["uuid"].is_string() {
            self.call(json!({"type": "ACKNOWLEDGE", "acknowledge": {
                "slave_id": update["slave_id"], "task_id": update["status"]["task_id"], "uuid": update["uuid"],
            }}));
        }
    }
}

/// See [`Driver::settle`]. The marker is a request that names nobody, which is always answered.
pub(crate) fn settle(peer: &Peer, leader: SocketAddr) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let marker = format!("marker-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let name = internal("AuthenticateMessage");
    let body = encode(&name, &json!({"pid": "nobody"}));
    let sent = peer.send(&marker, &format!("master@{leader}"), &name, &body);
    sent.unwrap_or_else(|error| panic!("the marker: {error}"));
    let answer = internal("AuthenticationErrorMessage");
    peer.expect(&marker, &answer, SOON);
}

/// A framework's description as libmesos' drivers send it.
pub(crate) fn description(name: &str) -> Value {
    json!({
        "user": "root", "name": name, "hostname": "localhost", "checkpoint": false, "failover_timeout": 100.0, "roles": ["*"],
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
    })
}

/// A command task for an offer.
pub(crate) fn command(id: &str, offer: &Value, command: &str) -> Value {
    json!({
        "name": id, "task_id": {"value": id}, "slave_id": offer["slave_id"], "command": {"value": command},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, "role": "*"},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}, "role": "*"},
        ],
    })
}
