//! Refusals, suppression and revival (`docs/scheduler-http-api.md`: DECLINE, SUPPRESS, REVIVE).

use crate::support::*;
use tepui_model::Time;

fn one_of_each() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", "cpus:4;mem:1024");
    cluster
}

#[test]
fn declined_resources_stay_away_for_as_long_as_asked() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 5.0);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.pass(4.999);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.pass(0.001);
    assert_eq!(cluster.offered(), ["f/*@s cpus:4; mem:1024"]);
    assert_eq!(cluster.allocator.next_deadline(cluster.now), None);
}

#[test]
fn the_end_of_a_refusal_is_a_deadline() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 5.0);
    assert_eq!(
        cluster.allocator.next_deadline(cluster.now),
        Some(cluster.now),
        "others may want it"
    );
    cluster.offers();
    let end = Time::from_nanos(cluster.now.nanos() + 5_000_000_000);
    assert_eq!(cluster.allocator.next_deadline(cluster.now), Some(end));
}

#[test]
fn a_refusal_lasts_at_least_an_allocation_interval() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 0.001);
    cluster.pass(0.9);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.pass(0.1);
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn a_refusal_of_no_time_ends_with_the_running_interval() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 0.0);
    assert_eq!(cluster.offered(), [""; 0]);
    // The clock of the test starts in the middle of a second.
    cluster.pass(0.5);
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn refusals_beyond_a_year_are_cut() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 1e15);
    cluster.offers();
    cluster.pass(365.0 * 86400.0);
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn a_refusal_covers_less_but_not_more() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.free_part(&offer, "cpus:1;mem:100");
    let part = cluster.offers().remove(0);
    cluster.decline(&part, 100.0);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.free_part(&offer, "cpus:1");
    assert_eq!(cluster.offered(), ["f/*@s cpus:2; mem:100"]);
}

#[test]
fn what_one_refuses_goes_to_another_at_once() {
    let mut cluster = one_of_each();
    cluster.framework("g", &["*"]);
    let offer = cluster.offers().remove(0);
    let other = if offer.framework == framework_id("f") {
        "g"
    } else {
        "f"
    };
    cluster.decline(&offer, 5.0);
    assert_eq!(cluster.offered(), [format!("{other}/*@s cpus:4; mem:1024")]);
}

#[test]
fn refusals_are_per_role() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["a", "b"]);
    cluster.follower("s", "cpus:4");
    let offer = cluster.offers().remove(0);
    assert_eq!(&*offer.role, "a");
    cluster.decline(&offer, 5.0);
    assert_eq!(cluster.offered(), ["f/b@s cpus:4"]);
}

#[test]
fn reviving_forgets_refusals() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 1000.0);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.revive(&framework_id("f"), &roles(&[]));
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn suppressed_roles_get_nothing_until_revived() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["a", "b"]);
    cluster
        .allocator
        .suppress(&framework_id("f"), &roles(&["a"]));
    cluster.follower("s", "cpus:1");
    assert_eq!(cluster.offered(), ["f/b@s cpus:1"]);
    cluster.allocator.suppress(&framework_id("f"), &roles(&[]));
    cluster.follower("t", "cpus:1");
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.revive(&framework_id("f"), &roles(&["a"]));
    assert_eq!(cluster.offered(), ["f/a@t cpus:1"]);
}

#[test]
fn an_update_that_unsuppresses_a_role_revives_it() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 1000.0);
    let mut options = subscribed(&["*"]);
    options.suppressed_roles = roles(&["*"]);
    cluster
        .allocator
        .update_framework(&framework_id("f"), options);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster
        .allocator
        .update_framework(&framework_id("f"), subscribed(&["*"]));
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn a_disconnected_framework_gets_nothing_and_forgets_its_refusals() {
    let mut cluster = one_of_each();
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 1000.0);
    cluster.allocator.deactivate_framework(&framework_id("f"));
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.activate_framework(&framework_id("f"));
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn repeated_refusals_of_the_same_do_not_pile_up() {
    let mut cluster = one_of_each();
    for _ in 0..100 {
        for offer in cluster.offers() {
            cluster.decline(&offer, 1.0);
        }
        cluster.pass(1.0);
    }
    let role = cluster.allocator.roles().next().expect("one role");
    assert_eq!(role.filters, 1);
}
