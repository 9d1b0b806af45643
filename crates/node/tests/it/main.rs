//! The shared shell over real sockets on loopback. Nothing here sleeps: every wait is for a byte,
//! an end of stream, or a channel.

mod auth;
mod containers;
mod fetcher;
mod follower;
mod frames;
mod held;
mod leader;
mod links;
mod recovery;
mod server;
mod shared_registry;
mod standby;
mod streams;
mod support;
mod tls;
mod volumes;
mod zookeeper;
