//! Persistent volumes in sandboxes, as `docs/persistent-volume.md`, `docs/multiple-disk.md` and
//! `docs/shared-resources.md` of the reference promise and its `filesystem/posix` isolator does it
//! (`src/slave/containerizer/mesos/isolators/filesystem/posix.cpp`).

use crate::harness::*;
use std::{collections::BTreeMap, path::Path, time::Duration};
use tepui_follower::io::{Effect, Input, VolumeLink, VolumeLinks};
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus};
use tepui_protocol::{
    internal as i,
    peer::PeerMessage,
    v1::{
        self, TaskState,
        resource::{
            DiskInfo, ReservationInfo,
            disk_info::{Persistence, Source, source},
            reservation_info,
        },
        task_status::Reason,
        volume::Mode,
    },
};

/// A volume of role `prod/web`.
pub(crate) fn volume(id: &str, path: &str) -> v1::Resource {
    v1::Resource {
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence {
                id: id.into(),
                principal: None,
            }),
            volume: Some(v1::Volume {
                container_path: path.into(),
                mode: Mode::Rw.into(),
                ..Default::default()
            }),
            source: None,
        })),
        reservations: vec![ReservationInfo {
            role: Some("prod/web".into()),
            r#type: Some(reservation_info::Type::Dynamic.into()),
            ..Default::default()
        }],
        allocation_info: Some(v1::resource::AllocationInfo {
            role: Some("prod/web".into()),
        }),
        ..scalar("disk", 8.0)
    }
}

fn on(mut volume: v1::Resource, kind: source::Type, root: &str) -> v1::Resource {
    let root = Some(root.to_owned());
    let mut source = Source {
        r#type: kind.into(),
        ..Default::default()
    };
    match kind {
        source::Type::Path => source.path = Some(source::Path { root }),
        _ => source.mount = Some(source::Mount { root }),
    }
    volume.disk.as_mut().unwrap().source = Some(source);
    volume
}

fn read_only(mut volume: v1::Resource) -> v1::Resource {
    let mapping = volume.disk.as_mut().unwrap().volume.as_mut().unwrap();
    mapping.mode = Mode::Ro.into();
    volume
}

fn shared(volume: v1::Resource) -> v1::Resource {
    v1::Resource {
        shared: Some(Default::default()),
        ..volume
    }
}

fn with(mut task: v1::TaskInfo, volumes: &[v1::Resource]) -> v1::TaskInfo {
    task.resources.extend_from_slice(volumes);
    task
}

/// Of a custom executor.
fn custom(id: &str, executor: &str, volumes: &[v1::Resource]) -> v1::TaskInfo {
    v1::TaskInfo {
        executor: Some(custom_executor(executor)),
        ..with(task(id), volumes)
    }
}

/// Takes the only change of links asked for; other effects stay.
fn links(w: &mut World) -> VolumeLinks {
    let is = |effect: &Effect| matches!(effect, Effect::LinkVolumes(_));
    let at = w.effects.iter().position(is).expect("links to change");
    let Effect::LinkVolumes(links) = w.effects.remove(at) else {
        unreachable!()
    };
    assert!(!w.effects.iter().any(is), "one change at a time");
    *links
}

fn linked(w: &mut World, links: &VolumeLinks, error: Option<&str>) {
    w.step(Input::VolumesLinked {
        container: links.container.clone(),
        error: error.map(str::to_owned),
    });
}

fn names(links: &[VolumeLink]) -> Vec<(&str, &Path)> {
    links
        .iter()
        .map(|link| (link.name.as_str(), link.volume.as_path()))
        .collect()
}

/// What `/files` serves, by what was attached and detached.
fn served(w: &World) -> BTreeMap<String, String> {
    let mut served = BTreeMap::new();
    for effect in &w.effects {
        match effect {
            Effect::Attach { path, name } => {
                served.insert(name.clone(), path.display().to_string());
            }
            Effect::Detach { name } => drop(served.remove(name)),
            _ => {}
        }
    }
    served.retain(|_, path| path.starts_with("/w/volumes"));
    served
}

