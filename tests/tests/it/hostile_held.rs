//! A thousand connections held for nothing: requests, registrations and tasks go on as if they were not there, and a leader
//! that runs out of room for connections takes it back from those.
//!
//! How long a connection may be held when there is room is tested where the time can be chosen (`node/tests/it/held.rs`); what
//! it costs the others in milliseconds is measured (`measure hostile`).

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::emulator::Emulator;
use tepui_tests::http::{PATIENCE, Request, connect, send};
use tepui_tests::scheduler::Framework;
use tepui_tests::wait::eventually;

const HELD: usize = 1_000;

/// Far beyond what any of these requests takes on a busy machine, far below the time a held connection has.
const DEADLINE: Duration = Duration::from_secs(5);

const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"GET /state HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
    b"POST /master/mesos.internal.RegisterSlaveMessage HTTP/1.1\r\nLibprocess-From: slave(1)@127.0.0.1:1\r\nContent-Length: 50\r\n\r\n\n",
];

fn hold(leader: SocketAddr, count: usize) -> Vec<TcpStream> {
    let held = (0..count).map(|number| {
        let mut connection = connect(leader, PATIENCE).expect("the leader accepts connections");
        // It may be closed again at once.
        connection
            .write_all(BEGINNINGS[number % BEGINNINGS.len()])
            .ok();
        connection
    });
    held.collect()
}

/// Everything that others want of a leader, each within its deadline.
fn served(cluster: &Cluster, round: usize) {
    for path in ["/health", "/state", "/metrics/snapshot", "/slaves"] {
        for _ in 0..5 {
            let started = Instant::now();
            let response = send(cluster.leader, &Request::get(path))
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(response.status, 200, "{path}");
            assert!(
                started.elapsed() < DEADLINE,
                "{path} took {:?}",
                started.elapsed()
            );
        }
    }
    let ip = format!("--ip=127.{}.0.1", 70 + round);
    let emulator = Emulator::start(cluster.leader, 20, &[&ip]);
    let seconds = emulator.all_registered(PATIENCE);
    assert!(
        seconds < DEADLINE.as_secs_f64(),
        "registered after {seconds} s"
    );
    let started = Instant::now();
    let mut framework = Framework::subscribe(cluster.leader, "served");
    framework.offer();
    assert!(
        started.elapsed() < DEADLINE,
        "an offer took {:?}",
        started.elapsed()
    );
}

#[test]
fn a_thousand_held_connections_harm_nobody() {
    let mut cluster = Cluster::builder().only(Part::Leader).start();
    served(&cluster, 0);
    let held = hold(cluster.leader, HELD);
    for round in 1..4 {
        served(&cluster, round);
    }
    drop(held);
    assert!(cluster.serves());
    let left = || open_files(&cluster) < 200;
    assert!(
        eventually(PATIENCE, left),
        "{} files are open",
        open_files(&cluster)
    );
}

#[test]
fn a_leader_without_room_takes_it_back_from_held_connections() {
    let mut cluster = Cluster::builder()
        .only(Part::Leader)
        .open_files(600)
        .start();
    // Who is known keeps its place.
    let emulator = Emulator::start(cluster.leader, 30, &[]);
    emulator.all_registered(PATIENCE);
    let mut held = hold(cluster.leader, HELD);
    served(&cluster, 1);
    assert!(open_files(&cluster) < 600);
    let mut closed = 0;
    for connection in &mut held {
        connection
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a socket can wait");
        let mut byte = [0];
        closed += usize::from(match connection.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        });
    }
    assert!(
        closed >= HELD - 600,
        "{closed} of {HELD} held connections are closed"
    );
    assert!(cluster.serves());
    let report = emulator.stop();
    assert_eq!(
        (&report["registered"], &report["links_broken"]),
        (&30.into(), &0.into()),
        "{report}"
    );
}

fn open_files(cluster: &Cluster) -> usize {
    let id = cluster.process(Part::Leader).id();
    fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}
