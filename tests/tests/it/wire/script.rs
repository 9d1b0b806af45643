//! A recording as a script: who said what to whom, in order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::codec::decode;
use crate::recordings::{body_bytes, folder};

/// One line of a recording.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Its place in the file, from 0.
    pub(crate) number: usize,
    /// The connection it was on.
    pub(crate) conn: u64,
    /// The port that the connection was opened to.
    pub(crate) port: u16,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Message(Said),
    Request(Asked),
    Response {
        status: u16,
        text: String,
        /// Ids of event streams, and how to authenticate.
        headers: BTreeMap<&'static str, String>,
    },
    Record {
        bytes: Vec<u8>,
        of: &'static str,
        body: Value,
    },
    Other,
}

/// A libprocess message.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) from: Process,
    pub(crate) to: Process,
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: Value,
    /// The lines of its head, in the recorded order.
    pub(crate) head: Vec<String>,
    /// `FROM -> TO NAME`, for rules; a command executor is called so.
    pub(crate) label: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A request of one of the v1 APIs.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) json: bool,
}

/// The script of a scenario.
pub(crate) fn read(scenario: &str) -> Vec<Line> {
    let path = folder().join(format!("{scenario}.wire.jsonl"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut requests = BTreeMap::new();
    let mut lines: Vec<Line> = Vec::new();
    for (number, text) in text.lines().enumerate() {
        let value: Value = serde_json::from_str(text).expect("a recording is JSON lines");
        let conn = value["conn"].as_u64().expect("a connection");
        let port = port_of(&value["ports"][1]);
        let what = match value["kind"].as_str() {
            Some("libprocess") => What::Message(message(&value, text, port)),
            Some("request") => {
                let asked = asked(&value, text);
                requests.insert(conn, asked.clone());
                What::Request(asked)
            }
            Some("response") if value["to_request"] != "?" => What::Response {
                status: status(&value),
                headers: kept(&value["headers"]),
                text: String::from_utf8_lossy(&body_bytes(&value)).into_owned(),
            },
            Some("record") => record(&value, requests.get(&conn)),
            _ => What::Other,
        };
        lines.push(Line {
            number,
            conn,
            port,
            what,
        });
    }
    name_command_executors(&mut lines);
    lines
}

/// The headers of responses that are compared.
const KEPT: [&str; 2] = ["Mesos-Stream-Id", "WWW-Authenticate"];

fn kept(headers: &Value) -> BTreeMap<&'static str, String> {
    let value = |name: &str| headers[name].as_str().map(str::to_owned);
    KEPT.iter()
        .filter_map(|name| Some((*name, value(name)?)))
        .collect()
}

fn port_of(value: &Value) -> u16 {
    value
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .expect("a port")
}

fn status(value: &Value) -> u16 {
    let head = value["head"].as_str().unwrap_or_default();
    head.split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status")
}

fn message(value: &Value, text: &str, port: u16) -> Said {
    let string = |name: &str| {
        value[name]
            .as_str()
            .expect("a recorded message is complete")
            .to_owned()
    };
    let sender = string("frm");
    let (from, address) = sender.rsplit_once('@').expect("a pid");
    let from_port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let from = Process {
        name: from.to_owned(),
        port: from_port.expect("a port"),
    };
    let to = Process {
        name: string("to").trim_start_matches('/').to_owned(),
        port,
    };
    let name = string("message");
    let bytes = body_bytes(value);
    let mut head = vec![string("head")];
    head.extend(
        headers(text)
            .into_iter()
            .map(|(name, value)| format!("{name}: {value}")),
    );
    let in_scope = !name.starts_with("mesos.internal.log.");
    let body = if in_scope {
        decode(&name, &bytes).expect("a recorded message is read")
    } else {
        Value::Null
    };
    Said {
        label: format!("{} -> {} {name}", from.name, to.name),
        from,
        to,
        name,
        bytes,
        body,
        head,
    }
}

/// The headers of a line in their recorded order, which parsing as JSON does not keep.
fn headers(text: &str) -> Vec<(String, String)> {
    let start = text
        .find("\"headers\": {")
        .map_or(0, |at| at + "\"headers\": {".len());
    let end = text[start..].find("}, \"").map_or(start, |at| start + at);
    let quoted: Vec<&str> = text[start..end].split('"').skip(1).step_by(2).collect();
    quoted
        .chunks_exact(2)
        .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
        .collect()
}

fn asked(value: &Value, text: &str) -> Asked {
    let head = value["head"].as_str().unwrap_or_default();
    let content = value["headers"]["Content-Type"]
        .as_str()
        .unwrap_or_default();
    Asked {
        method: head.split(' ').next().unwrap_or_default().to_owned(),
        path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
        headers: headers(text),
        bytes: body_bytes(value),
        json: content.contains("json"),
    }
}

fn record(value: &Value, request: Option<&Asked>) -> What {
    let path = request.map_or("", |request| &request.path);
    let of = if path.ends_with("/api/v1/executor") {
        "mesos.v1.executor.Event"
    } else if path.ends_with("/api/v1/scheduler") {
        "mesos.v1.scheduler.Event"
    } else {
        return What::Other;
    };
    let bytes = body_bytes(value);
    let body = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(_) => decode(of, &bytes).expect("a recorded event is read"),
    };
    What::Record { bytes, of, body }
}

/// Executors that the reference runs for tasks without one: processes of their own there, a core inside the follower here.
fn name_command_executors(lines: &mut [Line]) {
    let mut commands = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for line in lines.iter_mut() {
        let What::Message(said) = &mut line.what else {
            continue;
        };
        let text = |path: &str| {
            said.body
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let of_framework = |id: &str| format!("{} {id}", text("/framework_id/value"));
        if said.name == "mesos.internal.RunTaskMessage"
            && said.body.pointer("/task/executor").is_none()
        {
            let framework = text("/framework/id/value");
            commands.insert(format!("{framework} {}", text("/task/task_id/value")));
        }
        if said.name == "mesos.internal.RegisterExecutorMessage"
            && commands.contains(&of_framework(text("/executor_id/value")))
        {
            ports.insert(said.from.port);
        }
    }
    for line in lines {
        let What::Message(said) = &mut line.what else {
            continue;
        };
        let name = |process: &Process| {
            let command = ports.contains(&process.port);
            if command {
                "command executor".to_owned()
            } else {
                process.name.clone()
            }
        };
        said.label = format!("{} -> {} {}", name(&said.from), name(&said.to), said.name);
    }
}
