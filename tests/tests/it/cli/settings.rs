//! Flags, variables and files: who wins, what is shown, and what is refused.

use std::path::Path;

use serde_json::Value;
use tepui_tests::commands::{Outcome, run, run_with};

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("our folder");
    path.display().to_string()
}

/// Value and origin of a setting in the output of `config --json`.
fn setting(shown: &Value, name: &str) -> (String, String) {
    let mut settings = shown["settings"].as_array().into_iter().flatten();
    let found = settings.find(|setting| setting["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {shown}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("value"), text("from"))
}

#[test]
fn config_says_what_is_in_force_and_where_it_comes_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let attributes = write(folder.path(), "attributes", "rack:a;zone:b\n");
    let vars = write(
        folder.path(),
        "vars.yml",
        "mesos_mode: mixed\nmesos_cluster: tests\nmesos_leader_port: 6050\nmesos_follower_port: 6051\nmesos_resources:\n  - cpus:2\n  - mem:64\n",
    );
    let attributes = format!("--attributes=file://{attributes}");
    let outcome = run_with(
        &[
            "config",
            "--json",
            "--vars",
            &vars,
            &attributes,
            "--no-hostname_lookup",
        ],
        &[
            ("MESOS_CLUSTER", "elsewhere"),
            ("MESOS_ALLOCATION_INTERVAL", "5secs"),
        ],
    );
    let shown = outcome.expect(0).json();
    assert_eq!(shown["mode"], "mixed");
    let of = |name: &str| setting(&shown, name);
    let pair = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    let line = |line: usize, name: &str| format!("{vars}:{line} ({name})");
    assert_eq!(
        of("leader_port"),
        pair("6050", &line(3, "mesos_leader_port"))
    );
    assert_eq!(
        of("follower_port"),
        pair("6051", &line(4, "mesos_follower_port"))
    );
    assert_eq!(
        of("resources"),
        pair("cpus:2;mem:64", &line(5, "mesos_resources"))
    );
    // The environment beats the file, and the command line both.
    assert_eq!(
        of("cluster"),
        pair("elsewhere", "environment (MESOS_CLUSTER)")
    );
    assert_eq!(
        of("allocation_interval"),
        pair("5secs", "environment (MESOS_ALLOCATION_INTERVAL)")
    );
    assert_eq!(of("attributes"), pair("rack:a;zone:b", "command line"));
    assert_eq!(of("hostname_lookup"), pair("false", "command line"));
    assert_eq!(of("agent_ping_timeout"), pair("15secs", "default"));
    assert_eq!(
        of("mesos_cluster"),
        pair("tests", &line(2, "mesos_cluster"))
    );
    assert_eq!(of("mesos_log_dir"), pair("/var/log/mesos", "default"));

    let table = run(&["config", "--vars", &vars]).expect(0).stdout;
    assert!(table.starts_with("SETTING "), "{table}");
    let port = table.lines().find(|line| line.starts_with("leader_port "));
    assert!(
        port.is_some_and(|line| line.contains("6050")
            && line.ends_with(&format!("{vars}:3 (mesos_leader_port)"))),
        "{table}"
    );
}

#[test]
fn secrets_are_never_shown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "mesos_mode: leader\nmesos_credentials:\n  - {principal: app, secret: hunter2}\nmesos_follower_secret: hunter2\n";
    let vars = write(folder.path(), "vars.yml", text);
    for arguments in [
        &["config", "--vars", &vars][..],
        &["config", "--json", "--vars", &vars],
    ] {
        let shown = run(arguments).expect(0);
        assert!(
            !shown.stdout.contains("hunter2") && !shown.stderr.contains("hunter2"),
            "{shown:?}"
        );
    }
}

