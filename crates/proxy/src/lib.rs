//! The HTTP ingress: connections in, frames out.
//!
//! A proxy is T threads, and a thread is a world of its own: a runtime, a clone of the listening socket, a router,
//! its connections. Nothing on the path of a request is shared between threads, so there is no lock on it. What a
//! thread needs to know of the outside (targets, drain) comes to it in messages. [`thread`] makes it, [`shard`] is what its
//! tasks share.
//!
//! The path of a request: [`connection`] reads, hyper parses, [`exchange`] routes and hands it to
//! `eagleray_router::service`, whose answer it turns back into HTTP. [`answer`] has the words of every answer that
//! is ours and not user code's.

mod abandoned;
mod accept;
mod access_log;
mod answer;
mod configuring;
mod connection;
mod counters;
mod exchange;
mod gate;
mod head;
mod hosts;
mod identity;
mod limits;
mod loads;
mod memory;
mod metrics;
mod options;
mod origin;
mod routes;
mod rules;
mod service;
mod settings;
mod shard;
mod tally;
mod thread;
mod tls;
mod trust;
mod websocket;

pub use configuring::ReadOptions;
pub use counters::{Counter, Counters};
pub use hosts::Host;
pub use limits::{Limit, Limits};
pub use memory::keep_freed_memory;
pub use options::{MetricsOptions, Options};
pub use service::{Error, run};
pub use tls::{TlsError, TlsOptions};
pub use trust::Network;
