//! Control messages: protobuf in CONTROL frames, written down in `docs/protocol.md`.
//!
//! Four conversations. Controller and node: [`NodeCommand`], [`NodeEvent`]. Controller and replica, relayed by
//! the node: [`ReplicaCommand`], [`ReplicaEvent`]. Node and proxy: [`ProxyCommand`], [`ProxyEvent`]. Drivers and
//! the command line: [`ApiRequest`] to the controller, [`NodeRequest`] to the node. Commands are idempotent by
//! replica id and epoch.

use crate::DeploymentKey;

mod node;
mod replica;

pub use crate::options::DeploymentOptions;
pub use node::*;
pub use replica::*;

// --- targets: what routers know -------------------------------------------------------------------------------

/// A numbered change of what routers know. Numbers count up by one within an epoch (one life of a controller);
/// a receiver that sees a gap asks for a snapshot and keeps what it has meanwhile. An older epoch is refused.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TargetUpdate {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// The update replaces everything known before.
    #[prost(bool, tag = "3")]
    pub snapshot: bool,
    /// The full new state of each deployment that changed.
    #[prost(message, repeated, tag = "4")]
    pub deployments: Vec<DeploymentTarget>,
    #[prost(message, repeated, tag = "5")]
    pub removed: Vec<DeploymentKey>,
    /// The whole route table, when it changed.
    #[prost(message, optional, tag = "6")]
    pub routes: Option<RouteTable>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteTable {
    #[prost(message, repeated, tag = "1")]
    pub routes: Vec<Route>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Route {
    /// `/`, or `/a/b` without a slash at its end.
    #[prost(string, tag = "1")]
    pub prefix: String,
    /// The ingress deployment of the application.
    #[prost(message, required, tag = "2")]
    pub ingress: DeploymentKey,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeploymentTarget {
    #[prost(message, required, tag = "1")]
    pub key: DeploymentKey,
    /// Requests that may wait in one process; -1 is no limit in number.
    #[prost(sint64, tag = "2")]
    pub max_queued_requests: i64,
    /// Status of the back-pressure answer: 503 or 429.
    #[prost(uint32, tag = "3")]
    pub backpressure_status: u32,
    /// Seconds of `retry-after`, rounded up; 0 is no header.
    #[prost(uint32, tag = "4")]
    pub retry_after_seconds: u32,
    #[prost(message, repeated, tag = "5")]
    pub versions: Vec<VersionTarget>,
    /// Not empty: the deployment failed and has no replica, so requests fail at once with this text.
    #[prost(string, tag = "6")]
    pub unavailable: String,
    /// Whether requests to this deployment are written to the access log.
    #[prost(bool, tag = "7")]
    pub access_log: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionTarget {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "2")]
    pub revision: String,
    /// Share of requests, relative to the other versions of the deployment; 0 takes none.
    #[prost(uint32, tag = "3")]
    pub weight: u32,
    #[prost(uint32, tag = "4")]
    pub max_ongoing_requests: u32,
    /// Bodies are complete before user code is called, and end at `max_body_bytes`.
    #[prost(bool, tag = "5")]
    pub sync_bodies: bool,
    #[prost(uint64, tag = "6")]
    pub max_body_bytes: u64,
    #[prost(message, repeated, tag = "7")]
    pub replicas: Vec<ReplicaTarget>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ReplicaTarget {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(string, tag = "2")]
    pub socket_path: String,
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
}

// --- controller and node --------------------------------------------------------------------------------------

/// Controller to node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeCommand {
    #[prost(oneof = "node_command::Body", tags = "1, 2, 3, 4, 5")]
    pub body: Option<node_command::Body>,
}

pub mod node_command {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Spawn(super::Spawn),
        #[prost(message, tag = "2")]
        Stop(super::Stop),
        #[prost(message, tag = "3")]
        List(super::Empty),
        #[prost(message, tag = "4")]
        Relay(super::Relay),
        #[prost(message, tag = "5")]
        Publish(super::Publish),
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

/// Starts a replica process. A second `Spawn` with a known id does nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Spawn {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Shown as `eagleray: replica APP/DEPLOYMENT ID`.
    #[prost(message, required, tag = "3")]
    pub deployment: DeploymentKey,
    /// The interpreter that runs `bootstrap`.
    #[prost(string, tag = "4")]
    pub python: String,
    #[prost(string, tag = "5")]
    pub working_directory: String,
    /// Set over the node's own environment.
    #[prost(btree_map = "string, string", tag = "6")]
    pub environment: std::collections::BTreeMap<String, String>,
    /// An encoded [`ReplicaCommand`] that the node sends as the first on the new control connection.
    #[prost(bytes = "vec", tag = "7")]
    pub first_command: Vec<u8>,
    /// Opaque to the node, handed back by `List`: what the controller needs to adopt the replica.
    #[prost(bytes = "vec", tag = "8")]
    pub label: Vec<u8>,
    /// Path of `eagleray/_bootstrap.py` of the package that is meant, which keeps the user's directories off the path
    /// until our own modules are imported. Empty in a revision of an older release: `-m eagleray._replica`.
    #[prost(string, tag = "9")]
    pub bootstrap: String,
}

