//! Operators' calls in tables: what is asked, and what is answered. One file of `fixtures/` per topic; its
//! first lines say which document it follows.
//!
//! A line has `call`; `via` (`endpoint`, else the v1 API); `principal`; `status` and `text` of the answer,
//! where neither is 200; `view`: what `/NAME` shows afterwards, by `NAME`.

use crate::harness::*;
use serde_json::Value;
use std::collections::BTreeMap;
use tepui_journal::registry::{Step, assemble};
use tepui_leader::{Effect, Input, RegistryChange, Reply, Via, read};
use tepui_protocol::{internal, json, v1::master};

/// Asks everything of a table, in its order. What else comes of the calls is dropped, but for what the
/// registry is told, which comes back.
pub(crate) fn run(cluster: &mut Cluster, table: &str, agent: &str) -> Vec<RegistryChange> {
    let mut changes = Vec::new();
    let lines = table.lines().filter(|line| !line.starts_with("//"));
    for line in lines.map(|line| line.replace("$AGENT", agent)) {
        let line: Value = serde_json::from_str(&line).expect("a line is JSON");
        let call = line["call"].to_string();
        let parsed: master::Call =
            json::decode(call.as_bytes()).unwrap_or_else(|error| panic!("{call}: {error}"));
        let via = match line["via"] == "endpoint" {
            true => Via::Endpoint,
            false => Via::V1,
        };
        let reply = ask(cluster, parsed, via, line["principal"].as_str());
        assert_eq!(reply, answer(&line), "{call}");
        for (name, shown) in line["view"].as_object().into_iter().flatten() {
            assert_eq!(document(cluster, name), *shown, "/{name} after {call}");
        }
        changes.extend(persisted(cluster));
    }
    changes
}

fn answer(line: &Value) -> Reply {
    let message = line["text"].as_str().unwrap_or_default().to_owned();
    match line["status"].as_u64() {
        None | Some(200) => Reply::Ok,
        Some(202) => Reply::Accepted,
        Some(status) => Reply::Error {
            status: u16::try_from(status).expect("a status"),
            message,
        },
    }
}

/// Asks one thing; what else comes of it stays pending.
pub(crate) fn ask(
    cluster: &mut Cluster,
    call: master::Call,
    via: Via,
    principal: Option<&str>,
) -> Reply {
    let request = cluster.request();
    cluster.handle(Input::Operator {
        request,
        call: Box::new(call),
        via,
        principal: principal.map(Into::into),
    });
    let at = (cluster.pending.iter()).position(|effect| matches!(effect, Effect::Reply { .. }));
    match cluster.pending.remove(at.expect("an operator is answered")) {
        Effect::Reply { reply, .. } => reply,
        _ => unreachable!("found by its kind"),
    }
}

/// A call as people write it.
pub(crate) fn call_of(text: &str) -> master::Call {
    json::decode(text.as_bytes()).expect("a call")
}

/// What an endpoint shows.
pub(crate) fn document(cluster: &mut Cluster, name: &str) -> Value {
    let view = cluster.view();
    let text = read::endpoint(&view, name, &BTreeMap::new()).expect("there is such an endpoint");
    serde_json::from_str(&text).expect("a document is JSON")
}

/// Drops all that is pending; what the registry was told comes back.
pub(crate) fn persisted(cluster: &mut Cluster) -> Vec<RegistryChange> {
    let changes = cluster.pending.drain(..).filter_map(|effect| match effect {
        Effect::Persist(change) => Some(change),
        _ => None,
    });
    changes.collect()
}

/// The registry after these changes.
pub(crate) fn registry_after(changes: &[RegistryChange]) -> internal::Registry {
    let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for step in changes.iter().flat_map(RegistryChange::steps) {
        match step {
            Step::Put(key, value) => {
                store.insert(key, value);
            }
            Step::Remove(key) => {
                store.remove(&key);
            }
        }
    }
    assemble(store).expect("what was written can be read")
}

/// Offers that were taken back, of what is pending.
pub(crate) fn rescinded(cluster: &mut Cluster) -> Vec<String> {
    let events = cluster.pending.iter().filter_map(|effect| match effect {
        Effect::Event { event, .. } => event.rescind.as_ref(),
        _ => None,
    });
    events
        .map(|rescind| rescind.offer_id.value.clone())
        .collect()
}

/// A framework with one role.
pub(crate) fn in_role(role: &str) -> tepui_protocol::v1::FrameworkInfo {
    tepui_protocol::v1::FrameworkInfo {
        roles: vec![role.to_owned()],
        ..framework()
    }
}
