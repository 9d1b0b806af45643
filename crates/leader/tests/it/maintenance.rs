//! Planned maintenance: windows, machines down and up, and inverse offers.

use crate::{draining::drain, harness::*, told::driver};
use std::{sync::Arc, time::Duration};
use tepui_leader::{Config, Effect, RegistryChange, Reply};
use tepui_protocol::{
    internal::{self, registry},
    json,
    peer::PeerMessage,
    v1::{
        self, MachineId, Unavailability,
        allocator::inverse_offer_status::Status,
        machine_info::Mode,
        maintenance::{Schedule, Window},
        master, scheduler,
        scheduler::event,
    },
};

fn machine(number: u16) -> MachineId {
    MachineId {
        // Names are compared without case.
        hostname: Some(format!("Host{number}")),
        ip: Some(format!("127.0.0.{number}")),
    }
}

fn planned(start: i64) -> Unavailability {
    Unavailability {
        start: v1::TimeInfo { nanoseconds: start },
        duration: None,
    }
}

pub(crate) fn schedule(machines: &[u16], start: i64) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::UpdateMaintenanceSchedule);
    let window = Window {
        machine_ids: machines.iter().map(|number| machine(*number)).collect(),
        unavailability: planned(start),
    };
    let windows = (!machines.is_empty()).then_some(window);
    call.update_maintenance_schedule = Some(master::call::UpdateMaintenanceSchedule {
        schedule: Schedule {
            windows: windows.into_iter().collect(),
        },
    });
    call
}

pub(crate) fn down(number: u16) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::StartMaintenance);
    call.start_maintenance = Some(master::call::StartMaintenance {
        machines: vec![machine(number)],
    });
    call
}

pub(crate) fn up(number: u16) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::StopMaintenance);
    call.stop_maintenance = Some(master::call::StopMaintenance {
        machines: vec![machine(number)],
    });
    call
}

pub(crate) fn answer(
    accept: bool,
    ids: Vec<v1::OfferId>,
    refuse_seconds: Option<f64>,
) -> scheduler::Call {
    use scheduler::call::{AcceptInverseOffers, DeclineInverseOffers, Type};
    let filters = refuse_seconds.map(|seconds| v1::Filters {
        refuse_seconds: Some(seconds),
    });
    if accept {
        let mut call = call(Type::AcceptInverseOffers);
        call.accept_inverse_offers = Some(AcceptInverseOffers {
            inverse_offer_ids: ids,
            filters,
        });
        call
    } else {
        let mut call = call(Type::DeclineInverseOffers);
        call.decline_inverse_offers = Some(DeclineInverseOffers {
            inverse_offer_ids: ids,
            filters,
        });
        call
    }
}

impl Cluster {
    fn inverse_offer(&mut self, on: &Scheduler) -> v1::InverseOffer {
        let event = self.event(on.stream);
        let mut offers = event
            .inverse_offers
            .clone()
            .unwrap_or_else(|| panic!("expected inverse offers, got {event:?}"))
            .inverse_offers;
        assert_eq!(offers.len(), 1);
        offers.remove(0)
    }
    fn inverse_rescinded(&mut self, on: &Scheduler, offer: &v1::InverseOffer) {
        let event = self.event(on.stream);
        let rescinded = event.rescind_inverse_offer.clone();
        assert_eq!(
            rescinded.map(|rescinded| rescinded.inverse_offer_id),
            Some(offer.id.clone())
        );
    }
    fn machine_recorded(&mut self) -> (MachineId, Mode) {
        match self.next() {
            Effect::Persist(RegistryChange::Machine(info)) => (info.id.clone(), info.mode()),
            other => panic!("expected the record of a machine, got {other:?}"),
        }
    }
    fn schedule_recorded(&mut self) -> Schedule {
        match self.next() {
            Effect::Persist(RegistryChange::Schedule(schedule)) => *schedule,
            other => panic!("expected the record of the schedule, got {other:?}"),
        }
    }
    fn status(&mut self) -> v1::maintenance::ClusterStatus {
        let mut call = master::Call::default();
        call.set_type(master::call::Type::GetMaintenanceStatus);
        let answer = tepui_leader::read::operator(&self.view(), &call);
        let answer = answer.and_then(|answer| answer.get_maintenance_status);
        answer.expect("a status").status
    }
}

