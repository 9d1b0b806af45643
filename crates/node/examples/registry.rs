//! What the registry costs: writes per second, one by one and in batches, and the time a new leader
//! takes to read everything, with thousands of followers in it. For the file of a leader alone, and
//! for ZooKeeper (Debian's package; one server, and three).
//!
//! `cargo run --release -p tepui-node --example registry [followers…]`

#[path = "../tests/it/zookeeper.rs"]
#[allow(dead_code)]
mod zookeeper;

use std::time::{Duration, Instant};
use tepui_leader::RegistryChange;
use tepui_node::disk::registry::{Registry, RegistryFile, RegistryInZooKeeper, SharedNodes};
use tepui_protocol::{internal, v1};
use tepui_zookeeper::{Op, ZooKeeper};
use zookeeper::{Ensemble, PATIENCE};

/// How long each kind of write goes on.
const PERIOD: Duration = Duration::from_secs(3);
/// Changes that are written together: what gathers while one write is on its way.
const BATCH: usize = 1000;

fn main() {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let followers = match given.is_empty() {
        true => vec![1_000, 10_000, 50_000],
        false => given,
    };
    println!(
        "{:<14} {:>9} {:>12} {:>12} {:>12} {:>12} {:>10}",
        "store", "followers", "fill/s", "one by one/s", "batched/s", "recovery", "size"
    );
    for count in &followers {
        file(*count);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    for servers in [1, 3] {
        for count in &followers {
            let ensemble = Ensemble::start(servers, "512m");
            let session = ensemble.connect("/mesos");
            shared(servers, *count, &session, &runtime);
            drop(session);
        }
    }
}

/// A follower of usual size: some attributes, four resources.
fn admit(number: usize) -> RegistryChange {
    let text = |name: &str, value: String| v1::Attribute {
        name: name.to_owned(),
        r#type: v1::value::Type::Text as i32,
        text: Some(v1::value::Text { value }),
        ..Default::default()
    };
    let scalar = |name: &str, value| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..Default::default()
    };
    let info = v1::AgentInfo {
        hostname: format!("follower-{number}.cluster.example.org"),
        port: Some(5051),
        id: Some(v1::AgentId {
            value: format!("0289a414-2458-45c9-80e9-c49e4aab7adf-S{number}"),
        }),
        checkpoint: Some(true),
        attributes: vec![
            text("rack", format!("r{}", number / 40)),
            text("zone", "eu-central-1a".to_owned()),
        ],
        resources: vec![
            scalar("cpus", 64.0),
            scalar("mem", 262_144.0),
            scalar("disk", 4_000_000.0),
        ],
        ..Default::default()
    };
    RegistryChange::AdmitFollower(Box::new(internal::registry::Slave {
        info,
        ..Default::default()
    }))
}

fn file(count: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || RegistryFile::open(dir.path()).expect("a registry");
    let rates = write(&mut open(), count);
    let begun = Instant::now();
    let loaded = open().load().expect("readable");
    report("file", count, rates, begun.elapsed(), &loaded.registry);
}

fn shared(servers: usize, count: usize, session: &ZooKeeper, runtime: &tokio::runtime::Runtime) {
    let elect = |number: usize| {
        let member = format!("/mesos/member{number}");
        let made = runtime.block_on(async {
            while session.make_path("/mesos").await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            session
                .multi(&[Op::Create(member.clone(), Vec::new())])
                .await
        });
        made.expect("a member");
        RegistryInZooKeeper::new(SharedNodes::new(session.clone(), PATIENCE), Some(&member))
    };
    let mut first = elect(1);
    let rates = write(&mut first, count);
    drop(first);
    let mut second = elect(2);
    let begun = Instant::now();
    let loaded = second.load().expect("readable");
    let took = begun.elapsed();
    report(
        &format!("ZooKeeper x{servers}"),
        count,
        rates,
        took,
        &loaded.registry,
    );
}

struct Rates {
    fill: f64,
    single: f64,
    batched: f64,
}

fn write(registry: &mut dyn Registry, count: usize) -> Rates {
    registry.load().expect("readable");
    let all: Vec<_> = (0..count).map(admit).collect();
    let begun = Instant::now();
    for batch in all.chunks(BATCH) {
        registry.apply(batch).expect("written");
    }
    let fill = count as f64 / begun.elapsed().as_secs_f64();
    // All over the registry.
    let mut number = 0;
    let mut next = || {
        number = (number + 7919) % count;
        admit(number)
    };
    let mut rate = |size: usize| {
        let begun = Instant::now();
        let mut written = 0;
        while begun.elapsed() < PERIOD {
            let batch: Vec<_> = (0..size).map(|_| next()).collect();
            registry.apply(&batch).expect("written");
            written += size;
        }
        written as f64 / begun.elapsed().as_secs_f64()
    };
    Rates {
        fill,
        single: rate(1),
        batched: rate(BATCH),
    }
}

fn report(store: &str, count: usize, rates: Rates, took: Duration, loaded: &internal::Registry) {
    let followers = loaded.slaves.as_ref().map_or(0, |all| all.slaves.len());
    assert_eq!(followers, count, "every follower is there");
    let bytes = prost::Message::encoded_len(loaded);
    println!(
        "{store:<14} {count:>9} {:>12.0} {:>12.0} {:>12.0} {:>9.0} ms {:>7} KB",
        rates.fill,
        rates.single,
        rates.batched,
        took.as_secs_f64() * 1e3,
        bytes / 1024
    );
}
