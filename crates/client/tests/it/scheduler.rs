//! A framework's life: tasks in both encodings, a leader that goes and comes back, refusals.

use tepui_client::{
    Codec, Error,
    proto::{
        CommandInfo, FrameworkInfo, Offer, TaskInfo, TaskState,
        framework_info::{Capability, capability},
    },
    resources,
    scheduler::{Event, Scheduler, launch},
};
use tepui_tests::cluster::{Cluster, Part};

fn framework() -> FrameworkInfo {
    FrameworkInfo {
        user: "root".into(),
        name: "client test".into(),
        failover_timeout: Some(3600.0),
        ..Default::default()
    }
}

fn task(id: &str, command: &str, offer: &Offer) -> TaskInfo {
    let mut task = TaskInfo {
        name: id.into(),
        agent_id: offer.agent_id.clone(),
        command: Some(CommandInfo {
            value: Some(command.into()),
            ..Default::default()
        }),
        resources: resources("cpus:0.1;mem:32").expect("resources"),
        ..Default::default()
    };
    task.task_id.value = id.into();
    task
}

/// Goes on until the scheduler yields what is wanted; declines offers on the way.
async fn until<T>(scheduler: &mut Scheduler, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = scheduler.next().await.expect("an event");
        if let Event::Update(status) = &event {
            scheduler
                .calls()
                .acknowledge(status)
                .await
                .expect("an acknowledgement");
        }
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

async fn offer(scheduler: &mut Scheduler) -> Offer {
    until(scheduler, |event| match event {
        Event::Offers(mut offers) => offers.pop(),
        _ => None,
    })
    .await
}

async fn state(scheduler: &mut Scheduler, wanted: TaskState) {
    until(scheduler, |event| match event {
        Event::Update(status) if status.state() == wanted => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_task_runs_in_both_encodings() {
    let cluster = Cluster::mixed();
    for codec in [Codec::Protobuf, Codec::Json] {
        let builder = Scheduler::builder(&cluster.leader.to_string(), framework());
        let mut scheduler = builder.codec(codec).build().expect("a scheduler");
        let calls = scheduler.calls();
        let offer = offer(&mut scheduler).await;
        let task = task("one", "true", &offer);
        calls
            .accept([offer.id], vec![launch([task])])
            .await
            .expect("accepted");
        state(&mut scheduler, TaskState::TaskFinished).await;
        calls.teardown().await.expect("torn down");
    }
}

#[tokio::test]
async fn the_same_framework_comes_back_after_its_leader_was_killed() {
    let mut cluster = Cluster::builder().apart().start();
    let mut scheduler = Scheduler::builder(&cluster.leader.to_string(), framework())
        .build()
        .expect("a scheduler");
    let calls = scheduler.calls();
    assert!(matches!(
        calls.revive(Vec::new()).await,
        Err(Error::NotSubscribed)
    ));
    let accepted = offer(&mut scheduler).await;
    let id = calls.framework_id().expect("an id");
    let running = task("long", "sleep 1000", &accepted);
    calls
        .accept([accepted.id], vec![launch([running])])
        .await
        .expect("accepted");
    state(&mut scheduler, TaskState::TaskRunning).await;

    cluster.kill(Part::Leader);
    until(&mut scheduler, |event| {
        matches!(event, Event::Disconnected { .. }).then_some(())
    })
    .await;
    cluster.restart(Part::Leader);
    let again = until(&mut scheduler, |event| match event {
        Event::Subscribed { framework_id, .. } => Some(framework_id),
        _ => None,
    })
    .await;
    assert_eq!(again, id);
    // The follower comes back with its task, and makes new offers.
    offer(&mut scheduler).await;
    calls.reconcile([]).await.expect("asked");
    state(&mut scheduler, TaskState::TaskRunning).await;
    calls.teardown().await.expect("torn down");
}

#[tokio::test]
async fn a_refused_framework_is_told_why() {
    let cluster = Cluster::mixed();
    let info = FrameworkInfo {
        roles: vec!["/a".into()],
        capabilities: vec![Capability {
            r#type: Some(capability::Type::MultiRole as i32),
        }],
        ..framework()
    };
    let mut scheduler = Scheduler::builder(&cluster.leader.to_string(), info)
        .build()
        .expect("a scheduler");
    match scheduler.next().await {
        Err(Error::Refused(reason)) => {
            assert!(reason.contains("cannot start with a slash"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn attempts_are_bounded_when_asked() {
    // Nobody listens on a port that was just given up.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    let mut scheduler = Scheduler::builder(&address, framework())
        .attempts_max(2)
        .build()
        .expect("a scheduler");
    assert!(matches!(scheduler.next().await, Err(Error::Connect { .. })));
}
