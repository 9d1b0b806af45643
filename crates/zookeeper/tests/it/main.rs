//! Against a real ZooKeeper: sessions, the election, the registry's requests.

mod election;
mod link;
mod registry;
mod server;
