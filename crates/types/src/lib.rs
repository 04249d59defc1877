//! What more than one crate of Eagleray must agree on: identifiers, control messages, the error table.
//!
//! A leaf: it knows no other crate, does no I/O and reads no clock. A type enters only when a second crate
//! needs it. The messages are protobuf (derived, so no protoc) because processes of two releases talk to each
//! other during an upgrade: fields are added, never renumbered.

mod cancel;
mod error;
mod id;

pub mod control;
pub mod options;

pub use cancel::{Caller, Cancel};
pub use error::ErrorCode;
pub use id::{DeploymentKey, NodeId, ReplicaId, build_log_name, replica_log_name};
