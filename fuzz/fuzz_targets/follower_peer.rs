//! A follower whose leader, executors and other peers say anything, in any order: no panic, and every
//! invariant holds after every step. The peers are those of the follower's own property test.
#![no_main]

#[path = "../../crates/follower/tests/it/hostile/script.rs"]
mod script;
#[path = "../../crates/follower/tests/it/hostile/words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(script::run(bytes)));
