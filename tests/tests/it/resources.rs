//! Reservations, volumes, shares and limits as frameworks meet them: with pymesos, with a v0 driver, and with hundreds of
//! followers that exist only on the wire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::churn::{Amount, Churn, Sizes};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::commands;
use tepui_tests::emulator::Emulator;
use tepui_tests::http::{Request, send};
use tepui_tests::libprocess::Peer;
use tepui_tests::programs::{Runtime, start};
use tepui_tests::quota::random_launches;
use tepui_tests::scheduler::Framework;
use tepui_tests::wait::eventually;

use crate::drivers::libmesos::{Driver, description};

const PATIENCE: Duration = Duration::from_secs(60);

/// Of the programs in `tests/clients`: what is reserved, and the volume.
const ROLE: &str = "prod/db";
const VOLUME: &str = "the-volume";

/// The only follower as the leader shows it.
fn follower(cluster: &Cluster) -> Value {
    cluster.json("/slaves")["slaves"][0].clone()
}

/// Where a volume of that role is on disk: a blank stands for the slash.
fn directory(cluster: &Cluster, work: &str, role: &str, volume: &str) -> PathBuf {
    let roles = cluster.folder().join(work).join("volumes/roles");
    roles.join(role.replace('/', " ")).join(volume)
}

/// The resources that a follower has reserved for a role: name, amount, and volume, in the order of their names.
fn reserved(cluster: &Cluster, role: &str) -> Vec<(String, f64, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let full = follower(cluster)["reserved_resources_full"][role].clone();
    let mut found: Vec<(String, f64, String)> = full
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let amount = one["scalar"]["value"].as_f64().unwrap_or(f64::NAN);
            let volume = text(&one["disk"]["persistence"]["id"]);
            (text(&one["name"]), amount, volume)
        })
        .collect();
    found.sort_by(|one, other| one.partial_cmp(other).expect("amounts are numbers"));
    found
}

fn entry(name: &str, amount: f64, volume: &str) -> (String, f64, String) {
    (name.to_owned(), amount, volume.to_owned())
}

fn with_volume() -> Vec<(String, f64, String)> {
    vec![
        entry("cpus", 0.5, ""),
        entry("disk", 128.0, VOLUME),
        entry("mem", 64.0, ""),
    ]
}

fn assert_holds(path: &Path, text: &str) {
    let read = std::fs::read_to_string(path);
    assert_eq!(read.as_deref().ok(), Some(text), "{}", path.display());
}

