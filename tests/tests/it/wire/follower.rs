//! Our follower in the recorded agent's place. Command tasks run for real; the executors of v0 and v1 are played too, while
//! what the follower starts for them only lives.

use serde_json::Value;
use tepui_tests::cluster::{Builder, Cluster, Part};
use tepui_tests::http::{PATIENCE, Request, send};
use tepui_tests::wait::eventually_some;

use super::own_ip;
use super::player::{Player, Report};
use super::script::read;

const MASTER: u16 = 15050;
const AGENT: u16 = 15051;

/// With the flags of the recorded agent.
fn follower(player: &Player, port: u16, master: u16) -> Builder {
    Cluster::builder()
        .only(Part::Follower)
        .at(Part::Follower, player.address(port))
        .flag("master", &player.address(master).to_string())
        .flag("hostname", "follower.test")
        .flag(
            "attributes",
            "node_id:follower1;rack:r1;speed:2.5;slots:[1-4]",
        )
        .flag(
            "resources",
            "cpus:4;mem:4096;disk:10240;ports(*):[31000-32000]",
        )
}

/// What stands for the programs of the recorded executors: something that lives until it is killed.
const IDLE: &str = "exec sleep 3600";

/// A played executor speaks when the follower has started the process that it stands for, as one in that process would.
fn wait_for_executor(cluster: &Cluster, framework: &str) {
    let started = || {
        let containers = send(cluster.follower, &Request::get("/containers"))
            .ok()?
            .json();
        let own = |one: &&Value| {
            one["framework_id"]
                .as_str()
                .is_some_and(|id| id.ends_with(framework))
        };
        let container = containers.as_array()?.iter().find(own)?;
        container["status"]["executor_pid"].as_f64()
    };
    assert!(
        eventually_some(PATIENCE, started).is_some(),
        "an executor of framework {framework} runs"
    );
}

#[test]
fn our_follower_says_what_the_recorded_agent_said_in_basic() {
    let mut player = Player::new("follower", "basic", &[AGENT], own_ip());
    for program in [
        "/opt/mesos/bin/test-executor",
        "/opt/mesos/bin/test-http-executor",
    ] {
        player.names.bind(program, IDLE);
    }
    player.peer(MASTER);
    let cluster = follower(&player, AGENT, MASTER).start();
    for line in &read("basic") {
        match line.number {
            211 => wait_for_executor(&cluster, "-0004"),
            368 => wait_for_executor(&cluster, "-0005"),
            _ => {}
        }
        player.play(line);
    }
    player.ping_once_more(MASTER, AGENT);
    player.finish(
        18,
        &Report {
            said: 73,
            compared: 61,
            missing: 0,
            not_replayed: 76,
            between_others: 48,
        },
    );
}

#[test]
fn our_follower_says_what_the_recorded_agent_said_in_operator() {
    let mut player = Player::new("follower", "operator", &[AGENT], own_ip());
    player.peer(MASTER);
    let _cluster = follower(&player, AGENT, MASTER).start();
    for line in &read("operator") {
        player.play(line);
    }
    player.ping_once_more(MASTER, AGENT);
    player.finish(
        6,
        &Report {
            said: 18,
            compared: 12,
            missing: 0,
            not_replayed: 19,
            between_others: 0,
        },
    );
}

#[test]
fn our_follower_says_what_the_recorded_agents_said_in_auth() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let credential = |secret: &str| {
        let file = folder.path().join(secret);
        let text = format!(r#"{{"principal": "follower", "secret": "{secret}"}}"#);
        std::fs::write(&file, text).expect("a file can be written");
        file.display().to_string()
    };
    let lines = read("auth");

    // A wrong secret: refused, and that was it.
    let mut player = Player::new("follower", "auth", &[15052], own_ip());
    player.peer(MASTER);
    let mut cluster = follower(&player, 15052, MASTER)
        .flag("credential", &credential("wrong"))
        .start();
    lines.iter().for_each(|line| player.play(line));
    let status = cluster.wait_for_end(Part::Follower, PATIENCE);
    assert!(
        status.is_some_and(|status| !status.success()),
        "a refused follower ends: {status:?}"
    );
    player.finish(
        3,
        &Report {
            said: 3,
            compared: 3,
            missing: 0,
            not_replayed: 0,
            between_others: 123,
        },
    );

    // None: not answered.
    let mut player = Player::new("follower", "auth", &[15053], own_ip());
    player.peer(MASTER);
    let cluster = follower(&player, 15053, MASTER).start();
    lines.iter().for_each(|line| player.play(line));
    drop(cluster);
    player.finish(
        0,
        &Report {
            said: 0,
            compared: 2,
            missing: 0,
            not_replayed: 0,
            between_others: 127,
        },
    );

    // The right one.
    let mut player = Player::new("follower", "auth", &[AGENT], own_ip());
    player.names.bind("/opt/mesos/bin/test-executor", IDLE);
    player.peer(MASTER);
    let cluster = follower(&player, AGENT, MASTER)
        .flag("credential", &credential("f-secret"))
        .start();
    for line in &lines {
        if line.number == 119 {
            wait_for_executor(&cluster, "-0001");
        }
        player.play(line);
    }
    player.ping_once_more(MASTER, AGENT);
    player.finish(
        20,
        &Report {
            said: 35,
            compared: 36,
            missing: 0,
            not_replayed: 10,
            between_others: 48,
        },
    );
}

#[test]
fn our_follower_says_what_the_recorded_agent_said_in_ha() {
    let (first, second) = (15070, 15060);
    let mut player = Player::new("follower", "ha", &[AGENT], own_ip());
    player.peer(first);
    let _cluster = follower(&player, AGENT, first).start();
    for line in &read("ha") {
        if line.number == 223 {
            // The next master speaks from the address of the first: who leads where is ZooKeeper's to tell.
            player.alias(second, first);
            player.peer(first).break_links();
        }
        player.play(line);
    }
    player.ping_once_more(first, AGENT);
    player.finish(
        4,
        &Report {
            said: 4,
            compared: 6,
            missing: 0,
            not_replayed: 0,
            between_others: 84,
        },
    );
}
