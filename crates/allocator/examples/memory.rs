//! What the allocator keeps in memory per follower, in bytes of the heap.
//!
//! ```sh
//! cargo run --release -p tepui-allocator --example memory -- [FOLLOWERS] [FRAMEWORKS]
//! ```
//!
//! What it prints is in `docs/benchmarks.md`.

#![expect(clippy::disallowed_methods, reason = "it measures a core, and is none")]

use std::{sync::Arc, time::Duration};
use tepui_allocator::{Allocator, FollowerInfo, FrameworkOptions, OfferedResources, Options};
use tepui_model::{FollowerId, FrameworkId, Rng, Time, resources};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn heap() -> usize {
    dhat::HeapStats::get().curr_bytes
}

fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| {
        let given = arguments.get(place).map(|text| text.parse());
        given.map_or(default, |number| number.expect("a number"))
    };
    let (followers, frameworks) = (number(0, 10_000), number(1, 100));
    let role: Arc<str> = "shared".into();
    let mut rng = Rng::seed(1);
    let now = Time::from_nanos(1_000_000_000_000);
    let mut allocator = Allocator::new(Options::default());
    let line = |what: &str, before: usize, after: usize, count: usize| {
        let each = (after as f64 - before as f64) / count as f64;
        println!("{what:<52} {each:>8.0} bytes each");
    };

    let empty = heap();
    for f in 0..frameworks {
        let options = FrameworkOptions {
            roles: [role.clone()].into(),
            ..Default::default()
        };
        let id = FrameworkId::new(format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-{f:04}"));
        allocator.add_framework(&id, options, false);
    }
    let subscribed = heap();
    line("frameworks", empty, subscribed, frameworks);

    for s in 0..followers {
        let id = FollowerId::new(format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-S{s}"));
        let text = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
        let info = FollowerInfo {
            total: resources::parse(text, "*").expect("valid"),
            ..Default::default()
        };
        allocator.add_follower(&id, info, &[]);
    }
    let mut offers: Vec<OfferedResources> = Vec::new();
    allocator.allocate(now, &mut rng, &mut offers);
    let free = heap();
    line(
        "followers that nobody holds anything of",
        subscribed,
        free,
        followers,
    );

    for f in 0..frameworks {
        let id = FrameworkId::new(format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-{f:04}"));
        allocator.activate_framework(&id);
    }
    offers.reserve(followers);
    let before = heap();
    allocator.allocate(now, &mut rng, &mut offers);
    // Offers are not the allocator's own; what they share with it is counted here all the same.
    let declined: Vec<OfferedResources> = offers.split_off(offers.len() / 2);
    drop(offers);
    let offered = heap();
    line(
        "more for a follower that is held as a whole",
        before,
        offered,
        followers,
    );

    let count = declined.len();
    let before = heap();
    for offer in &declined {
        let hour = Some(Duration::from_secs(3600));
        allocator.recover(
            &offer.framework,
            &offer.follower,
            &offer.resources,
            hour,
            now,
        );
    }
    drop(declined);
    line("more for a refusal", before, heap(), count);

    let before = heap();
    let snapshot = allocator.snapshot();
    line("a snapshot, by follower", before, heap(), followers);
    drop(snapshot);
}
