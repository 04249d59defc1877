//! What routers know, numbered, and what they say of it.

use crate::DeploymentKey;

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
    /// Applications whose requests count under another mark from now on; in a snapshot, all that have one.
    #[prost(message, repeated, tag = "7")]
    pub marks: Vec<Mark>,
}

/// Requests to an application that begin from now on are counted under this number, by those that serve HTTP.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mark {
    #[prost(string, tag = "1")]
    pub application: String,
    /// 0: they are not counted.
    #[prost(uint64, tag = "2")]
    pub mark: u64,
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
    /// Routers say what they have to do of it ([`Loads`](super::Loads)).
    #[prost(bool, tag = "8")]
    pub scales: bool,
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

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AppliedUpdate {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint64, tag = "2")]
    pub number: u64,
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
