//! Tasks on volumes: `docs/persistent-volume.md`, `docs/shared-resources.md`; and on revocable
//! resources: `docs/oversubscription.md`.

use super::*;
use serde_json::json;
use tepui_protocol::v1::TaskState;

fn volume(shared: bool) -> serde_json::Value {
    let mut volume = json!({"disk": 100, "reserved": [["dev", "p"]], "volume": "v"});
    if shared {
        volume["shared"] = json!(true);
    }
    volume
}

fn on_volume(id: &str, offer: &v1::Offer, volume: &serde_json::Value) -> v1::TaskInfo {
    let mut task = task(id, offer, "cpus:1;mem:64");
    task.resources.push(resource(volume));
    task
}

fn making(volume: &serde_json::Value) -> Vec<Operation> {
    vec![
        operation(
            &json!({"type": "RESERVE", "resources": [{"disk": 100, "reserved": [["dev", "p"]]}]}),
        ),
        operation(&json!({"type": "CREATE", "volumes": [volume]})),
    ]
}

fn started() -> (Cluster, Scheduler, Agent, v1::Offer) {
    let mut cluster = Cluster::new();
    let agent = register(&mut cluster, &json!({}));
    let scheduler = cluster.subscribe(reserver("dev"));
    let offer = cluster.offer(scheduler.stream);
    (cluster, scheduler, agent, offer)
}

fn ran(cluster: &mut Cluster, agent: &Agent) -> v1::TaskInfo {
    match cluster.sent(&agent.pid) {
        PeerMessage::RunTask(message) => message.task,
        other => panic!("expected RunTask, got {other:?}"),
    }
}

/// All offers among what came out.
fn offered(cluster: &mut Cluster) -> Vec<v1::Offer> {
    let effects = cluster.pending.drain(..);
    let offers = effects.filter_map(|effect| match effect {
        tepui_leader::Effect::Event { event, .. } => event.offers.clone(),
        _ => None,
    });
    offers.flat_map(|offers| offers.offers).collect()
}

#[test]
fn a_task_runs_on_a_volume_made_by_the_same_call() {
    let (mut cluster, scheduler, agent, offer) = started();
    let volume = volume(false);
    let mut operations = making(&volume);
    operations.push(launch_operation(vec![on_volume("t1", &offer, &volume)]));
    cluster.accepted(&scheduler, accept(&[&offer], operations));
    applied(&mut cluster, &agent);
    applied(&mut cluster, &agent);
    let task = ran(&mut cluster, &agent);
    assert!(
        task.resources
            .iter()
            .any(|resource| resource.disk.is_some())
    );
    cluster.nothing_left();
    // The volume outlives the task.
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskFinished, 1),
    );
    cluster.update(scheduler.stream);
    let offer = cluster.offer(scheduler.stream);
    assert!(
        super::shown(&offer.resources)
            .iter()
            .any(|text| text.contains("[v:data]"))
    );
}

#[test]
fn two_tasks_do_not_have_the_same_volume() {
    let (mut cluster, scheduler, agent, offer) = started();
    let volume = volume(false);
    let mut operations = making(&volume);
    let tasks = ["t1", "t2"].map(|id| on_volume(id, &offer, &volume));
    operations.push(launch_operation(tasks.to_vec()));
    cluster.accepted(&scheduler, accept(&[&offer], operations));
    applied(&mut cluster, &agent);
    applied(&mut cluster, &agent);
    ran(&mut cluster, &agent);
    let status = cluster.update(scheduler.stream);
    assert_eq!(status.state(), TaskState::TaskError);
    assert!(
        status.message().contains("is more than available"),
        "{}",
        status.message()
    );
}

