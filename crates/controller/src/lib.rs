//! The controller: what should run becomes commands to the node.
//!
//! [`core`] decides and does nothing else: no I/O, no clock, no randomness of its own, no hash order, so that the
//! same events give the same commands in a test, in a simulator and in service. Around it lie [`store`] (the
//! checkpoint), `api` (the socket for drivers and the command line) and `service` (the loop that carries
//! commands out). The data plane never waits for any of this.

mod api;
mod books;
pub mod core;
mod error;
mod options;
mod reach;
mod service;
pub mod store;
pub mod targets;

pub use api::{LocalCalls, NoAnswer};
pub use error::Error;
pub use options::Options;
pub use service::{run, run_with};