/// Subscribes over HTTP as a custom executor whose container runs.
fn subscribed(w: &mut World, container: &ContainerId, executor: &str) {
    w.step(Input::Container {
        container: container.clone(),
        event: ContainerEvent::Launched { pid: 7 },
    });
    let (_, refused) = w.http_subscribe(subscribe(executor));
    assert_eq!(refused, None);
}

/// `docs/persistent-volume.md`: `container_path` is where the task sees the volume, relative to its
/// sandbox. `docs/multiple-disk.md`: on PATH disks volumes lie below the root, a MOUNT disk is one.
#[test]
fn a_volume_is_linked_at_its_container_path_on_every_kind_of_disk() {
    let kinds = [
        (volume("v", "data"), "/w/volumes/roles/prod web/v", false),
        (
            on(volume("v", "data"), source::Type::Path, "/mnt/disk1"),
            "/mnt/disk1/volumes/roles/prod web/v",
            false,
        ),
        (
            on(volume("v", "data"), source::Type::Path, "disks/1"),
            "/w/disks/1/volumes/roles/prod web/v",
            false,
        ),
        (
            on(volume("v", "data"), source::Type::Mount, "/mnt/disk2"),
            "/mnt/disk2",
            false,
        ),
        (
            read_only(volume("v", "data")),
            "/w/volumes/roles/prod web/v",
            true,
        ),
    ];
    for (resource, directory, only_read) in kinds {
        let mut w = World::registered();
        w.run(with(command("t"), &[resource]));
        let local = w.local_executor();
        w.local(&local.container, subscribe("t"));
        let links = links(&mut w);
        assert_eq!(names(&links.made), [("data", Path::new(directory))]);
        assert_eq!(links.made[0].read_only, only_read);
        assert!(links.made[0].give && links.gone.is_empty());
        assert_eq!(links.sandbox, local.sandbox);
        assert_eq!(links.user.as_deref(), Some("root"));
    }
}

#[test]
fn a_task_is_delivered_when_its_volumes_are_there() {
    let mut w = World::registered();
    w.run(with(command("t"), &[volume("v", "data")]));
    let local = w.local_executor();
    w.local(&local.container, subscribe("t"));
    let asked = links(&mut w);
    assert!(!w.seen().contains(&"LAUNCH t to local".to_owned()));
    linked(&mut w, &asked, None);
    assert_eq!(w.seen(), ["LAUNCH t to local"]);
}

#[test]
fn tasks_without_volumes_wait_for_nothing() {
    let mut w = World::registered();
    w.run(custom("t", "e", &[]));
    let spec = w.launched();
    subscribed(&mut w, &spec.container, "e");
    assert!(w.seen().contains(&"LAUNCH t to stream".to_owned()));
}

#[test]
fn a_custom_executor_starts_with_the_volumes_of_its_first_tasks() {
    let mut w = World::registered();
    let mut first = custom("t", "e", &[volume("of-task", "task")]);
    let executor = first.executor.as_mut().unwrap();
    executor.resources.push(volume("of-executor", "own"));
    w.run(first);
    let asked = links(&mut w);
    let made: Vec<_> = names(&asked.made)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(made, ["own", "task"]);
    assert!(!w.seen().contains(&"launch".to_owned()));
    linked(&mut w, &asked, None);
    let spec = w.launched();
    subscribed(&mut w, &spec.container, "e");
    assert!(w.seen().contains(&"LAUNCH t to stream".to_owned()));
}

