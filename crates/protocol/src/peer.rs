//! libprocess peers: the [`Pid`] that names one and the [`PeerMessage`]s that travel between them.

use crate::{internal as i, json::Names, v0, v1, wire};
use bytes::Bytes;
use prost::Message;
use std::{fmt, net::SocketAddr, str::FromStr};

/// Address of a libprocess process, written `name@ip:port` (`slave(1)@127.0.0.1:5051`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid {
    /// Name of the process at that address, such as `master`.
    pub name: String,
    /// Where it listens. IPv6 is written in brackets.
    pub address: SocketAddr,
}

/// The address of nobody, as libprocess writes it: where a pid is due and there is no process, such
/// as that of a framework on the v1 API.
pub const NO_PROCESS: &str = "@0.0.0.0:0";

/// A text is not a [`Pid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a process address (expected NAME@IP:PORT)")]
pub struct InvalidPid(pub String);

impl FromStr for Pid {
    type Err = InvalidPid;
    fn from_str(text: &str) -> Result<Self, InvalidPid> {
        let invalid = || InvalidPid(text.to_owned());
        let (name, address) = text.rsplit_once('@').ok_or_else(invalid)?;
        // Names end up in the heads of requests, where spaces and line ends would mean something.
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid());
        }
        let address = address.parse().map_err(|_| invalid())?;
        Ok(Self {
            name: name.to_owned(),
            address,
        })
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.address)
    }
}

/// Why a message from a peer was not understood.
#[derive(Debug, thiserror::Error)]
pub enum PeerMessageError {
    /// No message of that name exists.
    #[error("unknown message '{0}'")]
    UnknownName(String),
    /// The body is not that message.
    #[error("malformed {name}: {source}")]
    Malformed {
        /// Name of the message.
        name: &'static str,
        /// What is wrong with its body.
        source: wire::DecodeError,
    },
}

/// The one message whose bytes differ between the APIs.
const SCHEDULER_CALL: &str = "mesos.scheduler.Call";

macro_rules! peer_messages {
    ($($variant:ident($type:ty) = $name:literal),* $(,)?) => {
        /// Every message that libprocess peers exchange, by its name on the wire.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum PeerMessage { $($variant(Box<$type>)),* }

        impl PeerMessage {
            /// Full protobuf name: the last segment of the path it is posted to.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),* }
            }
            /// The body.
            pub fn encode(&self) -> Vec<u8> {
                let body = match self { $(Self::$variant(m) => m.encode_to_vec()),* };
                if matches!(self, Self::SchedulerCall(_)) {
                    return v0::scheduler_call_to_v0(body);
                }
                body
            }
            /// Reads the body of the message called `name`.
            pub fn decode(name: &str, body: Bytes) -> Result<Self, PeerMessageError> {
                let body = match name {
                    SCHEDULER_CALL => v0::scheduler_call_from_v0(body),
                    _ => body,
                };
                match name {
                    $($name => wire::decode_with::<$type>(body, Names::V0)
                        .map(|m| Self::$variant(Box::new(m)))
                        .map_err(|source| PeerMessageError::Malformed { name: $name, source }),)*
                    // It ends up in logs, and a peer chose it.
                    _ => Err(PeerMessageError::UnknownName(name.chars().take(100).collect())),
                }
            }
            /// Names of all messages.
            pub const NAMES: &[&str] = &[$($name),*];
        }

        $(impl From<$type> for PeerMessage {
            fn from(message: $type) -> Self { Self::$variant(Box::new(message)) }
        })*
    };
}

