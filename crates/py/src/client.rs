//! The driver's side of the module: calls to a node and its controller, the output of replicas, calls to
//! deployments.
//!
//! Every wait happens with the interpreter detached, in slices after which signals are looked at, so Ctrl-C ends it.
//! Control calls open a connection each: they are rare, they may wait for minutes, and so a second thread, a forked
//! child or a restarted controller meets nothing half said.

mod api;
mod arguments;
mod call;
mod carry;
mod completions;
mod control;
mod convert;
mod orders;
mod router;
mod state;
mod targets;

pub(crate) use api::{Client, OutputWatch};
pub(crate) use call::Call;
pub(crate) use completions::Completions;
pub(crate) use orders::Orders;
pub(crate) use router::Router;