#[test]
fn volumes_come_to_and_leave_a_running_executor_with_its_tasks() {
    let mut w = World::registered();
    w.run(custom("a", "e", &[]));
    let spec = w.launched();
    subscribed(&mut w, &spec.container, "e");
    w.effects.clear();
    let run = |w: &mut World, id: &str, volumes: &[v1::Resource]| {
        w.leader_says(i::RunTaskMessage {
            framework: framework(),
            task: custom(id, "e", volumes),
            launch_executor: Some(false),
            ..Default::default()
        });
    };
    run(&mut w, "b", &[volume("v", "data")]);
    let asked = links(&mut w);
    // Whatever else is to be delivered waits its turn.
    run(&mut w, "c", &[volume("v2", "more")]);
    assert_eq!(
        w.seen().iter().filter(|s| s.starts_with("LAUNCH")).count(),
        0
    );
    linked(&mut w, &asked, None);
    let asked = links(&mut w);
    assert_eq!(asked.made[0].name, "more");
    linked(&mut w, &asked, None);
    let delivered: Vec<_> = w.seen().into_iter().filter(|s| s != "attach").collect();
    assert_eq!(delivered, ["LAUNCH b to stream", "LAUNCH c to stream"]);

    w.http(update("e", "b", TaskState::TaskFinished, 1));
    let asked = links(&mut w);
    assert_eq!((asked.made.len(), asked.gone[0].name.as_str()), (0, "data"));
    linked(&mut w, &asked, None);
    w.effects.clear();
    // The same path may be another volume's now.
    run(&mut w, "d", &[volume("v3", "data")]);
    let asked = links(&mut w);
    assert_eq!(
        names(&asked.made),
        [("data", Path::new("/w/volumes/roles/prod web/v3"))]
    );
}

#[test]
fn a_task_that_is_killed_while_its_volumes_are_on_their_way_takes_them_along() {
    let mut w = World::registered();
    w.run(custom("a", "e", &[]));
    let spec = w.launched();
    subscribed(&mut w, &spec.container, "e");
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: custom("b", "e", &[volume("v", "data")]),
        launch_executor: Some(false),
        ..Default::default()
    });
    let asked = links(&mut w);
    w.kill("b");
    assert_eq!(w.updates()[0].status.state(), TaskState::TaskKilled);
    linked(&mut w, &asked, None);
    let back = links(&mut w);
    assert_eq!(names(&back.gone), names(&asked.made));
    linked(&mut w, &back, None);
    assert_eq!(w.seen(), ["detach", "detach", "detach"]);
}

/// `docs/persistent-volume.md`: absolute paths need a container with an image, and paths of several
/// levels are for those as well: the reference leaves them out and says so.
#[test]
fn container_paths_that_are_no_names_are_left_out_or_refused() {
    for (path, refused) in [
        ("/data", false),
        ("a/b", false),
        ("../../escape", false),
        ("..", true),
        (".", true),
        ("", true),
    ] {
        let mut w = World::registered();
        w.run(custom("t", "e", &[volume("v", path)]));
        assert!(
            !w.effects
                .iter()
                .any(|e| matches!(e, Effect::LinkVolumes(_))),
            "{path:?}"
        );
        let seen = w.seen();
        assert_eq!(
            !seen.contains(&"launch".to_owned()),
            refused,
            "{path:?}: {seen:?}"
        );
        if refused {
            assert!(
                seen.iter()
                    .any(|s| s.contains("TASK_FAILED of t (Failed to launch container:"))
            );
        }
    }
}

/// `src/slave/slave.cpp` (`___run`): the executor ends, and its tasks with the reason.
#[test]
fn an_executor_whose_volumes_cannot_be_shown_is_killed() {
    let mut w = World::registered();
    w.run(with(command("t"), &[volume("v", "data")]));
    let local = w.local_executor();
    w.local(&local.container, subscribe("t"));
    let asked = links(&mut w);
    w.effects.clear();
    linked(&mut w, &asked, Some("no room"));
    assert_eq!(w.seen(), ["destroy"]);
    w.exited(&local.container, ExitStatus::Signal(9));
    let update = w.updates().remove(0);
    assert_eq!(update.status.state(), TaskState::TaskGone);
    assert_eq!(update.status.reason(), Reason::ContainerUpdateFailed);
    assert_eq!(
        update.status.message.as_deref(),
        Some("Failed to update resources for container: no room")
    );
}

