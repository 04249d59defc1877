//! The driver's side of the module: calls to a node and its controller, the output of replicas, calls to
//! deployments. What they do is in `eagleray_client`; here they are shown to Python.
//!
//! Every wait happens with the interpreter detached, in slices after which signals are looked at, so Ctrl-C ends it.
//! Control calls open a connection each: they are rare, they may wait for minutes, and so a second thread, a forked
//! child or a restarted controller meets nothing half said.

mod api;
mod asking;
mod call;
mod completions;
mod convert;
mod declared;
mod router;

pub(crate) use api::{Client, OutputWatch};
pub(crate) use call::Call;
pub(crate) use completions::Completions;
pub(crate) use router::Router;
