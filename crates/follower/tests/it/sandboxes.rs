//! What becomes of sandboxes when nobody uses them any more, and the bounds of what is remembered.

use crate::harness::*;
use std::time::Duration;
use tepui_follower::io::{Effect, Input};
use tepui_model::container::ExitStatus;
use tepui_protocol::{internal as i, v1, v1::TaskState};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Runs a command task to its acknowledged end.
fn complete(w: &mut World, framework: v1::FrameworkInfo, id: &str) {
    w.run_in(framework.clone(), command(id));
    let container = w.local_executor().container;
    w.local(&container, subscribe_in(&framework, id));
    w.effects.clear();
    let mut call = update(id, id, TaskState::TaskFinished, 1);
    call.framework_id = framework.id.clone().unwrap();
    w.local(&container, call);
    let update = w.updates().remove(0);
    w.exited(&container, ExitStatus::Code(0));
    w.acknowledge(&update);
    w.effects
        .retain(|e| !matches!(e, Effect::StopLocalExecutor { .. }));
}

fn subscribe_in(framework: &v1::FrameworkInfo, executor: &str) -> v1::executor::Call {
    v1::executor::Call {
        framework_id: framework.id.clone().unwrap(),
        ..subscribe(executor)
    }
}

/// Lets time pass while the leader keeps pinging.
fn pass_registered(w: &mut World, duration: Duration) {
    let end = w.now + duration;
    while w.now < end {
        w.pass(Duration::from_secs(60));
        w.leader_says(i::PingSlaveMessage { connected: true });
        w.effects.retain(|e| !matches!(e, Effect::Send { .. }));
    }
}

/// Directories that are to be removed right now.
fn removals(w: &mut World) -> Vec<String> {
    let effects = w.take().into_iter();
    let removals = effects.filter_map(|effect| match effect {
        Effect::Remove { path } => Some(path.display().to_string()),
        _ => None,
    });
    removals.collect()
}

/// Removes what is to be removed, until there is nothing more: what, in which order.
fn remove_all(w: &mut World) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let removals = removals(w);
        if removals.is_empty() {
            return all;
        }
        for path in removals {
            all.push(path.clone());
            w.step(Input::Removed {
                path: path.into(),
                error: None,
            });
        }
    }
}

#[test]
fn sandboxes_go_after_the_delay() {
    let mut w = World::registered();
    complete(&mut w, framework(), "t");
    assert!(w.seen().is_empty());
    assert_eq!(w.follower.view().gc_pending, 3);
    pass_registered(&mut w, WEEK - Duration::from_secs(60));
    assert!(w.seen().is_empty());
    pass_registered(&mut w, Duration::from_secs(60));
    let removed = remove_all(&mut w);
    let below = |at: &str| format!("/w/{at}slaves/{ID}/frameworks/{FRAMEWORK}");
    let run = |path: &String| path.contains("/runs/");
    // The run, its executor, the framework; of each what was checkpointed goes last: should the follower
    // end meanwhile, the next one finds it and goes on.
    assert!(
        removed[0].starts_with(&below("")) && run(&removed[0]),
        "{removed:?}"
    );
    assert!(
        removed[2].starts_with(&below("meta/")) && run(&removed[2]),
        "{removed:?}"
    );
    let rest: Vec<_> = removed.iter().filter(|path| !run(path)).collect();
    let executor = |at: &str| format!("{}/executors/t", below(at));
    assert_eq!(
        rest,
        [
            &executor(""),
            &executor("meta/"),
            &below(""),
            &below("meta/")
        ]
    );
    let view = w.follower.view();
    assert_eq!(
        (view.counters.path_removals_succeeded, view.gc_pending),
        (3, 0)
    );
}