#[test]
fn a_custom_executor_whose_volumes_cannot_be_shown_is_not_started() {
    let mut w = World::registered();
    w.run(custom("t", "e", &[volume("v", "data")]));
    let asked = links(&mut w);
    w.effects.clear();
    linked(&mut w, &asked, Some("no room"));
    let update = w.updates().remove(0);
    assert_eq!(update.status.state(), TaskState::TaskFailed);
    assert_eq!(update.status.reason(), Reason::ContainerLaunchFailed);

    // One that was given up meanwhile is over at once: it never was anything.
    let mut w = World::registered();
    w.run(custom("t", "e", &[volume("v", "data")]));
    let asked = links(&mut w);
    w.pass(Duration::from_secs(60));
    w.effects.clear();
    linked(&mut w, &asked, None);
    let update = w.updates().remove(0);
    assert_eq!(update.status.reason(), Reason::ExecutorRegistrationTimeout);
}

#[test]
fn two_volumes_cannot_have_one_name_in_a_sandbox() {
    let mut w = World::registered();
    let both = [volume("v1", "data"), volume("v2", "data")];
    w.run(custom("t", "e", &both));
    let update = w.updates().remove(0);
    assert_eq!(update.status.reason(), Reason::ContainerLaunchFailed);
    let text = update.status.message.unwrap();
    assert!(text.contains("v1") && text.contains("v2"), "{text}");
}

/// `docs/shared-resources.md`: several tasks have it at once. Who comes second does not take it away
/// from the first (`posix.cpp`: `isVolumeInUse`).
#[test]
fn a_shared_volume_in_use_keeps_its_owner() {
    let mut w = World::registered();
    let mut ask = |id: &str, volumes: &[v1::Resource]| {
        w.run(with(command(id), volumes));
        let local = w.local_executor();
        w.local(&local.container, subscribe(id));
        let asked = links(&mut w);
        linked(&mut w, &asked, None);
        w.effects.clear();
        (asked, local.container)
    };
    let (first, container) = ask("a", &[shared(volume("v", "data"))]);
    let (second, _) = ask("b", &[read_only(shared(volume("v", "in")))]);
    let (other, _) = ask("c", &[shared(volume("v2", "data"))]);
    assert_eq!(first.made[0].volume, second.made[0].volume);
    assert_eq!(
        [&first, &second, &other].map(|asked| asked.made[0].give),
        [true, false, true]
    );
    assert!(second.made[0].read_only);
    // Once both are gone it may be given again.
    w.exited(&container, ExitStatus::Code(0));
    let b = w.follower.view();
    let b = b.frameworks.values().next().unwrap();
    let b = b.executors.get("b").unwrap().container.clone();
    w.exited(&b, ExitStatus::Code(0));
    w.effects.clear();
    w.run(with(command("d"), &[shared(volume("v", "data"))]));
    let local = w.local_executor();
    w.local(&local.container, subscribe("d"));
    assert!(links(&mut w).made[0].give);
}

