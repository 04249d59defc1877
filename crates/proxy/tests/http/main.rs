//! The proxy over real sockets: loopback connections in front, unix sockets to replicas behind.

#![expect(
    clippy::unwrap_used,
    clippy::large_stack_arrays,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod abandoned;
mod broken_off;
mod closing;
mod conformance;
mod failures;
mod half_close;
mod hosts;
mod http2;
mod limits;
mod loads;
mod panics;
mod requests;
mod rules;
mod settings;
mod streams;
mod support;
mod tallies;
mod tls;
mod websocket;
mod windows;

/// Clients speak plainly with the proxy.
const OVER_TLS: bool = false;
