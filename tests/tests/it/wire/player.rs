//! Plays a recording to one of our processes: says what its surroundings said, waits for what the recorded process answered.
//!
//! Whatever was recorded before something is said must have arrived before it is said here: an answer may be late but not
//! missing. Between two messages on one channel (from one process to another) the recorded order holds, unless they are about
//! different tasks, which nothing orders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tepui_tests::libprocess::{Message, Peer};

use super::codec::{decode, exchange, same_shape};
use super::cram;
use super::http::{Back, Connections};
use super::names::Names;
use super::offers;
use super::player_http::event;
use super::rules::Rules;
use super::script::{Asked, Line, Said, What};

/// How long an answer may take. One ping in the recordings comes 15 seconds after the one before.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the recorded libprocess messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Said in the place of the recorded surroundings.
    pub(crate) said: usize,
    /// Said by us, and compared with the recorded ones.
    pub(crate) compared: usize,
    /// Not said by us, as tolerated.
    pub(crate) missing: usize,
    /// Left out, as tolerated.
    pub(crate) not_replayed: usize,
    /// Recorded between two others.
    pub(crate) between_others: usize,
}

pub(crate) struct Player {
    /// The ports of the recorded process in whose place we are.
    ours: BTreeSet<u16>,
    ip: Ipv4Addr,
    aliases: BTreeMap<u16, u16>,
    /// Names of this run.
    pub(crate) names: Names,
    pub(super) rules: Rules,
    peers: BTreeMap<u16, Peer>,
    pub(super) http: Connections,
    /// Whether requests to other endpoints than the v1 APIs' are played too; of them the status is compared, and errors.
    pub(crate) all_requests: bool,
    /// Types of the operator's calls that are played too.
    pub(crate) operators_calls: &'static [&'static str],
    /// The first request of each connection.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Ids of the event streams of connections.
    pub(super) streams: BTreeMap<u64, String>,
    /// Secrets of recorded authenticatees, by the line on which they answer a challenge.
    pub(crate) secrets: BTreeMap<usize, &'static str>,
    challenges: BTreeMap<u16, Vec<u8>>,
    arrived: BTreeMap<String, Vec<(usize, Option<String>, usize)>>,
    problems: Vec<String>,
    report: Report,
    /// Messages of ours whose bytes are the recorded ones to the last.
    identical: usize,
    /// Whether the last comparison allowed other fields or another order.
    rearranged: bool,
    /// Messages of ours whose bytes are what the recorded ones become with this run's names.
    exact: usize,
    /// Events of v1 APIs that were compared.
    pub(super) events: usize,
    /// Responses that were compared.
    pub(super) responses: usize,
}

impl Player {
    /// A player for the surroundings of the process that had these ports.
    pub(crate) fn new(who: &str, scenario: &str, ours: &[u16], ip: Ipv4Addr) -> Player {
        let mut names = Names::default();
        names.bind("127.0.0.1", &ip.to_string());
        Player {
            ours: ours.iter().copied().collect(),
            ip,
            aliases: BTreeMap::new(),
            names,
            rules: Rules::read(who, scenario),
            peers: BTreeMap::new(),
            http: Connections::new(),
            all_requests: false,
            operators_calls: &[],
            asked: BTreeMap::new(),
            streams: BTreeMap::new(),
            secrets: BTreeMap::new(),
            challenges: BTreeMap::new(),
            arrived: BTreeMap::new(),
            problems: Vec::new(),
            report: Report::default(),
            identical: 0,
            rearranged: false,
            exact: 0,
            events: 0,
            responses: 0,
        }
    }

    /// From now on one of our peers also stands for the process that had another recorded port.
    pub(crate) fn alias(&mut self, recorded: u16, stands_in: u16) {
        self.aliases.insert(recorded, stands_in);
        let address = self.address(stands_in).to_string();
        self.names.bind(&format!("127.0.0.1:{recorded}"), &address);
    }

