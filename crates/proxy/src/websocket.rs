//! WebSocket: RFC 6455 on a connection of HTTP/1.1.
//!
//! [`handshake`] checks the request; from there to user code's answer it is a request like any other, in the same queues,
//! under the same limits. When that answer accepts, hyper lets go of the connection and [`session`] carries messages
//! between its [`frame`]s and the exchange with the replica. Messages are passed on as they come, in pieces, under
//! credit, and never gathered here. Those of a client that offers compression ([`extension`]) are compressed both ways
//! ([`deflate`]).
//!
//! Written here and not taken from a library, see `docs/decisions/001-dependencies.md`. WebSocket over HTTP/2 (RFC 8441)
//! is not offered, and clients then use HTTP/1.1.

pub(crate) mod deflate;
pub(crate) mod extension;
pub(crate) mod frame;
pub(crate) mod handshake;
mod outgoing;
mod output;
mod session;
mod utf8;

pub(crate) use handshake::Handshake;
pub(crate) use session::{Accepted, serve};
