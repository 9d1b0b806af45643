//! What came out of a leader, a line each, to be compared with what should have.

use crate::harness::Cluster;
use tepui_leader::{Effect, ProcessName};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, scheduler},
};

/// Everything that was not asserted yet: `name(details) -> who` and `EVENT(details) -> #stream`.
pub(crate) fn told(cluster: &mut Cluster) -> Vec<String> {
    cluster.pending.drain(..).map(line).collect()
}

fn line(effect: Effect) -> String {
    match effect {
        Effect::Send { to, from, message } => {
            let sender = match from {
                ProcessName::Leader => String::new(),
                other => format!("{other}: "),
            };
            format!("{sender}{} -> {}", said(&message), to.name)
        }
        Effect::Event { stream, event } => {
            format!("{} -> #{}", happened(&event), stream.0.as_u128())
        }
        Effect::CloseStream { stream } => format!("close #{}", stream.0.as_u128()),
        Effect::OpenStream { stream, .. } => format!("open #{}", stream.0.as_u128()),
        Effect::Reply { reply, .. } => format!("{reply:?}"),
        Effect::Persist(change) => {
            let text = format!("{change:?}");
            let end = text.find(['(', '{']).unwrap_or(text.len());
            format!("persist {}", &text[..end])
        }
        Effect::OperatorEvent(event) => format!("operators: {}", event.r#type().as_str_name()),
        other => format!("{other:?}"),
    }
}

fn said(message: &PeerMessage) -> String {
    use PeerMessage as M;
    let name = message.name().rsplit('.').next().unwrap_or_default();
    let name = name.strip_suffix("Message").unwrap_or(name);
    let details = match message {
        M::FrameworkError(m) => m.message.clone(),
        M::FrameworkRegistered(m) => m.framework_id.value.clone(),
        M::FrameworkReregistered(m) => m.framework_id.value.clone(),
        M::UpdateFramework(m) => m.pid().to_owned(),
        M::RunTask(m) => format!("{} {}", m.task.task_id.value, m.pid()),
        M::RescindResourceOffer(m) => m.offer_id.value.clone(),
        M::ResourceOffers(m) => {
            let ids: Vec<_> = m.offers.iter().map(|o| o.id.value.as_str()).collect();
            format!("{} at {}", ids.join(" "), m.pids.join(" "))
        }
        M::StatusUpdate(m) => update(m),
        M::LostSlave(m) => m.slave_id.value.clone(),
        M::ExitedExecutor(m) => format!("{} {}", m.executor_id.value, m.status),
        M::KillTask(m) => m.task_id.value.clone(),
        M::AuthenticationMechanisms(m) => m.mechanisms.join(" "),
        M::AuthenticationError(m) => m.error().to_owned(),
        _ => String::new(),
    };
    parenthesized(name, &details)
}

fn update(message: &internal::StatusUpdateMessage) -> String {
    let status = &message.update.status;
    let acknowledged = if message.update.uuid.is_some() {
        "wants acknowledgement"
    } else {
        "final"
    };
    format!(
        "{} {} {acknowledged} from {}",
        status.task_id.value,
        status.state().as_str_name(),
        message.pid()
    )
}

fn happened(event: &scheduler::Event) -> String {
    let details = match event {
        scheduler::Event {
            error: Some(error), ..
        } => error.message.clone(),
        scheduler::Event {
            subscribed: Some(subscribed),
            ..
        } => subscribed.framework_id.value.clone(),
        scheduler::Event {
            update: Some(update),
            ..
        } => format!(
            "{} {}",
            update.status.task_id.value,
            update.status.state().as_str_name()
        ),
        _ => String::new(),
    };
    parenthesized(event.r#type().as_str_name(), &details)
}

fn parenthesized(name: &str, details: &str) -> String {
    if details.is_empty() {
        name.to_owned()
    } else {
        format!("{name}({details})")
    }
}

/// A driver's address.
pub(crate) fn driver(name: &str) -> Pid {
    format!("{name}@127.0.1.1:9000")
        .parse()
        .expect("a valid address")
}

/// A call as the driver of a framework makes it.
pub(crate) fn by(id: &str, mut call: scheduler::Call) -> scheduler::Call {
    call.framework_id = Some(framework_id(id));
    call
}

pub(crate) fn framework_id(id: &str) -> v1::FrameworkId {
    v1::FrameworkId {
        value: id.to_owned(),
    }
}

/// `SUBSCRIBE` as newer drivers say it.
pub(crate) fn subscribe(info: v1::FrameworkInfo, force: bool) -> scheduler::Call {
    let mut call = crate::harness::call(scheduler::call::Type::Subscribe);
    call.framework_id.clone_from(&info.id);
    call.subscribe = Some(scheduler::call::Subscribe {
        framework_info: info,
        force: Some(force),
        ..Default::default()
    });
    call
}
