//! The recorded libprocess conversations of a real cluster, replayed: our leader in the recorded master's place, our follower
//! in the recorded agent's. What differs is in `tests/data/wire-tolerated.jsonl` with its reasons, what became of every
//! recorded message is in `docs/wire.md`, and the tests hold both to account.

mod codec;
mod cram;
mod follower;
mod http;
mod leader;
mod names;
mod offers;
mod player;
mod player_http;
mod rules;
mod script;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Lines of `auth` with a challenge, and with the answer to it, and the secret that was used.
const SECRETS: [(usize, usize, &str); 4] = [
    (6, 7, "wrong"),
    (21, 24, "f-secret"),
    (95, 98, "m-secret"),
    (266, 267, "wrong"),
];

/// A loopback address of this test's own, on which the recorded ports are free.
fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed))
}
