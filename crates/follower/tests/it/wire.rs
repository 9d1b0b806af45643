//! Our messages against those of a real agent (`tests/fixtures/wire.json`, recorded on loopback).

use crate::harness::*;
use serde_json::Value;
use std::time::Duration;
use tepui_follower::{
    Config,
    io::{Effect, Input},
};
use tepui_model::container::ContainerEvent;
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1,
    v1::executor::{Call, call},
};

pub(crate) fn recorded(name: &str, at: usize) -> PeerMessage {
    let all: Value = serde_json::from_str(include_str!("../fixtures/wire.json")).unwrap();
    let body = base64(all[name][at]["body_b64"].as_str().unwrap());
    PeerMessage::decode(&format!("mesos.internal.{name}"), body.into()).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text
        .bytes()
        .filter(|b| *b != b'=')
        .map(|b| DIGITS.iter().position(|d| *d == b).unwrap() as u32);
    let (mut out, mut buffer, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits {
        buffer = (buffer << 6) | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((buffer >> bits) as u8);
        }
    }
    out
}

fn recorded_leader() -> Pid {
    "master@127.0.0.1:15050".parse().unwrap()
}

/// A follower with the settings of the recorded agent.
fn world() -> World {
    let mut config = Config::new(
        "127.0.0.1:15051".parse().unwrap(),
        "follower.test",
        "/var/lib/mesos/basic/a",
    );
    let resources = "cpus:4;mem:4096;disk:10240;ports:[31000-32000]";
    config.resources =
        tepui_follower::resources::startup(resources, "*", Default::default()).unwrap();
    config.attributes =
        tepui_follower::resources::attributes("node_id:follower1;rack:r1;speed:2.5;slots:[1-4]")
            .unwrap();
    config.launcher_dir = "/opt/mesos/libexec/mesos".into();
    World::with(config)
}

fn sent(w: &mut World) -> Vec<PeerMessage> {
    let message = |effect| match effect {
        Effect::Send { to, message, .. } if to == recorded_leader() => Some(message),
        _ => None,
    };
    w.take().into_iter().filter_map(message).collect()
}

fn register(w: &mut World) -> i::RegisterSlaveMessage {
    w.step(Input::LeaderDetected(Some(recorded_leader())));
    w.now = w.follower.next_deadline().unwrap();
    w.step(Input::Tick);
    let Some(PeerMessage::RegisterSlave(ours)) = sent(w).pop() else {
        panic!("no registration")
    };
    *ours
}

#[test]
fn registration_is_the_recorded_one_but_for_version_and_uuid() {
    let mut w = world();
    let mut ours = register(&mut w);
    let PeerMessage::RegisterSlave(theirs) = recorded("RegisterSlaveMessage", 0) else {
        panic!()
    };
    assert_eq!(ours.version.as_deref(), Some("1.11.0"));
    ours.version = theirs.version.clone();
    ours.resource_version_uuid = theirs.resource_version_uuid.clone();
    assert_eq!(ours, *theirs);
}

#[test]
fn a_recorded_launch_runs_and_its_update_is_forwarded_as_recorded() {
    let mut w = world();
    let uuid = register(&mut w).resource_version_uuid.unwrap();
    let PeerMessage::RunTask(mut run) = recorded("RunTaskMessage", 0) else {
        panic!()
    };
    // Ours is drawn from the seed.
    run.resource_version_uuids[0].uuid = uuid.clone();
    let registered = i::SlaveRegisteredMessage {
        slave_id: run.task.agent_id.clone(),
        connection: None,
    };
    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: recorded_leader(),
        message: registered.into(),
    });
    let PeerMessage::UpdateSlave(mut theirs) = recorded("UpdateSlaveMessage", 0) else {
        panic!()
    };
    theirs.resource_version_uuid = Some(uuid);
    assert_eq!(sent(&mut w), [PeerMessage::UpdateSlave(theirs)]);

    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: recorded_leader(),
        message: PeerMessage::RunTask(run.clone()),
    });
    let local = w.local_executor();
    let PeerMessage::ExecutorRegistered(registered) = recorded("ExecutorRegisteredMessage", 0)
    else {
        panic!()
    };
    assert_eq!(local.info, registered.executor_info);

    let call = |kind: call::Type| Call {
        executor_id: local.info.executor_id.clone(),
        framework_id: run.framework.id.clone().unwrap(),
        r#type: Some(kind.into()),
        ..Default::default()
    };
    w.local(
        &local.container,
        Call {
            subscribe: Some(Default::default()),
            ..call(call::Type::Subscribe)
        },
    );
    w.step(Input::Container {
        container: local.container.clone(),
        event: ContainerEvent::Launched { pid: 3072 },
    });
    w.effects.clear();
    let PeerMessage::StatusUpdate(told) = recorded("StatusUpdateMessage", 0) else {
        panic!()
    };
    let update = call::Update {
        status: told.update.status.clone(),
    };
    w.local(
        &local.container,
        Call {
            update: Some(update),
            ..call(call::Type::Update)
        },
    );
    let PeerMessage::StatusUpdate(mut theirs) = recorded("StatusUpdateMessage", 1) else {
        panic!()
    };
    let status = theirs.update.status.container_status.as_mut().unwrap();
    // Drawn from the seed, too.
    status.container_id = Some(v1::ContainerId {
        value: local.container.to_string(),
        parent: None,
    });
    assert_eq!(sent(&mut w), [PeerMessage::StatusUpdate(theirs)]);
    w.pass(Duration::from_secs(1));
}
