//! What a node answers, as far as the command line reads it.
//!
//! Every field has a default, so that a node of another release, which says more or less, is understood as far as it goes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::trouble::Help;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) node: Node,
    pub(crate) applications: Vec<Application>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) http_address: String,
    pub(crate) version: String,
    pub(crate) started_at_s: f64,
    pub(crate) proxy_status: String,
    pub(crate) why: Vec<Why>,
    pub(crate) log_directory: String,
    /// Null from a node of an older release.
    pub(crate) http_options: Value,
    pub(crate) target_capacity: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Application {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) last_deployed_time_s: f64,
    pub(crate) route_prefix: Option<String>,
    pub(crate) revision_number: Option<u64>,
    pub(crate) source: String,
    /// What was declared; null if nothing was.
    pub(crate) config: Value,
    pub(crate) deploy: Option<Deploy>,
    pub(crate) why: Vec<Why>,
    pub(crate) deployments: Vec<Deployment>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the key of REST")]
pub(crate) struct Deploy {
    pub(crate) deploy: u64,
    /// `building`, `failed`, `rolling`, `done` or `rolled_back`.
    pub(crate) state: String,
    pub(crate) number: Option<u64>,
    pub(crate) from: Option<u64>,
    pub(crate) began_at_s: Option<f64>,
    pub(crate) failure: Option<Failure>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) printed: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(rename = "where")]
    pub(crate) place: String,
    pub(crate) help: Help,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Why {
    pub(crate) code: String,
    pub(crate) sentence: String,
    pub(crate) since_s: Option<f64>,
    pub(crate) help: String,
    pub(crate) replica_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) status_trigger: String,
    pub(crate) message: String,
    pub(crate) replica_states: BTreeMap<String, u32>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) target_replicas: u32,
    pub(crate) abandoned_requests: u32,
    /// As keys of a config.
    pub(crate) options: Value,
    pub(crate) why: Vec<Why>,
}

impl Deployment {
    pub(crate) fn running(&self) -> u32 {
        self.replica_states.get("RUNNING").copied().unwrap_or(0)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the key of REST")]
pub(crate) struct Replica {
    pub(crate) replica_id: String,
    pub(crate) state: String,
    /// Of one that starts: what it is doing.
    pub(crate) message: String,
    /// That it was started for.
    pub(crate) revision_number: Option<u64>,
}

/// A deploy that has begun.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Applied {
    pub(crate) deploy: u64,
    pub(crate) building: Vec<String>,
    pub(crate) deleted: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// What a deploy would do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Planned {
    pub(crate) plan: String,
    pub(crate) applications: Vec<PlannedApplication>,
    pub(crate) warnings: Vec<String>,
    pub(crate) http_options: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PlannedApplication {
    pub(crate) name: String,
    /// `new`, `update`, `unchanged`, `delete` or `failed`.
    pub(crate) change: String,
    pub(crate) from: Option<u64>,
    pub(crate) deployments: Vec<PlannedDeployment>,
    pub(crate) changed: Vec<String>,
    pub(crate) failure: Option<Failure>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PlannedDeployment {
    pub(crate) name: String,
    /// `new`, `restart`, `in_place`, `untouched` or `delete`.
    pub(crate) change: String,
    pub(crate) reasons: Vec<String>,
    pub(crate) replicas_before: u32,
    pub(crate) replicas_after: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Receipt {
    pub(crate) began_at_s: f64,
    pub(crate) ended_at_s: f64,
    pub(crate) deployments: Vec<PlannedDeployment>,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) running: u64,
    pub(crate) build_skipped: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Revisions {
    /// Newest first.
    pub(crate) revisions: Vec<Revision>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Revision {
    pub(crate) application: String,
    pub(crate) number: u64,
    pub(crate) deployed_at_s: f64,
    pub(crate) author: String,
    pub(crate) message: String,
    /// `deploying`, `running`, `failed`, `rolled_back`, `superseded` or `deleted`.
    pub(crate) result: String,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) changed: Vec<String>,
    /// `declarative`, `imperative` or `rollback`.
    pub(crate) source: String,
    pub(crate) config: Value,
    pub(crate) rollback_of: Option<u64>,
    pub(crate) current: bool,
    pub(crate) failure: Option<Failure>,
}

/// A rollback that has begun.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RolledBack {
    pub(crate) revision: u64,
    pub(crate) rollback_of: Option<u64>,
    pub(crate) notes: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the key of REST")]
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    pub(crate) next: u64,
    pub(crate) lost: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) at_s: f64,
    pub(crate) kind: String,
    pub(crate) level: String,
    pub(crate) application: Option<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) replica_id: Option<String>,
    pub(crate) message: String,
}
