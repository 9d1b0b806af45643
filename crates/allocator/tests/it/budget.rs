//! A budget for what frameworks hold in offers: it bounds what is held, and whoever answers goes on.

use crate::support::{Cluster, follower_id, framework_id};
use proptest::prelude::*;
use tepui_allocator::{OfferedResources, Options};
use tepui_model::{Resources, Scalar};

const FOLLOWERS: usize = 10;

fn cluster(share: f64) -> Cluster {
    let mut cluster = Cluster::with(Options {
        held_offers_share: Some(share),
        ..Options::default()
    });
    for i in 0..FOLLOWERS {
        cluster.follower(&format!("s{i}"), "cpus:2;mem:2000");
    }
    cluster
}

fn held(offers: &[OfferedResources], id: &str) -> usize {
    let own = offers.iter().filter(|o| o.framework == framework_id(id));
    own.count()
}

fn answer(cluster: &mut Cluster, offer: &OfferedResources) {
    cluster
        .allocator
        .offer_answered(&offer.framework, &offer.resources);
}

#[test]
fn one_framework_leaves_what_is_over_its_budget_to_others() {
    let mut cluster = cluster(0.3);
    cluster.framework("hoarder", &["a"]);
    let first = cluster.offers();
    assert_eq!(first.len(), 3);
    assert!(cluster.offers().is_empty(), "no more before an answer");
    let (amounts, exhausted) = (cluster.allocator)
        .offers_held(&framework_id("hoarder"))
        .expect("there is a budget");
    assert_eq!(
        (amounts.amount("cpus"), exhausted),
        (Scalar::units(6), true)
    );
    cluster.framework("other", &["b"]);
    assert_eq!(held(&cluster.offers(), "other"), 3);
    // What it uses is not held any more.
    answer(&mut cluster, &first[0]);
    assert_eq!(held(&cluster.offers(), "hoarder"), 1);
    // What it declines neither.
    answer(&mut cluster, &first[1]);
    cluster.decline(&first[1], 1000.0);
    let next = cluster.offers();
    assert_eq!((next.len(), held(&next, "hoarder")), (1, 1));
}

#[test]
fn one_offer_is_always_made_and_a_growing_cluster_makes_room() {
    let mut cluster = cluster(0.01);
    cluster.framework("f", &["a"]);
    assert_eq!(
        cluster.offers().len(),
        1,
        "it alone is a tenth of the cluster"
    );
    for i in 0..90 {
        cluster.follower(&format!("new{i}"), "cpus:2;mem:2000");
    }
    assert!(cluster.offers().is_empty(), "it is a hundredth now");
    cluster.follower("last", "cpus:4;mem:4000");
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn without_a_budget_nothing_is_counted() {
    let mut cluster = Cluster::new();
    cluster.follower("s1", "cpus:2;mem:2000");
    cluster.framework("f", &["a"]);
    assert_eq!(cluster.offers().len(), 1);
    assert_eq!(cluster.allocator.offers_held(&framework_id("f")), None);
}

proptest! {
    /// Whatever is answered in whatever order, nobody holds more than the budget and one follower; and what is free is
    /// offered to whoever is below it.
    #[test]
    fn nobody_holds_more_than_the_budget_and_one_offer(
        share in 0.05f64..0.6,
        frameworks in 1usize..4,
        steps in prop::collection::vec((any::<u8>(), any::<bool>()), 1..60),
    ) {
        let mut cluster = cluster(share);
        for i in 0..frameworks {
            cluster.framework(&format!("f{i}"), &["a"]);
        }
        let mut out = cluster.offers();
        for (pick, used) in steps {
            cluster.allocator.check();
            for i in 0..frameworks {
                let count = held(&out, &format!("f{i}"));
                let most = share * FOLLOWERS as f64;
                prop_assert!((count as f64) < most + 1.0, "{count} of {most}");
                let is_below = (count as f64) < most;
                let full = cluster.allocator.totals().clone();
                prop_assert!(!is_below || is_used_up(&cluster), "something of {full} is free");
            }
            if out.is_empty() {
                break;
            }
            let offer = out.swap_remove(usize::from(pick) % out.len());
            answer(&mut cluster, &offer);
            // Tasks that use it stay.
            if !used {
                cluster.decline(&offer, 0.0);
            }
            cluster.pass(2.0);
            out.extend(cluster.offers());
        }
    }
}

/// Nothing is free on any follower.
fn is_used_up(cluster: &Cluster) -> bool {
    (0..FOLLOWERS).all(|i| {
        let free = cluster.allocator.available(&follower_id(&format!("s{i}")));
        free.is_none_or(Resources::is_empty)
    })
}
