//! Leader and follower as daemons: under the reference's names, with warnings about what they do not do.

use std::path::Path;

use rustix::process::Signal;
use tepui_tests::commands::{PATIENCE, Running, link, start, start_program};
use tepui_tests::http::{Request, send};
use tepui_tests::wait::eventually;

fn work_dir(folder: &Path, name: &str) -> String {
    format!("--work_dir={}", folder.join(name).display())
}

fn assert_ends_well(running: Running) {
    running.signal(Signal::TERM);
    let _ = running.wait().expect(0);
}

#[test]
fn the_reference_s_names_start_its_roles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let master = link(folder.path(), "mesos-master");
    let work = work_dir(folder.path(), "leader");
    let arguments = ["--ip=127.0.0.1", "--port=0", &work];
    // Flags as variables, as unit files give them.
    let variables = [("MESOS_CLUSTER", "by variable"), ("MESOS_QUIET", "false")];
    let mut leader = start_program(&master, &arguments, &variables, |_| ());
    let address = leader.address("leader");
    let flags = send(address, &Request::get("/flags"))
        .expect("it answers")
        .json();
    assert_eq!(flags["flags"]["cluster"], "by variable");
    assert_eq!(flags["flags"]["ip"], "127.0.0.1");
    let version = send(address, &Request::get("/version"))
        .expect("it answers")
        .json();
    assert_eq!(version["version"], "1.11.0");

    for name in ["mesos-agent", "mesos-slave"] {
        let agent = link(folder.path(), name);
        let work = work_dir(folder.path(), &format!("work of {name}"));
        let leader_flag = format!("--master={address}");
        let arguments = [
            "--ip=127.0.0.1",
            "--port=0",
            &work,
            &leader_flag,
            "--resources=cpus:1;mem:64",
        ];
        let mut follower = start_program(
            &agent,
            &arguments,
            &[("MESOS_ATTRIBUTES", "kind:test")],
            |_| (),
        );
        let own = follower.address("follower");
        let registered = || {
            let slaves = send(address, &Request::get("/slaves")).ok()?.json();
            let slave = slaves["slaves"]
                .as_array()?
                .iter()
                .find(|slave| slave["active"] == true)?
                .clone();
            (slave["attributes"]["kind"] == "test" && slave["resources"]["cpus"] == 1.0)
                .then_some(())
        };
        assert!(
            eventually(PATIENCE, || registered().is_some()),
            "{name}: {}",
            follower.stderr()
        );
        // It has to know of its registration itself before it can end it.
        let knows = || {
            let state = send(own, &Request::get("/state"))
                .expect("it answers")
                .json();
            state["id"].as_str().is_some_and(|id| !id.is_empty())
        };
        assert!(eventually(PATIENCE, knows), "{name} knows its id");
        // SIGUSR1 unregisters, as the reference's does, and ends the follower well.
        follower.signal(Signal::USR1);
        let _ = follower.wait().expect(0);
        let gone = || {
            let slaves = send(address, &Request::get("/slaves"))
                .expect("it answers")
                .json();
            slaves["slaves"].as_array().is_some_and(Vec::is_empty)
        };
        assert!(eventually(PATIENCE, gone), "{name} unregistered");
    }
    assert_ends_well(leader);
}

#[test]
fn listening_beyond_loopback_is_said_once_and_loudly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let warnings = |text: &str| text.matches("WITHOUT AUTHENTICATION").count();
    let work = work_dir(folder.path(), "open");
    // Everywhere is the default, as it is the reference's.
    let mut open = start(&["leader", "--port=0", &work], &[], |_| ());
    open.address("leader");
    assert!(
        eventually(PATIENCE, || warnings(&open.stderr()) == 1),
        "{}",
        open.stderr()
    );
    assert!(
        open.stderr().contains("*** LEADER LISTENS ON 0.0.0.0"),
        "{}",
        open.stderr()
    );
    assert_ends_well(open);

    let work = work_dir(folder.path(), "follower");
    let arguments = ["follower", "--port=0", "--master=127.0.0.1:1", &work];
    let mut open = start(&arguments, &[], |_| ());
    open.address("follower");
    assert_eq!(warnings(&open.stderr()), 1, "{}", open.stderr());
    assert_ends_well(open);

    // A log that shows errors only, and a cluster for one command, do not hide it.
    let work = work_dir(folder.path(), "once");
    let arguments = [
        "mixed",
        "--ip=0.0.0.0",
        "--logging_level=ERROR",
        &work,
        "true",
    ];
    let once = start(&arguments, &[], |_| ()).wait().expect(0);
    assert_eq!(warnings(&once.stderr), 1, "{once:?}");

    let work = work_dir(folder.path(), "closed");
    let mut closed = start(
        &["leader", "--ip=127.0.0.1", "--port=0", &work],
        &[],
        |_| (),
    );
    closed.address("leader");
    assert_eq!(warnings(&closed.stderr()), 0, "{}", closed.stderr());
    assert_ends_well(closed);
}

#[test]
fn flags_whose_feature_is_not_there_are_named_at_start_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let work = work_dir(folder.path(), "leader");
    let arguments = ["leader", "--ip=127.0.0.1", "--port=0", &work, "--hooks=h"];
    let variables = [
        ("MESOS_MODULES_DIR", "/etc/modules"),
        ("MESOS_FRAMEWORK_SORTER", "drf"),
    ];
    let mut leader = start(&arguments, &variables, |_| ());
    leader.address("leader");
    let said = leader.stderr();
    for wanted in [
        "--hooks (command line) has no effect yet: modules is not part of this version",
        "--modules_dir (environment (MESOS_MODULES_DIR)) has no effect yet",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // Asking for what happens anyway asks for nothing.
    assert!(!said.contains("framework_sorter"), "{said}");
    assert_ends_well(leader);
}