#[test]
fn every_call_gets_the_answer_of_the_table() {
    let mut cluster = Cluster::new();
    cluster.register(1, "cpus:4;mem:4096");
    let table = include_str!("fixtures/maintenance.jsonl");
    for line in table.lines().filter(|line| !line.starts_with("//")) {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let call = line["call"].to_string();
        let parsed: master::Call = json::decode(call.as_bytes()).expect("a call");
        let expected = match line["error"].as_str() {
            None => Reply::Ok,
            Some(error) => Reply::Error {
                status: 400,
                message: error.to_owned(),
            },
        };
        assert_eq!(cluster.operator(parsed), expected, "{call}");
        if expected != Reply::Ok {
            cluster.nothing_left();
        }
        cluster.pending.clear();
    }
}

#[test]
fn a_schedule_is_durable_then_offers_say_it_and_frameworks_are_asked_to_leave() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    cluster.pass(Duration::from_secs(10));
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(offer.unavailability, None);
    assert_eq!(cluster.operator(schedule(&[1, 9], 77)), Reply::Ok);
    assert_eq!(cluster.machine_recorded(), (machine(1), Mode::Draining));
    assert_eq!(cluster.machine_recorded(), (machine(9), Mode::Draining));
    let recorded = cluster.schedule_recorded();
    assert_eq!(recorded.windows.len(), 1);
    let event = cluster.event(scheduler.stream);
    assert_eq!(event.r#type(), event::Type::Rescind);
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(offer.unavailability, Some(planned(77)));
    let inverse = cluster.inverse_offer(&scheduler);
    assert_eq!(inverse.unavailability, planned(77));
    assert_eq!(inverse.agent_id, Some(offer.agent_id));
    assert_eq!(inverse.framework_id, scheduler.id);
    assert!(inverse.url.is_some() && inverse.resources.is_empty());
    assert_ne!(inverse.id, offer.id);
    cluster.pass(Duration::from_secs(60));
    cluster.nothing_left();
    let view = cluster.view();
    assert_eq!(*view.schedule, recorded);
    let held = view.frameworks.values().map(|f| f.inverse_offers.size());
    assert_eq!(held.sum::<usize>(), 1);
}

#[test]
fn answers_are_shown_and_the_question_comes_again_when_the_refusal_ends() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    // What is left of the follower is on offer from here on.
    cluster.pass(Duration::from_secs(10));
    cluster.operator(schedule(&[1], 77));
    cluster.pending.clear();
    let held = |cluster: &mut Cluster| {
        let view = cluster.view();
        let all = view.frameworks.values();
        all.flat_map(|f| f.inverse_offers.values().cloned().collect::<Vec<_>>())
            .collect::<Vec<Arc<v1::InverseOffer>>>()
    };
    let first = held(&mut cluster);
    assert_eq!(first.len(), 1);
    let before = cluster.status().draining_machines;
    assert!(before.len() == 1 && before[0].statuses.is_empty());

    cluster.accepted(
        &scheduler,
        answer(true, vec![first[0].id.clone()], Some(20.0)),
    );
    cluster.nothing_left();
    assert!(held(&mut cluster).is_empty());
    let said = cluster.status().draining_machines[0].statuses.clone();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].status(), Status::Accept);
    assert_eq!(said[0].framework_id, scheduler.id);

    cluster.pass(Duration::from_secs(19));
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(2));
    let again = cluster.inverse_offer(&scheduler);
    assert_ne!(again.id, first[0].id);
    cluster.accepted(&scheduler, answer(false, vec![again.id.clone()], None));
    let said = cluster.status().draining_machines[0].statuses.clone();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].status(), Status::Decline);
    // Five seconds, when it does not say.
    cluster.pass(Duration::from_millis(4900));
    cluster.nothing_left();
    cluster.pass(Duration::from_millis(200));
    let third = cluster.inverse_offer(&scheduler);
    // An old answer, and one to nothing, change nothing.
    let nobody = v1::OfferId {
        value: "nobody".to_owned(),
    };
    cluster.accepted(&scheduler, answer(true, vec![again.id, nobody], None));
    cluster.nothing_left();
    assert_eq!(held(&mut cluster)[0].id, third.id);
}