/// The whole life of a volume. `restart` kills a process in the middle of it, and starts it again.
fn pymesos_keeps_data(mut cluster: Cluster, work: &str, how: &str, restart: Part) {
    let volume = directory(&cluster, work, ROLE, VOLUME);
    let program = "pymesos_volume.py";
    let mut framework = start(Runtime::Python, program, cluster.leader, &[how]);
    let said = |stage: &'static str| move |said: &Value| said["stage"] == stage;

    framework.wait_for(PATIENCE, said("written"));
    let id = follower(&cluster)["id"].clone();
    assert_eq!(reserved(&cluster, ROLE), with_volume());
    assert_holds(&volume.join("file"), "kept words\n");

    cluster.kill(restart);
    assert_holds(&volume.join("file"), "kept words\n");
    cluster.restart(restart);
    framework.tell("read");
    framework.wait_for(PATIENCE, said("read"));
    assert_eq!(follower(&cluster)["id"], id);
    assert_eq!(reserved(&cluster, ROLE), with_volume());
    assert_holds(&volume.join("file"), "kept words\nand more\n");

    framework.tell("destroy");
    if how == "each" {
        framework.wait_for(PATIENCE, said("destroyed"));
        assert!(!volume.exists(), "{}", volume.display());
        let mut without = with_volume();
        without[1].2.clear();
        assert_eq!(reserved(&cluster, ROLE), without);
        framework.tell("unreserve");
    }
    framework.wait_for(PATIENCE, said("unreserved"));
    assert!(eventually(PATIENCE, || !volume.exists()));
    assert_eq!(reserved(&cluster, ROLE), []);
    assert_eq!(follower(&cluster)["unreserved_resources"]["cpus"], 8.0);

    framework.tell("end");
    let summary = framework.finish(PATIENCE);
    let ran = json!(["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
    assert_eq!(summary["states"], json!({"write": ran, "read": ran}));
    let finished: Vec<Value> = ["RESERVE", "CREATE", "DESTROY", "UNRESERVE"]
        .map(|kind| json!([kind, "OPERATION_FINISHED"]))
        .to_vec();
    let expected = if how == "each" {
        json!(finished)
    } else {
        json!([])
    };
    assert_eq!(summary["statuses"], expected, "{summary}");
}

#[test]
fn pymesos_finds_what_a_task_wrote_in_a_volume_after_the_follower_was_killed() {
    let cluster = Cluster::builder().apart().start();
    pymesos_keeps_data(cluster, "follower", "each", Part::Follower);
}

#[test]
fn pymesos_reserves_creates_and_launches_in_one_accept_and_destroys_and_unreserves_in_another() {
    let cluster = Cluster::builder().apart().start();
    pymesos_keeps_data(cluster, "follower", "together", Part::Follower);
}

#[test]
fn pymesos_finds_what_a_task_wrote_after_leader_and_follower_were_killed() {
    pymesos_keeps_data(Cluster::mixed(), "work/follower", "each", Part::Mixed);
}

/// What a v0 driver says of resources that are reserved for `db`.
fn of_db(name: &str, amount: f64) -> Value {
    json!({
        "name": name, "type": "SCALAR", "scalar": {"value": amount},
        "reservations": [{"type": "DYNAMIC", "role": "db"}],
    })
}

#[test]
fn a_v0_driver_makes_a_volume_writes_in_it_and_gives_it_back() {
    let cluster = Cluster::builder().apart().start();
    let directory = directory(&cluster, "follower", "db", "driven");
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let mut info = description("driver with a volume");
    info["roles"] = json!(["db"]);
    driver.subscribe(&info);
    let mut volume = of_db("disk", 64.0);
    volume["disk"] = json!({
        "persistence": {"id": "driven"}, "volume": {"container_path": "data", "mode": "RW"},
    });
    let accept = |offer: &Value, operations: Value| {
        driver.call(json!({"type": "ACCEPT", "accept": {
            "offer_ids": [offer["id"]], "operations": operations, "filters": {"refuse_seconds": 0},
        }}));
    };
    let (offer, _) = driver.offer();
    let reservation = json!([of_db("cpus", 0.1), of_db("disk", 64.0), of_db("mem", 32.0)]);
    let task = json!({
        "name": "writer", "task_id": {"value": "writer"}, "slave_id": offer["slave_id"],
        "command": {"value": "echo driven > data/file"},
        "resources": [of_db("cpus", 0.1), of_db("mem", 32.0), volume],
    });
    accept(
        &offer,
        json!([
            {"type": "RESERVE", "reserve": {"resources": reservation}},
            {"type": "CREATE", "create": {"volumes": [volume]}},
            {"type": "LAUNCH", "launch": {"task_infos": [task]}},
        ]),
    );
    driver.until("writer", "TASK_FINISHED");
    assert_holds(&directory.join("file"), "driven\n");
    assert_eq!(reserved(&cluster, "db")[1], entry("disk", 64.0, "driven"));

    // Until all of it is in one offer.
    let offer = loop {
        let (offer, _) = driver.offer();
        let resources = offer["resources"].as_array().into_iter().flatten();
        let reserved = resources.filter(|one| !one["reservations"][0].is_null());
        if reserved.count() == 3 {
            break offer;
        }
        driver.call(json!({"type": "DECLINE", "decline": {
            "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0},
        }}));
    };
    accept(
        &offer,
        json!([
            {"type": "DESTROY", "destroy": {"volumes": [volume]}},
            {"type": "UNRESERVE", "unreserve": {"resources": reservation}},
        ]),
    );
    assert!(eventually(PATIENCE, || reserved(&cluster, "db").is_empty()
        && !directory.exists()));
    assert_eq!(peer.problems(), Vec::<String>::new());
}

/// A framework with one role.
fn subscribe(cluster: &Cluster, role: &str) -> Framework {
    let info = json!({
        "user": "root", "name": role, "roles": [role],
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}],
    });
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    Framework::subscribe_with(cluster.leader, &call)
}

/// How much of `cpus` an offer has, unreserved and reserved.
fn cpus(offer: &Value) -> (f64, f64) {
    let (mut free, mut reserved) = (0.0, 0.0);
    for one in offer["resources"].as_array().into_iter().flatten() {
        let value = one["scalar"]["value"].as_f64().unwrap_or(0.0);
        match (one["name"] == "cpus", one["reservations"].is_null()) {
            (true, true) => free += value,
            (true, false) => reserved += value,
            _ => {}
        }
    }
    (free, reserved)
}

fn decline(framework: &Framework, offer: &Value) {
    framework.must(json!({"type": "DECLINE", "decline": {
        "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0},
    }}));
}

