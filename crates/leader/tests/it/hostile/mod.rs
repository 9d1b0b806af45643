//! Peers that say anything: no panic, every invariant holds after every step.

mod script;

use proptest::prelude::*;

// The same conversations on every run; `fuzz/fuzz_targets/leader_peer.rs` searches further.
proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_122), ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_peers_say_breaks_an_invariant(bytes in proptest::collection::vec(any::<u8>(), 1..3000)) {
        script::run(&bytes);
    }
}

/// Where the populated start leads, so that the search above begins in a cluster that works.
#[test]
fn the_populated_start_is_a_cluster_at_work() {
    for settings in [0b1_0000, 0b1_0011] {
        assert_eq!(script::populated(settings), (2, 2), "{settings:b}");
    }
}