#[test]
fn only_the_framework_that_was_asked_can_answer() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    cluster.operator(schedule(&[1], 77));
    cluster.pending.clear();
    let view = cluster.view();
    let asked = view
        .frameworks
        .values()
        .find_map(|f| f.inverse_offers.keys().next().cloned());
    let asked = asked.expect("an inverse offer is out").to_proto();
    let other = cluster.subscribe(framework());
    cluster.pending.clear();
    assert_ne!(other.id, scheduler.id);
    cluster.accepted(&other, answer(true, vec![asked], None));
    cluster.nothing_left();
    assert!(cluster.status().draining_machines[0].statuses.is_empty());
}

#[test]
fn another_window_takes_back_what_is_out_and_no_window_ends_it() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    cluster.operator(schedule(&[1], 77));
    cluster.machine_recorded();
    cluster.schedule_recorded();
    let first = cluster.inverse_offer(&scheduler);
    cluster.nothing_left();
    // The same again is no news.
    cluster.operator(schedule(&[1], 77));
    cluster.schedule_recorded();
    cluster.nothing_left();
    cluster.operator(schedule(&[1], 78));
    assert_eq!(cluster.machine_recorded(), (machine(1), Mode::Draining));
    cluster.schedule_recorded();
    cluster.inverse_rescinded(&scheduler, &first);
    let second = cluster.inverse_offer(&scheduler);
    assert_eq!(second.unavailability, planned(78));
    cluster.nothing_left();
    cluster.operator(schedule(&[], 0));
    match cluster.next() {
        Effect::Persist(RegistryChange::RemoveMachine(id)) => assert_eq!(id, machine(1)),
        other => panic!("expected that the machine is forgotten, got {other:?}"),
    }
    cluster.schedule_recorded();
    cluster.inverse_rescinded(&scheduler, &second);
    cluster.pass(Duration::from_secs(4));
    cluster.nothing_left();
    assert_eq!(cluster.status(), Default::default());
}

#[test]
fn unanswered_inverse_offers_time_out_as_offers_do() {
    let config = Config {
        offer_timeout: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    cluster.register(1, "cpus:4;mem:4096");
    let scheduler = cluster.subscribe(framework());
    cluster.operator(schedule(&[1], 77));
    cluster.pending.clear();
    cluster.pass(Duration::from_secs(29));
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(3));
    let mut kinds = Vec::new();
    for effect in std::mem::take(&mut cluster.pending) {
        match effect {
            Effect::Event { stream, event } if stream == scheduler.stream => {
                kinds.push(event.r#type());
            }
            other => panic!("expected events, got {other:?}"),
        }
    }
    kinds.sort();
    use event::Type;
    let mut expected = [
        Type::Rescind,
        Type::Offers,
        Type::RescindInverseOffer,
        Type::InverseOffers,
    ];
    expected.sort();
    assert_eq!(kinds, expected);
}

#[test]
fn a_machine_taken_down_loses_its_followers_until_it_is_up_again() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.operator(schedule(&[1], 77));
    cluster.pending.clear();
    assert_eq!(cluster.operator(down(1)), Reply::Ok);
    assert_eq!(cluster.machine_recorded(), (machine(1), Mode::Down));
    match cluster.sent(&agent.pid) {
        PeerMessage::Shutdown(message) => assert_eq!(
            message.message.as_deref(),
            Some("Operator initiated 'Machine DOWN'")
        ),
        other => panic!("expected Shutdown, got {other:?}"),
    }
    match cluster.next() {
        Effect::Persist(RegistryChange::RemoveFollower(id)) => {
            assert_eq!(id.as_str(), agent.id.value)
        }
        other => panic!("expected the removal, got {other:?}"),
    }
    let lost = cluster.update(scheduler.stream);
    assert_eq!(lost.state(), v1::TaskState::TaskLost);
    let event = cluster.event(scheduler.stream);
    assert!(event.rescind_inverse_offer.is_some());
    let event = cluster.event(scheduler.stream);
    assert_eq!(event.r#type(), event::Type::Failure);
    cluster.nothing_left();
    assert_eq!(cluster.status().down_machines, [machine(1)]);

    cluster.peer(&agent.pid, register_message(1, "cpus:4;mem:4096"));
    match cluster.sent(&agent.pid) {
        PeerMessage::Shutdown(message) => {
            assert_eq!(message.message.as_deref(), Some("Machine is `DOWN`"));
        }
        other => panic!("expected Shutdown, got {other:?}"),
    }
    cluster.nothing_left();

    assert_eq!(cluster.operator(up(1)), Reply::Ok);
    match cluster.next() {
        Effect::Persist(RegistryChange::RemoveMachine(id)) => assert_eq!(id, machine(1)),
        other => panic!("expected that the machine is forgotten, got {other:?}"),
    }
    assert!(cluster.schedule_recorded().windows.is_empty());
    cluster.nothing_left();
    cluster.register(1, "cpus:4;mem:4096");
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(offer.unavailability, None);
    cluster.nothing_left();
}

#[test]
fn all_of_it_survives_a_change_of_leaders() {
    let info = |number, mode: Mode| registry::Machine {
        info: v1::MachineInfo {
            id: machine(number),
            mode: Some(mode.into()),
            unavailability: Some(planned(77)),
        },
    };
    let windows = vec![Window {
        machine_ids: vec![machine(1), machine(2)],
        unavailability: planned(77),
    }];
    let registry = internal::Registry {
        machines: Some(registry::Machines {
            machines: vec![info(1, Mode::Down), info(2, Mode::Draining)],
        }),
        schedules: vec![Schedule { windows }],
        ..Default::default()
    };
    let mut cluster = Cluster::with(Config::default(), &registry);
    cluster.peer(&pid(1), register_message(1, "cpus:4;mem:4096"));
    let PeerMessage::Shutdown(_) = cluster.sent(&pid(1)) else {
        panic!("expected Shutdown")
    };
    cluster.nothing_left();
    let agent = cluster.register(2, "cpus:4;mem:4096");
    let scheduler = cluster.subscribe(framework());
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(offer.unavailability, Some(planned(77)));
    // It holds nothing but the offer; it is asked for the follower all the same.
    assert_eq!(
        cluster.inverse_offer(&scheduler).agent_id,
        Some(agent.id.clone())
    );
    cluster.nothing_left();
    let Reply::Error { message, .. } = cluster.operator(drain(&agent.id, false)) else {
        panic!("machines of a schedule are not drained one by one")
    };
    assert!(message.ends_with("is part of a maintenance schedule under Machine Host2 (127.0.0.2)"));
}

#[test]
fn a_framework_that_comes_back_is_asked_again() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    cluster.operator(schedule(&[1], 77));
    cluster.pending.clear();
    cluster.handle(tepui_leader::Input::StreamClosed {
        stream: scheduler.stream,
    });
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(30));
    cluster.nothing_left();
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let again = cluster.subscribe(info);
    let kinds: Vec<event::Type> = std::mem::take(&mut cluster.pending)
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Event { stream, event } if stream == again.stream => Some(event.r#type()),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [event::Type::Offers, event::Type::InverseOffers]);
}

