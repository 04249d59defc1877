//! A deployment and its replicas, as the status says them.

use std::collections::BTreeMap;

use eagleray_types::control::{DeploymentLoad, DeploymentStatus, ReplicaStatus};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Autoscaling, Why, config_keys, number, some, time};

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    /// `UPDATING`, `HEALTHY`, `UNHEALTHY`, `DEPLOY_FAILED`, `UPSCALING` or `DOWNSCALING`.
    pub(crate) status: String,
    pub(crate) status_trigger: String,
    pub(crate) message: String,
    /// How many replicas are in each state.
    pub(crate) replica_states: BTreeMap<String, u32>,
    pub(crate) replicas: Vec<Replica>,
    /// At most ten, the last to die first.
    pub(crate) dead_replicas: Vec<Replica>,
    pub(crate) target_replicas: u32,
    /// Requests that run although nobody waits for their answer.
    pub(crate) abandoned_requests: u32,
    /// Of one that follows its load: what there is to do of it.
    pub(crate) load: Option<Load>,
    /// All options, as keys of a config.
    #[schema(value_type = Object)]
    pub(crate) options: Map<String, Value>,
    /// One for each thing that is not fine.
    pub(crate) why: Vec<Why>,
    /// Of one that follows its load.
    pub(crate) autoscaling: Option<Autoscaling>,
}

/// What proxies and processes with handles have said of a deployment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Load {
    /// Requests that wait for a replica.
    pub(crate) queued: u64,
    /// Requests that replicas have.
    pub(crate) running: u64,
    /// Proxy threads and processes with handles that have any of them.
    pub(crate) routers: u32,
    /// Everybody who may have some has spoken since the controller started.
    pub(crate) whole: bool,
}

impl From<DeploymentLoad> for Load {
    fn from(load: DeploymentLoad) -> Self {
        Self {
            queued: load.queued,
            running: load.running,
            routers: load.routers,
            whole: load.whole,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the message")]
pub(crate) struct Replica {
    pub(crate) replica_id: String,
    /// `STARTING`, `UPDATING`, `RECOVERING`, `RUNNING`, `STOPPING` or `STOPPED`.
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    pub(crate) version: String,
    /// For how long its event loop has not turned; 0: it turns.
    pub(crate) hung_milliseconds: u64,
    pub(crate) abandoned_requests: u32,
    pub(crate) started_at_s: Option<f64>,
    pub(crate) node_id: Option<String>,
    /// Of a dead one: how it ended. Of one that starts: what it is doing.
    pub(crate) message: String,
    /// Number of the newest revision that has its version.
    pub(crate) revision_number: Option<u64>,
    /// Bytes of it in memory, as it has said last.
    pub(crate) memory_bytes: Option<u64>,
}

impl From<DeploymentStatus> for Deployment {
    fn from(status: DeploymentStatus) -> Self {
        Self {
            name: status.name,
            status: status.status,
            status_trigger: status.status_trigger,
            message: status.message,
            replica_states: status.replica_states,
            replicas: status.replicas.into_iter().map(Into::into).collect(),
            dead_replicas: status.dead_replicas.into_iter().map(Into::into).collect(),
            target_replicas: status.target_replicas,
            abandoned_requests: status.abandoned_requests,
            load: status.load.map(Into::into),
            options: status.options.as_ref().map(config_keys).unwrap_or_default(),
            why: status.why.into_iter().map(Into::into).collect(),
            autoscaling: status.autoscaling.map(Into::into),
        }
    }
}

impl From<ReplicaStatus> for Replica {
    fn from(status: ReplicaStatus) -> Self {
        Self {
            replica_id: status.replica_id,
            state: status.state,
            pid: Some(status.pid).filter(|pid| *pid > 0),
            version: status.version,
            hung_milliseconds: status.hung_milliseconds,
            abandoned_requests: status.abandoned_requests,
            started_at_s: time(status.started_at_s),
            node_id: some(status.node_id),
            message: status.message,
            revision_number: number(status.revision_number),
            memory_bytes: number(status.memory_bytes),
        }
    }
}
