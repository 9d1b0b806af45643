//! Our leader in the recorded master's place.

use tepui_tests::cluster::{Builder, Cluster, Part};
use tepui_tests::wait::eventually;

use super::own_ip;
use super::player::{PATIENCE, Player, Report};
use super::script::read;

const MASTER: u16 = 15050;
const AGENT: u16 = 15051;

/// With the flags of the recorded master.
fn leader(player: &Player, port: u16) -> Builder {
    Cluster::builder()
        .only(Part::Leader)
        .at(Part::Leader, player.address(port))
        .flag("hostname", "leader.test")
        .flag("cluster", "recorded")
        .flag("allocation_interval", "500ms")
}

#[test]
fn our_leader_says_what_the_recorded_master_said_in_basic() {
    let mut player = Player::new("leader", "basic", &[MASTER], own_ip());
    let mut cluster = leader(&player, MASTER).start();
    let mut lines = read("basic");
    // The framework was gone before its last acknowledgement came: it is refused. Here the acknowledgement waits for that.
    lines[54..=56].rotate_right(1);
    for line in &lines {
        match line.number {
            // mesos-execute ends once it has seen the end of its task, the first one with an acknowledgement on its way.
            56 => player.close(11),
            107 => player.close(15),
            156 => player.close(19),
            // `kill -9` of the agent, and later of the master.
            721 => player.peer(AGENT).break_links(),
            726 => assert!(
                eventually(PATIENCE, || cluster.json("/slaves")["slaves"][0]["active"]
                    == false),
                "the leader notices that the agent is gone before it is back"
            ),
            747 => {
                cluster.kill(Part::Leader);
                cluster.restart(Part::Leader);
                assert!(
                    eventually(PATIENCE, || cluster.serves()),
                    "the leader serves again"
                );
            }
            _ => {}
        }
        player.play(line);
    }
    player.finish(
        0,
        &Report {
            said: 71,
            compared: 89,
            missing: 0,
            not_replayed: 0,
            between_others: 98,
        },
    );
}

#[test]
fn our_leader_says_what_the_recorded_master_said_in_auth() {
    let mut player = Player::new("leader", "auth", &[MASTER], own_ip());
    let credentials = r#"{"credentials": [
        {"principal": "follower", "secret": "f-secret"},
        {"principal": "marathon", "secret": "m-secret"},
        {"principal": "ops", "secret": "o-secret"}]}"#;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("credentials");
    std::fs::write(&file, credentials).expect("a file can be written");
    let _cluster = leader(&player, MASTER)
        .flag("authenticate_frameworks", "true")
        .flag("authenticate_agents", "true")
        .flag("authenticate_http_frameworks", "true")
        .flag("authenticate_http_readonly", "true")
        .flag("authenticate_http_readwrite", "true")
        .flag("http_framework_authenticators", "basic")
        .flag("credentials", &file.display().to_string())
        .start();
    for (_, answer, secret) in super::SECRETS {
        player.secrets.insert(answer, secret);
    }
    player.all_requests = true;
    let mut lines = read("auth");
    // As in `basic`: the last acknowledgement found its framework gone.
    lines.swap(82, 83);
    for line in &lines {
        if line.number == 83 {
            player.close(16);
        }
        player.play(line);
    }
    player.finish(
        40,
        &Report {
            said: 44,
            compared: 47,
            missing: 0,
            not_replayed: 0,
            between_others: 38,
        },
    );
}

#[test]
fn our_leader_says_what_the_recorded_masters_said_in_ha() {
    // The recorded agent goes from the master at 15070, when it is killed, to the one at 15060, which knows it.
    let (first, second) = (15070, 15060);
    let mut player = Player::new("leader", "ha", &[first, second], own_ip());
    let mut cluster = leader(&player, first).start();
    let mut another = None;
    for line in &read("ha") {
        if line.number == 223 {
            cluster.kill(Part::Leader);
            player.peer(AGENT).break_links();
            let registry = cluster.folder().join("leader").display().to_string();
            let next = leader(&player, second).flag("work_dir", &registry).start();
            another = Some(next);
        }
        player.play(line);
    }
    player.finish(
        4,
        &Report {
            said: 6,
            compared: 4,
            missing: 0,
            not_replayed: 53,
            between_others: 31,
        },
    );
    drop(another);
}

#[test]
fn our_leader_says_what_the_recorded_master_said_in_operator() {
    let mut player = Player::new("leader", "operator", &[MASTER], own_ip());
    player.operators_calls = &[
        "RESERVE_RESOURCES",
        "CREATE_VOLUMES",
        "UPDATE_WEIGHTS",
        "UPDATE_QUOTA",
        "GROW_VOLUME",
        "DESTROY_VOLUMES",
        "UNRESERVE_RESOURCES",
    ];
    let _cluster = leader(&player, MASTER).start();
    let mut lines = read("operator");
    // As in `basic`: the last acknowledgement found its framework gone.
    lines.swap(54, 55);
    // The recorded master looked at the second request after the update that came while it was read.
    lines[100..=102].rotate_left(1);
    for line in &lines {
        match line.number {
            55 => player.close(15),
            278 => player.close(22),
            _ => {}
        }
        player.play(line);
    }
    player.finish(
        10,
        &Report {
            said: 12,
            compared: 18,
            missing: 0,
            not_replayed: 0,
            between_others: 19,
        },
    );
}
