//! Operator calls that change something: containers are killed here. What is not built yet is
//! refused, calls about a container nobody knows in the reference's words (`src/slave/http.cpp`), the
//! others by name, so that nobody mistakes silence for success.

use crate::{
    Follower,
    io::{Effect, Effects, Reply},
    reply, validate,
    view::ExecutorState,
};
use tepui_model::{RequestId, container::ContainerId};
use tepui_protocol::v1::{
    self,
    agent::{Call, call::Type},
};

const SIGKILL: i32 = 9;
/// Highest number of a signal on Linux.
const SIGNAL_MAX: i32 = 64;

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is being started, or is the default executor's, which never has a process.
    NoProcess,
    /// A process leads it.
    Running,
}

impl Follower {
    pub(crate) fn operator(&mut self, request: RequestId, call: Call, fx: &mut Effects) {
        let outcome = match validate::operator(&call) {
            Err(text) => refuse(400, format!("Failed to validate agent::Call: {text}")),
            Ok(()) => match killed(&call) {
                Some((id, signal)) => self.kill_container(&id, signal, fx),
                None => self.without_effect(&call),
            },
        };
        reply(fx, request, outcome);
    }

    /// Signals a container of any executor, or one nested in it. One that has no process is destroyed
    /// whatever the signal (`Http::_killContainer` in `src/slave/http.cpp`,
    /// `MesosContainerizerProcess::kill`).
    ///
    /// The reference signals the one process that leads a container: for a command task its
    /// executor. Ours has no process, so the task gets the signal. SIGKILL ends all of a container
    /// either way.
    fn kill_container(&self, container: &ContainerId, signal: i32, fx: &mut Effects) -> Reply {
        let Some(stage) = self.stage(container) else {
            let text = format!("Container '{container}' cannot be found (or is already killed)");
            return refuse(404, text);
        };
        let container = container.clone();
        match (stage, signal) {
            // Asks only whether it is there.
            (_, 0) => {}
            (Stage::NoProcess, _) | (_, SIGKILL) => fx.push(Effect::Destroy { container }),
            (Stage::Running, 1..=SIGNAL_MAX) => fx.push(Effect::Signal { container, signal }),
            (Stage::Running, _) => {
                let text = "Unable to send signal to container: Invalid argument";
                return refuse(500, text.to_owned());
            }
        }
        Reply::Ok
    }

    /// None: nobody knows the container, or it is gone.
    fn stage(&self, container: &ContainerId) -> Option<Stage> {
        let key = self.containers.get(outermost(container))?;
        let executor = self.executor(key)?;
        if executor.state == ExecutorState::Terminated {
            return None;
        }
        let runs = match container.parent {
            None => executor.pid.is_some(),
            // Of a nested one that is being started its executor alone knows.
            Some(_) => executor
                .nested_pids
                .contains_key(container)
                .then_some(true)?,
        };
        Some(if runs {
            Stage::Running
        } else {
            Stage::NoProcess
        })
    }

    fn without_effect(&self, call: &Call) -> Reply {
        let kind = call.r#type();
        if kind == Type::PruneImages {
            // There is no store of images yet, so nothing in it that could be removed.
            return Reply::Ok;
        }
        if let Some((_, id, _)) = validate::container(call, kind) {
            let id = ContainerId::from(id);
            match (kind, &id.parent) {
                _ if self.containers.contains_key(outermost(&id)) => {}
                (
                    Type::WaitContainer | Type::WaitNestedContainer | Type::AttachContainerOutput,
                    _,
                ) => return refuse(404, format!("Container {id} cannot be found")),
                (
                    Type::LaunchContainer
                    | Type::LaunchNestedContainer
                    | Type::LaunchNestedContainerSession,
                    Some(parent),
                ) => return refuse(400, format!("Parent container {parent} does not exist")),
                _ => {}
            }
        }
        let name = kind.as_str_name();
        refuse(501, format!("{name} is not supported by this agent yet"))
    }
}

/// The container that a call wants killed, and the signal, SIGKILL where none is asked for.
fn killed(call: &Call) -> Option<(ContainerId, i32)> {
    let (id, signal): (&v1::ContainerId, _) = match call.r#type() {
        Type::KillContainer => {
            let kill = call.kill_container.as_ref()?;
            (&kill.container_id, kill.signal)
        }
        Type::KillNestedContainer => {
            let kill = call.kill_nested_container.as_ref()?;
            (&kill.container_id, kill.signal)
        }
        _ => return None,
    };
    Some((id.into(), signal.unwrap_or(SIGKILL)))
}

fn outermost(id: &ContainerId) -> &ContainerId {
    let mut id = id;
    while let Some(parent) = &id.parent {
        id = parent;
    }
    id
}

fn refuse(status: u16, message: String) -> Reply {
    Reply::Error { status, message }
}