peer_messages! {
    AcknowledgeOperationStatus(i::AcknowledgeOperationStatusMessage) = "mesos.internal.AcknowledgeOperationStatusMessage",
    ApplyOperation(i::ApplyOperationMessage) = "mesos.internal.ApplyOperationMessage",
    Authenticate(i::AuthenticateMessage) = "mesos.internal.AuthenticateMessage",
    AuthenticationCompleted(i::AuthenticationCompletedMessage) = "mesos.internal.AuthenticationCompletedMessage",
    AuthenticationError(i::AuthenticationErrorMessage) = "mesos.internal.AuthenticationErrorMessage",
    AuthenticationFailed(i::AuthenticationFailedMessage) = "mesos.internal.AuthenticationFailedMessage",
    AuthenticationMechanisms(i::AuthenticationMechanismsMessage) = "mesos.internal.AuthenticationMechanismsMessage",
    AuthenticationStart(i::AuthenticationStartMessage) = "mesos.internal.AuthenticationStartMessage",
    AuthenticationStep(i::AuthenticationStepMessage) = "mesos.internal.AuthenticationStepMessage",
    CheckpointResources(i::CheckpointResourcesMessage) = "mesos.internal.CheckpointResourcesMessage",
    DeactivateFramework(i::DeactivateFrameworkMessage) = "mesos.internal.DeactivateFrameworkMessage",
    DrainSlave(i::DrainSlaveMessage) = "mesos.internal.DrainSlaveMessage",
    ExecutorRegistered(i::ExecutorRegisteredMessage) = "mesos.internal.ExecutorRegisteredMessage",
    ExecutorReregistered(i::ExecutorReregisteredMessage) = "mesos.internal.ExecutorReregisteredMessage",
    ExecutorToFramework(i::ExecutorToFrameworkMessage) = "mesos.internal.ExecutorToFrameworkMessage",
    ExitedExecutor(i::ExitedExecutorMessage) = "mesos.internal.ExitedExecutorMessage",
    FrameworkError(i::FrameworkErrorMessage) = "mesos.internal.FrameworkErrorMessage",
    FrameworkRegistered(i::FrameworkRegisteredMessage) = "mesos.internal.FrameworkRegisteredMessage",
    FrameworkReregistered(i::FrameworkReregisteredMessage) = "mesos.internal.FrameworkReregisteredMessage",
    FrameworkToExecutor(i::FrameworkToExecutorMessage) = "mesos.internal.FrameworkToExecutorMessage",
    InverseOffers(i::InverseOffersMessage) = "mesos.internal.InverseOffersMessage",
    KillTask(i::KillTaskMessage) = "mesos.internal.KillTaskMessage",
    LaunchTasks(i::LaunchTasksMessage) = "mesos.internal.LaunchTasksMessage",
    LostSlave(i::LostSlaveMessage) = "mesos.internal.LostSlaveMessage",
    PingSlave(i::PingSlaveMessage) = "mesos.internal.PingSlaveMessage",
    PongSlave(i::PongSlaveMessage) = "mesos.internal.PongSlaveMessage",
    ReconcileOperations(i::ReconcileOperationsMessage) = "mesos.internal.ReconcileOperationsMessage",
    ReconcileTasks(i::ReconcileTasksMessage) = "mesos.internal.ReconcileTasksMessage",
    ReconnectExecutor(i::ReconnectExecutorMessage) = "mesos.internal.ReconnectExecutorMessage",
    RegisterExecutor(i::RegisterExecutorMessage) = "mesos.internal.RegisterExecutorMessage",
    RegisterFramework(i::RegisterFrameworkMessage) = "mesos.internal.RegisterFrameworkMessage",
    RegisterSlave(i::RegisterSlaveMessage) = "mesos.internal.RegisterSlaveMessage",
    ReregisterExecutor(i::ReregisterExecutorMessage) = "mesos.internal.ReregisterExecutorMessage",
    ReregisterFramework(i::ReregisterFrameworkMessage) = "mesos.internal.ReregisterFrameworkMessage",
    ReregisterSlave(i::ReregisterSlaveMessage) = "mesos.internal.ReregisterSlaveMessage",
    RescindInverseOffer(i::RescindInverseOfferMessage) = "mesos.internal.RescindInverseOfferMessage",
    RescindResourceOffer(i::RescindResourceOfferMessage) = "mesos.internal.RescindResourceOfferMessage",
    ResourceOffers(i::ResourceOffersMessage) = "mesos.internal.ResourceOffersMessage",
    ResourceRequest(i::ResourceRequestMessage) = "mesos.internal.ResourceRequestMessage",
    ReviveOffers(i::ReviveOffersMessage) = "mesos.internal.ReviveOffersMessage",
    RunTask(i::RunTaskMessage) = "mesos.internal.RunTaskMessage",
    RunTaskGroup(i::RunTaskGroupMessage) = "mesos.internal.RunTaskGroupMessage",
    SchedulerCall(v1::scheduler::Call) = "mesos.scheduler.Call",
    Shutdown(i::ShutdownMessage) = "mesos.internal.ShutdownMessage",
    ShutdownExecutor(i::ShutdownExecutorMessage) = "mesos.internal.ShutdownExecutorMessage",
    ShutdownFramework(i::ShutdownFrameworkMessage) = "mesos.internal.ShutdownFrameworkMessage",
    SlaveRegistered(i::SlaveRegisteredMessage) = "mesos.internal.SlaveRegisteredMessage",
    SlaveReregistered(i::SlaveReregisteredMessage) = "mesos.internal.SlaveReregisteredMessage",
    StatusUpdate(i::StatusUpdateMessage) = "mesos.internal.StatusUpdateMessage",
    StatusUpdateAcknowledgement(i::StatusUpdateAcknowledgementMessage) = "mesos.internal.StatusUpdateAcknowledgementMessage",
    UnregisterFramework(i::UnregisterFrameworkMessage) = "mesos.internal.UnregisterFrameworkMessage",
    UnregisterSlave(i::UnregisterSlaveMessage) = "mesos.internal.UnregisterSlaveMessage",
    UpdateFramework(i::UpdateFrameworkMessage) = "mesos.internal.UpdateFrameworkMessage",
    UpdateOperationStatus(i::UpdateOperationStatusMessage) = "mesos.internal.UpdateOperationStatusMessage",
    UpdateSlave(i::UpdateSlaveMessage) = "mesos.internal.UpdateSlaveMessage",
}
