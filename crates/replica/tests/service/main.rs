//! The service between a node and routers that the tests play, with a handler in Rust: real sockets, real pages.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod ahead;
mod answers;
mod bodies;
mod checked;
mod ends;
mod harness;
mod liveness;
mod long;
mod regions;
mod requests;
mod routes;
mod turns;
mod values;
mod websockets;
