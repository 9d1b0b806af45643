//! Containers that outlive their launcher and follower, and what the next ones make of them.

use crate::{
    launcher::{Host, alive, kill, until, until_dead},
    record::text,
};
use rustix::process::{Signal, kill_process};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};
use tepui_containers::{
    linux::{
        Fate, Found, LauncherOptions, create_sandbox, forget, lookup_user, start_launcher, usage,
    },
    message::{Report, Request, SignalScope},
    record::{Facts, Head, Process, Record, State},
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchStep};

/// Writes three pids: its own, a background child's, and that of a daemon in a session of its own.
const FAMILY: &str = r#"
sleep 1000 & echo $!
(setsid sh -c 'trap "" TERM HUP INT; echo $$; while :; do sleep 1000; done' &)
while [ $(wc -l < stdout) -lt 2 ]; do :; done
echo $$
wait"#;

const SLEEP: &str = "exec sleep 1000";
/// Ends when told by a file.
const WAIT: &str = "while [ ! -e go ]; do sleep 0.01; done; exit 7";

fn running(found: &Found) -> (u32, u32) {
    match found.fate {
        Fate::Running { pid, init } => (pid, init),
        ref other => panic!("not running: {other:?}"),
    }
}

fn start_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after = stat.rsplit(')').next().expect("a name");
    let field = after.split_whitespace().nth(22 - 3).expect("a field");
    field.parse().expect("a number")
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    id.trim().to_owned()
}

/// A record that nobody keeps, as if its init were `pid`.
fn forge(host: &Host, boot: &str, process: Process, state: State) -> PathBuf {
    let record = Record {
        head: Head { state, told: false },
        init: process,
        command: process,
        facts: Facts {
            boot: boot.into(),
            cgroup: None,
            sandbox: "/nowhere".into(),
            name: "forged".into(),
        },
    };
    let directory = host.state().join("c");
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join("container"), text(&record)).expect("written");
    directory
}

/// A process that has nothing to do with it; ended by the test, whatever happens.
struct Innocent(std::process::Child);