#[test]
fn tasks_share_a_shared_volume_which_is_not_destroyed_meanwhile() {
    let (mut cluster, scheduler, agent, offer) = started();
    let volume = volume(true);
    let mut operations = making(&volume);
    let tasks = ["t1", "t2", "t3"].map(|id| on_volume(id, &offer, &volume));
    operations.push(launch_operation(tasks.to_vec()));
    cluster.accepted(&scheduler, accept(&[&offer], operations));
    let messages = [applied(&mut cluster, &agent), applied(&mut cluster, &agent)];
    for _ in 0..3 {
        ran(&mut cluster, &agent);
    }
    for (number, message) in messages.iter().enumerate() {
        let done = OperationState::OperationFinished;
        cluster.peer(
            &agent.pid,
            outcome(&agent, message, done, Some(number as u8)),
        );
    }
    // It is offered while it is in use.
    let offer = offered(&mut cluster).pop().expect("an offer");
    let has_it = super::shown(&offer.resources)
        .iter()
        .any(|text| text.contains("SHARED"));
    assert!(has_it);
    let mut destroy = operation(&json!({"type": "DESTROY", "volumes": [volume]}));
    destroy.id = Some(v1::OperationId {
        value: "d".to_owned(),
    });
    cluster.accepted(&scheduler, accept(&[&offer], vec![destroy.clone()]));
    let refused = update(&mut cluster, &scheduler);
    assert!(
        refused.message().starts_with("Persistent volumes in use"),
        "{}",
        refused.message()
    );
    cluster.pending.clear();
    for task in ["t1", "t2", "t3"] {
        cluster.peer(
            &agent.pid,
            status(&scheduler, &agent, task, TaskState::TaskFinished, 1),
        );
    }
    cluster.pass(std::time::Duration::from_secs(10));
    let offers = offered(&mut cluster);
    // Other offers that hold it are taken back.
    let last = offers.last().expect("an offer");
    cluster.call(&scheduler, accept(&[last], vec![destroy]));
    let destroyed = cluster.pending.drain(..).any(|effect| {
        matches!(effect, tepui_leader::Effect::Send { message: PeerMessage::ApplyOperation(message), .. }
            if message.operation_info.r#type() == v1::offer::operation::Type::Destroy)
    });
    assert!(destroyed);
}

#[test]
fn a_task_does_not_mix_revocable_resources_with_others() {
    let mut cluster = Cluster::new();
    let agent = register(
        &mut cluster,
        &json!({"volatile": [{"cpus": 2, "revocable": true}]}),
    );
    let scheduler = cluster.subscribe(reserver("dev"));
    let offer = cluster.offer(scheduler.stream);
    let revocable = resource(&json!({"cpus": 1, "revocable": true}));
    let mut mixed = task("t1", &offer, "cpus:1;mem:64");
    mixed.resources.push(revocable.clone());
    let mut pure = task("t2", &offer, "mem:64");
    pure.resources.push(revocable);
    cluster.accepted(&scheduler, launch(&offer, vec![mixed, pure]));
    let status = cluster.update(scheduler.stream);
    assert_eq!(
        status.message(),
        "Task mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable 'cpus' at \
         the same time"
    );
    assert_eq!(ran(&mut cluster, &agent).task_id.value, "t2");
}

#[test]
fn limits_are_no_less_than_what_is_asked_for() {
    let (mut cluster, scheduler, agent, offer) = started();
    let limit = |name: &str, value: f64| [(name.to_owned(), v1::value::Scalar { value })].into();
    let mut low = task("t1", &offer, "cpus:1;mem:64");
    low.limits = limit("cpus", 0.5);
    let mut odd = task("t2", &offer, "cpus:1;mem:64");
    odd.limits = limit("disk", 5.0);
    let mut endless = task("t3", &offer, "cpus:1;mem:64");
    endless.limits = limit("mem", f64::INFINITY);
    cluster.accepted(&scheduler, launch(&offer, vec![low, odd, endless]));
    for expected in [
        "The cpu limit must be greater than or equal to the cpu request",
        "Only cpus and mem may be included in a task's resource limits",
    ] {
        assert_eq!(cluster.update(scheduler.stream).message(), expected);
    }
    assert_eq!(ran(&mut cluster, &agent).task_id.value, "t3");
}
