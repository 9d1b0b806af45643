//! A libprocess peer for black-box tests: what an agent, a driver, an executor or a master is on the wire.
//!
//! One [`Peer`] stands for one operating-system process: it listens on one address, and any number of libprocess processes
//! (`slave(1)`, `scheduler-…`, `crammd5-authenticatee(1)`) live there under their names. It says what it is told over one kept
//! connection to each remote address, pipelined, with the bytes of a recorded peer; what others say to it is put down in order
//! of arrival and asked for with deadlines. It knows nothing of the product's code: it writes and reads its own frames
//! (`3rdparty/libprocess/src/encoder.hpp`), and bodies are bytes that the caller makes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Chunks, connect};

/// How long connecting or writing may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place among all that arrived at this peer, from 0.
    pub number: usize,
    /// The sender's address, `NAME@IP:PORT`.
    pub from: String,
    /// The process it is for, as it was written in the path (`slave(1)`).
    pub to: String,
    /// Its name (`mesos.internal.PingSlaveMessage`).
    pub name: String,
    /// Its body.
    pub body: Vec<u8>,
    /// The lines of its head as they came: the request line, then the headers.
    pub head: Vec<String>,
    /// Which of the accepted connections it came on, counted from 0.
    pub link: usize,
}

/// An end of a connection that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A connection that the other side had opened to us, by its number.
    Accepted(usize),
    /// Our connection to this address.
    Opened(SocketAddr),
}

#[derive(Debug, Default)]
struct Inbox {
    arrived: Vec<Message>,
    taken: Vec<bool>,
    ended: Vec<Ended>,
    /// Statuses of the answers to what we have sent, by address: a message is answered 202 or not at all.
    answers: BTreeMap<SocketAddr, Vec<u16>>,
    problems: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    stopped: AtomicBool,
    accepted: Mutex<Vec<TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut lock(&self.inbox));
        self.changed.notify_all();
    }
}

/// One listening peer. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    opened: Mutex<BTreeMap<SocketAddr, TcpStream>>,
    accepting: Option<JoinHandle<()>>,
}

impl Default for Peer {
    fn default() -> Self {
        Peer::new()
    }
}

impl Peer {
    /// A peer on a free port of 127.0.0.1.
    pub fn new() -> Peer {
        Peer::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// A peer on this address; port 0 takes a free one.
    pub fn on(address: SocketAddr) -> Peer {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, &own));
        Peer {
            address,
            shared,
            opened: Mutex::default(),
            accepting: Some(accepting),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of one of its processes, `NAME@IP:PORT`.
    pub fn pid(&self, process: &str) -> String {
        format!("{process}@{}", self.address)
    }

    /// Says something as one of its processes to `to` (`NAME@IP:PORT`), over the kept connection to that address.
    pub fn send(&self, process: &str, to: &str, message: &str, body: &[u8]) -> io::Result<()> {
        let (name, address) =
            parse_pid(to).ok_or_else(|| io::Error::other(format!("no pid: {to}")))?;
        self.send_bytes(
            address,
            &request(&self.pid(process), name, address, message, body),
        )
    }

    /// Writes bytes as they are on the kept connection to an address, opening it when there is none.
    pub fn send_bytes(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let mut opened = lock(&self.opened);
        if let Some(link) = opened.get_mut(&to) {
            return link.write_all(bytes);
        }
        let mut link = connect(to, PATIENCE)?;
        link.set_read_timeout(None)?;
        let reader = link.try_clone()?;
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || read_answers(reader, to, &shared));
        link.write_all(bytes)?;
        opened.insert(to, link);
        Ok(())
    }

    /// Opens the connection to an address without saying anything, as `link()` does.
    pub fn link(&self, to: SocketAddr) -> io::Result<()> {
        self.send_bytes(to, b"")
    }

    /// Closes every connection, in both directions, as the death of the process does. It still listens.
    pub fn break_links(&self) {
        for (_, link) in std::mem::take(&mut *lock(&self.opened)) {
            link.shutdown(Shutdown::Both).ok();
        }
        for link in lock(&self.shared.accepted).drain(..) {
            link.shutdown(Shutdown::Both).ok();
        }
    }

    /// The next untaken message for a process, taken; none when the deadline passes first.
    pub fn next(&self, process: &str, patience: Duration) -> Option<Message> {
        self.take(patience, |message| message.to == process)
    }

