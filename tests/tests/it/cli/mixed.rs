//! `tepui mixed COMMAND`: a whole cluster for one command, and nothing left of it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::process::{Signal, geteuid};
use tepui_tests::binary::tepui;
use tepui_tests::commands::{PATIENCE, run_with, start, start_program};
use tepui_tests::http::{Request, send};
use tepui_tests::processes::{MARK, marked, new_mark};
use tepui_tests::wait::eventually;

/// Runs a command on a cluster made for it; asserts its status and output, and that nothing stays.
fn once(command: &str, code: i32, stdout: &str, stderr: &str) {
    let mark = new_mark();
    let outcome = run_with(&["mixed", command], &[(MARK, &mark)]).expect(code);
    assert_eq!(outcome.stdout, stdout, "{command}");
    assert_eq!(outcome.stderr, stderr, "{command}");
    // The launcher has the mark from us, and so would everything that did not get a fresh environment.
    assert!(
        eventually(PATIENCE, || marked(&mark).is_empty()),
        "{command} left {:?}",
        marked(&mark)
    );
    if geteuid().is_root() {
        let state = format!("/var/lib/tepui/once-{}", outcome.id);
        assert!(!Path::new(&state).exists(), "{command} left {state}");
    }
}

#[test]
fn a_commands_output_and_status_are_its_own() {
    once("echo out; echo err >&2", 0, "out\n", "err\n");
    once("printf 'no newline'", 0, "no newline", "");
    once("exit 3", 3, "", "");
    once("kill -9 $$", 128 + 9, "", "");
    once("kill -TERM $$", 128 + 15, "", "");
    once("no-such-command-anywhere 2>/dev/null", 127, "", "");
}

#[test]
fn all_of_a_long_output_arrives_in_order() {
    let wanted: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    once("seq 1 100000", 0, &wanted, "");
}

#[test]
fn daemons_of_the_command_end_with_it() {
    let mark = new_mark();
    let command = format!(
        "{MARK}={mark} setsid sleep 3600 & (trap '' TERM; {MARK}={mark} nohup sleep 3600 &) ; exit 5"
    );
    once(&command, 5, "", "");
    assert!(
        eventually(PATIENCE, || marked(&mark).is_empty()),
        "{:?}",
        marked(&mark)
    );
}

#[test]
fn an_interrupted_command_is_killed_with_everything_else() {
    let (mark, inner) = (new_mark(), new_mark());
    let command = format!("echo up; {MARK}={inner} exec sleep 3600");
    let running = start(&["mixed", &command], &[(MARK, &mark)], |_| ());
    assert!(
        eventually(PATIENCE, || running.stdout() == "up\n"
            && !marked(&inner).is_empty()),
        "{}",
        running.stderr()
    );
    running.signal(Signal::INT);
    let outcome = running.wait().expect(128 + 2);
    assert_eq!(outcome.stderr, "");
    assert!(
        eventually(PATIENCE, || marked(&inner).is_empty()
            && marked(&mark).is_empty()),
        "{:?} {:?}",
        marked(&inner),
        marked(&mark)
    );
}

/// The user who owns nothing.
const NOBODY: u32 = 65534;

#[test]
fn an_ordinary_user_keeps_state_in_the_home_of_state() {
    let home = tempfile::tempdir().expect("a temporary folder");
    // Where `nobody` may read and run it; the build folder may be ours alone.
    let program = home.path().join("tepui");
    std::fs::copy(tepui(), &program).expect("the binary can be copied");
    let state = home.path().join("state");
    std::fs::create_dir(&state).expect("a folder can be made");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(home.path(), open).expect("our folder");
    let variables = [
        ("XDG_STATE_HOME", state.to_str().expect("a plain path")),
        ("HOME", "/nonexistent"),
    ];
    let become_ordinary = |command: &mut std::process::Command| {
        if geteuid().is_root() {
            chown(&state, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
    };
    let user = if geteuid().is_root() {
        NOBODY
    } else {
        geteuid().as_raw()
    };
    let outcome = start_program(
        &program,
        &["mixed", "id -u; pwd; exit 4"],
        &variables,
        become_ordinary,
    );
    let outcome = outcome.wait().expect(4);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let [id, sandbox] = lines[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!(id, user.to_string());
    assert!(
        Path::new(sandbox).starts_with(state.join("tepui")),
        "{sandbox}"
    );
    assert_eq!(outcome.stderr, "");
    let left: Vec<_> = std::fs::read_dir(state.join("tepui"))
        .expect("it stays")
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // Without a command it stays up, on ports that nobody else has, and keeps its state there.
    let arguments = ["mixed", "--leader_port=0", "--follower_port=0"];
    let mut running = start_program(&program, &arguments, &variables, become_ordinary);
    let leader = running.address("leader");
    assert!(leader.ip().is_loopback());
    assert!(running.address("follower").ip().is_loopback());
    assert!(eventually(PATIENCE, || {
        let state = send(leader, &Request::get("/state"));
        state.is_ok_and(|state| state.json()["activated_slaves"] == 1.0)
    }));
    assert!(state.join("tepui/leader").is_dir());
    running.signal(Signal::TERM);
    let _ = running.wait().expect(0);
}