#[test]
fn drivers_are_asked_in_messages_and_answer_in_calls() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096");
    cluster.operator(schedule(&[1], 77));
    cluster.pending.clear();
    let from = driver("a");
    cluster.peer(
        &from,
        internal::RegisterFrameworkMessage {
            framework: framework(),
        },
    );
    let PeerMessage::FrameworkRegistered(registered) = cluster.sent(&from) else {
        panic!("expected the registration")
    };
    let PeerMessage::ResourceOffers(offers) = cluster.sent(&from) else {
        panic!("expected offers")
    };
    assert_eq!(offers.offers[0].unavailability, Some(planned(77)));
    let PeerMessage::InverseOffers(asked) = cluster.sent(&from) else {
        panic!("expected inverse offers")
    };
    assert_eq!(asked.pids, [agent.pid.to_string()]);
    let id = asked.inverse_offers[0].id.clone();
    cluster.nothing_left();
    let mut accepting = answer(true, vec![id], Some(10.0));
    accepting.framework_id = Some(registered.framework_id);
    cluster.peer(&from, accepting);
    cluster.nothing_left();
    let said = cluster.status().draining_machines[0].statuses.clone();
    assert_eq!(said[0].status(), Status::Accept);
    cluster.pass(Duration::from_secs(11));
    let PeerMessage::InverseOffers(asked) = cluster.sent(&from) else {
        panic!("expected inverse offers")
    };
    cluster.operator(schedule(&[], 0));
    let mut rescinded = None;
    for effect in std::mem::take(&mut cluster.pending) {
        if let Effect::Send {
            message: PeerMessage::RescindInverseOffer(message),
            ..
        } = effect
        {
            rescinded = Some(message.inverse_offer_id);
        }
    }
    assert_eq!(rescinded.as_ref(), Some(&asked.inverse_offers[0].id));
}
