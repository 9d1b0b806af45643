//! Operator calls that kill containers.

use crate::harness::*;
use tepui_follower::io::{Effect, Input, Reply};
use tepui_model::{
    RequestId,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::v1::{
    TaskState,
    agent::{
        Call,
        call::{KillContainer, KillNestedContainer, Type},
    },
    task_status::Reason,
};

/// Asks to kill; the reply and everything else that came of it.
fn ask(w: &mut World, call: Call) -> (Reply, Vec<String>) {
    w.take();
    w.step(Input::Operator {
        request: RequestId(77),
        call: Box::new(call),
        principal: None,
    });
    let mut effects = w.take();
    let Some(Effect::Reply { reply, .. }) = effects.pop() else {
        panic!("a call is answered last: {effects:?}")
    };
    (reply, effects.iter().map(describe).collect())
}

fn kill(container: &ContainerId, signal: Option<i32>) -> Call {
    Call {
        r#type: Some(Type::KillContainer.into()),
        kill_container: Some(KillContainer {
            container_id: container.to_proto(),
            signal,
        }),
        ..Default::default()
    }
}

fn kill_nested(container: &ContainerId, signal: Option<i32>) -> Call {
    Call {
        r#type: Some(Type::KillNestedContainer.into()),
        kill_nested_container: Some(KillNestedContainer {
            container_id: container.to_proto(),
            signal,
        }),
        ..Default::default()
    }
}

fn no_effects() -> Vec<String> {
    Vec::new()
}

/// A command task with a process.
fn running() -> (World, ContainerId) {
    let mut w = World::registered();
    let container = w.running_command("t");
    (w, container)
}

#[test]
fn a_container_is_killed_or_gets_the_signal_asked_for() {
    let (mut w, container) = running();
    assert_eq!(
        ask(&mut w, kill(&container, Some(0))),
        (Reply::Ok, no_effects())
    );
    for (signal, effect) in [
        (Some(15), "signal 15"),
        (Some(64), "signal 64"),
        (Some(9), "destroy"),
        (None, "destroy"),
    ] {
        let (reply, effects) = ask(&mut w, kill(&container, signal));
        assert_eq!((reply, effects), (Reply::Ok, vec![effect.to_owned()]));
    }
    for signal in [-1, 65, i32::MIN] {
        let refusal = Reply::Error {
            status: 500,
            message: "Unable to send signal to container: Invalid argument".to_owned(),
        };
        assert_eq!(
            ask(&mut w, kill(&container, Some(signal))),
            (refusal, no_effects())
        );
    }
}

#[test]
fn the_task_of_a_killed_container_fails() {
    let (mut w, container) = running();
    ask(&mut w, kill(&container, None));
    w.exited(&container, ExitStatus::Signal(9));
    let updates = w.updates();
    let [failed] = &updates[..] else {
        panic!("{updates:?}")
    };
    assert_eq!(failed.status.state(), TaskState::TaskFailed);
    assert_eq!(failed.status.reason(), Reason::ExecutorTerminated);
}

#[test]
fn a_container_that_is_unknown_or_gone_is_not_found() {
    let (mut w, container) = running();
    let not_found = |id: &str| Reply::Error {
        status: 404,
        message: format!("Container '{id}' cannot be found (or is already killed)"),
    };
    let unknown = ContainerId::top("nope");
    assert_eq!(
        ask(&mut w, kill(&unknown, None)),
        (not_found("nope"), no_effects())
    );
    let nested = container.nested("inner");
    assert_eq!(
        ask(&mut w, kill_nested(&nested, None)),
        (not_found(&format!("{container}.inner")), no_effects())
    );
    w.exited(&container, ExitStatus::Code(0));
    assert_eq!(
        ask(&mut w, kill(&container, None)),
        (not_found(&container.to_string()), no_effects())
    );
}

#[test]
fn a_container_without_a_process_is_destroyed_whatever_the_signal() {
    let mut w = World::registered();
    w.run(command("t"));
    let container = w.local_executor().container;
    let destroyed = (Reply::Ok, vec!["destroy".to_owned()]);
    assert_eq!(ask(&mut w, kill(&container, Some(15))), destroyed);
}

#[test]
fn a_nested_container_is_signalled_alone() {
    let (mut w, container) = running();
    let nested = container.nested("inner");
    w.step(Input::Container {
        container: nested.clone(),
        event: ContainerEvent::Launched { pid: 43 },
    });
    w.take();
    for call in [kill, kill_nested] {
        let (reply, effects) = ask(&mut w, call(&nested, Some(15)));
        assert_eq!((reply, effects), (Reply::Ok, vec!["signal 15".to_owned()]));
    }
}

#[test]
fn what_waits_for_a_container_that_nobody_knows_is_told_so() {
    let mut w = World::registered();
    let wait = Call {
        r#type: Some(Type::WaitContainer.into()),
        wait_container: Some(tepui_protocol::v1::agent::call::WaitContainer {
            container_id: ContainerId::top("nope").to_proto(),
        }),
        ..Default::default()
    };
    let refusal = Reply::Error {
        status: 404,
        message: "Container nope cannot be found".to_owned(),
    };
    assert_eq!(ask(&mut w, wait), (refusal, no_effects()));
}

#[test]
fn there_are_no_images_to_prune() {
    let mut w = World::registered();
    let prune = Call {
        r#type: Some(Type::PruneImages.into()),
        ..Default::default()
    };
    assert_eq!(ask(&mut w, prune), (Reply::Ok, no_effects()));
}
