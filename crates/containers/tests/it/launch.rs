//! How commands start, what they find, and how a start fails.

use crate::launcher::{Host, until};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};
use tepui_containers::{
    linux::{LauncherOptions, create_sandbox, lookup_user, start_launcher, usage},
    message::Report,
    plan::{Identity, RLimit},
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchStep};
use tepui_protocol::v1;

fn program(value: &str, arguments: &[&str]) -> v1::CommandInfo {
    let arguments = arguments.iter().map(|a| a.to_string()).collect();
    v1::CommandInfo {
        shell: Some(false),
        value: Some(value.into()),
        arguments,
        ..Default::default()
    }
}

fn failure(host: &mut Host) -> (LaunchStep, String) {
    match host.receive() {
        Report::Failed { step, message, .. } => (step, message),
        other => panic!("not failed: {other:?}"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn exit_codes_and_signals_are_reported() {
    let mut host = Host::start();
    assert_eq!(
        host.run_to_end(host.shell("a", "exit 0")),
        ExitStatus::Code(0)
    );
    assert_eq!(
        host.run_to_end(host.shell("a", "exit 255")),
        ExitStatus::Code(255)
    );
    assert_eq!(
        host.run_to_end(host.shell("a", "kill -SEGV $$")),
        ExitStatus::Signal(11)
    );
}

#[test]
fn output_is_appended_in_the_sandbox() {
    let mut host = Host::start();
    host.run_to_end(host.shell("a", "echo out; echo err >&2; pwd"));
    host.run_to_end(host.shell("a", "echo more; cat"));
    assert_eq!(
        host.output("a"),
        format!("out\n{}\nmore\n", host.sandbox("a").display())
    );
    assert_eq!(
        fs::read_to_string(host.sandbox("a").join("stderr")).expect("stderr"),
        "err\n"
    );
}

#[test]
fn commands_find_a_clean_process() {
    let mut host = Host::start();
    let text = r#"umask; ps -o sid=,pgid= -p $$ | { read s g; [ $s = $$ ] && [ $g = $$ ] && echo leader; }
        grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\t'; ls /proc/self/fd | wc -l; env | sort"#;
    let mut plan = host.shell("a", text);
    plan.environment = vec!["A=1".into(), "PATH=/usr/bin:/bin".into()];
    host.run_to_end(plan);
    let zero = "0".repeat(16);
    // `ls` has the three standard streams and the directory it lists.
    let pwd = host.sandbox("a").display().to_string();
    let expected = format!(
        "0022\nleader\nSigBlk:{zero}\nSigIgn:{zero}\n4\nA=1\nPATH=/usr/bin:/bin\nPWD={pwd}\n"
    );
    // What a shell adds of its own differs from shell to shell.
    let output = host.output("a");
    let own = |line: &&str| {
        !line.starts_with("_=") && !line.starts_with("SHLVL=") && !line.starts_with("OLDPWD=")
    };
    assert_eq!(
        output
            .lines()
            .filter(own)
            .map(|l| format!("{l}\n"))
            .collect::<String>(),
        expected
    );
}

#[test]
fn programs_are_found_here_first_then_along_the_path() {
    let mut host = Host::start();
    let plan = host.plan("a", program("tool", &["tool", "argument"]));
    host.launch(plan.clone());
    assert_eq!(
        failure(&mut host).1,
        "Failed to execute command: No such file or directory"
    );
    // A script without `#!` runs in the shell, as `execvp` has it.
    let tool = host.sandbox("a").join("tool");
    fs::write(&tool, "echo $1").expect("written");
    host.launch(plan.clone());
    assert_eq!(
        failure(&mut host),
        (
            LaunchStep::Start,
            "Failed to execute command: Permission denied".into()
        )
    );
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("executable");
    assert_eq!(host.run_to_end(plan), ExitStatus::Code(0));
    assert_eq!(host.output("a"), "argument\n");
    let echo = host.plan("b", program("echo", &["echo", "a", "", "b c"]));
    assert_eq!(host.run_to_end(echo), ExitStatus::Code(0));
    assert_eq!(host.output("b"), "a  b c\n");
}

#[test]
fn failed_starts_say_what_failed() {
    let mut host = Host::start();
    let mut plan = host.shell("a", "exit 0");
    plan.directory = host.sandbox("none");
    host.launch(plan);
    let missing = host.sandbox("none").display().to_string();
    let message = format!(
        "Failed to chdir into current working directory '{missing}': No such file or directory"
    );
    assert_eq!(failure(&mut host), (LaunchStep::Sandbox, message));

    let plan = host.shell("b", "exit 0");
    std::os::unix::fs::symlink("/etc/passwd", host.sandbox("b").join("stdout")).expect("a link");
    host.launch(plan);
    let message = "Failed to open 'stdout': Too many levels of symbolic links".to_owned();
    assert_eq!(failure(&mut host), (LaunchStep::Sandbox, message));

    let mut plan = host.shell("c", "exit 0");
    plan.rlimits = vec![RLimit {
        resource: 7,
        soft: u64::MAX,
        hard: u64::MAX,
    }];
    host.launch(plan);
    let message = "Failed to set resource limits: Operation not permitted".to_owned();
    assert_eq!(failure(&mut host), (LaunchStep::Start, message));
}

#[test]
fn a_name_is_taken_until_its_end_is_reported() {
    let mut host = Host::start();
    host.run(host.shell("a", "exec sleep 1000"));
    host.launch(host.shell("a", "exit 0"));
    assert_eq!(failure(&mut host).1, "The container already exists");
    host.destroy("a");
    assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
    assert_eq!(
        host.run_to_end(host.shell("a", "exit 0")),
        ExitStatus::Code(0)
    );
}

#[test]
fn limits_bind_and_the_launchers_own_do_not_leak() {
    let mut host = Host::start();
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    host.run_to_end(host.shell("a", "ulimit -n"));
    assert_eq!(
        host.output("a").trim(),
        own.map_or("unlimited".into(), |n| n.to_string())
    );
    let mut plan = host.shell("b", "ulimit -S -n; ulimit -H -n; ulimit -c");
    plan.rlimits = vec![
        RLimit {
            resource: 7,
            soft: 100,
            hard: 200,
        },
        RLimit {
            resource: 4,
            soft: 0,
            hard: 0,
        },
    ];
    host.run_to_end(plan);
    assert_eq!(host.output("b"), "100\n200\n0\n");
}

#[test]
fn big_environments_arrive_whole() {
    let mut host = Host::start();
    let mut plan = host.shell("a", "env | grep ^BIG | wc -c");
    plan.environment = (0..14)
        .map(|n| format!("BIG{n:02}={}", "x".repeat(120_000)))
        .collect();
    plan.environment.push("PATH=/usr/bin:/bin".into());
    assert_eq!(host.run_to_end(plan), ExitStatus::Code(0));
    assert_eq!(host.output("a").trim(), (14 * 120_007).to_string());
}

#[test]
fn commands_run_as_the_user_asked_for() {
    if !is_root() {
        return;
    }
    let nobody = lookup_user("nobody")
        .expect("looked up")
        .expect("there is a nobody");
    assert_eq!(lookup_user("no-such-user").expect("looked up"), None);
    let mut host = Host::start();
    let mut plan = host.shell(
        "a",
        "id -u; id -g; id -G; touch made; touch /root/no 2>/dev/null || echo denied",
    );
    create_sandbox(
        &plan.directory,
        Some(&nobody),
        Some(&host.sandbox("latest")),
    )
    .expect("a sandbox");
    plan.identity = Some(Identity {
        groups: vec![nobody.gid, 12345],
        ..nobody.clone()
    });
    open_to_all(&host);
    assert_eq!(host.run_to_end(plan), ExitStatus::Code(0));
    let Identity { uid, gid, .. } = nobody;
    assert_eq!(
        host.output("a"),
        format!("{uid}\n{gid}\n{gid} 12345\ndenied\n")
    );
    assert_eq!(
        fs::read_link(host.sandbox("latest")).expect("a link"),
        host.sandbox("a")
    );
}

/// The test's own directory is closed to others.
fn open_to_all(host: &Host) {
    fs::set_permissions(host.sandbox(""), fs::Permissions::from_mode(0o755)).expect("opened");
}

/// The launcher is started by a process that has become `nobody`.
#[test]
fn everything_works_without_root() {
    if !is_root() {
        return;
    }
    let mut host = Host::start();
    open_to_all(&host);
    let nobody = lookup_user("nobody")
        .expect("looked up")
        .expect("there is a nobody");
    fs::create_dir(host.sandbox("w")).expect("made");
    create_sandbox(&host.sandbox("w"), Some(&nobody), None).expect("owned");
    let exit = std::thread::scope(|threads| {
        // User ids belong to threads: only this one changes, and the launcher forked from it.
        let unprivileged = threads.spawn(|| {
            let (uid, gid) = (
                rustix::process::Uid::from_raw(nobody.uid),
                rustix::process::Gid::from_raw(nobody.gid),
            );
            rustix::thread::set_thread_groups(&[]).expect("no groups");
            rustix::thread::set_thread_res_gid(gid, gid, gid).expect("group");
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("user");
            start_launcher(LauncherOptions::default()).expect("a launcher")
        });
        let root = host
            .launcher
            .replace(unprivileged.join().expect("no panic"))
            .expect("open");
        root.stop().expect("ends");
        let mut plan = host.shell("w", "id -u; (setsid sleep 1000 &); exit 7");
        plan.directory = host.sandbox("w");
        host.run_to_end(plan)
    });
    assert_eq!(exit, ExitStatus::Code(7));
    assert_eq!(host.output("w"), format!("{}\n", nobody.uid));
}

#[test]
fn use_is_summed_over_the_tree() {
    let mut host = Host::start();
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let (_, init) = host.run(host.shell(
        "a",
        &format!("(setsid sleep 1000 &) ; ({busy}); echo 1; exec sleep 1000"),
    ));
    host.pids("a", 1);
    let usage = until("both sleeps run", || {
        usage(init).ok().filter(|u| u.processes == 2)
    });
    assert!(usage.mem_rss_bytes > 200_000, "{usage:?}");
    assert_eq!(usage.threads, 2);
    // The loop's process has ended; its time still counts.
    assert!(usage.cpus_user_time_secs > 0.0, "{usage:?}");
}

#[test]
fn five_hundred_containers_run_at_once_cheaply_and_leave_no_descriptors() {
    let mut host = Host::start();
    host.run_to_end(host.shell("warm-up", "exit 0"));
    let before = descriptors(host.pid());
    let plan = host.shell("a", "exec sleep 1000");
    for number in 0..500 {
        let mut plan = plan.clone();
        plan.container = ContainerId::top(number.to_string());
        host.launch(plan);
    }
    let mut inits = BTreeSet::new();
    for _ in 0..500 {
        match host.receive() {
            Report::Launched { init, .. } => inits.insert(init),
            other => panic!("not launched: {other:?}"),
        };
    }
    let pss: u64 = inits.iter().map(|init| pss_kib(*init)).sum();
    // The promise is 1 MiB; the test process is bigger than a follower at its start.
    assert!(pss / 500 < 512, "{} KiB each", pss / 500);
    assert!(
        inits.iter().all(|init| descriptors(*init) <= 6),
        "an init keeps its streams, socket and group"
    );
    for number in 0..500 {
        host.destroy(&number.to_string());
    }
    for _ in 0..500 {
        assert_eq!(host.exited(), Some(ExitStatus::Signal(9)));
    }
    assert_eq!(descriptors(host.pid()), before);
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .count()
}

fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
        .expect("a PSS")
}
