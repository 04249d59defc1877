//! What the controller says of applications: the answer to a question for their status.

use super::{
    AutoscalingStatus, CompiledRoutes, DeploymentOptions, Failure, Receipt, ResourcesStatus,
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(message, repeated, tag = "1")]
    pub applications: Vec<ApplicationStatus>,
    /// What is not fine of the controller itself.
    #[prost(message, repeated, tag = "2")]
    pub why: Vec<Why>,
    /// What the proxies go by: the keys of `http_options` as JSON.
    #[prost(string, tag = "3")]
    pub http_options: String,
    /// The percentage of all replicas that shall run; none: all do.
    #[prost(double, optional, tag = "4")]
    pub target_capacity: Option<f64>,
    /// Who has what of each node.
    #[prost(message, repeated, tag = "5")]
    pub resources: Vec<ResourcesStatus>,
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
    /// `declarative` or `imperative`.
    #[prost(string, tag = "9")]
    pub source: String,
    /// What was declared last, as JSON; empty for an imperative one.
    #[prost(string, tag = "10")]
    pub config: String,
    /// Number of the revision that is the target; 0: nothing was built yet.
    #[prost(uint64, tag = "11")]
    pub revision_number: u64,
    #[prost(message, optional, tag = "12")]
    pub deploy: Option<DeployStatus>,
    /// One for each thing that is not fine of the application itself.
    #[prost(message, repeated, tag = "13")]
    pub why: Vec<Why>,
    /// Where `FastAPI`'s documentation is, below the host; or empty.
    #[prost(string, tag = "14")]
    pub docs_path: String,
    /// Calls among its deployments, as far as their arguments tell: by caller.
    #[prost(message, repeated, tag = "15")]
    pub calls: Vec<DeploymentCalls>,
    /// Of a `FastAPI` ingress, as its newest replica says.
    #[prost(message, optional, tag = "16")]
    pub compiled_routes: Option<CompiledRoutes>,
    /// Its replicas are scaled by who asks for it over REST.
    #[prost(bool, tag = "40")]
    pub external_scaler_enabled: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeploymentCalls {
    #[prost(string, tag = "1")]
    pub deployment: String,
    #[prost(string, repeated, tag = "2")]
    pub calls: Vec<String>,
}

/// The newest deploy of an application.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeployStatus {
    /// [`Applied::deploy`](super::Applied), or 0 of a deploy that was not declared.
    #[prost(uint64, tag = "1")]
    pub deploy: u64,
    /// `building`, `failed` (the build, so there is no revision), `rolling`, `done`, `rolled_back`.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Number of its revision; 0 before it is built.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// Number of the revision before; 0: none.
    #[prost(uint64, tag = "4")]
    pub from: u64,
    #[prost(double, tag = "5")]
    pub began_at_s: f64,
    #[prost(message, optional, tag = "6")]
    pub failure: Option<Failure>,
    #[prost(message, optional, tag = "7")]
    pub receipt: Option<Receipt>,
    /// Last lines that the build printed.
    #[prost(string, repeated, tag = "8")]
    pub printed: Vec<String>,
}

/// Why something is not fine, in one sentence: what is wrong, who holds what is missing, what to do.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Why {
    /// A stable word, such as `constructor_failed`.
    #[prost(string, tag = "1")]
    pub code: String,
    #[prost(string, tag = "2")]
    pub sentence: String,
    /// Wall clock, seconds; 0: not known.
    #[prost(double, tag = "3")]
    pub since_s: f64,
    /// What to do next, often a command.
    #[prost(string, tag = "4")]
    pub help: String,
    /// The replica that it is about; or empty.
    #[prost(string, tag = "5")]
    pub replica_id: String,
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
    #[prost(message, optional, tag = "8")]
    pub options: Option<DeploymentOptions>,
    #[prost(uint32, tag = "9")]
    pub target_replicas: u32,
    /// At most ten, the last to die first.
    #[prost(message, repeated, tag = "10")]
    pub dead_replicas: Vec<ReplicaStatus>,
    #[prost(message, repeated, tag = "11")]
    pub why: Vec<Why>,
    /// Of one that scales: what routers have to do of it.
    #[prost(message, optional, tag = "12")]
    pub load: Option<DeploymentLoad>,
    /// Of one that scales.
    #[prost(message, optional, tag = "13")]
    pub autoscaling: Option<AutoscalingStatus>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DeploymentLoad {
    /// Requests that wait in routers.
    #[prost(uint64, tag = "1")]
    pub queued: u64,
    /// Requests that replicas have.
    #[prost(uint64, tag = "2")]
    pub running: u64,
    /// Routers that have any of them.
    #[prost(uint32, tag = "3")]
    pub routers: u32,
    /// Everybody who may have some has spoken since the controller started.
    #[prost(bool, tag = "4")]
    pub whole: bool,
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
    /// Wall clock, seconds; 0: not known.
    #[prost(double, tag = "7")]
    pub started_at_s: f64,
    #[prost(string, tag = "8")]
    pub node_id: String,
    /// Of a dead one: how it ended. Of one that starts: what it is doing.
    #[prost(string, tag = "9")]
    pub message: String,
    /// Number of the newest revision that has its version, so of the target if it is as wanted; 0: not known.
    #[prost(uint64, tag = "10")]
    pub revision_number: u64,
    /// Bytes of it in memory, as it has said last; 0: not known.
    #[prost(uint64, tag = "11")]
    pub memory_bytes: u64,
}
