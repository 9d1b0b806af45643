//! What a snapshot costs the one who makes it, and how long questions to it take.
//!
//! ```sh
//! cargo run --release -p tepui-allocator --example questions -- [FOLLOWERS] [FRAMEWORKS]
//! ```

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures a core, and is none"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tepui_allocator::{
    Allocator, FollowerInfo, FrameworkOptions, Options,
    trial::{Demand, Question, Simulation, Trial, Who},
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Rng, Time, resources};

const ROUNDS: usize = 3;

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let taken: Duration = start.elapsed();
    println!("{what:<40} {:>9.3} ms", taken.as_secs_f64() * 1e3);
    result
}

fn amounts(text: &str) -> Quantities {
    resources::parse(text, "*").expect("valid").quantities()
}

fn main() {
    #[allow(
        clippy::disallowed_methods,
        reason = "a program, though beside a core, has arguments"
    )]
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| {
        let given = arguments.get(place).map(|text| text.parse());
        given.map_or(default, |number| number.expect("a number"))
    };
    let (followers, frameworks) = (number(0, 50_000), number(1, 6_000));
    let mut rng = Rng::seed(1);
    let now = Time::from_nanos(1_000_000_000_000);
    let mut allocator = Allocator::new(Options::default());
    for f in 0..frameworks {
        let role: Arc<str> = format!("role{}", f % 300).into();
        let options = FrameworkOptions {
            roles: [role].into(),
            ..Default::default()
        };
        allocator.add_framework(&FrameworkId::new(format!("f{f}")), options, true);
    }
    for s in 0..followers {
        let text = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
        let info = FollowerInfo {
            total: resources::parse(text, "*").expect("valid"),
            ..Default::default()
        };
        allocator.add_follower(&FollowerId::new(format!("s{s}")), info, &[]);
    }
    let mut offers = Vec::new();
    allocator.allocate(now, &mut rng, &mut offers);
    println!(
        "{followers} followers, {frameworks} frameworks, {} offers",
        offers.len()
    );
    for _ in 0..ROUNDS {
        let snapshot = timed("snapshot", || allocator.snapshot());
        let trial = Trial::new(snapshot, offers.clone(), now, Rng::seed(2));
        for (what, demand) in [
            ("explain: held in offers", "cpus:4;mem:100"),
            ("explain: too small", "cpus:48;mem:100"),
        ] {
            let question = Question {
                who: Who::Framework {
                    id: FrameworkId::new("f1"),
                    role: None,
                },
                demand: amounts(demand),
                follower: None,
            };
            let answers = timed(what, || trial.explain(&question));
            assert!(answers.is_ok(), "it is known");
        }
        let simulation = Simulation {
            changes: Vec::new(),
            demands: vec![Demand {
                role: "new".into(),
                each: amounts("cpus:1"),
                count: 10_000,
                capabilities: Default::default(),
            }],
        };
        let outcome = timed("simulate: 10,000 tasks", || trial.simulate(&simulation));
        assert!(outcome.is_ok_and(|outcome| outcome.placed[0].placed() == 10_000));
    }
}