#[test]
fn some_sandboxes_are_removed_at_a_time_and_those_that_wait_may_still_be_needed() {
    let mut w = World::registered();
    w.running_command("long");
    for n in 0..30 {
        complete(&mut w, framework(), &format!("t{n:02}"));
    }
    w.effects.clear();
    w.step(Input::DiskUsage(1.0));
    let first = removals(&mut w);
    assert_eq!(first.len(), 8, "{first:?}");
    assert_eq!(w.follower.view().gc_pending, 60);
    // Its turn has not come.
    w.run(command("t29"));
    assert_eq!(w.local_executor().info.executor_id.value, "t29");
    w.effects.clear();
    for path in first {
        w.step(Input::Removed {
            path: path.into(),
            error: None,
        });
    }
    let rest = remove_all(&mut w);
    let gone = |path: &String| path.ends_with("/executors/t29");
    assert!(!rest.iter().any(gone), "{rest:?}");
    assert_eq!(rest.len() + 8, 4 * 30 - 2);
    let view = w.follower.view();
    assert_eq!(
        (view.counters.path_removals_succeeded, view.gc_pending),
        (59, 0)
    );
}

#[test]
fn a_full_disk_makes_them_go_at_once_and_an_empty_one_lets_them_stay() {
    let mut w = World::registered();
    complete(&mut w, framework(), "t");
    w.step(Input::DiskUsage(0.1));
    assert!(w.seen().is_empty());
    assert_eq!(w.follower.view().max_sandbox_age, WEEK.mul_f64(0.8));
    w.step(Input::DiskUsage(0.9));
    let path = removals(&mut w).remove(0).into();
    w.step(Input::Removed { path, error: None });
    let view = w.follower.view();
    assert_eq!(
        (view.counters.path_removals_succeeded, view.gc_pending),
        (1, 2)
    );
    w.step(Input::Removed {
        path: "/somewhere/else".into(),
        error: None,
    });
    assert_eq!(
        w.follower.view().counters.path_removals_succeeded,
        1,
        "that was not ours"
    );
    w.step(Input::DiskUsage(f64::NAN));
}

#[test]
fn a_sandbox_that_is_needed_again_is_kept() {
    let mut w = World::registered();
    complete(&mut w, framework(), "t");
    w.run(command("t"));
    assert_eq!(w.follower.view().gc_pending, 1, "only the old run");
}

#[test]
fn a_task_waits_while_its_directory_is_being_removed() {
    let mut w = World::registered();
    complete(&mut w, framework(), "t");
    complete(&mut w, framework(), "killed");
    w.step(Input::DiskUsage(1.0));
    let mut removing = removals(&mut w);
    w.run(command("t"));
    assert!(w.seen().is_empty());
    let pending = |w: &World| {
        w.follower
            .view()
            .frameworks
            .values()
            .map(|f| f.pending.len())
            .sum::<usize>()
    };
    assert_eq!(pending(&w), 1);
    w.run(command("killed"));
    w.kill("killed");
    assert_eq!(
        w.seen(),
        [
            "TASK_KILLED of killed (Killed before delivery to the executor) to master",
            "ExitedExecutor killed -1 to master"
        ]
    );
    let mut started = Vec::new();
    while let Some(path) = removing.pop() {
        w.step(Input::Removed {
            path: path.into(),
            error: Some("busy".into()),
        });
        for effect in w.take() {
            match effect {
                Effect::Remove { path } => removing.push(path.display().to_string()),
                other => started.push(other),
            }
        }
    }
    w.effects.extend(started);
    assert_eq!(w.local_executor().info.executor_id.value, "t");
    assert_eq!(pending(&w), 0);
}

#[test]
fn history_is_bounded_and_takes_its_attachments_along() {
    let mut config = config();
    config.max_completed_executors_per_framework = 3;
    let mut w = World::registered_with(config);
    // Keeps the framework alive.
    w.running_command("long");
    let mut detached = 0;
    for n in 0..10 {
        complete(&mut w, framework(), &format!("t{n}"));
        detached += w.seen().iter().filter(|e| *e == "detach").count();
    }
    let view = w.follower.view();
    assert_eq!(
        view.frameworks
            .values()
            .next()
            .unwrap()
            .completed_executors
            .len(),
        3
    );
    assert_eq!(detached, 7 * 3);
}

