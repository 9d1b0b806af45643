//! What the black-box tests stand on: the built binary as a cluster on loopback, a blocking HTTP client that can also send
//! wrong bytes, and waiting for conditions.
//!
//! Deliberately without anything of the product's own: no types of the protocol, no client crate. A test that spoke through our
//! own codec would agree with itself. Waiting happens in [`wait`] and nowhere else.

pub mod binary;
pub mod churn;
pub mod cluster;
pub mod commands;
pub mod emulator;
pub mod hostility;
pub mod http;
pub mod libprocess;
pub mod machines;
pub mod network;
pub mod processes;
pub mod programs;
pub mod quota;
pub mod random;
pub mod scheduler;
pub mod shape;
pub mod template;
pub mod wait;
pub mod zookeeper;

/// The folder of this crate, where data files and client programs are.
pub fn crate_folder() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The repository's root.
pub fn repository() -> &'static std::path::Path {
    crate_folder().parent().unwrap_or(crate_folder())
}

/// The values of a file with one JSON document a line; blank lines and lines that start with `//` are skipped.
pub fn json_lines(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
        .map(|(number, line)| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}:{}: {error}", path.display(), number + 1))
        })
        .collect()
}
