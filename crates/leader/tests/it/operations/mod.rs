//! Operations on accepted offers, in tables: what a framework asks for, which of it is sent to the follower,
//! what the others fail for, and what the follower has then. One file of `fixtures/` per topic; its first
//! lines say which documents of the reference it follows.
//!
//! A line has `name`; `operations`, each with its `type` and the resources it takes in shorthand; `fails`:
//! texts by the number of the operation, the others are sent; `total`: what the follower has afterwards. It
//! may have `role` of the framework (`dev`), `without`: capabilities that the follower lacks, `plain`:
//! capabilities that the framework lacks, `disks`: more that the follower has, `volatile`: revocable
//! resources it has, `next`: what the framework is offered at once.
//!
//! A resource in shorthand is `{"cpus": 1}`, and has `reserved`: pairs of role and principal (three: a
//! static reservation), `volume`: id of the persistent volume it is, `principal` of that, `shared`,
//! `revocable`, `source`: type and root of the disk, `provider`.

mod feedback;
mod followers;
mod launches;
pub(crate) mod random;

use crate::harness::*;
use serde_json::Value;
use tepui_model::resources::Resources;
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, OperationState, offer::Operation},
};

#[test]
fn reservations_are_made_refined_and_taken_back() {
    run(include_str!("../fixtures/reservations.jsonl"));
}

#[test]
fn volumes_are_made_resized_and_destroyed() {
    run(include_str!("../fixtures/volumes.jsonl"));
}

#[test]
fn operations_of_providers_need_one() {
    run(include_str!("../fixtures/disks.jsonl"));
}

fn run(table: &str) {
    for line in table.lines().filter(|line| !line.starts_with("//")) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        case(&line);
    }
}

/// A framework that knows everything, of a role.
pub(crate) fn reserver(role: &str) -> v1::FrameworkInfo {
    use v1::framework_info::capability::Type;
    let mut info = framework();
    info.roles = vec![role.to_owned()];
    info.principal = Some("p".to_owned());
    for kind in [Type::SharedResources, Type::RevocableResources] {
        info.capabilities.push(v1::framework_info::Capability {
            r#type: Some(kind as i32),
        });
    }
    info
}

fn case(line: &Value) {
    let name = line["name"].as_str().expect("a name");
    let mut cluster = Cluster::new();
    let agent = register(&mut cluster, line);
    let mut info = reserver(line["role"].as_str().unwrap_or("dev"));
    for plain in list(&line["plain"]) {
        let lacks = v1::framework_info::capability::Type::from_str_name(text(plain));
        let lacks = lacks.map(|kind| kind as i32);
        info.capabilities.retain(|own| own.r#type != lacks);
    }
    let scheduler = cluster.subscribe(info);
    let offer = cluster.offer(scheduler.stream);
    cluster.nothing_left();
    let mut operations: Vec<Operation> = list(&line["operations"]).map(operation).collect();
    for (number, operation) in operations.iter_mut().enumerate() {
        operation.id = Some(v1::OperationId {
            value: number.to_string(),
        });
    }
    cluster.accepted(&scheduler, accept(&[&offer], operations.clone()));
    let mut sent = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        match line["fails"][number.to_string()].as_str() {
            Some(expected) => {
                let status = update(&mut cluster, &scheduler);
                assert_eq!(status.message(), expected, "{name}");
                assert_eq!(status.state(), OperationState::OperationError, "{name}");
                assert_eq!(status.operation_id, operation.id, "{name}");
            }
            None => sent.push(applied(&mut cluster, &agent)),
        }
    }
    if let Some(next) = line.get("next") {
        let offer = cluster.offer(scheduler.stream);
        assert_eq!(shown(&offer.resources), lines(next), "{name}: offered next");
    }
    cluster.pending.clear();
    for (number, message) in sent.iter().enumerate() {
        settle(&mut cluster, &scheduler, &agent, message, number as u8);
    }
    cluster.pending.clear();
    let view = cluster.view();
    let follower = view
        .followers
        .get(agent.id.value.as_str())
        .expect("it is here");
    assert!(follower.operations.is_empty(), "{name}: all are settled");
    assert_eq!(shown(&follower.total), lines(&line["total"]), "{name}");
}

/// The follower has done it, and the framework acknowledges that.
fn settle(
    cluster: &mut Cluster,
    scheduler: &Scheduler,
    agent: &Agent,
    message: &internal::ApplyOperationMessage,
    number: u8,
) {
    let done = OperationState::OperationFinished;
    cluster.peer(&agent.pid, outcome(agent, message, done, Some(number)));
    let id = message.operation_info.id.clone().expect("it has an id");
    cluster.accepted_later(scheduler, acknowledge_operation(agent, &id.value, number));
}

