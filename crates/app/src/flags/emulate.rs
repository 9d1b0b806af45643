//! Options of `emulate`. Those that a follower has too are called what they are called there.

use super::{Flag, Support::Works};

/// In the order of their names.
pub(crate) const FLAGS: &[Flag] = flag_table! {
    "attributes": value, Works, "attributes of each follower: name:value;...";
    "credential": value, Works, "file with the principal and secret that the followers authenticate with";
    "followers": value = "1000", Works, "how many to emulate";
    "framework_id": value = "emulated", Works, "id of the framework of --running";
    "help": switch = "false", Works, "print the flags and exit";
    "hostname_prefix": value = "emulated-", Works, "host names are this and a number";
    "ip": value, Works, "first address (default: 127.64.0.1 and up for a leader on loopback, otherwise one address of this machine)";
    "json": switch = "false", Works, "print JSON lines instead of text";
    "master" | "leader": value = "127.0.0.1:5050", Works, "where the leader is: host:port, zk://..., or file:// with one of these";
    "per_address": value, Works, "followers that share an address (default: 1 on loopback, all elsewhere)";
    "port": value = "0", Works, "port of all followers; 0: any free one";
    "progress": value = "1secs", Works, "how often to print how far things are";
    "rate": value, Works, "followers that begin to register per second (default: all at once)";
    "registration_backoff_factor": value = "1secs", Works, "first wait between registrations";
    "resources": value = "cpus:8;mem:16384;disk:65536;ports:[31000-32000]", Works, "resources of each follower: name(role):value;...";
    "running": value, Works, "tasks that each follower says it ran before, so that it re-registers from the beginning (default: it is new)";
    "task_duration": value, Works, "how long tasks run before they finish (default: until they are killed)";
};
