//! The tests of `tests/http` over TLS: every limit, every end and every rule holds there too.

#![expect(
    clippy::unwrap_used,
    clippy::large_stack_arrays,
    reason = "a test ends at the first thing that is not as it should be"
)]

/// Clients reach the proxy through a tunnel that speaks TLS with it.
const OVER_TLS: bool = true;

#[path = "../http"]
mod http {
    pub(super) mod abandoned;
    pub(super) mod broken_off;
    pub(super) mod closing;
    pub(super) mod conformance;
    pub(super) mod failures;
    pub(super) mod half_close;
    pub(super) mod hosts;
    pub(super) mod http2;
    pub(super) mod limits;
    pub(super) mod panics;
    pub(super) mod requests;
    pub(super) mod rules;
    pub(super) mod settings;
    pub(super) mod streams;
    pub(super) mod support;
    pub(super) mod tallies;
    pub(super) mod websocket;
    pub(super) mod windows;
}

use http::{conformance, limits, support};
