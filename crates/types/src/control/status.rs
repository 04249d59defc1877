//! What the controller says of applications: the answer to a question for their status.

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
