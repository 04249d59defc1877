//! Controller and replica, relayed by the replica's node.

use super::{DeploymentOptions, Empty};
use crate::DeploymentKey;

/// Controller to replica, relayed by its node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaCommand {
    #[prost(oneof = "replica_command::Body", tags = "1, 2, 3, 4, 5, 6")]
    pub body: Option<replica_command::Body>,
}

pub mod replica_command {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Start(super::ReplicaConfig),
        #[prost(message, tag = "2")]
        Reconfigure(super::Reconfigure),
        #[prost(message, tag = "3")]
        CheckHealth(super::CheckHealth),
        #[prost(message, tag = "4")]
        Drain(super::Empty),
        #[prost(message, tag = "5")]
        Stop(super::StopReplica),
        /// Answered by `Stacks`, by the I/O thread: user code may do whatever it does.
        #[prost(message, tag = "6")]
        ShowStacks(super::Ask),
    }
}

/// Everything a replica needs to construct its user code.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaConfig {
    #[prost(message, required, tag = "1")]
    pub deployment: DeploymentKey,
    #[prost(string, tag = "2")]
    pub replica_id: String,
    #[prost(string, tag = "3")]
    pub version: String,
    #[prost(string, tag = "4")]
    pub revision: String,
    /// Path of the cloudpickle of `(callable, init_args, init_kwargs)`.
    #[prost(string, tag = "5")]
    pub callable_path: String,
    /// Path of the captured code of the application; empty when it was deployed unsealed.
    #[prost(string, tag = "6")]
    pub code_path: String,
    /// `sys.path` entries of the driver, in order.
    #[prost(string, repeated, tag = "7")]
    pub sys_path: Vec<String>,
    #[prost(message, required, tag = "8")]
    pub options: DeploymentOptions,
    #[prost(uint32, tag = "9")]
    pub rank: u32,
    #[prost(uint32, tag = "10")]
    pub world_size: u32,
    /// `/` or `/a/b`; empty when the deployment is not an ingress.
    #[prost(string, tag = "11")]
    pub route_prefix: String,
    /// The node's socket, for handles that user code makes.
    #[prost(string, tag = "12")]
    pub controller_socket_path: String,
}

/// New options for a replica that runs; it stays routable. The same `user_config` as before does not call user code
/// again: a restarted controller sends this to every replica that it adopts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reconfigure {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, required, tag = "2")]
    pub options: DeploymentOptions,
    #[prost(uint32, tag = "3")]
    pub world_size: u32,
    #[prost(string, tag = "4")]
    pub revision: String,
    /// Its rank, which changes when a replica with a lower one goes.
    #[prost(uint32, optional, tag = "5")]
    pub rank: Option<u32>,
    /// The replica is being replaced, and gives its rank up: it takes the rank, and user code is not called.
    #[prost(bool, tag = "6")]
    pub replaced: bool,
    /// It keeps the `user_config` that it has, whatever `options` says: its turn to take a new one has not come.
    #[prost(bool, tag = "7")]
    pub keep_user_config: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CheckHealth {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// Drains, runs the destructor and exits within the time.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct StopReplica {
    #[prost(uint64, tag = "1")]
    pub grace_milliseconds: u64,
}

/// Replica to controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaEvent {
    #[prost(oneof = "replica_event::Body", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub body: Option<replica_event::Body>,
}

pub mod replica_event {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Ready(super::Ready),
        #[prost(message, tag = "2")]
        StartFailed(super::Failed),
        #[prost(message, tag = "3")]
        Health(super::Outcome),
        #[prost(message, tag = "4")]
        Reconfigured(super::Outcome),
        #[prost(message, tag = "5")]
        Drained(super::Empty),
        #[prost(message, tag = "6")]
        Condition(super::Condition),
        #[prost(message, tag = "7")]
        Stacks(super::StacksAre),
    }
}

/// Constructed, configured and healthy: requests may come.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ready {
    #[prost(bool, tag = "1")]
    pub sync_bodies: bool,
    #[prost(uint64, tag = "2")]
    pub start_microseconds: u64,
    /// Where `FastAPI`'s documentation is, below the route prefix; or empty.
    #[prost(string, tag = "3")]
    pub docs_path: String,
    /// None: its application is not `FastAPI`'s.
    #[prost(message, optional, tag = "4")]
    pub compiled_routes: Option<CompiledRoutes>,
    /// Bytes of the replica in memory; 0: not known.
    #[prost(uint64, tag = "5")]
    pub resident_bytes: u64,
}

/// Which routes of a `FastAPI` application are answered without its machinery.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CompiledRoutes {
    /// How many.
    #[prost(uint32, tag = "1")]
    pub compiled: u32,
    /// How many others could have been.
    #[prost(uint32, tag = "2")]
    pub as_asgi: u32,
    /// Why none is; or empty.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// The first of the others.
    #[prost(message, repeated, tag = "4")]
    pub others: Vec<OtherRoute>,
}

/// A route that is called as ASGI, and why, in a few words.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OtherRoute {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// What a replica is like inside. Sent unasked when it changes, and every 5 s while its loop is hung.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Condition {
    /// For how long the event loop has not turned, from 1 s on; 0: it turns.
    #[prost(uint64, tag = "1")]
    pub hung_milliseconds: u64,
    /// While it is hung: what the threads of user code are doing, that of the loop first.
    #[prost(string, tag = "2")]
    pub stacks: String,
    /// Requests that run although nobody waits for their answer: sync code cannot be cancelled.
    #[prost(uint32, tag = "3")]
    pub abandoned_requests: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Ask {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// The answer to the question with this id.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StacksAre {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// As in [`Condition`]; empty: they cannot be had.
    #[prost(string, tag = "2")]
    pub stacks: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Failed {
    /// The remote traceback.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// The answer to the command with this id; an empty message is success.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Outcome {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub failure: String,
    /// Of a health check: how many requests the replica has accepted in its life.
    #[prost(uint64, tag = "3")]
    pub accepted: u64,
    /// Of a health check: bytes of it in memory; 0: not known.
    #[prost(uint64, tag = "4")]
    pub resident_bytes: u64,
}
