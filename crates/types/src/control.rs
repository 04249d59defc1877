//! Control messages: protobuf in CONTROL frames, written down in `docs/protocol.md`.
//!
//! Four conversations. Controller and node: [`NodeCommand`], [`NodeEvent`]. Controller and replica, relayed by
//! the node: [`ReplicaCommand`], [`ReplicaEvent`]. Node and proxy: [`ProxyCommand`], [`ProxyEvent`]. Drivers and
//! the command line: [`ApiRequest`] to the controller, [`NodeRequest`] to the node. A file for each, by the names of the
//! two who speak, and the rest for what more than one conversation carries: `application`, `autoscaling`, `declared`, `history`, `load`, `resources`, `status`,
//! `targets`. Commands are
//! idempotent by replica id and epoch.

mod application;
mod autoscaling;
mod controller_node;
mod controller_replica;
mod declared;
mod driver_controller;
mod driver_node;
mod history;
mod load;
mod node_proxy;
mod resources;
mod status;
mod targets;

pub use crate::options::DeploymentOptions;
pub use application::*;
pub use autoscaling::*;
pub use controller_node::*;
pub use controller_replica::*;
pub use declared::*;
pub use driver_controller::*;
pub use driver_node::*;
pub use history::*;
pub use load::*;
pub use node_proxy::*;
pub use resources::*;
pub use status::*;
pub use targets::*;

/// A message that says all by its name.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}
