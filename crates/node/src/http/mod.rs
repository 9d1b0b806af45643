//! The HTTP side of a node: one port for the APIs, the endpoints and libprocess messages.
//!
//! * [`server`] accepts connections and enforces [`Limits`]; libprocess messages are served by a
//!   light loop of their own (`messages`), everything else by hyper (`requests`).
//! * [`Delivery`] is a message for a core, with the right to wait there.
//! * [`Request`] and [`Response`] are what handlers see: whole bodies in, a [`Body`] out.
//! * [`media`] is content negotiation and the decoding of calls, with the reference's error texts.
//! * [`auth`] knows which realm an endpoint belongs to, and who sent a request.
//! * [`Routes`] maps paths, with all the prefixes and aliases that clients use.
//! * [`stream`] is event streams: chunked RecordIO with a bounded queue each.

pub mod auth;
mod body;
mod delivery;
mod guard;
mod limits;
pub mod media;
mod messages;
mod request;
mod requests;
pub mod response;
mod route;
mod seats;
pub mod server;
pub mod stream;

pub use auth::{Access, Realms};
pub use body::Body;
pub use delivery::{Delivery, Permit};
pub use limits::Limits;
pub use media::ContentType;
pub use request::Request;
pub use response::Response;
pub use route::Routes;
pub use server::{Server, Service};