/// Ends a replica. Graceful: the node sends `ReplicaCommand::Stop` and kills what is left after the time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stop {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Milliseconds until SIGKILL; 0 kills at once.
    #[prost(uint64, tag = "3")]
    pub grace_milliseconds: u64,
}

/// Bytes for one replica (an encoded [`ReplicaCommand`]) or from one ([`ReplicaEvent`]); the node does not look.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Relay {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// An encoded [`TargetUpdate`] for every proxy. The node keeps the last snapshot and what followed it, opaque,
/// and hands them to a restarted proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Publish {
    #[prost(bool, tag = "1")]
    pub snapshot: bool,
    #[prost(bytes = "vec", tag = "2")]
    pub update: Vec<u8>,
    /// The life of the controller that sends it.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
}

/// Node to controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeEvent {
    #[prost(oneof = "node_event::Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub body: Option<node_event::Body>,
}

pub mod node_event {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "1")]
        Listed(super::Listed),
        #[prost(message, tag = "2")]
        Exited(super::Exited),
        #[prost(message, tag = "3")]
        SpawnFailed(super::SpawnFailed),
        #[prost(message, tag = "4")]
        Relay(super::Relay),
        #[prost(message, tag = "5")]
        SnapshotWanted(super::Empty),
        /// The live proxy has applied this update, and with it every earlier one. With the proxy away it is sent
        /// when its successor has applied what the node kept.
        #[prost(message, tag = "6")]
        Published(super::AppliedUpdate),
        /// Somebody removed a replica's socket: who is connected stays so, and nobody else can connect. Repeated
        /// while it is so.
        #[prost(message, tag = "7")]
        SocketLost(super::SocketLost),
        /// Somebody removed `controller.sock`, or the one that is there is no more listened to: the controller binds
        /// a new one.
        #[prost(message, tag = "8")]
        ControllerSocketLost(super::Empty),
        /// Somebody removed the state directory, and with it the checkpoint: it shall be written again.
        #[prost(message, tag = "9")]
        StateLost(super::Empty),
        /// The proxy cannot connect to a replica.
        #[prost(message, tag = "10")]
        Unreachable(super::Unreachable),
    }
}

/// A router has not been able to connect to a replica for a second. Repeated while it is so.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Unreachable {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    /// Why not, for people.
    #[prost(string, tag = "2")]
    pub error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SocketLost {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

/// Every replica process that lives, the answer to `List`: the truth after any restart.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listed {
    #[prost(message, repeated, tag = "1")]
    pub replicas: Vec<ListedReplica>,
    /// The highest epoch that has published or started anything here.
    #[prost(uint64, tag = "2")]
    pub newest_epoch: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ListedReplica {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(string, tag = "3")]
    pub socket_path: String,
    #[prost(uint32, tag = "4")]
    pub pid: u32,
    #[prost(bytes = "vec", tag = "5")]
    pub label: Vec<u8>,
    /// The encoded [`ReplicaEvent`] with `Ready`, once the replica has sent it; else empty.
    #[prost(bytes = "vec", tag = "6")]
    pub ready: Vec<u8>,
    /// A `Stop` was accepted.
    #[prost(bool, tag = "7")]
    pub stopping: bool,
}

/// Proof of death: the process and all its children are gone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exited {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// `exit status 1`, `signal 9 (SIGKILL)`: for people.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// The last lines it wrote to stderr, for the error message of a replica that died while starting.
    #[prost(string, tag = "4")]
    pub stderr_tail: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SpawnFailed {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(string, tag = "3")]
    pub message: String,
}

// --- node and proxy -------------------------------------------------------------------------------------------

