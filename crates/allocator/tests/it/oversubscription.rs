//! Revocable resources: offered twice, to those who can bear it (`docs/oversubscription.md`).

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::{FrameworkCapabilities, FrameworkOptions};

fn able(change: impl FnOnce(&mut FrameworkCapabilities)) -> FrameworkOptions {
    let mut options = subscribed(&["*"]);
    change(&mut options.capabilities);
    options
}

#[test]
fn revocable_resources_go_to_the_capable_only() {
    let mut cluster = Cluster::new();
    cluster.framework("plain", &["*"]);
    cluster.follower_with("s", bag("cpus:2").to_revocable());
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.add_framework(
        &framework_id("able"),
        able(|c| c.revocable_resources = true),
        true,
    );
    assert_eq!(cluster.offered(), ["able/*@s cpus{REV}:2"]);
}

#[test]
fn a_new_estimate_changes_what_is_offered_besides() {
    // Estimates one after the other; what is offered of each if nothing is given back.
    let cases: [(&[&str], &[&str]); 4] = [
        (&["2"], &["cpus{REV}:2"]),
        (&["2", "3"], &["cpus{REV}:2", "cpus{REV}:1"]),
        (&["2", "2"], &["cpus{REV}:2"]),
        // Less than is in use: nothing until some comes back.
        (&["2", "1"], &["cpus{REV}:2"]),
    ];
    for (estimates, expected) in cases {
        let mut cluster = Cluster::new();
        cluster.allocator.add_framework(
            &framework_id("f"),
            able(|c| c.revocable_resources = true),
            true,
        );
        cluster.follower("s", "cpus:4;mem:100");
        cluster.offers();
        let mut offered = Vec::new();
        for estimate in estimates {
            let more = bag(&format!("cpus:{estimate}")).to_revocable();
            let total = bag("cpus:4;mem:100") + &more;
            cluster
                .allocator
                .update_follower_total(&follower_id("s"), total);
            cluster.allocator.check();
            offered.extend(
                cluster
                    .offers()
                    .into_iter()
                    .map(|o| o.resources.unallocated().to_string()),
            );
        }
        assert_eq!(offered, expected, "{estimates:?}");
    }
}

#[test]
fn revocable_resources_count_for_shares_and_not_for_quota() {
    let mut cluster = Cluster::new();
    cluster.allocator.add_framework(
        &framework_id("f"),
        able(|c| c.revocable_resources = true),
        true,
    );
    let limits = [("cpus", tepui_model::Scalar::units(1))]
        .into_iter()
        .collect();
    let quota = tepui_model::Quota {
        limits,
        ..Default::default()
    };
    cluster.allocator.update_quota(&Arc::from("*"), quota);
    cluster.follower_with("s", bag("cpus:1;mem:64") + &bag("cpus:8").to_revocable());
    assert_eq!(cluster.offered(), ["f/*@s cpus:1; mem:64; cpus{REV}:8"]);
    assert_eq!(
        cluster.allocator.quota_consumed("*").to_string(),
        "cpus:1; mem:64"
    );
}
