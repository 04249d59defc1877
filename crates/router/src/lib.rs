//! Chooses a replica for each request and keeps it safe until it has an answer.
//!
//! [`core`] is the state machine: no sockets, no clock, no tokio. Its two users are the proxy and every Python
//! process that holds a handle, both through the tokio shell around it.

pub mod core;
pub mod service;
