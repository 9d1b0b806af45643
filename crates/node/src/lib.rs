//! Shells: the loops that own sockets, files, timers and threads around the pure cores.
//!
//! A shell decodes what arrives into a core's inputs, calls the core with `now`, and carries out
//! the effects. It decides nothing. What the shells of leader and follower share:
//!
//! | module | gives |
//! |---|---|
//! | [`clock`] | [`Clock`](clock::Clock): `now()` for cores, `sleep_until(deadline)` |
//! | [`net`] | [`Listen`](net::Listen)`::bind` → listener + announced address; [`Links`](net::Links)`::send(from, to, message)`, one-way, never blocks |
//! | [`http`] | [`Server`](http::Server)`::start(listener, limits, service)`; [`Request`](http::Request), [`response`](http::response), [`media`](http::media), [`Routes`](http::Routes) |
//! | [`http::stream`] | [`Streams`](http::stream::Streams): open, send, close event streams by [`StreamId`](tepui_model::StreamId) |
//! | [`pending`] | [`Inbox`](pending::Inbox) for the HTTP side: `post(input, permit)`, `call(content_type, \|request\| input)`; [`Tray`](pending::Tray) for the core's thread: `file(ticket)`, `reply`, `open` |
//! | [`files`] | [`Files`](files::Files): the virtual file tree behind `/files/*`, `LIST_FILES`, `READ_FILE` |
//! | [`common`] | the endpoints that every node has: `/version`, `/logging/toggle`, `/files/*`, `/help` |
//! | [`detect`] | [`detect::watch`]: where the leader is, from `--master` |
//! | [`random`] | ids and seeds from the system |
//! | [`system`] | load and memory of the machine, for metrics |
//! | [`disk`] | the leader's registry in a file |
//!
//! # How the pieces make a shell
//!
//! The HTTP side implements [`http::Service`]: it decodes with [`http::media`], and for each call of
//! the core awaits [`Inbox::call`](pending::Inbox::call), which ends in a reply to be worded or in a
//! stream. Peer messages are [posted](pending::Inbox::post). The core's thread owns a
//! [`Tray`](pending::Tray), [`Streams`](http::stream::Streams) and a tepui-journal outbox; it drains
//! the queue in batches, files tickets, calls `handle`, and carries out what the outbox releases:
//! `tray.reply`, `tray.open`, `streams.send`, `links.send`. Closed streams
//! ([`ClosedStreams`](http::stream::ClosedStreams); only news if `streams.closed(id)`) and broken
//! links (the callback of [`Links::new`](net::Links::new)) come back as inputs over channels that
//! never block. None of these need a lock, and nothing the core's thread does waits for a peer.

// A refusal is a whole response; boxing each would help nobody.
#![allow(clippy::result_large_err)]

pub mod clock;
pub mod common;
pub mod containers;
pub mod detect;
pub mod disk;
pub mod fetcher;
pub mod files;
pub mod follower;
pub mod http;
pub mod leader;
mod log_budget;
pub mod net;
mod notices;
pub mod pending;
pub mod random;
pub mod system;