impl Innocent {
    fn start() -> Self {
        // A leader of its own session, as the commands of containers are.
        let child = Command::new("setsid").args(["sleep", "1000"]).spawn();
        let child = Self(child.expect("it starts"));
        until("it is a sleep", || {
            let name = fs::read_to_string(format!("/proc/{}/comm", child.0.id()));
            name.is_ok_and(|name| name == "sleep\n").then_some(())
        });
        child
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_crash_of_everything_is_survived_and_the_next_launcher_takes_over() {
    Host::both_ways(|mut host| {
        let (pid, init) = host.run(host.kept(
            "c",
            "trap 'exit 5' USR1; echo 1; while :; do sleep 0.01; done",
        ));
        host.pids("c", 1);
        host.crash();
        let found = host.recover_one();
        assert_eq!(running(&found), (pid, init));
        assert_eq!(found.name, "task c");
        assert_eq!(found.container, ContainerId::top("c"));
        assert!(!found.told);
        assert!(usage(init).expect("it runs").processes >= 1);
        host.signal("c", 10, SignalScope::Process);
        assert_eq!(host.exited(), Some(ExitStatus::Code(5)));
        until_dead(&[pid, init]);
        forget(&host.state(), &ContainerId::top("c")).expect("removed");
        host.crash();
        assert_eq!(host.recover(), []);
    });
}

#[test]
fn an_orderly_end_of_the_follower_is_survived_and_ends_the_launcher() {
    let mut host = Host::start();
    let (pid, _) = host.run(host.kept("c", SLEEP));
    let (other, _) = host.run(host.shell("d", SLEEP));
    let launcher = host.launcher.take().expect("open");
    launcher.stop().expect("it ends");
    assert!(alive(pid));
    assert!(!alive(other), "only those that are to");
    host.start_again();
    assert_eq!(running(&host.recover_one()).0, pid);
    host.destroy("c");
    assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
}

#[test]
fn destroying_an_adopted_one_reaches_daemons_and_other_sessions() {
    Host::both_ways(|mut host| {
        let (_, init) = host.run(host.kept("c", FAMILY));
        let pids = host.pids("c", 3);
        host.crash();
        assert_eq!(running(&host.recover_one()).1, init);
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
fn an_end_that_nobody_watched_is_told_later() {
    Host::both_ways(|mut host| {
        let (_, init) = host.run(host.kept("c", WAIT));
        host.kill_launcher();
        fs::write(host.sandbox("c").join("go"), "").expect("written");
        until_dead(&[init]);
        host.start_again();
        for _ in 0..2 {
            // As often as it takes until somebody has taken it over.
            let found = host.recover_one();
            assert_eq!(found.fate, Fate::Exited(Some(ExitStatus::Code(7))));
        }
    });
}

#[test]
fn an_end_that_was_heard_but_not_written_down_is_told_again() {
    let mut host = Host::start();
    assert_eq!(
        host.run_to_end(host.kept("c", "exit 3")),
        ExitStatus::Code(3)
    );
    host.crash();
    let found = host.recover_one();
    assert_eq!(found.fate, Fate::Exited(Some(ExitStatus::Code(3))));
}

#[test]
fn that_it_had_been_told_to_end_is_known_later() {
    let mut host = Host::start();
    let deaf = "trap 'echo 1' TERM; echo 0; while :; do sleep 0.01; done";
    let (_, init) = host.run(host.kept("c", deaf));
    host.pids("c", 1);
    host.signal("c", 15, SignalScope::Process);
    host.pids("c", 2);
    host.crash();
    let found = host.recover_one();
    assert_eq!(running(&found).1, init);
    assert!(found.told);
    host.destroy("c");
    assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
}

#[test]
fn a_killed_init_ends_its_container_even_if_nobody_was_there() {
    Host::both_ways(|mut host| {
        let mut plan = host.kept("c", FAMILY);
        let sandbox = host.sandbox("c").display().to_string();
        plan.environment.push(format!("MESOS_SANDBOX={sandbox}"));
        let (pid, init) = host.run(plan);
        let pids = host.pids("c", 3);
        host.kill_launcher();
        kill(init);
        // The command goes with its init; the rest waits for somebody who cares.
        until_dead(&[pid]);
        host.start_again();
        assert_eq!(host.recover_one().fate, Fate::Exited(None));
        assert!(!pids.iter().any(|pid| alive(*pid)), "nothing is left");
    });
}

#[test]
fn a_killed_init_of_an_adopted_container_ends_it() {
    Host::both_ways(|mut host| {
        let mut plan = host.kept("c", FAMILY);
        let sandbox = host.sandbox("c").display().to_string();
        plan.environment.push(format!("MESOS_SANDBOX={sandbox}"));
        let (_, init) = host.run(plan);
        let pids = host.pids("c", 3);
        let (other, _) = host.run(host.kept("d", SLEEP));
        host.crash();
        host.recover();
        kill(init);
        let ended = Report::Exited {
            container: ContainerId::top("c"),
            status: None,
        };
        assert_eq!(host.receive(), ended);
        assert!(!pids.iter().any(|pid| alive(*pid)), "nothing is left");
        assert!(alive(other));
    });
}

#[test]
fn a_killed_init_of_one_that_would_outlive_us_ends_it_too() {
    Host::both_ways(|mut host| {
        let (_, init) = host.run(host.kept("c", FAMILY));
        let pids = host.pids("c", 3);
        kill(init);
        assert_eq!(host.exited(), None);
        assert!(!pids.iter().any(|pid| alive(*pid)), "nothing is left");
    });
}

#[test]
fn a_number_that_means_another_process_now_is_not_touched() {
    let mut host = Host::start();
    let innocent = Innocent::start();
    let pid = innocent.0.id();
    let reused = Process {
        pid: pid as i32,
        start: start_of(pid) - 1,
    };
    let directory = forge(&host, &boot(), reused, State::Running);
    assert_eq!(host.recover_one().fate, Fate::Exited(None));
    // Nor by a launcher that is asked to take charge of it.
    host.send(&Request::Adopt {
        container: ContainerId::top("c"),
        directory,
    });
    assert_eq!(host.exited(), None);
    host.destroy("c");
    assert_eq!(
        host.run_to_end(host.shell("d", "exit 0")),
        ExitStatus::Code(0)
    );
    assert!(alive(pid));
}

#[test]
fn what_ran_before_the_machine_was_restarted_is_over() {
    let mut host = Host::start();
    let innocent = Innocent::start();
    let pid = innocent.0.id();
    let same = Process {
        pid: pid as i32,
        start: start_of(pid),
    };
    forge(&host, "another boot", same, State::Running);
    assert_eq!(host.recover_one().fate, Fate::Exited(None));
    forge(
        &host,
        "another boot",
        same,
        State::Exited(ExitStatus::Code(4)),
    );
    let status = Some(ExitStatus::Code(4));
    assert_eq!(host.recover_one().fate, Fate::Exited(status));
    assert!(alive(pid));
}

#[test]
fn a_command_that_could_not_be_executed_is_told_later() {
    let mut host = Host::start();
    host.launch({
        let mut plan = host.kept("c", "exit 0");
        plan.candidates = vec!["/no/such/program".into()];
        plan
    });
    let message = "Failed to execute command: No such file or directory".to_owned();
    let failed = Report::Failed {
        container: ContainerId::top("c"),
        step: LaunchStep::Start,
        message: message.clone(),
    };
    assert_eq!(host.receive(), failed);
    host.crash();
    let found = host.recover_one();
    assert_eq!(found.fate, Fate::Failed(LaunchStep::Start, message));
}

#[test]
fn a_torn_record_costs_its_container_and_nothing_else() {
    let mut host = Host::start();
    let (pid, _) = host.run(host.kept("c", SLEEP));
    let (other, _) = host.run(host.kept("d", SLEEP));
    host.kill_launcher();
    let file = host.state().join("c/container");
    let text = fs::read(&file).expect("a record");
    fs::write(&file, &text[..text.len() / 2]).expect("torn");
    host.start_again();
    let found = host.recover();
    assert_eq!(found[0].fate, Fate::Exited(None));
    assert_eq!(found[0].name, "");
    assert!(!alive(pid), "nobody would ever end it");
    assert_eq!(running(&found[1]).0, other);
}

#[test]
fn what_came_before_a_record_is_cleared_away() {
    let mut host = Host::start();
    let half = host.state().join("c");
    fs::create_dir_all(&half).expect("made");
    fs::write(half.join("container.new"), "tepui-con").expect("written");
    assert_eq!(host.recover(), []);
    assert!(!half.exists());
}

#[test]
fn an_init_that_cannot_be_reached_is_followed_and_ended_all_the_same() {
    Host::both_ways(|mut host| {
        let mut plan = host.kept("c", FAMILY);
        let sandbox = host.sandbox("c").display().to_string();
        plan.environment.push(format!("MESOS_SANDBOX={sandbox}"));
        host.run(plan);
        let pids = host.pids("c", 3);
        host.kill_launcher();
        fs::remove_file(host.state().join("c/socket")).expect("removed");
        host.start_again();
        running(&host.recover_one());
        host.signal("c", 9, SignalScope::Tree);
        assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
        assert!(!pids.iter().any(|pid| alive(*pid)));

        host.run(host.kept("d", FAMILY));
        let pids = host.pids("d", 3);
        host.kill_launcher();
        fs::remove_file(host.state().join("d/socket")).expect("removed");
        host.start_again();
        host.recover();
        host.destroy("d");
        assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
        until_dead(&pids);
    });
}

#[test]
fn nested_ones_are_found_below_their_parents_and_end_with_them() {
    let mut host = Host::start();
    let mut plan = host.kept("n", SLEEP);
    let id = ContainerId::top("c").nested("n");
    let tepui_containers::plan::OnSupervisorDeath::KeepRunning(keep) =
        &mut plan.on_supervisor_death
    else {
        panic!("kept");
    };
    keep.directory = host.state().join("c/containers/n");
    plan.container = id.clone();
    let (pid, _) = host.run(plan);
    host.crash();
    let found = host.recover_one();
    assert_eq!(found.container, id);
    host.destroy("c");
    assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
    assert!(!alive(pid));
    forget(&host.state(), &ContainerId::top("c")).expect("removed");
    assert!(!host.state().join("c").exists());
}

#[test]
fn a_launcher_that_ends_does_not_take_inits_that_go_on_for_orphans() {
    let mut host = Host::start();
    let (kept, _) = host.run(host.kept("c", SLEEP));
    let (other, init) = host.run(host.shell("d", FAMILY));
    let pids = host.pids("d", 3);
    // It hears of both ends at once: of an init, whose orphans it looks for, and of the follower.
    let launcher = host.launcher.take().expect("open");
    let pid = rustix::process::Pid::from_raw(launcher.pid as i32).expect("a pid");
    kill_process(pid, Signal::STOP).expect("stopped");
    kill(init);
    until_dead(&[init, other]);
    drop(launcher.socket);
    kill_process(pid, Signal::CONT).expect("continued");
    until_dead(&[pid.as_raw_nonzero().get() as u32]);
    assert!(!pids.iter().any(|pid| alive(*pid)));
    assert!(alive(kept));
    host.start_again();
    assert_eq!(running(&host.recover_one()).0, kept);
}

#[test]
fn who_asks_for_it_ends_everything() {
    let mut host = Host::start();
    let (pid, _) = host.run(host.kept("c", FAMILY));
    let pids = host.pids("c", 3);
    host.crash();
    host.recover();
    let (other, _) = host.run(host.kept("d", SLEEP));
    host.send(&Request::End);
    host.launcher.take().expect("open").stop().expect("it ends");
    assert!(![pid, other].iter().chain(&pids).any(|pid| alive(*pid)));
}

#[test]
fn one_launcher_at_a_time_uses_a_state_directory() {
    let mut host = Host::start();
    host.run(host.kept("c", SLEEP));
    let second = start_launcher(LauncherOptions::default()).expect("a launcher");
    let first = host.launcher.replace(second).expect("open");
    host.launch(host.kept("d", SLEEP));
    match host.receive() {
        Report::Failed { message, .. } => assert!(message.contains("another agent"), "{message}"),
        other => panic!("not refused: {other:?}"),
    }
    let second = host.launcher.replace(first).expect("open");
    second.stop().expect("it ends");
}

/// The promise that everything else rests on: what has no record was never executed and never will
/// be, so it can be launched again.
#[test]
fn whenever_it_crashes_every_command_is_executed_once() {
    const CONTAINERS: usize = 40;
    Host::both_ways(|mut host| {
        let names: Vec<String> = (0..CONTAINERS).map(|n| format!("c{n}")).collect();
        let runs = |host: &Host, name: &str| {
            let text = fs::read_to_string(host.sandbox(name).join("runs"));
            text.map_or(0, |text| text.lines().count())
        };
        let mut missing: Vec<&String> = names.iter().collect();
        let mut round = 0;
        while !missing.is_empty() {
            for name in &missing {
                host.launch(host.kept(name, "echo run >> runs; exec sleep 1000"));
            }
            // Ever later, so that it is caught at every stage.
            for _ in 0..round.min(missing.len()) {
                assert!(matches!(host.receive(), Report::Launched { .. }));
            }
            round += 3;
            host.crash();
            let found = host.recover();
            let is_found = |name: &&String| found.iter().any(|f| *f.container.value == ***name);
            missing.retain(|name| !is_found(name));
            for name in &missing {
                assert_eq!(runs(&host, name), 0, "{name} runs, and nobody knows");
            }
        }
        for name in &names {
            until("each has run", || (runs(&host, name) > 0).then_some(()));
            assert_eq!(runs(&host, name), 1, "{name}");
        }
    });
}

#[test]
fn it_works_without_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = Host::start();
    let nobody = lookup_user("nobody").expect("looked up").expect("there");
    fs::set_permissions(host.sandbox(""), fs::Permissions::from_mode(0o777)).expect("opened");
    // User ids belong to threads: the launcher and what reads records are forked from and run in
    // these.
    let as_nobody = |work: &mut (dyn FnMut() + Send)| {
        std::thread::scope(|threads| {
            let unprivileged = threads.spawn(|| {
                let uid = rustix::process::Uid::from_raw(nobody.uid);
                let gid = rustix::process::Gid::from_raw(nobody.gid);
                rustix::thread::set_thread_groups(&[]).expect("no groups");
                rustix::thread::set_thread_res_gid(gid, gid, gid).expect("group");
                rustix::thread::set_thread_res_uid(uid, uid, uid).expect("user");
                work();
            });
            unprivileged.join().expect("no panic");
        });
    };
    host.launcher.take().expect("open").stop().expect("ends");
    as_nobody(&mut || host.start_again());
    let plan = host.kept("c", WAIT);
    create_sandbox(&plan.directory, Some(&nobody), None).expect("owned");
    let (pid, _) = host.run(plan);
    host.kill_launcher();
    let mut found = None;
    as_nobody(&mut || {
        host.start_again();
        found = Some(host.recover_one());
    });
    assert_eq!(running(&found.expect("found")).0, pid);
    fs::write(host.sandbox("c").join("go"), "").expect("written");
    assert_eq!(host.exited(), Some(ExitStatus::Code(7)));
}

#[test]
fn it_works_without_pidfds() {
    let options = LauncherOptions {
        pidfds: false,
        ..Default::default()
    };
    let mut host = Host::with(options);
    host.run(host.kept("c", WAIT));
    let (_, init) = host.run(host.kept("d", FAMILY));
    let pids = host.pids("d", 3);
    host.crash();
    assert_eq!(host.recover().len(), 2);
    fs::write(host.sandbox("c").join("go"), "").expect("written");
    assert_eq!(host.exited(), Some(ExitStatus::Code(7)));
    kill(init);
    assert_eq!(host.exited(), None);
    until_dead(&pids[..1]);
    host.run(host.kept("e", SLEEP));
    host.crash();
    host.recover();
    host.destroy("e");
    assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
    until_dead(&pids);
}

#[test]
fn many_crashes_change_nothing() {
    let mut host = Host::start();
    let (pid, init) = host.run(host.kept("c", SLEEP));
    host.crash();
    host.recover_one();
    let before = (memory_kib(init), descriptors(init));
    for _ in 0..20 {
        host.crash();
        assert_eq!(running(&host.recover_one()), (pid, init));
    }
    // The last adoption may not have been noticed yet, nor the end of the last launcher.
    until("descriptors are back", || {
        (descriptors(init) <= before.1 + 1).then_some(())
    });
    let now = memory_kib(init);
    assert!(now <= before.0 + 16, "{} KiB, then {now}", before.0);
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .count()
}

/// Memory that it has written to, or shares with whoever forked it.
fn memory_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
        .expect("a number")
}
