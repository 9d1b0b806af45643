//! A leader whose peers say anything, in any order: no panic, and every invariant holds after every
//! step. The peers are those of the leader's own property test.
#![no_main]

#[path = "../../crates/leader/tests/it/hostile/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| script::run(bytes));