    /// The next untaken message for a process, which must be the one called `name`; panics, and tells what came, when it is
    /// another one or none comes.
    pub fn expect(&self, process: &str, name: &str, patience: Duration) -> Message {
        match self.next(process, patience) {
            Some(message) if message.name == name => message,
            other => panic!(
                "waited for {name} at {process}, got {other:?}\n{}",
                self.summary()
            ),
        }
    }

    /// The first untaken message that fits, taken; others stay. None when the deadline passes first.
    pub fn take(
        &self,
        patience: Duration,
        mut fits: impl FnMut(&Message) -> bool,
    ) -> Option<Message> {
        self.wait(patience, |inbox| {
            let found = inbox
                .arrived
                .iter()
                .find(|message| !inbox.taken[message.number] && fits(message))?
                .clone();
            inbox.taken[found.number] = true;
            Some(found)
        })
    }

    /// What has arrived and was not taken.
    pub fn untaken(&self) -> Vec<Message> {
        let inbox = lock(&self.shared.inbox);
        let untaken = inbox
            .arrived
            .iter()
            .filter(|message| !inbox.taken[message.number]);
        untaken.cloned().collect()
    }

    /// How many messages have arrived, taken or not.
    pub fn arrived(&self) -> usize {
        lock(&self.shared.inbox).arrived.len()
    }

    /// Whether the other side closes a connection within `patience`: any of those that fit.
    pub fn ended(&self, patience: Duration, fits: impl Fn(&Ended) -> bool) -> bool {
        self.wait(patience, |inbox| {
            inbox.ended.iter().any(&fits).then_some(())
        })
        .is_some()
    }

    /// Statuses of the answers to what was sent to an address, so far.
    pub fn answers(&self, from: SocketAddr) -> Vec<u16> {
        lock(&self.shared.inbox)
            .answers
            .get(&from)
            .cloned()
            .unwrap_or_default()
    }

    /// What was no message, and why.
    pub fn problems(&self) -> Vec<String> {
        lock(&self.shared.inbox).problems.clone()
    }

    /// All that has arrived in short, for the text of a failure.
    pub fn summary(&self) -> String {
        let inbox = lock(&self.shared.inbox);
        let mut text = String::new();
        for message in &inbox.arrived {
            let taken = if inbox.taken[message.number] {
                "taken"
            } else {
                "untaken"
            };
            let Message { from, to, name, .. } = message;
            text.push_str(&format!(
                "{taken} {from} -> {to} {name} ({} bytes)\n",
                message.body.len()
            ));
        }
        text + &inbox.problems.join("\n")
    }

    fn wait<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut inbox = lock(&self.shared.inbox);
        loop {
            if let Some(found) = look(&mut inbox) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            inbox = self
                .shared
                .changed
                .wait_timeout(inbox, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.break_links();
        // Wakes the thread that accepts, which then sees that it should end.
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        // Then the address is free again.
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            accepting.join().ok();
        }
    }
}

/// Name and address of `NAME@IP:PORT`.
pub fn parse_pid(pid: &str) -> Option<(&str, SocketAddr)> {
    let (name, address) = pid.rsplit_once('@')?;
    Some((name, address.parse().ok()?))
}

/// The bytes of a message: headers in the recorded order, a body in one chunk, no body without one.
pub fn request(from: &str, to: &str, address: SocketAddr, message: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST /{to}/{message} HTTP/1.1\r\nUser-Agent: libprocess/{from}\r\nLibprocess-From: {from}\r\nConnection: Keep-Alive\r\nHost: {address}\r\n"
    )
    .into_bytes();
    if body.is_empty() {
        bytes.extend_from_slice(b"\r\n");
    } else {
        bytes.extend_from_slice(
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).as_bytes(),
        );
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
    }
    bytes
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for link in 0.. {
        let Ok((connection, _)) = listener.accept() else {
            return;
        };
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(own) = connection.try_clone() {
            lock(&shared.accepted).push(own);
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            if let Err(error) = read_messages(connection, link, &shared)
                && error.kind() != io::ErrorKind::ConnectionReset
            {
                shared.change(|inbox| inbox.problems.push(format!("connection {link}: {error}")));
            }
            shared.change(|inbox| inbox.ended.push(Ended::Accepted(link)));
        });
    }
}

/// Puts down every message of a connection and answers it, until the other side ends.
fn read_messages(connection: TcpStream, link: usize, shared: &Shared) -> io::Result<()> {
    let mut answers = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    while let Some((head, body)) = read_request(&mut reader)? {
        let message = understand(head, body, link)?;
        shared.change(|inbox| {
            let number = inbox.arrived.len();
            inbox.arrived.push(Message { number, ..message });
            inbox.taken.push(false);
        });
        // Who has said something may be gone by the time of the answer.
        answers
            .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            .ok();
    }
    Ok(())
}

