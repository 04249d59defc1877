//! The node, and all that it serves.

use eagleray_types::control::{NodeInfo, Status as StatusMessage};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Application, Why};
use crate::view;

/// What a node serves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    pub(crate) node: Node,
    pub(crate) applications: Vec<Application>,
}

/// The node itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) pid: u32,
    /// Where it serves requests; empty without HTTP.
    pub(crate) http_address: String,
    pub(crate) control_address: String,
    pub(crate) version: String,
    /// Wall clock, seconds.
    pub(crate) started_at_s: f64,
    /// `HEALTHY`, `STARTING` while the proxy is away, `UNHEALTHY` while it keeps dying.
    pub(crate) proxy_status: String,
    /// What is not fine of its own processes and of what they keep.
    pub(crate) why: Vec<Why>,
    pub(crate) log_directory: String,
    /// `http_options` that hold: what the node was started with, and over it what the last config states. Of `limits`
    /// those that were set.
    #[schema(value_type = Object)]
    pub(crate) http_options: Value,
    /// The percentage of all replicas that shall run, where a config states one.
    pub(crate) target_capacity: Option<f64>,
}

impl Status {
    pub(crate) fn new(node: NodeInfo, version: &str, status: StatusMessage) -> Self {
        let http_options = view::json(&status.http_options);
        let mut node = Node::new(node, version, http_options);
        node.target_capacity = status.target_capacity;
        node.why.extend(status.why.into_iter().map(Into::into));
        Self {
            node,
            applications: status.applications.into_iter().map(Into::into).collect(),
        }
    }
}

impl Node {
    fn new(info: NodeInfo, version: &str, http_options: Value) -> Self {
        Self {
            name: info.name,
            id: info.node_id,
            pid: info.pid,
            http_address: info.http_address,
            control_address: info.control_address,
            version: version.to_owned(),
            started_at_s: info.started_at_s,
            proxy_status: info.proxy_status,
            why: info.why.into_iter().map(Into::into).collect(),
            log_directory: info.log_directory,
            http_options,
            target_capacity: None,
        }
    }
}
