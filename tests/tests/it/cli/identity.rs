//! As whom people speak to a cluster that wants to know, and a whole cluster of one process that does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use tepui_tests::commands::{PATIENCE, Running, run_with, start};
use tepui_tests::wait::eventually;

/// Everything that asks who somebody is.
const STRICT: [&str; 6] = [
    "--authenticate_frameworks",
    "--authenticate_agents",
    "--authenticate_http_frameworks",
    "--http_framework_authenticators=basic",
    "--authenticate_http_readonly",
    "--authenticate_http_readwrite",
];

fn file(folder: &Path, name: &str, mode: u32, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode can be set");
    path.display().to_string()
}

/// `mixed` with everything switched on, beyond loopback, and what else is said.
fn strict(folder: &Path, extra: &[&str]) -> Running {
    let all = file(folder, "all", 0o600, "ops o-secret\nfollower f-secret\n");
    let own = file(
        folder,
        "own",
        0o644,
        r#"{"principal": "follower", "secret": "f-secret"}"#,
    );
    let mut arguments = vec![
        "mixed".to_owned(),
        "--ip=0.0.0.0".to_owned(),
        "--leader_port=0".to_owned(),
        "--follower_port=0".to_owned(),
        format!("--work_dir={}", folder.join("work").display()),
        format!("--credentials={all}"),
        format!("--credential=file://{own}"),
        format!("--http_credentials={all}"),
    ];
    arguments.extend(STRICT.iter().chain(extra).map(|flag| (*flag).to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    start(&arguments, &[], |_| ())
}

#[test]
fn commands_say_who_is_asking_by_flags_a_file_or_the_environment() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = strict(folder.path(), &[]);
    let leader = cluster.address("leader");
    let port = leader.port();
    let leader = format!("127.0.0.1:{port}");
    let credential = file(folder.path(), "person", 0o600, "ops o-secret\n");
    let ask = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut all = vec![("TEPUI_LEADER", leader.as_str())];
        all.extend(variables);
        run_with(arguments, &all)
    };
    let by_file = format!("--credential={credential}");
    let registered = || ask(&["agents", &by_file], &[]).stdout.contains("active");
    assert!(eventually(PATIENCE, registered), "{}", cluster.stderr());
    let flags = ["ps", "--principal=ops", "--secret=o-secret"];
    let _ = ask(&flags, &[]).expect(0);
    let variables = [("TEPUI_PRINCIPAL", "ops"), ("TEPUI_SECRET", "o-secret")];
    let _ = ask(&["state"], &variables).expect(0);
    let _ = ask(&["frameworks"], &[("MESOS_CREDENTIAL", &credential)]).expect(0);

    let nobody = ask(&["ps"], &[]).expect(1);
    assert!(nobody.stderr.contains("401 Unauthorized."), "{nobody:?}");
    let wrong = ask(&["ps", "--principal=ops", "--secret=f-secret"], &[]).expect(1);
    assert!(wrong.stderr.contains("401 Unauthorized."), "{wrong:?}");
    let half = ask(&["ps", "--principal=ops"], &[]).expect(2);
    assert!(
        half.stderr.contains("--principal needs --secret"),
        "{half:?}"
    );

    let execute = |secret: &str| {
        let master = format!("--master={leader}");
        let secret = format!("--secret={secret}");
        run_with(
            &[
                "execute",
                &master,
                "--principal=ops",
                &secret,
                "echo",
                "let in",
            ],
            &[],
        )
    };
    assert_eq!(execute("o-secret").expect(0).stdout, "let in\n");
    let refused = execute("wrong").expect(1);
    assert!(refused.stderr.contains("401 Unauthorized."), "{refused:?}");

    let said = cluster.stderr();
    // Nobody can get in, so nothing is shouted; the one file that others can read is named.
    assert!(!said.contains("WITHOUT AUTHENTICATION"), "{said}");
    assert!(said.contains("/own' (0644) are too open"), "{said}");
    assert!(!said.contains("/all' ("), "{said}");
    cluster.signal(Signal::TERM);
    let _ = cluster.wait().expect(0);
}

#[test]
fn a_cluster_for_one_command_lets_its_own_command_in() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let once = strict(folder.path(), &["echo", "let in"]).wait().expect(0);
    assert_eq!(once.stdout, "let in\n");
}