fn understand(head: Vec<String>, body: Vec<u8>, link: usize) -> io::Result<Message> {
    let wrong = |what: &str| io::Error::other(format!("{what} in {head:?}"));
    let path = head[0]
        .strip_prefix("POST /")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
        .ok_or_else(|| wrong("no message"))?;
    let (to, name) = path.rsplit_once('/').ok_or_else(|| wrong("no process"))?;
    let from = header(&head, "Libprocess-From").ok_or_else(|| wrong("no sender"))?;
    Ok(Message {
        number: 0,
        from: from.to_owned(),
        to: to.to_owned(),
        name: name.to_owned(),
        body,
        link,
        head: head.clone(),
    })
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<(Vec<String>, Vec<u8>)>> {
    let Some(head) = read_lines(reader)? else {
        return Ok(None);
    };
    let mut body = Vec::new();
    if header(&head, "Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        Chunks::new(reader).read_to_end(&mut body)?;
    } else if let Some(length) = header(&head, "Content-Length") {
        let length: u64 = length
            .parse()
            .map_err(|_| io::Error::other(format!("length {length:?}")))?;
        reader.take(length).read_to_end(&mut body)?;
    }
    Ok(Some((head, body)))
}

/// Lines up to the empty one; none at the end of the connection.
fn read_lines(reader: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            let complete = lines.is_empty();
            return if complete {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.is_empty() {
            lines.push(line.to_owned());
        } else if !lines.is_empty() {
            return Ok(Some(lines));
        }
    }
}

/// The value of a header in the lines of a head, by name in any case.
pub fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter()
        .filter_map(|line| line.split_once(':'))
        .find(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn read_answers(connection: TcpStream, from: SocketAddr, shared: &Shared) {
    let mut reader = BufReader::new(connection);
    while let Ok(Some((head, _))) = read_request(&mut reader) {
        let status = head[0].split(' ').nth(1).and_then(|code| code.parse().ok());
        shared.change(|inbox| {
            inbox
                .answers
                .entry(from)
                .or_default()
                .push(status.unwrap_or(0))
        });
    }
    shared.change(|inbox| inbox.ended.push(Ended::Opened(from)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn what_one_peer_says_arrives_at_another_in_order() {
        let (one, other) = (Peer::new(), Peer::new());
        for body in [&b"first"[..], b"", b"third"] {
            one.send("slave(1)", &other.pid("master"), "a.B", body)
                .unwrap();
        }
        let bodies: Vec<_> = (0..3)
            .map(|_| other.expect("master", "a.B", SOON).body)
            .collect();
        assert_eq!(bodies, [&b"first"[..], b"", b"third"]);
        assert_eq!(other.untaken(), []);
        assert!(crate::wait::eventually(SOON, || one
            .answers(other.address())
            == [202; 3]));
    }

    #[test]
    fn a_message_has_the_recorded_bytes() {
        let to = "127.0.0.1:15050".parse().unwrap();
        let bytes = request(
            "slave(1)@127.0.0.1:15051",
            "master",
            to,
            "mesos.internal.X",
            b"0123456789",
        );
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "POST /master/mesos.internal.X HTTP/1.1\r\nUser-Agent: libprocess/slave(1)@127.0.0.1:15051\r\n\
             Libprocess-From: slave(1)@127.0.0.1:15051\r\nConnection: Keep-Alive\r\nHost: 127.0.0.1:15050\r\n\
             Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"
        );
    }

    #[test]
    fn the_end_of_a_link_is_noticed_on_both_sides() {
        let (one, other) = (Peer::new(), Peer::new());
        one.send("a", &other.pid("b"), "M", b"").unwrap();
        other.expect("b", "M", SOON);
        other.break_links();
        assert!(one.ended(SOON, |ended| *ended == Ended::Opened(other.address())));
        let three = Peer::new();
        three.send("a", &other.pid("b"), "M", b"").unwrap();
        other.expect("b", "M", SOON);
        drop(three);
        assert!(other.ended(SOON, |ended| *ended == Ended::Accepted(1)));
    }

    #[test]
    fn the_address_of_a_dropped_peer_is_free() {
        let address = Peer::new().address();
        assert_eq!(Peer::on(address).address(), address);
    }

    #[test]
    fn what_does_not_come_is_not_waited_for_longer_than_said() {
        let peer = Peer::new();
        assert_eq!(peer.next("x", Duration::from_millis(5)), None);
    }
}
