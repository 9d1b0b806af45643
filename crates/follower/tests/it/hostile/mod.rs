//! Peers that say anything: no panic, every invariant holds after every step.

mod script;
mod words;

use proptest::prelude::*;

// The same conversations on every run; `fuzz/fuzz_targets/follower_peer.rs` searches further.
proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_122), ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_peers_say_breaks_an_invariant(bytes in proptest::collection::vec(any::<u8>(), 1..3000)) {
        script::run(&bytes);
    }
}

/// What the script gets to say at all: a follower that only ever refuses would pass the test above.
#[test]
fn scripts_reach_registered_drivers_operations_and_draining() {
    let mut rng = tepui_model::Rng::seed(3);
    let mut reached = script::Reached::default();
    for _ in 0..100 {
        let bytes: Vec<u8> = (0..2000).map(|_| rng.below(256) as u8).collect();
        reached.add(&script::run(&bytes));
    }
    assert!(reached.registered > 0, "{reached:?}");
    assert!(reached.drivers_greeted > 0, "{reached:?}");
    assert!(reached.driver_updates > 0, "{reached:?}");
    assert!(reached.operations_finished > 0, "{reached:?}");
    assert!(reached.drained > 0, "{reached:?}");
    assert!(reached.authenticated > 0, "{reached:?}");
}
