//! A framework of the tests' own: subscribed over the v1 scheduler API in JSON, with its events in a queue.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Chunks, PATIENCE, Request, Response, connect, read_head, read_record, send};

/// The path of the v1 scheduler API.
pub const SCHEDULER: &str = "/api/v1/scheduler";

/// A subscribed framework.
#[derive(Debug)]
pub struct Framework {
    leader: SocketAddr,
    connection: Connection,
    events: Receiver<Value>,
    unread: VecDeque<Value>,
    /// Its id, as the leader gave it.
    pub id: String,
    /// The id of its event stream.
    pub stream_id: String,
}

/// Who holds the subscription's connection.
#[derive(Debug)]
enum Connection {
    Own(TcpStream),
    Process(Child),
}

impl Framework {
    /// Subscribes a framework called `name` in role `*`, partition aware, that acknowledges for itself.
    pub fn subscribe(leader: SocketAddr, name: &str) -> Framework {
        let info = json!({
            "user": "root", "name": name, "roles": ["*"],
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}],
        });
        Framework::subscribe_with(
            leader,
            &json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}),
        )
    }

    /// Subscribes with a whole call.
    pub fn subscribe_with(leader: SocketAddr, call: &Value) -> Framework {
        let mut connection = connect(leader, PATIENCE).expect("the leader accepts connections");
        let request = Request::post_json(SCHEDULER, call).header("Accept", "application/json");
        connection
            .write_all(&request.to_bytes(leader))
            .expect("the leader reads");
        let mut reader = BufReader::new(connection.try_clone().expect("a socket can be shared"));
        let (status, headers) = read_head(&mut reader).expect("the leader answers");
        assert_eq!(status, 200, "SUBSCRIBE is accepted: {headers:?}");
        let stream_id = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("Mesos-Stream-Id"));
        let stream_id = stream_id
            .expect("SUBSCRIBE is answered with a stream id")
            .1
            .clone();

        let (sender, events) = channel();
        // The stream ends when either side closes it: the reader then ends with it.
        connection
            .set_read_timeout(None)
            .expect("a socket can wait");
        std::thread::spawn(move || {
            let mut chunks = Chunks::new(reader);
            while let Ok(Some(record)) = read_record(&mut chunks) {
                let Ok(event) = serde_json::from_slice(&record) else {
                    break;
                };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Framework::subscribed(leader, Connection::Own(connection), events, stream_id)
    }

    /// Subscribes with a whole call, from a process of its own that a test can kill.
    pub fn subscribe_in_process(leader: SocketAddr, call: &Value) -> Framework {
        let script = crate::crate_folder().join("clients/subscriber.py");
        let mut child = Command::new(crate::programs::python())
            .arg("-B")
            .arg(script)
            .arg(leader.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut input = child.stdin.take().expect("its input is a pipe");
        input
            .write_all(call.to_string().as_bytes())
            .expect("it reads the call");
        drop(input);
        let mut lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let first = lines.next().and_then(Result::ok);
        let first: Value = first
            .and_then(|line| serde_json::from_str(&line).ok())
            .expect("the subscription is accepted");
        let stream_id = first["stream_id"].as_str().unwrap_or_default().to_owned();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else {
                    break;
                };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Framework::subscribed(leader, Connection::Process(child), events, stream_id)
    }

    fn subscribed(
        leader: SocketAddr,
        connection: Connection,
        events: Receiver<Value>,
        stream_id: String,
    ) -> Framework {
        let mut framework = Framework {
            leader,
            connection,
            events,
            unread: VecDeque::new(),
            id: String::new(),
            stream_id,
        };
        let subscribed = framework.wait_for("SUBSCRIBED", |_| true);
        framework.id = subscribed["framework_id"]["value"]
            .as_str()
            .expect("SUBSCRIBED names the framework")
            .to_owned();
        framework
    }

    /// `kill -9` of the process that holds the subscription; returns when it is gone. Its id stays usable.
    pub fn kill(&mut self) {
        match &mut self.connection {
            Connection::Process(child) => {
                child.kill().expect("it can be killed");
                child.wait().expect("it ends");
            }
            Connection::Own(_) => panic!("this framework has no process of its own"),
        }
    }

    /// Sends a call; `framework_id` and the stream id are filled in.
    pub fn call(&self, mut call: Value) -> Response {
        call["framework_id"] = json!({"value": self.id});
        let request =
            Request::post_json(SCHEDULER, &call).header("Mesos-Stream-Id", &self.stream_id);
        send(self.leader, &request).expect("the leader answers")
    }

    /// Sends a call that must be accepted.
    pub fn must(&self, call: Value) {
        let kind = call["type"].clone();
        let response = self.call(call);
        assert_eq!(response.status, 202, "{kind}: {}", response.text());
    }

    /// The next event of a type for which `wanted` holds; events before it stay for later calls.
    pub fn wait_for(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(PATIENCE, kind, wanted).unwrap_or_else(|| {
            panic!(
                "no such {kind} event within {PATIENCE:?}; unread: {:?}",
                self.unread
            )
        })
    }

    /// As [`Framework::wait_for`], with none when it does not come in time.
    pub fn wait_within(
        &mut self,
        patience: Duration,
        kind: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Option<Value> {
        let key = kind.to_ascii_lowercase();
        let matches = |event: &Value| event["type"] == kind && wanted(&event[&key]);
        if let Some(at) = self.unread.iter().position(matches) {
            return self.unread.remove(at).map(|event| event[&key].clone());
        }
        let deadline = Instant::now() + patience;
        loop {
            match self
                .events
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(event) if matches(&event) => return Some(event[&key].clone()),
                Ok(event) if event["type"] == "HEARTBEAT" => {}
                Ok(event) => self.unread.push_back(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The next offer.
    pub fn offer(&mut self) -> Value {
        let offers = self.wait_for("OFFERS", |offers| {
            offers["offers"]
                .as_array()
                .is_some_and(|offers| !offers.is_empty())
        });
        offers["offers"][0].clone()
    }

    /// Sends all events from now on, each with `tag`, to a queue that several frameworks share. Nothing is to be waited for here
    /// any more.
    pub fn forward<T: Copy + Send + 'static>(&mut self, tag: T, to: Sender<(T, Value)>) {
        let (_, none) = channel();
        let events = std::mem::replace(&mut self.events, none);
        for event in std::mem::take(&mut self.unread) {
            to.send((tag, event)).ok();
        }
        std::thread::spawn(move || {
            while let Ok(event) = events.recv() {
                if to.send((tag, event)).is_err() {
                    break;
                }
            }
        });
    }

    /// Offers that have been rescinded or used are of no more interest.
    pub fn forget_offers(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.unread.push_back(event);
        }
        self.unread
            .retain(|event| event["type"] != "OFFERS" && event["type"] != "RESCIND");
    }

    /// The status of the next update for a task, acknowledged when it wants to be.
    pub fn update(&mut self, task: &str) -> Value {
        let update = self.wait_for("UPDATE", |update| {
            update["status"]["task_id"]["value"] == task
        });
        let status = update["status"].clone();
        if !status["uuid"].is_null() {
            self.must(json!({"type": "ACKNOWLEDGE", "acknowledge": {
                "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
            }}));
        }
        status
    }

    /// Reads a task's updates until the state is `state`.
    pub fn until(&mut self, task: &str, state: &str) -> Value {
        loop {
            let status = self.update(task);
            if status["state"] == state {
                return status;
            }
            assert!(
                !is_terminal(&status["state"]),
                "{task} ended before it was {state}: {status}"
            );
        }
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        match &mut self.connection {
            Connection::Own(connection) => {
                connection.shutdown(Shutdown::Both).ok();
            }
            Connection::Process(child) => {
                child.kill().ok();
                child.wait().ok();
            }
        }
    }
}

fn is_terminal(state: &Value) -> bool {
    [
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
    ]
    .iter()
    .any(|terminal| state == terminal)
}

/// A task that runs `command` in a shell, for an offer.
pub fn command_task(id: &str, offer: &Value, command: &str) -> Value {
    json!({
        "name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"],
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
        ],
        "command": {"value": command},
    })
}

/// An ACCEPT of one offer that launches tasks; what is left comes back at once.
pub fn launch(offer: &Value, tasks: Vec<Value>) -> Value {
    json!({"type": "ACCEPT", "accept": {
        "offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
        "filters": {"refuse_seconds": 0},
    }})
}
