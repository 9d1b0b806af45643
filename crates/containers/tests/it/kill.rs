//! Nothing a container forks survives it, whoever dies first.

use crate::launcher::{Host, alive, until, until_dead};
use rustix::process::{Pid, Signal, kill_process};
use tepui_containers::message::{Report, SignalScope};
use tepui_model::container::{ContainerId, ExitStatus};

/// Writes three pids: its own, a background child's, and that of a daemon: forked twice, in a
/// session of its own, deaf to polite signals.
const FAMILY: &str = r#"
sleep 1000 & echo $!
(setsid sh -c 'trap "" TERM HUP INT; echo $$; while :; do sleep 1000; done' &)
while [ $(wc -l < stdout) -lt 2 ]; do :; done
echo $$
wait"#;

fn kill_dash_9(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("a pid");
    kill_process(pid, Signal::KILL).expect("killed");
}

fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

#[test]
fn destroy_reaches_daemons_and_other_sessions() {
    Host::both_ways(|mut host| {
        host.run(host.shell("c", FAMILY));
        let pids = host.pids("c", 3);
        assert!(pids.iter().all(|pid| alive(*pid)));
        host.destroy("c");
        assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
        assert!(
            !pids.iter().any(|pid| alive(*pid)),
            "gone before it is reported"
        );
    });
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    Host::both_ways(|mut host| {
        let daemon = "(setsid sleep 1000 & echo $!); exit 3";
        assert_eq!(
            host.run_to_end(host.shell("c", daemon)),
            ExitStatus::Code(3)
        );
        assert!(!alive(host.pids("c", 1)[0]));
    });
}

#[test]
fn a_chain_of_forks_that_keeps_moving_is_caught() {
    Host::both_ways(|mut host| {
        // Each link starts the next and ends at once.
        std::fs::create_dir_all(host.sandbox("c")).expect("a sandbox");
        std::fs::write(
            host.sandbox("c").join("link.sh"),
            "echo >> moves; setsid sh ./link.sh & exit 0",
        )
        .expect("a script");
        host.run(host.shell("c", "sh ./link.sh; exec sleep 1000"));
        until("it moves", || {
            let moves = std::fs::read(host.sandbox("c").join("moves")).unwrap_or_default();
            (moves.len() > 20).then_some(())
        });
        host.destroy("c");
        assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
    });
}

#[test]
fn the_followers_end_ends_everything() {
    Host::both_ways(|mut host| {
        host.run(host.shell("c", FAMILY));
        let pids = host.pids("c", 3);
        let launcher = host.launcher.take().expect("open");
        launcher.stop().expect("ends by itself");
        assert!(
            !pids.iter().any(|pid| alive(*pid)),
            "gone before the launcher"
        );
    });
}

#[test]
fn the_launchers_violent_end_ends_everything() {
    Host::both_ways(|mut host| {
        let (_, init) = host.run(host.shell("c", FAMILY));
        let mut pids = host.pids("c", 3);
        pids.push(init);
        kill_dash_9(host.pid());
        until_dead(&pids);
        assert_eq!(host.try_receive(), None);
    });
}

#[test]
fn an_inits_violent_end_ends_its_container_and_no_other() {
    Host::both_ways(|mut host| {
        let (_, init) = host.run(host.shell("c", FAMILY));
        let pids = host.pids("c", 3);
        let (other, _) = host.run(host.shell("d", "exec sleep 1000"));
        kill_dash_9(init);
        assert_eq!(
            host.receive(),
            Report::Exited {
                container: ContainerId::top("c"),
                status: None
            }
        );
        assert!(
            !pids.iter().any(|pid| alive(*pid)),
            "gone before it is reported"
        );
        assert!(alive(other));
        // The name is free again and the launcher works.
        assert_eq!(
            host.run_to_end(host.shell("c", "exit 0")),
            ExitStatus::Code(0)
        );
    });
}

#[test]
fn signals_reach_what_they_are_meant_for() {
    Host::both_ways(|mut host| {
        // The command says when it gets one; children die of it unless spared.
        let text = r#"trap 'echo 1' USR1; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; echo $$
            while :; do wait; done"#;
        host.run(host.shell("c", text));
        let pids = host.pids("c", 3);
        // Until then they are still the shell, with its trap and in its group.
        until("they are sleeps", || {
            pids[..2]
                .iter()
                .all(|pid| name(*pid) == "sleep\n")
                .then_some(())
        });
        host.signal("c", 10, SignalScope::Process);
        assert_eq!(host.pids("c", 4)[3], 1);
        assert!(
            pids.iter().all(|pid| alive(*pid)),
            "only the command got it"
        );
        host.signal("c", 10, SignalScope::Group);
        until_dead(&pids[..1]);
        assert!(alive(pids[1]), "another session is another group");
        host.signal("c", 10, SignalScope::Tree);
        until_dead(&pids[1..2]);
        assert!(alive(pids[2]));
        host.signal("c", 15, SignalScope::Process);
        assert_eq!(host.exited(), Some(ExitStatus::Signal(15)));
    });
}

#[test]
fn destroying_a_parent_destroys_what_is_nested_in_it() {
    let mut host = Host::start();
    host.run(host.shell("c", "exec sleep 1000"));
    let mut nested = host.shell("n", "exec sleep 1000");
    nested.container = ContainerId::top("c").nested("n");
    host.run(nested);
    host.destroy("c");
    let mut ended =
        [host.receive(), host.receive()].map(|report| report.into_event().0.to_string());
    ended.sort();
    assert_eq!(ended, ["c", "c.n"]);
}

#[test]
fn orders_for_unknown_containers_are_ignored() {
    let mut host = Host::start();
    host.destroy("nobody");
    host.signal("nobody", 9, SignalScope::Tree);
    assert_eq!(
        host.run_to_end(host.shell("c", "exit 0")),
        ExitStatus::Code(0)
    );
}
