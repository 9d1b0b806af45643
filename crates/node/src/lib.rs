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
//! | [`pending`] | [`Desk`](pending::Desk): a request waits, the core answers it by [`RequestId`](tepui_model::RequestId) |
//! | [`files`] | [`Files`](files::Files): the virtual file tree behind `/files/*`, `LIST_FILES`, `READ_FILE` |
//! | [`common`] | the endpoints that every node has: `/version`, `/logging/toggle`, `/files/*`, `/help` |
//!
//! # How the pieces make a shell
//!
//! The HTTP side implements [`http::Service`]. For each call of a core it opens a ticket at the
//! [`Desk`](pending::Desk), sends `(input, ticket)` into the core's bounded queue and awaits the
//! answer. The core's thread files the ticket, drains the queue in batches, calls `handle`, runs
//! the effects through the outbox of `tepui-journal`, and answers tickets, streams and peers.
//! Closed streams and broken links come back as inputs over channels that never block.

// A refusal is a whole response; boxing each would help nobody.
#![allow(clippy::result_large_err)]

pub mod clock;
pub mod common;
pub mod files;
pub mod http;
pub mod net;
pub mod pending;
