//! Hostile peers: whether they move the others' registration, and what held connections do to requests.
//!
//! What sends the attacks runs at the lowest priority. In a real network it is another machine's
//! processor that makes a flood; here it is one of two, and should not be taken from those who are measured.

use crate::{
    leader::{Cost, cost, leader, settled},
    load::{Failure, percentile},
};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tepui_tests::{
    cluster::Cluster,
    emulator::Emulator,
    hostility::{ATTACKS, Attack, Attacker},
    http::{Request, connect, send},
    wait::eventually,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Runs of each kind; their medians are compared.
const RUNS: usize = 9;

/// Connections of each way to hold one for nothing.
const HELD: usize = 1_000;

/// Requests whose time is taken.
const REQUESTS: usize = 500;

/// Registration with and without attacks, then requests with and without held connections.
pub(crate) fn measure(followers: usize) -> Result<(), Failure> {
    println!(
        "seconds until {followers} followers are registered, medians of {RUNS} paired runs (each quiet, then attacked)"
    );
    println!(
        "{:<28}{:>10}{:>10}{:>9}{:>22}",
        "", "quiet", "attacked", "ratio", "quiet least to most"
    );
    for (name, kinds) in sets() {
        let (mut quiet, mut attacked) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            quiet.push(register(followers, &[])?);
            attacked.push(register(followers, &kinds)?);
        }
        let mut ratios: Vec<f64> = quiet
            .iter()
            .zip(&attacked)
            .map(|(one, other)| other / one)
            .collect();
        for values in [&mut quiet, &mut attacked, &mut ratios] {
            values.sort_by(f64::total_cmp);
        }
        let (one, other) = (percentile(&quiet, 50), percentile(&attacked, 50));
        println!(
            "{name:<28}{one:>10.2}{other:>10.2}{:>9.2}{:>14.2} to {:.2}",
            percentile(&ratios, 50),
            percentile(&quiet, 1),
            percentile(&quiet, 100)
        );
    }
    held()
}

fn sets() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut sets: Vec<_> = ATTACKS
        .iter()
        .map(|(name, _)| (*name, vec![*name]))
        .collect();
    sets.push((
        "all of them",
        ATTACKS.iter().map(|(name, _)| *name).collect(),
    ));
    sets
}

fn register(followers: usize, attacks: &[&str]) -> Result<f64, Failure> {
    let leader = leader(&[]);
    let under = attacks
        .iter()
        .map(|name| Process::start(name, leader.leader))
        .collect::<Result<Vec<_>, _>>()?;
    let emulator = Emulator::start(leader.leader, followers, &[]);
    let seconds = emulator.all_registered(PATIENCE);
    settled(&leader, followers)?;
    drop(under);
    Ok(seconds)
}

/// An attack in a process of its own.
struct Process(Child);