#[derive(Clone, PartialEq, prost::Message)]
pub struct ProxyCommand {
    #[prost(oneof = "proxy_command::Body", tags = "1, 2, 3, 4, 5")]
    pub body: Option<proxy_command::Body>,
}

pub mod proxy_command {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// An encoded [`super::TargetUpdate`].
        #[prost(bytes, tag = "1")]
        Update(Vec<u8>),
        /// Stop accepting, finish what runs, exit.
        #[prost(message, tag = "2")]
        Drain(super::Empty),
        /// All that is known has been sent: begin to accept connections. Until then they wait in the backlog, so
        /// that a new proxy answers nobody from less than its predecessor knew.
        #[prost(message, tag = "3")]
        Accept(super::Empty),
        /// Answered by `Counted`.
        #[prost(message, tag = "4")]
        Count(super::Empty),
        /// Answered by `Turns`.
        #[prost(message, tag = "5")]
        LookWhetherItTurns(super::Empty),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ProxyEvent {
    #[prost(oneof = "proxy_event::Body", tags = "1, 2, 3, 4, 5, 6")]
    pub body: Option<proxy_event::Body>,
}

pub mod proxy_event {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// The answer to `Accept`: connections are accepted.
        #[prost(message, tag = "1")]
        Ready(super::Empty),
        /// A gap in the numbers.
        #[prost(message, tag = "2")]
        SnapshotWanted(super::Empty),
        /// Every thread has applied this update.
        #[prost(message, tag = "3")]
        Applied(super::AppliedUpdate),
        /// The answer to `Count`.
        #[prost(message, tag = "4")]
        Counted(super::ProxyCounters),
        #[prost(message, tag = "5")]
        Unreachable(super::Unreachable),
        /// The answer to `LookWhetherItTurns`, when every thread has turned.
        #[prost(message, tag = "6")]
        Turns(super::Empty),
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AppliedUpdate {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

// --- drivers, command line and controller ---------------------------------------------------------------------

/// To the controller, on `controller.sock`. The frame's sequence number names the call; the answers carry it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiRequest {
    #[prost(oneof = "api_request::Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub body: Option<api_request::Body>,
}

pub mod api_request {
    #[derive(Clone, PartialEq, prost::Oneof)]
    #[expect(
        clippy::large_enum_variant,
        reason = "one at a time, and soon taken apart"
    )]
    pub enum Body {
        /// Answered by `Deployed` once the revision is durable.
        #[prost(message, tag = "1")]
        Deploy(super::ApplicationSpec),
        /// Answered by `Settled` once the application's newest revision is `RUNNING` or `DEPLOY_FAILED`.
        #[prost(message, tag = "2")]
        AwaitApplication(super::AwaitApplication),
        /// Answered by `Done` once the application is gone; an unknown name is gone.
        #[prost(string, tag = "3")]
        Delete(String),
        #[prost(message, tag = "4")]
        Status(super::Empty),
        /// Answered by a stream of `Target`: a snapshot, then deltas.
        #[prost(message, tag = "5")]
        WatchTargets(super::Empty),
        /// Back to the named revision, code and all. Answered by `Deployed`.
        #[prost(message, tag = "6")]
        Rollback(super::Rollback),
        /// Deletes every application, answered by `Done`; the node goes on.
        #[prost(message, tag = "7")]
        DeleteAll(super::Empty),
        /// Deletes an application, answered by `Done` once that is durable: what is asked for later comes later.
        #[prost(string, tag = "8")]
        BeginDelete(String),
        /// Answered by `Done` once the application is gone, or has been deployed again. Deletes nothing.
        #[prost(string, tag = "9")]
        AwaitDeleted(String),
        /// From a process with handles. Not answered.
        #[prost(message, tag = "10")]
        Unreachable(super::Unreachable),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AwaitApplication {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub revision: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rollback {
    #[prost(string, tag = "1")]
    pub application: String,
    /// Empty: the revision before the current one.
    #[prost(string, tag = "2")]
    pub revision: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiResponse {
    #[prost(oneof = "api_response::Body", tags = "1, 2, 3, 4, 5, 6")]
    pub body: Option<api_response::Body>,
}

pub mod api_response {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        /// The call failed; nothing was changed.
        #[prost(message, tag = "1")]
        Error(super::ApiError),
        #[prost(message, tag = "2")]
        Deployed(super::Deployed),
        #[prost(message, tag = "3")]
        Settled(super::ApplicationStatus),
        #[prost(message, tag = "4")]
        Done(super::Empty),
        #[prost(message, tag = "5")]
        Status(super::Status),
        #[prost(message, tag = "6")]
        Target(super::TargetUpdate),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiError {
    /// `invalid`: the request is wrong. `conflict`: it collides with what runs. `not_found`. `internal`.
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Deployed {
    #[prost(string, tag = "1")]
    pub revision: String,
    /// For people: which deployments roll and why, which keep their replicas.
    #[prost(string, repeated, tag = "2")]
    pub notes: Vec<String>,
}

/// One immutable state of an application: a revision. Blobs are named by the hex SHA-256 of their bytes and lie
/// in the node's blob directory before the request is sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApplicationSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Empty: not reachable over HTTP.
    #[prost(string, tag = "2")]
    pub route_prefix: String,
    /// Hash over everything below.
    #[prost(string, tag = "3")]
    pub revision: String,
    /// Name of the ingress deployment.
    #[prost(string, tag = "4")]
    pub ingress: String,
    #[prost(message, repeated, tag = "5")]
    pub deployments: Vec<DeploymentSpec>,
    /// Blob with the captured code; empty when unsealed.
    #[prost(string, tag = "6")]
    pub code_blob: String,
    /// What the code blob holds, so that a log line can name the file that changed.
    #[prost(message, repeated, tag = "7")]
    pub code_files: Vec<CodeFile>,
    #[prost(string, tag = "8")]
    pub python: String,
    #[prost(string, tag = "9")]
    pub working_directory: String,
    #[prost(string, repeated, tag = "10")]
    pub sys_path: Vec<String>,
    /// Environment of the replicas, over the node's own.
    #[prost(btree_map = "string, string", tag = "11")]
    pub environment: std::collections::BTreeMap<String, String>,
    /// As in [`Spawn`].
    #[prost(string, tag = "12")]
    pub bootstrap: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CodeFile {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub sha256: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeploymentSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Identity of what a replica runs: a new one means new processes.
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(string, tag = "3")]
    pub callable_blob: String,
    #[prost(message, required, tag = "4")]
    pub options: DeploymentOptions,
    /// Why this version could not be compared with the one before ("the closure of X cannot be hashed"); or empty.
    #[prost(string, tag = "5")]
    pub version_note: String,
    /// Deployments of the application that it has handles of, as far as its arguments tell.
    #[prost(string, repeated, tag = "6")]
    pub calls: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(message, repeated, tag = "1")]
    pub applications: Vec<ApplicationStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ApplicationStatus {
    #[prost(string, tag = "1")]
    pub name: String,
    /// `DEPLOYING`, `RUNNING`, `DEPLOY_FAILED`, `UNHEALTHY`, `DELETING`.
    #[prost(string, tag = "2")]
    pub status: String,
    #[prost(string, tag = "3")]
    pub message: String,
    #[prost(double, tag = "4")]
    pub last_deployed_time_s: f64,
    #[prost(string, tag = "5")]
    pub route_prefix: String,
    #[prost(string, tag = "6")]
    pub revision: String,
    #[prost(message, repeated, tag = "7")]
    pub deployments: Vec<DeploymentStatus>,
    #[prost(string, tag = "8")]
    pub ingress: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeploymentStatus {
    #[prost(string, tag = "1")]
    pub name: String,
    /// `UPDATING`, `HEALTHY`, `UNHEALTHY`, `DEPLOY_FAILED`, `UPSCALING`, `DOWNSCALING`.
    #[prost(string, tag = "2")]
    pub status: String,
    #[prost(string, tag = "3")]
    pub status_trigger: String,
    #[prost(string, tag = "4")]
    pub message: String,
    #[prost(btree_map = "string, uint32", tag = "5")]
    pub replica_states: std::collections::BTreeMap<String, u32>,
    #[prost(message, repeated, tag = "6")]
    pub replicas: Vec<ReplicaStatus>,
    /// Requests that run although nobody waits for their answer, in all replicas.
    #[prost(uint32, tag = "7")]
    pub abandoned_requests: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReplicaStatus {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    #[prost(string, tag = "2")]
    pub state: String,
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    #[prost(string, tag = "4")]
    pub version: String,
    /// For how long its event loop has not turned; 0: it turns.
    #[prost(uint64, tag = "5")]
    pub hung_milliseconds: u64,
    #[prost(uint32, tag = "6")]
    pub abandoned_requests: u32,
}
