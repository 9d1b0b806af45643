//! The environment of a command task against the one recorded on a real agent
//! (`tests/fixtures/command-task.env`).

use super::*;

const RECORDED: &str = include_str!("../tests/fixtures/command-task.env");
const RUN: &str = "/var/lib/mesos/basic/a/slaves/0289a414-2458-45c9-80e9-c49e4aab7adf-S0/frameworks/\
    0289a414-2458-45c9-80e9-c49e4aab7adf-0000/executors/hello/runs/f2bb2978-9f7b-4041-b5ee-d55ca96a699a";

/// Recorded variables that we do not set, and why.
const NOT_OURS: &[(&str, &str)] = &[
    (
        "MESOS_NATIVE_JAVA_LIBRARY",
        "there is no native library to point at",
    ),
    (
        "MESOS_NATIVE_LIBRARY",
        "there is no native library to point at",
    ),
    ("PWD", "set by the shell that runs the command"),
];

fn variables(text: &str) -> Variables {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect()
}

fn config() -> Config {
    let mut config = Config::new(
        "127.0.0.1:15051".parse().unwrap(),
        "follower.test",
        "/var/lib/mesos/basic/a",
    );
    config.libprocess_ip = Some("127.0.0.1".to_owned());
    config
}

fn info() -> v1::ExecutorInfo {
    let allocation = v1::resource::AllocationInfo {
        role: Some("*".to_owned()),
    };
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId {
            value: "hello".to_owned(),
        },
        framework_id: Some(v1::FrameworkId {
            value: "0289a414-2458-45c9-80e9-c49e4aab7adf-0000".to_owned(),
        }),
        resources: vec![v1::Resource {
            allocation_info: Some(allocation),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn base(config: &Config, checkpoint: bool) -> Variables {
    let pid = Pid {
        name: "slave(1)".to_owned(),
        address: config.address,
    };
    executor(
        config,
        &info(),
        Path::new(RUN),
        &"0289a414-2458-45c9-80e9-c49e4aab7adf-S0".into(),
        &pid,
        checkpoint,
    )
}

#[test]
fn a_command_task_sees_what_it_saw_on_the_reference() {
    let mut expected = variables(RECORDED);
    for (name, _why) in NOT_OURS {
        assert!(
            expected.remove(*name).is_some(),
            "{name} is not in the recording"
        );
    }
    let ours: Variables = command_task(base(&config(), false), &info())
        .into_iter()
        .collect();
    assert_eq!(ours, expected);
}

#[test]
fn executors_of_checkpointing_frameworks_learn_how_long_to_wait() {
    let env = base(&config(), true);
    assert_eq!(env["MESOS_CHECKPOINT"], "1");
    assert_eq!(env["MESOS_RECOVERY_TIMEOUT"], "15mins");
    assert_eq!(env["MESOS_SUBSCRIPTION_BACKOFF_MAX"], "2secs");
}

#[test]
fn flags_come_before_the_follower_and_commands_after_it() {
    let mut config = config();
    for (name, value) in [
        ("PATH", "/opt/bin"),
        ("MESOS_SLAVE_ID", "mine"),
        ("MESOS_NATIVE_LIBRARY", "/lib/x.so"),
    ] {
        config
            .executor_environment_variables
            .insert(name.to_owned(), value.to_owned());
    }
    let variable = |name: &str, value: &str| v1::environment::Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..Default::default()
    };
    let command = v1::CommandInfo {
        environment: Some(v1::Environment {
            variables: vec![variable("FOO", "bar"), variable("LIBPROCESS_PORT", "7")],
        }),
        ..Default::default()
    };
    let env: Variables = custom_executor(&config, base(&config, false), None, &command)
        .into_iter()
        .collect();
    assert_eq!(env["PATH"], "/opt/bin");
    assert_eq!(env["MESOS_NATIVE_LIBRARY"], "/lib/x.so");
    assert_eq!(
        env["MESOS_SLAVE_ID"],
        "0289a414-2458-45c9-80e9-c49e4aab7adf-S0"
    );
    assert_eq!(
        (env["FOO"].as_str(), env["LIBPROCESS_PORT"].as_str()),
        ("bar", "7")
    );
}

#[test]
fn tasks_of_the_default_executor_see_no_executor_variables() {
    let pid = Pid {
        name: "slave(1)".to_owned(),
        address: config().address,
    };
    let names: Vec<_> = default_executor_task(&info(), &pid)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        ["MESOS_ALLOCATION_ROLE", "MESOS_CONTAINER_IP", "PATH"]
    );
}

#[test]
fn a_custom_executor_gets_its_token_and_what_links_need_and_tasks_get_neither() {
    let mut config = config();
    let tls = ("LIBPROCESS_SSL_ENABLED".to_owned(), "1".to_owned());
    config.executor_link_variables.insert(tls.0.clone(), tls.1);
    let command = v1::CommandInfo::default();
    let token = Some("t.o.k".to_owned());
    let env: Variables = custom_executor(&config, base(&config, false), token, &command)
        .into_iter()
        .collect();
    assert_eq!(env["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"], "t.o.k");
    assert_eq!(env[&tls.0], "1");
    let task: Variables = command_task(base(&config, false), &info())
        .into_iter()
        .collect();
    assert!(!task.contains_key("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"));
    assert!(!task.contains_key(&tls.0));
    let executor_variables = &mut config.executor_environment_variables;
    executor_variables.insert(tls.0.clone(), "0".to_owned());
    let env: Variables = custom_executor(&config, base(&config, false), None, &command)
        .into_iter()
        .collect();
    assert_eq!(env[&tls.0], "0", "the flag comes first");
}