#[test]
fn at_most_fifty_completed_frameworks_are_remembered() {
    let mut w = World::registered();
    for n in 0..60 {
        let id = Some(v1::FrameworkId {
            value: format!("L-{n:04}"),
        });
        complete(&mut w, v1::FrameworkInfo { id, ..framework() }, "t");
    }
    assert_eq!(w.follower.view().completed_frameworks.len(), 50);
}

#[test]
fn a_framework_that_comes_back_goes_on_with_its_history() {
    let mut w = World::registered();
    complete(&mut w, framework(), "a");
    complete(&mut w, framework(), "b");
    let view = w.follower.view();
    assert_eq!(view.completed_frameworks.len(), 1);
    assert_eq!(
        view.completed_frameworks
            .peek()
            .unwrap()
            .completed_executors
            .len(),
        2
    );
}

#[test]
fn ids_that_are_no_directory_names_are_dropped() {
    let mut w = World::registered();
    w.run(command("../../etc"));
    assert_eq!(
        w.seen(),
        [
            "TASK_DROPPED of ../../etc (The executor ID cannot name a directory) to master",
            "ExitedExecutor ../../etc -1 to master"
        ]
    );
    assert_eq!(w.follower.view().frameworks.size(), 0);
}

#[test]
fn many_tasks_leave_nothing_but_their_sandboxes() {
    let mut w = World::registered();
    w.running_command("long");
    w.effects.clear();
    let (mut attached, mut detached) = (0, 0);
    for n in 0..1000 {
        let id = format!("t{n}");
        w.run(command(&id));
        attached += w
            .effects
            .iter()
            .filter(|e| matches!(e, Effect::Attach { .. }))
            .count();
        let container = w.local_executor().container;
        w.local(&container, subscribe(&id));
        w.effects.clear();
        w.local(&container, update(&id, &id, TaskState::TaskFinished, 1));
        let update = w.updates().remove(0);
        w.exited(&container, ExitStatus::Code(0));
        w.acknowledge(&update);
        detached += w.seen().iter().filter(|e| *e == "detach").count();
    }
    let view = w.follower.view();
    let framework = view.frameworks.values().next().unwrap();
    assert_eq!(framework.executors.size(), 1);
    assert_eq!(framework.completed_executors.len(), 150);
    assert_eq!(attached - detached, 150 * 3);
    assert_eq!(view.gc_pending, 2 * 1000);
    let ping = w.follower.next_deadline().unwrap();
    assert!(
        ping > w.now + Duration::from_secs(60),
        "no timer of a finished task is left"
    );
}

#[test]
fn an_executor_remembers_its_last_two_hundred_tasks() {
    let mut w = World::registered();
    let custom = |id: &str| v1::TaskInfo {
        executor: Some(custom_executor("e")),
        ..task(id)
    };
    w.run(custom("first"));
    w.http_subscribe(subscribe("e"));
    for n in 0..250u8 {
        let id = format!("t{n}");
        w.leader_says(i::RunTaskMessage {
            framework: framework(),
            task: custom(&id),
            launch_executor: Some(false),
            ..Default::default()
        });
        w.effects.clear();
        w.http(update("e", &id, TaskState::TaskFinished, n));
        let update = w.updates().remove(0);
        w.acknowledge(&update);
    }
    let view = w.follower.view();
    let executor = view
        .frameworks
        .values()
        .next()
        .unwrap()
        .executors
        .values()
        .next()
        .unwrap();
    assert_eq!(
        (executor.completed.len(), executor.launched.size()),
        (200, 1)
    );
    assert_eq!(executor.completed.peek().unwrap().name, "t50");
}