#[test]
fn what_an_operator_reserves_is_offered_to_its_role_and_those_below_it_only() {
    let cluster = Cluster::mixed();
    let leader = cluster.leader.to_string();
    let operator = |arguments: &[&str]| {
        let outcome = commands::run_with(arguments, &[("TEPUI_LEADER", &leader)]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    };
    operator(&["reserve", "S0", "--role", "prod", "cpus:2"]);

    // Who comes first is offered all that is free, but not that.
    let mut other = subscribe(&cluster, "dev");
    let held = other.offer();
    assert_eq!(cpus(&held), (6.0, 0.0), "{held}");
    // What is left is what is reserved: for the role it is reserved for, or one below it.
    let mut below = subscribe(&cluster, "prod/web");
    let offer = below.offer();
    assert_eq!(cpus(&offer), (0.0, 2.0), "{offer}");
    assert_eq!(offer["allocation_info"]["role"], "prod/web");
    drop(below);
    let mut own = subscribe(&cluster, "prod");
    let offer = own.offer();
    assert_eq!(cpus(&offer).1, 2.0, "{offer}");

    // Who gives something back steps aside for others. What is reserved comes back all the same.
    let mut ours = offer;
    for _ in 0..5 {
        decline(&own, &ours);
        ours = own.offer();
        assert_eq!(cpus(&ours), (0.0, 2.0), "{ours}");
    }
    let mut others = held;
    for _ in 0..5 {
        decline(&other, &others);
        let free = own.offer();
        assert_eq!(cpus(&free), (6.0, 0.0), "{free}");
        decline(&own, &free);
        others = other.offer();
        assert_eq!(cpus(&others), (6.0, 0.0), "{others}");
    }

    // What is no longer reserved is taken back, and offered to whoever has the least.
    operator(&["unreserve", "S0", "--role", "prod", "cpus:2"]);
    own.wait_for("RESCIND", |rescind| rescind["offer_id"] == ours["id"]);
    let free = own.offer();
    assert_eq!(cpus(&free), (2.0, 0.0), "{free}");
}

/// Followers of the shares, and what each has: no more memory than their tasks use, so that no offer is left without processors.
const SHARED: usize = 250;
const SHARED_CPUS: u64 = 3_000;
const SHARED_MEM: u64 = 48;

#[test]
fn two_frameworks_with_weights_2_to_1_end_within_2_percent_of_their_shares_under_churn() {
    const ROUNDS: usize = 12;
    let cluster = Cluster::builder().only(Part::Leader).start();
    let weights = json!([{"role": "two", "weight": 2.0}, {"role": "one", "weight": 1.0}]);
    let mut request = Request::post_json("/weights", &weights);
    request.method = "PUT".to_owned();
    let answer = send(cluster.leader, &request).expect("the leader answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let resources = format!("--resources=cpus:{};mem:{SHARED_MEM}", SHARED_CPUS / 1_000);
    let emulator = Emulator::start(cluster.leader, SHARED, &[&resources, "--per_address=2"]);
    emulator.all_registered(PATIENCE);

    let task = Amount {
        cpus: 1_000,
        mem: 16,
    };
    let sizes = Sizes {
        least: task,
        most: task,
        step: task,
    };
    let mut churn = Churn::new(sizes, 21);
    let all = SHARED_CPUS * SHARED as u64;
    let settle = |churn: &mut Churn| {
        while churn.awaits_ends() || churn.running(|_| true).cpus < all {
            churn.step(|_| ());
        }
    };
    // Whoever is to have the less has everything in the beginning.
    let one = churn.subscribe(cluster.leader, &["one"]);
    settle(&mut churn);
    let two = churn.subscribe(cluster.leader, &["two"]);
    for _ in 0..ROUNDS {
        churn.kill_some(20);
        settle(&mut churn);
    }
    let share = |framework: usize| {
        let held = churn.running(|task| task.framework == framework);
        held.cpus as f64 / all as f64
    };
    let (one, two) = (share(one), share(two));
    assert!((two - 2.0 / 3.0).abs() < 0.02, "{two} and {one}");
    assert!((one - 1.0 / 3.0).abs() < 0.02, "{two} and {one}");
    assert!(
        churn.launched > 3 * all as usize / 1_000,
        "{}",
        churn.launched
    );
    // That is what the leader shows too.
    let roles = cluster.json("/roles");
    let shown = roles["roles"].as_array().into_iter().flatten();
    for role in shown.filter(|role| role["name"] != "*") {
        let share = role["allocated"]["cpus"].as_f64().unwrap_or(f64::NAN) * 1e3 / all as f64;
        let expected = role["weight"].as_f64().unwrap_or(f64::NAN) / 3.0;
        assert!((share - expected).abs() < 0.02, "{role}");
    }
    let report = emulator.stop();
    assert_eq!(report["tasks"], json!(churn.launched), "{report}");
}

#[test]
fn no_limit_is_passed_in_a_thousand_random_launches() {
    let figures = random_launches(1_000, 5);
    assert!(figures.launched >= 1_000, "{figures:?}");
    assert!(figures.rounds > 5 && figures.looks > 50, "{figures:?}");
}
