//! A small vocabulary, drawn from bytes: ids and addresses meet again, and every message has words of
//! its own.

use tepui_model::container::ContainerId;
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{
        self, TaskState,
        offer::{Operation, operation},
        resource::{DiskInfo, ReservationInfo, disk_info::Persistence, reservation_info},
    },
};

/// Bytes to draw from. An empty one gives zeros.
pub(crate) struct Script<'a> {
    pub(crate) bytes: &'a [u8],
}

impl Script<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }
    pub(crate) fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }
    fn word(&mut self, words: &[&str]) -> String {
        let at = usize::from(self.byte()) % words.len();
        words[at].to_owned()
    }
    pub(crate) fn pid(&mut self) -> Pid {
        let names = [
            "master@10.0.0.1:5050",
            "master@10.0.0.1:5050",
            "master@10.0.0.2:5050",
            "executor(1)@10.0.0.9:1",
            "executor(1)@10.0.0.9:2",
            "crammd5-authenticator-session(1)@10.0.0.1:5050",
            "x@10.9.9.9:9",
        ];
        pid(names[usize::from(self.byte()) % names.len()])
    }
    pub(crate) fn uuid(&mut self) -> bytes::Bytes {
        match self.below(16) {
            0 => bytes::Bytes::new(),
            number => vec![number; 16].into(),
        }
    }
    pub(crate) fn framework_id(&mut self) -> v1::FrameworkId {
        v1::FrameworkId {
            value: self.word(&["F", "F", "F", "F", "F", "F", "F", "F", "G", "", "../x"]),
        }
    }
    pub(crate) fn executor_id(&mut self) -> v1::ExecutorId {
        v1::ExecutorId {
            value: self.word(&["e", "e", "e", "f", "f", "t1", "", "a/b"]),
        }
    }
    pub(crate) fn task_id(&mut self) -> v1::TaskId {
        v1::TaskId {
            value: self.word(&["t1", "t2", "t3", "t4", ""]),
        }
    }
    fn agent_id(&mut self) -> v1::AgentId {
        v1::AgentId {
            value: match self.below(32) {
                0 => "other".to_owned(),
                _ => "S0".to_owned(),
            },
        }
    }
    fn framework(&mut self) -> v1::FrameworkInfo {
        use v1::framework_info::{Capability, capability::Type};
        let aware = Capability {
            r#type: Some(Type::PartitionAware.into()),
        };
        v1::FrameworkInfo {
            user: "root".into(),
            name: "n".into(),
            id: (self.below(32) > 0).then(|| self.framework_id()),
            checkpoint: Some(self.flip()),
            roles: vec!["*".into()],
            capabilities: if self.flip() { vec![aware] } else { Vec::new() },
            ..Default::default()
        }
    }
    fn scalar(&mut self, name: &str) -> v1::Resource {
        v1::Resource {
            name: name.into(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar {
                value: f64::from(self.below(8)) / 2.0,
            }),
            ..Default::default()
        }
    }
    fn reserved(&mut self) -> v1::Resource {
        let name = self.word(&["disk", "disk", "cpus"]);
        let kind = match self.below(8) {
            0 => reservation_info::Type::Static,
            _ => reservation_info::Type::Dynamic,
        };
        v1::Resource {
            reservations: vec![ReservationInfo {
                role: Some(self.word(&["r", "r", "r/s", "*", ".."])),
                r#type: Some(kind.into()),
                ..Default::default()
            }],
            provider_id: (self.below(32) == 0)
                .then(|| v1::ResourceProviderId { value: "p".into() }),
            ..self.scalar(&name)
        }
    }
    fn volume(&mut self) -> v1::Resource {
        let id = self.word(&["v", "v", "w", "../v"]);
        v1::Resource {
            disk: Some(Box::new(DiskInfo {
                persistence: Some(Persistence {
                    id,
                    principal: None,
                }),
                volume: Some(v1::Volume {
                    container_path: "d".into(),
                    mode: v1::volume::Mode::Rw.into(),
                    ..Default::default()
                }),
                source: None,
            })),
            shared: (self.below(8) == 0).then(v1::resource::SharedInfo::default),
            ..self.reserved()
        }
    }
    fn operation(&mut self) -> Operation {
        let mut operation = Operation {
            id: self.flip().then(|| v1::OperationId {
                value: self.word(&["o", "p"]),
            }),
            ..Default::default()
        };
        let kind = match self.below(8) {
            0 => {
                let resources = vec![self.reserved()];
                operation.unreserve = Some(operation::Unreserve { resources });
                operation::Type::Unreserve
            }
            1 => {
                let volumes = vec![self.volume()];
                operation.create = Some(operation::Create { volumes });
                operation::Type::Create
            }
            2 => {
                let volumes = vec![self.volume()];
                operation.destroy = Some(operation::Destroy { volumes });
                operation::Type::Destroy
            }
            3 => {
                operation.grow_volume = Some(operation::GrowVolume {
                    volume: self.volume(),
                    addition: self.reserved(),
                });
                operation::Type::GrowVolume
            }
            4 => {
                operation.shrink_volume = Some(operation::ShrinkVolume {
                    volume: self.volume(),
                    subtract: v1::value::Scalar {
                        value: f64::from(self.below(4)) / 2.0,
                    },
                });
                operation::Type::ShrinkVolume
            }
            5 => operation::Type::Launch,
            _ => {
                operation.reserve = Some(operation::Reserve {
                    resources: vec![self.reserved(), self.reserved()],
                    source: Vec::new(),
                });
                operation::Type::Reserve
            }
        };
        operation.r#type = Some(kind.into());
        operation
    }
    fn executor(&mut self) -> v1::ExecutorInfo {
        let kind = match self.below(4) {
            0 => v1::executor_info::Type::Default,
            _ => v1::executor_info::Type::Custom,
        };
        v1::ExecutorInfo {
            r#type: Some(kind.into()),
            executor_id: self.executor_id(),
            command: Some(v1::CommandInfo::default()),
            resources: vec![self.scalar("cpus")],
            ..Default::default()
        }
    }
    pub(crate) fn task(&mut self) -> v1::TaskInfo {
        v1::TaskInfo {
            name: "n".into(),
            task_id: self.task_id(),
            agent_id: self.agent_id(),
            resources: vec![self.scalar("cpus")],
            executor: (self.below(3) > 0).then(|| self.executor()),
            ..Default::default()
        }
    }
    pub(crate) fn status(&mut self) -> v1::TaskStatus {
        let states = [
            TaskState::TaskStarting,
            TaskState::TaskRunning,
            TaskState::TaskRunning,
            TaskState::TaskFinished,
            TaskState::TaskKilled,
            TaskState::TaskKilling,
            TaskState::TaskLost,
            TaskState::TaskStaging,
        ];
        v1::TaskStatus {
            task_id: self.task_id(),
            state: states[usize::from(self.byte()) % states.len()].into(),
            source: Some(v1::task_status::Source::Executor.into()),
            agent_id: Some(self.agent_id()),
            uuid: Some(self.uuid()),
            ..Default::default()
        }
    }
    fn update(&mut self) -> i::StatusUpdate {
        let status = self.status();
        i::StatusUpdate {
            framework_id: self.framework_id(),
            executor_id: self.flip().then(|| self.executor_id()),
            slave_id: Some(self.agent_id()),
            uuid: status.uuid.clone(),
            status,
            ..Default::default()
        }
    }
    fn policy(&mut self) -> Option<v1::KillPolicy> {
        self.flip().then(|| v1::KillPolicy {
            grace_period: Some(v1::DurationInfo {
                nanoseconds: i64::from(self.byte()) - 5,
            }),
        })
    }

    /// Any message: as words that fit it, or as any bytes that happen to be one.
    pub(crate) fn message(&mut self, version: &v1::Uuid) -> Option<PeerMessage> {
        if self.below(8) == 0 {
            let name = PeerMessage::NAMES[usize::from(self.byte()) % PeerMessage::NAMES.len()];
            let length = usize::from(self.byte()).min(self.bytes.len());
            let (body, rest) = self.bytes.split_at(length);
            self.bytes = rest;
            return PeerMessage::decode(name, body.to_vec().into()).ok();
        }
        Some(match self.below(30) {
            0..4 => i::RunTaskMessage {
                framework: self.framework(),
                task: self.task(),
                pid: Some(self.pid().to_string()),
                launch_executor: (self.below(4) > 0).then(|| self.flip()),
                resource_version_uuids: Vec::new(),
                framework_id: None,
            }
            .into(),
            4 => i::RunTaskGroupMessage {
                framework: self.framework(),
                executor: self.executor(),
                task_group: v1::TaskGroupInfo {
                    tasks: vec![self.task(), self.task()],
                },
                resource_version_uuids: Vec::new(),
                launch_executor: self.flip().then(|| self.flip()),
            }
            .into(),
            5 => i::KillTaskMessage {
                framework_id: self.framework_id(),
                task_id: self.task_id(),
                kill_policy: self.policy(),
            }
            .into(),
            6 => i::StatusUpdateAcknowledgementMessage {
                slave_id: self.agent_id(),
                framework_id: self.framework_id(),
                task_id: self.task_id(),
                uuid: self.uuid(),
            }
            .into(),
            7 => i::ShutdownFrameworkMessage {
                framework_id: self.framework_id(),
            }
            .into(),
            8 => i::ShutdownExecutorMessage {
                executor_id: self.flip().then(|| self.executor_id()),
                framework_id: self.flip().then(|| self.framework_id()),
            }
            .into(),
            9 => i::FrameworkToExecutorMessage {
                slave_id: self.agent_id(),
                framework_id: self.framework_id(),
                executor_id: self.executor_id(),
                data: self.uuid(),
            }
            .into(),
            10 => i::UpdateFrameworkMessage {
                framework_id: self.framework_id(),
                pid: Some(self.pid().to_string()),
                framework_info: self.flip().then(|| self.framework()),
            }
            .into(),
            11..14 => i::RegisterExecutorMessage {
                framework_id: self.framework_id(),
                executor_id: self.executor_id(),
            }
            .into(),
            14 => i::ReregisterExecutorMessage {
                framework_id: self.framework_id(),
                executor_id: self.executor_id(),
                tasks: vec![self.task()],
                updates: vec![self.update()],
            }
            .into(),
            15..18 => i::StatusUpdateMessage {
                update: self.update(),
                pid: self.flip().then(|| self.pid().to_string()),
            }
            .into(),
            18 => i::ExecutorToFrameworkMessage {
                slave_id: self.agent_id(),
                framework_id: self.framework_id(),
                executor_id: self.executor_id(),
                data: self.uuid(),
            }
            .into(),
            19..23 => i::ApplyOperationMessage {
                framework_id: self.flip().then(|| self.framework_id()),
                operation_info: self.operation(),
                operation_uuid: v1::Uuid { value: self.uuid() },
                resource_version_uuid: i::ResourceVersionUuid {
                    resource_provider_id: None,
                    uuid: match self.below(8) {
                        0 => v1::Uuid { value: self.uuid() },
                        _ => version.clone(),
                    },
                },
            }
            .into(),
            23 => i::CheckpointResourcesMessage {
                resources: match self.below(3) {
                    0 => Vec::new(),
                    1 => vec![self.reserved()],
                    _ => vec![self.volume(), self.reserved()],
                },
            }
            .into(),
            24 => i::ReconcileOperationsMessage {
                operations: vec![i::reconcile_operations_message::Operation {
                    operation_uuid: self.flip().then(|| v1::Uuid { value: self.uuid() }),
                    operation_id: self.flip().then(|| v1::OperationId { value: "o".into() }),
                    resource_provider_id: None,
                }],
                framework_id: self.flip().then(|| self.framework_id()),
            }
            .into(),
            25 => i::DrainSlaveMessage {
                config: v1::DrainConfig {
                    max_grace_period: self.policy().and_then(|p| p.grace_period),
                    mark_gone: Some(self.flip()),
                },
            }
            .into(),
            26 => i::PingSlaveMessage {
                connected: self.below(8) > 0,
            }
            .into(),
            27 => i::SlaveRegisteredMessage {
                slave_id: self.agent_id(),
                connection: self.flip().then(|| i::MasterSlaveConnection {
                    total_ping_timeout_seconds: Some(f64::from(self.byte())),
                }),
            }
            .into(),
            28 => i::SlaveReregisteredMessage {
                slave_id: self.agent_id(),
                reconciliations: vec![i::ReconcileTasksMessage {
                    framework_id: self.framework_id(),
                    statuses: vec![self.status()],
                    framework: self.flip().then(|| self.framework()),
                }],
                connection: None,
            }
            .into(),
            _ => self.authentication(),
        })
    }

    pub(crate) fn authentication(&mut self) -> PeerMessage {
        match self.below(6) {
            0..2 => i::AuthenticationMechanismsMessage {
                mechanisms: vec![self.word(&["CRAM-MD5", "CRAM-MD5", "X"])],
            }
            .into(),
            2..4 => i::AuthenticationStepMessage { data: self.uuid() }.into(),
            4 => i::AuthenticationCompletedMessage {}.into(),
            _ => i::AuthenticationErrorMessage {
                error: Some("no".into()),
            }
            .into(),
        }
    }

    pub(crate) fn container(&mut self, known: &[ContainerId]) -> ContainerId {
        let at = usize::from(self.byte());
        match known.get(at % known.len().max(1)) {
            Some(container) => container.clone(),
            None => ContainerId::top("nobody".to_owned()),
        }
    }
}

pub(crate) fn pid(text: &str) -> Pid {
    text.parse().expect("a pid")
}