/// A task group, its volumes and those of its executor (`docs/nested-container-and-task-group.md`).
fn group(w: &mut World) -> (ContainerId, VolumeLinks) {
    let mut parents = task("b");
    parents.container = Some(v1::ContainerInfo {
        volumes: vec![v1::Volume {
            container_path: "of-executor".into(),
            mode: Mode::Rw.into(),
            source: Some(v1::volume::Source {
                r#type: Some(v1::volume::source::Type::SandboxPath.into()),
                sandbox_path: Some(v1::volume::source::SandboxPath {
                    r#type: Some(v1::volume::source::sandbox_path::Type::Parent.into()),
                    path: "own".into(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    });
    w.leader_says(i::RunTaskGroupMessage {
        framework: framework(),
        executor: v1::ExecutorInfo {
            r#type: Some(v1::executor_info::Type::Default.into()),
            command: None,
            resources: vec![scalar("cpus", 0.1), volume("e", "own")],
            ..custom_executor("default")
        },
        task_group: v1::TaskGroupInfo {
            tasks: vec![with(task("a"), &[volume("v", "data")]), parents],
        },
        launch_executor: Some(true),
        ..Default::default()
    });
    let is = |effect: &Effect| match effect {
        Effect::StartLocalExecutor(local) => Some(local.container.clone()),
        _ => None,
    };
    let container = w.effects.iter().find_map(is).expect("an executor");
    w.local(&container, subscribe("default"));
    let asked = links(w);
    (container, asked)
}

#[test]
fn a_default_executor_has_its_volumes_and_those_of_its_tasks() {
    let mut w = World::registered();
    let (_, asked) = group(&mut w);
    assert_eq!(
        names(&asked.made),
        [
            ("data", Path::new("/w/volumes/roles/prod web/v")),
            ("own", Path::new("/w/volumes/roles/prod web/e")),
        ]
    );
    linked(&mut w, &asked, None);
    assert!(w.seen().contains(&"LAUNCH_GROUP a b to local".to_owned()));
}

/// As in the reference, with what it leaves out: the volumes of an executor itself
/// (`attachTaskVolumeDirectory` of `src/slave/slave.cpp`).
#[test]
fn files_serves_what_is_in_volumes_while_they_are_held() {
    let mut w = World::registered();
    let (container, asked) = group(&mut w);
    let sandbox = asked.sandbox.display().to_string();
    let of = |base: &str| -> Vec<String> {
        let inner = ["data", "own", "tasks/a/data", "tasks/b/of-executor"];
        inner.iter().map(|name| format!("{base}/{name}")).collect()
    };
    let names = served(&w);
    for name in of(&sandbox)
        .into_iter()
        .chain(of("/frameworks/L-0000/executors/default/runs/latest"))
    {
        assert!(names.contains_key(&name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 12);
    linked(&mut w, &asked, None);
    w.local(
        &container,
        update("default", "a", TaskState::TaskFinished, 1),
    );
    let names = served(&w);
    assert!(!names.contains_key(&format!("{sandbox}/data")), "{names:?}");
    assert!(names.contains_key(&format!("{sandbox}/own")));
    let asked = links(&mut w);
    linked(&mut w, &asked, None);
    w.exited(&container, ExitStatus::Code(0));
    assert_eq!(served(&w), BTreeMap::new());
}

#[test]
fn volumes_cannot_take_the_place_of_what_a_default_executor_needs() {
    for path in ["containers", "tasks"] {
        let mut w = World::registered();
        w.leader_says(i::RunTaskGroupMessage {
            framework: framework(),
            executor: v1::ExecutorInfo {
                r#type: Some(v1::executor_info::Type::Default.into()),
                command: None,
                ..custom_executor("default")
            },
            task_group: v1::TaskGroupInfo {
                tasks: vec![with(task("a"), &[volume("v", path)])],
            },
            launch_executor: Some(true),
            ..Default::default()
        });
        let local = w.local_executor();
        w.local(&local.container, subscribe("default"));
        assert!(w.seen().contains(&"destroy".to_owned()));
    }
}

#[test]
fn the_leader_hears_of_volumes_that_tasks_hold_when_it_comes_back() {
    let mut w = World::registered();
    w.run(with(command("t"), &[volume("v", "data")]));
    let local = w.local_executor();
    w.local(&local.container, subscribe("t"));
    let asked = links(&mut w);
    linked(&mut w, &asked, None);
    w.effects.clear();
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(Duration::from_secs(1));
    let Some(PeerMessage::ReregisterSlave(message)) = w.take_sent().pop() else {
        panic!("no re-registration")
    };
    let disk = message.tasks[0].resources.iter().find(|r| r.name == "disk");
    assert!(disk.unwrap().disk.as_ref().unwrap().persistence.is_some());
}
