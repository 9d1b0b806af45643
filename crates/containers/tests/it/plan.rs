//! Plans, compared whole with what is expected of them.

use std::{path::PathBuf, sync::Arc};
use tepui_containers::plan::{
    ARGUMENT_BYTES_MAX, DEFAULT_PATH, HostFacts, Identity, Keep, OnSupervisorDeath, PlanError,
    ProcessPlan, RLimit, Stdio, Stream, plan,
};
use tepui_model::container::{ContainerId, LaunchSpec};
use tepui_protocol::v1::{self, r_limit_info::r_limit::Type};

fn spec(command: v1::CommandInfo) -> LaunchSpec {
    LaunchSpec {
        container: ContainerId::top("c"),
        sandbox: "/sandbox".into(),
        latest: None,
        user: None,
        command,
        environment: vec![],
        uris: vec![],
        container_info: None,
        resources: [].into(),
        outlives: None,
    }
}

fn shell(text: &str) -> LaunchSpec {
    spec(v1::CommandInfo {
        value: Some(text.into()),
        ..Default::default()
    })
}

fn program(value: &str, arguments: &[&str]) -> LaunchSpec {
    let arguments = arguments.iter().map(|a| a.to_string()).collect();
    spec(v1::CommandInfo {
        shell: Some(false),
        value: Some(value.into()),
        arguments,
        ..Default::default()
    })
}

fn with_container(info: v1::ContainerInfo) -> LaunchSpec {
    LaunchSpec {
        container_info: Some(Arc::new(info)),
        ..shell("true")
    }
}

fn mesos() -> v1::ContainerInfo {
    v1::ContainerInfo {
        r#type: v1::container_info::Type::Mesos as i32,
        ..Default::default()
    }
}

fn root() -> HostFacts {
    let alice = Identity {
        uid: 1000,
        gid: 100,
        groups: vec![100, 7],
    };
    let users = [
        ("alice".to_owned(), Some(alice)),
        ("ghost".to_owned(), None),
    ];
    HostFacts {
        uid: 0,
        users: users.into(),
        state: None,
    }
}

fn made(spec: &LaunchSpec) -> ProcessPlan {
    plan(spec, &root()).expect("a plan")
}

fn refused(spec: &LaunchSpec) -> PlanError {
    plan(spec, &root()).expect_err("no plan")
}

#[test]
fn shell_commands_run_in_the_shell() {
    let expected = ProcessPlan {
        container: ContainerId::top("c"),
        candidates: vec!["/bin/sh".into()],
        argv: vec!["sh".into(), "-c".into(), "echo hello".into()],
        environment: vec![format!("PATH={DEFAULT_PATH}")],
        directory: "/sandbox".into(),
        stdio: Stdio {
            input: Stream::Null,
            output: Stream::Append("stdout".into()),
            error: Stream::Append("stderr".into()),
        },
        identity: None,
        rlimits: vec![],
        umask: 0o022,
        on_supervisor_death: OnSupervisorDeath::Kill,
    };
    assert_eq!(made(&shell("echo hello")), expected);
}

#[test]
fn what_outlives_the_follower_leaves_a_record_where_there_is_a_place_for_it() {
    let mut spec = shell("exit 0");
    spec.container = ContainerId::top("c").nested("n");
    spec.outlives = Some("task".into());
    assert_eq!(made(&spec).on_supervisor_death, OnSupervisorDeath::Kill);
    let host = HostFacts {
        state: Some("/state".into()),
        ..root()
    };
    let keep = Keep {
        name: "task".into(),
        directory: "/state/c/containers/n".into(),
        lock: "/state/lock".into(),
    };
    let kept = plan(&spec, &host).expect("a plan").on_supervisor_death;
    assert_eq!(kept, OnSupervisorDeath::KeepRunning(keep));
    spec.container = ContainerId::top("..");
    assert!(
        plan(&spec, &host).is_err(),
        "a record must lie where it belongs"
    );
    spec.outlives = None;
    let ends = plan(&spec, &host).expect("a plan").on_supervisor_death;
    assert_eq!(ends, OnSupervisorDeath::Kill);
}

#[test]
fn programs_keep_their_own_argv() {
    let plan = made(&program("/bin/echo", &["name", "a b"]));
    assert_eq!(
        (plan.candidates, plan.argv),
        (
            vec![PathBuf::from("/bin/echo")],
            vec!["name".into(), "a b".into()]
        )
    );
    assert_eq!(made(&program("/bin/echo", &[])).argv, ["/bin/echo"]);
}

#[test]
fn bare_names_are_looked_for_in_the_sandbox_first() {
    let mut spec = program("tool", &["tool"]);
    spec.environment = vec![("PATH".into(), "/opt/bin::bin".into())];
    let expected = ["/sandbox/tool", "/opt/bin/tool", "/sandbox/bin/tool"].map(PathBuf::from);
    assert_eq!(made(&spec).candidates, expected);
    assert_eq!(
        made(&program("bin/tool", &["tool"])).candidates,
        [PathBuf::from("/sandbox/bin/tool")]
    );
}