impl Cluster {
    /// Makes a call that is answered with 202, whatever else happens.
    pub(crate) fn accepted_later(&mut self, scheduler: &Scheduler, call: v1::scheduler::Call) {
        let request = self.call(scheduler, call);
        let answered = self.pending.iter().any(|effect| {
            matches!(effect, tepui_leader::Effect::Reply { request: own, reply }
                if *own == request && *reply == tepui_leader::Reply::Accepted)
        });
        assert!(answered, "a call is accepted");
    }
}

fn register(cluster: &mut Cluster, line: &Value) -> Agent {
    let number = 1;
    let mut message = register_message(number, "cpus:4;mem:4096;disk:1000");
    message
        .slave
        .resources
        .extend(list(&line["disks"]).map(resource));
    message.agent_capabilities = all_capabilities();
    for lacks in list(&line["without"]) {
        let kind = v1::agent_info::capability::Type::from_str_name(text(lacks));
        let kind = kind.map(|kind| kind as i32);
        message.agent_capabilities.retain(|own| own.r#type != kind);
    }
    let pid = pid(number);
    cluster.peer(&pid, message);
    cluster.next();
    let PeerMessage::SlaveRegistered(message) = cluster.sent(&pid) else {
        panic!("expected SlaveRegistered")
    };
    let agent = Agent {
        id: message.slave_id,
        pid,
    };
    let volatile: Vec<v1::Resource> = list(&line["volatile"]).map(resource).collect();
    if !volatile.is_empty() {
        let update = internal::UpdateSlaveMessage {
            slave_id: agent.id.clone(),
            oversubscribed_resources: volatile,
            ..Default::default()
        };
        cluster.peer(&agent.pid, update);
    }
    agent
}

/// Of a follower that knows all there is.
pub(crate) fn all_capabilities() -> Vec<v1::agent_info::Capability> {
    let capability = |number| v1::agent_info::Capability {
        r#type: Some(number),
    };
    (1..=9).map(capability).collect()
}

/// What the first follower says on coming back, without what operations made.
pub(super) fn coming_back(agent: &Agent) -> internal::ReregisterSlaveMessage {
    let mut message = crate::followers::reregister(1, agent, Vec::new());
    message.slave.resources = resources("cpus:4;mem:4096;disk:1000");
    message.agent_capabilities = all_capabilities();
    message.resource_version_uuid = Some(v1::Uuid { value: uuid(9) });
    message
}

/// The next effect is an event about an operation.
pub(super) fn update(cluster: &mut Cluster, scheduler: &Scheduler) -> v1::OperationStatus {
    let event = cluster.event(scheduler.stream);
    let update = event.update_operation_status.clone();
    update
        .unwrap_or_else(|| panic!("expected a status, got {event:?}"))
        .status
}

/// The next effect is an operation for a follower.
pub(super) fn applied(cluster: &mut Cluster, agent: &Agent) -> internal::ApplyOperationMessage {
    match cluster.sent(&agent.pid) {
        PeerMessage::ApplyOperation(message) => *message,
        other => panic!("expected an operation, got {other:?}"),
    }
}

/// What a follower says of an operation. Without a number nobody has to acknowledge it.
pub(super) fn outcome(
    agent: &Agent,
    message: &internal::ApplyOperationMessage,
    state: OperationState,
    number: Option<u8>,
) -> internal::UpdateOperationStatusMessage {
    let mut status = v1::OperationStatus {
        operation_id: message.operation_info.id.clone(),
        uuid: number.map(|number| v1::Uuid {
            value: uuid(number),
        }),
        agent_id: Some(agent.id.clone()),
        ..Default::default()
    };
    status.set_state(state);
    internal::UpdateOperationStatusMessage {
        framework_id: message.framework_id.clone(),
        slave_id: Some(agent.id.clone()),
        status: status.clone(),
        latest_status: Some(status),
        operation_uuid: Some(message.operation_uuid.clone()),
    }
}

pub(super) fn acknowledge_operation(agent: &Agent, id: &str, number: u8) -> v1::scheduler::Call {
    let mut call = call(v1::scheduler::call::Type::AcknowledgeOperationStatus);
    call.acknowledge_operation_status = Some(v1::scheduler::call::AcknowledgeOperationStatus {
        agent_id: Some(agent.id.clone()),
        uuid: uuid(number),
        operation_id: v1::OperationId {
            value: id.to_owned(),
        },
        ..Default::default()
    });
    call
}

pub(super) fn shown(protos: &[v1::Resource]) -> Vec<String> {
    let all = Resources::from_proto(protos).unallocated();
    let mut all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.sort();
    all
}

fn lines(value: &Value) -> Vec<String> {
    let mut all: Vec<String> = list(value).map(|line| text(line).to_owned()).collect();
    all.sort();
    all
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is a text"))
}

/// From shorthand.
pub(crate) fn resource(short: &Value) -> v1::Resource {
    const WORDS: [&str; 8] = [
        "reserved",
        "volume",
        "principal",
        "shared",
        "revocable",
        "source",
        "provider",
        "mode",
    ];
    let object = short.as_object().expect("a resource is an object");
    let (name, amount) = object
        .iter()
        .find(|(key, _)| !WORDS.contains(&key.as_str()))
        .expect("a resource has a name");
    let mut resource = resources(&format!("{name}:1")).remove(0);
    resource.scalar = Some(v1::value::Scalar {
        value: amount.as_f64().expect("an amount"),
    });
    for reservation in list(&short["reserved"]) {
        let kind = match reservation[2].as_str() {
            Some(_) => v1::resource::reservation_info::Type::Static,
            None => v1::resource::reservation_info::Type::Dynamic,
        };
        let mut info = v1::resource::ReservationInfo {
            role: reservation[0].as_str().map(str::to_owned),
            principal: reservation[1].as_str().map(str::to_owned),
            ..Default::default()
        };
        info.set_type(kind);
        resource.reservations.push(info);
    }
    let source = short["source"].as_array().map(|source| disk_source(source));
    let persistence = short["volume"]
        .as_str()
        .map(|id| v1::resource::disk_info::Persistence {
            id: id.to_owned(),
            principal: match &short["principal"] {
                Value::Null => Some("p".to_owned()),
                own => own.as_str().map(str::to_owned),
            },
        });
    if source.is_some() || persistence.is_some() {
        let volume = persistence.is_some().then(|| {
            let mut volume = v1::Volume {
                container_path: "data".to_owned(),
                ..Default::default()
            };
            volume.set_mode(match short["mode"].as_str() {
                Some(_) => v1::volume::Mode::Ro,
                None => v1::volume::Mode::Rw,
            });
            volume
        });
        resource.disk = Some(Box::new(v1::resource::DiskInfo {
            persistence,
            volume,
            source,
        }));
    }
    resource.shared = short["shared"]
        .as_bool()
        .map(|_| v1::resource::SharedInfo {});
    resource.revocable = short["revocable"]
        .as_bool()
        .map(|_| v1::resource::RevocableInfo {});
    resource.provider_id = short["provider"].as_str().map(|id| v1::ResourceProviderId {
        value: id.to_owned(),
    });
    resource
}

fn disk_source(source: &[Value]) -> v1::resource::disk_info::Source {
    use v1::resource::disk_info::{Source, source};
    let mut own = Source::default();
    let root = source.get(1).and_then(Value::as_str).map(str::to_owned);
    match text(&source[0]) {
        "MOUNT" => {
            own.set_type(source::Type::Mount);
            own.mount = Some(source::Mount { root });
        }
        "RAW" => {
            own.set_type(source::Type::Raw);
            own.profile = root;
        }
        _ => {
            own.set_type(source::Type::Path);
            own.path = Some(source::Path { root });
        }
    }
    own
}

/// From shorthand.
pub(super) fn operation(short: &Value) -> Operation {
    use v1::offer::operation::*;
    let all = |field: &str| list(&short[field]).map(resource).collect::<Vec<_>>();
    let one = |field: &str| resource(&short[field]);
    let kind = Type::from_str_name(text(&short["type"])).expect("a type");
    let mut operation = Operation::default();
    operation.set_type(kind);
    if short["empty"] == true {
        return operation;
    }
    match kind {
        Type::Reserve => {
            operation.reserve = Some(Reserve {
                source: all("source"),
                resources: all("resources"),
            });
        }
        Type::Unreserve => {
            operation.unreserve = Some(Unreserve {
                resources: all("resources"),
            });
        }
        Type::Create => {
            operation.create = Some(Create {
                volumes: all("volumes"),
            });
        }
        Type::Destroy => {
            operation.destroy = Some(Destroy {
                volumes: all("volumes"),
            });
        }
        Type::GrowVolume => {
            operation.grow_volume = Some(GrowVolume {
                volume: one("volume"),
                addition: one("addition"),
            });
        }
        Type::ShrinkVolume => {
            operation.shrink_volume = Some(ShrinkVolume {
                volume: one("volume"),
                subtract: v1::value::Scalar {
                    value: short["subtract"].as_f64().expect("an amount"),
                },
            });
        }
        Type::CreateDisk => {
            let mut create = CreateDisk {
                source: one("source"),
                ..Default::default()
            };
            create.set_target_type(v1::resource::disk_info::source::Type::Mount);
            operation.create_disk = Some(create);
        }
        Type::DestroyDisk => {
            operation.destroy_disk = Some(DestroyDisk {
                source: one("source"),
            });
        }
        Type::Launch | Type::LaunchGroup | Type::Unknown => panic!("not an operation of a table"),
    }
    operation
}
