//! Offers that come too early: when a batch of allocations falls is chance, so one may fall while a recorded framework's tasks
//! still hold what the recorded offer had. Such an offer is declined for no time, and the next one waited for.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tepui_protocol::json::{self, Names};

/// The offers of `ours` when they do not hold what the recorded ones hold.
pub(crate) fn early(recorded: &Value, ours: &Value) -> Option<Value> {
    recorded.get("offers")?;
    (amounts(recorded) != amounts(ours)).then(|| ours.clone())
}

fn amounts(offers: &Value) -> BTreeMap<String, String> {
    let mut amounts: BTreeMap<String, f64> = BTreeMap::new();
    let resources = offers["offers"].as_array().into_iter().flatten();
    for resource in resources.flat_map(|offer| offer["resources"].as_array().into_iter().flatten())
    {
        let amount = resource["scalar"]["value"].as_f64().unwrap_or_default();
        *amounts.entry(resource["name"].to_string()).or_default() += amount;
    }
    let rounded = |(name, amount): (String, f64)| (name, format!("{amount:.3}"));
    amounts.into_iter().map(rounded).collect()
}

/// A scheduler's call that declines them, whatever its API: their bytes are the same.
pub(crate) fn decline(offers: &Value) -> Vec<u8> {
    let offers = offers["offers"].as_array().cloned().unwrap_or_default();
    let ids: Vec<&Value> = offers.iter().map(|offer| &offer["id"]).collect();
    let call = json!({
        "framework_id": offers.first().map_or(&Value::Null, |offer| &offer["framework_id"]),
        "type": "DECLINE",
        "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 0.0}},
    });
    json::decode_bytes(
        "mesos.v1.scheduler.Call",
        call.to_string().as_bytes(),
        Names::V1,
    )
    .expect("a call")
}