impl Process {
    fn start(attack: &str, leader: SocketAddr) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let mut child = Command::new(own)
            .args(["attack", attack, &leader.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        // Its first byte says that it has begun.
        let mut first = [0];
        std::io::Read::read_exact(child.stdout.as_mut().ok_or("no output")?, &mut first)?;
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `measure attack KIND LEADER`: attacks until killed.
pub(crate) fn attack(kind: &str, leader: &str) -> Result<(), Failure> {
    let named = ATTACKS.iter().find(|(name, _)| *name == kind);
    let (_, attack): &(&str, Attack) = named.ok_or("no such attack")?;
    // Refused is as good: then it only takes more from everybody else.
    rustix::process::nice(19).ok();
    let attacker = Attacker::start(*attack, leader.parse()?);
    let begun = eventually(Duration::from_secs(30), || attacker.bytes_sent() > 0);
    if !begun {
        return Err("the attack did not begin".into());
    }
    println!("begun");
    loop {
        std::thread::park();
    }
}

/// Three ways to hold a connection: saying nothing, a head that does not end, a body that does not.
const BEGINNINGS: &[(&str, &[u8])] = &[
    ("silent", b""),
    ("unfinished heads", b"GET /state HTTP/1.1\r\nHost: x\r\nX-Slow: "),
    (
        "unfinished bodies",
        b"POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
    ),
];

/// A leader with 300 followers, and connections held of the first `kinds` kinds.
fn besieged(kinds: usize) -> Result<(Cluster, Emulator, Cost, Vec<TcpStream>), Failure> {
    let leader = leader(&[]);
    let emulator = Emulator::start(leader.leader, 300, &[]);
    emulator.all_registered(PATIENCE);
    settled(&leader, 300)?;
    let before = cost(&leader);
    let mut held = Vec::new();
    for (_, beginning) in BEGINNINGS.iter().take(kinds) {
        for _ in 0..HELD {
            let mut stream = TcpStream::connect(leader.leader)?;
            stream.write_all(beginning)?;
            held.push(stream);
        }
    }
    Ok((leader, emulator, before, held))
}

fn held() -> Result<(), Failure> {
    println!(
        "\nms of a request to a leader with 300 followers, and seconds until 300 more are registered"
    );
    println!(
        "{:<34}{:>9}{:>9}{:>9}{:>9}{:>12}",
        "", "health", "p99", "state", "p99", "registered"
    );
    for kinds in 0..=BEGINNINGS.len() {
        let (leader, _emulator, _, _held) = besieged(kinds)?;
        let name = match kinds {
            0 => "no held connections".to_owned(),
            more => format!("and {HELD} {}", BEGINNINGS[more - 1].0),
        };
        row(&name, &leader)?;
    }
    reclaimed()
}

/// How long held connections stay, and what they cost meanwhile.
fn reclaimed() -> Result<(), Failure> {
    let (leader, emulator, before, mut held) = besieged(BEGINNINGS.len())?;
    let with = cost(&leader);
    println!(
        "{} held connections: {:.1} KiB of the leader's PSS each, {} open files (before: {})",
        held.len(),
        with.pss.saturating_sub(before.pss) as f64 / held.len() as f64,
        with.files,
        before.files
    );
    let started = Instant::now();
    let mut left = with.files;
    let reclaimed = eventually(Duration::from_secs(200), || {
        // A byte now and then does not help: a head and a body have a time for the whole.
        for stream in &mut held[HELD..] {
            stream.write_all(b"x").ok();
        }
        left = cost(&leader).files;
        left < before.files + HELD / 100
    });
    println!(
        "all but {} reclaimed after {:.0} s, a byte now and then notwithstanding",
        left.saturating_sub(before.files),
        started.elapsed().as_secs_f64()
    );
    drop(emulator);
    if reclaimed {
        Ok(())
    } else {
        Err("held connections were not reclaimed".into())
    }
}

fn row(name: &str, leader: &Cluster) -> Result<(), Failure> {
    let (health, health_99) = times(leader.leader, "/health")?;
    let (state, state_99) = times(leader.leader, "/state")?;
    let more = Emulator::start(leader.leader, 300, &["--ip=127.96.0.1"]);
    let seconds = more.all_registered(PATIENCE);
    println!("{name:<34}{health:>9.2}{health_99:>9.2}{state:>9.2}{state_99:>9.2}{seconds:>12.2}");
    Ok(())
}

/// Median and 99th percentile of a request on a connection of its own, in milliseconds.
fn times(leader: SocketAddr, path: &str) -> Result<(f64, f64), Failure> {
    let mut all = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let started = Instant::now();
        let response = send(leader, &Request::get(path))?;
        if response.status != 200 {
            return Err(format!("{path}: {}", response.status).into());
        }
        all.push(started.elapsed().as_secs_f64() * 1e3);
    }
    // One that is refused or hangs has failed above.
    drop(connect(leader, PATIENCE)?);
    all.sort_by(f64::total_cmp);
    Ok((percentile(&all, 50), percentile(&all, 99)))
}
