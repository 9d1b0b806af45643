//! The simulator in the suite: some seeds, plans that once failed, and bugs that it must find.

use std::{fs, path::Path, sync::Once};
use tepui_sim::{Options, Plan, Planted, run};

/// Cores that panic are expected where bugs are planted; what they say is in the outcome.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

fn clean(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let outcome = run(&Plan::generate(seed), Options::default());
        assert_eq!(outcome.failure, None, "seed {seed}");
        assert!(outcome.events > 100, "something happens in seed {seed}");
    }
}

#[test]
fn a_cluster_without_faults_runs_everything() {
    for seed in 0..10 {
        let mut plan = Plan::generate(seed);
        plan.faults.clear();
        let outcome = run(&plan, Options::default());
        assert_eq!(outcome.failure, None, "seed {seed}");
        assert!(outcome.updates >= u64::from(plan.tasks));
    }
}

#[test]
fn the_same_plan_is_the_same_run() {
    for seed in 0..8 {
        let plan = Plan::generate(seed);
        let all = [1, 8].map(|check_every| {
            let options = Options {
                check_every,
                ..Options::default()
            };
            run(&plan, options)
        });
        assert_eq!(all[0], all[1], "seed {seed}");
    }
}

#[test]
fn plans_that_once_failed_do_not_any_more() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = fs::read_dir(directory).expect("the directory of regressions");
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a plan");
        let plan = Plan::parse(&text).expect("a readable plan");
        let outcome = run(&plan, Options::default());
        assert_eq!(outcome.failure, None, "{}", path.display());
    }
}

// In two parts, so that they run side by side. A hunt proper is the binary's matter.
#[test]
fn seeds_are_clean_1() {
    clean(0..20);
}
#[test]
fn seeds_are_clean_2() {
    clean(20..40);
}

/// The first seed that a planted bug is found with.
fn found(bug: Planted, most: u64) -> Option<u64> {
    let first = (0..most).find(|seed| {
        let plan = Plan::generate(*seed);
        let fails = |bug: Option<Planted>| {
            Planted::plant(bug);
            run(&plan, Options::default()).failure.is_some()
        };
        fails(Some(bug)) && !fails(None)
    });
    Planted::plant(None);
    first
}

/// Every second bug. See `docs/simulator.md` for the seeds that find them.
fn all_found(first: usize) {
    quiet();
    for bug in Planted::ALL.iter().copied().skip(first).step_by(2) {
        let seed = found(bug, 40);
        assert!(seed.is_some(), "{} is not found", bug.name());
    }
}

// In two parts, so that they run side by side.
#[test]
fn planted_bugs_are_found_1() {
    all_found(0);
}
#[test]
fn planted_bugs_are_found_2() {
    all_found(1);
}