    /// Where a recorded port is in this run.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, self.aliases.get(&port).copied().unwrap_or(port)))
    }

    /// The peer that has a recorded port.
    pub(crate) fn peer(&mut self, port: u16) -> &Peer {
        let address = self.address(port);
        self.peers
            .entry(address.port())
            .or_insert_with(|| Peer::on(address))
    }

    /// Closes a v1 connection, as its process did there.
    pub(crate) fn close(&mut self, conn: u64) {
        self.http.close(conn);
    }

    /// Plays one line.
    pub(crate) fn play(&mut self, line: &Line) {
        match &line.what {
            What::Message(said) => self.play_message(line, said),
            What::Request(asked) if self.ours.contains(&line.port) => self.ask(line, asked),
            What::Response {
                status,
                text,
                headers,
            } if self.plays(line) => {
                self.expect_response(line, *status, text, headers);
            }
            What::Record { of, body, bytes } if self.plays(line) => {
                self.expect_record(line, of, body, bytes)
            }
            _ => {}
        }
    }

    /// Waits until all that our follower has said to its master has arrived: its answer to one more ping comes after it.
    pub(crate) fn ping_once_more(&mut self, master: u16, agent: u16) {
        let to = format!("slave(1)@{}", self.address(agent));
        let peer = self.peer(master);
        // {connected: true}
        let body = [0x08, 0x01];
        let sent = peer.send(
            "slave-observer(1)",
            &to,
            "mesos.internal.PingSlaveMessage",
            &body,
        );
        assert!(sent.is_ok(), "{sent:?}");
        let is_pong = |message: &Message| message.name == "mesos.internal.PongSlaveMessage";
        assert!(
            peer.take(PATIENCE, is_pong).is_some(),
            "the last ping is answered"
        );
    }

    /// Compares what became of all with what should have, after the last line; panics with everything that was different.
    /// `exact` messages or more must be the recorded ones to the byte, but for the names of this run.
    pub(crate) fn finish(mut self, exact: usize, expected: &Report) {
        for peer in std::mem::take(&mut self.peers).into_values() {
            for message in peer.untaken() {
                let from = message.from.split('@').next().unwrap_or_default();
                let label = format!("{from} -> {} {}", message.to, message.name);
                if !self.rules.allow("extra", None, &label, None) {
                    let body = decode(&message.name, &message.body).unwrap_or_default();
                    self.problems
                        .push(format!("not recorded: {label} {body:.400}"));
                }
            }
            self.problems.extend(peer.problems());
        }
        for (conn, back) in self.http.untaken() {
            if let Back::Record(bytes) = back {
                let (of, body) = event(&bytes);
                let label = format!("event {of} {}", body["type"].as_str().unwrap_or_default());
                if body["type"] != "HEARTBEAT" && !self.rules.allow("extra", None, &label, None) {
                    self.problems
                        .push(format!("not recorded: {label} on {conn}: {body:.400}"));
                }
            }
        }
        for unused in self.rules.unused() {
            println!("not needed this time: {unused}");
        }
        self.problems.extend(self.rules.miscounted());
        let count = self.problems.len();
        let text = self.problems.join("\n");
        assert!(
            count == 0,
            "{count} differences:\n{text}\n{:?}",
            self.report
        );
        println!(
            "{} to the byte, {} as recorded to the byte, {} events, {} responses",
            self.exact, self.identical, self.events, self.responses
        );
        let same = self.exact;
        assert!(
            same >= exact,
            "{same} messages are the same to the byte, not {exact}"
        );
        assert_eq!(
            self.report, *expected,
            "what became of the recorded messages"
        );
    }

    /// Tells at once: what follows would only fail for the same reason.
    pub(super) fn give_up(&mut self, line: &Line, label: &str, what: &str) -> ! {
        let report = &self.report;
        let before = self.problems.join("\n");
        panic!(
            "line {} {label}: {what}\n{report:?}\nbefore that:\n{before}",
            line.number
        );
    }

    pub(super) fn problem(&mut self, line: &Line, label: &str, what: &str) {
        let text = format!("line {} {label}: {what}", line.number);
        self.problems.push(text);
    }

    fn play_message(&mut self, line: &Line, said: &Said) {
        let (from_us, to_us) = (
            self.ours.contains(&said.from.port),
            self.ours.contains(&said.to.port),
        );
        if from_us == to_us {
            self.report.between_others += 1;
        } else if self
            .rules
            .allow("not replayed", None, &said.label, Some(line.number))
        {
            self.report.not_replayed += 1;
        } else if to_us {
            self.say(line, said);
        } else {
            self.expect(line, said);
        }
    }

    fn say(&mut self, line: &Line, said: &Said) {
        let to = format!(
            "{}@{}",
            self.names.text(&said.to.name),
            self.address(said.to.port)
        );
        let body = match self.secrets.get(&line.number) {
            Some(secret) => {
                let challenge = self
                    .challenges
                    .get(&said.from.port)
                    .cloned()
                    .unwrap_or_default();
                cram::answer(said, secret, &challenge)
            }
            None => exchange(&said.bytes, &self.names),
        };
        let peer = self.peer(said.from.port);
        match peer.send(&said.from.name, &to, &said.name, &body) {
            Ok(()) => self.report.said += 1,
            Err(error) => self.problem(line, &said.label, &format!("cannot be said: {error}")),
        }
    }

    fn expect(&mut self, line: &Line, said: &Said) {
        let task = task_of(&said.body);
        let from = format!(
            "{}@{}",
            self.names.text(&said.from.name),
            self.address(said.from.port)
        );
        let (to, name) = (&said.to.name, &said.name);
        let take = |player: &mut Player| {
            player.peer(said.to.port).take(PATIENCE, |message| {
                let same = message.to == *to && message.name == *name && message.from == from;
                same && decode(name, &message.body).is_ok_and(|body| task_of(&body) == task)
            })
        };
        let mut found = take(self);
        while let Some(early) = found
            .as_ref()
            .and_then(|message| offers::early(&said.body, &decode(name, &message.body).ok()?))
        {
            let peer = self.peer(said.to.port);
            if let Err(error) =
                peer.send(to, &from, "mesos.scheduler.Call", &offers::decline(&early))
            {
                self.problem(line, &said.label, &format!("cannot be declined: {error}"));
            }
            found = take(self);
        }
        let Some(message) = found else {
            if self
                .rules
                .allow("missing", None, &said.label, Some(line.number))
            {
                self.report.missing += 1;
                return;
            }
            let body = self.names.document(&said.body);
            let summary = self.peer(said.to.port).summary();
            let last: Vec<&str> = summary.lines().rev().take(6).collect();
            self.give_up(
                line,
                &said.label,
                &format!("did not come: {body:.300}\n  {}", last.join("\n  ")),
            );
        };
        self.report.compared += 1;
        self.check_order(line, said, &message, task);
        self.compare_message(line, said, &message);
        if said.name.ends_with("AuthenticationStepMessage") {
            self.challenges
                .insert(said.to.port, cram::data(&message.body));
        }
    }

    fn check_order(&mut self, line: &Line, said: &Said, message: &Message, task: Option<String>) {
        let channel = format!("{} {} {}", message.from, said.to.port, message.to);
        let before = self.arrived.entry(channel).or_default();
        let overtaken = before.iter().find(|(number, other, _)| {
            let free = task.is_some() && other.is_some() && task != *other;
            *number > message.number && !free
        });
        let overtaken = overtaken.map(|(_, _, line)| *line);
        before.push((message.number, task, line.number));
        if let Some(other) = overtaken
            && !self
                .rules
                .allow("order", None, &said.label, Some(line.number))
        {
            self.problem(
                line,
                &said.label,
                &format!("came before what was recorded on line {other}"),
            );
        }
    }

    fn compare_message(&mut self, line: &Line, said: &Said, message: &Message) {
        let head: Vec<String> = said.head.iter().map(|line| self.names.text(line)).collect();
        if head != message.head {
            self.problem(
                line,
                &said.label,
                &format!("head {:?}, not {head:?}", message.head),
            );
        }
        let body = match decode(&said.name, &message.body) {
            Ok(body) => body,
            Err(error) => return self.problem(line, &said.label, &error),
        };
        self.rearranged = false;
        let same = self.compare(line, &said.label, "", &said.body, &body);
        // With what the comparison has learned.
        let expected = exchange(&said.bytes, &self.names);
        if !same {
            // Told apart by values only: the fields must still be the same, in the same order.
            if !self.rearranged && !same_shape(&expected, &message.body) {
                self.problem(
                    line,
                    &said.label,
                    &format!("fields in another order: {body:.400}"),
                );
            }
            return;
        }
        if expected != message.body {
            let what = format!("the fields are the same but not the bytes: {body:.400}");
            return self.problem(line, &said.label, &what);
        }
        self.exact += 1;
        self.identical += usize::from(message.body == said.bytes);
    }

    /// Notes every difference; true when there is none at all.
    pub(super) fn compare(
        &mut self,
        line: &Line,
        label: &str,
        path: &str,
        recorded: &Value,
        ours: &Value,
    ) -> bool {
        match (recorded, ours) {
            (Value::Object(theirs), Value::Object(own)) => {
                let names: BTreeSet<&String> = theirs.keys().chain(own.keys()).collect();
                let mut same = true;
                for name in names {
                    let path = format!("{path}/{name}");
                    same &= match (theirs.get(name), own.get(name)) {
                        (Some(recorded), Some(ours)) => {
                            self.compare(line, label, &path, recorded, ours)
                        }
                        (recorded, ours) => self.differ(line, label, &path, recorded, ours),
                    };
                }
                same
            }
            (Value::Array(theirs), Value::Array(own))
                if theirs.len() == own.len()
                    && !named_alike(theirs, own)
                    && self
                        .rules
                        .allow("unordered", Some(path), label, Some(line.number)) =>
            {
                let (theirs, own) = (by_name(theirs), by_name(own));
                self.compare(line, label, path, &theirs, &own);
                self.rearranged = true;
                false
            }
            (Value::Array(theirs), Value::Array(own)) if theirs.len() == own.len() => {
                let mut same = true;
                for (at, (recorded, ours)) in theirs.iter().zip(own).enumerate() {
                    same &= self.compare(line, label, &format!("{path}/{at}"), recorded, ours);
                }
                same
            }
            (Value::String(text), Value::String(own)) if self.names.text(text) == *own => true,
            (Value::String(text), Value::String(own))
                if !self.names.knows(text)
                    && self
                        .rules
                        .allow("learned", Some(path), label, Some(line.number)) =>
            {
                self.names.bind(text, own);
                true
            }
            (recorded, ours) if recorded == ours => true,
            (recorded, ours) => self.differ(line, label, path, Some(recorded), Some(ours)),
        }
    }

    fn differ(
        &mut self,
        line: &Line,
        label: &str,
        path: &str,
        recorded: Option<&Value>,
        ours: Option<&Value>,
    ) -> bool {
        if !self
            .rules
            .allow("any", Some(path), label, Some(line.number))
        {
            let text = |value: Option<&Value>| {
                value.map_or("nothing".to_owned(), |value| format!("{value:.300}"))
            };
            self.problem(
                line,
                label,
                &format!("{path} is {}, not {}", text(ours), text(recorded)),
            );
        }
        self.rearranged |= recorded.is_none() || ours.is_none();
        false
    }

    fn plays(&self, line: &Line) -> bool {
        self.ours.contains(&line.port)
            && self.asked.contains_key(&line.conn)
            && !self.http.is_closed(line.conn)
    }
}

fn named_alike(one: &[Value], other: &[Value]) -> bool {
    one.iter()
        .zip(other)
        .all(|(one, other)| one["name"] == other["name"])
}

fn by_name(values: &[Value]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by_key(|value| value["name"].to_string());
    Value::Array(sorted)
}

/// The task that a message is about.
pub(super) fn task_of(body: &Value) -> Option<String> {
    [
        "/update/status/task_id/value",
        "/task/task_id/value",
        "/task_id/value",
        "/acknowledged/task_id/value",
        "/launch/task/task_id/value",
    ]
    .iter()
    .find_map(|path| body.pointer(path)?.as_str())
    .map(str::to_owned)
}