#[test]
fn mistakes_in_a_variables_file_name_file_line_and_nearest_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (text, wanted) in [
        (
            "mesos_mode: leader\nmesos_logdir: /x\n",
            ":2: unknown variable 'mesos_logdir' (did you mean 'mesos_log_dir'?)",
        ),
        (
            "mesos_leader_port: many\n",
            ":1: mesos_leader_port must be a port number (1 to 65535), not 'many'",
        ),
        (
            "\nmesos_resources: cpus:4\n",
            ":2: mesos_resources must be a list of texts, not a scalar",
        ),
        ("mesos_mode: [\n", ":"),
    ] {
        let vars = write(folder.path(), "vars.yml", text);
        for arguments in [
            &["config", "--vars", &vars][..],
            &["--vars", &vars],
            &["leader", "--vars", &vars],
        ] {
            let outcome = run(arguments).expect(2);
            assert!(
                outcome
                    .stderr
                    .starts_with(&format!("error: {vars}{wanted}")),
                "{text}: {outcome:?}"
            );
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
            assert_eq!(outcome.stdout, "");
        }
    }
    let missing = run(&["leader", "--vars=/no/such/file"]).expect(2);
    assert!(missing.stderr.contains("/no/such/file"), "{missing:?}");
}

/// Runs a command that must be refused for its flags: status 2, one line.
fn refused(arguments: &[&str], wanted: &str) -> Outcome {
    let outcome = run(arguments).expect(2);
    assert!(
        outcome.stderr.contains(wanted),
        "{arguments:?}: {outcome:?}"
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    outcome
}

#[test]
fn flags_that_cannot_be_used_are_refused_by_name() {
    let leader = ["leader", "--work_dir=/tmp/never", "--port=0"];
    let with = |flag: &'static str| [&leader[..], &[flag]].concat();
    refused(
        &with("--quorm=1"),
        "unknown flag '--quorm' (did you mean '--quorum'?)",
    );
    refused(&with("--no-port"), "'--no-port' is not boolean");
    refused(&with("--port=1"), "'--port' is given twice");
    refused(&with("--quiet=maybe"), "'--quiet'");
    refused(
        &with("--agent_ping_timeout=soon"),
        "'--agent_ping_timeout' (command line)",
    );
    refused(
        &with("--cluster=file:///no/such/file"),
        "cannot read '/no/such/file'",
    );
    refused(&["leader"], "'--work_dir'");
    refused(&["follower", "--work_dir=/tmp/never"], "'--master'");
    refused(
        &["leader", "stray", "--work_dir=/tmp/never"],
        "unexpected argument 'stray'",
    );
    // Ignoring these would leave the cluster less safe than was asked for.
    for (flag, feature) in [
        ("--acls={}", "authorization"),
        ("--firewall_rules={}", "authorization"),
    ] {
        let name = flag.split('=').next().unwrap_or(flag);
        let outcome = refused(
            &with(flag),
            &format!("flag '{name}' (command line) needs {feature}"),
        );
        assert!(outcome.stderr.contains("refuses to start"), "{outcome:?}");
    }
    // What is wrong with an election is said without the password that may be in it.
    for (flag, why) in [
        ("--zk=a:2181/mesos", "'--zk' (command line): expected zk://"),
        ("--zk=zk://me:hush@a:2181", "Expecting a (chroot) path"),
        ("--zk=zk://me:hush@/mesos", "names no server"),
        ("--zk=me:hush@a:2181/mesos", "'--zk' (command line)"),
        ("--zk=file:///no/such/file", "cannot read '/no/such/file'"),
        (
            "--registry=paper",
            "'paper': it is neither replicated_log nor in_memory",
        ),
    ] {
        let outcome = refused(&with(flag), why);
        assert!(!outcome.stderr.contains("hush"), "{outcome:?}");
    }
    for timeout in ["0secs", "soon", "2weeks"] {
        let timeout = format!("--zk_session_timeout={timeout}");
        let arguments = [&leader[..], &["--zk=zk://a:2181/mesos", &timeout]].concat();
        refused(&arguments, "'--zk_session_timeout' (command line)");
    }
    refused(
        &["mixed", "--zk=zk://a:2181/mesos", "true"],
        "'--zk' cannot be used here",
    );
    // Nor does a node start that was asked to authenticate and cannot.
    for (flag, why) in [
        (
            "--authenticate_http_readonly",
            "No credentials provided for the default 'basic' HTTP authenticator for realm 'mesos-master-readonly'",
        ),
        (
            "--authenticate_http_frameworks",
            "Missing `--http_framework_authenticators` flag",
        ),
        (
            "--credentials=/no/such/file",
            "Failed to read credentials file '/no/such/file'",
        ),
        (
            "--authenticators=kerberos",
            "Authenticator 'kerberos' not found",
        ),
    ] {
        refused(&with(flag), why);
    }
    assert!(!Path::new("/tmp/never").exists(), "nothing was started");
}