#[test]
fn later_variables_replace_earlier_ones() {
    let mut spec = shell("true");
    spec.environment = [("B", "1"), ("PATH", "/bin"), ("A", "x=y"), ("B", "2")]
        .map(|(n, v)| (n.into(), v.into()))
        .into();
    assert_eq!(made(&spec).environment, ["A=x=y", "B=2", "PATH=/bin"]);
}

#[test]
fn only_root_changes_users_and_only_to_others() {
    let spec = |user: &str| LaunchSpec {
        user: Some(user.into()),
        ..shell("true")
    };
    assert_eq!(made(&spec("alice")).identity, root().users["alice"]);
    assert_eq!(
        refused(&spec("ghost")).to_string(),
        "Failed to get the uid of user 'ghost': not found"
    );
    assert_eq!(
        refused(&spec("unasked")),
        PlanError::NoSuchUser("unasked".into())
    );
    let alice = HostFacts {
        uid: 1000,
        ..root()
    };
    assert_eq!(plan(&spec("alice"), &alice).map(|p| p.identity), Ok(None));
    let bob = HostFacts {
        uid: 1001,
        ..root()
    };
    assert_eq!(
        plan(&spec("alice"), &bob),
        Err(PlanError::CannotSwitchUser("alice".into()))
    );
}

#[test]
fn limits_come_as_pairs_or_not_at_all() {
    let limit = |kind: Type, soft, hard| v1::r_limit_info::RLimit {
        r#type: Some(kind as i32),
        soft,
        hard,
    };
    let spec = |rlimits: Vec<_>| {
        with_container(v1::ContainerInfo {
            rlimit_info: Some(v1::RLimitInfo { rlimits }),
            ..mesos()
        })
    };
    let limits = made(&spec(vec![
        limit(Type::RlmtNofile, Some(1), Some(2)),
        limit(Type::RlmtCore, None, None),
    ]))
    .rlimits;
    let unlimited = u64::MAX;
    assert_eq!(
        limits,
        [
            RLimit {
                resource: 7,
                soft: 1,
                hard: 2
            },
            RLimit {
                resource: 4,
                soft: unlimited,
                hard: unlimited
            }
        ]
    );
    assert_eq!(
        refused(&spec(vec![limit(Type::RlmtCore, Some(1), None)])),
        PlanError::InvalidRLimit
    );
    assert_eq!(
        refused(&spec(vec![limit(Type::RlmtCore, Some(2), Some(1))])),
        PlanError::InvalidRLimit
    );
    assert_eq!(
        refused(&spec(vec![limit(Type::Unknown, None, None)])),
        PlanError::UnknownRLimit
    );
}

#[test]
fn commands_without_a_command_are_refused() {
    assert_eq!(
        refused(&spec(v1::CommandInfo::default())),
        PlanError::NoShellCommand
    );
    let nothing = v1::CommandInfo {
        shell: Some(false),
        ..Default::default()
    };
    assert_eq!(refused(&spec(nothing)), PlanError::NoExecutable);
}

#[test]
fn what_the_kernel_would_refuse_is_refused_in_words() {
    let long = "x".repeat(ARGUMENT_BYTES_MAX);
    let error = refused(&shell(&long)).to_string();
    assert_eq!(
        error,
        "An argument is 131073 bytes long, more than the 131072 allowed"
    );
    assert_eq!(
        made(&shell(&long[1..])).argv[2].len(),
        ARGUMENT_BYTES_MAX - 1
    );
    let mut spec = shell("true");
    spec.environment = (0..20)
        .map(|n| (format!("V{n}"), "x".repeat(120_000)))
        .collect();
    assert!(matches!(refused(&spec), PlanError::ArgumentsTooLong { .. }));
    assert_eq!(refused(&shell("a\0b")), PlanError::Nul("An argument"));
    spec.environment = vec![("A".into(), "a\0b".into())];
    assert_eq!(refused(&spec), PlanError::Nul("An environment variable"));
    spec.environment = vec![("A=B".into(), "c".into())];
    assert_eq!(refused(&spec), PlanError::InvalidVariable("A=B".into()));
}

#[test]
fn what_is_not_there_yet_is_refused_not_ignored() {
    let docker = v1::ContainerInfo {
        r#type: v1::container_info::Type::Docker as i32,
        ..Default::default()
    };
    assert_eq!(
        refused(&with_container(docker)).to_string(),
        "Docker containers are not supported"
    );
    let volumes = v1::ContainerInfo {
        volumes: vec![v1::Volume::default()],
        ..mesos()
    };
    assert_eq!(
        refused(&with_container(volumes)),
        PlanError::Unsupported("Container volumes")
    );
    let terminal = v1::ContainerInfo {
        tty_info: Some(v1::TtyInfo::default()),
        ..mesos()
    };
    assert_eq!(
        refused(&with_container(terminal)),
        PlanError::Unsupported("Terminals")
    );
    assert_eq!(
        plan(&with_container(mesos()), &root()).map(|p| p.argv.len()),
        Ok(3)
    );
}

/// `SANDBOX_PATH` volumes of type `PARENT` are links; everything else needs a mount namespace
/// (`src/slave/containerizer/mesos/isolators/volume/sandbox_path.cpp` of the reference).
#[test]
fn a_nested_container_sees_of_its_parents_sandbox_what_it_is_given() {
    use tepui_containers::plan::{SandboxLink, parent_sandbox, sandbox_links};
    use tepui_model::container::ContainerId;
    use v1::volume::source::{SandboxPath, Type, sandbox_path};
    let volume = |kind: Option<sandbox_path::Type>, own: &str, of_parent: &str| v1::Volume {
        container_path: own.to_owned(),
        source: Some(v1::volume::Source {
            r#type: Some(Type::SandboxPath.into()),
            sandbox_path: Some(SandboxPath {
                r#type: kind.map(Into::into),
                path: of_parent.to_owned(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let parent = Some(sandbox_path::Type::Parent);
    let nested = |volume: v1::Volume| {
        let mut spec = with_container(v1::ContainerInfo {
            volumes: vec![volume],
            ..mesos()
        });
        spec.container = ContainerId::top("executor").nested("task");
        spec.sandbox = "/w/executor/containers/task".into();
        spec
    };
    for (own, of_parent, link) in [
        ("data", "data", Some(("data", "data"))),
        ("in/here", "./over/there", Some(("in/here", "over/there"))),
        ("/data", "data", None),
        ("data", "/data", None),
        ("../data", "data", None),
        ("data", "a/../../b", None),
        ("", "data", None),
        ("data", ".", None),
    ] {
        let spec = nested(volume(parent, own, of_parent));
        let link = link.map(|(path, parent)| SandboxLink {
            path: path.into(),
            parent: parent.into(),
        });
        assert_eq!(
            sandbox_links(&spec).ok(),
            link.clone().map(|link| vec![link])
        );
        assert_eq!(
            plan(&spec, &root()).is_ok(),
            link.is_some(),
            "{own} {of_parent}"
        );
        assert_eq!(
            parent_sandbox(&spec),
            Some(std::path::Path::new("/w/executor"))
        );
    }
    for (kind, text) in [
        (
            Some(sandbox_path::Type::Self_),
            "Container volumes of type SELF are not supported",
        ),
        (None, "Unknown SANDBOX_PATH volume type"),
    ] {
        assert_eq!(refused(&nested(volume(kind, "a", "b"))).to_string(), text);
    }
    let mut alone = nested(volume(parent, "a", "b"));
    alone.container = ContainerId::top("task");
    assert_eq!(
        refused(&alone).to_string(),
        "SANDBOX_PATH volume PARENT type only works for nested container"
    );
}

/// Sandboxes are their users': where something is made in them, no link of theirs is followed.
#[test]
fn links_into_a_sandbox_are_made_where_they_belong_and_nowhere_else() {
    use std::{fs, os::unix::fs::symlink};
    use tepui_containers::{linux::link_sandbox, plan::SandboxLink};
    let dir = tempfile::tempdir().expect("a directory");
    let (parent, own) = (dir.path().join("parent"), dir.path().join("own"));
    let elsewhere = dir.path().join("elsewhere");
    for path in [&parent, &own, &elsewhere] {
        fs::create_dir(path).expect("made");
    }
    let link = |path: &str, parent: &str| {
        [SandboxLink {
            path: path.into(),
            parent: parent.into(),
        }]
    };
    for _ in 0..2 {
        link_sandbox(&parent, &own, &link("in/data", "some/dir")).expect("linked");
    }
    assert_eq!(
        fs::read_link(own.join("in/data")).expect("a link"),
        parent.join("some/dir")
    );
    assert!(parent.join("some/dir").is_dir());

    symlink(&elsewhere, parent.join("evil")).expect("linked");
    symlink(&elsewhere, own.join("evil")).expect("linked");
    // What is there already is the parent's to show.
    link_sandbox(&parent, &own, &link("shown", "evil")).expect("linked");
    for link in [
        link("more", "evil/new"),
        link("evil/new", "some/dir"),
        link("in/data", "evil"),
    ] {
        assert!(link_sandbox(&parent, &own, &link).is_err(), "{link:?}");
    }
    assert_eq!(fs::read_dir(&elsewhere).expect("readable").count(), 0);
}
